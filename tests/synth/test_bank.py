"""Decoded pictures: kept while memory lasts, read once while they are, and shared by all shards of a process."""

import pickle
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from shards.types import Record
from synth.bank import LEVEL_STEP, PictureBank, make_sprite
from synth.builtin import BuiltinBackgrounds, BuiltinObjects
from synth.config import make_config
from synth.generate import SynthPlan
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
    assert sprite.level(2) is level
    assert sprite.level(0) is sprite.pixels
    assert sprite.num_bytes == 40_000 + level.nbytes


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
