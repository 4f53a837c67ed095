"""Numbers that change while training goes on: weights, frame gaps, object counts, as plain data over the position.

A value is written as a number, or as points between which it stays or moves::

    2                                          always 2
    {"steps": [[0, 1], [40000, 3]]}            1, and from global position 40,000 on 3
    {"linear": [[0, 0.9], [100000, 0.5]]}      from 0.9 down to 0.5 over 100,000 positions, then 0.5

Before its first point a value is that of the first point, behind its last that of the last. Positions are global, so a
curriculum does not depend on the number of ranks or the batch size. Numbers are read as the decimals they are written
as, and all arithmetic is exact.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from numbers import Rational
from typing import Any, Literal, TypeAlias

from shards.order import exact_shares, round_shares
from shards.segments import Segment

Value: TypeAlias = float | Mapping[str, Sequence[Sequence[float]]]
"""How a user writes a value that may change: a number, or ``{"steps": points}`` or ``{"linear": points}``."""

MAX_RAMP_STEPS = 32
"""Steps in which weights move from one point to the next."""

RAMP_PERIOD = 256
"""Weights on the move are multiples of 1 / 256, and each of their steps is a multiple of 256 positions long."""


@dataclass(frozen=True, slots=True)
class Curriculum:
    """A number as a function of the global position."""

    kind: Literal["steps", "linear"]
    """Whether it stays until the next point or moves towards it."""

    points: tuple[tuple[int, Fraction], ...]
    """(position, number), positions ascending."""

    def at(self, position: int | Fraction) -> Fraction:
        """The number at a position, exactly."""
        if len(self.points) == 1:
            return self.points[0][1]
        behind = bisect_right(self.points, position, key=lambda point: point[0])
        if behind == 0:
            return self.points[0][1]
        start, value = self.points[behind - 1]
        if self.kind == "steps" or behind == len(self.points):
            return value
        end, aim = self.points[behind]
        return value + (aim - value) * Fraction(position - start) / (end - start)

    def whole_at(self, position: int) -> int:
        """The nearest whole number at a position; halves go up."""
        return nearest_whole(self.at(position))

    @property
    def constant(self) -> bool:
        """Whether it never changes."""
        return len({number for _, number in self.points}) == 1

    @property
    def smallest(self) -> Fraction:
        """The smallest number that it takes anywhere."""
        return self.points[0][1] if len(self.points) == 1 else min(number for _, number in self.points)

    def plain(self) -> Any:
        """As it is written: a number or points; JSON."""
        if self.constant:
            return _plain(self.points[0][1])
        return {self.kind: [[position, _plain(number)] for position, number in self.points]}


def nearest_whole(number: Fraction) -> int:
    """The nearest whole number, halves up; in plain integers, ten times faster than adding fractions."""
    return (2 * number.numerator + number.denominator) // (2 * number.denominator)


def _plain(number: Fraction) -> int | float:
    return int(number) if number.denominator == 1 else float(number)


def read_curriculum(value: Value, name: str) -> Curriculum:
    """Reads a value that may change.

    Args:
        value: a number, ``{"steps": points}`` or ``{"linear": points}``; points are [position, number].
        name: what it is, for messages.

    Raises:
        TypeError: it is neither.
        ValueError: there is no point, positions are not ascending whole numbers of 0 or more, or a number is not
            finite.
    """
    if isinstance(value, Mapping):
        if len(value) != 1 or not set(value) <= {"steps", "linear"}:
            raise ValueError(f'{name} must be a number, {{"steps": ...}} or {{"linear": ...}}, got {dict(value)}')
        [(kind, listed)] = value.items()
        try:
            points = tuple((position, _exact(number, name)) for position, number in listed)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: points are [[position, number], ...], got {listed!r}") from error
        positions = [position for position, _ in points]
        whole = all(isinstance(position, int) and position >= 0 for position in positions)
        if not points or not whole or positions != sorted(set(positions)):
            raise ValueError(f"{name}: positions must be ascending whole numbers of 0 or more, got {positions}")
        return Curriculum("linear" if kind == "linear" else "steps", points)  # type: ignore[arg-type]
    return Curriculum("steps", ((0, _exact(value, name)),))


def _exact(number: object, name: str) -> Fraction:
    if isinstance(number, bool) or not isinstance(number, float | Rational):
        raise TypeError(f"{name} must be a number, got {number!r}")
    if isinstance(number, Rational):
        return Fraction(number)
    if not isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    return Fraction(repr(float(number)))  # 0.1 is one tenth


def weight_segments(weights: Sequence[Curriculum], start: int) -> list[Segment]:
    """Cuts the order into segments of constant shares.

    Weights that stay are kept exactly (see :func:`shards.order.exact_shares`). Where one moves, all stand still for
    steps of a multiple of ``RAMP_PERIOD`` positions, at most ``MAX_RAMP_STEPS`` from one point to the next; in each
    step they are those of its middle. Steps are whole periods, so that ramps add at most 1 to how far a set strays
    from its share, as every change of weights does.

    Args:
        weights: one per shard set; only their proportions count.
        start: global position of the first segment.

    Raises:
        ValueError: a weight is negative, never positive, or all are 0 somewhere.
    """
    for weight in weights:
        if weight.smallest < 0:
            raise ValueError(f"a weight must not be negative, got {weight.plain()}")
        if not any(number for _, number in weight.points):
            raise ValueError(f"a weight must be positive and finite, got {weight.plain()}; leave out what is not drawn")
    places = {position for weight in weights if not weight.constant for position, _ in weight.points}
    starts = sorted({start, *(position for position in places if position > start)})
    segments = []
    for begin, end in zip(starts, [*starts[1:], None], strict=True):
        if end is None or all(weight.at(begin) == weight.at(end - 1) for weight in weights):
            segments.append(Segment(begin, _shares(weights, begin)))
        else:
            segments += _ramp(weights, begin, end)
    return segments


def _ramp(weights: Sequence[Curriculum], begin: int, end: int) -> list[Segment]:
    num_steps = max(1, min(MAX_RAMP_STEPS, (end - begin) // RAMP_PERIOD))
    length = (end - begin) // num_steps // RAMP_PERIOD * RAMP_PERIOD
    starts = [begin + step * length for step in range(num_steps)]
    middles = [Fraction(one + other - 1, 2) for one, other in zip(starts, [*starts[1:], end], strict=True)]
    return [Segment(one, _shares(weights, middle, RAMP_PERIOD)) for one, middle in zip(starts, middles, strict=True)]


def _shares(weights: Sequence[Curriculum], position: int | Fraction, period: int | None = None) -> tuple[int, ...]:
    """Shares of the sets at a position, multiples of 1 / period where one is given; 0 where the weight is 0."""
    here = [weight.at(position) for weight in weights]
    drawn = [weight for weight in here if weight]
    if not drawn:
        raise ValueError(f"all weights are 0 at position {position}; one must be positive everywhere")
    total = sum(drawn)
    shares = iter(exact_shares(drawn) if period is None else round_shares([one / total for one in drawn], period))
    return tuple(next(shares) if weight else 0 for weight in here)
