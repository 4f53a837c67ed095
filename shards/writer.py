"""Writes one shard: a tar whose bytes are a function of its records alone."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, BinaryIO
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from shards.codec import crc32c, image_size, image_suffix
from shards.errors import BadFileError, DatasetError
from shards.format import (
    BLOCK,
    END_OF_TAR,
    EXTRA_NAME,
    MAX_FRAME_NUMBER,
    MAX_SIDE,
    RECORD_KEYS,
    extra_member,
    image_member,
    json_member,
    mask_member,
    padding,
)
from shards.index import IndexEntry
from shards.layout import is_pixel_word
from shards.masks import encode_mask
from shards.objects import ObjectTable
from shards.types import Record, StoredFrame

MAX_KEY = 80
"""Longest key: with ``.frame99999999.jpg`` a member name stays within the 100 bytes of a plain tar header."""

_UNSAFE = re.compile(rb"[^A-Za-z0-9_-]")
_HASH_DIGITS = 16
_MAX_MEMBER_SIZE = 2**31 - 1
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)

# What all headers have in common: between name and size, between size and checksum, and behind that.
_OWNER = b"0000644\0" + b"0000000\0" + b"0000000\0"  # mode, uid, gid
_TIME = b"\0" + b"00000000000\0"
_KIND = (
    b"0"
    + bytes(100)  # regular file, no link
    + b"ustar\x0000"
    + bytes(64)  # magic, version, no user or group name
    + b"0000000\0"
    + b"0000000\0"
    + bytes(167)  # device numbers, no prefix, padding
)
_EQUAL_SUM = sum(_OWNER + _TIME + b" " * 8 + _KIND)  # the checksum counts as spaces in itself


def key_of(sequence: str) -> str:
    """Key of a sequence: its name percent-encoded to ASCII letters, digits, ``-`` and ``_``; so it has no dot or slash.

    Names too long for a tar header are cut and end in ``~`` and a hash of the whole name; only those cannot be turned
    back by :func:`sequence_of` (the record's JSON always has the full name).

    Raises:
        ValueError: the name is empty or holds bytes that are no text.
    """
    if not sequence:
        raise ValueError("a sequence needs a name, got an empty one")
    encoded = _UNSAFE.sub(lambda match: b"%%%02X" % match.group()[0], sequence.encode("utf-8"))
    key = encoded.decode("ascii")
    if len(key) <= MAX_KEY:
        return key
    digest = hashlib.sha256(encoded).hexdigest()[:_HASH_DIGITS]
    return f"{key[: MAX_KEY - _HASH_DIGITS - 1]}~{digest}"


def sequence_of(key: str) -> str:
    """Turns a key back into the sequence name.

    Raises:
        ValueError: the name was too long for its key.
    """
    if "~" in key:
        raise ValueError(f"key {key} stands for a name that was too long; read it from the record's JSON")
    return unquote(key, errors="strict")


def tar_header(name: str, size: int) -> bytes:
    """The 512-byte USTAR header of a regular file; a function of name and size alone.

    Raises:
        ValueError: the name is longer than 100 bytes, or the size does not fit the index.
    """
    encoded = name.encode("ascii")
    if len(encoded) > 100 or not 0 <= size <= _MAX_MEMBER_SIZE:
        raise ValueError(f"tar member {name!r} of {size} bytes: names are at most 100 bytes, sizes below 2 GiB")
    digits = b"%011o" % size
    checksum = b"%06o\0 " % (_EQUAL_SUM + sum(encoded) + sum(digits))
    return encoded.ljust(100, b"\0") + _OWNER + digits + _TIME + checksum + _KIND


class ShardWriter:
    """Writes records into one tar.

    Args:
        file: where the bytes go, opened for binary writing at its start.
        shard: number of the shard, for the index.
    """

    def __init__(self, file: BinaryIO, shard: int) -> None:
        self._file = file
        self._shard = shard
        self.num_bytes = 0
        """Bytes written so far."""
        self.crc = 0
        """CRC32C of all bytes written so far."""

    def add(self, record: Record) -> IndexEntry:
        """Writes one record and returns its row of the index.

        Raises:
            DatasetError: a picture cannot be read, or a picture or mask has another size than the record.
            ValueError: frame numbers do not increase or are out of range, ``extra`` uses a reserved key, or an extra of
                a frame is empty or its name not one that the format allows.
        """
        _check_record(record)
        key = key_of(record.sequence)
        objects = ObjectTable.of_masks([frame.mask for frame in record.frames])
        description = _record_json(record, key, objects.ids)
        json_offset, json_crc = self._member(json_member(key), description)
        spans = np.array([self._frame(key, frame) for frame in record.frames], np.int64).T
        extra_names = sorted({name for frame in record.frames for name in frame.extras})
        extras = self._extras(key, record.frames, extra_names)
        return IndexEntry(
            key=key,
            sequence=record.sequence,
            shard=self._shard,
            height=record.height,
            width=record.width,
            source=record.source,
            licence=record.licence,
            provenance=record.provenance,
            json_offset=json_offset,
            json_size=len(description),
            json_crc=json_crc,
            frame_numbers=np.array([frame.number for frame in record.frames], np.int64),
            annotated=np.array([frame.mask is not None for frame in record.frames]),
            image_offsets=spans[0],
            image_sizes=spans[1].astype(np.int32),
            image_crcs=spans[2].astype(np.uint32),
            mask_offsets=spans[3],
            mask_sizes=spans[4].astype(np.int32),
            mask_crcs=spans[5].astype(np.uint32),
            object_ids=objects.ids,
            areas=objects.areas,
            boxes=objects.boxes,
            extra_names=tuple(extra_names),
            extra_offsets=extras[0],
            extra_sizes=extras[1].astype(np.int32),
            extra_crcs=extras[2].astype(np.uint32),
        )

    def close(self) -> None:
        """Ends the tar. The file itself stays open."""
        self._write(END_OF_TAR)

    def _frame(self, key: str, frame: StoredFrame) -> tuple[int, int, int, int, int, int]:
        """Writes a frame's members; returns offset, size and CRC32C of picture and mask."""
        name = image_member(key, frame.number, image_suffix(frame.image))
        image_offset, image_crc = self._member(name, frame.image)
        if frame.mask is None:
            return image_offset, len(frame.image), image_crc, 0, 0, 0
        mask = encode_mask(frame.mask)
        mask_offset, mask_crc = self._member(mask_member(key, frame.number), mask)
        return image_offset, len(frame.image), image_crc, mask_offset, len(mask), mask_crc

    def _extras(self, key: str, frames: Sequence[StoredFrame], names: Sequence[str]) -> NDArray[np.int64]:
        """Writes the extras; returns their offsets, sizes and CRC32C, ``int64 (3, K, T)``, zero where there is none."""
        spans = np.zeros((3, len(names), len(frames) if names else 0), np.int64)
        for row, name in enumerate(names):
            for column, frame in enumerate(frames):
                if name in frame.extras:
                    data = frame.extras[name]
                    offset, crc = self._member(extra_member(key, frame.number, name), data)
                    spans[:, row, column] = offset, len(data), crc
        return spans

    def _member(self, name: str, data: bytes) -> tuple[int, int]:
        offset = self.num_bytes + BLOCK
        self._write(b"".join((tar_header(name, len(data)), data, bytes(padding(len(data))))))
        return offset, crc32c(data)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.num_bytes += len(data)
        self.crc = crc32c(data, self.crc)


def _check_record(record: Record) -> None:
    where = f"sequence {record.sequence}"
    if not record.frames:
        raise ValueError(f"{where} has no frames")
    if not (1 <= record.height <= MAX_SIDE and 1 <= record.width <= MAX_SIDE):
        raise ValueError(f"{where} is {record.height}x{record.width}; sides must be 1 to {MAX_SIDE}")
    numbers = [frame.number for frame in record.frames]
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise ValueError(f"{where}: frame numbers must strictly increase, got {numbers}")
    if not 0 <= numbers[0] <= numbers[-1] <= MAX_FRAME_NUMBER:
        raise ValueError(f"{where}: frame numbers must lie in 0..{MAX_FRAME_NUMBER}, got {numbers[0]}..{numbers[-1]}")
    reserved = sorted(set(RECORD_KEYS) & set(record.extra))
    if reserved:
        raise ValueError(f"{where}: extra may not hold the reserved keys {', '.join(reserved)}")
    for frame in record.frames:
        for name, data in frame.extras.items():
            found = EXTRA_NAME.fullmatch(name)
            if found is None or is_pixel_word(found["word"]):
                raise ValueError(f"{where}: an extra may not be called {name!r}; see shards.format")
            if not data:
                raise ValueError(f"{where}: the extra {name} of frame {frame.number} is empty")
    for problem in _size_problems(record):
        raise DatasetError(f"{where}: {problem}")


def _size_problems(record: Record) -> Iterator[str]:
    expected = (record.height, record.width)
    for frame in record.frames:
        try:
            size = image_size(frame.image)
        except BadFileError as error:
            yield f"picture of frame {frame.number}: {error}"
            continue
        if size != expected:
            yield f"picture of frame {frame.number} is {size[0]}x{size[1]}, its record {expected[0]}x{expected[1]}"
        if frame.mask is not None and frame.mask.shape != expected:
            shape = "x".join(str(side) for side in frame.mask.shape)
            yield f"mask of frame {frame.number} is {shape}, its record {expected[0]}x{expected[1]}"


def _record_json(record: Record, key: str, object_ids: NDArray[np.uint8]) -> bytes:
    content: dict[str, Any] = {
        "key": key,
        "sequence": record.sequence,
        "height": record.height,
        "width": record.width,
        "frame_numbers": [frame.number for frame in record.frames],
        "annotated": [frame.mask is not None for frame in record.frames],
        "object_ids": object_ids.tolist(),
        "source": record.source,
        "licence": record.licence,
        "provenance": record.provenance,
        **record.extra,
    }
    return _ENCODER.encode(content).encode("ascii")
