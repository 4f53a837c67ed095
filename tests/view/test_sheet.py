"""Contact sheets: every picture is there, in its row, at the height asked for."""

import numpy as np
import pytest

from vosdata.view.sheet import captioned, contact_sheet, resized

RED, GREEN, BLUE = (230, 20, 20), (20, 200, 20), (20, 20, 230)


def plain(colour: tuple[int, int, int], height: int = 40, width: int = 60) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_rows_lie_below_each_other_and_pictures_side_by_side() -> None:
    sheet = contact_sheet([("first", [plain(RED), plain(GREEN)]), ("second", [plain(BLUE, 80, 90)])], tile_height=40)
    centres = {}
    for colour in (RED, GREEN, BLUE):
        where = np.argwhere((sheet == colour).all(axis=2))
        assert len(where), colour
        centres[colour] = where.mean(axis=0)
        assert np.ptp(where[:, 0]) + 1 == 40, "tiles have the height asked for"
    assert ((sheet == BLUE).all(axis=2)).sum() == 40 * 45, "proportions are kept"
    assert centres[RED][0] == centres[GREEN][0] < centres[BLUE][0]
    assert centres[RED][1] < centres[GREEN][1]


def test_labels_are_written_above_their_row() -> None:
    with_label = contact_sheet([("camel", [plain(RED)])], tile_height=40)
    without = contact_sheet([("", [plain(RED)])], tile_height=40)
    dark = (with_label < 100).all(axis=2)
    assert dark.any()
    assert not (without < 100).all(axis=2).any()
    assert np.argwhere(dark)[:, 0].max() < np.argwhere((with_label == RED).all(axis=2))[:, 0].min()


def test_a_name_wider_than_its_pictures_is_not_cut() -> None:
    name = "a-sequence-name-that-goes-on-for-longer-than-one-small-picture"
    sheet = contact_sheet([(name, [plain(RED, 20, 20)])], tile_height=20)
    assert sheet.shape[1] > 300


def test_rows_without_pictures_alone_are_a_wrong_call() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([("empty", [])])


def test_resizing_to_the_same_height_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert np.array_equal(resized(picture, 20), picture)
    assert resized(picture, 10).shape == (10, 15, 3)


def test_a_caption_covers_only_the_upper_left_corner() -> None:
    picture = plain(GREEN, 100, 200)
    drawn = captioned(picture, "12")
    changed = np.argwhere((drawn != picture).any(axis=2))
    assert len(changed)
    assert changed.max() < 60
    assert (picture == GREEN).all()
