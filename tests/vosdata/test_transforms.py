"""Pixels between shard and batch: sizes, mirror, one pipeline draw per snippet."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as npst
from PIL import Image

from shards.errors import RecipeError
from vosdata.streaming.transforms import mirror, open_augmentation, relabel, resize_frame, resize_mask

rng = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(24, 40), (18, 30), (13, 29), (72, 120), (50, 31)])
def test_masks_are_resized_by_the_nearest_pixel_centre(size: tuple[int, int]) -> None:
    mask = rng.integers(0, 256, (36, 60), np.uint8)
    out = np.empty(size, np.uint8)
    resize_mask(mask, out)
    expected = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST)
    assert np.array_equal(out, np.asarray(expected))


@pytest.mark.parametrize("size", [(18, 30), (12, 20), (24, 40), (9, 20)])
def test_shrinking_a_frame_averages_areas(size: tuple[int, int]) -> None:
    frame = rng.integers(0, 256, (36, 60, 3), np.uint8)
    out = np.empty((*size, 3), np.uint8)
    resize_frame(frame, out)
    expected = np.asarray(Image.fromarray(frame).resize((size[1], size[0]), Image.Resampling.BOX))
    if 36 % size[0] == 0 and 60 % size[1] == 0:
        assert np.abs(out.astype(int) - expected).max() <= 1
    else:  # Pillow's box takes whole pixels only, ours parts of them
        assert abs(out.mean() - frame.mean()) < 1.5


def test_enlarging_a_ramp_keeps_it_a_ramp() -> None:
    frame = np.repeat(np.arange(0, 240, 8, dtype=np.uint8)[None, :, None], 10, 0).repeat(3, 2)
    out = np.empty((20, 60, 3), np.uint8)
    resize_frame(frame, out)
    assert np.all(np.diff(out[0, 2:-2, 0].astype(int)) == 4)


@given(mask=npst.arrays(np.uint8, (5, 7)), labels=npst.arrays(np.uint8, 256))
@settings(max_examples=50)
def test_each_id_is_replaced_by_its_label(mask: np.ndarray, labels: np.ndarray) -> None:
    relabelled = mask.copy()
    relabel(relabelled, labels)
    assert np.array_equal(relabelled, labels[mask])


def test_mirror_twice_changes_nothing_and_once_reverses_columns() -> None:
    frames, masks = rng.integers(0, 256, (3, 8, 11, 3), np.uint8), rng.integers(0, 256, (3, 8, 11), np.uint8)
    ours = frames.copy(), masks.copy()
    mirror(*ours)
    assert np.array_equal(ours[0], frames[:, :, ::-1])
    assert np.array_equal(ours[1], masks[:, :, ::-1])
    mirror(*ours)
    assert np.array_equal(ours[0], frames)
    assert np.array_equal(ours[1], masks)


@pytest.fixture(scope="module")
def albumentations() -> Any:
    import os

    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


@pytest.fixture(scope="module")
def pipeline(albumentations: Any) -> Any:
    return albumentations.Compose(
        [
            albumentations.Affine(rotate=(-30, 30), translate_percent=(-0.2, 0.2), p=1),
            albumentations.RandomBrightnessContrast(p=0.5),
        ]
    )


def still_snippet() -> tuple[np.ndarray, np.ndarray]:
    """The same frame four times, so that a shared draw gives the same picture four times."""
    frame = rng.integers(0, 256, (1, 24, 40, 3), np.uint8)
    mask = (rng.random((1, 24, 40)) < 0.5).astype(np.uint8) * 9
    return frame.repeat(4, 0), mask.repeat(4, 0)


def test_all_frames_of_a_snippet_share_one_draw(pipeline: Any) -> None:
    frames, masks = still_snippet()
    before = frames.copy()
    open_augmentation(pipeline, 4).apply(frames, masks, 5)
    assert not np.array_equal(frames, before)
    assert all(np.array_equal(frames[0], frame) for frame in frames)
    assert all(np.array_equal(masks[0], mask) for mask in masks)
    assert set(np.unique(masks)) <= {0, 9}


def test_masks_move_with_their_frames(albumentations: Any) -> None:
    shift = albumentations.Affine(rotate=(-40, 40), translate_percent=(-0.2, 0.2), interpolation=0, p=1)
    masks = np.zeros((4, 24, 40), np.uint8)
    masks[:, 5:15, 10:25] = 200
    frames = masks[..., None].repeat(3, 3)
    open_augmentation(shift, 4).apply(frames, masks, 11)
    assert np.array_equal(frames[..., 0], masks)


def test_the_seed_alone_decides_the_draw(pipeline: Any) -> None:
    frames, masks = still_snippet()
    one, other = open_augmentation(pipeline, 4), open_augmentation(pipeline, 4)
    results = []
    for augmentation, seeds in ((one, [3]), (other, [8, 4, 3]), (one.copy(), [3])):
        for seed in seeds:
            ours = frames.copy(), masks.copy()
            augmentation.apply(*ours, seed)
        results.append(ours)
    for ours in results[1:]:
        assert np.array_equal(ours[0], results[0][0])
        assert np.array_equal(ours[1], results[0][1])
    ours = frames.copy(), masks.copy()
    one.apply(*ours, 4)
    assert not np.array_equal(ours[0], results[0][0])


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_saved_pipeline_does_the_same(pipeline: Any, albumentations: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"pipeline.{suffix}"
    albumentations.save(pipeline, path, data_format=suffix)
    frames, masks = still_snippet()
    ours, loaded = (frames.copy(), masks.copy()), (frames.copy(), masks.copy())
    open_augmentation(pipeline, 4).apply(*ours, 7)
    from_file = open_augmentation(path, 4)
    from_file.apply(*loaded, 7)
    assert np.array_equal(ours[0], loaded[0])
    assert from_file.digest == open_augmentation(str(path), 4).digest


def test_a_pipeline_that_changes_the_size_is_refused(albumentations: Any) -> None:
    augmentation = open_augmentation(albumentations.RandomCrop(10, 10), 4)
    with pytest.raises(ValueError, match=r"must keep size"):
        augmentation.apply(*still_snippet(), 0)


@pytest.mark.parametrize(
    "content", [None, "not: [a pipeline", '{"transform": {"__class_fullname__": "No", "p": 1}}', "[]"]
)
def test_a_file_without_a_pipeline_is_named(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "augment.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RecipeError, match=r"augment\.yaml"):
        open_augmentation(path, 4)


def test_anything_else_is_not_a_pipeline() -> None:
    with pytest.raises(TypeError, match="albumentations transform"):
        open_augmentation(print, 4)
