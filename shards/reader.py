"""Reads a shard set: any member of any record by one access, checked before it is used."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.access import Shards, Span
from shards.codec import crc32c, decode_image, decode_jpeg_into
from shards.errors import BadFileError, DamageError, ShardError
from shards.format import INDEX_FILE, RECORD_KEYS, extra_member, image_member, json_member, mask_member
from shards.index import Index, IndexEntry
from shards.local_shards import LocalShards
from shards.manifest import ShardInfo, hex_crc, read_manifest, shard_infos
from shards.masks import decode_mask, own_form
from shards.remote.location import locate, shown
from shards.remote.opening import DEFAULT_CACHE_BYTES, RemoteMode, RemoteSettings, open_remote
from shards.remote.transfer import Patience
from shards.types import Record, StoredFrame

_INDEX_CHECKED_AT_OPEN = 16 << 20
"""The index is read and checked at opening up to this size in bytes (5 ms); above, ``verify`` checks it."""


class ShardSet:
    """A complete shard set, open for reading.

    Thread-safe; picklable (it is opened again, and another content at the same place is refused).

    A local folder's shards are mapped on first use and keep no file descriptor open. A set at a URL is read over
    ``http``, ``https`` or whatever fsspec speaks (``s3``, ``gs``, ``hf``, ...; some need a package of their own, and an
    error says which). Its dataset.json is fetched whenever it is opened, its index and, with ``mode="cache"``, each
    shard that is read are fetched once and kept. Bytes are exactly those that were written, or there is an error.

    Args:
        path: the shard set's folder, or its URL.
        check: compare the CRC32C of every member with the index before using it.
        cache_dir: for a URL: folder of the cache, which processes share; None is ``~/.cache/vosdata``.
        cache_bytes: for a URL: limit of the cache in bytes; the least recently used shards are evicted.
        mode: for a URL: ``"cache"`` keeps the shards that are read on the local disk; ``"range"`` reads no more than
            is needed, each time, and keeps the index only.
        patience: for a URL: how long to keep trying; None: six attempts for each piece, 30 s for each answer.
        digest: for a URL: refuse another content than that of :attr:`digest` of a set that was opened before.

    Raises:
        ShardError: the folder holds no complete shard set, or one of another format version, or cannot be read.
        DamageError: dataset.json or the index is not what was written.
        ValueError: the URL's protocol is unknown, a setting is out of range, or the cache too small for one shard.
    """

    def __init__(
        self,
        path: str | Path,
        check: bool = True,
        *,
        cache_dir: Path | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        mode: RemoteMode = "cache",
        patience: Patience | None = None,
        digest: str | None = None,
    ) -> None:
        self.path = locate(path)
        """Folder, or URL without what may be secret in it."""
        self._check = check
        self._remote = RemoteSettings(cache_dir, cache_bytes, mode, patience or Patience())
        self._location = self.path
        self.digest: str | None = None
        """Stands for URL and content of a remote set; None for a local one."""
        self.description: dict[str, Any]
        """Content of dataset.json."""
        self._shards: Shards
        if isinstance(self.path, Path):
            self.description, self.index = _open_local(self.path)
            self._shards = LocalShards(self.path)
        else:
            opened = open_remote(self.path, self._remote, digest)
            self.description, self.index, self._shards = opened.manifest, opened.index, opened.shards
            self.digest, self.path = opened.digest, shown(self.path)
        self.name: str = self.description["name"]
        self.split: str = self.description["split"]
        self._infos = shard_infos(self.description)
        if len(self.index) != self.description["num_records"]:
            expected = self.description["num_records"]
            raise DamageError(f"{self.index.path} has {len(self.index)} records, dataset.json says {expected}")

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"ShardSet({str(self.path)!r}, {len(self)} records in {len(self._infos)} shards)"

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (self._location, self._check, self._remote, self.digest)

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

        Where others made the tars, the fixed keys come out of the index.

        Raises:
            DamageError: the bytes are not what was written.
        """
        entry = self.entry(position)
        content: dict[str, Any] = {}
        if entry.json_size:
            data = self._member(entry, _json_name, 0, entry.json_offset, entry.json_size, entry.json_crc)
            content = json.loads(bytes(data))
        return content if _has_fixed_keys(content) else {**content, **_fixed_keys(entry)}

    def own_fields(self, position: int) -> dict[str, Any]:
        """What the record's JSON holds besides the format's fixed keys. Raises as :meth:`record_json`."""
        return {key: value for key, value in self.record_json(position).items() if key not in RECORD_KEYS}

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

    def extra_bytes(self, position: int, frame: int, name: str, entry: IndexEntry | None = None) -> memoryview | None:
        """An extra of a frame, such as ``amodal.png``; None when the frame has none. Otherwise as :meth:`image_bytes`.

        Which extras a record has is in its entry's ``extra_names``.
        """
        entry = self.entry(position) if entry is None else entry
        _check_frame(entry, frame)
        row = entry.extra_names.index(name) if name in entry.extra_names else None
        if row is None or not entry.extra_sizes[row, frame]:
            return None

        def member(entry: IndexEntry, frame: int) -> str:
            return extra_member(entry.key, int(entry.frame_numbers[frame]), name)

        offset, size = int(entry.extra_offsets[row, frame]), int(entry.extra_sizes[row, frame])
        return self._member(entry, member, frame, offset, size, int(entry.extra_crcs[row, frame]))

    def shard_file(self, shard: int) -> str:
        """File name of a shard.

        Raises:
            DamageError: dataset.json knows no such shard.
        """
        return self._info(shard).file

    @property
    def fetches_whole_shards(self) -> bool:
        """Whether reading anything of a shard fetches all of it, so that :meth:`prefetch` pays."""
        return self._shards.fetches_whole_shards

    @property
    def num_ahead(self) -> int:
        """How many snippets before it is read one should be asked for by :meth:`read_ahead`, at least."""
        return self._shards.num_ahead

    def read_ahead(self, entry: IndexEntry, first: int, last: int) -> None:
        """Begins to fetch frames ``first`` to ``last`` of a record with their masks, and returns at once.

        Only a hint: where nothing can be fetched ahead, nothing happens, and what fails fails again when it is read.
        """
        info = self._infos.get(entry.shard)
        if info is None:
            return
        start = int(entry.image_offsets[first])
        end = int(
            max(entry.image_offsets[last] + entry.image_sizes[last], entry.mask_offsets[last] + entry.mask_sizes[last])
        )
        if 0 <= start < end <= info.size:
            self._shards.read_ahead([Span(info, start, end)])

    def prefetch(self, records: Iterable[int]) -> None:
        """Begins to fetch the shards of records that will be read later, in this order; returns at once.

        Takes notice of the shards alone, so it should be told much earlier than :meth:`read_ahead`. May be called
        again and again: a shard that is there or on its way is not fetched twice. Does nothing unless
        :attr:`fetches_whole_shards`.

        Raises:
            IndexError: there is no such record.
        """
        if not self.fetches_whole_shards:
            return
        shards = dict.fromkeys(self.index.shard(record) for record in records)
        infos = [self._infos[shard] for shard in shards if shard in self._infos]
        self._shards.read_ahead([Span(info, 0, info.size) for info in infos])

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

    def decode(
        self,
        entry: IndexEntry,
        frames: Sequence[int],
        images: NDArray[np.uint8],
        masks: NDArray[np.uint8],
        only: int | None = None,
    ) -> None:
        """Decodes several frames of a record and their masks, as :meth:`image` and :meth:`mask` do for one.

        The fast way through the usual case, where bytes are undamaged and in the form that vosdata writes. Whatever it
        does not know is left to :meth:`image` and :meth:`mask`, which find out what it is or say what is wrong.

        All pictures come first and all masks behind them. Decoding a picture drives everything else out of the
        processor's caches, so that the few steps around a mask take twice as long when they follow one.

        Args:
            entry: the record's entry.
            frames: T of its frames, counted from 0.
            images: C-contiguous ``uint8 (T, H, W, 3)`` to fill.
            masks: C-contiguous ``uint8 (T, H, W)`` to fill; left alone where the frame is unannotated.
            only: as for :meth:`mask`.

        Raises:
            IndexError: there is no such frame.
            DamageError: the bytes are not what was written, or cannot be decoded.
            ValueError: an array has another shape, or is not contiguous.
        """
        _check_frame(entry, min(frames))
        _check_frame(entry, max(frames))
        shape = (len(frames), entry.height, entry.width)
        _check_array("images", images, (*shape, 3))
        _check_array("masks", masks, shape)
        places = np.asarray(frames)
        columns = entry.image_offsets, entry.image_sizes, entry.image_crcs
        for frame, data, image in zip(frames, self._checked(entry, places, *columns), images, strict=True):
            if data is None or not decode_jpeg_into(data, image):
                self.image(-1, frame, image, entry)
        shown = entry.annotated[places].nonzero()[0]
        places, form = places[shown], own_form(entry.height, entry.width)
        columns = entry.mask_offsets, entry.mask_sizes, entry.mask_crcs
        for place, data in zip(shown.tolist(), self._checked(entry, places, *columns), strict=True):
            raw = None if data is None else form.inflate(data)
            if raw is not None:
                form.copy(raw, masks[place], only)
            else:
                self.mask(-1, frames[place], masks[place], entry, only)

    def _checked(
        self, entry: IndexEntry, frames: NDArray[np.int64], *columns: NDArray[Any]
    ) -> Iterator[memoryview | None]:
        """Members of one kind, each checked when it is asked for: then its bytes are in the cache when it is decoded.

        None stands for one whose bytes have to be read again, or are damaged.

        Args:
            entry: the record's entry.
            frames: which frames' members.
            columns: of the entry: offsets, sizes, checksums.
        """
        info, view, check = self._info(entry.shard), self._shards.view, self._check
        offsets, sizes, crcs = (column[frames].tolist() for column in columns)
        for offset, size, crc in zip(offsets, sizes, crcs, strict=True):
            data = view(info, entry, offset, size)
            yield data if not check or (len(data) == size and crc32c(data) == crc) else None

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
                extras=self._extras(position, frame, entry),
            )
            for frame, number in enumerate(entry.frame_numbers)
        )
        return Record(
            sequence=entry.sequence,
            frames=frames,
            height=entry.height,
            width=entry.width,
            source=entry.source,
            licence=entry.licence,
            provenance=entry.provenance,
            extra=self.own_fields(position),
        )

    def _extras(self, position: int, frame: int, entry: IndexEntry) -> dict[str, bytes]:
        found = {name: self.extra_bytes(position, frame, name, entry) for name in entry.extra_names}
        return {name: bytes(data) for name, data in found.items() if data is not None}

    def _member(
        self, entry: IndexEntry, name: Callable[[IndexEntry, int], str], frame: int, offset: int, size: int, crc: int
    ) -> memoryview:
        info = self._infos.get(entry.shard)
        if info is None:
            info = self._info(entry.shard)
        data = self._shards.view(info, entry, offset, size)
        if not self._check or (len(data) == size and crc32c(data) == crc):
            return data
        for _ in range(self._shards.num_attempts - 1):
            self._shards.discard(info, offset)
            data = self._shards.view(info, entry, offset, size)
            if len(data) == size and crc32c(data) == crc:
                return data
        where = self._where(entry, name(entry, frame), offset)
        if len(data) != size:
            raise DamageError(f"{where} expected {size} bytes, but the shard ends after {len(data)} of them")
        found, attempts = hex_crc(crc32c(data)), self._shards.num_attempts
        again = f" at the last of {attempts} attempts" if attempts > 1 else ""
        raise DamageError(f"{where} expected CRC32C {hex_crc(crc)} over {size} bytes, found {found}{again}")

    def _info(self, shard: int) -> ShardInfo:
        try:
            return self._infos[shard]
        except KeyError:
            raise DamageError(f"{self.path}: the index has records of shard {shard}, which does not exist") from None

    def _where(self, entry: IndexEntry, name: str, offset: int) -> str:
        place = f"{self.path}/{self.shard_file(entry.shard)}"
        return f"{place} is damaged: record {entry.key}, member {name} at byte {offset}:"

    def _undecodable(self, entry: IndexEntry, name: str, offset: int, error: BadFileError) -> DamageError:
        return DamageError(f"{self._where(entry, name, offset)} {error}")


