"""Fixtures that every room's tests share: where real data and golden numbers lie, and tiny videos made at run time."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from shards.build import SetDescription, Skipped, build_shard_set
from shards.codec import encode_jpeg
from shards.types import Record, StoredFrame

SHARED = Path(__file__).resolve().parents[2] / "shared"

# The networks of tests are so small that a second thread costs more than it does, and tests run beside each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shells start what runs in the background deaf to Ctrl-C, and children inherit that; tests interrupt theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A law holds however busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def _existing(variable: str, default: Path) -> Path:
    path = Path(os.environ.get(variable, default))
    if not path.is_dir():
        pytest.skip(f"no such folder: set {variable} to run this test")
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of small real data: davis/, davis2016/, ytvos/, msra10k/, voc2012/, coco/, nasty/."""
    return _existing("VOSDATA_TEST_DATA", SHARED / "real")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of outputs of the published A-GAME and of the official DAVIS scorer."""
    return _existing("VOSDATA_GOLDEN", SHARED / "golden")


@dataclass(frozen=True)
class TinyPlan:
    """A shard set of records made beforehand; see ``shards.plan.ShardPlan``."""

    name: str
    content: tuple[Record, ...]
    split: str = "train"
    num_shards: int = 2

    @property
    def num_records(self) -> int:
        return len(self.content)

    def configuration(self) -> dict[str, Any]:
        return {"sequences": [record.sequence for record in self.content]}

    def records(self, shard: int) -> Iterator[Record | Skipped]:
        yield from self.content[shard :: self.num_shards]

    def description(self) -> SetDescription:
        return SetDescription(None, None, "tiny", "", self.name, "Made for tests.")


@pytest.fixture(scope="session")
def build_tiny_set() -> Callable[[Path, str, Sequence[Record]], Path]:
    """Function ``(parent folder, name, records)`` that packs records into a shard set of two shards."""

    def build(parent: Path, name: str, records: Sequence[Record]) -> Path:
        folder = parent / name
        build_shard_set(TinyPlan(name, tuple(records)), folder)
        return folder

    return build


def tiny_record(
    sequence: str,
    numbers: Sequence[int],
    size: tuple[int, int],
    boxes: dict[int, int],
    *,
    unannotated: Sequence[int] = (),
    void: bool = False,
) -> Record:
    """A record of noise in which boxes of 1/4 of the height and 1/5 of the width move to the right.

    Args:
        sequence: its name; also what the noise depends on.
        numbers: frame numbers.
        size: height, width in pixels.
        boxes: object id -> index of the first frame that shows it.
        unannotated: indices of frames without a mask.
        void: whether every object has a frame of void pixels around it.
    """
    rng = np.random.default_rng(list(sequence.encode()))
    height, width = size
    box_height, box_width = height // 4, width // 5
    frames = []
    for index, number in enumerate(numbers):
        mask = np.zeros(size, np.uint8)
        for place, (object_id, first) in enumerate(boxes.items()):
            if index >= first:
                top = 2 + place * 8 % (height - box_height - 3)
                left = 2 + (5 * place + index) % (width - box_width - 3)
                if void:
                    mask[top - 1 : top + box_height + 1, left - 1 : left + box_width + 1] = 255
                mask[top : top + box_height, left : left + box_width] = object_id
        coarse = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
        rgb = np.repeat(np.repeat(coarse, 4, 0), 4, 1)[:height, :width]
        frames.append(StoredFrame(number, encode_jpeg(rgb), None if index in unannotated else mask))
    return Record(sequence, tuple(frames), height, width, source="tiny")


@pytest.fixture(scope="session")
def tiny_sets(
    tmp_path_factory: pytest.TempPathFactory, build_tiny_set: Callable[[Path, str, Sequence[Record]], Path]
) -> dict[str, Path]:
    """Three small shard sets, name -> folder. For snippets of 4 frames at 24x40:

    * ``alpha``: 5 sequences of 24x40, 6 to 10 frames, all annotated, up to 3 objects, void around the objects of two.
    * ``beta``: 36x60, every fifth frame number, every other frame annotated; object 2 appears late; two of its 5
      sequences are not eligible: one has 3 frames, one shows nothing.
    * ``gamma``: 3 sequences of 24x40, 8 frames, one object with id 7.
    """
    parent = tmp_path_factory.mktemp("tiny")
    small = (24, 40)
    alpha = [
        tiny_record(f"alpha.{n}", range(3, 9 + n), small, dict.fromkeys(range(1, 2 + n % 3), 0), void=n > 2)
        for n in range(5)
    ]
    beta = [
        tiny_record(f"beta {n}", range(0, 60, 5), (36, 60), {1: 0, 2: 4 + n}, unannotated=range(1, 12, 2))
        for n in range(3)
    ]
    beta.append(tiny_record("short", range(3), (36, 60), {1: 0}))
    beta.append(tiny_record("empty", range(8), (36, 60), {}))
    gamma = [tiny_record(f"gamma{n}", range(8), small, {7: 0}) for n in range(3)]
    return {
        name: build_tiny_set(parent, name, records)
        for name, records in (("alpha", alpha), ("beta", beta), ("gamma", gamma))
    }
