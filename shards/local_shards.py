"""Shards in a local folder, mapped on first use."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

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
        data = self._maps.get(info.shard)
        if data is None:
            with self._lock:
                data = self._maps.get(info.shard)
                if data is None:
                    data = self._maps[info.shard] = _map(self._folder / info.file, info)
        return data[offset : offset + size]

    def read_ahead(self, spans: Sequence[Span]) -> None:
        """Asks the operating system to read ahead, where it can be asked."""
        for span in spans if hasattr(os, "posix_fadvise") else ():
            try:
                descriptor = os.open(self._folder / span.info.file, os.O_RDONLY)
            except OSError:
                continue
            try:
                os.posix_fadvise(descriptor, span.start, span.size, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)

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
