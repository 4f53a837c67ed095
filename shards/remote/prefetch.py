"""Threads that work on a list of wishes ahead of whoever needs them."""

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from shards.errors import ShardError

T = TypeVar("T")


class _Wishes(Generic[T]):
    """What the threads know; they must not know the prefetcher, so that they end when it is dropped."""

    def __init__(self, fetch: Callable[[T], object]) -> None:
        self.changed = threading.Condition()
        self.open: deque[T] = deque()
        self.num_idle = 0
        self.closed = False
        self._fetch = fetch

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.open.clear()
            self.changed.notify_all()

    def work(self) -> None:
        """Body of a thread."""
        while True:
            with self.changed:
                while not self.open and not self.closed:
                    self.num_idle += 1
                    self.changed.wait()
                    self.num_idle -= 1
                if self.closed:
                    return
                wish = self.open.popleft()
            try:
                self._fetch(wish)
            except ShardError:
                continue  # whoever needs it fetches it again and gets the error itself


class Prefetcher(Generic[T]):
    """Fulfils wishes in order, several at a time; threads start with the first wish.

    Args:
        fetch: fulfils one wish; does nothing when it is fulfilled already. Must not refer to the prefetcher.
        num_threads: how many wishes are worked on at once.
    """

    def __init__(self, fetch: Callable[[T], object], num_threads: int) -> None:
        self._wishes = _Wishes(fetch)
        self._num_threads = num_threads
        self._num_started = 0
        self._stop = weakref.finalize(self, self._wishes.close)

    def add(self, wish: T) -> None:
        """Adds a wish behind the others; returns at once."""
        with self._wishes.changed:
            self._wishes.open.append(wish)
            too_few = len(self._wishes.open) > self._wishes.num_idle and self._num_started < self._num_threads
            self._num_started += too_few
            self._wishes.changed.notify()
        if too_few:
            # daemon: what is only read ahead must not keep the interpreter from ending
            threading.Thread(target=self._wishes.work, name="vosdata-prefetch", daemon=True).start()
