"""The baseline without a model of the target: each pixel takes the label of the most similar pixel of the given frame.

Pixels are compared by the cosine of a backbone's features: of its last level, at a sixteenth of the frame's height and
width, which is what A-GAME's appearance module models too; or of its three levels, each of unit length, side by side at
a quarter of the frame's height and width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiment import Segmented
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, normalize

from vosdata.checkpoint import load_model
from vosdata.evaluate.predictions import Mask, Predictions
from vosdata.evaluate.protocols import EvaluationProtocol
from vosdata.models.agame import AGAME
from vosdata.recipe import Recipe


@dataclass(frozen=True)
class NearestNeighbour:
    """A contender: nearest neighbours in the features of some network's backbone."""

    arm: str
    seed: int
    recipe: Recipe
    """That the network was or would be trained by, its last one."""

    run: Path | None
    """Run folder of the trained network; None takes the network as it is before training."""
    all_levels: bool
    """Whether all levels are compared; else the last one."""

    def configuration(self) -> dict[str, Any]:
        return {"recipe": self.recipe.configuration(), "trained": self.run is not None, "all_levels": self.all_levels}

    def prepare(self, folder: Path, device: str) -> Callable[[EvaluationProtocol], Predictions]:
        if self.run is not None:
            model, _ = load_model(self.run)
        else:
            model = AGAME(self.recipe.model.config(), seed=self.recipe.train.seed)
        return lambda protocol: Segmented(lambda: NearestNeighbourSegmenter(model, self.all_levels), protocol)


class NearestNeighbourSegmenter:
    """A segmenter of one video; sides of its frames must be multiples of 16."""

    def __init__(self, model: AGAME, all_levels: bool) -> None:
        self._model = model.eval()
        self._all_levels = all_levels
        self._stride = 4 if all_levels else 16
        self._ids = [0]
        self._known = torch.empty(0)
        """Features of the given pixels, (P, C)."""
        self._labels = torch.empty(0, 1)
        """Share of the background and of each object in them, (P, N + 1)."""

    @torch.inference_mode()
    def step(self, frame: NDArray[np.uint8], given: Mask | None = None) -> Mask:
        features, size = self._features(frame)
        if given is not None:
            self._take_in(features, given)
        if len(self._ids) == 1:
            return np.zeros(frame.shape[:2], np.uint8)
        nearest = (features @ self._known.T).max(1).indices  # max also tells where; argmax takes far longer on a CPU
        shares = self._labels[nearest].T.reshape(1, -1, *size)
        fine = interpolate(shares, frame.shape[:2], mode="bilinear", align_corners=False)
        return np.array(self._ids, np.uint8)[fine[0].argmax(0).numpy()]

    def _features(self, frame: NDArray[np.uint8]) -> tuple[Tensor, tuple[int, int]]:
        """Features (P, C) of a frame's cells, and height and width of that map."""
        levels = self._model.encode(torch.from_numpy(frame.copy()).permute(2, 0, 1)[None])
        height, width = (side // self._stride for side in frame.shape[:2])
        maps = [
            normalize(interpolate(level, (height, width), mode="bilinear", align_corners=False))
            for level in (levels if self._all_levels else levels[-1:])
        ]
        return normalize(torch.cat(maps, 1))[0].flatten(1).T, (height, width)

    def _take_in(self, features: Tensor, given: Mask) -> None:
        """Remembers what is given: all of the first such frame, later only the pixels of objects that join."""
        new = [int(number) for number in np.unique(given) if number]
        planes = torch.from_numpy(np.stack([given == number for number in new])).float()
        shares = avg_pool2d(planes, self._stride).flatten(1).T  # (P, number of new objects)
        rows = shares.sum(1) > 0 if len(self._ids) > 1 else torch.ones(len(shares), dtype=torch.bool)
        others = torch.zeros(len(shares), len(self._ids))
        others[:, 0] = 1 - shares.sum(1)
        longer = torch.cat([self._labels, torch.zeros(len(self._labels), len(new))], 1)
        self._labels = torch.cat([longer, torch.cat([others, shares], 1)[rows]])
        self._known = torch.cat([self._known.reshape(-1, features.shape[1]), features[rows]])
        self._ids += new
