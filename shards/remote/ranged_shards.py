"""Shards of a remote set of which only what is needed is read, into memory; nothing is kept on disk."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from shards.access import Span
from shards.errors import ShardError
from shards.format import BLOCK
from shards.index import IndexEntry
from shards.manifest import ShardInfo
from shards.remote.prefetch import Prefetcher
from shards.remote.transfer import Transfers

_RANGED_READS = 16
"""Ranges read ahead at once: enough to hide 20 ms of latency from two decode threads."""

_READ_AHEAD_BYTES = 64 << 20
"""Most bytes that are kept in memory; as much again may be waiting to be read."""


@dataclass(slots=True, eq=False)
class _Reading:
    """A span of a shard that is in memory, on its way, or only asked for."""

    span: Span
    data: Future[bytes] = field(default_factory=Future)
    claimed: bool = False


class _ReadAhead:
    """Spans in memory, the least recently used go first."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers
        self._lock = threading.Lock()
        self._readings: OrderedDict[tuple[int, int, int], _Reading] = OrderedDict()
        self._num_bytes = 0

    def bytes_of(self, wanted: Span, wider: Span) -> memoryview:
        """Bytes of a span, out of memory or by reading the wider one that contains it."""
        with self._lock:
            reading = self._covering(wanted) or self._add(wider)
            self._readings.move_to_end(_key(reading.span))
        self.fetch(reading)
        data = reading.data.result()  # waits when another thread is at it; raises its error
        return memoryview(data)[wanted.start - reading.span.start : wanted.end - reading.span.start]

    def add(self, span: Span) -> _Reading | None:
        """Notes a span to read; None when it is known already, or when too much is waiting to be read."""
        with self._lock:
            if self._covering(span) is not None or self._num_bytes + span.size > 2 * _READ_AHEAD_BYTES:
                return None
            return self._add(span)

    def fetch(self, reading: _Reading) -> None:
        """Reads a span, unless it is read already or another thread is at it."""
        with self._lock:
            if reading.claimed:
                return
            reading.claimed = True
        span = reading.span
        try:
            reading.data.set_result(self._transfers.span(span.info.file, span.start, span.size, span.info.size))
        except BaseException as error:
            with self._lock:
                self._remove(reading)  # the next one to need it tries again
            reading.data.set_exception(error)
            if not isinstance(error, ShardError):
                raise

    def forget(self, info: ShardInfo, offset: int) -> None:
        """Drops what is known of the bytes at an offset."""
        with self._lock:
            for reading in list(self._readings.values()):
                span = reading.span
                if span.info.shard == info.shard and span.start <= offset < span.end:
                    self._remove(reading)

    def _covering(self, wanted: Span) -> _Reading | None:
        for reading in reversed(self._readings.values()):
            span = reading.span
            if span.info.shard == wanted.info.shard and span.start <= wanted.start and wanted.end <= span.end:
                return reading
        return None

    def _add(self, span: Span) -> _Reading:
        reading = self._readings[_key(span)] = _Reading(span)
        self._num_bytes += span.size
        for old in list(self._readings.values()):
            if self._num_bytes <= _READ_AHEAD_BYTES:
                break
            if old.data.done():
                self._remove(old)
        return reading

    def _remove(self, reading: _Reading) -> None:
        if self._readings.get(_key(reading.span)) is reading:
            del self._readings[_key(reading.span)]
            self._num_bytes -= reading.span.size


class RangedShards:
    """See :class:`shards.access.Shards`.

    What was asked for ahead is read by one request for each span; anything else by one for each frame with its mask.

    Args:
        transfers: where the shards lie.
    """

    fetches_whole_shards = False
    num_ahead = 2 * _RANGED_READS
    num_attempts = 3

    def __init__(self, transfers: Transfers) -> None:
        self._ahead = _ReadAhead(transfers)
        self._prefetcher = Prefetcher(self._ahead.fetch, _RANGED_READS)

    def view(self, info: ShardInfo, entry: IndexEntry, offset: int, size: int) -> memoryview:
        """Bytes of a shard, out of memory or by a request."""
        wanted = Span(info, offset, min(offset + size, info.size))
        return self._ahead.bytes_of(wanted, _whole_frame(wanted, entry))

    def read_ahead(self, spans: Sequence[Span]) -> None:
        """Reads each span by one request, several at once."""
        for span in spans:
            reading = self._ahead.add(span)
            if reading is not None:
                self._prefetcher.add(reading)

    def discard(self, info: ShardInfo, offset: int) -> None:
        """Forgets the bytes at an offset."""
        self._ahead.forget(info, offset)


def _key(span: Span) -> tuple[int, int, int]:
    return span.info.shard, span.start, span.end


def _whole_frame(wanted: Span, entry: IndexEntry) -> Span:
    """From a frame's picture to the end of its mask, where that lies right behind it."""
    frame = int(entry.image_offsets.searchsorted(wanted.start, side="right")) - 1
    if frame < 0 or not entry.annotated[frame] or wanted.start != entry.image_offsets[frame]:
        return wanted
    gap = int(entry.mask_offsets[frame]) - wanted.end
    end = int(entry.mask_offsets[frame]) + int(entry.mask_sizes[frame])
    return Span(wanted.info, wanted.start, end) if 0 <= gap <= 4 * BLOCK and end <= wanted.info.size else wanted
