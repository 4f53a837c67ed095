"""A tiny plan that tests build shard sets from; a module of its own so that fresh worker processes can import it."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.build import SetDescription, Skipped
from shards.codec import encode_jpeg
from shards.errors import BadFileError
from shards.rng import generator
from shards.types import Record, StoredFrame

HEIGHT, WIDTH = 24, 40


@dataclass(frozen=True)
class ToyPlan:
    name: str = "toy"
    split: str = "train"
    num_shards: int = 3
    records_per_shard: int = 3
    num_frames: int = 3
    seed: int = 0
    seconds_per_record: float = 0.0
    """Not part of the configuration: slows the work down so that it can be cut off."""
    fail_at: int | None = None
    """Index of the record at which the plan raises."""
    skip: tuple[int, ...] = ()
    kill_worker_once: Path | None = None
    """A worker kills itself in shard 1 when this file does not exist yet."""
    kill_workers: bool = False
    """Every worker kills itself in shard 1."""
    same_names: bool = False
    extra_setting: dict[str, Any] | None = None
    log: Path | None = None
    """Gets a line for each shard that is begun: its number, and the process that started the worker."""
    gate: Path | None = None
    """Shards from ``first_held`` on wait at their record ``held_at`` until this file exists."""
    first_held: int = 0
    held_at: int = 0

    @property
    def num_records(self) -> int:
        return self.num_shards * self.records_per_shard

    def configuration(self) -> dict[str, Any]:
        return {"seed": self.seed, "frames": {"number": self.num_frames}, "extra": self.extra_setting}

    def description(self) -> SetDescription:
        return SetDescription((HEIGHT, WIDTH), 24.0, "0" * 16, "CC0-1.0", "Toy", "Noise with rectangles.")

    def records(self, shard: int) -> Iterator[Record | Skipped]:
        if self.log is not None:
            with self.log.open("a") as file:  # one short line, appended at once
                file.write(f"{shard} {os.getppid()}\n")
        first = shard * self.records_per_shard
        for index in range(first, first + self.records_per_shard):
            while index - first == self.held_at and shard >= self.first_held and self._is_held():
                time.sleep(0.01)
            time.sleep(self.seconds_per_record)
            if index == self.fail_at:
                raise BadFileError(f"picture {index} is broken")
            if shard == 1 and self._must_kill():
                os.kill(os.getpid(), signal.SIGKILL)
            if index in self.skip:
                yield Skipped(f"video {index}", "too dull")
            else:
                yield toy_record("same" if self.same_names else f"video {index}.é", self.seed, index, self.num_frames)

    def _is_held(self) -> bool:
        return self.gate is not None and not self.gate.exists()

    def _must_kill(self) -> bool:
        if self.kill_worker_once is not None and not self.kill_worker_once.exists():
            self.kill_worker_once.touch()
            return True
        return self.kill_workers


def toy_record(sequence: str, seed: int = 0, index: int = 0, num_frames: int = 3) -> Record:
    """Noise; objects 1 and 7 as rectangles that move; a row of void; no annotation on the last frame of odd records."""
    frames = []
    for time_step in range(num_frames):
        noise = generator(seed, 0, index * 1000 + time_step, "toy picture").integers(0, 256, (HEIGHT, WIDTH, 3))
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[2 + time_step : 9, 3:20] = 1
        mask[10:15, time_step + 5 : 30] = 7
        mask[0] = 255
        annotated = not (index % 2 and time_step == num_frames - 1)
        frames.append(StoredFrame(5 * time_step, encode_jpeg(noise.astype(np.uint8)), mask if annotated else None))
    extra = {"scene": {"index": index, "speed": 0.5, "names": ["a"]}}
    return Record(sequence, tuple(frames), HEIGHT, WIDTH, "toy", "CC0-1.0", f"record {index}", extra)
