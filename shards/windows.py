"""A shuffle that keeps few shards open: for sets whose shards have to be fetched before they can be read.

In each pass the shards are shuffled and cut into windows, and the records of each window are shuffled among themselves.
Every record still comes once in every pass, and where it comes is still arithmetic; but neighbours in the order lie in
the few shards of one window, so that only these, and the next window's while they are fetched ahead, need to be near.
"""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shards.order import permute, scatter

_GOLDEN = 0x9E3779B97F4A7C15  # steps by it never meet within 2**64, whatever the key

_NUM_KEPT = 4
"""Passes whose windows are remembered: those that a stream's threads are in, or a test jumps between."""


class _Pass:
    """One pass over S shards: which follows which, and where the windows lie."""

    __slots__ = ("begins", "shards", "window_begins")

    def __init__(self, counts: NDArray[np.int64], window: int, key: int) -> None:
        # shuffled by sorting keyed hashes: fifty times faster than a permutation asked for shard by shard
        hashes = scatter(np.arange(len(counts), dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(key))
        order = np.argsort(hashes, kind="stable")
        begins = np.concatenate([[0], np.cumsum(counts[order])])
        num_windows = -(-len(counts) // window)
        cuts = np.arange(num_windows + 1) * len(counts) // num_windows  # windows differ by one shard at most
        self.shards: list[int] = order.tolist()
        self.begins: list[int] = begins.tolist()
        self.window_begins: list[int] = begins[cuts].tolist()


class WindowedShuffle:
    """Shuffles the records of a set, a window of shards at a time. Picklable; safe to share between threads."""

    def __init__(self, counts: Sequence[int] | NDArray[np.int64], window: int) -> None:
        """Remembers the shards' sizes.

        Args:
            counts: number of records to order in each shard, 1 or more; the records are numbered shard by shard.
            window: K, shards that are open together, 1 or more.

        Raises:
            ValueError: an argument is out of range.
        """
        self._counts = np.asarray(counts, np.int64)
        if not len(self._counts) or self._counts.min() < 1:
            raise ValueError("expected one or more shards with one or more records each")
        if window < 1:
            raise ValueError(f"a window is at least 1 shard, got {window}")
        self._window = window
        self._first = (np.cumsum(self._counts) - self._counts).tolist()
        self._length = int(self._counts.sum())
        self._passes: dict[int, _Pass] = {}

    def permute(self, index: int, key: int) -> int:
        """Which record comes at a place of a pass: a permutation of ``range(sum(counts))``, as ``order.permute``.

        Args:
            index: place in the pass, 0 <= index < sum(counts).
            key: selects the permutation, 0 <= key < 2**64.

        Raises:
            ValueError: an argument lies outside its range.
        """
        if not 0 <= index < self._length:
            raise ValueError(f"index must lie in [0, {self._length}), got {index}")
        if not 0 <= key < 2**64:
            raise ValueError(f"key must lie in [0, 2**64), got {key}")
        this = self._pass(key)
        window = bisect_right(this.window_begins, index) - 1
        begin, end = this.window_begins[window : window + 2]
        place = begin + permute(index - begin, end - begin, (key + window + 1) % 2**64)
        turn = bisect_right(this.begins, place) - 1
        shard = this.shards[turn]
        return int(self._first[shard] + place - this.begins[turn])

    def _pass(self, key: int) -> _Pass:
        found = self._passes.get(key)
        if found is None:
            found = _Pass(self._counts, self._window, key)
            kept = dict(list(self._passes.items())[1 - _NUM_KEPT :])
            self._passes = {**kept, key: found}  # replaced as a whole, so that threads need no lock
        return found

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_passes": {}}
