"""Following objects through a video: who is given when, what comes back, and that nothing grows."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vosdata.models.agame import AGAME, VideoSegmenter
from vosdata.models.agame.enlarging import enlarge
from vosdata.models.agame.network import pool
from vosdata.models.agame.segmenter import Aggregation

Mask = NDArray[np.uint8]
SIZE = (45, 61)


@pytest.fixture
def video() -> Mask:
    """Frames uint8 (5, 45, 61, 3)."""
    return np.random.default_rng([1, 2]).integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)


def _box(number: int, top: int, left: int, height: int = 12, width: int = 20) -> Mask:
    mask = np.zeros(SIZE, np.uint8)
    mask[top : top + height, left : left + width] = number
    return mask


def test_the_first_frame_is_the_given_mask_with_its_own_ids_and_void_as_background(tiny: AGAME, video: Mask) -> None:
    given = np.maximum(_box(7, 3, 5), _box(254, 25, 30))
    given[0] = 255
    segmenter = VideoSegmenter(tiny)
    np.testing.assert_array_equal(segmenter.step(video[0], given), np.where(given == 255, 0, given))
    assert segmenter.object_ids == (7, 254)
    later = segmenter.step(video[1])
    assert later.dtype == np.uint8
    assert later.shape == SIZE
    assert set(np.unique(later)) <= {0, 7, 254}


def test_nothing_is_found_until_an_object_is_given(tiny: AGAME, video: Mask) -> None:
    segmenter = VideoSegmenter(tiny)
    assert not segmenter.step(video[0]).any()
    assert not segmenter.step(video[1], np.full(SIZE, 255, np.uint8)).any()
    assert segmenter.probabilities is None
    given = _box(3, 4, 4)
    np.testing.assert_array_equal(segmenter.step(video[2], given), given)


def test_a_joining_object_owns_its_given_pixels_in_that_frame(tiny: AGAME, video: Mask) -> None:
    joining = _box(2, 20, 10)
    segmenter, without = VideoSegmenter(tiny), VideoSegmenter(tiny)
    for each in (segmenter, without):
        each.step(video[0], _box(1, 3, 5, 30, 40))
    found, expected = segmenter.step(video[1], joining), without.step(video[1])
    np.testing.assert_array_equal(found == 2, joining == 2)
    np.testing.assert_array_equal(found[joining == 0], expected[joining == 0])
    assert segmenter.object_ids == (1, 2)


def test_a_joining_object_owns_its_pixels_even_against_a_certain_one(tiny: AGAME, video: Mask) -> None:
    with torch.no_grad():
        tiny.upsampling.predict.bias.copy_(torch.tensor([0.0, 1000.0]))  # whatever is followed claims every pixel
    joining = _box(2, 20, 10)
    segmenter = VideoSegmenter(tiny)
    segmenter.step(video[0], _box(1, 3, 5))
    np.testing.assert_array_equal(segmenter.step(video[1], joining), np.where(joining == 2, 2, 1))


def test_the_segmenter_feeds_back_the_pooled_fine_mask(tiny: AGAME) -> None:
    """Three frames of one object against a plain loop over the network's parts."""
    frames = np.random.default_rng([5, 6]).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    given = np.zeros((48, 64), np.uint8)
    given[5:25, 10:40] = 1
    segmenter = VideoSegmenter(tiny)
    segmenter.step(frames[0], given)
    for frame in frames[1:]:
        segmenter.step(frame)
    state = None
    probability = torch.from_numpy(given).float()[None]
    for frame in torch.from_numpy(frames).permute(0, 3, 1, 2)[:, None]:
        features = tiny.encode(frame)
        appearance = tiny.appearance.project(features.deep)
        mask = pool(torch.stack([1 - probability, probability], 1))
        if state is None:
            state = tiny.start(appearance, features.deep, mask)
            continue
        encoding, _ = tiny.locate(appearance, tiny.propagation.project(features.deep), state)
        fine = enlarge(tiny.upsampling(encoding, tiny.upsampling.laterals(features)), 4)
        probability = fine.softmax(1)[:, 1].detach()
        state = tiny.remember(state, appearance, pool(torch.stack([1 - probability, probability], 1)))
    assert segmenter.probabilities is not None
    torch.testing.assert_close(segmenter.probabilities[1:], probability, atol=1e-5, rtol=1e-4)


def test_ids_that_are_followed_already_are_ignored_when_given_again(tiny: AGAME, video: Mask) -> None:
    segmenter, reference = VideoSegmenter(tiny), VideoSegmenter(tiny)
    for each in (segmenter, reference):
        each.step(video[0], _box(1, 3, 5))
    np.testing.assert_array_equal(segmenter.step(video[1], _box(1, 30, 30)), reference.step(video[1]))
    assert segmenter.object_ids == (1,)


def test_published_joining_predicts_the_new_object_instead_of_echoing_it(tiny: AGAME, video: Mask) -> None:
    joining = _box(2, 20, 10)
    segmenter = VideoSegmenter(tiny, joining="predicted")
    given = _box(1, 3, 5)
    np.testing.assert_array_equal(segmenter.step(video[0], given), given)
    found = segmenter.step(video[1], joining)
    assert segmenter.object_ids == (1, 2)
    assert not np.array_equal(found == 2, joining == 2)


