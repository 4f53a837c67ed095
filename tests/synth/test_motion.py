"""Curves are smooth, bounded and what a peer library says; laws move as they are named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from synth.motion import (
    NUM_CONTROL,
    Curve,
    Moments,
    accelerate,
    approach,
    frame_moments,
    glide,
    make_curve,
    overtake,
    pause,
    spline_basis,
    sway,
    swing,
)

curves = st.lists(st.floats(-10, 10), min_size=4, max_size=20).map(tuple)
DENSE = np.linspace(0, 1, 2001)


def values(curve: Curve, times: NDArray[np.float64]) -> NDArray[np.float64]:
    return Moments(times).values(curve)


@given(curves)
def test_curves_are_scipys_uniform_cubic_b_splines(curve: Curve) -> None:
    intervals = len(curve) - 3
    knots = np.arange(-3, intervals + 4) / intervals
    np.testing.assert_allclose(values(curve, DENSE), BSpline(knots, curve, 3)(DENSE), atol=1e-9)


@given(curves)
def test_a_curve_stays_within_its_control_values(curve: Curve) -> None:
    reached = values(curve, DENSE)
    assert reached.min() >= min(curve) - 1e-9
    assert reached.max() <= max(curve) + 1e-9


@given(curves)
def test_velocity_never_jumps(curve: Curve) -> None:
    """Second differences stay below the spline's own bound on acceleration, also across the joints of its pieces."""
    step = DENSE[1] - DENSE[0]
    acceleration = np.diff(values(curve, DENSE), 2) / step**2
    bound = np.abs(np.diff(curve, 2)).max() * (len(curve) - 3) ** 2
    assert np.abs(acceleration).max() <= bound * (1 + 1e-6) + 1e-4


@given(st.integers(4, 30), st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_weights_are_a_partition_of_one(num_control: int, times: list[float]) -> None:
    basis = spline_basis(num_control, np.array(times))
    assert basis.shape == (len(times), num_control)
    assert (basis >= 0).all()
    np.testing.assert_allclose(basis.sum(axis=1), 1)


def test_one_value_is_a_constant() -> None:
    np.testing.assert_array_equal(values((2.5,), DENSE), 2.5)


@pytest.mark.parametrize("num_control", [0, 2, 3])
def test_too_few_control_values_are_refused(num_control: int) -> None:
    with pytest.raises(ValueError, match="at least four"):
        spline_basis(num_control, DENSE)


def test_frames_lie_evenly_from_first_to_last() -> None:
    np.testing.assert_allclose(frame_moments(5).times, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(frame_moments(1).times, [0])


def test_a_curve_survives_text_exactly_and_has_no_minus_zero() -> None:
    curve = make_curve(np.array([-0.0, 1 / 3, 2e-9, 1.0]))
    assert curve == (0.0, 0.333333, 0.0, 1.0)
    assert all(float(repr(value)) == value and not repr(value).startswith("-0.0") for value in curve)
    assert make_curve(np.full(NUM_CONTROL, 0.25)) == (0.25,)


def test_gliding_is_constant_velocity() -> None:
    np.testing.assert_allclose(values(tuple(glide(0.3)), DENSE), 0.3 * (DENSE - 0.5), atol=1e-12)


def test_accelerating_is_constant_acceleration() -> None:
    moved = values(tuple(accelerate(0.4)), DENSE)
    np.testing.assert_allclose(np.diff(moved, 2) / (DENSE[1] - DENSE[0]) ** 2, 0.4, rtol=1e-4)


def test_swaying_goes_back_and_forth_within_its_amplitude() -> None:
    moved = values(tuple(sway(0.1, 1.5, 0.2)), DENSE)
    np.testing.assert_allclose(moved, 0.1 * np.sin(2 * np.pi * (1.5 * DENSE + 0.2)), atol=0.003)


def test_approaching_changes_scale_by_its_ratio() -> None:
    scale = values(tuple(approach(1.5)), DENSE)
    assert scale[0] == pytest.approx(1, abs=1e-3)
    assert scale[-1] == pytest.approx(1.5, abs=1e-3)
    assert (np.diff(scale) > 0).all()


@pytest.mark.parametrize(("begin", "length"), [(0.0, 0.5), (0.2, 0.55), (0.35, 0.65)])
def test_pausing_rests_and_does_the_whole_motion(begin: float, length: float) -> None:
    moved = values(tuple(pause(glide(0.4), begin, length)), DENSE)
    speed = np.diff(moved) * (len(DENSE) - 1)
    assert (np.abs(speed) < 1e-9).mean() > 0.1
    assert speed.min() > -1e-9 and speed.max() < 0.4 / (1 - length) * 1.01
    assert moved[-1] - moved[0] == pytest.approx(0.4, abs=0.08)


def test_swinging_spans_its_extent_and_comes_back() -> None:
    moved = values(tuple(swing(0.3, 2.0, 0.0)), DENSE)
    assert np.ptp(moved) == pytest.approx(0.3, abs=0.01)
    assert abs(moved[-1] - moved[0]) < 0.01


@pytest.mark.parametrize("when", [0.125, 0.5, 0.875])
def test_overtaking_swaps_two_depths_at_the_moment_and_stays_between_their_neighbours(when: float) -> None:
    one, other = (values(tuple(overtake(*pair, when)), DENSE) for pair in ((2.0, 3.0), (3.0, 2.0)))
    assert (one < other)[when - 1e-9 > DENSE].all() and (one > other)[when + 1e-9 < DENSE].all()
    assert min(one.min(), other.min()) > 1.9 and max(one.max(), other.max()) < 3.1
