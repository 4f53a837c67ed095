"""An interleave whose shares change at given places.

Between two changes it is an ordinary interleave that starts anew. How often each item was chosen in the segments before
is known beforehand, so asking for a place stays arithmetic.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from shards.order import Interleave


@dataclass(frozen=True, slots=True)
class Segment:
    """Shares that hold from a place on."""

    start: int
    """First place."""

    shares: tuple[int, ...]
    """One integer per item, 0 for an item that is not chosen; not all 0."""


class SegmentedInterleave:
    """An endless sequence of choices among K items, whose shares change from segment to segment.

    After any number of choices since the first segment's start, each item has been chosen within S of the sum of its
    shares, S being the number of segments begun so far less those whose length is a multiple of their period: an
    interleave strays by less than 1, and not at all at the end of a whole period.
    """

    def __init__(self, segments: Sequence[Segment], earlier: Sequence[int] | None = None) -> None:
        """Computes one period of every segment.

        Args:
            segments: one or more, with ascending starts and as many shares each.
            earlier: how often each item was chosen before the first segment's start; None means never.

        Raises:
            ValueError: starts do not ascend, or shares or counts do not fit.
        """
        num_items = len(segments[0].shares) if segments else 0
        starts = [segment.start for segment in segments]
        if not num_items or any(len(segment.shares) != num_items for segment in segments):
            raise ValueError("expected one or more segments with as many shares each")
        if starts != sorted(set(starts)) or starts[0] < 0:
            raise ValueError(f"segments must start at ascending places, got {starts}")
        counts = [0] * num_items if earlier is None else list(earlier)
        if len(counts) != num_items or min(counts) < 0:
            raise ValueError(f"expected {num_items} counts of 0 or more, got {counts}")
        self.segments = tuple(segments)
        """The segments, in order of place."""
        self._starts = starts
        self._items = [[item for item, share in enumerate(one.shares) if share] for one in segments]
        self._interleaves = [Interleave([share for share in one.shares if share]) for one in segments]
        self._earlier = [counts]
        for number in range(1, len(segments)):
            self._earlier.append(self._counts(number - 1, starts[number]))

    @property
    def start(self) -> int:
        """First place of the first segment; what came before is not known here."""
        return self._starts[0]

    def locate(self, place: int) -> tuple[int, int]:
        """Says what is chosen at a place, and how often that item was chosen before; see ``Interleave.locate``.

        Raises:
            ValueError: the place lies before the first segment.
        """
        number = self._segment(place)
        one, more = self._interleaves[number].locate(place - self._starts[number])
        item = self._items[number][one]
        return item, self._earlier[number][item] + more

    def counts(self, place: int) -> tuple[int, ...]:
        """How often each item was chosen before a place.

        Raises:
            ValueError: the place lies before the first segment.
        """
        return tuple(self._counts(self._segment(place), place))

    def _segment(self, place: int) -> int:
        if place < self.start:
            raise ValueError(f"place must be at least {self.start}, got {place}")
        return bisect_right(self._starts, place) - 1

    def _counts(self, number: int, place: int) -> list[int]:
        counts = list(self._earlier[number])
        chosen = self._interleaves[number].counts(place - self._starts[number])
        for item, more in zip(self._items[number], chosen, strict=True):
            counts[item] += more
        return counts
