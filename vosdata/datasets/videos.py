"""Videos to look at or to score, from a shard set or a dataset folder alike. Nothing is read before it is asked for."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shards.errors import DatasetError
from shards.reader import ShardSet
from shards.remote.location import is_url
from vosdata.datasets.annotation import MaskReading, decode_frame, mask_reading, read_frame, read_mask
from vosdata.datasets.dataset import Dataset
from vosdata.datasets.recognise import recognise
from vosdata.datasets.types import Sequence
from vosdata.opening import open_shard_set

# The split to look at when none is named: the one to evaluate on.
USUAL_SPLITS = ("val", "valid", "test", "all")


class Video(Protocol):
    """One video. ``t`` is a place, 0..num_frames-1, not a frame number."""

    @property
    def name(self) -> str:
        """Name of the sequence."""

    @property
    def frame_numbers(self) -> list[int]:
        """The integers in the frames' file names, strictly increasing."""

    @property
    def annotated(self) -> list[bool]:
        """For each frame whether it has a mask."""

    @property
    def num_frames(self) -> int:
        """Number of frames, 0 or more."""

    @property
    def frame_rate(self) -> float | None:
        """Frames per second; None when unknown."""

    def frame(self, t: int) -> NDArray[np.uint8]:
        """Frame ``t`` as ``uint8 (H, W, 3)``, RGB."""

    def mask(self, t: int) -> NDArray[np.uint8] | None:
        """Mask of frame ``t``, ``uint8 (H, W)``: 0 background, 1..254 object ids, 255 void; None when unannotated."""


@dataclass(frozen=True)
class StoredVideo:
    """A record of a shard set as a :class:`Video`."""

    shard_set: ShardSet
    index: int
    frame_rate: float | None

    @cached_property
    def name(self) -> str:
        """Name of the sequence."""
        return self.shard_set.entry(self.index).sequence

    @cached_property
    def frame_numbers(self) -> list[int]:
        """Frame numbers, strictly increasing."""
        return [int(number) for number in self.shard_set.entry(self.index).frame_numbers]

    @cached_property
    def annotated(self) -> list[bool]:
        """For each frame whether it has a mask."""
        return [bool(flag) for flag in self.shard_set.entry(self.index).annotated]

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.frame_numbers)

    def frame(self, t: int) -> NDArray[np.uint8]:
        """Frame ``t`` as ``uint8 (H, W, 3)``."""
        return self.shard_set.image(self.index, t)

    def mask(self, t: int) -> NDArray[np.uint8] | None:
        """Mask of frame ``t``, or None when it is unannotated."""
        return self.shard_set.mask(self.index, t)


@dataclass(frozen=True)
class FolderVideo:
    """A sequence of a dataset folder as a :class:`Video`."""

    sequence: Sequence
    frame_rate: float | None

    @property
    def name(self) -> str:
        """Name of the sequence."""
        return self.sequence.name

    @property
    def frame_numbers(self) -> list[int]:
        """Frame numbers, strictly increasing."""
        return list(self.sequence.frame_numbers)

    @property
    def annotated(self) -> list[bool]:
        """For each frame whether it has a mask file."""
        return list(self.sequence.annotated)

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self.sequence.num_frames

    @cached_property
    def reading(self) -> MaskReading:
        """What the values of the mask files mean; see :mod:`vosdata.datasets.annotation`."""
        return mask_reading(self.sequence)

    def frame(self, t: int) -> NDArray[np.uint8]:
        """Frame ``t`` as ``uint8 (H, W, 3)``."""
        data, _ = read_frame(self.sequence, t)
        return decode_frame(self.sequence, t, data)

    def mask(self, t: int) -> NDArray[np.uint8] | None:
        """Mask of frame ``t`` with object ids, or None when it is unannotated."""
        if self.sequence.mask_names[t] is None:
            return None
        _, size = read_frame(self.sequence, t)
        return read_mask(self.sequence, t, self.reading, size)


def open_videos(path: str | Path, split: str | None = None, dataset: str | None = None) -> list[Video]:
    """Opens the videos of a shard set or of a dataset folder.

    Args:
        path: a shard set or its URL, or a folder that :func:`vosdata.datasets.recognise` recognises.
        split: which split; by default ``val``, ``valid``, ``test`` or the only one. A shard set has one split.
        dataset: which dataset when the folder holds several, e.g. ``"davis2016"``; by default the only one, or the
            newest year of a DAVIS folder.

    Raises:
        DatasetError: nothing is recognised, or the split or dataset is not there or not told.
        ShardError: the shard set is incomplete or damaged.
    """
    root = Path(path)
    if looks_like_shard_set(root):
        return _stored_videos(open_shard_set(path), split)
    chosen = _choose_dataset(recognise(root), dataset, root)
    sequences = chosen.sequences(_choose_split(chosen, split))
    rate = chosen.frame_rate(sequences)
    return [FolderVideo(sequence, rate) for sequence in sequences]


def looks_like_shard_set(path: Path) -> bool:
    """Whether a folder is meant as a shard set, complete or not: it holds dataset.json, an index or numbered tars.

    Nothing else is read from a URL, so what lies there is taken for one.
    """
    if not path.is_dir():
        return is_url(path)
    return (path / "dataset.json").is_file() or (path / "index.arrow").is_file() or any(path.glob("*-??????.tar"))


def _stored_videos(shard_set: ShardSet, split: str | None) -> list[Video]:
    if split is not None and split != shard_set.split:
        raise DatasetError(f"{shard_set.path} is the split {shard_set.split!r} of its dataset, not {split!r}")
    rate = shard_set.description.get("frame_rate")
    return [StoredVideo(shard_set, i, None if rate is None else float(rate)) for i in range(len(shard_set))]


def _choose_dataset(found: list[Dataset], wanted: str | None, path: Path) -> Dataset:
    if wanted is not None:
        found_here = [dataset for dataset in found if dataset.name == wanted]
        if len(found_here) != 1:
            raise DatasetError(f"{path} holds {_names(found)}, not exactly one {wanted}")
        return found_here[0]
    if len({dataset.root for dataset in found}) > 1:
        raise DatasetError(f"{path} holds several datasets: {_names(found)}. Give the folder of one of them")
    return found[-1]


def _choose_split(dataset: Dataset, wanted: str | None) -> str:
    if wanted is not None:
        return wanted
    if len(dataset.splits) == 1:
        return dataset.splits[0].name
    for name in USUAL_SPLITS:
        if name in dataset.split_names:
            return name
    raise DatasetError(
        f"{dataset.title} in {dataset.root} has the splits {', '.join(dataset.split_names)}; say which one to read"
    )


def _names(found: list[Dataset]) -> str:
    return ", ".join(f"{dataset.name} ({dataset.root.name})" for dataset in found)
