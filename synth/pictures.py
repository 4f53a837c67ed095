"""Reads pictures and object masks as they come: any colour form, any rotation, damaged files named in one line.

A picture becomes upright ``uint8 (H, W, 3)`` RGB, an object mask becomes ``uint8 (h, w)`` alpha, 0 outside and 255
inside the object. Whatever cannot be used is a :class:`~shards.errors.BadFileError` whose message starts with the
file's name.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.errors import BadFileError

MAX_PIXELS = 2**26
"""Largest picture in pixels (8192 x 8192), checked in the header before anything is decoded."""

MAX_ASPECT_ERROR = 0.02
"""A mask of another size than its picture is resized when their aspect ratios agree within 2 %."""

# What Pillow's decoders raise on damaged files, found with the files of its own test suite.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

EXIF_ORIENTATION = 0x0112
VOID_INDEX = 255
MAX_INDEX_LEVEL = 32
"""Gray masks with more than two levels, all (but 255) at most this, hold object ids and not soft alpha."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture and how it was stored."""

    rgb: NDArray[np.uint8]
    """``uint8 (H, W, 3)``, upright, RGB."""

    orientation: int
    """EXIF orientation that was applied, 1 to 8; 1 where there is none or it is malformed."""

    def __repr__(self) -> str:
        return f"Picture({self.rgb.shape[0]}x{self.rgb.shape[1]}, orientation {self.orientation})"


def read_picture(path: str | Path) -> NDArray[np.uint8]:
    """Reads a picture as upright RGB.

    Args:
        path: a file of any form that Pillow reads, whatever its suffix says.

    Returns:
        ``uint8 (H, W, 3)``. Grayscale is repeated, CMYK converted (Adobe's inverted form included), 16-bit scaled to 8,
        transparency shown over white as viewers do; an animation gives its first frame.

    Raises:
        BadFileError: the file is empty, text, truncated, larger than ``MAX_PIXELS`` or otherwise unreadable.
    """
    return decode_picture(read_file(Path(path), str(path)), str(path)).rgb


def read_object_mask(path: str | Path) -> NDArray[np.uint8]:
    """Reads the mask of an object; see :func:`decode_object_mask`.

    Returns:
        ``uint8 (h, w)`` alpha: 0 outside, 255 inside the object.

    Raises:
        BadFileError: the file cannot be read.
    """
    return decode_object_mask(read_file(Path(path), str(path)), str(path))


def read_file(path: Path, name: str) -> bytes:
    """Reads the bytes of a file that is named ``name`` in messages.

    Raises:
        BadFileError: there is no such file, or the system refuses to read it.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        reason = "is a link to a file that is not there" if path.is_symlink() else "does not exist"
        raise BadFileError(f"{name}: {reason}") from error
    except OSError as error:
        raise BadFileError(f"{name}: cannot be read ({error.strerror})") from error


def decode_picture(data: bytes, name: str) -> Picture:
    """Decodes a picture; as :func:`read_picture`, from bytes.

    Args:
        data: the encoded file.
        name: what messages call the file.

    Raises:
        BadFileError: the bytes are no usable picture.
    """
    image, orientation = _open(data, name)
    return Picture(np.ascontiguousarray(turn_upright(_rgb_of(image, name), orientation)), orientation)


def decode_object_mask(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decodes an object mask to alpha.

    The rule: a file with two levels is binary and its higher level is the object, whatever the values are (0/1, 0/255,
    0/128). Gray files with more levels are soft alpha, except where all levels but 255 are at most ``MAX_INDEX_LEVEL``:
    those are object ids, every id is object, and 255 is void and left out. Palette files count as gray when the colours
    in use are gray, else as object ids. RGB files count as gray when their channels agree, else everything that is not
    black is object. Of RGBA files the alpha channel is the mask where the colour is the same everywhere. 16-bit files
    are scaled to 8 bits when they use more than 8.

    Args:
        data: the encoded file.
        name: what messages call the file.

    Returns:
        ``uint8 (h, w)``: 0 outside, 255 inside the object, between them at soft edges.

    Raises:
        BadFileError: the bytes are no usable picture.
    """
    image, orientation = _open(data, name)
    return np.ascontiguousarray(turn_upright(_alpha_of(image, name), orientation))


