"""The order's laws: a permutation reaches everything once, an interleave never strays from its shares."""

import itertools
from collections import Counter
from fractions import Fraction
from math import factorial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from shards.order import MAX_PERIOD, Interleave, exact_shares, permute

keys = st.integers(0, 2**64 - 1)


@given(length=st.integers(1, 600), key=keys)
@settings(max_examples=60)
def test_permutation_reaches_every_index_once(length: int, key: int) -> None:
    assert sorted(permute(index, length, key) for index in range(length)) == list(range(length))


@pytest.mark.parametrize("length", [2**16, 99_991, 100_000])
def test_permutation_of_many_reaches_every_index_once(length: int) -> None:
    assert len({permute(index, length, 7) for index in range(length)}) == length


@given(length=st.integers(2, 2**64), key=keys, data=st.data())
@settings(max_examples=100)
def test_permutation_of_any_size_sends_different_indices_to_different_places(
    length: int, key: int, data: st.DataObject
) -> None:
    indices = data.draw(st.sets(st.integers(0, length - 1), min_size=2, max_size=40))
    images = {permute(index, length, key) for index in indices}
    assert len(images) == len(indices)
    assert all(0 <= image < length for image in images)


def test_no_two_of_ten_thousand_indices_collide_among_a_million() -> None:
    # a random function would send about 50 pairs of them to the same place
    assert len({permute(index, 1_000_000, 3) for index in range(10_000)}) == 10_000


@pytest.mark.parametrize("length", [3, 4, 5])
def test_all_orders_of_a_few_things_are_equally_likely(length: int) -> None:
    draws = 120 * factorial(length) if length < 5 else 6_000
    seen = Counter(tuple(permute(index, length, key) for index in range(length)) for key in range(draws))
    expected = draws / factorial(length)
    statistic = sum((seen[order] - expected) ** 2 / expected for order in itertools.permutations(range(length)))
    assert statistic < chi2.ppf(0.9999, factorial(length) - 1)


def test_neighbouring_keys_give_unrelated_orders() -> None:
    length = 1000
    orders = [[permute(index, length, key) for index in range(length)] for key in range(6)]
    for one, other in itertools.combinations(orders, 2):
        agreements = sum(a == b for a, b in zip(one, other, strict=True))
        assert agreements < 10  # 1 is expected of unrelated orders; 10 has a probability of about 1e-7
        shifted = sum(a == b for a, b in zip(one[1:], other, strict=False))
        assert shifted < 10


def test_first_images_of_many_keys_are_spread_evenly() -> None:
    cells = Counter(permute(0, 1_000_000, key) // 100_000 for key in range(5_000))
    statistic = sum((cells[cell] - 500) ** 2 / 500 for cell in range(10))
    assert statistic < chi2.ppf(0.9999, 9)


@pytest.mark.parametrize(("index", "length", "key"), [(0, 0, 0), (3, 3, 0), (-1, 3, 0), (0, 3, -1), (0, 3, 2**64)])
def test_permutation_refuses_what_is_out_of_range(index: int, length: int, key: int) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        permute(index, length, key)


shares_strategy = st.lists(st.integers(1, 60), min_size=1, max_size=9)


@given(shares=shares_strategy)
@settings(max_examples=150)
def test_interleave_keeps_every_item_within_one_of_its_share_after_every_choice(shares: list[int]) -> None:
    interleave = Interleave(shares)
    counts = [0] * len(shares)
    for place in range(2 * interleave.period + 1):
        item, earlier = interleave.locate(place)
        assert earlier == counts[item]
        counts[item] += 1
        for share, count in zip(shares, counts, strict=True):
            assert abs(count - Fraction((place + 1) * share, interleave.period)) < 1


@given(shares=shares_strategy, periods=st.integers(0, 10**12), within=st.integers(0, 500))
@settings(max_examples=100)
def test_interleave_far_out_is_the_same_as_near_by(shares: list[int], periods: int, within: int) -> None:
    interleave = Interleave(shares)
    item, earlier = interleave.locate(within)
    far_item, far_earlier = interleave.locate(periods * interleave.period + within)
    assert far_item == item
    assert far_earlier == earlier + periods * shares[item]


def test_interleave_holds_its_bound_over_the_longest_period() -> None:
    shares = (40_000, 25_000, 535, 1)
    interleave = Interleave(shares)
    counts = [0, 0, 0, 0]
    for place in range(interleave.period):
        counts[interleave.locate(place)[0]] += 1
        worst = max(abs(count * 65_536 - (place + 1) * share) for count, share in zip(counts, shares, strict=True))
        assert worst < 65_536
    assert tuple(counts) == shares


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ([0.5, 0.5], (1, 1)),
        ([0.1, 0.3, 0.6], (1, 3, 6)),
        ([1 / 3, 2 / 3], (1, 2)),
        ([2, 1], (2, 1)),
        ([60, 3471, 10_000], (60, 3471, 10_000)),
        ([0.7], (1,)),
        ([Fraction(1, 7), Fraction(6, 7)], (1, 6)),
    ],
)
def test_plain_weights_are_kept_exactly(weights: list[float], shares: tuple[int, ...]) -> None:
    assert exact_shares(weights) == shares


@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=8))
@settings(max_examples=200)
def test_any_weights_become_shares_that_are_close_and_never_zero(weights: list[float]) -> None:
    shares = exact_shares(weights)
    assert min(shares) >= 1
    assert sum(shares) <= MAX_PERIOD
    for weight, share in zip(weights, shares, strict=True):
        part = Fraction(weight) / sum(map(Fraction, weights))
        assert abs(Fraction(share, sum(shares)) - part) <= Fraction(len(weights) + 1, MAX_PERIOD)


@pytest.mark.parametrize("weights", [[], [0.0, 1.0], [-1.0], [float("nan")], [float("inf"), 1.0]])
def test_weights_that_mean_nothing_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weight"):
        exact_shares(weights)


@pytest.mark.parametrize("shares", [[], [0, 1], [MAX_PERIOD, 1]])
def test_shares_that_mean_nothing_are_refused(shares: list[int]) -> None:
    with pytest.raises(ValueError, match="shares must be positive"):
        Interleave(shares)
