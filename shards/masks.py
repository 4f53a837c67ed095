"""Masks as palette PNG: written so that decoding costs little more than a copy, read whatever wrote them.

Our own form is an 8-bit palette PNG with the DAVIS palette, filter 0 in every row and one IDAT chunk. Reading it is one
inflate (zlib-ng) and one strided copy, about 15 us at 240x432; every PNG viewer shows it. The zlib strategy is run
length: on masks it compresses like level 7 and encodes at the speed of level 1.

A mask is ``uint8 (H, W)``: 0 background, 1..254 object ids, 255 void.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from zlib_ng import zlib_ng

from shards.errors import BadFileError
from shards.format import MAX_PIXELS, MAX_SIDE
from shards.types import MAX_OBJECT_ID, VOID

ByteLike = bytes | bytearray | memoryview

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_PALETTE_COLOUR = 3
_GRAY_COLOUR = 0
_COLOUR_TYPES = {2: "RGB", 4: "gray with alpha", 6: "RGBA"}

# zlib stream parameters: deflate, 32 KiB window, most memory, run-length strategy (level is then irrelevant).
_LEVEL, _DEFLATED, _WBITS, _MEMORY, _RUN_LENGTH = 6, 8, 15, 9, 3


def _davis_palette() -> bytes:
    """The PASCAL VOC rule: the bits of the id, taken three at a time, fill R, G and B from the top.

    DAVIS files use its first 22 colours (with 191 for 192) and shades of gray for higher ids, which nobody can tell
    apart; so the rule is followed to the end here.
    """
    colours = bytearray()
    for index in range(256):
        red = green = blue = 0
        for level in range(8):
            red |= (index >> (3 * level) & 1) << (7 - level)
            green |= (index >> (3 * level + 1) & 1) << (7 - level)
            blue |= (index >> (3 * level + 2) & 1) << (7 - level)
        colours += bytes((red, green, blue))
    return bytes(colours)


DAVIS_PALETTE: bytes = _davis_palette()
"""256 RGB triples: background black, object 1 dark red, object 2 dark green, ... as all VOS tools show masks."""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib_ng.crc32(data, zlib_ng.crc32(kind)))


_PALETTE_CHUNK = _chunk(b"PLTE", DAVIS_PALETTE)
_END_CHUNK = _chunk(b"IEND", b"")

_START = PNG_SIGNATURE + b"\x00\x00\x00\x0dIHDR"
_SIDES = struct.Struct(">II")  # width, height, behind the start
_OWN_KIND = bytes((8, _PALETTE_COLOUR, 0, 0, 0))  # 8 bits, palette, deflate, usual filters, not interlaced

_crc32, _decompress = zlib_ng.crc32, zlib_ng.decompress
_InflateError: type[Exception] = zlib_ng.error  # type: ignore[assignment]  # its stub says instance

# Where our own form has its parts: signature 8, header chunk 25, palette chunk 780, then the one IDAT.
_IDAT_START = 33 + len(_PALETTE_CHUNK)
_DATA_START = _IDAT_START + 8
_AFTER_STREAM = 4 + len(_END_CHUNK)

_SMALL_STREAM = 2**13
"""Bytes of a pixel stream that may be inflated at once, before its length is known: at most 1032 times as many."""


def encode_mask(mask: NDArray[np.uint8]) -> bytes:
    """Encodes a mask as palette PNG in our own form; equal masks give equal bytes.

    Args:
        mask: ``uint8 (H, W)``, 1 <= H, W <= 65535.

    Raises:
        TypeError: the mask is not a ``uint8`` array.
        ValueError: it is not two-dimensional, or a side is out of range.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8:
        raise TypeError(f"a mask must be a uint8 array, got {getattr(mask, 'dtype', type(mask).__name__)}")
    if mask.ndim != 2 or not all(1 <= side <= MAX_SIDE for side in mask.shape):
        raise ValueError(f"a mask must be (H, W) with sides of 1 to {MAX_SIDE}, got shape {mask.shape}")
    height, width = mask.shape
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = 0  # filter type of the row: none
    rows[:, 1:] = mask
    deflate = zlib_ng.compressobj(_LEVEL, _DEFLATED, _WBITS, _MEMORY, _RUN_LENGTH)
    stream = deflate.compress(rows) + deflate.flush()
    return own_form(height, width).start + _chunk(b"IDAT", stream) + _END_CHUNK


