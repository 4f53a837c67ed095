"""A loader under test as a process of its own, which measures itself when it is asked to.

The driver (:class:`Contender`) runs in vosdata's environment; :func:`serve` runs in the contender's. They exchange
lines of JSON. Standard library alone.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from meter import NOTHING, Usage, evict


class Loader(Protocol):
    """What a contender implements."""

    folder: Path
    """Where its files lie."""

    def epoch(self) -> Iterator[tuple[list[str], Any, Any]]:
        """Yields an epoch of batches: keys, frames (B, T, ...), masks (B, T, H, W); starts the loader if need be."""

    def stop(self) -> None:
        """Ends its threads and processes and lets go of its memory."""

    def pixels(self, frames: Any, masks: Any) -> tuple[Any, Any]:
        """A batch as uint8 arrays (B, T, H, W, 3) and (B, T, H, W), for comparison."""


@dataclass(frozen=True)
class Request:
    """What to measure."""

    seconds: float
    """How long, at steady state."""

    skip: int
    """Batches at the start of each epoch that do not count."""

    cold: bool = False
    """Whether to drop the files from the page cache first."""

    one_epoch: bool = False
    """Whether to measure one whole epoch, however long that takes."""

    busy: float = 0.0
    """Seconds of pure Python that the main thread does after each batch."""


@dataclass
class Measurement:
    """What a contender found."""

    frames: int
    """Frames that counted."""

    seconds: float
    """Time that counted."""

    first_batch: float
    """Seconds from the start of the loader to its first batch."""

    cpu: float
    """CPU seconds of all its processes in that time."""

    faults: int
    """Minor page faults of the same."""

    others: float
    """Share of the machine that other processes used meanwhile."""

    resident: float | None = None
    """Share of its files that could not be dropped from the page cache; None when that was not asked for."""

    rate: float = field(init=False)
    """Frames per second."""

    def __post_init__(self) -> None:
        self.rate = self.frames / self.seconds


def measure(loader: Loader, request: Request) -> Measurement:
    """Times the loader at steady state, over as many epochs as it takes."""
    resident = evict(loader.folder) if request.cold else None
    total, frames, first = NOTHING, 0, None
    try:
        while total.wall < request.seconds:
            began, start, last, count = time.perf_counter(), None, None, 0
            for _, pictures, _ in loader.epoch():
                count += 1
                first = first or time.perf_counter() - began
                if count == request.skip:
                    start = Usage.now()
                elif start is not None:
                    frames += pictures.shape[0] * pictures.shape[1]
                    last = time.perf_counter()
                    if total.wall + last - start.wall >= request.seconds and not request.one_epoch:
                        break
                if request.busy:
                    _be_busy(request.busy)
            if start is None or last is None:
                raise RuntimeError(f"an epoch has {count} batches, too few to leave out {request.skip}")
            total = total.plus(Usage.now(last).since(start))
            if request.one_epoch:
                break
    finally:
        loader.stop()
    return Measurement(frames, total.wall, first or 0.0, total.cpu, total.faults, total.others(), resident)


def _be_busy(seconds: float) -> None:
    """Pure Python that never lets go of the interpreter by itself."""
    end, number = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        number += 1


def checksums(loader: Loader) -> dict[str, int]:
    """CRC32 of every snippet's pixels and masks, by key."""
    found = {}
    try:
        for keys, pictures, masks in loader.epoch():
            pictures, masks = loader.pixels(pictures, masks)
            for place, key in enumerate(keys):
                found[key] = zlib.crc32(masks[place].tobytes(), zlib.crc32(pictures[place].tobytes()))
    finally:
        loader.stop()
    return found


def serve(loader: Loader) -> None:
    """Answers the driver until it hangs up. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    answers.write(json.dumps({"ready": True}) + "\n")
    actions: dict[str, Callable[[dict[str, Any]], Any]] = {
        "measure": lambda given: vars(measure(loader, Request(**given))),
        "check": lambda given: checksums(loader),
    }
    for line in sys.stdin:
        name, given = json.loads(line)
        try:
            answers.write(json.dumps({"result": actions[name](given)}) + "\n")
        except Exception as error:  # the driver reports it and goes on with the others
            traceback.print_exc()
            last = (str(error).strip().splitlines() or [""])[-1]
            answers.write(json.dumps({"error": f"{type(error).__name__}: {last[:300]}"}) + "\n")


class ContenderError(Exception):
    """A contender cannot run; the message says why."""


class Contender:
    """The driver's side of a contender."""

    def __init__(self, name: str, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.name = name
        self._log = log
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("a"),
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._answer()

    def measure(self, request: Request) -> Measurement:
        answer = self._ask("measure", vars(request))
        rate = answer.pop("rate")
        found = Measurement(**answer)
        assert found.rate == rate
        return found

    def check(self) -> dict[str, int]:
        return dict(self._ask("check", {}))

    def close(self) -> None:
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, name: str, given: dict[str, Any]) -> Any:
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps([name, given]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ContenderError(f"{self.name} ended: {self._last_words()}") from error
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise ContenderError(f"{self.name} ended: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ContenderError(f"{self.name}: {answer['error']}")
        return answer.get("result")

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "without a word"
