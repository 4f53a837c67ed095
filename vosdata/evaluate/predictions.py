"""Predicted masks: folders in the official layout, and the baseline that copies the given masks forward.

The official layout is ``<folder>/<sequence>/<frame number>.png``, palette PNG whose indices are the object ids.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shards.atomic import naming
from shards.errors import BadFileError, ScoreError
from shards.masks import decode_mask, encode_mask
from vosdata.evaluate.truth import AnnotatedVideo
from vosdata.frames import numbered_files
from vosdata.given import FirstAppearances

Mask = NDArray[np.uint8]

SequenceMasks = Callable[[int], Mask]
"""The predicted mask ``uint8 (H, W)`` of the frame at place t; called with rising t."""


class Predictions(Protocol):
    """Whatever can be scored: something that predicts the masks of a sequence."""

    def open(self, video: AnnotatedVideo) -> SequenceMasks:
        """Opens the predictions of one sequence.

        Raises:
            ScoreError: there are none.
        """


class PredictionFolder:
    """Predictions on disk, in the official layout."""

    def __init__(self, path: Path) -> None:
        """Opens a folder of sequence folders.

        Raises:
            ScoreError: there is no such folder, or no folder in it.
        """
        if not path.is_dir():
            raise ScoreError(f"{path}: there is no such folder of predictions")
        if not any(child.is_dir() for child in path.iterdir()):
            raise ScoreError(f"{path}: holds no sequence folder; expected <sequence>/00000.png, ... in it")
        self.path = path

    def open(self, video: AnnotatedVideo) -> SequenceMasks:
        """Opens the folder of one sequence; frames are found by the number in their file name."""
        folder = self.path / video.name
        if not folder.is_dir():
            raise ScoreError(
                f"{self.path}: there is no prediction of sequence {video.name} (expected the folder {folder})"
            )
        paths = numbered_files(folder, (".png",))

        def read(t: int) -> Mask:
            number = video.frame_numbers[t]
            if number not in paths:
                raise ScoreError(
                    f"{folder}: there is no prediction of frame {number:05d}; {len(paths)} of the sequence's "
                    f"{video.num_frames} frames are there"
                )
            try:
                return decode_mask(paths[number].read_bytes())
            except BadFileError as error:
                raise ScoreError(f"{paths[number]}: cannot be read as a mask: {error}") from error

        return read


def read_forward(masks: Iterator[tuple[int, Mask]]) -> SequenceMasks:
    """Masks that come one after the other, each with its place, as predictions: made as far as they are asked for."""
    reached, mask = -1, np.zeros((0, 0), np.uint8)

    def read(t: int) -> Mask:
        nonlocal reached, mask
        while reached < t:
            reached, mask = next(masks)
        return mask

    return read


class CopyFirstMask:
    """The baseline: every object stays where it first was. No method that looks at frames should fall below it."""

    def open(self, video: AnnotatedVideo) -> SequenceMasks:
        """Copies the given masks of one sequence forward."""
        return read_forward(_copied_forward(video))


def _copied_forward(video: AnnotatedVideo) -> Iterator[tuple[int, Mask]]:
    """Yields place and mask from the first annotated frame on."""
    appearances = FirstAppearances()
    current: Mask | None = None
    for t in range(video.num_frames):
        annotation = video.mask(t)
        given = appearances.given(annotation)
        if current is None and annotation is not None:
            current = np.zeros_like(annotation)
        if current is not None:
            # An object that joins later is painted over those that were there, as its annotation shows it.
            current = current if given is None else np.where(given > 0, given, current)
            yield t, current


def write_prediction(folder: Path, frame_number: int, mask: Mask) -> Path:
    """Writes one mask as palette PNG into a sequence's folder, which is made when it is not there.

    Args:
        folder: ``<predictions>/<sequence>``.
        frame_number: integer in the frame's file name.
        mask: ``uint8 (H, W)`` of object ids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{frame_number:05d}.png"
    with naming(path):
        path.write_bytes(encode_mask(mask))
    return path
