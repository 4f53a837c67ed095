"""Values over the position: what they mean, and how closely draws follow weights that change."""

import json
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.segments import SegmentedInterleave
from vosdata.streaming.curriculum import MAX_RAMP_STEPS, RAMP_PERIOD, Curriculum, read_curriculum, weight_segments


def read(value: Any) -> Curriculum:
    return read_curriculum(value, "value")


def test_a_number_stays() -> None:
    value = read(0.1)
    assert value.at(0) == value.at(10**12) == Fraction(1, 10)
    assert value.constant
    assert value.plain() == 0.1


def test_steps_hold_until_the_next_point() -> None:
    value = read({"steps": [[10, 1], [20, 3]]})
    assert [value.at(position) for position in (0, 10, 19, 20, 99)] == [1, 1, 1, 3, 3]


def test_linear_moves_between_points_and_stays_outside() -> None:
    value = read({"linear": [[10, 1], [20, 3], [30, 0]]})
    assert [value.at(position) for position in (0, 10, 15, 20, 25, 30, 99)] == [1, 1, 2, 3, Fraction(3, 2), 0, 0]
    assert [value.whole_at(position) for position in (10, 12, 13, 14, 19)] == [1, 1, 2, 2, 3]  # 1.4, 1.6, 1.8, 2.8


@given(st.sampled_from(["steps", "linear"]), st.dictionaries(st.integers(0, 10**9), st.integers(-50, 50), min_size=1))
def test_plain_form_survives_json(kind: str, points: dict[int, int]) -> None:
    value = read({kind: [list(point) for point in sorted(points.items())]})
    again = read(json.loads(json.dumps(value.plain())))
    assert all(again.at(position + shift) == value.at(position + shift) for position in points for shift in (0, 1))
    assert value.smallest == min(points.values())


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("often", TypeError),
        (True, TypeError),
        (None, TypeError),
        (float("nan"), ValueError),
        ({"steps": []}, ValueError),
        ({"ramp": [[0, 1]]}, ValueError),
        ({"steps": [[0, 1]], "linear": [[0, 1]]}, ValueError),
        ({"steps": [[5, 1], [5, 2]]}, ValueError),
        ({"steps": [[-1, 1]]}, ValueError),
        ({"steps": [[0.5, 1]]}, ValueError),
        ({"steps": [[0, "x"]]}, ValueError),
        ({"steps": [0, 1]}, ValueError),
        ({"steps": 3}, ValueError),
    ],
)
def test_values_that_mean_nothing_are_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="value"):
        read(value)


@st.composite
def weight_lists(draw: st.DrawFn) -> list[Curriculum]:
    """One weight that never changes, so that some set can be drawn everywhere, and some that do."""
    numbers = st.sampled_from([0, 0.1, 0.25, 1, 3])
    positions = st.lists(st.integers(0, 3000), min_size=1, max_size=3, unique=True).map(sorted)
    changing = []
    for _ in range(draw(st.integers(1, 3))):
        points = [[position, draw(numbers)] for position in draw(positions)]
        points[0][1] = points[0][1] or 1
        changing.append(read({draw(st.sampled_from(["steps", "linear"])): points}))
    return [read(draw(st.sampled_from([0.5, 2]))), *changing]


@given(weights=weight_lists())
@settings(max_examples=40)
def test_draws_follow_changing_weights_within_one_for_each_change(weights: list[Curriculum]) -> None:
    segments = weight_segments(weights, 0)
    interleave = SegmentedInterleave(segments)
    places = sorted({position for one in weights for position, _ in one.points if not one.constant})
    counts, aims, number = [0] * len(weights), [Fraction(0)] * len(weights), 0
    for position in range(3500):
        while number + 1 < len(segments) and segments[number + 1].start <= position:
            number += 1
        shares = segments[number].shares
        counts[interleave.locate(position)[0]] += 1
        aims = [aim + Fraction(share, sum(shares)) for aim, share in zip(aims, shares, strict=True)]
        bound = 1 + sum(place <= position for place in places)
        assert all(abs(count - aim) < bound for count, aim in zip(counts, aims, strict=True))


@given(weights=weight_lists())
@settings(max_examples=40)
def test_shares_are_the_weights_where_they_stay_and_near_them_where_they_move(weights: list[Curriculum]) -> None:
    segments = weight_segments(weights, 0)
    for one, later in zip(segments, [*segments[1:], None], strict=True):
        end = one.start + 1 if later is None else later.start
        for position in (one.start, (one.start + end) // 2, end - 1):
            here = [weight.at(position) for weight in weights]
            parts = [weight / sum(here) for weight in here]
            shares = [Fraction(share, sum(one.shares)) for share in one.shares]
            if all(weight.at(one.start) == weight.at(end - 1) for weight in weights):
                assert shares == parts
            else:  # at most a step of the ramp away, and rounded to a multiple of 1/256
                start = max(0, one.start)
                nearby = [weight.at(place) for weight in weights for place in (start, end - 1)]
                moved = max(abs(a - b) for a, b in zip(nearby[::2], nearby[1::2], strict=True)) / min(
                    sum(nearby[::2]), sum(nearby[1::2])
                )
                rounding = Fraction(len(weights), RAMP_PERIOD)
                assert all(abs(a - b) <= len(weights) * moved + rounding for a, b in zip(shares, parts, strict=True))


def test_a_ramp_moves_in_equal_steps_of_whole_periods() -> None:
    weights = [read({"linear": [[1000, 1], [101_000, 0]]}), read({"linear": [[1000, 0], [101_000, 1]]})]
    segments = weight_segments(weights, 0)
    assert segments[0].shares == (1, 0)
    assert segments[-1].shares == (0, 1)
    ramp = [one.start for one in segments[1:-1]]
    assert len(ramp) == MAX_RAMP_STEPS
    assert all((later - one) % RAMP_PERIOD == 0 for one, later in pairwise(ramp))
    drawn = SegmentedInterleave(segments).counts(101_000)
    assert abs(drawn[0] - 51_000) < 100_000 / 512  # the ramp's mean is one half; shares are rounded to 1/256


def test_weights_hold_from_the_start_that_is_asked_for() -> None:
    weights = [read({"steps": [[0, 1], [50, 3]]}), read(1)]
    assert [(one.start, one.shares) for one in weight_segments(weights, 20)] == [(20, (1, 1)), (50, (3, 1))]
    assert [(one.start, one.shares) for one in weight_segments(weights, 70)] == [(70, (3, 1))]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0, 1], "positive"),
        ([-1, 1], "negative"),
        ([{"steps": [[0, 1], [5, 0]]}], "all weights are 0 at position 5"),
        ([{"steps": [[0, 0], [5, 0]]}, 1], "positive"),
        ([{"linear": [[0, 1], [5, -1]]}, 1], "negative"),
    ],
)
def test_weights_that_mean_nothing_are_refused(weights: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weight_segments([read(weight) for weight in weights], 0)


def test_only_so_many_weights_can_move_at_once() -> None:
    weights = [read({"linear": [[0, 1], [10_000, 2]]})] * (RAMP_PERIOD + 1)
    with pytest.raises(ValueError, match="at most 256 weights can change gradually"):
        weight_segments(weights, 0)
