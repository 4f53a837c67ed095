"""Random draws depend on their coordinates alone, and are evenly spread."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shards.rng import Dice, digest_coordinates, draw_columns, draw_uniform, generator

WORDS = st.integers(0, 2**64 - 1)


@given(WORDS, WORDS, WORDS, st.integers(1, 2**64))
def test_equal_coordinates_give_equal_draws_in_range(seed: int, epoch: int, position: int, count: int) -> None:
    one, two = (Dice(seed, epoch, position, "test") for _ in range(2))
    first = [one.integers(count) for _ in range(12)]
    assert first == [two.integers(count) for _ in range(12)]
    assert all(0 <= value < count for value in first)
    assert -5 <= one.integers(-5, count) < count if count < 2**63 else True


def test_the_first_draws_are_the_words_of_the_digest() -> None:
    words = np.frombuffer(digest_coordinates(1, 2, 3, "test"), "<u8").tolist()
    dice = Dice(1, 2, 3, "test")
    assert [dice.integers(2**64), dice.integers(2**64)] == words
    assert Dice(1, 2, 3, "other").integers(2**64) != words[0]


@pytest.mark.parametrize("count", [2, 3, 7, 100])
def test_whole_numbers_are_equally_likely(count: int) -> None:
    drawn = [value for place in range(2000) for dice in [Dice(0, 0, place, "t")] for value in _some(dice, count)]
    assert stats.chisquare(np.bincount(drawn, minlength=count)).pvalue > 1e-4


def _some(dice: Dice, count: int) -> list[int]:
    return [dice.integers(count) for _ in range(5)]


def test_numbers_below_one_are_uniform() -> None:
    assert stats.kstest([Dice(0, 0, place, "t").random() for place in range(5000)], "uniform").pvalue > 1e-4


def test_a_count_that_does_not_divide_the_words_is_drawn_again_not_bent() -> None:
    count = 3 * 2**62  # without a second try, one number in three would come up twice as often
    drawn = [Dice(0, 0, place, "t").integers(count) // 2**62 for place in range(3000)]
    assert stats.chisquare(np.bincount(drawn, minlength=3)).pvalue > 1e-4
    evens = [Dice(0, 0, place, "t").integers(count) % 3 for place in range(3000)]
    assert stats.chisquare(np.bincount(evens, minlength=3)).pvalue > 1e-4


def test_all_orders_of_four_things_are_equally_likely() -> None:
    orders = [tuple(Dice(0, 0, place, "t").permutation("abcd")) for place in range(4800)]
    _, counts = np.unique(["".join(order) for order in orders], return_counts=True)
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("bounds", [(0,), (-1,), (3, 3), (4, 3), (0, 2**64 + 1)])
def test_a_range_without_numbers_is_refused(bounds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no whole number"):
        Dice(0, 0, 0, "t").integers(*bounds)


@pytest.mark.parametrize("coordinates", [(-1, 0, 0), (0, 2**64, 0), (0, 0, -1)])
def test_coordinates_that_do_not_fit_are_refused(coordinates: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        Dice(*coordinates, "t")


@pytest.mark.parametrize("position", [0, 1, 2**64 - 1])
def test_the_stream_is_that_of_philox_with_the_digest_as_key(position: int) -> None:
    key = int.from_bytes(digest_coordinates(3, 1, position, "test"), "little")
    ours, plain = generator(3, 1, position, "test"), np.random.Generator(np.random.Philox(key=key))
    assert ours.random(9).tolist() == plain.random(9).tolist()
    assert ours.permutation(20).tolist() == plain.permutation(20).tolist()
    assert pickle.loads(pickle.dumps(ours)).random() == plain.random()


@given(WORDS, st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e6)), min_size=1, max_size=12))
def test_numbers_from_ranges_are_those_that_numpy_draws_one_by_one(
    seed: int, ranges: list[tuple[float, float]]
) -> None:
    one, other = generator(seed, 0, 1, "test"), generator(seed, 0, 1, "test")
    pairs = [(low, low + length) for low, length in ranges]
    assert draw_uniform(one, *pairs) == [other.uniform(*pair) for pair in pairs]
    assert one.random() == other.random()


def test_columns_are_drawn_thing_by_thing_from_their_ranges() -> None:
    ranges = ((0.0, 1.0), (-3.0, -2.0), (5.0, 5.0))
    columns = draw_columns(generator(1, 2, 3, "test"), 200, *ranges)
    assert columns.shape == (3, 200, 1)
    shares = generator(1, 2, 3, "test").random((200, 3))
    np.testing.assert_array_equal(columns[1, :, 0], -3.0 + shares[:, 1])
    for (low, high), column in zip(ranges, columns, strict=True):
        assert low <= column.min() <= column.max() <= high
