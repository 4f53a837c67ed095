"""Runs a segmenter over videos frame by frame: only its own state is kept, so that videos may be of any length."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shards.atomic import write_atomically
from shards.conflict import refuse_other_configuration
from shards.errors import BadFileError, ConflictError
from vosdata.ahead import ahead
from vosdata.evaluate.predictions import write_prediction
from vosdata.evaluate.truth import AnnotatedVideo
from vosdata.frames import NumberedFrame
from vosdata.given import FirstAppearances

Mask = NDArray[np.uint8]

CONFIGURATION_FILE = "made_with.json"


class Segmenter(Protocol):
    """Follows the objects of one video; :class:`vosdata.models.agame.VideoSegmenter` does."""

    def step(self, frame: NDArray[np.uint8], given: Mask | None = None) -> Mask:
        """Segments the next frame.

        Args:
            frame: ``uint8 (H, W, 3)``.
            given: ``uint8 (H, W)``, objects that are new in this frame, or None.

        Returns:
            ``uint8 (H, W)`` of object ids, all 0 until the first object was given.
        """


class SegmentedFrame(NamedTuple):
    """One frame and what was found in it."""

    number: int
    """Frame number."""

    rgb: NDArray[np.uint8]
    """``uint8 (H, W, 3)``."""

    mask: Mask
    """``uint8 (H, W)`` of object ids."""


class FramedVideo(AnnotatedVideo, Protocol):
    """A sequence with its frames; :class:`vosdata.datasets.videos.Video` is one."""

    def frame(self, t: int) -> NDArray[np.uint8]:
        """The frame at place t, ``uint8 (H, W, 3)``."""


def segment_frames(
    segmenter: Segmenter, frames: Iterable[NumberedFrame], annotation: Callable[[int], Mask | None]
) -> Iterator[SegmentedFrame]:
    """Segments frames as they come: of a file, a folder, a camera.

    Args:
        segmenter: fresh, it has seen no frame.
        frames: in order of time, all of one size.
        annotation: the mask ``uint8 (H, W)`` of a frame number, or None where there is none. Each object is taken from
            the first mask that shows it; what later masks say about it is not looked at.

    Yields:
        Every frame with its mask, which is empty until a mask has been given.

    Raises:
        BadFileError: a frame or mask is of another size than the first frame.
    """
    appearances = FirstAppearances()
    size: tuple[int, ...] | None = None
    for number, rgb in frames:
        size = size or rgb.shape[:2]
        _check_size(f"frame {number}", rgb, "the first frame", size)
        given = appearances.given(annotation(number))
        if given is not None:
            _check_size(f"the mask of frame {number}", given, "the frame", size)
        yield SegmentedFrame(number, rgb, segmenter.step(rgb, given))


def _check_size(what: str, picture: NDArray[np.uint8], other: str, size: tuple[int, ...]) -> None:
    if picture.shape[:2] != size:
        found, expected = ("x".join(str(side) for side in sides) for sides in (picture.shape[:2], size))
        raise BadFileError(f"{what} is {found}, {other} is {expected}; they must have one size")


def predict_video(
    segmenter: Segmenter,
    video: FramedVideo,
    folder: Path,
    prepare: Callable[[Mask], Mask],
    progress: Callable[[int], None] | None = None,
) -> None:
    """Segments one sequence from its given masks and writes the masks into ``folder/<sequence>/``.

    The sequence's folder appears when it is complete, so that one that is there need not be made again.

    Args:
        segmenter: fresh.
        video: the sequence.
        folder: of all predictions.
        prepare: turns an annotation into what the protocol sees in it.
        progress: called with the number of frames done, after each.
    """
    target = folder / video.name
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    numbers = video.frame_numbers
    places = {number: t for t, number in enumerate(numbers)}

    def annotation(number: int) -> Mask | None:
        mask = video.mask(places[number])
        return None if mask is None else prepare(mask)

    frames = (NumberedFrame(numbers[t], video.frame(t)) for t in range(video.num_frames))
    for done, segmented in enumerate(segment_frames(segmenter, ahead(frames), annotation), start=1):
        write_prediction(part, segmented.number, segmented.mask)
        if progress is not None:
            progress(done)
    part.rename(target)


def claim_folder(folder: Path, configuration: dict[str, Any]) -> None:
    """Makes an output folder, or takes up one that was begun with the same configuration.

    Args:
        folder: where the output goes.
        configuration: JSON-serialisable; everything that determines the output.

    Raises:
        ConflictError: the folder holds something else, or was made with another configuration.
    """
    path = folder / CONFIGURATION_FILE
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConflictError(f"{folder}: is not empty and was not made by this command. Name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(configuration, indent=1, sort_keys=True) + "\n").encode())
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConflictError(f"{path}: is not readable as JSON ({error}). Name another folder") from error
    refuse_other_configuration(folder, found, configuration)


class _Parameters(Protocol):
    def state_dict(self) -> Mapping[str, Any]: ...


def weights_digest(model: _Parameters) -> str:
    """Hash of a network's tensors, equal wherever the checkpoint lies and on whatever device the network is."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
