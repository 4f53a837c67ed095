"""Videos and predictions in memory, and what the official DAVIS scorer gave."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Mask = NDArray[np.uint8]


@dataclass
class MemoryVideo:
    """Truth in memory; remembers how many annotations were asked for."""

    name: str
    masks: Sequence[Mask | None]

    @property
    def frame_numbers(self) -> Sequence[int]:
        return range(len(self.masks))

    @property
    def num_frames(self) -> int:
        return len(self.masks)

    def mask(self, t: int) -> Mask | None:
        return self.masks[t]


@dataclass
class MemoryPredictions:
    """Predictions in memory; remembers which frames were asked for."""

    masks: Mapping[str, Sequence[Mask]]
    asked: list[int] = field(default_factory=list)

    def open(self, video: MemoryVideo) -> Callable[[int], Mask]:
        def read(t: int) -> Mask:
            self.asked.append(t)
            return self.masks[video.name][t]

        return read


@pytest.fixture
def video() -> Callable[..., MemoryVideo]:
    """Function ``(masks, name="one")`` that makes a sequence in memory."""
    return lambda masks, name="one": MemoryVideo(name, masks)


@pytest.fixture
def predictions() -> Callable[..., MemoryPredictions]:
    """Function ``(name=masks, ...)`` that makes predictions in memory."""
    return lambda **masks: MemoryPredictions(masks)


@dataclass(frozen=True)
class Pair:
    """Two masks and what the official code says about them."""

    truth: NDArray[np.bool_]
    prediction: NDArray[np.bool_]
    void: NDArray[np.bool_] | None
    j: float
    f: float


@pytest.fixture(scope="session")
def official_pairs(golden: Path) -> list[Pair]:
    """The 176 golden pairs; the packed void masks are there only for the pairs that have one."""
    listed = json.loads((golden / "davis_official_scores.json").read_text())["pairs"]
    packed = dict(np.load(golden / "davis_masks.npz"))
    places = dict.fromkeys(("truth", "pred", "void"), 0)

    def take(kind: str, height: int, width: int) -> NDArray[np.bool_]:
        size = -(-height * width // 8)
        bits = np.unpackbits(packed[kind][places[kind] : places[kind] + size])[: height * width]
        places[kind] += size
        return bits.reshape(height, width).astype(np.bool_)

    pairs = []
    for item in listed:
        size = item["height"], item["width"]
        truth, prediction = take("truth", *size), take("pred", *size)
        pairs.append(Pair(truth, prediction, take("void", *size) if item["void"] else None, item["J"], item["F"]))
    assert all(places[kind] == len(packed[kind]) for kind in places)
    return pairs


@pytest.fixture(scope="session")
def official_scores(golden: Path) -> dict[str, Any]:
    """The other golden numbers: ``real`` and ``statistics``."""
    return dict(json.loads((golden / "davis_official_scores.json").read_text()))
