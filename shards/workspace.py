"""The hidden folder of a shard set that is being built: lock, configuration, progress and one fragment per done shard.

``.building/`` lies inside the shard set's folder and is gone when the set is complete. Whatever is in it can be lost at
any moment without harm: a shard whose fragment is missing is made again.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shards.atomic import atomic_file, naming, sync_folder, write_atomically
from shards.errors import ConflictError
from shards.format import WORKSPACE, shard_path
from shards.index import SCHEMA, IndexEntry, entries_to_batch
from shards.manifest import ShardInfo, canonical_text
from shards.plan import Skipped

_PLAN_FILE = "plan.json"
_LOCK_FILE = "lock"
_RETRY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Fragment:
    """What is left of making one shard: its row of dataset.json, what was skipped, its rows of the index."""

    info: ShardInfo
    skipped: tuple[Skipped, ...]
    rows: pa.RecordBatch


class Workspace:
    """The ``.building`` folder of one shard set.

    Args:
        folder: the shard set's folder.
        name: name of the set.
        digest: digest of its configuration; fragments made under another one do not count.
        board: file name of the progress board; two that write at once must not share one.
    """

    def __init__(self, folder: Path, name: str, digest: str, board: str = "progress") -> None:
        self.folder = folder
        self.name = name
        self.digest = digest
        self.board = board
        self.path = folder / WORKSPACE

    def write_fragment(self, info: ShardInfo, skipped: list[Skipped], entries: list[IndexEntry]) -> None:
        """Records that a shard is done. Its tar must be on disk already."""
        note = {"digest": self.digest, "info": asdict(info), "skipped": [asdict(item) for item in skipped]}
        schema = SCHEMA.with_metadata({"shard": json.dumps(note)})
        with atomic_file(self._fragment_path(info.shard)) as file, pa.ipc.new_file(file, schema) as writer:
            writer.write_batch(entries_to_batch(entries).replace_schema_metadata(schema.metadata))

    def read_fragment(self, shard: int) -> Fragment | None:
        """The fragment of a shard; None when the shard is not done, or not as this configuration would make it."""
        try:
            with pa.memory_map(str(self._fragment_path(shard))) as mapped:
                reader = pa.ipc.open_file(pa.BufferReader(mapped.read_buffer()))
            note = json.loads(reader.schema.metadata[b"shard"])
            rows = reader.get_batch(0).replace_schema_metadata(None)
            info = ShardInfo(**note["info"])
            if note["digest"] != self.digest or (info.num_records and self._tar_size(shard) != info.size):
                return None
            return Fragment(info, tuple(Skipped(**item) for item in note["skipped"]), rows)
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
            return None

    def _tar_size(self, shard: int) -> int:
        return shard_path(self.folder, self.name, shard).stat().st_size

    def _fragment_path(self, shard: int) -> Path:
        return self.path / f"{shard:06d}.arrow"

    def progress(self, num_shards: int) -> "ProgressBoard":
        """The board that workers write their progress on."""
        return ProgressBoard(self.path / self.board, num_shards)

    def stored_configuration(self) -> dict[str, Any] | None:
        """The configuration that an earlier run began with; None when there was none."""
        try:
            stored = json.loads((self.path / _PLAN_FILE).read_bytes())
        except FileNotFoundError:
            return None
        return stored if isinstance(stored, dict) else None

    def store_configuration(self, configuration: dict[str, Any]) -> None:
        """Claims the folder for a configuration."""
        write_atomically(self.path / _PLAN_FILE, canonical_text(configuration))

    def is_untouched(self) -> bool:
        """Whether no shard has been made: a run that failed at once claims the folder for nobody."""
        return not any(self.path.glob("*.arrow")) and not any(self.folder.glob("*.tar"))

    def remove(self) -> None:
        """Removes the workspace and what a crash left in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        sync_folder(self.folder)


class FolderBusyError(ConflictError):
    """Another process is writing into the folder."""


@contextmanager
def locked(folder: Path, shared: bool = False, patience_seconds: float = 0.0) -> Iterator[None]:
    """Holds a shard set's folder; the lock dies with the process.

    Between machines the lock holds where the file system carries ``flock`` across them, as NFS 4, CephFS and Lustre
    mounted with ``-o flock`` do.

    Args:
        folder: the shard set's folder.
        shared: held together with others that share it, instead of alone.
        patience_seconds: how long to wait for those that hold it.

    Raises:
        FolderBusyError: another process is writing into the folder.
    """
    until = time.monotonic() + patience_seconds
    while (descriptor := _lock(folder / WORKSPACE / _LOCK_FILE, shared)) is None:
        if time.monotonic() >= until:
            raise FolderBusyError(f"{folder} is being written by another process; wait for it or choose another folder")
        time.sleep(_RETRY_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, shared: bool) -> int | None:
    """Locks a file and returns its descriptor; None when another process holds it."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        path.parent.mkdir(exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # the holder finished and removed the workspace in this very moment
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        try:
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # a lock on a file that the holder has removed guards nothing


class ProgressBoard:
    """Records done per shard, in a small mapped file that all workers share; slot 0 asks them to stop.

    A file rather than a counter in shared memory: it needs no inheritance, leaves nothing behind, and a shard that is
    made again simply starts its own count again.
    """

    def __init__(self, path: Path, num_shards: int) -> None:
        size = 8 * (num_shards + 1)
        if not path.exists() or path.stat().st_size != size:
            with naming(path):
                path.write_bytes(bytes(size))
        self._slots = np.memmap(path, np.int64, "r+")

    def clear(self) -> None:
        """Forgets everything, at the start of a run."""
        self._slots[:] = 0

    def put(self, shard: int, count: int) -> None:
        """Says how many records of a shard are done."""
        self._slots[shard + 1] = count

    def total(self) -> int:
        """Records done over all shards."""
        return int(self._slots[1:].sum())

    def ask_to_stop(self) -> None:
        """Asks all workers to stop after the record that they are at."""
        self._slots[0] = 1

    def allow(self) -> None:
        """Takes the request to stop back."""
        self._slots[0] = 0

    @property
    def must_stop(self) -> bool:
        """Whether workers were asked to stop."""
        return bool(self._slots[0])