def decode_mask(data: ByteLike, out: NDArray[np.uint8] | None = None, only: int | None = None) -> NDArray[np.uint8]:
    """Decodes a mask PNG to its indices.

    Our own form takes the fast path. Any other palette or grayscale PNG (1, 2, 4 or 8 bits, interlaced, filtered, split
    in chunks) is read as well: a palette picture gives its indices, a grayscale one its values, 0 to 255. Checksums of
    the file are always checked.

    Args:
        data: the whole PNG file.
        out: ``uint8 (H, W)`` to fill, contiguous along the rows; a new array when None.
        only: an object id 1..254 that becomes 1 while all other ids become 0; void stays 255. None keeps all ids.

    Returns:
        The mask, ``uint8 (H, W)``; ``out`` itself when it was given.

    Raises:
        BadFileError: the bytes are no PNG, are damaged, or hold a colour or 16-bit picture.
        ValueError: ``out`` has another shape or dtype than the mask.
    """
    view = memoryview(data)
    form = _own_form_of(view)
    raw = None if form is None else form.inflate(view)
    if form is None or raw is None:
        values = _decode_any(view)
        target = _target(out, *values.shape)
        if only is None:
            target[:] = values
        else:
            _select(values, only, True, target)
        return target
    target = _target(out, form.height, form.width)
    form.copy(raw, target, only)
    return target


class OwnForm:
    """What all masks of one size have in common in our own form, so that reading one has little left to find out.

    Everything up to the pixel stream is the same in all of them. One comparison with it stands for reading the header.
    """

    __slots__ = ("_filtered_row", "_pixel_row", "_size", "height", "start", "width")

    def __init__(self, height: int, width: int) -> None:
        """Makes the start of such a file.

        Args:
            height: pixels.
            width: pixels.
        """
        self.height, self.width = height, width
        self.start = PNG_SIGNATURE + _chunk(b"IHDR", _SIDES.pack(width, height) + _OWN_KIND) + _PALETTE_CHUNK
        """Signature, header and palette chunk."""
        self._size = height * (width + 1)
        # a row of pixels as one item, and the same with its filter byte before it
        self._pixel_row = np.dtype(f"V{width}")
        self._filtered_row = np.dtype(
            {"names": ["row"], "formats": [self._pixel_row], "offsets": [1], "itemsize": width + 1}
        )

    def inflate(self, view: memoryview) -> bytes | None:
        """The rows of a mask, each with its filter byte 0: H (1 + W) bytes.

        Args:
            view: the whole file, any bytes at all.

        Returns:
            None for another form or size, and for a damaged file; what it is then has to be found out from the start.
        """
        stream_end = len(view) - _AFTER_STREAM
        length = stream_end - _DATA_START
        if length < 0 or bytes(view[:_IDAT_START]) != self.start:
            return None
        if bytes(view[_IDAT_START:_DATA_START]) != length.to_bytes(4, "big") + b"IDAT":
            return None
        if int.from_bytes(view[stream_end : stream_end + 4], "big") != _crc32(view[_IDAT_START + 4 : stream_end]):
            return None
        stream = view[_DATA_START:stream_end]
        try:
            if length <= _SMALL_STREAM:
                raw: bytes = _decompress(stream, _WBITS, self._size + 1)  # with less room it would look for more
            else:
                inflate = zlib_ng.decompressobj(_WBITS)
                raw = inflate.decompress(stream, self._size + 1)
                if not inflate.eof:
                    return None
        except _InflateError:
            return None
        return None if len(raw) != self._size or raw[:: self.width + 1].strip(b"\0") else raw

    def copy(self, raw: bytes, out: NDArray[np.uint8], only: int | None = None) -> None:
        """Writes rows without their filter bytes.

        Whole rows as single items go a quarter faster than pixels, and NumPy then keeps the interpreter lock: to give
        it away for these few microseconds and wait to have it back is dear where other threads decode.

        Args:
            raw: from :meth:`inflate`.
            out: ``uint8 (H, W)`` to fill, contiguous along the rows.
            only: as for :func:`decode_mask`.
        """
        if only is None:
            out.view(self._pixel_row)[:, 0] = np.frombuffer(raw, self._filtered_row)["row"]
        else:
            values = np.frombuffer(raw, np.uint8).reshape(-1, self.width + 1)[:, 1:]
            _select(values, only, VOID in raw, out)  # a search of bytes is far cheaper than a comparison of pixels


