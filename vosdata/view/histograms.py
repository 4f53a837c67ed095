"""Histograms of several samples over one axis, as SVG for a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from vosdata.view.page import Media, drawings

WIDTH, HEIGHT = 540, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 32, 40
COLOURS = ("#9aa3ad", "#c4572e", "#1f5fa8")
NUM_BINS = 30

Sample = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Up to three samples over one axis. The first is drawn as bars, the others as lines.

    The axis reaches from the lowest to the highest of their 2nd and 95th percentiles; what lies beyond is counted into
    the bins at its ends.
    """

    title: str
    unit: str
    """What the axis shows."""

    samples: Sequence[tuple[str, Sample]]
    """Label and values ``float64 (n,)`` of each."""

    whole_numbers: bool = False
    """Whether values are counted one by one."""

    def bins(self) -> NDArray[np.float64]:
        """Edges of the bins, ``float64 (B + 1,)``."""
        values = [sample for _, sample in self.samples]
        if self.whole_numbers:
            return np.arange(min(map(np.min, values)), max(map(np.max, values)) + 2) - 0.5
        low = min(float(np.quantile(sample, 0.02)) for sample in values)
        high = max(float(np.quantile(sample, 0.95)) for sample in values)
        return np.linspace(low, high if high > low else low + 1.0, NUM_BINS + 1)

    def shares(self) -> NDArray[np.float64]:
        """Share of each sample in each bin, ``float64 (S, B)``."""
        bins = self.bins()
        clipped = [np.clip(sample, bins[0], bins[-1]) for _, sample in self.samples]
        return np.stack([np.histogram(sample, bins)[0] / len(sample) for sample in clipped])


def draw_histograms(histograms: Sequence[Histogram], caption: str = "") -> Media:
    """Histograms side by side, two in a row, as one picture.

    Raises:
        ValueError: a sample is empty.
    """
    for histogram in histograms:
        empty = [label for label, sample in histogram.samples if not len(sample)]
        if empty:
            raise ValueError(f"{histogram.title}: the sample {empty[0]!r} is empty")
    return drawings([_draw(histogram) for histogram in histograms], WIDTH, HEIGHT, caption)


def _draw(histogram: Histogram) -> str:
    bins, shares = histogram.bins(), histogram.shares()
    xs = LEFT + (bins - bins[0]) / (bins[-1] - bins[0]) * (WIDTH - LEFT - RIGHT)
    bottom = HEIGHT - BOTTOM
    ys = bottom - shares / shares.max() * (bottom - TOP)
    parts = [f'<text x="{LEFT}" y="18" font-weight="bold" fill="#1a1a1a">{escape(histogram.title)}</text>']
    across = WIDTH - RIGHT
    for (label, _), colour in reversed(list(zip(histogram.samples, COLOURS, strict=False))):
        parts.append(f'<text x="{across}" y="18" text-anchor="end" fill="{colour}">{escape(label)}</text>')
        across -= 8 * len(label) + 14
    for x0, x1, y in zip(xs[:-1], xs[1:], ys[0], strict=True):
        box = f'x="{x0:.1f}" y="{y:.1f}" width="{x1 - x0:.1f}" height="{bottom - y:.1f}"'
        parts.append(f'<rect {box} fill="{COLOURS[0]}" fill-opacity="0.55"/>')
    for heights, colour in zip(ys[1:], COLOURS[1:], strict=False):
        corners = zip(np.repeat(xs, 2)[1:-1], np.repeat(heights, 2), strict=True)
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
    parts.append(f'<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}" stroke="#666666"/>')
    for value in _ticks(histogram, bins):
        x = LEFT + (value - bins[0]) / (bins[-1] - bins[0]) * (WIDTH - LEFT - RIGHT)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle" fill="#666666">{value:.3g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{bottom + 32}" text-anchor="middle">{escape(histogram.unit)}</text>')
    parts.append(f'<text x="{LEFT - 6}" y="{TOP + 8}" text-anchor="end" fill="#666666">{shares.max():.0%}</text>')
    return "".join(parts)


def _ticks(histogram: Histogram, bins: NDArray[np.float64]) -> list[float]:
    if histogram.whole_numbers:
        return [float(edge) + 0.5 for edge in bins[:-1][:: max(1, len(bins) // 12)]]
    return [float(value) for value in np.linspace(bins[0], bins[-1], 5)]
