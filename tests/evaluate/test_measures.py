"""J and F against the official code's values and against a plain whole-frame computation."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from vosdata.evaluate.measures import boundary_map, boundary_measure, boundary_radius, region_similarity

Region = NDArray[np.bool_]


def test_measures_equal_the_official_values_on_every_golden_pair(official_pairs: list[Any]) -> None:
    assert len(official_pairs) == 176
    for pair in official_pairs:
        assert region_similarity(pair.truth, pair.prediction, pair.void) == pytest.approx(pair.j, abs=1e-12)
        assert boundary_measure(pair.truth, pair.prediction, pair.void) == pytest.approx(pair.f, abs=1e-12)


@pytest.mark.real_data
def test_measures_equal_the_official_values_on_real_camel_masks(
    real_data: Path, official_scores: dict[str, Any]
) -> None:
    folder = real_data / "davis2016" / "Annotations" / "240p" / "camel"
    masks = [np.asarray(Image.open(path)) != 0 for path in sorted(folder.glob("*.png"))]
    expected = official_scores["real"]
    assert len(masks) == len(expected["J"]) + 1 == 90
    pairs = list(itertools.pairwise(masks))
    assert [region_similarity(*pair) for pair in pairs] == pytest.approx(expected["J"], abs=1e-12)
    assert [boundary_measure(*pair) for pair in pairs] == pytest.approx(expected["F"], abs=1e-12)


@pytest.mark.parametrize(
    ("height", "width", "radius"),
    [(240, 432, 4), (480, 854, 8), (480, 864, 8), (480, 910, 9), (720, 1280, 12), (1080, 1920, 18)],
)
def test_the_tolerance_is_a_rounded_up_fraction_of_the_diagonal(height: int, width: int, radius: int) -> None:
    assert boundary_radius(height, width) == radius


def region(height: int, width: int, rows: slice, columns: slice) -> Region:
    mask = np.zeros((height, width), np.bool_)
    mask[rows, columns] = True
    return mask


EMPTY = np.zeros((30, 40), np.bool_)
FULL = np.ones((30, 40), np.bool_)
SQUARE = region(30, 40, slice(5, 15), slice(8, 20))


def test_two_empty_regions_agree() -> None:
    assert (region_similarity(EMPTY, EMPTY), boundary_measure(EMPTY, EMPTY)) == (1.0, 1.0)


def test_a_missed_object_scores_nothing() -> None:
    assert (region_similarity(SQUARE, EMPTY), boundary_measure(SQUARE, EMPTY)) == (0.0, 0.0)


def test_an_invented_object_scores_nothing() -> None:
    assert (region_similarity(EMPTY, SQUARE), boundary_measure(EMPTY, SQUARE)) == (0.0, 0.0)


def test_a_region_that_fills_the_frame_has_no_boundary() -> None:
    assert (region_similarity(EMPTY, FULL), boundary_measure(EMPTY, FULL)) == (0.0, 1.0)


def test_void_pixels_count_on_neither_side() -> None:
    wider = region(30, 40, slice(5, 15), slice(8, 30))
    void = region(30, 40, slice(0, 30), slice(20, 40))
    assert region_similarity(SQUARE, wider) < 1
    assert region_similarity(SQUARE, wider, void) == 1.0
    assert boundary_measure(SQUARE, wider, void) == 1.0
    assert region_similarity(SQUARE, wider, np.ones_like(void)) == 1.0


def test_masks_of_different_shape_are_a_wrong_call() -> None:
    with pytest.raises(ValueError, match="one shape"):
        region_similarity(EMPTY, EMPTY[:-1])
    with pytest.raises(ValueError, match="one shape"):
        boundary_measure(EMPTY, EMPTY, EMPTY[:, :-1])


def plain_boundary(mask: Region) -> Region:
    """Pixel by pixel, as the rule is written down."""
    height, width = mask.shape
    edge = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            if y == height - 1 and x == width - 1:
                continue
            if y == height - 1:
                edge[y, x] = mask[y, x] != mask[y, x + 1]
            elif x == width - 1:
                edge[y, x] = mask[y, x] != mask[y + 1, x]
            else:
                edge[y, x] = len({mask[y, x], mask[y, x + 1], mask[y + 1, x], mask[y + 1, x + 1]}) > 1
    return edge


def plain_boundary_measure(truth: Region, prediction: Region, radius: int) -> float:
    """F over the whole frame: no boxes, exact distances instead of dilation."""
    edges = plain_boundary(truth), plain_boundary(prediction)
    if not edges[0].any() or not edges[1].any():
        return float(not edges[0].any() and not edges[1].any())
    near = [ndimage.distance_transform_edt(~edge) <= radius + 1e-9 for edge in edges]
    precision = (edges[1] & near[0]).sum() / edges[1].sum()
    recall = (edges[0] & near[1]).sum() / edges[0].sum()
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


@st.composite
def region_pairs(draw: st.DrawFn) -> tuple[Region, Region]:
    """Two regions of a few boxes each, which often touch or leave the frame."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))

    def one() -> Region:
        mask = np.zeros((height, width), np.bool_)
        for _ in range(draw(st.integers(0, 3))):
            top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
            mask[top : top + draw(st.integers(1, height)), left : left + draw(st.integers(1, width))] ^= True
        return mask

    return one(), one()


@settings(max_examples=150)
@given(region_pairs(), st.integers(1, 5))
def test_measuring_inside_the_common_box_equals_measuring_the_frame(pair: tuple[Region, Region], radius: int) -> None:
    truth, prediction = pair
    assert np.array_equal(boundary_map(truth), plain_boundary(truth))
    assert boundary_measure(truth, prediction, tolerance=radius) == pytest.approx(
        plain_boundary_measure(truth, prediction, radius), abs=1e-12
    )
    union = (truth | prediction).sum()
    assert region_similarity(truth, prediction) == (1.0 if union == 0 else (truth & prediction).sum() / union)


@settings(max_examples=50)
@given(region_pairs())
def test_truth_and_prediction_can_be_exchanged(pair: tuple[Region, Region]) -> None:
    first, second = pair
    assert region_similarity(first, second) == region_similarity(second, first)
    assert boundary_measure(first, second) == pytest.approx(boundary_measure(second, first), abs=1e-12)
