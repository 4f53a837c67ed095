"""Curves over steps, as SVG text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np

from vosdata.view.page import Media, drawings

COLOURS = ("#1f5fa8", "#c4572e", "#2e7d4f")
WIDTH, HEIGHT = 540, 230
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 34, 30
MANY_POINTS = 60
"""Curves of more points are drawn faintly, under their running mean."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart."""

    label: str
    """What it shows; written above the chart in the line's colour."""

    points: Sequence[tuple[float, float]]
    """Step and value, in order of steps."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one pair of axes."""

    title: str
    curves: Sequence[Curve]
    is_logarithmic: bool = False
    """Whether values, which are greater than 0 then, are drawn by their logarithm."""


def charts(found: Sequence[Chart], caption: str = "") -> Media:
    """Charts side by side, two in a row, as one picture for a page; charts without a point are left out.

    Raises:
        ValueError: no chart has a point.
    """
    shown = [chart for chart in found if any(curve.points for curve in chart.curves)]
    if not shown:
        raise ValueError("there is nothing to draw a curve of")
    return drawings(["".join(_chart(chart)) for chart in shown], WIDTH, HEIGHT, caption)


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Mean of each value and those around it, ``width`` in all and fewer at both ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, last = np.maximum(places - width // 2, 0), np.minimum(places + (width + 1) // 2, len(values))
    means: list[float] = ((sums[last] - sums[first]) / (last - first)).tolist()
    return means


def _chart(chart: Chart) -> Iterator[str]:
    points = np.array([point for curve in chart.curves for point in curve.points], np.float64)
    steps, values = points[:, 0], np.log10(points[:, 1]) if chart.is_logarithmic else points[:, 1]
    axes = _Axes(_range(steps), _range(values), chart.is_logarithmic)
    yield f'<text x="{LEFT}" y="20" font-weight="bold" fill="#1a1a1a">{escape(chart.title)}</text>'
    yield from axes.drawn()
    across = WIDTH - RIGHT
    for curve, colour in reversed(list(zip(chart.curves, COLOURS, strict=False))):
        if len(chart.curves) > 1:
            yield f'<text x="{across}" y="20" text-anchor="end" fill="{colour}">{escape(curve.label)}</text>'
            across -= 8 * len(curve.label) + 14
        yield from _line(curve, colour, axes)


def _line(curve: Curve, colour: str, axes: "_Axes") -> Iterator[str]:
    if len(curve.points) <= MANY_POINTS:
        yield axes.polyline(curve.points, colour, 1.8)
        for step, value in curve.points if len(curve.points) <= MANY_POINTS // 3 else ():
            x, y = axes.place(step, value)
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
        return
    smooth = running_mean([value for _, value in curve.points], max(3, len(curve.points) // 20))
    yield axes.polyline(curve.points, colour, 0.8, opacity=0.3)
    yield axes.polyline([(step, mean) for (step, _), mean in zip(curve.points, smooth, strict=True)], colour, 1.8)


def _range(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = (high - low) * 0.04 or abs(high) * 0.05 or 0.5
    return (0.0 if 0 <= low <= margin else low - margin), high + margin


@dataclass(frozen=True, slots=True)
class _Axes:
    """From steps and values to places on a chart."""

    steps: tuple[float, float]
    values: tuple[float, float]
    is_logarithmic: bool

    def place(self, step: float, value: float) -> tuple[float, float]:
        value = float(np.log10(value)) if self.is_logarithmic else value
        across = (step - self.steps[0]) / (self.steps[1] - self.steps[0])
        up = (value - self.values[0]) / (self.values[1] - self.values[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def polyline(self, points: Sequence[tuple[float, float]], colour: str, width: float, opacity: float = 1.0) -> str:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.place(*point) for point in points))
        return (
            f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width}" '
            f'stroke-opacity="{opacity}" stroke-linejoin="round"/>'
        )

    def drawn(self) -> Iterator[str]:
        """Grid lines and the numbers at them."""
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            value = self.values[0] + share * (self.values[1] - self.values[0])
            y = HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
            shown = f"{10**value if self.is_logarithmic else value:.3g}"
            yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e4e6e9"/>'
            yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#666666">{shown}</text>'
            step = self.steps[0] + share * (self.steps[1] - self.steps[0])
            x = LEFT + share * (WIDTH - LEFT - RIGHT)
            yield f'<text x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle" fill="#666666">{max(step, 0):.0f}</text>'
