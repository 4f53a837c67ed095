"""Curves: every point where it belongs, numbers at the axes, nothing drawn from nothing."""

import base64
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from vosdata.view.curves import Chart, Curve, charts, running_mean
from vosdata.view.page import Media

SVG = "{http://www.w3.org/2000/svg}"


def drawn(media: Media) -> ElementTree.Element:
    kind, data = media.data_uri.split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    return ElementTree.fromstring(base64.b64decode(data))


def points(root: ElementTree.Element, place: int = 0) -> np.ndarray:
    texts = [one.get("points", "") for one in root.iter(f"{SVG}polyline")]
    return np.array([[float(x) for x in point.split(",")] for point in texts[place].split()])


def test_points_lie_on_a_line_where_their_values_do() -> None:
    found = points(drawn(charts([Chart("Loss", [Curve("loss", [(0, 1.0), (10, 2.0), (40, 5.0)])])])))
    steps = np.diff(found, axis=0)
    assert steps[1, 0] / steps[0, 0] == pytest.approx(3, rel=0.01)
    assert steps[1, 1] / steps[0, 1] == pytest.approx(3, rel=0.01)
    assert (steps[:, 0] > 0).all() and (steps[:, 1] < 0).all()  # up is up


def test_logarithmic_axes_space_decades_evenly() -> None:
    root = drawn(charts([Chart("Rate", [Curve("rate", [(0, 1e-2), (1, 1e-3), (2, 1e-4)])], is_logarithmic=True)]))
    steps = np.diff(points(root), axis=0)
    assert steps[0, 1] == pytest.approx(steps[1, 1], rel=0.01)
    assert steps[0, 1] > 0


def test_long_curves_are_drawn_faintly_under_their_running_mean() -> None:
    noisy = [(step, float(step % 2)) for step in range(200)]
    root = drawn(charts([Chart("J", [Curve("J", noisy)])]))
    heights = [np.ptp(points(root, place)[5:-5, 1]) for place in (0, 1)]
    assert heights[1] < 0.2 * heights[0]


def test_running_means_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(size=40)
    inner = np.convolve(values, np.ones(7) / 7, mode="valid")
    assert running_mean(values.tolist(), 7)[3:-3] == pytest.approx(inner)
    assert running_mean(values.tolist(), 7)[0] == pytest.approx(values[:4].mean())
    assert running_mean([3.0], 5) == [3.0]


def test_charts_without_a_point_are_left_out_and_none_at_all_is_refused() -> None:
    empty, full = Chart("Nothing", [Curve("a", [])]), Chart("A & B", [Curve("a", [(1, 0.0)])])
    texts = [one.text for one in drawn(charts([empty, full])).iter(f"{SVG}text")]
    assert "A & B" in texts and "Nothing" not in texts
    with pytest.raises(ValueError, match="nothing to draw"):
        charts([empty])


def test_axes_tell_the_range_of_what_they_show() -> None:
    root = drawn(charts([Chart("Loss", [Curve("loss", [(0, 2.0), (100, 4.0)])])]))
    numbers = [float(one.text) for one in root.iter(f"{SVG}text") if re.fullmatch(r"[\d.]+", one.text or "")]
    assert min(numbers) <= 2.0 < 4.0 <= max(numbers)
