"""The index's table of objects says what the masks show."""

import numpy as np
import pytest
from numpy.typing import NDArray

from shards.masks import object_stats
from shards.objects import ObjectTable


def random_masks(rng: np.random.Generator, num_frames: int, size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Boxes of few ids, void among them, over each other and up to the edges; some masks stay empty."""
    masks = [np.zeros(size, np.uint8) for _ in range(num_frames)]
    for mask in masks:
        for _ in range(rng.integers(0, 6)):
            y, x = (np.sort(rng.integers(0, side + 1, 2)) for side in size)
            mask[y[0] : y[1], x[0] : x[1]] = rng.choice([0, 1, 2, 7, 128, 254, 255])
    return masks


def counted(masks: list[NDArray[np.uint8] | None]) -> dict[tuple[int, int], tuple[int, ...]]:
    """Area and box by frame and id, counted pixel by pixel."""
    found: dict[tuple[int, int], tuple[int, ...]] = {}
    for number, mask in enumerate(masks):
        for value in set() if mask is None else set(np.unique(mask).tolist()) - {0, 255}:
            ys, xs = np.nonzero(mask == value)
            found[number, value] = (len(ys), xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    return found


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 7), (6, 8), (13, 33)])
def test_areas_and_boxes_are_those_counted_pixel_by_pixel(size: tuple[int, int]) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        masks = [None if rng.random() < 0.2 else mask for mask in random_masks(rng, 5, size)]
        table, expected = ObjectTable.of_masks(masks), counted(masks)
        assert table.ids.tolist() == sorted({value for _, value in expected})
        for number in range(len(masks)):
            for column, value in enumerate(table.ids.tolist()):
                found = (int(table.areas[number, column]), *table.boxes[number, column].tolist())
                assert found == expected.get((number, value), (0, 0, 0, 0, 0))


def test_it_is_the_table_of_each_mask_alone() -> None:
    masks = random_masks(np.random.default_rng(5), 12, (40, 61))
    together, alone = ObjectTable.of_masks(masks), ObjectTable([object_stats(mask) for mask in masks])
    for name in ("ids", "areas", "boxes"):
        ours, theirs = getattr(together, name), getattr(alone, name)
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


def test_masks_need_not_lie_in_one_piece() -> None:
    wide = random_masks(np.random.default_rng(6), 3, (20, 60))
    cut = [mask[:, 10:40] for mask in wide]
    assert np.array_equal(ObjectTable.of_masks(cut).areas, ObjectTable.of_masks([m.copy() for m in cut]).areas)


@pytest.mark.parametrize("masks", [[], [None, None], [np.zeros((4, 4), np.uint8)]])
def test_nothing_shown_is_an_empty_table(masks: list[NDArray[np.uint8] | None]) -> None:
    table = ObjectTable.of_masks(masks)
    assert table.ids.shape == (0,) and table.areas.shape == (len(masks), 0)
    assert table.boxes.shape == (len(masks), 0, 4)
