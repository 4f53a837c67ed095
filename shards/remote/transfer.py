"""Remote bytes: exactly the ones asked for, after a bounded number of attempts, or an error that says what happened."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from shards.errors import ShardError
from shards.remote.location import file_url, shown

BLOCK_BYTES = 1 << 20
"""How much is taken from a connection at once."""

_PROGRESS_BYTES = 16 << 20
"""After so many bytes without a failure, attempts are counted from 1 again: a long transfer may fail now and then."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to keep trying."""

    attempts: int = 6
    """Attempts in a row for one piece of a file, 1 or more."""

    timeout_seconds: float = 30.0
    """Longest wait for a connection or for the next bytes of an answer."""

    first_delay_seconds: float = 0.25
    """Wait after the first failure; doubled after each further one."""

    longest_delay_seconds: float = 8.0
    """The doubling ends here; a server that asks for a longer wait gets this one."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.timeout_seconds <= 0 or self.first_delay_seconds < 0:
            raise ValueError(f"attempts and timeout must be positive and delays not negative, got {self}")

    def delay(self, failures: int, asked: float | None) -> float:
        """Seconds to wait after a number of failures in a row.

        Args:
            failures: 1 or more.
            asked: what the server asked for (``Retry-After``), or None.
        """
        own = self.first_delay_seconds * 2.0 ** min(failures - 1, 30)
        # Spread by process number, so that many trainers that failed together do not come back together.
        own *= 1 + (os.getpid() * 2654435761 % 1024) / 2048
        return min(max(own, asked or 0.0), self.longest_delay_seconds)


class BrokenTransferError(Exception):
    """A transfer failed in a way that may pass: worth another attempt."""

    def __init__(self, what: str, retry_after: float | None = None) -> None:
        super().__init__(what)
        self.retry_after = retry_after


class MissingFileError(ShardError):
    """The server answers, and says that it has no such file."""


class Part(Protocol):
    """The answer to one request for bytes of a file."""

    @property
    def start(self) -> int:
        """Offset of its first byte; 0 when the store sends whole files only."""

    @property
    def total(self) -> int | None:
        """Size of the whole file as the store states it."""

    @property
    def version(self) -> str | None:
        """Text that changes when the file does (ETag or time of change), None when the store has none."""

    def read(self, size: int) -> bytes:
        """Up to ``size`` further bytes; empty at the end. Raises :class:`BrokenTransferError`."""


class Store(Protocol):
    """A remote folder. Thread-safe."""

    @property
    def url(self) -> str:
        """The folder's URL as the user gave it."""

    def open(self, name: str, start: int, size: int | None) -> AbstractContextManager[Part]:
        """Asks for ``size`` bytes of a file from ``start`` on; for all that follow when ``size`` is None.

        Raises:
            BrokenTransferError: it failed in a way that may pass.
            MissingFileError: there is no such file.
            ShardError: it failed for good.
        """


Sink = Callable[[bytes], object]


