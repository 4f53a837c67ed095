"""Lets one part of the work run ahead of the next: reading, segmenting and writing a video at the same time."""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.05
_END_SECONDS = 5.0
"""How long to wait for the thread to end, when the rest is not wanted: it may be waiting for a camera."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """What stopped the iterable."""

    error: BaseException


class _End:
    """Stands behind the last item."""


def ahead(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Yields the items of an iterable, which runs in a thread of its own, a few items ahead.

    Memory stays bounded: never more than ``depth + 2`` items exist. Worth it where the work behind them releases
    Python's lock, as decoders, encoders and tensor operations do.

    Args:
        items: iterated over once, wholly in that thread.
        depth: items that wait at most, >= 1.

    Yields:
        The same items in the same order; what the iterable raises is raised here, after the items before it. When this
        iterator is closed early, the thread ends with the item that it is at, which is waited for: a thread that is
        still in a C++ library when the interpreter ends aborts the process.

    Raises:
        ValueError: ``depth`` is less than 1.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    return _run_ahead(items, depth)


def _run_ahead(items: Iterable[T], depth: int) -> Iterator[T]:
    waiting: queue.Queue[T | _Failure | type[_End]] = queue.Queue(depth)
    is_closed = threading.Event()

    def hand_over(item: T | _Failure | type[_End]) -> None:
        while not is_closed.is_set():
            with suppress(queue.Full):
                waiting.put(item, timeout=_POLL_SECONDS)
                return

    def work() -> None:
        try:
            for item in items:
                hand_over(item)
                if is_closed.is_set():
                    return
            hand_over(_End)
        except BaseException as error:  # whatever it is, whoever waits for the item must learn of it
            hand_over(_Failure(error))

    thread = threading.Thread(target=work, name="vosdata-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item = waiting.get()
            if item is _End:
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        is_closed.set()
        if thread is not threading.current_thread():  # any thread may come to collect garbage
            thread.join(_END_SECONDS)
