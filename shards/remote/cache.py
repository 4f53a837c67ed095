"""Files of remote shard sets on the local disk: shared by processes, limited in size, least recently used go first.

    <cache>/lock                            held while somebody makes room or adds a file
    <cache>/<set>-<digest>/dataset.json     the digest is that of the URL and of this very file, so that a set that
    <cache>/<set>-<digest>/index.arrow      changes on its server gets a folder of its own
    <cache>/<set>-<digest>/<set>-000000.tar

A file appears under its name only when it is complete, has the checksum that dataset.json states, and is on disk.
While it comes in, it is ``<name>.part``, locked by the process that fetches it: others wait for it instead of fetching
it, too, and a lock dies with its process. Its full size counts from the start, so that the limit holds. An evicted file
stays valid for whoever has mapped it.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shards.codec import crc32c
from shards.errors import DamageError, ShardError
from shards.format import INDEX_FILE
from shards.local_shards import map_file
from shards.manifest import hex_crc
from shards.remote.transfer import Transfers

_LOCK_FILE = "lock"
_PART = ".part"
_POLL_SECONDS = 0.02
_WAIT_SECONDS = 600.0
"""How long to wait for other processes, which are bounded themselves unless somebody has stopped them."""

_WHOLE_ATTEMPTS = 3
"""How often a file is fetched whole when its checksum is wrong."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file as dataset.json states it."""

    file: str
    """File name."""

    size: int
    """Bytes."""

    crc32c: str
    """CRC32C of the whole file, 8 hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class Cached:
    """A file that is there."""

    path: Path
    """Where; it may be evicted at any moment."""

    data: memoryview
    """Its bytes, mapped: valid as long as this is kept."""

    inode: int
    """Tells this file from one that was fetched again after an eviction."""

    @property
    def is_current(self) -> bool:
        """Whether the file is still in the cache."""
        try:
            return self.path.stat().st_ino == self.inode
        except FileNotFoundError:
            return False


class FileCache:
    """The cached files of one remote set. Thread-safe, and safe among processes.

    Args:
        root: folder of the whole cache; made when it is not there.
        folder: name of the set's folder in it.
        max_bytes: limit of the whole cache; a process evicts by its own limit.
        transfers: where files come from.
    """

    def __init__(self, root: Path, folder: str, max_bytes: int, transfers: Transfers) -> None:
        self.path = root / folder
        self._root = root
        self._max_bytes = max_bytes
        self._transfers = transfers

    def fetch(self, wanted: Wanted) -> Cached:
        """The file, fetched if it is not there.

        Raises:
            DamageError: its bytes are wrong however often they are fetched.
            ShardError: it cannot be fetched, or the cache cannot be written.
        """
        try:
            return self._fetch(wanted)
        except OSError as error:
            raise ShardError(f"cannot keep {wanted.file} in the cache {self.path}: {error}") from error

    def touch(self, file: str) -> None:
        """Notes that a file is in use, so that others are evicted first."""
        try:
            os.utime(self.path / file)
        except OSError:
            return  # evicted, or not ours to touch: only the order of eviction depends on it

    def discard(self, file: str) -> None:
        """Removes a file whose bytes turned out to be wrong."""
        (self.path / file).unlink(missing_ok=True)

    def _fetch(self, wanted: Wanted) -> Cached:
        deadline = time.monotonic() + _WAIT_SECONDS
        path = self.path / wanted.file
        while time.monotonic() < deadline:
            found = self._existing(path, wanted.size)
            if found is not None:
                return found
            self.path.mkdir(parents=True, exist_ok=True)
            incoming = path.with_name(path.name + _PART)
            with _claimed(incoming) as part:
                if part is not None and not path.exists():
                    self._make_room(part, wanted.size, deadline)
                    return self._fill(part, path, wanted)
                if part is not None:  # another process has finished since we looked
                    incoming.unlink(missing_ok=True)
            time.sleep(_POLL_SECONDS)
        raise ShardError(f"{path}: another process has been fetching it for {_WAIT_SECONDS:.0f} s; is it stopped?")

    def _existing(self, path: Path, size: int) -> Cached | None:
        try:
            if path.stat().st_size != size:  # cut off by a crash of the machine, or by hand
                path.unlink()
                return None
            found = _mapped(path)
        except FileNotFoundError:
            return None
        self.touch(path.name)
        return found

    def _fill(self, part: int, path: Path, wanted: Wanted) -> Cached:
        """Fetches a file into its claimed ``.part`` and gives it its name."""
        incoming = path.with_name(path.name + _PART)
        try:
            for _ in range(_WHOLE_ATTEMPTS):
                found = hex_crc(self._copy(part, wanted))
                if found == wanted.crc32c:
                    os.fsync(part)
                    cached = _mapped(incoming)  # before it gets its name: from then on it may be evicted
                    with _alone(self._root):  # whoever lists the files sees one name, not both and not none
                        incoming.rename(path)
                    return Cached(path, cached.data, cached.inode)
        except BaseException:
            incoming.unlink(missing_ok=True)
            raise
        incoming.unlink(missing_ok=True)
        raise DamageError(
            f"{self._transfers.where(wanted.file)} is damaged: expected CRC32C {wanted.crc32c} over {wanted.size} "
            f"bytes from byte 0, found {found} at the last of {_WHOLE_ATTEMPTS} attempts; if the shard set was "
            "replaced on the server, open it again"
        )

    def _copy(self, part: int, wanted: Wanted) -> int:
        """Copies a file over the network; returns the CRC32C of what came."""
        state = _Incoming(part)
        self._transfers.whole(wanted.file, wanted.size, state.add, state.restart)
        return state.crc

    def _make_room(self, part: int, size: int, deadline: float) -> None:
        """Evicts until ``size`` more bytes fit, and takes them."""
        if size > self._max_bytes:
            raise ShardError(
                f"{self._root}: the cache is limited to {self._max_bytes} bytes, a file of {size} bytes does not fit; "
                'allow more, or open the set with mode="range"'
            )
        self.touch(INDEX_FILE)
        while not self._reserve(part, size):
            if time.monotonic() > deadline:
                raise ShardError(f"{self._root}: other processes keep more than {self._max_bytes} bytes in transfer")
            time.sleep(_POLL_SECONDS)

    def _reserve(self, part: int, size: int) -> bool:
        with _alone(self._root):
            held = sorted(_files(self._root), key=lambda file: file.used)
            excess = sum(file.size for file in held) + size - self._max_bytes
            for file in held:
                if excess <= 0:
                    break
                if _removed(file.path):
                    excess -= file.size
            if excess <= 0:
                os.ftruncate(part, size)
            return excess <= 0


class _Incoming:
    """What has been written of a file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        self.crc = 0

    def add(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            written = os.pwrite(self._descriptor, view, self._position)
            self._position += written
            view = view[written:]
        self.crc = crc32c(block, self.crc)

    def restart(self) -> None:
        self._position = self.crc = 0


@dataclass(frozen=True, slots=True)
class _Held:
    """A file of the cache."""

    path: Path
    size: int
    used: int


def _files(root: Path) -> Iterator[_Held]:
    """Everything in the cache that takes room."""
    for path in root.glob("*/*"):
        if path.suffix not in (".tar", ".arrow", _PART):
            continue
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        yield _Held(path, status.st_size, status.st_mtime_ns)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keeps other processes and threads from making room or adding files meanwhile."""
    descriptor = os.open(root / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _claimed(part: Path) -> Iterator[int | None]:
    """Creates and locks a ``.part`` for the time of the block; None when another process has it, or just had."""
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError:  # the folder vanished
        yield None
        return
    try:
        yield descriptor if _locked(descriptor) and _is_same(part, descriptor) else None
    finally:
        os.close(descriptor)


def _removed(path: Path) -> bool:
    """Removes a file, unless it is a ``.part`` that somebody works on."""
    if path.suffix != _PART:
        path.unlink(missing_ok=True)
        return True
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False  # given up or finished in this very moment: look again
    try:
        abandoned = _locked(descriptor) and _is_same(path, descriptor)
        if abandoned:
            path.unlink()  # while it is locked, so that nobody claims it meanwhile
        return abandoned
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same(path: Path, descriptor: int) -> bool:
    """Whether a path still names the open file: it may have been renamed or removed meanwhile."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _mapped(path: Path) -> Cached:
    return Cached(path, map_file(path), path.stat().st_ino)