def test_objects_in_one_batch_are_located_as_if_each_were_alone(tiny: AGAME, video: Mask) -> None:
    masks = [_box(1, 3, 5), _box(2, 25, 30)]
    together = VideoSegmenter(tiny, aggregation="always")
    together.step(video[0], masks[0] + masks[1])
    together.step(video[1])
    separate = []
    for mask in masks:
        alone = VideoSegmenter(tiny)
        alone.step(video[0], mask)
        alone.step(video[1])
        assert alone.probabilities is not None
        background, target = alone.probabilities
        separate.append(target / background)  # the odds
    background = torch.stack([1 / odds for odds in separate]).amin(0)
    odds = torch.stack([background, *separate])
    assert together.probabilities is not None
    torch.testing.assert_close(together.probabilities, odds / odds.sum(0), atol=1e-5, rtol=1e-4)


def test_probabilities_add_up_to_one_and_agree_with_the_mask(tiny: AGAME, video: Mask) -> None:
    segmenter = VideoSegmenter(tiny)
    segmenter.step(video[0], np.maximum(_box(5, 3, 5), _box(9, 25, 30)))
    found = segmenter.step(video[1])
    probabilities = segmenter.probabilities
    assert probabilities is not None
    assert probabilities.shape == (3, *SIZE)
    torch.testing.assert_close(probabilities.sum(0), torch.ones(SIZE))
    np.testing.assert_array_equal(np.array([0, 5, 9])[probabilities.argmax(0)], found)


@pytest.mark.parametrize("aggregation", ["several", "always"])
def test_a_single_object_is_fed_back_as_the_option_says(tiny: AGAME, video: Mask, aggregation: Aggregation) -> None:
    segmenter = VideoSegmenter(tiny, aggregation=aggregation)
    segmenter.step(video[0], _box(1, 3, 5))
    segmenter.step(video[1])
    sharp, plain = segmenter.probabilities, None
    reference = VideoSegmenter(tiny)
    reference.step(video[0], _box(1, 3, 5))
    reference.step(video[1])
    plain = reference.probabilities
    assert sharp is not None
    assert plain is not None
    expected = plain if aggregation == "several" else plain**2 / (plain**2).sum(0)
    torch.testing.assert_close(sharp, expected)


def test_what_is_remembered_does_not_grow_with_the_video(tiny: AGAME, video: Mask) -> None:
    segmenter = VideoSegmenter(tiny)
    segmenter.step(video[0], _box(1, 3, 5))
    segmenter.step(video[1])
    sizes = _sizes(segmenter)
    for _ in range(4):
        segmenter.step(video[2])
    assert _sizes(segmenter) == sizes


def _sizes(segmenter: VideoSegmenter) -> list[tuple[int, ...]]:
    state = segmenter._state
    assert state is not None
    tensors = [state.mixture.means, state.mixture.variances, state.reference, state.mask]
    assert not any(tensor.requires_grad for tensor in tensors)
    return [tuple(tensor.shape) for tensor in tensors]


def test_arrays_and_tensors_and_a_second_run_after_reset_give_the_same(tiny: AGAME, video: Mask) -> None:
    video.flags.writeable = False
    segmenter = VideoSegmenter(tiny)
    given = _box(1, 3, 5)
    first = [segmenter.step(frame, given if t == 0 else None) for t, frame in enumerate(video)]
    segmenter.reset()
    assert segmenter.object_ids == ()
    tensors = torch.from_numpy(video.copy()).permute(0, 3, 1, 2)
    second = [segmenter.step(frame, torch.from_numpy(given) if t == 0 else None) for t, frame in enumerate(tensors)]
    np.testing.assert_array_equal(np.stack(first), np.stack(second))


def test_segmenting_leaves_the_batch_statistics_alone(tiny: AGAME, video: Mask) -> None:
    tiny.train()
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    segmenter = VideoSegmenter(tiny)
    segmenter.step(video[0], _box(1, 3, 5))
    segmenter.step(video[1])
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())
    tiny.train()
    with pytest.raises(ValueError, match="training mode"):
        segmenter.step(video[2])


def test_bfloat16_autocast_finds_nearly_the_same(tiny: AGAME, video: Mask) -> None:
    exact, rough = VideoSegmenter(tiny), VideoSegmenter(tiny, autocast=torch.bfloat16)
    for segmenter in (exact, rough):
        segmenter.step(video[0], _box(1, 3, 5))
        segmenter.step(video[1])
    assert exact.probabilities is not None
    assert rough.probabilities is not None
    assert (exact.probabilities - rough.probabilities).abs().mean() < 0.1  # random weights make steep probabilities


def test_wrong_frames_and_masks_are_named(tiny: AGAME, video: Mask) -> None:
    segmenter = VideoSegmenter(tiny)
    with pytest.raises(ValueError, match="a frame must be uint8"):
        segmenter.step(video[0].astype(np.float32))
    with pytest.raises(ValueError, match=r"given mask must be uint8 \(45, 61\)"):
        segmenter.step(video[0], np.zeros((45, 60), np.uint8))
    segmenter.step(video[0], _box(1, 3, 5))
    with pytest.raises(ValueError, match="one size"):
        segmenter.step(video[1][:, :50])
    with pytest.raises(ValueError, match="joining"):
        VideoSegmenter(tiny, joining="wrong")  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_device_finds_the_same(tiny: AGAME, video: Mask) -> None:
    given = np.maximum(_box(5, 3, 5), _box(9, 25, 30))
    results = []
    for device in ("cpu", "cuda"):
        segmenter = VideoSegmenter(tiny.to(device))
        segmenter.step(video[0], given)
        segmenter.step(video[1])
        assert segmenter.probabilities is not None
        results.append(segmenter.probabilities.cpu())
    torch.testing.assert_close(results[0], results[1], atol=1e-3, rtol=1e-3)
