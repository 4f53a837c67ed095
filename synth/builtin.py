"""Procedural cutouts and backgrounds, so that everything works with no download."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.rng import generator
from synth.cutouts import cut_out
from synth.types import Background, Cutout, Problem

VERSION = 0


class BuiltinObjects:
    """Procedural cutouts."""

    name = "builtin"
    licence = "Apache-2.0"
    problems: tuple[Problem, ...] = ()
    num_left_out = 0

    @property
    def labels(self) -> Sequence[str]:
        return [f"object-{i:05d}" for i in range(len(self))]

    def __len__(self) -> int:
        return 10_000

    def load(self, index: int) -> Cutout:
        rng = generator(0, 0, index, "builtin object")
        rgb = _noise(rng, 200, 200)
        t = np.linspace(0, 2 * np.pi, 200, endpoint=False)
        r = 60 + 10 * np.sin(2 * t + rng.random() * 6) + 12 * np.sin(3 * t + rng.random() * 6)
        points = np.stack([100 + r * np.cos(t), 100 + r * np.sin(t)], 1).astype(np.int32)
        mask = cv2.fillPoly(np.zeros((200, 200), np.uint8), [points], 255)
        return Cutout(cut_out(rgb, mask, f"object-{index:05d}"), f"object-{index:05d}")

    def fingerprint(self) -> str:
        return f"builtin-objects-{VERSION}"


class BuiltinBackgrounds:
    """Procedural backgrounds."""

    name = "builtin"
    licence = "Apache-2.0"
    problems: tuple[Problem, ...] = ()
    num_left_out = 0

    @property
    def labels(self) -> Sequence[str]:
        return [f"background-{i:05d}" for i in range(len(self))]

    def __len__(self) -> int:
        return 10_000

    def load(self, index: int) -> Background:
        rng = generator(0, 0, index, "builtin background")
        return Background(_noise(rng, 480, 640), f"background-{index:05d}")

    def fingerprint(self) -> str:
        return f"builtin-backgrounds-{VERSION}"


def _noise(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    out = np.zeros((height, width, 3), np.float32)
    for size, weight in ((3, 0.5), (8, 0.3), (30, 0.2)):
        coarse = rng.random((size, size, 3), np.float32)
        out += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(out * 255, 0, 255).astype(np.uint8)
