"""How things move: smooth curves of time, and the named laws that make them.

A curve is a tuple of control values over the time of the video, which runs from 0 (first frame) to 1 (last frame). One
value is a constant; K >= 4 values are a uniform cubic B-spline with K - 3 equal intervals. So position, velocity and
acceleration are continuous, and the curve never leaves the range of its control values: whoever bounds the control
values has bounded the motion, at any number of frames.

A law returns control values for one way of moving; laws are added or multiplied. New laws change no stored form. Where
it takes a :data:`Number`, a law makes of columns ``float64 (N, 1)`` the control values ``(N, NUM_CONTROL)`` of N ways.
"""

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Curve: TypeAlias = tuple[float, ...]
"""Control values: one for a constant, at least four for a cubic B-spline."""

Number: TypeAlias = float | NDArray[np.float64]
"""A number, or a column of them."""

NUM_CONTROL = 11
"""Control values that the laws make: 8 intervals, enough for two cycles of a sine."""

DECIMALS = 6
"""Decimals kept in a curve. A millionth of the frame is invisible, makes scenes short, and hides that ``sin`` differs
in its last bit between machines."""


def make_curve(values: NDArray[np.float64] | float) -> Curve:
    """Rounds control values to what is stored; equal values become a constant.

    Args:
        values: ``float64 (K,)`` control values or one number.
    """
    return make_curves(np.asarray(values, np.float64).reshape(1, -1))[0]


def make_curves(values: NDArray[np.float64]) -> list[Curve]:
    """Many at once of what :func:`make_curve` makes, from ``float64 (N, K)``."""
    rows = round_values(values).tolist()
    return [tuple(row[:1]) if row.count(row[0]) == len(row) else tuple(row) for row in rows]


def round_values(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rounds numbers of a scene to what is stored."""
    return values.round(DECIMALS) + 0.0  # + 0.0: no minus zero


def spline_basis(num_control: int, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the control values at given times.

    Args:
        num_control: number of control values K, 1 or at least 4.
        times: ``float64 (T,)`` in [0, 1].

    Returns:
        ``float64 (T, K)``; every row is non-negative and sums to one.

    Raises:
        ValueError: ``num_control`` is neither 1 nor at least 4.
    """
    if num_control == 1:
        return np.ones((len(times), 1))
    if num_control < 4:
        raise ValueError(f"a curve has one control value or at least four, got {num_control}")
    intervals = num_control - 3
    first = np.clip(np.floor(times * intervals).astype(np.int64), 0, intervals - 1)
    u = times * intervals - first
    weights = np.stack([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3], axis=1) / 6
    basis = np.zeros((len(times), num_control))
    np.put_along_axis(basis, first[:, None] + np.arange(4), weights, axis=1)
    return basis


class Moments:
    """Times at which many curves are evaluated; the weights of their control values are computed once."""

    def __init__(self, times: NDArray[np.float64]) -> None:
        """Takes times ``float64 (T,)`` in [0, 1]."""
        self.times = times
        self._bases: dict[int, NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return len(self.times)

    def values(self, curve: Curve) -> NDArray[np.float64]:
        """Values of a curve at these times: ``float64 (T,)``."""
        if len(curve) not in self._bases:
            self._bases[len(curve)] = spline_basis(len(curve), self.times)
        values: NDArray[np.float64] = self._bases[len(curve)] @ np.array(curve)
        return values


def frame_moments(num_frames: int) -> Moments:
    """Times of the frames: evenly from 0 to 1; a single frame is at 0."""
    return Moments(np.linspace(0.0, 1.0, num_frames))


def control_times() -> NDArray[np.float64]:
    """Times at which a law is sampled for its control values (Greville abscissae): straight lines come out exact."""
    return _CONTROL_TIMES


_CONTROL_TIMES = (np.arange(NUM_CONTROL) - 1.0) / (NUM_CONTROL - 3)
_CONTROL_TIMES.setflags(write=False)


def glide(change: Number) -> NDArray[np.float64]:
    """Constant velocity: ``change`` over the whole video, zero in its middle."""
    return change * (control_times() - 0.5)


def accelerate(acceleration: Number) -> NDArray[np.float64]:
    """Constant acceleration per (video length)^2, at rest and zero in the middle of the video."""
    return 0.5 * acceleration * (control_times() - 0.5) ** 2


def sway(amplitude: Number, cycles: Number, phase: Number) -> NDArray[np.float64]:
    """A sine of ``cycles`` periods over the video, at most two; ``phase`` in periods.

    A cubic B-spline through samples of a sine has (2 + cos w) / 3 of its amplitude, w being the angle between two
    samples; dividing by that makes the curve as high as it is asked to be.
    """
    gain = (2 + np.cos(2 * math.pi * cycles / (NUM_CONTROL - 3))) / 3
    return amplitude / gain * np.sin(2 * math.pi * (cycles * control_times() + phase))


def swing(extent: Number, cycles: Number, phase: Number) -> NDArray[np.float64]:
    """To and fro over ``extent`` instead of across it: a :func:`sway` of half that amplitude."""
    return sway(extent / 2, cycles, phase)


def pause(values: NDArray[np.float64], begin: float, length: float) -> NDArray[np.float64]:
    """The same motion, standing still from ``begin`` on for ``length`` of the video and faster in the rest.

    From half a video on, at least four control values in a row are equal, so the curve truly rests.
    """
    times = control_times()
    active = (times - np.clip(times - begin, 0.0, length)) / (1.0 - length)
    return np.interp(active, times, values)


def overtake(depth: float, other: float, when: float) -> NDArray[np.float64]:
    """Depth that starts on the side of ``depth`` and ends on that of its neighbour ``other``; they meet at ``when``."""
    return (depth + other) / 2 + (depth - other) / 2 * (when - control_times())


def approach(ratio: Number) -> NDArray[np.float64]:
    """Scale that grows evenly from 1 in the first frame to ``ratio`` in the last (shrinks when below 1)."""
    values: NDArray[np.float64] = np.exp(np.log(ratio) * control_times())
    return values


def wander(rng: np.random.Generator, amplitude: float, count: int) -> NDArray[np.float64]:
    """Goes to and fro without a plan, never farther than ``amplitude`` from zero; ``count`` times."""
    return amplitude * rng.uniform(-1.0, 1.0, (count, NUM_CONTROL))


def drift(first: Number, last: Number) -> NDArray[np.float64]:
    """Evenly from one value in the first frame to another in the last."""
    return first + (last - first) * control_times()


def enter(begin: float, length: float) -> NDArray[np.float64]:
    """Share of the way out: all of it at first, none after ``begin + length``."""
    return 1.0 - _rise((control_times() - begin) / length)


def leave(begin: float, length: float) -> NDArray[np.float64]:
    """Share of the way out: none before ``begin``, all of it after ``begin + length``."""
    return _rise((control_times() - begin) / length)


def come_back(middle: float, hold: float, length: float) -> NDArray[np.float64]:
    """Share of the way out: all of it within ``hold`` of ``middle``; going and coming take ``length`` each."""
    return leave(middle - hold - length, length) * enter(middle + hold, length)


def _rise(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 to 1 while ``share`` does, at rest on both ends."""
    clipped = np.clip(share, 0.0, 1.0)
    rise: NDArray[np.float64] = clipped * clipped * (3 - 2 * clipped)
    return rise
