"""An interleave whose shares change: counts agree with choices, and no item strays further than it may."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.segments import Segment, SegmentedInterleave


@st.composite
def segment_lists(draw: st.DrawFn) -> list[Segment]:
    num_items = draw(st.integers(1, 5))
    shares = st.lists(st.integers(0, 20), min_size=num_items, max_size=num_items).filter(any)
    starts = draw(st.lists(st.integers(0, 300), min_size=1, max_size=5, unique=True))
    return [Segment(start, tuple(draw(shares))) for start in sorted(starts)]


@given(segments=segment_lists(), earlier=st.integers(0, 50))
@settings(max_examples=150)
def test_counts_are_those_of_the_choices_and_stay_near_the_shares(segments: list[Segment], earlier: int) -> None:
    num_items, start = len(segments[0].shares), segments[0].start
    interleave = SegmentedInterleave(segments, [earlier] * num_items)
    counts, aims = [earlier] * num_items, [Fraction(earlier)] * num_items
    for place in range(start, start + 400):
        number = sum(one.start <= place for one in segments) - 1
        shares = segments[number].shares
        assert interleave.counts(place) == tuple(counts)
        item, before = interleave.locate(place)
        assert shares[item] > 0
        assert before == counts[item]
        counts[item] += 1
        aims = [aim + Fraction(share, sum(shares)) for aim, share in zip(aims, shares, strict=True)]
        cut = sum((later.start - one.start) % sum(one.shares) > 0 for one, later in pairwise(segments[: number + 1]))
        assert all(abs(count - aim) < 1 + cut for count, aim in zip(counts, aims, strict=True))


@given(segments=segment_lists(), place=st.integers(0, 10**15))
@settings(max_examples=50)
def test_far_places_are_arithmetic(segments: list[Segment], place: int) -> None:
    interleave = SegmentedInterleave(segments)
    place += segments[-1].start
    item, before = interleave.locate(place)
    counts = interleave.counts(place)
    assert before == counts[item]
    assert sum(counts) == place - interleave.start


def test_what_came_before_the_first_segment_is_not_known() -> None:
    interleave = SegmentedInterleave([Segment(10, (1, 2))], [4, 6])
    assert interleave.counts(10) == (4, 6)
    for ask in (interleave.locate, interleave.counts):
        with pytest.raises(ValueError, match="at least 10, got 9"):
            ask(9)


@pytest.mark.parametrize(
    ("segments", "earlier"),
    [
        ([], None),
        ([Segment(0, (1, 1)), Segment(5, (1,))], None),
        ([Segment(5, (1,)), Segment(5, (1,))], None),
        ([Segment(-1, (1,))], None),
        ([Segment(0, (0, 0))], None),
        ([Segment(0, (1, 1))], [1]),
        ([Segment(0, (1, 1))], [1, -1]),
    ],
)
def test_segments_that_do_not_fit_are_refused(segments: list[Segment], earlier: list[int] | None) -> None:
    with pytest.raises(ValueError, match=r"expected|must"):
        SegmentedInterleave(segments, earlier)