def _image_name(entry: IndexEntry, frame: int) -> str:
    return image_member(entry.key, int(entry.frame_numbers[frame]), "*")


def _mask_name(entry: IndexEntry, frame: int) -> str:
    return mask_member(entry.key, int(entry.frame_numbers[frame]))


def _json_name(entry: IndexEntry, frame: int) -> str:
    return json_member(entry.key)


def _has_fixed_keys(content: dict[str, Any]) -> bool:
    return all(key in content for key in RECORD_KEYS)


def _fixed_keys(entry: IndexEntry) -> dict[str, Any]:
    values = {key: getattr(entry, key) for key in RECORD_KEYS}
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in values.items()}


def _check_frame(entry: IndexEntry, frame: int) -> None:
    if not 0 <= frame < entry.num_frames:
        raise IndexError(f"frame {frame} of record {entry.key}, which has {entry.num_frames}")


def _check_array(name: str, array: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != np.uint8 or not array.flags.c_contiguous:
        raise ValueError(f"{name} must be C-contiguous uint8 {shape}, got {array.dtype} {array.shape}")


def _open_again(path: Path | str, check: bool, remote: RemoteSettings, digest: str | None) -> ShardSet:
    return ShardSet(
        path,
        check,
        cache_dir=remote.cache_dir,
        cache_bytes=remote.cache_bytes,
        mode=remote.mode,
        patience=remote.patience,
        digest=digest,
    )


def _open_local(folder: Path) -> tuple[dict[str, Any], Index]:
    manifest = read_manifest(folder)
    _check_index_file(folder / INDEX_FILE, manifest["index"])
    return manifest, Index(folder / INDEX_FILE)


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