@lru_cache(maxsize=64)
def own_form(height: int, width: int) -> OwnForm:
    """Our own form at one size, 1 <= height, width <= 65535; the same object each time."""
    return OwnForm(height, width)


def _own_form_of(view: memoryview) -> OwnForm | None:
    """Our own form at the size that a file says it has; None where it surely has another form."""
    if len(view) < _DATA_START + _AFTER_STREAM or bytes(view[:16]) != _START:
        return None
    width, height = _SIDES.unpack_from(view, 16)
    fits = 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and height * width <= MAX_PIXELS
    return own_form(height, width) if fits else None


def _select(values: NDArray[np.uint8], object_id: int, has_void: bool, out: NDArray[np.uint8]) -> None:
    """Writes 1 where the object is, 255 where void is and 0 elsewhere, in passes of plain arithmetic."""
    np.equal(values, object_id, out=out.view(np.bool_))
    if has_void:
        void = np.equal(values, VOID).view(np.uint8)
        np.negative(void, out=void)  # 255 at void, else 0
        np.bitwise_or(out, void, out=out)


def mask_size(data: ByteLike) -> tuple[int, int]:
    """Height and width of a mask PNG, from its header alone.

    Raises:
        BadFileError: the bytes do not start like a PNG that can hold a mask.
    """
    header = _Header.read(memoryview(data))
    return header.height, header.width


@dataclass(frozen=True, slots=True)
class _Header:
    """What the IHDR chunk says."""

    height: int
    width: int
    bits: int
    colour: int

    @classmethod
    def read(cls, view: memoryview) -> "_Header":
        """Reads and checks the header; says what the file is when it cannot hold a mask."""
        if len(view) == 0:
            raise BadFileError("the file is empty (0 bytes), expected a PNG mask")
        if bytes(view[:2]) == b"\xff\xd8":
            raise BadFileError("the file is a JPEG, which cannot hold exact object ids; masks must be PNG")
        if len(view) < 33 or bytes(view[:16]) != _START:
            raise BadFileError(f"the file does not start like a PNG (first bytes: {bytes(view[:8]).hex(' ')})")
        width, height, bits, colour = struct.unpack_from(">IIBB", view, 16)
        if colour not in (_PALETTE_COLOUR, _GRAY_COLOUR):
            kind = _COLOUR_TYPES.get(colour, f"colour type {colour}")
            raise BadFileError(
                f"the PNG is a colour picture ({kind}), but a mask must be palette or grayscale with one id per pixel; "
                "convert it to a palette PNG whose indices are the object ids"
            )
        if bits not in (1, 2, 4, 8):
            raise BadFileError(f"the PNG has {bits} bits per pixel, but a mask has at most 8; convert it to 8 bits")
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and height * width <= MAX_PIXELS):
            raise BadFileError(f"the PNG says it is {height}x{width}; more than {MAX_PIXELS} pixels are refused")
        return cls(height, width, bits, colour)


def _decode_any(view: memoryview) -> NDArray[np.uint8]:
    """Reads any palette or grayscale PNG through Pillow, after checking its checksums ourselves (Pillow skips some)."""
    header = _Header.read(view)
    _check_stream(view, header)
    try:
        with Image.open(BytesIO(view), formats=["PNG"]) as picture:
            picture.load()
            values = np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadFileError(f"the PNG cannot be decoded: {error}") from error
    if values.dtype == np.bool_:  # 1-bit grayscale: as any reader shows it, black 0 and white 255
        values = values.astype(np.uint8) * np.uint8(255)
    return values


