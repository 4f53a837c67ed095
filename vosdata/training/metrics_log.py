"""``metrics.jsonl``: what a run measured, one JSON object per line, in order of steps.

A line of a logged step holds the keys of :class:`StepMetrics`. A line with the key ``event`` tells what happened at a
step; :mod:`vosdata.training.run_folder` tells which there are.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shards.atomic import write_atomically


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """What is known of one logged step. Losses and J are those of this step's batch alone, over all ranks."""

    step: int
    """Optimiser steps taken, from 1."""

    epoch: int
    """Epoch of the batch's first snippet, from 0."""

    position: int
    """Place of the batch's first snippet in that epoch."""

    loss: float
    """What was minimised: the weighted sum of both losses."""

    fine: float
    """Cross-entropy of the final segmentation, nats per counted pixel."""

    coarse: float
    """Cross-entropy of the coarse segmentation, nats per counted pixel."""

    J: float | None
    """Mean intersection over union of the targets in annotated frames after the first; None where there is none."""

    gradient_norm: float
    """Euclidean norm of the gradient of all trained parameters."""

    learning_rate: float
    """Adam's learning rate at this step."""

    num_pixels: int
    """Pixels that the losses counted."""

    uncounted_snippets: int
    """Snippets of the whole run so far in which no pixel was counted: they had no part in training."""

    empty_snippets: int
    """Those whose given mask was empty, which a crop can bring about: what is learnt is that nothing is there."""

    vanished_snippets: int
    """Those whose targets no annotated frame after the first showed, so that only their absence was learnt."""

    replaced_snippets: int
    """Those that stand in for one whose stored bytes are damaged (``data.on_damage: replace``)."""

    frames_per_second: float
    """Frames trained per second since the last logged step, over all ranks."""

    data_wait: float
    """Share of that time in which this rank waited for data, 0 to 1."""

    validation_J: float | None = None  # noqa: N815  (the name of the measure)
    """J of the newest validation; None before the first."""

    def to_json(self) -> str:
        """One line; floats are written so that they read back equal."""
        return json.dumps(asdict(self))


class StepLog:
    """Appends lines that belong to steps to a file."""

    def __init__(self, path: Path, step: int) -> None:
        """Opens the file, cut back to what had happened up to a step, so that a resumed run writes no line twice.

        Args:
            path: the file; made if need be.
            step: the step of the checkpoint that the run goes on from; 0 for a new run.
        """
        kept = [line for line in _lines(path) if line[0] <= step]
        write_atomically(path, "".join(f"{text}\n" for _, text in kept).encode())
        self._file = path.open("a", encoding="utf-8")

    def append(self, line: str) -> None:
        """Appends a line, a JSON object with the key ``step``."""
        self._file.write(line + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Makes all lines durable; call it before a checkpoint that stands for them is written."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class MetricsLog(StepLog):
    """``metrics.jsonl``."""

    def write(self, metrics: StepMetrics) -> None:
        """Appends a logged step."""
        self.append(metrics.to_json())

    def event(self, step: int, event: str, **facts: Any) -> None:
        """Appends what happened after a step."""
        self.append(json.dumps({"step": step, "event": event, **facts}))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Reads the lines of ``metrics.jsonl``, events included."""
    return read_lines(path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the lines of a file of steps, from the first; one that was cut off is left out."""
    return [json.loads(text) for _, text in _lines(path)]


def _lines(path: Path) -> list[tuple[int, str]]:
    """Step and text of each whole line."""
    if not path.exists():
        return []
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.append((int(json.loads(text)["step"]), text))
        except (ValueError, KeyError, TypeError):
            continue  # a line that a crash cut off
    return found


@dataclass(slots=True)
class Stopwatch:
    """Frames per second and share of waiting, since the last lap."""

    started: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
    num_frames: int = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting."""
        before = time.perf_counter()
        yield
        self.waited += time.perf_counter() - before

    def lap(self) -> tuple[float, float]:
        """Frames per second and share of waiting since the last lap; begins a new one."""
        elapsed = max(time.perf_counter() - self.started, 1e-9)
        measured = self.num_frames / elapsed, self.waited / elapsed
        self.started, self.waited, self.num_frames = time.perf_counter(), 0.0, 0
        return measured
