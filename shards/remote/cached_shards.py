"""Shards of a remote set that are fetched whole into a cache on the local disk before they are read."""

import threading
import time
from collections.abc import Sequence

from shards.access import Span
from shards.index import IndexEntry
from shards.manifest import ShardInfo
from shards.remote.cache import Cached, FileCache, Wanted
from shards.remote.prefetch import Prefetcher

_TOUCH_SECONDS = 5.0
"""A cached shard that is read is marked as used this often."""

_DOWNLOADS = 3
"""Shards fetched ahead at once."""


class _Shelf:
    """Cached shards that this process has mapped."""

    def __init__(self, cache: FileCache) -> None:
        self.cache = cache
        self.mapped: dict[int, Cached] = {}

    def fetch(self, info: ShardInfo) -> Cached:
        """Maps a shard, fetching it first if need be."""
        known = self.mapped.get(info.shard)
        if known is not None:
            return known
        cached = self.cache.fetch(Wanted(info.file, info.size, info.crc32c))
        # Views that somebody holds stay valid; here evicted shards are let go, because they take room as long as they
        # are mapped.
        for shard, other in list(self.mapped.items()):
            if not other.is_current:
                self.mapped.pop(shard, None)
        self.mapped[info.shard] = cached
        return cached


class CachedShards:
    """See :class:`shards.access.Shards`.

    Args:
        cache: the set's part of the cache.
        max_bytes: limit of the cache; at most half of it is fetched ahead.
    """

    fetches_whole_shards = True
    num_ahead = 8
    num_attempts = 2

    def __init__(self, cache: FileCache, max_bytes: int) -> None:
        self._shelf = _Shelf(cache)
        self._max_ahead = max_bytes // 2
        self._lock = threading.Lock()
        self._ahead: dict[int, int] = {}  # sizes of the shards that were asked for and not read yet
        self._full = False
        self._touched: dict[int, float] = {}
        self._prefetcher = Prefetcher(self._shelf.fetch, _DOWNLOADS)

    def view(self, info: ShardInfo, entry: IndexEntry, offset: int, size: int) -> memoryview:
        """Bytes of a shard, which is fetched first if need be."""
        cached = self._shelf.mapped.get(info.shard)
        if cached is None:
            self._note_miss(info)
            cached = self._shelf.fetch(info)
        if self._ahead:
            self._ahead.pop(info.shard, None)
        now = time.monotonic()
        if now - self._touched.get(info.shard, 0.0) > _TOUCH_SECONDS:
            self._touched[info.shard] = now
            self._shelf.cache.touch(info.file)
        return cached.data[offset : offset + size]

    def read_ahead(self, spans: Sequence[Span]) -> None:
        """Fetches the spans' shards, as long as what was fetched ahead and not read yet takes half of the cache."""
        for span in spans:
            info = span.info
            if info.shard in self._shelf.mapped or info.shard in self._ahead:
                continue
            with self._lock:
                self._full = bool(self._ahead) and sum(self._ahead.values()) + info.size > self._max_ahead
                if not self._full:
                    self._ahead[info.shard] = info.size
                    self._prefetcher.add(info)

    def _note_miss(self, info: ShardInfo) -> None:
        """Frees the way for new shards when those that were asked for are not the ones that are read."""
        with self._lock:
            if self._full and info.shard not in self._ahead:
                self._ahead.clear()
                self._full = False

    def discard(self, info: ShardInfo, offset: int) -> None:
        """Removes a shard from the cache."""
        self._shelf.mapped.pop(info.shard, None)
        self._shelf.cache.discard(info.file)
