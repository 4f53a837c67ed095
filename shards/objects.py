"""What the index says about a record's objects: ids, and area and box of each in every frame."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shards.masks import MaskStats


class ObjectTable:
    """Objects of a record of T frames.

    Args:
        stats: of each frame's mask; None where the frame is unannotated.
    """

    def __init__(self, stats: Sequence[MaskStats | None]) -> None:
        seen = [found.ids for found in stats if found is not None]
        self.ids: NDArray[np.uint8] = np.unique(np.concatenate([np.zeros(0, np.uint8), *seen]))
        """``uint8 (N,)``: every id seen, ascending."""
        self.areas = np.zeros((len(stats), len(self.ids)), np.int32)
        """``int32 (T, N)``: pixels; 0 where absent or unannotated."""
        self.boxes = np.zeros((len(stats), len(self.ids), 4), np.int32)
        """``int32 (T, N, 4)``: x0, y0, x1, y1, end-exclusive; 0 where the area is 0."""
        for row, found in enumerate(stats):
            if found is not None:
                columns = np.searchsorted(self.ids, found.ids)
                self.areas[row, columns] = found.areas
                self.boxes[row, columns] = found.boxes
