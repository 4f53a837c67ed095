"""Runs decode threads ahead of the consumer and hands over finished batches in order.

The threads fill batch memory in place and take snippets one by one, so a batch is shared by all of them; what a batch
holds depends on its positions alone, never on which thread was faster. They run in the consumer's process
(:class:`ThreadEngine`) or in a helper process (:mod:`vosdata.streaming.process_engine`), with the same batches.

Batch memory is reused, because writing into fresh pages costs as much as half of the decoding. A batch's memory returns
to the pool when the last array or tensor that looks into it is gone, and not before: a batch that the consumer keeps
never changes.
"""

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

_END_SECONDS = 5.0
"""How long an engine that nobody closed waits for its threads; one may be reading a shard over a network."""


class Filled(NamedTuple):
    """What a place of a batch was filled with."""

    key: str
    """Key of the snippet."""

    problem: str = ""
    """Why the snippet that belongs there could not be read, when another one stands in for it."""


class Filler(Protocol):
    """What a decode thread calls; one for each thread."""

    def fill(
        self, position: int, frames: NDArray[np.uint8], masks: NDArray[np.uint8], annotated: NDArray[np.bool_]
    ) -> Filled:
        """Fills one place of a batch with the snippet at a global position."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which global positions a rank's batches hold."""

    first: int
    """Global position at which the first global batch starts."""

    batch: int
    """Snippets in a batch of one rank."""

    rank: int
    """This rank, 0 <= rank < num_ranks."""

    num_ranks: int
    """Ranks that share a global batch."""

    def positions(self, step: int) -> range:
        """Global positions of this rank's batch number ``step``, counted from ``first``."""
        start = self.first + (step * self.num_ranks + self.rank) * self.batch
        return range(start, start + self.batch)

    def number(self, position: int) -> int:
        """How many of this rank's snippets come before the one at a global position."""
        step, offset = divmod(position - self.first, self.batch * self.num_ranks)
        return step * self.batch + offset % self.batch

    def later(self, position: int, num_snippets: int) -> int:
        """The global position that this rank comes to ``num_snippets`` snippets after one of its positions."""
        step, place = divmod(self.number(position) + num_snippets, self.batch)
        return self.positions(step)[place]


class EngineClosedError(ValueError):
    """A batch was asked for, but the engine was closed."""


@dataclass(slots=True, eq=False)
class RawBatch:
    """A batch as arrays."""

    positions: range
    """Global positions of the snippets."""

    frames: NDArray[np.uint8]
    """``uint8 (B, T, H, W, 3)``."""

    masks: NDArray[np.uint8]
    """``uint8 (B, T, H, W)``."""

    annotated: NDArray[np.bool_]
    """``bool (B, T)``."""

    filled: list[Filled]
    """What each place of the batch was filled with."""

    @property
    def keys(self) -> list[str]:
        """Snippet keys, one for each place."""
        return [one.key for one in self.filled]


@dataclass(slots=True, eq=False)
class _Pending:
    """A batch that is being filled."""

    batch: RawBatch
    num_taken: int = 0
    num_finished: int = 0
    errors: dict[int, BaseException] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return self.num_finished == len(self.batch.positions)

    @property
    def error(self) -> BaseException | None:
        """That of the first place that failed."""
        return self.errors[min(self.errors)] if self.errors else None


Deliver: TypeAlias = Callable[[RawBatch, BaseException | None], None]
"""Receives a finished batch, with the error of its first place that failed."""


def unfilled(positions: range) -> list[Filled]:
    """As many places, filled with nothing yet."""
    return [Filled("")] * len(positions)


class _Lease:
    """Stands for one use of a piece of memory; arrays that look into it keep it alive."""

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        self.memory = memory

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.memory.__array_interface__


def lend(memory: NDArray[np.uint8], on_return: Callable[[], None]) -> NDArray[np.uint8]:
    """The same memory, with a call when the last array or tensor that looks into it is gone.

    Args:
        memory: ``uint8``, C-contiguous.
        on_return: may be called in any thread, even inside a locked section; not called when the interpreter ends.
    """
    lease = _Lease(memory)
    weakref.finalize(lease, on_return).atexit = False
    return np.asarray(lease)


