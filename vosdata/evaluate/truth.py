"""Opens what predictions are compared with: a shard set, a dataset as published, or a bare folder of annotations."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shards.errors import BadFileError, DatasetError
from shards.masks import mask_size
from shards.remote.location import is_url
from vosdata.datasets.annotation import MaskReading, mask_reading, read_mask
from vosdata.datasets.listing import subfolders
from vosdata.datasets.recognise import find_datasets, recognise
from vosdata.datasets.split_lists import read_split_lists
from vosdata.datasets.types import Sequence as SequenceFiles
from vosdata.datasets.videos import FolderVideo, StoredVideo, Video, looks_like_shard_set, open_videos
from vosdata.frames import numbered_files
from vosdata.opening import open_shard_set

Mask = NDArray[np.uint8]

DEFAULT_SPLIT = "val"


class AnnotatedVideo(Protocol):
    """What scoring needs to know of a sequence; :class:`vosdata.datasets.videos.Video` has it."""

    @property
    def name(self) -> str:
        """Name of the sequence, also of its folder of predictions."""

    @property
    def frame_numbers(self) -> Sequence[int]:
        """Frame number at each place, rising."""

    @property
    def num_frames(self) -> int:
        """Number of frames, annotated or not."""

    def mask(self, t: int) -> Mask | None:
        """The annotation ``uint8 (H, W)`` of the frame at place t, or None where it is unannotated."""


class MaskFolder:
    """A sequence of which only the annotations are there: a folder of PNG masks named by frame number."""

    def __init__(self, path: Path) -> None:
        """Lists the masks.

        Raises:
            DatasetError: there is no such folder, or no PNG named by number in it.
        """
        if not path.is_dir():
            raise DatasetError(f"{path}: there is no such folder of masks")
        masks = sorted(numbered_files(path, (".png",)).items())
        if not masks:
            raise DatasetError(f"{path}: holds no mask; expected PNG files named by frame number, such as 00000.png")
        names = tuple(file.name for _, file in masks)
        self._files = SequenceFiles(
            name=path.name,
            dataset="annotations",
            image_dir=path,
            mask_dir=path,
            frame_numbers=tuple(number for number, _ in masks),
            image_names=names,
            mask_names=names,
            union=False,
            num_bytes=0,
            digest="",
        )
        self._reading: MaskReading | None = None

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self._files.name

    @property
    def frame_numbers(self) -> Sequence[int]:
        """Frame number of each mask, rising."""
        return self._files.frame_numbers

    @property
    def num_frames(self) -> int:
        """Number of masks."""
        return self._files.num_frames

    def mask(self, t: int) -> Mask | None:
        """The annotation at place t, ``uint8 (H, W)``; in gray 0/255 sequences 255 is object 1.

        Raises:
            BadFileError: the file is damaged or not a mask.
        """
        if self._reading is None:
            self._reading = mask_reading(self._files)
        path = self._files.image_path(t)
        try:
            size = mask_size(path.read_bytes())
        except BadFileError as error:
            raise BadFileError(f"{path}: {error}") from error
        return read_mask(self._files, t, self._reading, size)


def open_truth(path: Path, split: str | None = None, protocol: str = "davis2017") -> Sequence[AnnotatedVideo]:
    """Opens the truth for scoring.

    Args:
        path: a shard set, a dataset folder as published, or a folder of sequence folders of PNG masks
            (``Annotations/480p``).
        split: name of the list of sequences; None takes ``val`` where there is one, else every sequence.
        protocol: name of the protocol; where a folder holds several years of a dataset, its year is taken.

    Raises:
        DatasetError: nothing is recognised, or there is no such split.
        ShardError: the shard set is incomplete or damaged.
    """
    if not path.is_dir() and not is_url(path):
        raise DatasetError(f"{path}: there is no such folder")
    if looks_like_shard_set(path) or find_datasets(path):
        return open_dataset(path, split, protocol)
    return open_mask_folders(path, split, protocol)


def open_dataset(path: Path, split: str | None = None, protocol: str | None = None) -> list[Video]:
    """Opens the videos of a shard set or dataset folder; see :func:`open_truth`."""
    if looks_like_shard_set(path):
        return open_videos(path, split)
    has_its_year = any(dataset.name == protocol for dataset in recognise(path))
    return open_videos(path, split, protocol if has_its_year else None)


def data_digest(videos: Sequence[Video]) -> str:
    """Hash of which videos these are: their files' names and sizes, or the checksum of their shard set."""
    digest = hashlib.blake2b(digest_size=16)
    for video in videos:
        if isinstance(video, FolderVideo):
            digest.update(video.sequence.digest.encode())
        elif isinstance(video, StoredVideo):
            digest.update(f"{video.shard_set.description['checksum']} {video.index}".encode())
    return digest.hexdigest()


def usual_protocol(path: Path) -> str:
    """The protocol that fits a shard set or dataset folder: ``davis2016`` for DAVIS 2016, else ``davis2017``."""
    if looks_like_shard_set(path):
        return "davis2016" if open_shard_set(path).name.startswith("davis2016") else "davis2017"
    names = {dataset.name for dataset in recognise(path)}
    return "davis2016" if names == {"davis2016"} else "davis2017"


def open_mask_folders(path: Path, split: str | None = None, protocol: str = "") -> list[MaskFolder]:
    """Opens a folder of sequence folders of PNG masks, or one that holds it as ``Annotations/<resolution>``.

    Args: see :func:`open_truth`; lists of sequences are looked for in ``ImageSets`` beside the annotations.

    Raises:
        DatasetError: there are none, or no such split.
    """
    folder = path / "Annotations" if (path / "Annotations").is_dir() else path
    children = _folders(folder)
    if len(children) == 1 and _folders(children[0]):
        folder = children[0]  # Annotations/480p
    names = _listed_names(folder, split, protocol) or [child.name for child in _folders(folder)]
    if not names:
        raise DatasetError(
            f"{path}: holds no masks; expected a shard set, a dataset folder, or a folder that holds one folder of PNG "
            "masks per sequence"
        )
    return [MaskFolder(folder / name) for name in names]


def _folders(path: Path) -> list[Path]:
    return [path / name for name in subfolders(path)]


def _listed_names(folder: Path, split: str | None, protocol: str) -> Sequence[str]:
    """The sequences that ``ImageSets`` beside the annotations names, as in DAVIS; none where there is no such list.

    Raises:
        DatasetError: a split was asked for and there is no list of it.
    """
    name = split or DEFAULT_SPLIT
    groups = [group for root in list(folder.parents)[:2] for group in read_split_lists(root) if name in group.lists]
    if not groups:
        if split is not None:
            raise DatasetError(f"{folder}: there is no list {name}.txt in an ImageSets folder beside it")
        return ()
    chosen = next((group for group in groups if protocol.endswith(str(group.year))), groups[-1])
    return chosen.lists[name][1]
