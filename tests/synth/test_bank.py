"""Decoded pictures: kept while memory lasts, read once while they are, and shared by all shards of a process."""

import pickle
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shards.types import Record
from synth.bank import FRAME, LEVEL_STEP, PictureBank, Sprite, make_sprite
from synth.builtin import BuiltinBackgrounds, BuiltinObjects
from synth.compose import compose_scene
from synth.config import make_config
from synth.generate import SynthPlan
from synth.presets import PRESETS, PresetName
from synth.render import Renderer
from synth.types import Cutout

SMALL = make_config({"num_frames": 2, "size": (48, 80)})


class CountedObjects(BuiltinObjects):
    """Eight of the built-in objects; counts how often each is read."""

    def __init__(self) -> None:
        self.reads: Counter[int] = Counter()

    def __len__(self) -> int:
        return 8

    def load(self, index: int) -> Cutout:
        self.reads[index] += 1
        return super().load(index)


def square(side: int) -> NDArray[np.uint8]:
    return np.full((side, side, 4), 255, np.uint8)


def images(plan: SynthPlan, shard: int) -> list[bytes]:
    return [frame.image for record in plan.records(shard) if isinstance(record, Record) for frame in record.frames]


def test_pictures_are_read_once_for_all_shards() -> None:
    objects = CountedObjects()
    plan = SynthPlan(SMALL, objects, BuiltinBackgrounds(), 16)
    first = [images(plan, shard) for shard in range(plan.num_shards)]
    assert set(objects.reads.values()) == {1}
    assert [images(plan, shard) for shard in range(plan.num_shards)] == first
    assert [images(pickle.loads(pickle.dumps(plan)), shard) for shard in range(plan.num_shards)] == first


def test_decoded_pictures_do_not_travel_with_a_plan() -> None:
    plan = SynthPlan(SMALL, CountedObjects(), BuiltinBackgrounds(), 16)
    before = len(pickle.dumps(plan)) + len(pickle.dumps((plan.objects.labels, plan.backgrounds.labels)))
    images(plan, 0)
    assert len(pickle.dumps(plan)) < before + 1000


def test_two_shards_at_once_do_not_share_a_bank() -> None:
    plan = SynthPlan(SMALL, CountedObjects(), BuiltinBackgrounds(), 16)
    expected = [images(plan, shard) for shard in (0, 1)]
    streams = plan.records(0), plan.records(1)
    found: list[list[bytes]] = [[], []]
    for pair in zip(*streams, strict=True):
        for place, record in enumerate(pair):
            assert isinstance(record, Record)
            found[place] += [frame.image for frame in record.frames]
    assert found == expected


def test_levels_are_made_once_and_count_as_memory() -> None:
    sprite = make_sprite("square", square(100))
    assert sprite.num_bytes == 40_000
    level = sprite.level(2)
    assert level.shape == (round(100 * LEVEL_STEP**2), round(100 * LEVEL_STEP**2), 4)
    assert np.shares_memory(sprite.level(2), level)
    assert sprite.level(0) is sprite.pixels
    framed = sprite.framed(2)
    assert np.shares_memory(framed, level)
    assert np.array_equal(framed, np.pad(level, ((FRAME, FRAME), (FRAME, FRAME), (0, 0))))
    assert sprite.num_bytes == 40_000 + framed.nbytes


def test_the_bound_holds_with_levels_and_the_least_recently_used_go_first() -> None:
    objects = CountedObjects()
    bound = sum(make_sprite("", objects.load(index).rgba).num_bytes for index in range(3))
    bank = PictureBank(objects, BuiltinBackgrounds(), max_bytes=bound)
    objects.reads.clear()
    for index in (0, 1, 0, 2):
        bank.cutout(index).level(1)
    for index in range(3, 8):
        held = bank.cutout(index)
        held.level(1)
        bank.cutout(index)
        kept = {id(sprite): sprite.num_bytes for sprite in bank._kept.values() if not isinstance(sprite, Exception)}
        assert sum(kept.values()) <= max(bound, held.num_bytes)
    assert objects.reads == dict.fromkeys(range(8), 1)
    bank.cutout(7)
    assert objects.reads[7] == 1
    bank.cutout(1)
    assert objects.reads[1] == 2


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 30))
def test_the_hull_holds_all_pixels_that_show_and_goes_no_farther(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    rgba = rng.integers(0, 256, (height, width, 4)).astype(np.uint8)
    rgba[rng.random((height, width)) < rng.choice([0.2, 0.9])] = 0
    rgba[rng.integers(height), rng.integers(width), 3] = 255
    hull = make_sprite("random", rgba).hull
    ys, xs = np.nonzero(rgba[..., 3])
    for x, y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        for point in zip((xs + x).tolist(), (ys + y).tolist(), strict=True):
            assert cv2.pointPolygonTest(hull.astype(np.float32), point, False) >= 0
    assert hull.min(axis=0).tolist() == [xs.min(), ys.min()]
    assert hull.max(axis=0).tolist() == [xs.max() + 1, ys.max() + 1]


class WholePictures(PictureBank):
    """Cutouts whose hull is their whole picture, so that boxes are as large as they can be."""

    def cutout(self, number: int) -> Sprite:
        sprite = super().cutout(number)
        height, width = sprite.size
        return replace(sprite, hull=np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]]))


@pytest.mark.parametrize("preset", PRESETS)
def test_boxes_around_the_hull_cut_nothing_off(preset: PresetName) -> None:
    """Only roundings may differ: places are counted from the corners of boxes."""
    config = make_config({"size": (60, 108)}, preset=preset)
    tight, whole = (bank(BuiltinObjects(), BuiltinBackgrounds()) for bank in (PictureBank, WholePictures))
    one, other = Renderer(tight, config.size, 4), Renderer(whole, config.size, 4)
    for index in range(8):
        scene = compose_scene(config, 1, index, tight)
        ours, expected = one.render(scene, amodal=True), other.render(scene, amodal=True)
        assert np.abs(ours.frames.astype(int) - expected.frames).max() <= 2
        assert (ours.masks != expected.masks).sum() <= 1
        assert ours.amodal is not None and expected.amodal is not None
        assert (ours.amodal != expected.amodal).sum() <= 1
