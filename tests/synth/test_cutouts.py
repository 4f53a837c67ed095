import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from shards.errors import BadFileError
from synth.cutouts import MARGIN, MAX_SIDE, cut_out, soft_edge, without_specks

RED, GREEN = (220, 30, 20), (10, 200, 40)


def scene(inside):
    """Red object on green, with colours mixed over the edge as a camera mixes them."""
    share = ndimage.gaussian_filter(inside.astype(float), 0.6)[:, :, None]
    rgb = np.rint(share * RED + (1 - share) * GREEN).astype(np.uint8)
    return rgb, np.where(inside, 255, 0).astype(np.uint8)


def disc(height=80, width=100, radius=25, centre=(40, 50)):
    y, x = np.mgrid[0:height, 0:width]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def test_a_cutout_is_cropped_to_the_object_and_a_transparent_margin():
    rgba = cut_out(*scene(disc()), "a")
    assert rgba.shape == (51 + 2 * MARGIN, 51 + 2 * MARGIN, 4)
    inner = np.zeros(rgba.shape[:2], bool)
    inner[MARGIN:-MARGIN, MARGIN:-MARGIN] = True
    assert not rgba[~inner][:, 3].any()
    assert rgba[27, 27, 3] == 255


def test_objects_at_the_border_of_the_picture_get_the_margin_too():
    inside = np.zeros((40, 40), bool)
    inside[:20, :20] = True
    rgba = cut_out(*scene(inside), "a")
    assert rgba.shape == (24, 24, 4)
    assert not rgba[:MARGIN, :, 3].any()
    assert not rgba[:, :MARGIN, 3].any()


def test_no_pixel_that_shows_carries_the_old_background():
    rgba = cut_out(*scene(disc()), "a")
    shown = rgba[rgba[:, :, 3] > 0]
    assert np.abs(shown[:, :3].astype(int) - RED).max() <= 12


def test_the_edge_of_a_binary_mask_is_soft_and_lies_inside_it():
    inside = disc()
    alpha = soft_edge(inside)
    assert not alpha[~inside].any()
    assert (alpha[ndimage.binary_erosion(inside, iterations=4)] == 255).all()
    assert len(np.unique(alpha)) > 8
    half_inside = alpha >= 128
    assert ndimage.binary_erosion(inside, iterations=2)[half_inside].sum() > 0.9 * half_inside.sum()


def test_parts_too_thin_to_shrink_are_kept():
    inside = disc()
    inside[40, 75:95] = True
    alpha = soft_edge(inside)
    assert (alpha[40, 80:94] > 90).all()


def test_specks_are_dropped_and_larger_components_kept():
    inside = disc()
    inside |= disc(radius=5, centre=(8, 8))
    inside[78, 98] = True
    kept = without_specks(inside)
    assert not kept[78, 98]
    assert kept[8, 8]
    rgba = cut_out(*scene(inside), "a")
    assert ndimage.label(rgba[:, :, 3] > 127)[1] == 2


def test_soft_masks_keep_their_alpha():
    alpha = np.rint(255 * ndimage.gaussian_filter(disc().astype(float), 3)).astype(np.uint8)
    rgba = cut_out(scene(disc())[0], alpha, "a")
    top, left = (np.flatnonzero((alpha >= 128).any(axis))[0] for axis in (1, 0))
    middle = rgba[MARGIN:-MARGIN, MARGIN:-MARGIN, 3]
    expected = alpha[top : top + middle.shape[0], left : left + middle.shape[1]]
    core = expected >= 128
    np.testing.assert_array_equal(middle[core], expected[core])


def test_large_objects_are_reduced_to_the_longest_side():
    inside = np.zeros((1500, 3000), bool)
    inside[100:1400, 100:2900] = True
    rgba = cut_out(*scene(inside), "a")
    assert rgba.shape[1] == MAX_SIDE
    assert rgba.shape[0] == pytest.approx(1300 * MAX_SIDE / 2800, abs=4)


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        (np.zeros((30, 30), bool), "mask is empty"),
        (disc(30, 30, 2, (15, 15)), "only 13 pixels"),
        (np.ones((30, 30), bool), "covers the whole picture"),
    ],
)
def test_masks_without_a_usable_object_are_named(inside, said):
    with pytest.raises(BadFileError, match=f"folder/a.jpg: .*{said}"):
        cut_out(*scene(inside), "folder/a.jpg")


@given(st.integers(0, 2**32 - 1), st.integers(8, 40), st.integers(8, 40))
def test_any_mask_gives_a_cutout_or_one_kind_of_error(seed, height, width):
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    levels = np.array([0, 255] if seed % 2 else [0, 60, 128, 200, 255], np.uint8)
    mask = ndimage.zoom(levels[rng.integers(0, len(levels), (4, 4))], (height / 4, width / 4), order=0)
    try:
        rgba = cut_out(rgb, mask, "x")
    except BadFileError as error:
        assert str(error).startswith("x: ")
    else:
        assert not rgba[:MARGIN, :, 3].any() and not rgba[-MARGIN:, :, 3].any()
        assert rgba[:, :, 3].max() >= 128
