"""``metrics.jsonl``: what a run measured, one JSON object per line, in order of steps.

A line of a logged step holds the keys of :class:`StepMetrics`. A line with the key ``event`` tells what happened at a
step: ``start`` (each time the run was started or continued, with where and on what), ``left_out`` (a shard set that was
not used, and why).
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

    frames_per_second: float
    """Frames trained per second since the last logged step, over all ranks."""

    data_wait: float
    """Share of that time in which this rank waited for data, 0 to 1."""

    def to_json(self) -> str:
        """One line; floats are written so that they read back equal."""
        return json.dumps(asdict(self))


class MetricsLog:
    """Appends lines to ``metrics.jsonl``."""

    def __init__(self, path: Path, step: int) -> None:
        """Opens the file, cut back to what had happened up to a step, so that a resumed run writes no line twice.

        Args:
            path: the file; made if need be.
            step: the step of the checkpoint that the run goes on from; 0 for a new run.
        """
        kept = [line for line in _lines(path) if line[0] <= step]
        write_atomically(path, "".join(f"{text}\n" for _, text in kept).encode())
        self._file = path.open("a", encoding="utf-8")

    def write(self, metrics: StepMetrics) -> None:
        """Appends a logged step."""
        self._append(metrics.to_json())

    def event(self, step: int, event: str, **facts: Any) -> None:
        """Appends what happened after a step."""
        self._append(json.dumps({"step": step, "event": event, **facts}))

    def sync(self) -> None:
        """Makes all lines durable; call it before a checkpoint that stands for them is written."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _append(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Reads a run's lines, events included; a last line that was cut off is left out."""
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
