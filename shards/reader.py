"""Reads a shard set: any member of any record by one access, checked before it is used."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shards.codec import crc32c, decode_image
from shards.errors import BadFileError, DamageError, ShardError
from shards.format import INDEX_FILE, RECORD_KEYS, image_member, json_member, mask_member
from shards.index import Index, IndexEntry
from shards.manifest import ShardInfo, hex_crc, read_manifest, shard_infos
from shards.masks import decode_mask
from shards.types import Record, StoredFrame

_INDEX_CHECKED_AT_OPEN = 16 << 20
"""The index is read and checked at opening up to this size in bytes (5 ms); above, ``verify`` checks it."""


class ShardSet:
    """A complete shard set, open for reading.

    Thread-safe; picklable (it is opened again). Shards are mapped on first use and keep no file descriptor open.

    Args:
        path: the shard set's folder.
        check: compare the CRC32C of every member with the index before using it.

    Raises:
        ShardError: the folder holds no complete shard set, or one of another format version.
        DamageError: dataset.json or the index is not what was written.
    """

    def __init__(self, path: str | Path, check: bool = True) -> None:
        self.path = Path(path)
        self._check = check
        self._lock = threading.Lock()
        self._maps: dict[int, memoryview] = {}
        self.description: dict[str, Any] = read_manifest(self.path)
        """Content of dataset.json."""
        self.name: str = self.description["name"]
        self.split: str = self.description["split"]
        self._infos = shard_infos(self.description)
        _check_index_file(self.path / INDEX_FILE, self.description["index"])
        self.index = Index(self.path / INDEX_FILE)
        if len(self.index) != self.description["num_records"]:
            expected = self.description["num_records"]
            raise DamageError(f"{self.index.path} has {len(self.index)} records, dataset.json says {expected}")

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"ShardSet({str(self.path)!r}, {len(self)} records in {len(self._infos)} shards)"

    def __reduce__(self) -> tuple[type["ShardSet"], tuple[Path, bool]]:
        return ShardSet, (self.path, self._check)

    def entry(self, position: int) -> IndexEntry:
        """What the index says about a record, 0 <= position < len.

        Raises:
            IndexError: there is no such record.
        """
        return self.index.entry(position)

    def find(self, key: str) -> int:
        """Position of the record with this key.

        Raises:
            KeyError: no record has it.
        """
        return self.index.find(key)

    def record_json(self, position: int) -> dict[str, Any]:
        """The record's JSON: the fixed keys of the format and the set's own, such as ``scene``.

        Raises:
            DamageError: the bytes are not what was written.
        """
        entry = self.entry(position)
        data = self._member(entry, _json_name, 0, entry.json_offset, entry.json_size, entry.json_crc)
        content: dict[str, Any] = json.loads(bytes(data))
        return content

    def image_bytes(self, position: int, frame: int, entry: IndexEntry | None = None) -> memoryview:
        """The stored picture file of a frame, a read-only view on the mapped shard.

        Args:
            position: which record.
            frame: which of its frames, counted from 0 (not the frame number).
            entry: the record's entry when the caller has it already.

        Raises:
            IndexError: there is no such record or frame.
            DamageError: the bytes are not what was written.
        """
        entry = self.entry(position) if entry is None else entry
        _check_frame(entry, frame)
        offset, size = int(entry.image_offsets[frame]), int(entry.image_sizes[frame])
        return self._member(entry, _image_name, frame, offset, size, int(entry.image_crcs[frame]))

    def mask_bytes(self, position: int, frame: int, entry: IndexEntry | None = None) -> memoryview | None:
        """The stored mask file of a frame; None when the frame is unannotated. Otherwise as :meth:`image_bytes`."""
        entry = self.entry(position) if entry is None else entry
        _check_frame(entry, frame)
        if not entry.annotated[frame]:
            return None
        offset, size = int(entry.mask_offsets[frame]), int(entry.mask_sizes[frame])
        return self._member(entry, _mask_name, frame, offset, size, int(entry.mask_crcs[frame]))

    def read_ahead(self, entry: IndexEntry, first: int, last: int) -> None:
        """Asks the system to fetch frames ``first`` to ``last`` of a record with their masks, and returns at once.

        Does nothing where the system cannot, or when the shard is not there; reading it then says so.
        """
        start = int(entry.image_offsets[first])
        end = int(
            max(entry.image_offsets[last] + entry.image_sizes[last], entry.mask_offsets[last] + entry.mask_sizes[last])
        )
        if not hasattr(os, "posix_fadvise") or entry.shard not in self._infos:
            return
        try:
            descriptor = os.open(self.path / self._infos[entry.shard].file, os.O_RDONLY)
        except OSError:
            return
        try:
            os.posix_fadvise(descriptor, start, end - start, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)

    def image(
        self, position: int, frame: int, out: NDArray[np.uint8] | None = None, entry: IndexEntry | None = None
    ) -> NDArray[np.uint8]:
        """Decodes a frame.

        Args:
            position: which record.
            frame: which of its frames, counted from 0.
            out: C-contiguous ``uint8 (H, W, 3)`` to fill; a new array when None.
            entry: the record's entry when the caller has it already.

        Returns:
            RGB ``uint8 (H, W, 3)``.

        Raises:
            IndexError: there is no such record or frame.
            DamageError: the bytes are not what was written, or cannot be decoded.
            ValueError: ``out`` has another shape.
        """
        entry = self.entry(position) if entry is None else entry
        data = self.image_bytes(position, frame, entry)
        try:
            return decode_image(data, out)
        except BadFileError as error:
            raise self._undecodable(entry, _image_name(entry, frame), int(entry.image_offsets[frame]), error) from error

    def mask(
        self,
        position: int,
        frame: int,
        out: NDArray[np.uint8] | None = None,
        entry: IndexEntry | None = None,
        only: int | None = None,
    ) -> NDArray[np.uint8] | None:
        """Decodes a frame's mask; None when the frame is unannotated. Arguments and errors as :meth:`image`.

        With ``only``, an object id, that object becomes 1 and the others 0.

        Returns:
            ``uint8 (H, W)``: 0 background, 1..254 object ids, 255 void.
        """
        entry = self.entry(position) if entry is None else entry
        data = self.mask_bytes(position, frame, entry)
        if data is None:
            return None
        try:
            return decode_mask(data, out, only)
        except BadFileError as error:
            raise self._undecodable(entry, _mask_name(entry, frame), int(entry.mask_offsets[frame]), error) from error

    def record(self, position: int) -> Record:
        """The whole record, as it was given to the writer.

        Raises:
            IndexError: there is no such record.
            DamageError: the bytes are not what was written.
        """
        entry = self.entry(position)
        frames = tuple(
            StoredFrame(
                number=int(number),
                image=bytes(self.image_bytes(position, frame, entry)),
                mask=self.mask(position, frame, entry=entry),
            )
            for frame, number in enumerate(entry.frame_numbers)
        )
        extra = {key: value for key, value in self.record_json(position).items() if key not in RECORD_KEYS}
        return Record(
            sequence=entry.sequence,
            frames=frames,
            height=entry.height,
            width=entry.width,
            source=entry.source,
            licence=entry.licence,
            provenance=entry.provenance,
            extra=extra,
        )

    def _member(
        self, entry: IndexEntry, name: Callable[[IndexEntry, int], str], frame: int, offset: int, size: int, crc: int
    ) -> memoryview:
        shard = self._maps.get(entry.shard)
        if shard is None:
            shard = self._map(entry)
        data = shard[offset : offset + size]
        if self._check and (len(data) != size or (found := crc32c(data)) != crc):
            where = self._where(entry, name(entry, frame), offset)
            if len(data) != size:
                raise DamageError(f"{where} expected {size} bytes, but the shard ends after {len(data)} of them")
            raise DamageError(f"{where} expected CRC32C {hex_crc(crc)} over {size} bytes, found {hex_crc(found)}")
        return data

    def _map(self, entry: IndexEntry) -> memoryview:
        with self._lock:
            if entry.shard not in self._maps:
                info = self._infos.get(entry.shard)
                if info is None:
                    raise DamageError(
                        f"{self.path}: record {entry.key} lies in shard {entry.shard}, which does not exist"
                    )
                self._maps[entry.shard] = _map_file(self.path / info.file, info)
            return self._maps[entry.shard]

    def _where(self, entry: IndexEntry, name: str, offset: int) -> str:
        file = self._infos[entry.shard].file
        return f"{self.path / file} is damaged: record {entry.key}, member {name} at byte {offset}:"

    def _undecodable(self, entry: IndexEntry, name: str, offset: int, error: BadFileError) -> DamageError:
        return DamageError(f"{self._where(entry, name, offset)} {error}")


def _image_name(entry: IndexEntry, frame: int) -> str:
    return image_member(entry.key, int(entry.frame_numbers[frame]), "*")


def _mask_name(entry: IndexEntry, frame: int) -> str:
    return mask_member(entry.key, int(entry.frame_numbers[frame]))


def _json_name(entry: IndexEntry, frame: int) -> str:
    return json_member(entry.key)


def _check_frame(entry: IndexEntry, frame: int) -> None:
    if not 0 <= frame < entry.num_frames:
        raise IndexError(f"frame {frame} of record {entry.key}, which has {entry.num_frames}")


def _check_index_file(path: Path, info: dict[str, Any]) -> None:
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise ShardError(f"{path} is missing; copy or make the shard set again") from error
    if size != info["size"]:
        raise DamageError(f"{path} has {size} bytes, expected {info['size']}; copy or make the shard set again")
    if size <= _INDEX_CHECKED_AT_OPEN:
        found = hex_crc(crc32c(path.read_bytes()))
        if found != info["crc32c"]:
            raise DamageError(
                f"{path} is damaged: expected CRC32C {info['crc32c']} over {size} bytes, found {found}; "
                "copy or make the shard set again"
            )


def _map_file(path: Path, info: ShardInfo) -> memoryview:
    """Maps a shard. The descriptor is closed at once, the mapping lives as long as a view on it."""
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise DamageError(f"{path} is missing; copy or make the shard set again") from error
    if size != info.size:
        raise DamageError(f"{path} has {size} bytes, expected {info.size}; it is cut off or overwritten, copy it again")
    with pa.memory_map(str(path)) as mapped:
        # Arrow calls its bytes signed, and simplejpeg then refuses them: every picture would take the slow way
        return memoryview(mapped.read_buffer()).cast("B")
