"""How the numbers in mask files become object ids. The rule is fixed per sequence, never per frame.

Published masks come in three kinds, and the same value 255 means the object in one and void in another:

=========  ==================================================  ============================================
reading    when                                                what the values mean
=========  ==================================================  ============================================
UNION      the sequence is read under DAVIS 2016               0 background, any other value (255 included)
                                                               is object 1: DAVIS 2016 has one object and no
                                                               void, and its masks are 0/255 or, in copies
                                                               made for 2017 tools, palette ids
BINARY     else, all masks of the sequence are gray pictures   0 background, 255 is object 1
           whose values are 0 and 255 only
IDS        else (a palette picture anywhere, or any other      0 background, 1..254 object ids, 255 void
           value in any frame)
=========  ==================================================  ============================================

So a palette mask that shows only 0 and 255 in a video of several objects is a frame of void, and a gray video of
0/255 is a binary one whatever dataset it came from.
"""

from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.codec import check_upright, decode_image, image_size
from shards.errors import BadFileError, DatasetError, VosDataError
from shards.masks import decode_mask
from shards.types import BACKGROUND, VOID
from vosdata.datasets.types import Sequence

# Where a PNG states its colour type: signature 8, length 4, "IHDR" 4, width 4, height 4, bit depth 1.
COLOUR_TYPE_OFFSET = 25
GRAY = 0


class MaskReading(Enum):
    """What the values of a sequence's masks mean; see the module."""

    IDS = "indices are object ids, 255 is void"
    BINARY = "gray 0/255 masks, 255 read as object 1"
    UNION = "any non-zero index read as object 1"


def mask_reading(sequence: Sequence) -> MaskReading:
    """Decides how the masks of a sequence are read. Reads masks only as far as needed: a palette picture ends it.

    Raises:
        DatasetError, BadFileError: a mask cannot be read.
    """
    if sequence.union:
        return MaskReading.UNION
    seen_object = False
    for t in range(sequence.num_frames):
        path = sequence.mask_path(t)
        if path is None:
            continue
        data = read_file(path)
        if len(data) <= COLOUR_TYPE_OFFSET or data[COLOUR_TYPE_OFFSET] != GRAY:
            return MaskReading.IDS
        indices = _decode(sequence, t, data)
        if np.any((indices != BACKGROUND) & (indices != VOID)):
            return MaskReading.IDS
        seen_object = seen_object or bool(indices.any())
    return MaskReading.BINARY if seen_object else MaskReading.IDS


def read_mask(
    sequence: Sequence, t: int, reading: MaskReading, frame_size: tuple[int, int]
) -> NDArray[np.uint8] | None:
    """Reads the mask of frame ``t``.

    Args:
        sequence: the sequence.
        t: place of the frame, 0..num_frames-1.
        reading: what the values mean, from :func:`mask_reading`.
        frame_size: height and width of the frame, which the mask must have.

    Returns:
        ``uint8 (H, W)`` with 0 background, 1..254 object ids, 255 void; None when the frame is unannotated.

    Raises:
        DatasetError: the mask has another size than its frame.
        BadFileError: the file is no index picture or is damaged.
    """
    path = sequence.mask_path(t)
    if path is None:
        return None
    indices = _decode(sequence, t, read_file(path))
    if indices.shape != frame_size:
        found, expected = (f"{height}x{width}" for height, width in (indices.shape, frame_size))
        raise DatasetError(
            f"{_describe(sequence, path)} is {found}, its frame is {expected} ({_folder(path)}). Re-extract the archive"
        )
    if reading is MaskReading.IDS:
        return indices
    is_object: NDArray[np.bool_] = indices == VOID if reading is MaskReading.BINARY else indices != BACKGROUND
    return is_object.astype(np.uint8)


def read_frame(sequence: Sequence, t: int) -> tuple[bytes, tuple[int, int]]:
    """Reads the file of frame ``t``.

    Returns:
        The bytes as they are, and height and width from the picture's header.

    Raises:
        BadFileError: the file cannot be read, is neither JPEG nor PNG, or has an EXIF orientation.
    """
    path = sequence.image_path(t)
    data = read_file(path)
    try:
        check_upright(data)
        return data, image_size(data)
    except VosDataError as error:
        raise _bad_frame(sequence, path, error) from None


def decode_frame(sequence: Sequence, t: int, data: bytes) -> NDArray[np.uint8]:
    """Decodes the bytes of frame ``t`` to ``uint8 (H, W, 3)``, RGB.

    Raises:
        BadFileError: the picture is damaged.
    """
    try:
        return decode_image(data)
    except VosDataError as error:
        raise _bad_frame(sequence, sequence.image_path(t), error) from None


def read_file(path: Path) -> bytes:
    """Reads a file.

    Raises:
        BadFileError: the file cannot be opened.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadFileError(f"{path} cannot be read: {error.strerror}") from None


def _decode(sequence: Sequence, t: int, data: bytes) -> NDArray[np.uint8]:
    try:
        return decode_mask(data)
    except VosDataError as error:
        path = sequence.mask_dir / str(sequence.mask_names[t])
        raise BadFileError(f"{_describe(sequence, path)} ({_folder(path)}): {error}") from None


def _bad_frame(sequence: Sequence, path: Path, error: VosDataError) -> BadFileError:
    return BadFileError(f"{sequence.dataset}: frame {path.name} of sequence {sequence.name} ({_folder(path)}): {error}")


def _describe(sequence: Sequence, path: Path) -> str:
    return f"{sequence.dataset}: mask {path.name} of sequence {sequence.name}"


def _folder(path: Path) -> str:
    """The folder of a file as its dataset names it: from JPEGImages or Annotations downwards."""
    parts = path.parent.parts
    starts = [place for place, part in enumerate(parts) if part.startswith(("JPEGImages", "Annotations"))]
    return "/".join(parts[starts[-1] :]) if starts else str(path.parent)
