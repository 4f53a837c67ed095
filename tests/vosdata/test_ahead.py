"""Running ahead: same items, same errors, bounded memory, no thread left behind."""

import threading
import time
from collections.abc import Iterator

import pytest

from vosdata.ahead import ahead


def alive() -> int:
    return sum(thread.name == "vosdata-ahead" for thread in threading.enumerate())


def test_items_come_in_order_and_the_thread_ends() -> None:
    assert list(ahead(range(100), depth=3)) == list(range(100))
    assert not alive()


def test_the_next_items_are_made_while_one_is_used() -> None:
    made = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        made.set()
        yield 1

    running = ahead(items())
    assert next(running) == 0
    assert made.wait(5)  # without anybody having asked for it


def test_no_more_items_exist_than_said() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    for used in ahead(items(), depth=2):
        time.sleep(0.002)
        assert len(made) <= used + 1 + 2 + 1  # used up, waiting, and one that waits to be handed over


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    running = ahead(items())
    assert next(running) == 1
    with pytest.raises(OSError, match="gone"):
        next(running)


def test_closing_early_ends_the_thread_and_the_iterable() -> None:
    ended = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.set()

    running = ahead(items())
    assert next(running) == 1
    running.close()  # type: ignore[attr-defined]
    assert ended.is_set() and not alive()


def test_a_depth_of_nothing_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="depth"):
        ahead([1], depth=0)
