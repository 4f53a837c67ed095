"""How commands show progress: a bar on a terminal, a plain line now and then otherwise; always on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PLAIN_INTERVAL_SECONDS = 5.0
"""Between two plain lines: often enough to see life, rare enough for a log file."""


@contextmanager
def show_progress(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Shows how much is done, the rate and the time left.

    Args:
        unit: what is counted, in the plural, such as ``"videos"``.

    Yields:
        A function to call with the number done and the total.
    """
    if sys.stderr.isatty():
        with _bar(unit) as update:
            yield update
    else:
        yield _plain_lines(unit)


@contextmanager
def _bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = _Rate()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(unit, total=None)

        def update(done: int, total: int) -> None:
            per_second = rate.per_second(done)
            text = unit if per_second is None else f"{unit}, {per_second:,.1f}/s"
            progress.update(task, completed=done, total=total, description=text)

        yield update


def _plain_lines(unit: str) -> Callable[[int, int], None]:
    rate = _Rate()
    next_line = time.monotonic() + PLAIN_INTERVAL_SECONDS

    def update(done: int, total: int) -> None:
        nonlocal next_line
        per_second = rate.per_second(done)
        if time.monotonic() < next_line or not per_second:
            return
        next_line = time.monotonic() + PLAIN_INTERVAL_SECONDS
        seconds_left = max(0, total - done) / per_second  # what was skipped counts as done, too
        print(f"{done}/{total} {unit}, {per_second:,.1f}/s, {seconds_left:.0f} s left", file=sys.stderr, flush=True)

    return update


class _Rate:
    """Speed of this run: what an earlier run had done already does not count."""

    def __init__(self) -> None:
        self._start: tuple[float, int] | None = None

    def per_second(self, done: int) -> float | None:
        """Mean rate since the first call; None while there is nothing to tell."""
        now = time.monotonic()
        if self._start is None:
            self._start = now, done
        seconds = now - self._start[0]
        return (done - self._start[1]) / seconds if seconds > 0 and done > self._start[1] else None