class Memory(Protocol):
    """Where batches are put."""

    def new_batch(self, positions: range) -> RawBatch | None:
        """An unfilled batch; None when there is no memory for one now (see :meth:`BatchQueue.wake`)."""


class BatchMemory:
    """Makes batches out of memory that is used again once nobody looks at it any more."""

    def __init__(self, shape: tuple[int, int, int, int], num_kept: int) -> None:
        """Allocates nothing yet.

        Args:
            shape: (B, T, H, W).
            num_kept: how many free pieces of memory to keep, each B T H W 4 bytes.
        """
        self._shape = shape
        # append and pop of a deque are atomic: memory may come back in any thread, even inside a locked section
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=num_kept)

    def new_batch(self, positions: range) -> RawBatch:
        """An unfilled batch."""
        num_pixels = int(np.prod(self._shape))
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(4 * num_pixels, np.uint8)
        block = lend(memory, partial(self._free.append, memory))
        return RawBatch(
            positions,
            block[: 3 * num_pixels].reshape(*self._shape, 3),
            block[3 * num_pixels :].reshape(self._shape),
            np.zeros(self._shape[:2], np.bool_),
            unfilled(positions),
        )


class BatchQueue:
    """What the threads and the consumer share: batches in order, at most ``prefetch`` of them not yet handed over."""

    def __init__(self, memory: Memory, schedule: Schedule, prefetch: int, deliver: Deliver | None = None) -> None:
        """Begins no batch yet.

        Args:
            memory: where batches are put.
            schedule: which positions they hold.
            prefetch: batches that may be begun and not yet handed over.
            deliver: called with each batch, in order, by the decode thread that finishes it; no other thread has to
                wake up for that. None: a consumer calls :meth:`next_batch`.
        """
        self._memory = memory
        self._deliver = deliver
        self._schedule = schedule
        self._prefetch = prefetch
        self._changed = threading.Condition()
        self._pending: deque[_Pending] = deque()
        self._num_opened = 0
        self._closed = False

    def take(self) -> tuple[_Pending, int] | None:
        """The next place to fill, waiting until there is one; None when the engine is closed."""
        with self._changed:
            while not self._closed:
                if self._pending and self._pending[-1].num_taken < len(self._pending[-1].batch.positions):
                    newest = self._pending[-1]
                    newest.num_taken += 1
                    return newest, newest.num_taken - 1
                if not self._open_batch():
                    self._changed.wait()
            return None

    def _open_batch(self) -> bool:
        """Begins the next batch, if it may be begun and there is memory for it."""
        if len(self._pending) >= self._prefetch:
            return False
        batch = self._memory.new_batch(self._schedule.positions(self._num_opened))
        if batch is None:
            return False
        self._pending.append(_Pending(batch))
        self._num_opened += 1
        self._changed.notify_all()
        return True

    def wake(self) -> None:
        """Says that there may be memory for a new batch."""
        with self._changed:
            self._changed.notify_all()

    def finish(self, pending: _Pending, place: int, error: BaseException | None) -> None:
        """Reports a place as filled or failed."""
        with self._changed:
            pending.num_finished += 1
            if error is not None:
                pending.errors[place] = error
            if pending.complete:
                self._changed.notify_all()
                while self._deliver is not None and self._pending and self._pending[0].complete:
                    done = self._pending.popleft()
                    self._deliver(done.batch, done.error)

    def next_batch(self) -> RawBatch:
        """The next batch, waiting until it is complete; raises the error of its first place that failed."""
        with self._changed:
            while not self._closed and not (self._pending and self._pending[0].complete):
                self._changed.wait()
            if self._closed:
                raise EngineClosedError("the engine is closed")
            done = self._pending.popleft()
            self._changed.notify_all()
        if done.error is not None:
            raise done.error
        return done.batch

    def close(self) -> None:
        """Makes every thread return after the snippet it is at."""
        with self._changed:
            self._closed = True
            self._pending.clear()
            self._changed.notify_all()