class Transfers:
    """Reads files of one remote folder, with retries. Thread-safe.

    Args:
        store: where they lie.
        patience: how long to try.
    """

    def __init__(self, store: Store, patience: Patience) -> None:
        self.store = store
        self.patience = patience
        self._versions: dict[str, str | None] = {}

    def where(self, name: str) -> str:
        """URL of a file, for messages."""
        return shown(file_url(self.store.url, name))

    def small_file(self, name: str, max_bytes: int) -> bytes:
        """A whole file whose size is not known beforehand.

        Raises:
            MissingFileError: there is no such file.
            ShardError: it cannot be read, or is larger than ``max_bytes``.
        """
        failures = _Failures(self, name)
        while True:
            try:
                with self.store.open(name, 0, None) as part:
                    data = _read_all(part, max_bytes)
            except BrokenTransferError as error:
                failures.add(0, error)
                continue
            if len(data) > max_bytes:
                raise ShardError(f"{self.where(name)} is larger than {max_bytes} bytes; it is no file of a shard set")
            return data

    def span(self, name: str, start: int, size: int, total: int) -> bytes:
        """Bytes ``start`` to ``start + size`` of a file by ranged reads.

        Args:
            name: which file.
            start: first byte.
            size: how many bytes.
            total: size of the whole file as dataset.json has it.

        Raises:
            ShardError: they cannot be read; the file changed on the server; it answers with whole files only.
        """
        blocks: list[bytes] = []
        received = 0
        failures = _Failures(self, name)
        while received < size:
            try:
                with self.store.open(name, start + received, size - received) as part:
                    self._check_range(name, part, start + received, total)
                    for block in _blocks(part, size - received):
                        blocks.append(block)
                        received += len(block)
                        failures.progress(len(block))
            except BrokenTransferError as error:
                failures.add(start + received, error)
        return b"".join(blocks)

    def whole(self, name: str, total: int, sink: Sink, restart: Callable[[], object]) -> None:
        """Copies a whole file; what broke off is continued where the store allows it.

        The caller compares a checksum: only that shows whether pieces of several answers belong together.

        Args:
            name: which file.
            total: its size as dataset.json has it.
            sink: gets the bytes, block by block.
            restart: called when everything given to ``sink`` so far is void.

        Raises:
            ShardError: it cannot be read.
        """
        received = 0
        version: str | None = None
        failures = _Failures(self, name)
        while received < total:
            try:
                with self.store.open(name, received, total - received) as part:
                    changed = received > 0 and part.version != version
                    if part.start != received or changed:
                        restart()
                        received = 0
                    if changed and part.start > 0:
                        raise BrokenTransferError("the file changed on the server during the transfer")
                    version = part.version
                    _check_total(part, total)
                    for block in _blocks(part, total - received):
                        sink(block)
                        received += len(block)
                        failures.progress(len(block))
            except BrokenTransferError as error:
                failures.add(received, error)

    def _check_range(self, name: str, part: Part, start: int, total: int) -> None:
        if part.start != start:
            raise ShardError(
                f"{self.where(name)}: the server sends whole files only, though bytes from {start} were asked for; "
                'open the set with mode="cache"'
            )
        _check_total(part, total)
        known = self._versions.setdefault(name, part.version)
        if part.version != known:
            raise ShardError(
                f"{self.where(name)} changed on the server while it was in use (version {known} then, {part.version} "
                f"now, at byte {start}); open the shard set again"
            )


class _Failures:
    """Counts the failures of one read and waits between attempts; gives up after too many."""

    def __init__(self, transfers: Transfers, name: str) -> None:
        self._transfers = transfers
        self._name = name
        self._began = time.monotonic()
        self._in_a_row = 0
        self._bytes_since = 0

    def progress(self, num_bytes: int) -> None:
        """Notes that bytes came in."""
        self._bytes_since += num_bytes
        if self._bytes_since >= _PROGRESS_BYTES:
            self._in_a_row = 0

    def add(self, offset: int, error: BrokenTransferError) -> None:
        """Waits before the next attempt, or gives up.

        Raises:
            ShardError: that was the last attempt.
        """
        self._in_a_row += 1
        self._bytes_since = 0
        patience = self._transfers.patience
        if self._in_a_row >= patience.attempts:
            seconds = time.monotonic() - self._began
            raise ShardError(
                f"{self._transfers.where(self._name)} cannot be read at byte {offset}: given up after "
                f"{self._in_a_row} attempts in {seconds:.1f} s, the last one: {error}"
            ) from error
        time.sleep(patience.delay(self._in_a_row, error.retry_after))


def _check_total(part: Part, total: int) -> None:
    if part.total is not None and part.total != total:
        raise BrokenTransferError(f"the file has {part.total} bytes there, dataset.json says {total}")


def _read_all(part: Part, max_bytes: int) -> bytes:
    blocks: list[bytes] = []
    received = 0
    while received <= max_bytes and (block := part.read(BLOCK_BYTES)):
        blocks.append(block)
        received += len(block)
    if part.total is not None and received < min(part.total, max_bytes):
        raise BrokenTransferError(f"the answer ended after {received} of {part.total} bytes")
    return b"".join(blocks)


def _blocks(part: Part, size: int) -> Iterator[bytes]:
    """Yields exactly ``size`` bytes of an answer."""
    received = 0
    while received < size:
        block = part.read(min(BLOCK_BYTES, size - received))
        if not block:
            raise BrokenTransferError(f"the answer ended after {received} of {size} bytes")
        received += len(block)
        yield block
