"""Pictures and checksums: JPEG through simplejpeg (libjpeg-turbo), or Pillow where it gives up, PNG through OpenCV.

Decoding gives the pixels as they are stored; an EXIF orientation is not applied, because a frame must lie exactly on
its mask. Whoever takes frames in refuses those that have one (:func:`check_upright`). Frames that vosdata encodes are
baseline JPEG with 4:2:0 chroma.
"""

import struct
from io import BytesIO
from typing import Any

import google_crc32c
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from shards.errors import BadFileError
from shards.format import MAX_PIXELS, MAX_SIDE
from shards.masks import PNG_SIGNATURE, ByteLike

JPEG_SIGNATURE = b"\xff\xd8\xff"

_IHDR_END = 33
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}  # of EXIF data, by how they begin
_ORIENTATION = 0x0112
_decode_jpeg = simplejpeg.decode_jpeg

_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def crc32c(data: ByteLike | NDArray[Any], start: int = 0) -> int:
    """CRC32C (Castagnoli) of bytes, ``uint32``.

    Args:
        data: any contiguous bytes.
        start: checksum of the bytes that came before, to continue from.
    """
    # google_crc32c takes no memoryview, but an array over one.
    checked = data if isinstance(data, bytes) else np.frombuffer(data, np.uint8)
    return int(google_crc32c.extend(start, checked))


def encode_jpeg(rgb: NDArray[np.uint8], quality: int = 95) -> bytes:
    """Encodes a picture as baseline JPEG with 4:2:0 chroma.

    Args:
        rgb: ``uint8 (H, W, 3)``, or ``(H, W, 4)`` of which the fourth channel does not matter.
        quality: 1..100.

    Raises:
        ValueError: shape, dtype or quality is out of range.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] not in (3, 4) or 0 in rgb.shape:
        raise ValueError(f"a picture must be uint8 (H, W, 3) or (H, W, 4), got {rgb.dtype} {rgb.shape}")
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality must lie in 1..100, got {quality}")
    pixels = np.ascontiguousarray(rgb)
    return bytes(simplejpeg.encode_jpeg(pixels, quality, "RGB" if rgb.shape[2] == 3 else "RGBX", "420", False))


def image_suffix(data: ByteLike) -> str:
    """``"jpg"`` or ``"png"``, from the first bytes.

    Raises:
        BadFileError: the bytes are neither.
    """
    start = bytes(memoryview(data)[:8])
    if start[:3] == JPEG_SIGNATURE:
        return "jpg"
    if start == PNG_SIGNATURE:
        return "png"
    if not start:
        raise BadFileError("the file is empty (0 bytes), expected a JPEG or PNG picture")
    raise BadFileError(f"the file is neither JPEG nor PNG (first bytes: {start.hex(' ')})")


def image_size(data: ByteLike) -> tuple[int, int]:
    """Height and width in pixels of a JPEG or PNG, from its header alone.

    Raises:
        BadFileError: the bytes are neither, the header is damaged, or it claims more than ``MAX_PIXELS`` pixels.
    """
    if image_suffix(data) == "jpg":
        height, width = _jpeg_size(data)
    else:
        header = bytes(memoryview(data)[:_IHDR_END])
        if len(header) < _IHDR_END or header[12:16] != b"IHDR":
            raise BadFileError("the PNG header is cut off or damaged")
        width, height = int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise BadFileError(f"the picture says it is {height}x{width}; more than {MAX_PIXELS} pixels are refused")
    return int(height), int(width)


def check_upright(data: bytes) -> None:
    """Refuses a picture that viewers turn or mirror: its mask may have been drawn on either, and nobody can tell.

    Args:
        data: a JPEG or PNG file.

    Raises:
        BadFileError: it has an EXIF orientation of 2 to 8.
    """
    orientation = _exif_orientation(data)
    if orientation != 1:
        raise BadFileError(
            f"its EXIF orientation is {orientation}: viewers turn it, and whether masks lie on it as stored or as "
            "shown cannot be told. Turn the frames for good (exiftran -ai *.jpg), or where masks lie on the pixels as "
            "stored, remove the tag (exiftool -Orientation= *.jpg)"
        )


def _exif_orientation(data: bytes) -> int:
    """EXIF orientation, 1 to 8; 1 where the file has none, or none that can be read. Source: EXIF 2.3, tag 0x0112."""
    mark = b"eXIf" if data.startswith(PNG_SIGNATURE) else b"Exif\0\0"
    start = data.find(mark) + len(mark)
    order = _BYTE_ORDERS.get(data[start : start + 4])
    if start < len(mark) or order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", data, start + 4)
        (num_tags,) = struct.unpack_from(f"{order}H", data, start + directory)
        for place in range(num_tags):
            tag, value = struct.unpack_from(f"{order}H6xH", data, start + directory + 2 + 12 * place)
            if tag == _ORIENTATION:
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:  # beyond the end of the file
        pass
    return 1


def decode_image(data: ByteLike, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Decodes a JPEG or PNG to RGB; grayscale, CMYK, palette and 16-bit pictures are converted, alpha is dropped.

    Args:
        data: the whole file.
        out: C-contiguous ``uint8 (H, W, 3)`` to fill; a new array when None.

    Returns:
        ``uint8 (H, W, 3)``; ``out`` itself when it was given.

    Raises:
        BadFileError: the bytes are neither JPEG nor PNG, or are damaged or cut off.
        ValueError: ``out`` has another shape or dtype than the picture, or is not contiguous.
    """
    data = _unsigned(data)
    usual = out is not None and out.dtype == np.uint8 and out.flags.c_contiguous
    if out is not None and usual and decode_jpeg_into(data, out):
        return out
    height, width = image_size(data)
    if out is not None and (out.shape != (height, width, 3) or out.dtype != np.uint8 or not out.flags.c_contiguous):
        raise ValueError(
            f"out must be C-contiguous uint8 ({height}, {width}, 3) as the picture is, got {out.dtype} {out.shape}"
        )
    if image_suffix(data) == "png":
        return _decode_png(data, (height, width), out)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", False, False, buffer=out)
    except ValueError as error:
        if _simplejpeg_size(data) is not None:
            raise BadFileError(f"the JPEG cannot be decoded: {error}") from error
        pixels = _decode_rare_jpeg(data)
        if out is not None:
            out[:] = pixels
    return pixels if out is None else out


