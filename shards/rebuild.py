"""Makes index.arrow and dataset.json anew from the tars of a set: vosdata's own, or those that others made.

Nothing is extracted and no tar is changed. Of a set that vosdata wrote, the index comes out byte for byte as it was;
everything the format promises is checked on the way. Tars that others made for webdataset are taken as they are where
their members can be told apart (:mod:`shards.layout`).
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from shards.atomic import atomic_file, write_atomically
from shards.codec import crc32c
from shards.errors import ConflictError, DamageError, DatasetError, ShardError
from shards.finish import index_info
from shards.format import (
    DATASET_FILE,
    FOREIGN_LAYOUT,
    FORMAT_VERSION,
    INDEX_FILE,
    WORKSPACE,
    check_set_name,
    shard_name,
)
from shards.index import IndexEntry, entries_to_batch, write_index
from shards.indexing import MaskCensus, RecordIndexer
from shards.layout import Layout, Recognised, recognise_records
from shards.local_shards import map_file
from shards.manifest import SHARD_FILE, ShardInfo, hex_crc, read_manifest, seal
from shards.plan import Progress
from shards.tar import scan_tar
from shards.workspace import Workspace, locked

_NUMBERED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*)-(?P<number>\d{6,})\.tar")


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What :func:`rebuild` found and wrote."""

    folder: Path
    """The shard set."""

    recognised: str
    """What was recognised, in words."""

    is_foreign: bool
    """Whether others made the tars."""

    num_shards: int
    """Tars."""

    num_records: int
    """Records."""

    num_frames: int
    """Frames."""

    num_annotated_frames: int
    """Frames with a mask."""

    num_bytes: int
    """Bytes of the tars."""

    changed: tuple[str, ...]
    """Names of the files that are not as they were before."""

    notes: tuple[str, ...]
    """What the user should know."""


def rebuild(
    folder: str | Path, name: str | None = None, split: str | None = None, progress: Progress | None = None
) -> RebuildReport:
    """Makes the index and dataset.json of a folder of tars.

    What an intact dataset.json says about the set besides its shards (title, split, licence, how it was made) is kept.

    Args:
        folder: holds the tars, and nothing of a set that is still being made.
        name: of the set; None takes it from dataset.json, from the tars' names or from the folder's.
        split: of the set; None takes it from dataset.json, else ``train``.
        progress: called with bytes done and bytes in all.

    Raises:
        ConflictError: the set is still being made, or another process works on it.
        DamageError: a tar is damaged, or not the one that an intact dataset.json knows.
        DatasetError: a tar is hostile, or its members are not recognised.
        ShardError: there is no tar.
        ValueError: the name is out of range.
    """
    folder = Path(folder)
    tars = _tars(folder)
    if (folder / WORKSPACE / "plan.json").exists():
        raise ConflictError(f"{folder} is still being made; run the command that makes it again, it goes on")
    with locked(folder):
        try:
            return _Rebuild(folder, tars, name, split, progress).run()
        finally:
            Workspace(folder, "", "").remove()


