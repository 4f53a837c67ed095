"""Binary, palette and union masks are told apart per sequence; background, void and unannotated stay three things."""

import numpy as np
import pytest
from PIL import Image

from shards.errors import BadFileError, DatasetError
from vosdata.datasets.annotation import MaskReading, mask_reading, read_mask
from vosdata.datasets.recognise import recognise

SIZE = (12, 16)


def sequence_of(tree, year=None):
    if year is not None:
        tree.lists("data", year, val=["a"])
    dataset = recognise(tree.root / "data")[0]
    return dataset.sequences(dataset.split_names[0])[0]


def values(sequence):
    reading = mask_reading(sequence)
    masks = [read_mask(sequence, t, reading, SIZE) for t in range(sequence.num_frames)]
    return [None if mask is None else np.unique(mask).tolist() for mask in masks]


def test_gray_masks_of_0_and_255_are_one_object(tree, stripes):
    tree.sequence("data", "a", {0: stripes(0, 255), 1: stripes(0), 2: stripes(255)}, palette=False)
    sequence = sequence_of(tree, "2017")
    assert mask_reading(sequence) is MaskReading.BINARY
    assert values(sequence) == [[0, 1], [0], [1]]


def test_one_bit_masks_are_one_object(tree, stripes):
    tree.sequence("data", "a", {})
    tree.mask("data/Annotations/480p/a/00000.png", stripes(0, 1))
    Image.fromarray(stripes(0, 1) > 0).save(tree.root / "data/Annotations/480p/a/00000.png")
    assert values(sequence_of(tree, "2017")) == [[0, 1], None, None]


def test_255_is_void_in_every_frame_of_a_palette_sequence(tree, stripes):
    tree.sequence("data", "a", {0: stripes(0, 255), 1: stripes(0, 1, 2, 255), 2: stripes(0, 255)})
    sequence = sequence_of(tree, "2017")
    assert mask_reading(sequence) is MaskReading.IDS
    assert values(sequence) == [[0, 255], [0, 1, 2, 255], [0, 255]]


def test_one_id_anywhere_makes_255_void_in_every_frame_of_a_gray_sequence(tree, stripes):
    tree.sequence("data", "a", {0: stripes(0, 255), 1: stripes(0, 255), 2: stripes(0, 3, 255)}, palette=False)
    assert values(sequence_of(tree, "2017")) == [[0, 255], [0, 255], [0, 3, 255]]


def test_one_palette_mask_makes_255_void_in_every_frame(tree, stripes):
    tree.sequence("data", "a", {0: stripes(0, 255), 1: stripes(0, 255)}, palette=False)
    tree.mask("data/Annotations/480p/a/00002.png", stripes(0, 255), palette=True)
    assert values(sequence_of(tree, "2017")) == [[0, 255]] * 3


def test_two_sequences_of_one_dataset_are_read_each_by_its_own_rule(tree, stripes):
    tree.sequence("data", "a", {0: stripes(0, 255)}, palette=False)
    tree.sequence("data", "b", {0: stripes(0, 255)}, palette=True)
    first, second = recognise(tree.root / "data")[0].sequences("all")
    assert (values(first)[0], values(second)[0]) == ([0, 1], [0, 255])


@pytest.mark.parametrize("palette", [True, False])
def test_under_2016_any_non_zero_value_is_the_object(tree, stripes, palette):
    tree.sequence("data", "a", {0: stripes(0, 1, 2, 7), 1: stripes(0, 255), 2: stripes(0)}, palette=palette)
    sequence = sequence_of(tree, "2016")
    assert values(sequence) == [[0, 1], [0, 1], [0]]
    union = read_mask(sequence, 0, mask_reading(sequence), SIZE)
    np.testing.assert_array_equal(union, stripes(0, 1, 1, 1))


def test_a_frame_without_a_mask_file_is_unannotated_and_an_empty_mask_is_background(tree, stripes):
    tree.sequence("data", "a", {0: stripes(0, 1), 2: stripes(0)})
    assert values(sequence_of(tree, "2017")) == [[0, 1], None, [0]]


def test_sequences_of_nothing_but_background_or_without_masks_hold_no_object(tree, stripes):
    tree.sequence("data", "a", {0: stripes(0)}, palette=False)
    tree.sequence("data", "b", {})
    first, second = recognise(tree.root / "data")[0].sequences("all")
    assert values(first) == [[0], None, None]
    assert values(second) == [None, None, None]


def test_a_mask_of_another_size_is_named(tree, stripes):
    tree.sequence("data", "a", {1: stripes(0, 1, size=(12, 15))})
    sequence = sequence_of(tree, "2017")
    expected = (
        r"DAVIS 2017: mask 00001\.png of sequence a is 12x15, its frame is 12x16 \(Annotations/480p/a\)\. Re-extract"
    )
    with pytest.raises(DatasetError, match=expected):
        read_mask(sequence, 1, mask_reading(sequence), SIZE)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_colour_masks_are_refused_with_the_file_named(tree, mode):
    tree.sequence("data", "a", {})
    Image.new(mode, (16, 12)).save(tree.mask("data/Annotations/480p/a/00000.png", np.zeros(SIZE, np.uint8)))
    with pytest.raises(
        BadFileError, match=r"DAVIS 2017: mask 00000\.png of sequence a \(Annotations/480p/a\): the PNG"
    ):
        values(sequence_of(tree, "2017"))


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["flamingo", "kite-surf", "scooter-black"])
def test_the_untouched_gray_davis_masks_equal_the_palette_ones(real_data, tree, name):
    (tree.root / "data/JPEGImages").mkdir(parents=True)
    (tree.root / "data/JPEGImages/480p").symlink_to(real_data / "davis/JPEGImages/480p")
    (tree.root / "data/Annotations").mkdir()
    (tree.root / "data/Annotations/480p").symlink_to(real_data / "davis/Annotations_binary_original/480p")
    tree.lists("data", "2017", val=[name])
    untouched = recognise(tree.root / "data")[0].sequences("val")[0]
    recoded = next(one for one in recognise(real_data / "davis")[1].sequences("val") if one.name == name)
    readings = mask_reading(untouched), mask_reading(recoded)
    assert readings == (MaskReading.BINARY, MaskReading.IDS)
    for t in range(untouched.num_frames):
        masks = [
            read_mask(s, t, reading, (480, 854)) for s, reading in zip((untouched, recoded), readings, strict=True)
        ]
        np.testing.assert_array_equal(*masks)


@pytest.mark.real_data
def test_the_union_of_a_palette_mask_is_the_davis_2016_truth(real_data, tree):
    (tree.root / "data").mkdir()
    for folder in ("JPEGImages", "Annotations"):
        (tree.root / "data" / folder).symlink_to(real_data / "davis" / folder)
    tree.lists("data", "2016", val=["horsejump-high", "dog"])
    for sequence in recognise(tree.root / "data")[0].sequences("val"):
        union = read_mask(sequence, 0, mask_reading(sequence), (480, 854))
        truth = Image.open(real_data / f"davis/Annotations_binary_original/480p/{sequence.name}/00000.png")
        np.testing.assert_array_equal(union, np.asarray(truth) > 0)