def decode_jpeg_into(data: ByteLike | NDArray[np.uint8], out: NDArray[np.uint8]) -> bool:
    """The usual case of :func:`decode_image` at once: an undamaged JPEG of the size of ``out``.

    Args:
        data: any unsigned bytes.
        out: C-contiguous ``uint8 (H, W, 3)`` to fill; not looked at again.

    Returns:
        False when the bytes are anything else; ``out`` may hold anything then.
    """
    try:
        pixels = _decode_jpeg(data, "RGB", False, False, 0, 0, 1.0, out)
    except ValueError:
        return False
    return bool(pixels.shape == out.shape)


def _unsigned(data: ByteLike) -> ByteLike:
    """The same bytes in a form that simplejpeg takes: it refuses views of signed bytes, such as Arrow's."""
    return data.cast("B") if isinstance(data, memoryview) and data.format != "B" else data


def _simplejpeg_size(data: ByteLike) -> tuple[int, int] | None:
    """Size as simplejpeg reads it; None when it does not know this kind of JPEG (unusual chroma) or it is damaged."""
    try:
        height, width = simplejpeg.decode_jpeg_header(_unsigned(data))[:2]
    except ValueError:
        return None
    return int(height), int(width)


def _jpeg_size(data: ByteLike) -> tuple[int, int]:
    size = _simplejpeg_size(data)
    if size is not None:
        return size
    try:
        with Image.open(BytesIO(data), formats=["JPEG"]) as picture:
            return picture.height, picture.width
    except _PILLOW_ERRORS as error:
        raise BadFileError("the JPEG header cannot be read: it is cut off or damaged") from error


def _decode_rare_jpeg(data: ByteLike) -> NDArray[np.uint8]:
    """Decodes what simplejpeg does not know; Pillow, unlike OpenCV, refuses a file that is cut off."""
    try:
        with Image.open(BytesIO(data), formats=["JPEG"]) as picture:
            return np.array(picture.convert("RGB"))
    except _PILLOW_ERRORS as error:
        raise BadFileError(f"the JPEG cannot be decoded: {error}") from error


def _decode_png(data: ByteLike, size: tuple[int, int], out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    import cv2  # only for frames stored as PNG; keeps start-up and memory of the usual path small

    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    pixels: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None or pixels.shape != (*size, 3):
        raise BadFileError("the PNG cannot be decoded: it is damaged or cut off")
    if out is None:
        return pixels
    out[:] = pixels
    return out