class _Rebuild:
    """One run."""

    def __init__(
        self, folder: Path, tars: list[Path], name: str | None, split: str | None, progress: Progress | None
    ) -> None:
        self._folder = folder
        self._old, self._notes = _old_manifest(folder)
        self._files = _numbered(folder, tars)
        self._name = check_set_name(name or (self._old or {}).get("name") or _set_name(folder, self._files))
        self._split = split or (self._old or {}).get("split") or "train"
        self._progress = progress
        self._total = sum(path.stat().st_size for path in tars)
        self._recognised = Recognised()
        self._census = MaskCensus()
        self._infos: list[ShardInfo] = []
        self._licences: Counter[str] = Counter()
        self._sizes: set[tuple[int, int]] = set()
        self._is_foreign = not _is_own(folder, self._files)
        self._prefix_keys = False
        known = [] if self._old is None else self._old["shards"]
        self._vouched = {info["file"] for info in known}
        self._num_sealed = self._num_unsealed = 0

    def run(self) -> RebuildReport:
        self._survey()
        before = {name: _content_digest(self._folder / name) for name in (INDEX_FILE, DATASET_FILE)}
        with atomic_file(self._folder / INDEX_FILE, self._folder / WORKSPACE) as file:
            write_index(file, self._batches())
            self._census.check(self._folder)
            self._check_against_old()
            self._note_unseen()
            file.flush()
            manifest = self._manifest(index_info(Path(file.name)))
            if before[DATASET_FILE] is not None and seal(manifest) != (self._folder / DATASET_FILE).read_bytes():
                (self._folder / DATASET_FILE).unlink()  # its presence would say that it fits the new index
        write_atomically(self._folder / DATASET_FILE, seal(manifest))
        changed = tuple(name for name, digest in before.items() if _content_digest(self._folder / name) != digest)
        return RebuildReport(
            folder=self._folder,
            recognised=str(self._recognised),
            is_foreign=self._is_foreign,
            num_shards=len(self._infos),
            num_records=self._recognised.num_records,
            num_frames=self._recognised.num_frames,
            num_annotated_frames=self._recognised.num_masks,
            num_bytes=self._total,
            changed=changed,
            notes=tuple(self._notes),
        )

    def _survey(self) -> None:
        """Looks at all headers first, so that nothing is begun that cannot be finished."""
        keys: Counter[str] = Counter()
        for path in self._files.values():
            data = map_file(path)
            for layout in recognise_records(scan_tar(data, str(path)), str(path)):
                self._recognised.add(layout)
                keys[layout.key] += 1
        if not keys:
            raise DatasetError(f"{self._folder}: the tars are empty, such as {next(iter(self._files.values())).name}")
        twice = sum(count > 1 for count in keys.values())
        if not twice:
            return
        if not self._is_foreign:
            key = next(key for key, count in keys.items() if count > 1)
            raise DatasetError(f"{self._folder}: {twice} keys are used by more than one record, the first is {key}")
        self._prefix_keys = True
        self._notes.append(f"{twice} keys occur in several tars; the tar's name is put before every key")

    def _batches(self) -> Iterator[pa.RecordBatch]:
        done = 0
        for shard, path in self._files.items():
            data = map_file(path)
            entries: list[IndexEntry] = []
            indexer = RecordIndexer(data, shard, str(path), self._is_foreign, self._census)
            for layout in recognise_records(scan_tar(data, str(path)), str(path)):
                entries.append(self._entry(indexer, layout, path))
                if self._progress is not None:
                    self._progress(done + layout.members[-1].offset, self._total)
            indexer.finish()
            if path.name not in self._vouched:
                self._num_sealed += indexer.num_sealed
                self._num_unsealed += indexer.num_unsealed
            done += len(data)
            self._infos.append(ShardInfo(shard, path.name, len(entries), len(data), hex_crc(crc32c(data))))
            yield entries_to_batch(entries)
        if self._progress is not None:
            self._progress(self._total, self._total)

    def _entry(self, indexer: RecordIndexer, layout: Layout, path: Path) -> IndexEntry:
        entry = indexer.entry(layout)
        self._licences[entry.licence] += 1
        self._sizes.add((entry.height, entry.width))
        if not self._prefix_keys:
            return entry
        key = f"{path.stem}/{entry.key}"
        return replace(entry, key=key, sequence=key if entry.sequence == entry.key else entry.sequence)

    def _check_against_old(self) -> None:
        """Refuses to put a seal on shards that are not those that were written, and says which of them are gone."""
        old = [] if self._old is None else self._old["shards"]
        known = {info["file"]: (info["size"], info["crc32c"]) for info in old}
        for info in self._infos:
            if info.file in known and known[info.file] != (info.size, info.crc32c):
                size, crc = known[info.file]
                raise DamageError(
                    f"{self._folder / info.file} has {info.size} bytes with CRC32C {info.crc32c}; {DATASET_FILE} knows "
                    f"{size} bytes with {crc}: the tar is damaged or another one. Copy it again, or delete "
                    f"{DATASET_FILE} to index what is there"
                )
        if gone := sorted(known.keys() - {info.file for info in self._infos}):
            records = sum(info["num_records"] for info in old if info["file"] in gone)
            self._notes.append(f"{len(gone)} shards are gone, the first is {gone[0]}; the set lost {records} records")

    def _note_unseen(self) -> None:
        """Says how far tars can be trusted whose checksums nobody kept."""
        num_tars = sum(info.file not in self._vouched for info in self._infos)
        if num_tars:
            self._notes.append(
                f"no {DATASET_FILE} vouches for {num_tars} of the tars: the headers in them are right, and the "
                f"checksums that {self._num_sealed} PNG files carry; damage inside the {self._num_unsealed} other "
                "files (JPEG, JSON) may go unseen"
            )

    def _manifest(self, index: dict[str, Any]) -> dict[str, Any]:
        shards = [asdict(info) for info in self._infos]
        counts = {
            "num_records": self._recognised.num_records,
            "num_frames": self._recognised.num_frames,
            "num_annotated_frames": self._recognised.num_masks,
            "index": index,
            "shards": shards,
        }
        named = {"name": self._name, "split": self._split}
        if self._old is not None and self._old["shards"] == shards:
            content = {key: value for key, value in self._old.items() if key != "checksum"}
            return {**content, **named, **counts}
        fingerprint = hashlib.sha256("".join(info.crc32c for info in self._infos).encode()).hexdigest()
        fresh = {
            "format_version": FORMAT_VERSION,
            "title": self._name,
            "licence": next(iter(self._licences)) if len(self._licences) == 1 else "",
            "frame_size": list(next(iter(self._sizes))) if len(self._sizes) == 1 else None,
            "frame_rate": None,
            "source_fingerprint": fingerprint,
            "configuration": {"indexed": FOREIGN_LAYOUT if self._is_foreign else "vosdata", "shards": len(shards)},
            "skipped": [],
        }
        kept = {} if self._old is None else {key: self._old[key] for key in ("title", "frame_rate", "licence")}
        layout = {"layout": FOREIGN_LAYOUT} if self._is_foreign else {}
        return {**fresh, **kept, **named, **counts, **layout}


