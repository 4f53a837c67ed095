"""Checks every byte of a shard set and says where it is not what was written.

Nothing is taken on trust: dataset.json carries its own checksum, that of the index and of each shard; the index carries
that of each member; tar headers and padding must be exactly what the writer makes. So one flipped bit anywhere, or a
file cut at any byte, is found and named down to the member.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shards.codec import crc32c, image_size, image_suffix
from shards.errors import BadFileError, DamageError, ShardError
from shards.format import (
    BLOCK,
    DATASET_FILE,
    END_OF_TAR,
    FOREIGN_LAYOUT,
    INDEX_FILE,
    RECORD_KEYS,
    extra_member,
    image_member,
    json_member,
    mask_member,
    padding,
)
from shards.index import Index, IndexEntry
from shards.manifest import ShardInfo, hex_crc, shard_infos, unseal
from shards.masks import decode_mask, object_stats
from shards.remote.files import SetFiles, open_files
from shards.writer import tar_header


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was written."""

    file: str
    """Name of the file in the shard set's folder."""

    what: str
    """What was expected and what was found."""

    offset: int | None = None
    """Byte in the file where it is, or where the damaged member's data begins; None when it concerns the whole file."""

    record: str | None = None
    """Key of the record, when it is inside one."""

    member: str | None = None
    """Name of the tar member, when it is inside one."""

    def __str__(self) -> str:
        place = self.file if self.offset is None else f"{self.file} at byte {self.offset}"
        inside = "" if self.record is None else f" (record {self.record}, member {self.member})"
        return f"{place}{inside}: {self.what}"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What :func:`verify` looked at and found."""

    num_records: int
    """Records checked."""

    num_members: int
    """Tar members checked."""

    num_bytes: int
    """Bytes read."""

    problems: tuple[Problem, ...]
    """Everything that is wrong, in order of file and place; empty for an intact set."""


def verify(path: str | Path, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
    """Checks a shard set.

    Args:
        path: the shard set's folder, or its URL: then each shard is fetched into a temporary folder, checked, removed.
        progress: called with bytes checked and bytes in all, about once per record.

    Raises:
        ShardError: there is no complete shard set, it has another format version, or cannot be fetched.
    """
    with open_files(path) as files:
        try:
            manifest = unseal(files.manifest(), f"{path}/{DATASET_FILE}")
            infos = shard_infos(manifest)
        except (ValueError, DamageError) as error:
            return VerifyReport(0, 0, 0, (Problem(DATASET_FILE, f"{error}. Nothing else was checked"),))
        return _verify(files, manifest, infos, progress)


def _verify(
    files: SetFiles,
    manifest: dict[str, Any],
    infos: dict[int, ShardInfo],
    progress: Callable[[int, int], None] | None,
) -> VerifyReport:
    index, problems = _checked_index(files, manifest)
    problems += _stray_files(files, infos)
    is_foreign = manifest.get("layout") == FOREIGN_LAYOUT
    done = manifest["index"]["size"]
    total = done + sum(info.size for info in infos.values())
    num_records = num_members = 0
    for info, entries in _shards_with_entries(infos, index, problems):
        check = _ShardCheck(files, info, is_foreign)
        for position in check.run(entries):
            if progress is not None:
                progress(done + position, total)
        problems += check.problems
        num_records += check.num_records
        num_members += check.num_members
        done += check.size
    return VerifyReport(num_records, num_members, done, tuple(problems))


def _checked_index(files: SetFiles, manifest: dict[str, Any]) -> tuple[Index | None, list[Problem]]:
    """The index, or None and why it cannot be used."""
    expected = manifest["index"]
    path = files.path(INDEX_FILE, expected["size"])
    if not path.is_file():
        return None, [Problem(INDEX_FILE, "the file is missing")]
    data = _mapped(path)
    if len(data) != expected["size"]:
        what = f"the file has {len(data)} bytes, expected {expected['size']}"
        return None, [Problem(INDEX_FILE, what, min(len(data), expected["size"]))]
    found = hex_crc(crc32c(data))
    if found != expected["crc32c"]:
        return None, [Problem(INDEX_FILE, f"CRC32C of the file is {found}, expected {expected['crc32c']}")]
    try:
        index = Index(path)
    except ShardError as error:
        return None, [Problem(INDEX_FILE, str(error))]
    if len(index) != manifest["num_records"]:
        what = f"it has {len(index)} records, {DATASET_FILE} says {manifest['num_records']}"
        return index, [Problem(INDEX_FILE, what)]
    return index, []


def _stray_files(files: SetFiles, infos: dict[int, ShardInfo]) -> list[Problem]:
    """Tars that are no part of the set, but would be read by whoever globs for shards."""
    known = {info.file for info in infos.values()}
    strays = sorted(name for name in files.tars() if name not in known)
    return [Problem(name, f"{DATASET_FILE} knows no such shard; remove the file") for name in strays]


def _shards_with_entries(
    infos: dict[int, ShardInfo], index: Index | None, problems: list[Problem]
) -> Iterator[tuple[ShardInfo, Iterator[IndexEntry] | None]]:
    """Each shard with its rows of the index (one at a time, there may be millions); None when there is no index."""
    left = dict(infos)
    if index is not None:
        entries = (index.entry(position) for position in range(len(index)))
        for number, group in groupby(entries, key=lambda entry: entry.shard):
            info = left.pop(number, None)
            if info is None:
                problems.append(Problem(INDEX_FILE, f"it has records of shard {number}, {DATASET_FILE} has not"))
            else:
                yield info, group
    for info in left.values():
        yield info, None if index is None else iter(())


class _ShardCheck:
    """Walks through one shard as the index describes it."""

    def __init__(self, files: SetFiles, info: ShardInfo, is_foreign: bool) -> None:
        self._info = info
        self._files = files
        self._is_foreign = is_foreign
        self._position = 0
        self._data = np.zeros(0, np.uint8)
        self.problems: list[Problem] = []
        self.size = 0
        self.num_records = 0
        self.num_members = 0

    def run(self, entries: Iterator[IndexEntry] | None) -> Iterator[int]:
        """Checks the shard; yields the bytes done, record by record."""
        path = self._files.path(self._info.file, self._info.size)
        if not path.is_file():
            self._report("the file is missing")
            return
        self._data = _mapped(path)
        self.size = len(self._data)
        if entries is not None:
            for entry in entries:
                self._check_record(entry)
                self.num_records += 1
                yield min(self._position, self.size)
            if not self._is_foreign:
                self._check_end()
        self._check_whole()
        yield self.size

    def _check_record(self, entry: IndexEntry) -> None:
        if entry.json_size or not self._is_foreign:
            text = self._member(entry, json_member(entry.key), entry.json_offset, entry.json_size, entry.json_crc)
            if text is not None and not self._is_foreign:
                self._check_json(entry, text)
        for frame, number in enumerate(entry.frame_numbers.tolist()):
            offset, size = int(entry.image_offsets[frame]), int(entry.image_sizes[frame])
            name = image_member(entry.key, number, self._suffix(offset))
            image = self._member(entry, name, offset, size, int(entry.image_crcs[frame]))
            if image is not None:
                self._check_image(entry, name, offset, image)
            if entry.annotated[frame]:
                offset, size = int(entry.mask_offsets[frame]), int(entry.mask_sizes[frame])
                name = mask_member(entry.key, number)
                mask = self._member(entry, name, offset, size, int(entry.mask_crcs[frame]))
                if mask is not None:
                    self._check_mask(entry, frame, name, mask)
        for row, column in np.argwhere(entry.extra_sizes > 0).tolist():  # in order of name, then frame, as they lie
            name = extra_member(entry.key, int(entry.frame_numbers[column]), entry.extra_names[row])
            offset, size = int(entry.extra_offsets[row, column]), int(entry.extra_sizes[row, column])
            self._member(entry, name, offset, size, int(entry.extra_crcs[row, column]))

    def _member(self, entry: IndexEntry, name: str, offset: int, size: int, crc: int) -> NDArray[np.uint8] | None:
        """Checks header, data and padding of the member that comes next; its data when they are intact."""
        place = entry.key, name
        self.num_members += 1
        if not self._is_foreign and offset != self._position + BLOCK:
            self._report(f"the index says its data begins at {offset}", self._position, *place)
        self._position = end = offset + size + padding(size)
        if end > self.size:
            self._report(f"the file is cut off: it ends at byte {self.size}, this member at {end}", self.size, *place)
            return None
        if not self._is_foreign:  # headers of others are covered by the checksum of the whole shard alone
            self._compare(offset - BLOCK, tar_header(name, size), "tar header", *place)
        data = self._data[offset : offset + size]
        found = crc32c(data)
        if found != crc:
            self._report(f"CRC32C of its {size} bytes is {hex_crc(found)}, expected {hex_crc(crc)}", offset, *place)
        if not self._is_foreign:
            self._compare(offset + size, bytes(padding(size)), "padding", *place)
        return data if found == crc else None

    def _compare(self, start: int, expected: bytes, what: str, record: str | None, member: str | None) -> None:
        """Reports the first byte that is not as expected."""
        found = self._data[start : start + len(expected)]
        wrong = np.flatnonzero(found != np.frombuffer(expected, np.uint8)[: len(found)])
        if len(wrong):
            first = int(wrong[0])
            change = f"{what}: byte is {found[first]:#04x}, expected {expected[first]:#04x}"
            self._report(change, start + first, record, member)

    def _check_end(self) -> None:
        self._compare(self._position, END_OF_TAR, "end of the tar", None, None)
        end = self._position + len(END_OF_TAR)
        if self.size > end:
            self._report(f"{self.size - end} bytes follow the end of the tar", end)

    def _check_whole(self) -> None:
        if self.size != self._info.size:
            self._report(f"the file has {self.size} bytes, expected {self._info.size}", min(self.size, self._info.size))
            return
        found = hex_crc(crc32c(self._data))
        if found != self._info.crc32c:
            self._report(f"CRC32C of the file is {found}, expected {self._info.crc32c}")

    def _check_json(self, entry: IndexEntry, text: NDArray[np.uint8]) -> None:
        try:
            content = json.loads(text.tobytes())
        except (ValueError, RecursionError) as error:
            self._report(f"it is no JSON: {error}", entry.json_offset, entry.key, json_member(entry.key))
            return
        expected = {name: getattr(entry, name) for name in RECORD_KEYS}
        for name, value in expected.items():
            value = value.tolist() if isinstance(value, np.ndarray) else value
            found = content.get(name) if isinstance(content, dict) else None
            if found != value:
                what = f"{name} is {found!r}, the index has {value!r}"
                self._report(what, entry.json_offset, entry.key, json_member(entry.key))

    def _check_image(self, entry: IndexEntry, name: str, offset: int, image: NDArray[np.uint8]) -> None:
        try:
            size = image_size(image.data)
        except BadFileError as error:
            self._report(str(error), offset, entry.key, name)
            return
        if size != (entry.height, entry.width):
            what = f"it is {size[0]}x{size[1]}, the index has {entry.height}x{entry.width}"
            self._report(what, offset, entry.key, name)

    def _check_mask(self, entry: IndexEntry, frame: int, name: str, data: NDArray[np.uint8]) -> None:
        place = int(entry.mask_offsets[frame]), entry.key, name
        try:
            mask = decode_mask(data.data)
        except BadFileError as error:
            self._report(str(error), *place)
            return
        if mask.shape != (entry.height, entry.width):
            self._report(f"it is {mask.shape[0]}x{mask.shape[1]}, the index has {entry.height}x{entry.width}", *place)
            return
        stats, shown = object_stats(mask), entry.areas[frame] > 0
        if not np.array_equal(stats.ids, entry.object_ids[shown]):
            ids = entry.object_ids[shown].tolist()
            self._report(f"it shows the objects {stats.ids.tolist()}, the index has {ids}", *place)
        elif not (
            np.array_equal(stats.areas, entry.areas[frame][shown])
            and np.array_equal(stats.boxes, entry.boxes[frame][shown])
        ):
            self._report("areas or boxes of its objects differ from the index", *place)

    def _suffix(self, offset: int) -> str:
        try:
            return image_suffix(self._data[offset : offset + 8].data)
        except BadFileError:
            return "jpg"

    def _report(
        self, what: str, offset: int | None = None, record: str | None = None, member: str | None = None
    ) -> None:
        self.problems.append(Problem(self._info.file, what, offset, record, member))


def _mapped(path: Path) -> NDArray[np.uint8]:
    with pa.memory_map(str(path)) as mapped:
        return np.frombuffer(mapped.read_buffer(), np.uint8)
