"""Ctrl-C and SIGTERM as a flag, so that the work under way is finished and saved before it stops."""

import signal
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Interruption:
    """Whether someone asked the run to stop."""

    asked: bool = False

    def check(self) -> None:
        """Gives up work that need not be finished before the run stops.

        Raises:
            InterruptedWorkError: someone asked the run to stop.
        """
        if self.asked:
            raise InterruptedWorkError


class InterruptedWorkError(Exception):
    """Work was given up because the run is to stop."""


@contextmanager
def noticing_interruption() -> Iterator[Interruption]:
    """Turns Ctrl-C and SIGTERM into a flag, so that no step is left half done; a second one interrupts at once."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield interruption
        return

    def ask(number: int, frame: types.FrameType | None) -> None:
        if interruption.asked:
            raise KeyboardInterrupt
        interruption.asked = True

    earlier = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