def _tars(folder: Path) -> list[Path]:
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise ShardError(f"{folder} {found}; expected a folder of tars")
    tars = sorted(path for path in folder.glob("*.tar") if path.is_file())
    if not tars:
        packed = next(iter(sorted(folder.glob("*.tar.*")) + sorted(folder.glob("*.tgz"))), None)
        hint = f"; unpack {packed.name} to a plain tar, whose members can be reached" if packed else ""
        raise ShardError(f"{folder} holds no .tar file{hint}")
    odd = next((path for path in tars if not SHARD_FILE.fullmatch(path.name)), None)
    if odd is not None:
        raise DatasetError(f"{odd}: the names of shards are letters, digits, dot, - and _ (ASCII); rename it")
    return tars


def _old_manifest(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """dataset.json when it is there and intact, and what to say about it otherwise."""
    if not (folder / DATASET_FILE).exists():
        return None, []
    try:
        return read_manifest(folder), []
    except DamageError:
        return None, [f"{DATASET_FILE} was damaged; title, split and configuration in it are lost"]


def _numbered(folder: Path, tars: list[Path]) -> dict[int, Path]:
    """Number of each shard: that in its name where all names agree, else its place."""
    found = [_NUMBERED.fullmatch(path.name) for path in tars]
    numbers = [int(match["number"]) for match in found if match]
    if len({match["name"] if match else None for match in found}) == 1 and len(set(numbers)) == len(tars):
        return dict(sorted(zip(numbers, tars, strict=True)))
    return dict(enumerate(tars))


def _set_name(folder: Path, files: dict[int, Path]) -> str:
    names = {match["name"] if (match := _NUMBERED.fullmatch(path.name)) else "" for path in files.values()}
    if len(names) == 1 and "" not in names:
        return names.pop()
    return re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-_") or "shards"


def _is_own(folder: Path, files: dict[int, Path]) -> bool:
    """Whether vosdata wrote the set: by the names of its tars and the first record."""
    number, first = next(iter(files.items()))
    match = _NUMBERED.fullmatch(first.name)
    if match is None or first.name != shard_name(match["name"], number):
        return False
    data = map_file(first)
    for layout in recognise_records(scan_tar(data, str(first)), str(first)):
        return RecordIndexer(data, number, str(first), False, MaskCensus()).looks_own(layout)
    return False


def _content_digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
