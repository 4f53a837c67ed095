"""Masks drawn over frames: what changes, what does not, and in which colour."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vosdata.view.overlay import bright_palette, mask_picture, outline, overlay, palette

Mask = NDArray[np.uint8]


def square(object_id: int = 1) -> Mask:
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 12:28] = object_id
    return mask


def test_the_colours_are_those_of_davis() -> None:
    assert palette()[:5].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert palette()[255].tolist() == [224, 224, 192]
    assert np.array_equal(mask_picture(square(3))[15, 20], [128, 128, 0])


def test_background_keeps_the_frame_and_the_frame_itself_is_not_changed() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (30, 40, 3), np.uint8)
    before = rgb.copy()
    drawn = overlay(rgb, square())
    assert np.array_equal(rgb, before)
    assert np.array_equal(drawn[square() == 0], rgb[square() == 0])
    assert not np.array_equal(drawn[square() == 1], rgb[square() == 1])


@given(st.floats(0, 1), st.integers(1, 255), st.integers(0, 255))
def test_inside_an_object_the_colour_is_mixed_by_alpha(alpha: float, object_id: int, gray: int) -> None:
    rgb = np.full((30, 40, 3), gray, np.uint8)
    inside = overlay(rgb, square(object_id), alpha)[15, 20].astype(float)
    assert inside == pytest.approx((1 - alpha) * gray + alpha * palette()[object_id].astype(float), abs=1.5)


def test_the_edge_is_a_bright_line_even_without_tint() -> None:
    rgb = np.full((30, 40, 3), 50, np.uint8)
    drawn = overlay(rgb, square(), alpha=0)
    assert drawn[10, 20].tolist() == [255, 0, 0]
    assert drawn[15, 20].tolist() == [50, 50, 50]
    assert bright_palette()[0].tolist() == [0, 0, 0]


def test_the_outline_lies_inside_objects_and_between_touching_ones() -> None:
    mask = square()
    mask[10:20, 20:28] = 2
    edge = outline(mask)
    assert not edge[mask == 0].any()
    assert edge[10:20, 19].all()
    assert edge[10:20, 20].all()
    assert not edge[12:18, 14:18].any()
    assert not outline(np.full((5, 6), 4, np.uint8)).any(), "an object that fills the frame has no outline"


def test_sizes_that_differ_are_a_wrong_call() -> None:
    with pytest.raises(ValueError, match="one size"):
        overlay(np.zeros((30, 41, 3), np.uint8), square())
    with pytest.raises(ValueError, match="alpha"):
        overlay(np.zeros((30, 40, 3), np.uint8), square(), 1.5)
