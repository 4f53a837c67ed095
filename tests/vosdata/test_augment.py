"""Augmentation on tensors: exact geometry, colour in integers, and nothing but the position decides."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vosdata.augment import PADDING, TensorAugmentation, augment, void_later_objects
from vosdata.batch import SnippetBatch


def make_batch(num: int = 3, size: tuple[int, int] = (24, 40), num_frames: int = 2, seed: int = 0) -> SnippetBatch:
    """Noise; object 3 is a box at the same place in all frames."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (num, num_frames, *size, 3), np.uint8)
    masks = np.zeros((num, num_frames, *size), np.uint8)
    masks[:, :, size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 3
    return SnippetBatch(
        torch.from_numpy(frames).permute(0, 1, 4, 2, 3),
        torch.from_numpy(masks),
        torch.ones((num, num_frames), dtype=torch.bool),
        [f"k{n}" for n in range(num)],
        0,
        0,
    )


def place_code(size: tuple[int, int], num: int = 1) -> SnippetBatch:
    """Frames whose red and green say row and column; masks that are object 1 all over."""
    rows, columns = np.indices(size)
    frame = np.stack([rows, columns, np.zeros(size)], 2).astype(np.uint8)
    frames = np.broadcast_to(frame, (num, 2, *size, 3)).copy()
    masks = torch.ones((num, 2, *size), dtype=torch.uint8)
    annotated = torch.ones((num, 2), dtype=torch.bool)
    return SnippetBatch(torch.from_numpy(frames).permute(0, 1, 4, 2, 3), masks, annotated, ["k"] * num, 0, 0)


def equal(one: SnippetBatch, other: SnippetBatch) -> bool:
    return torch.equal(one.frames, other.frames) and torch.equal(one.masks, other.masks)


EVERYTHING = TensorAugmentation(
    flip=0.5,
    flip_vertical=0.5,
    scale=(0.7, 1.6),
    crop=(20, 28),
    brightness=0.3,
    contrast=0.3,
    saturation=0.5,
    hue_degrees=30,
)


def test_the_position_alone_decides() -> None:
    batch = make_batch(6)
    whole = augment(batch, EVERYTHING, 4, range(10, 16))
    assert equal(whole, augment(batch, EVERYTHING, 4, range(10, 16)))
    for start, end in ((0, 1), (1, 4), (4, 6)):
        part = SnippetBatch(
            batch.frames[start:end], batch.masks[start:end], batch.annotated[start:end], ["k"] * (end - start), 0, 0
        )
        done = augment(part, EVERYTHING, 4, range(10 + start, 10 + end))
        assert torch.equal(done.frames, whole.frames[start:end])
        assert torch.equal(done.masks, whole.masks[start:end])
    assert not equal(whole, augment(batch, EVERYTHING, 5, range(10, 16)))
    assert not equal(whole, augment(batch, EVERYTHING, 4, range(11, 17)))


def test_the_batch_that_came_in_stays_as_it_was() -> None:
    batch = make_batch()
    frames, masks = batch.frames.clone(), batch.masks.clone()
    done = augment(batch, EVERYTHING, 0, range(3))
    assert torch.equal(batch.frames, frames)
    assert torch.equal(batch.masks, masks)
    assert done.frames.data_ptr() != batch.frames.data_ptr()
    assert (done.frames.shape, done.masks.shape) == ((3, 2, 3, 20, 28), (3, 2, 20, 28))
    assert done.frames.dtype == done.masks.dtype == torch.uint8
    assert done.frames.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_nothing_asked_nothing_done() -> None:
    batch = make_batch()
    assert augment(batch, TensorAugmentation(), 0, range(3)) is batch


def test_all_frames_of_a_snippet_share_one_draw() -> None:
    batch = make_batch(4, num_frames=3)
    still = SnippetBatch(batch.frames[:, :1].expand(-1, 3, -1, -1, -1), batch.masks, batch.annotated, batch.keys, 0, 0)
    done = augment(still, EVERYTHING, 1, range(4))
    for t in (1, 2):
        assert torch.equal(done.frames[:, t], done.frames[:, 0])
        assert torch.equal(done.masks[:, t], done.masks[:, 0])


def test_flips_mirror_frames_and_masks_with_their_probability() -> None:
    batch = make_batch(1)
    kinds: dict[tuple[bool, bool], int] = {}
    for position in range(400):
        done = augment(batch, TensorAugmentation(flip=0.5, flip_vertical=0.25), 0, [position])
        for vertical in (False, True):
            for horizontal in (False, True):
                dims = [-2] * vertical + [-1] * horizontal
                if torch.equal(done.frames, batch.frames.flip(dims)):
                    assert torch.equal(done.masks, batch.masks.flip(dims))
                    kinds[vertical, horizontal] = kinds.get((vertical, horizontal), 0) + 1
    assert sum(kinds.values()) == 400
    assert abs(kinds[False, True] + kinds[True, True] - 200) < 40
    assert abs(kinds[True, False] + kinds[True, True] - 100) < 35


@given(position=st.integers(0, 10**9), height=st.integers(1, 24), width=st.integers(1, 40))
@settings(max_examples=60)
def test_a_crop_is_a_part_of_the_picture(position: int, height: int, width: int) -> None:
    batch = place_code((24, 40))
    done = augment(batch, TensorAugmentation(crop=(height, width)), 0, [position])
    top, left = (int(value) for value in done.frames[0, 0, :2, 0, 0])
    assert torch.equal(done.frames, batch.frames[..., top : top + height, left : left + width])
    assert bool((done.masks == 1).all())


def test_crops_reach_every_place() -> None:
    batch = place_code((6, 7))
    done = [augment(batch, TensorAugmentation(crop=(4, 4)), 0, [position]) for position in range(400)]
    corners = {tuple(one.frames[0, 0, :2, 0, 0].tolist()) for one in done}
    assert corners == {(row, column) for row in range(3) for column in range(4)}


def test_outside_of_the_picture_is_void_and_of_mean_colour() -> None:
    batch = place_code((8, 10))
    done = augment(batch, TensorAugmentation(crop=(12, 13)), 0, [3])
    inside = done.masks[0, 0] == 1
    assert bool((done.masks[0, 0][~inside] == 255).all())
    assert int(inside.sum()) == 80
    rows, columns = inside.nonzero().unbind(1)
    top, left = int(rows.min()), int(columns.min())
    part = done.frames[..., top : top + 8, left : left + 10]
    assert torch.equal(part, batch.frames)
    outside = done.frames[0, 0].permute(1, 2, 0)[~inside]
    assert bool((outside == torch.tensor(PADDING, dtype=torch.uint8)).all())


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.5, 2.0, 3.0])
def test_scaling_agrees_with_opencv(factor: float) -> None:
    size = (40, 60)
    new = (round(size[0] * factor), round(size[1] * factor))
    batch = make_batch(1, size)
    done = augment(batch, TensorAugmentation(scale=(factor, factor), crop=new), 0, [0])
    frame = batch.frames[0, 0].permute(1, 2, 0).contiguous().numpy()
    expected = cv2.resize(frame, new[::-1], interpolation=cv2.INTER_LINEAR)
    difference = done.frames[0, 0].permute(1, 2, 0).numpy().astype(int) - expected
    assert np.abs(difference).max() <= 1
    mask = cv2.resize(batch.masks[0, 0].numpy(), new[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    assert np.array_equal(done.masks[0, 0].numpy(), mask)


def test_frames_and_masks_stay_together_when_scaled() -> None:
    masks = torch.zeros((8, 2, 48, 64), dtype=torch.uint8)
    masks[:, :, 10:30, 20:50] = 200
    frames = masks[:, :, None].expand(-1, -1, 3, -1, -1).contiguous()
    batch = SnippetBatch(frames, masks, torch.ones((8, 2), dtype=torch.bool), ["k"] * 8, 0, 0)
    done = augment(batch, TensorAugmentation(scale=(0.5, 3), crop=(40, 40), flip=0.5), 2, range(8))
    known = done.masks != 255
    wrong = ((done.frames[:, :, 0].int() >= 100) != (done.masks == 200)) & known
    assert float(wrong.sum() / known.sum()) < 0.002  # at most where an edge falls between two pixels


def test_scales_are_drawn_evenly_on_a_logarithmic_scale() -> None:
    batch = place_code((64, 64))
    widths = []
    for position in range(300):
        done = augment(batch, TensorAugmentation(scale=(0.5, 2), min_object_pixels=0), 0, [position])
        inside = (done.masks[0, 0] == 1).any(0)
        seen = done.frames[0, 0, 1, 32].int()
        columns = inside.nonzero()[:, 0]
        span = int(seen[columns[-1]] - seen[columns[0]])
        widths.append((len(columns) - 1) / max(span, 1))
    quarter = np.quantile(widths, [0.25, 0.5, 0.75])
    assert np.allclose(quarter, [0.5**0.5, 1.0, 2**0.5], rtol=0.12)


@given(position=st.integers(0, 10**6), top=st.integers(0, 50), left=st.integers(0, 90), side=st.integers(1, 9))
@settings(max_examples=80)
def test_a_crop_shows_the_object_in_the_first_frame(position: int, top: int, left: int, side: int) -> None:
    masks = torch.zeros((1, 2, 60, 100), dtype=torch.uint8)
    masks[:, 0, top : top + side, left : left + side] = 5
    frames = torch.zeros((1, 2, 3, 60, 100), dtype=torch.uint8)
    batch = SnippetBatch(frames, masks, torch.ones((1, 2), dtype=torch.bool), ["k"], 0, 0)
    num_pixels = int((masks == 5).sum())
    done = augment(batch, TensorAugmentation(crop=(20, 30), min_object_pixels=num_pixels), 0, [position])
    assert int((done.masks[:, 0] == 5).sum()) == num_pixels  # a window around any of its pixels shows all of it


def test_only_crops_that_show_too_little_are_drawn_again() -> None:
    batch = place_code((40, 40))
    anywhere = TensorAugmentation(crop=(10, 10), min_object_pixels=0)
    enough = TensorAugmentation(crop=(10, 10), min_object_pixels=100)
    for position in range(20):  # every window shows 100 pixels
        assert equal(augment(batch, anywhere, 0, [position]), augment(batch, enough, 0, [position]))


def test_unannotated_frames_stay_void() -> None:
    batch = make_batch()
    batch.masks[:, 1] = 255
    done = augment(batch, EVERYTHING, 0, range(3))
    assert bool((done.masks[:, 1] == 255).all())


@pytest.mark.parametrize(
    ("options", "position"),
    [({"brightness": 0.5}, 0), ({"contrast": 0.5}, 1), ({"saturation": 1.0}, 2), ({"hue_degrees": 180.0}, 3)],
)
def test_colour_agrees_with_a_plain_calculation(options: dict[str, Any], position: int) -> None:
    batch = make_batch(1, seed=position)
    done = augment(batch, TensorAugmentation(**options), 0, [position])
    before = batch.frames[0].permute(0, 2, 3, 1).numpy().astype(float)
    after = done.frames[0].permute(0, 2, 3, 1).numpy().astype(float)
    inner = np.all((after > 3) & (after < 252), axis=-1)
    assert torch.equal(done.masks, batch.masks)
    assert inner.sum() > 100
    luma = np.array([0.299, 0.587, 0.114])
    if "brightness" in options:
        ratio = after[inner].sum() / before[inner].sum()
        assert 0.5 <= ratio <= 1.5
        assert np.abs(after[inner] - ratio * before[inner]).max() < 1.5
    elif "contrast" in options:
        factor = np.polyfit(before[inner].ravel(), after[inner].ravel(), 1)[0]
        assert 0.5 <= factor <= 1.5
        assert np.abs(after[inner] - (127.5 + factor * (before[inner] - 127.5))).max() < 1.5
    else:  # luma stays; chroma is scaled, or turned, which keeps its length in the YIQ plane
        assert np.abs((after - before)[inner] @ luma).max() < 1.5
        chroma = np.array([[0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
        old, new = before[inner] @ chroma.T, after[inner] @ chroma.T
        lengths = np.linalg.norm(new, axis=1) / np.maximum(np.linalg.norm(old, axis=1), 20)
        strong = np.linalg.norm(old, axis=1) > 40
        assert np.ptp(lengths[strong]) < 0.08
        assert ("hue_degrees" not in options) or abs(np.median(lengths[strong]) - 1) < 0.02


def test_grays_stay_gray_when_hue_and_saturation_change() -> None:
    gray = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 16, 16).expand(1, 1, 3, 16, 16).contiguous()
    batch = SnippetBatch(
        gray, torch.zeros((1, 1, 16, 16), dtype=torch.uint8), torch.ones((1, 1), dtype=torch.bool), ["k"], 0, 0
    )
    for position in range(20):
        done = augment(batch, TensorAugmentation(saturation=1.0, hue_degrees=180), 0, [position])
        assert int((done.frames.int() - gray.int()).abs().max()) <= 1


def test_objects_that_the_crop_took_out_of_the_first_frame_become_void() -> None:
    masks = torch.zeros((2, 3, 4, 4), dtype=torch.uint8)
    masks[0, 0, 0, 0], masks[0, 1, 1], masks[0, 2, 2] = 7, 9, 7
    masks[1, 0, 0, 0], masks[1, 1, 1], masks[1, 2, 2] = 9, 9, 255
    expected = masks.clone()
    expected[0, 1, 1] = 255
    assert torch.equal(void_later_objects(masks), expected)
    batch = SnippetBatch(
        torch.zeros((2, 3, 3, 4, 4), dtype=torch.uint8), masks, torch.ones((2, 3), dtype=torch.bool), ["k"] * 2, 0, 0
    )
    assert torch.equal(augment(batch, TensorAugmentation(later="void"), 0, range(2)).masks, expected)


def test_given_masks_show_each_object_where_it_first_appears() -> None:
    masks = torch.zeros((2, 4, 2, 3), dtype=torch.uint8)
    masks[0, 0, 0, 0] = 1
    masks[0, 1:, 0] = torch.tensor([1, 4, 255])
    masks[0, 3, 1] = torch.tensor([4, 254, 1])
    masks[1, 0] = 255
    masks[1, 2, 1] = 1
    expected = torch.zeros_like(masks)
    expected[0, 0, 0, 0] = 1
    expected[0, 1, 0, 1] = 4
    expected[0, 3, 1, 1] = 254
    expected[1, 2, 1] = 1
    batch = SnippetBatch(
        torch.zeros((2, 4, 3, 2, 3), dtype=torch.uint8), masks, torch.ones((2, 4), dtype=torch.bool), ["k"] * 2, 0, 0
    )
    assert torch.equal(batch.given_masks(), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_gives_the_same_bytes() -> None:
    batch = make_batch(8, (96, 160), 4)
    ours = augment(batch, EVERYTHING, 0, range(8))
    theirs = augment(batch.to("cuda"), EVERYTHING, 0, range(8))
    assert torch.equal(theirs.frames.cpu(), ours.frames)
    assert torch.equal(theirs.masks.cpu(), ours.masks)
    assert torch.equal(theirs.given_masks().cpu(), ours.given_masks())


@pytest.mark.parametrize(
    "options",
    [
        {"flip": 1.1},
        {"scale": (0.4, 1)},
        {"scale": (2, 1)},
        {"crop": (0, 4)},
        {"brightness": -0.1},
        {"contrast": 2},
        {"hue_degrees": 181},
        {"min_object_pixels": -1},
        {"later": "drop"},
    ],
)
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        TensorAugmentation(**options)


def test_each_snippet_needs_its_position() -> None:
    with pytest.raises(ValueError, match="expected 3 positions, got 2"):
        augment(make_batch(), EVERYTHING, 0, range(2))
