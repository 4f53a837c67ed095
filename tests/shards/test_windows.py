"""The laws of the windowed shuffle: every record once in every pass, few shards at a time, nothing favoured."""

import pickle
from collections import Counter
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from shards.order import scatter
from shards.windows import WindowedShuffle

keys = st.integers(0, 2**64 - 1)
counts_strategy = st.lists(st.integers(1, 30), min_size=1, max_size=25)


def shard_of_each(counts: list[int]) -> list[int]:
    return [shard for shard, count in enumerate(counts) for _ in range(count)]


@given(counts=counts_strategy, window=st.integers(1, 30), key=keys)
@settings(max_examples=100)
def test_every_record_comes_once_in_a_pass(counts: list[int], window: int, key: int) -> None:
    shuffle = WindowedShuffle(counts, window)
    assert sorted(shuffle.permute(place, key) for place in range(sum(counts))) == list(range(sum(counts)))


@given(counts=counts_strategy, window=st.integers(1, 8), key=keys)
@settings(max_examples=100)
def test_a_window_is_used_up_before_the_next_shards_are_opened(counts: list[int], window: int, key: int) -> None:
    shuffle, shards = WindowedShuffle(counts, window), shard_of_each(counts)
    left, open_shards, most = Counter(shards), set[int](), 0
    for place in range(sum(counts)):
        shard = shards[shuffle.permute(place, key)]
        open_shards.add(shard)
        left[shard] -= 1
        most = max(most, len(open_shards))
        open_shards = {one for one in open_shards if left[one]}
    assert most <= window


def test_windows_hold_nearly_equally_many_shards() -> None:
    shuffle = WindowedShuffle([3] * 10, 4)
    shards = shard_of_each([3] * 10)
    drawn = [shards[shuffle.permute(place, 5)] for place in range(30)]
    assert [len(set(drawn[start:end])) for start, end in ((0, 9), (9, 18), (18, 30))] == [3, 3, 4]


def test_passes_differ_in_the_order_of_shards_and_within_them() -> None:
    shuffle, shards = WindowedShuffle([20] * 6, 1), shard_of_each([20] * 6)
    passes = [[shuffle.permute(place, int(key)) for place in range(120)] for key in scatter(np.arange(12, dtype="u8"))]
    of_shards = {tuple(shard for shard, _ in groupby(shards[record] for record in one)) for one in passes}
    assert len(of_shards) > 9
    within = {tuple(record for record in one if shards[record] == 3) for one in passes}
    assert len(within) == 12


def test_every_record_comes_first_equally_often() -> None:
    shuffle = WindowedShuffle([4, 4, 4, 4, 4], 2)
    first = Counter(shuffle.permute(0, key) for key in range(4000))
    assert sum((first[record] - 200) ** 2 / 200 for record in range(20)) < chi2.ppf(0.9999, 19)


def test_neighbours_in_a_window_come_from_all_of_its_shards() -> None:
    shuffle, shards = WindowedShuffle([100] * 8, 4), shard_of_each([100] * 8)
    drawn = [shards[shuffle.permute(place, 11)] for place in range(400)]
    changes = sum(one != other for one, other in pairwise(drawn))
    assert 250 < changes < 350  # 3/4 of 399 expected of unrelated draws


def test_it_pickles_and_asks_in_any_order_give_the_same() -> None:
    shuffle = WindowedShuffle([5, 1, 9, 2], 2)
    order = {(key, place): shuffle.permute(place, key) for key in range(9) for place in range(17)}
    copy = pickle.loads(pickle.dumps(shuffle))
    for key, place in reversed(order):
        assert copy.permute(place, key) == order[key, place]


def test_a_hundred_thousand_shards_are_no_burden() -> None:
    shuffle = WindowedShuffle(np.full(100_000, 10_000), 8)
    images = {shuffle.permute(place, 1) for place in range(500_000_000, 500_000_500)}
    assert len(images) == 500
    assert len({image // 10_000 for image in images}) <= 8


@pytest.mark.parametrize(("counts", "window"), [([], 1), ([1, 0], 1), ([1], 0)])
def test_shards_or_windows_that_mean_nothing_are_refused(counts: list[int], window: int) -> None:
    with pytest.raises(ValueError, match=r"one or more|at least 1"):
        WindowedShuffle(counts, window)


@pytest.mark.parametrize(("index", "key"), [(-1, 0), (7, 0), (0, -1), (0, 2**64)])
def test_places_and_keys_out_of_range_are_refused(index: int, key: int) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        WindowedShuffle([3, 4], 1).permute(index, key)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50, unique=True))
def test_scattering_keeps_different_values_different(values: list[int]) -> None:
    assert len(set(scatter(np.array(values, np.uint64)).tolist())) == len(values)