def png_chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and data of each chunk of a PNG, checked against the checksum that it carries.

    Args:
        view: the whole file; its first 8 bytes are not looked at.

    Raises:
        BadFileError: a chunk is damaged, or the file is cut off.
    """
    position, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        if position + 12 > len(view):
            raise BadFileError(f"the PNG is cut off: chunk expected at byte {position} of {len(view)}")
        (length,) = struct.unpack_from(">I", view, position)
        kind = bytes(view[position + 4 : position + 8])
        end = position + 8 + length
        if end + 4 > len(view):
            raise BadFileError(f"the PNG is cut off: chunk {kind!r} at byte {position} ends beyond byte {len(view)}")
        if struct.unpack_from(">I", view, end)[0] != zlib_ng.crc32(view[position + 4 : end]):
            raise BadFileError(f"the PNG is damaged: checksum of chunk {kind!r} at byte {position} is wrong")
        yield kind, view[position + 8 : end]
        position = end + 4


def _check_stream(view: memoryview, header: _Header) -> None:
    """Checks every chunk, and that the pixel stream inflates to its end with the right Adler checksum."""
    parts = [data for kind, data in png_chunks(view) if kind == b"IDAT"]
    # An interlaced picture has up to seven passes, each with its own filter bytes; this bounds them all.
    limit = 2 * (header.height + 8) * (header.width + 16)
    inflate = zlib_ng.decompressobj(_WBITS)
    try:
        inflated = sum(len(inflate.decompress(part, limit)) for part in parts)
    except _InflateError as error:
        raise BadFileError(f"the PNG is damaged: its pixel stream does not inflate ({error})") from error
    if not inflate.eof or inflated > limit:
        raise BadFileError("the PNG is damaged: its pixel stream has no end or is too long")


def _target(out: NDArray[np.uint8] | None, height: int, width: int) -> NDArray[np.uint8]:
    if out is None:
        return np.empty((height, width), np.uint8)
    if out.shape != (height, width) or out.dtype != np.uint8:
        raise ValueError(f"out must be uint8 ({height}, {width}) as the mask is, got {out.dtype} {out.shape}")
    return out


@dataclass(frozen=True, slots=True, eq=False)
class MaskStats:
    """Which objects a mask shows, and where. Background and void are no objects."""

    ids: NDArray[np.uint8]
    """``uint8 (N,)``: ids in the mask, ascending, each 1..254."""

    areas: NDArray[np.int32]
    """``int32 (N,)``: pixels of each object."""

    boxes: NDArray[np.int32]
    """``int32 (N, 4)``: x0, y0, x1, y1 in pixels, end-exclusive."""


def object_stats(mask: NDArray[np.uint8]) -> MaskStats:
    """Ids, areas and boxes of the objects in a mask, from its horizontal runs of equal pixels: there are few.

    Args:
        mask: ``uint8 (H, W)``.
    """
    width = mask.shape[1]
    flat = mask.reshape(-1)
    begins = np.empty(flat.size, np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[::width] = True  # no run goes on in the next row
    starts = np.flatnonzero(begins)
    values = flat[starts]
    objects = np.flatnonzero(values - np.uint8(1) < MAX_OBJECT_ID)  # 0 wraps around to 255
    if not len(objects):
        return MaskStats(np.empty(0, np.uint8), np.empty(0, np.int32), np.empty((0, 4), np.int32))
    runs = objects[np.argsort(values[objects], kind="stable")]  # by id, and of each id from above
    values, lengths, starts = values[runs], np.diff(starts, append=flat.size)[runs], starts[runs]
    rows = starts // width
    left = starts - rows * width
    firsts = np.flatnonzero(np.diff(values, prepend=0))
    lasts = np.append(firsts[1:], len(values)) - 1
    x0, x1 = np.minimum.reduceat(left, firsts), np.maximum.reduceat(left + lengths, firsts)
    boxes = np.stack([x0, rows[firsts], x1, rows[lasts] + 1], axis=1)
    return MaskStats(values[firsts], np.add.reduceat(lengths, firsts).astype(np.int32), boxes.astype(np.int32))