def decode_indices(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decodes a mask whose values are object ids, from a palette or gray file.

    Args:
        data: the encoded file.
        name: what messages call the file.

    Returns:
        ``uint8 (h, w)``: 0 background, 1..254 ids, 255 void.

    Raises:
        BadFileError: the bytes are no usable picture, or one of colours and not of indices.
    """
    image, orientation = _open(data, name)
    if image.mode not in ("P", "L", "1"):
        raise BadFileError(f"{name}: is a colour picture ({image.mode}), but object ids need a palette or gray file")
    indices = np.asarray(image.convert("L") if image.mode == "1" else image)
    return np.ascontiguousarray(turn_upright(indices, orientation))


def fit_mask(mask: NDArray[np.uint8], picture: Picture, name: str) -> NDArray[np.uint8]:
    """Brings a mask to the upright size of its picture.

    A mask that has the size of the picture as stored, but not as shown, was drawn without regard to the EXIF
    orientation and is turned like the picture. (Where both sizes are the same the mask is taken to be upright.) A mask
    of another size is resized to the nearest pixel when the shapes agree.

    Args:
        mask: ``uint8 (h, w)`` alpha.
        picture: the picture that the mask belongs to.
        name: what messages call the mask.

    Returns:
        ``uint8 (H, W)`` of the picture's size.

    Raises:
        BadFileError: the shapes do not agree.
    """
    height, width = picture.rgb.shape[:2]
    if mask.shape == (height, width):
        return mask
    turned = turn_upright(mask, picture.orientation)
    if turned.shape == (height, width):
        return np.ascontiguousarray(turned)
    for candidate in (mask, turned):
        if _same_aspect(candidate.shape, (height, width)):
            resized = cv2.resize(
                np.ascontiguousarray(candidate), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
            )
            return np.asarray(resized, np.uint8)
    raise BadFileError(
        f"{name}: mask is {mask.shape[0]}x{mask.shape[1]}, its picture {height}x{width} (height x width)"
    )


def turn_upright(array: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turns and mirrors ``(H, W, ...)`` as its EXIF orientation 1 to 8 asks; returns a view.

    Source: EXIF 2.3, tag 0x0112.
    """
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def _same_aspect(shape: tuple[int, ...], wanted: tuple[int, int]) -> bool:
    """Whether two shapes agree within MAX_ASPECT_ERROR, or within the rounding of the smaller one to whole pixels."""
    height, width = shape[:2]
    expected_width = height * wanted[1] / wanted[0]
    return abs(expected_width - width) <= max(1.0, MAX_ASPECT_ERROR * width)


def _open(data: bytes, name: str) -> tuple[Image.Image, int]:
    """Opens and decodes; returns the image and its EXIF orientation."""
    if not data:
        raise BadFileError(f"{name}: is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise BadFileError(f"{name}: is larger than {MAX_PIXELS} pixels ({error})") from error
    except DECODER_ERRORS as error:
        raise BadFileError(f"{name}: {_why_unreadable(data)}") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadFileError(f"{name}: is {height}x{width}, more than {MAX_PIXELS} pixels")
    try:
        image.load()
    except DECODER_ERRORS as error:
        raise BadFileError(f"{name}: is damaged or cut off ({len(data)} bytes; {_one_line(str(error))})") from error
    return image, _orientation_of(image)


def _why_unreadable(data: bytes) -> str:
    """Says what a file is that is no picture."""
    head = data[:200]
    try:
        text = head.decode()
    except UnicodeDecodeError:
        text = ""
    if text and text.isprintable() and len(data) <= len(head):
        return f"is text, not a picture ({text!r}; perhaps a link that was checked out as a file)"
    if (text and not text.strip().isascii()) or text[:1] in ("<", "{"):
        return "is text, not a picture (perhaps an error page saved by a download)"
    if data[:2] == b"\xff\xd8" or data[:4] == b"\x89PNG":
        return f"is damaged or cut off ({len(data)} bytes)"
    return f"is no picture that can be read ({len(data)} bytes)"


def _orientation_of(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 where the tag is missing or malformed."""
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except (*DECODER_ERRORS, AttributeError):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _rgb_of(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Pixels as ``uint8 (h, w, 3)``, as stored (not turned)."""
    try:
        if image.mode.startswith("I"):
            gray = _eight_bits(np.asarray(image))
            return np.repeat(gray[:, :, None], 3, axis=2)
        if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
            return _over_white(np.asarray(image.convert("RGBA")))
        return np.asarray(image.convert("RGB"))
    except DECODER_ERRORS as error:
        raise BadFileError(f"{name}: has pixels of an unknown kind ({image.mode}; {_one_line(str(error))})") from error


def _over_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shows ``uint8 (h, w, 4)`` over white."""
    alpha = rgba[:, :, 3:].astype(np.uint16)
    return ((rgba[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _eight_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scales 16-bit values to 8 bits; values that fit 8 bits already are kept."""
    clipped = np.clip(values.astype(np.int64), 0, 65535)
    return (clipped >> 8 if clipped.max(initial=0) > 255 else clipped).astype(np.uint8)


def _alpha_of(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Applies the rule of :func:`decode_object_mask` to a decoded image."""
    try:
        if image.mode == "P":
            return _alpha_of_palette(np.asarray(image), image.getpalette() or [])
        if image.mode == "1":
            return np.asarray(image.convert("L"))
        if image.mode.startswith("I"):
            return _alpha_of_gray(_eight_bits(np.asarray(image)))
        if image.mode == "L":
            return _alpha_of_gray(np.asarray(image))
        if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
            return _alpha_of_rgba(np.asarray(image.convert("RGBA")))
        return _alpha_of_rgb(np.asarray(image.convert("RGB")))
    except DECODER_ERRORS as error:
        raise BadFileError(f"{name}: has pixels of an unknown kind ({image.mode}; {_one_line(str(error))})") from error


def _alpha_of_gray(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    levels = np.flatnonzero(np.bincount(gray.ravel(), minlength=256))
    if len(levels) <= 2:
        # A single level is an empty mask when it is 0, else a mask that covers everything.
        return np.where(gray > (levels[0] if len(levels) == 2 else 0), 255, 0).astype(np.uint8)
    below_void = levels[levels < VOID_INDEX]
    if below_void[-1] <= MAX_INDEX_LEVEL:
        return _alpha_of_indices(gray)
    return gray


def _alpha_of_indices(indices: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every object id is object; 255 is void, and left out, where there are other ids."""
    ids = (indices > 0) & (indices < VOID_INDEX)
    return np.where(ids if ids.any() else indices > 0, 255, 0).astype(np.uint8)


def _alpha_of_palette(indices: NDArray[np.uint8], palette: list[int]) -> NDArray[np.uint8]:
    colours = np.zeros((256, 3), np.uint8)
    known = np.array(palette, np.uint8).reshape(-1, 3)[:256]
    colours[: len(known)] = known
    used = colours[np.unique(indices)]
    if (used == used[:, :1]).all():
        return _alpha_of_gray(colours[indices, 0])
    return _alpha_of_indices(indices)


def _alpha_of_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    high, low = rgb.max(axis=2), rgb.min(axis=2)
    if int((high - low).max(initial=0)) <= 16:  # gray up to the rounding of a colour conversion
        return _alpha_of_gray(rgb[:, :, 1])
    return np.where(high >= MAX_INDEX_LEVEL, 255, 0).astype(np.uint8)


def _alpha_of_rgba(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    visible = rgba[rgba[:, :, 3] > 0]
    if len(visible) == 0 or ((visible[:, :3] == visible[0, :3]).all() and not (rgba[:, :, 3] == 255).all()):
        return _alpha_of_gray(rgba[:, :, 3])
    over_black = rgba[:, :, :3].astype(np.uint16) * rgba[:, :, 3:] // 255
    return _alpha_of_rgb(over_black.astype(np.uint8))


def _one_line(text: str) -> str:
    """The first line of a message of another library."""
    return text.splitlines()[0][:120] if text else "no reason given"