def start_threads(queue: BatchQueue, fillers: Sequence[Filler]) -> list[threading.Thread]:
    """Starts one decode thread for each filler; they end when the queue is closed."""
    threads = [
        # daemon: else the interpreter would wait for them before it lets the engine close itself
        threading.Thread(target=_run, args=(queue, filler), name=f"vosdata-decode-{number}", daemon=True)
        for number, filler in enumerate(fillers)
    ]
    for thread in threads:
        thread.start()
    return threads


def _run(queue: BatchQueue, filler: Filler) -> None:
    """Body of a decode thread."""
    while (taken := queue.take()) is not None:
        pending, place = taken
        batch, error = pending.batch, None
        try:
            batch.filled[place] = filler.fill(
                batch.positions[place], batch.frames[place], batch.masks[place], batch.annotated[place]
            )
        except BaseException as caught:  # the consumer raises it: a thread must never die in silence
            error = caught
        queue.finish(pending, place, error)
        del taken, pending, batch, error  # a waiting thread must not keep a batch's memory from being used again


class Engine(Protocol):
    """Hands over batches in order until it is closed."""

    @property
    def mine(self) -> bool:
        """False in a process that was forked off the one that started the engine; the engine is of no use there."""

    def next_batch(self) -> RawBatch:
        """The next batch, waiting for it if need be."""

    def close(self) -> None:
        """Ends the engine. Batches handed over before stay valid."""


def _end_own(queue: BatchQueue, threads: Sequence[threading.Thread], owner: int) -> None:
    """Closes a queue and waits for its threads, in the process that made them; a forked copy might wait for ever.

    A decode thread that is still in a C++ library when the interpreter ends aborts the process.
    """
    if os.getpid() != owner:
        return
    queue.close()
    deadline = time.monotonic() + _END_SECONDS
    for thread in threads:
        if thread is not threading.current_thread():  # any thread may come to collect garbage
            thread.join(max(0.0, deadline - time.monotonic()))


class ThreadEngine:
    """Decode threads in this process. Use as a context manager, or call :meth:`close`."""

    def __init__(
        self, fillers: Sequence[Filler], shape: tuple[int, int, int, int], schedule: Schedule, prefetch: int
    ) -> None:
        """Starts the threads.

        Args:
            fillers: one for each thread.
            shape: (B, T, H, W) of a batch.
            schedule: which positions the batches hold.
            prefetch: batches that may be begun before they are asked for, 1 or more.

        Raises:
            ValueError: there is no filler, or no batch may be begun.
        """
        if not fillers or prefetch < 1:
            raise ValueError(f"an engine needs at least 1 thread and 1 batch, got {len(fillers)} and {prefetch}")
        # besides the batches in flight, one is with the consumer and one is just being let go
        self._queue = BatchQueue(BatchMemory(shape, prefetch + 2), schedule, prefetch)
        self._owner = os.getpid()
        self._threads = start_threads(self._queue, fillers)
        # the threads know the queue, not the engine, so one that is dropped, or is there at the end, stops them
        self._stop = weakref.finalize(self, _end_own, self._queue, self._threads, self._owner)

    @property
    def mine(self) -> bool:
        """False in a process that was forked off the one that started the engine; the engine is of no use there."""
        return os.getpid() == self._owner

    def next_batch(self) -> RawBatch:
        """The next batch in order, waiting for it if need be.

        Raises:
            EngineClosedError: the engine is closed.
            VosDataError: a snippet of the batch could not be read; the message names it. Other errors of a decode
                thread arrive as they were raised.
        """
        return self._queue.next_batch()

    def close(self) -> None:
        """Stops the threads and waits until they are gone. Batches handed over before stay valid."""
        self._stop()
        for thread in self._threads if self.mine else ():
            thread.join()

    def __enter__(self) -> "ThreadEngine":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
