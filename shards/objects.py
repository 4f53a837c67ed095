"""What the index says about a record's objects: ids, and area and box of each in every frame."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shards.masks import MaskStats
from shards.types import MAX_OBJECT_ID


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

    @classmethod
    def of_masks(cls, masks: Sequence[NDArray[np.uint8] | None]) -> "ObjectTable":
        """The same table as of :func:`shards.masks.object_stats` of each mask, in a third of the time.

        Args:
            masks: ``uint8 (H, W)``, all of one size; None where the frame is unannotated.
        """
        table = cls([None] * len(masks))
        shown = [number for number, mask in enumerate(masks) if mask is not None]
        known = [mask for mask in masks if mask is not None]
        if not known:
            return table
        height, width = known[0].shape
        starts, lengths, values = _runs(known)
        order = np.argsort(values, kind="stable")  # by id, by frame, from above; single bytes are sorted fast
        values, starts, lengths = values[order], starts[order], lengths[order]
        whose = values.astype(np.int64) * len(known) + starts // (height * width)
        firsts = np.flatnonzero(np.diff(whose, prepend=-1))
        if not len(firsts):
            return table
        lasts = np.append(firsts[1:], len(whose)) - 1
        rows = starts // width
        left = starts - rows * width
        ids, frames = np.divmod(whose[firsts], len(known))
        table.ids = np.unique(ids).astype(np.uint8)
        row, column = np.array(shown)[frames], np.searchsorted(table.ids, ids)
        table.areas = np.zeros((len(masks), len(table.ids)), np.int32)
        table.areas[row, column] = np.add.reduceat(lengths, firsts)
        table.boxes = np.zeros((*table.areas.shape, 4), np.int32)
        above = frames * height
        x0, x1 = np.minimum.reduceat(left, firsts), np.maximum.reduceat(left + lengths, firsts)
        table.boxes[row, column] = np.stack([x0, rows[firsts] - above, x1, rows[lasts] + 1 - above], axis=1)
        return table


def _runs(masks: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """The horizontal runs of equal pixels that belong to objects: begins (counted over all masks), lengths, ids."""
    height, width = masks[0].shape
    size = height * width
    is_begin = np.empty(size, np.bool_)
    begins, ids = [], []
    for number, mask in enumerate(masks):
        flat = mask.reshape(-1)
        np.not_equal(flat[1:], flat[:-1], out=is_begin[1:])
        is_begin[::width] = True  # no run goes on in the next row
        found = np.flatnonzero(is_begin)
        begins.append(found + number * size)
        ids.append(flat[found])
    starts, values = np.concatenate(begins), np.concatenate(ids)
    lengths = np.diff(starts, append=size * len(masks))
    objects = np.flatnonzero(values - np.uint8(1) < MAX_OBJECT_ID)  # 0 wraps around to 255
    return starts[objects], lengths[objects], values[objects]
