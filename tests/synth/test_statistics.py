"""Statistics of motion: what they say of videos whose answer is known, and that both ways to them agree."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from shards.build import build_shard_set
from shards.codec import encode_jpeg
from shards.errors import DatasetError
from shards.reader import ShardSet
from shards.types import Record, StoredFrame
from synth.config import make_config
from synth.generate import SynthPlan
from synth.sources import open_backgrounds, open_objects
from synth.statistics import NAMES, distance, measure_set, summarise, track_masks

HEIGHT, WIDTH = 60, 80  # a diagonal of 100


def video(*boxes: list[tuple[int, int, int, int] | None]) -> np.ndarray:
    """Masks in which object n is its n-th list of boxes (x0, y0, x1, y1) over time."""
    masks = np.zeros((len(boxes[0]), HEIGHT, WIDTH), np.uint8)
    for number, places in enumerate(boxes, start=1):
        for mask, place in zip(masks, places, strict=True):
            if place is not None:
                mask[place[1] : place[3], place[0] : place[2]] = number
    return masks


def measured(*videos: np.ndarray):
    found = summarise(track_masks(masks) for masks in videos)
    assert found is not None
    return found


def test_a_square_that_moves_evenly() -> None:
    found = measured(video([(10 + 3 * t, 10 + 4 * t, 20 + 3 * t, 20 + 4 * t) for t in range(5)]))
    assert found.objects.tolist() == [1.0]
    assert found.area == pytest.approx([math.log(100 / 4800)] * 5)
    assert found.speed == pytest.approx([0.05] * 4)
    assert found.scale == pytest.approx([0.0])
    assert found.occlusion == pytest.approx([0.0])


def test_growing_and_shrinking_count_alike_and_are_no_occlusion() -> None:
    sides = [8, 12, 18, 27]  # a factor of 1.5 each time
    grows = video([(0, 0, side, side) for side in sides])
    shrinks = video([(0, 0, side, side) for side in reversed(sides)])
    found = measured(grows, shrinks)
    assert found.scale == pytest.approx([3 * math.log(1.5)] * 2)
    assert found.occlusion == pytest.approx([0.0] * 2, abs=1e-12)


def test_what_another_object_hides_is_occlusion() -> None:
    hidden = [(20, 20, 40, 40)] * 5
    passes = [None, None, (20, 20, 35, 40), None, None]  # hides three quarters
    found = measured(video(hidden, passes))
    # Of the five logarithms one is log(1/4) lower: the line lies a fifth of that below the others.
    assert found.occlusion == pytest.approx([1 - 0.25**0.8])
    assert found.objects.tolist() == [1.0]


def test_an_object_that_is_gone_is_wholly_occluded() -> None:
    assert measured(video([(20, 20, 40, 40)] * 3 + [None])).occlusion.tolist() == [1.0]


def test_void_is_no_object() -> None:
    masks = video([(20, 20, 40, 40)] * 3)
    masks[:, :5] = 255
    assert measured(masks).objects.tolist() == [1.0]


def test_videos_that_begin_empty_are_left_out() -> None:
    assert summarise([track_masks(video([None, (0, 0, 5, 5)]))]) is None


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=40), st.lists(st.floats(-10, 10), min_size=1, max_size=40))
@settings(max_examples=60)
def test_the_distance_is_that_of_wasserstein(one: list[float], other: list[float]) -> None:
    assert distance(np.sort(one), np.sort(other)) == pytest.approx(wasserstein_distance(one, other), abs=1e-9)


def test_an_empty_sample_is_infinitely_far() -> None:
    assert distance(np.empty(0), np.ones(1)) == math.inf
    assert distance(np.empty(0), np.empty(0)) == 0.0


def test_a_set_and_its_masks_have_the_same_statistics(tmp_path: Path) -> None:
    config = make_config({"num_frames": 5, "size": (48, 64)})
    plan = SynthPlan(config, open_objects("builtin"), open_backgrounds("builtin"), 6)
    build_shard_set(plan, tmp_path / "set")
    shard_set = ShardSet(tmp_path / "set")
    for length, begins in ((5, [0]), (9, [0]), (2, [0, 2])):  # too long a window takes the whole video
        whole = [np.stack([shard_set.mask(number, t) for t in range(5)]) for number in range(6)]
        expected = measured(*(masks[begin : begin + length] for masks in whole for begin in begins))
        found = measure_set(shard_set, length)
        for name in NAMES:
            assert found.sample(name) == pytest.approx(expected.sample(name))


def test_a_set_without_masks_is_an_error(tmp_path: Path, build_tiny_set: Callable[..., Path]) -> None:
    image = encode_jpeg(np.zeros((16, 24, 3), np.uint8))
    record = Record("empty", tuple(StoredFrame(t, image, None) for t in range(8)), 16, 24, "toy", "", "", {})
    with pytest.raises(DatasetError, match="no 8 annotated frames in a row begin with an object"):
        measure_set(ShardSet(build_tiny_set(tmp_path, "empty", [record])), 8)
