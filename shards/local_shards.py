"""Shards in a local folder, mapped on first use."""

import ctypes
import mmap
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shards.access import Span
from shards.errors import DamageError
from shards.index import IndexEntry
from shards.manifest import ShardInfo


class LocalShards:
    """See :class:`shards.access.Shards`. Keeps no file descriptor open.

    Args:
        folder: the shard set.
    """

    fetches_whole_shards = False
    num_ahead = 8
    num_attempts = 1

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._maps: dict[int, memoryview] = {}

    def view(self, info: ShardInfo, entry: IndexEntry, offset: int, size: int) -> memoryview:
        """Bytes of a shard."""
        return self._mapped(info)[offset : offset + size]

    def _mapped(self, info: ShardInfo) -> memoryview:
        """All of a shard."""
        data = self._maps.get(info.shard)
        if data is None:
            with self._lock:
                data = self._maps.get(info.shard)
                if data is None:
                    data = self._maps[info.shard] = _map(self._folder / info.file, info)
        return data

    def read_ahead(self, spans: Sequence[Span]) -> None:
        """Asks the operating system to read ahead, where it can be asked."""
        for span in spans:
            try:
                data = self._mapped(span.info)
            except DamageError:
                continue  # raised when it is read
            advise_reading(data, span.start, span.end)

    def discard(self, info: ShardInfo, offset: int) -> None:
        """Nothing to do: the folder has no other bytes."""


def _map(path: Path, info: ShardInfo) -> memoryview:
    """Maps a shard."""
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise DamageError(f"{path} is missing; copy or make the shard set again") from error
    if size != info.size:
        raise DamageError(f"{path} has {size} bytes, expected {info.size}; it is cut off or overwritten, copy it again")
    return map_file(path)


def map_file(path: Path) -> memoryview:
    """Maps a file for reading. The descriptor is closed at once, the mapping lives as long as a view on it."""
    with pa.memory_map(str(path)) as mapped:
        # Arrow calls its bytes signed, and simplejpeg then refuses them: every picture would take the slow way
        return memoryview(mapped.read_buffer()).cast("B")


def advise_reading(data: memoryview, start: int, end: int) -> None:
    """Begins to read bytes of a mapped file that will soon be needed; returns at once.

    One call to the system, during which the interpreter lock is kept: it only starts the reading, and to give the lock
    away for some microseconds costs decode threads, which then wait for each other, many times as much. Python's own
    ways take an open file: a call to open, one to advise and one to close, each of which gives the lock away.
    """
    madvise = _madvise()
    if madvise is not None:
        first = start // mmap.PAGESIZE * mmap.PAGESIZE  # advice is for whole pages; a mapping starts with one
        address = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
        madvise(address + first, end - first, mmap.MADV_WILLNEED)


@lru_cache(maxsize=1)
def _madvise() -> Callable[[int, int, int], Any] | None:
    """The C library's ``madvise``; None where there is none."""
    if not hasattr(mmap, "MADV_WILLNEED"):
        return None
    function = ctypes.PyDLL(None).madvise  # unlike CDLL, keeps the lock
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function
