"""Values of several seeds as dots, their mean and its interval as a bar: SVG text, without a plotting library."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _LABEL_WIDTH, _PLOT_WIDTH, _ROW, _HEAD, _FOOT = 760, 240, 400, 26, 34, 34


@dataclass(frozen=True)
class Row:
    """One line of a plot."""

    label: str
    values: Sequence[float]
    mean: float
    half_width: float
    """Of the interval around the mean; not finite where there is none."""


@dataclass(frozen=True)
class Plot:
    """Rows over one axis."""

    heading: str
    rows: Sequence[Row]


def svg(title: str, plots: Sequence[Plot], note: str) -> str:
    """The picture: plots one below the other."""
    height = 44 + sum(_height(plot) for plot in plots) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="28" font-size="17" font-weight="bold" fill="#1a1a1a">{escape(title)}</text>',
    ]
    top = 44
    for plot in plots:
        parts += _plot(plot, top)
        top += _height(plot)
    parts.append(f'<text x="16" y="{height - 10}" font-size="11" fill="#666666">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _height(plot: Plot) -> int:
    return _HEAD + _ROW * len(plot.rows) + _FOOT


def _plot(plot: Plot, top: int) -> list[str]:
    values = [value for row in plot.rows for value in row.values]
    low, high = min(values) - 0.02, max(values) + 0.02

    def across(value: float) -> float:
        return _LABEL_WIDTH + _PLOT_WIDTH * (min(max(value, low), high) - low) / (high - low)

    bottom = top + _HEAD + _ROW * len(plot.rows)
    parts = [f'<text x="16" y="{top + 20}" font-weight="bold" fill="#1a1a1a">{escape(plot.heading)}</text>']
    for step in range(5):
        value = low + (high - low) * step / 4
        x = across(value)
        parts += [
            f'<line x1="{x:.1f}" y1="{top + _HEAD - 4}" x2="{x:.1f}" y2="{bottom}" stroke="#e4e6e9"/>',
            f'<text x="{x:.1f}" y="{bottom + 15}" font-size="11" text-anchor="middle" fill="#666666">'
            f"{value:.2f}</text>",
        ]
    for place, row in enumerate(plot.rows):
        parts += _row(row, top + _HEAD + place * _ROW + _ROW / 2, across)
    return parts


def _row(row: Row, y: float, across: Callable[[float], float]) -> list[str]:
    half = row.half_width if row.half_width < 10 else 0.0
    left, middle, right = (across(value) for value in (row.mean - half, row.mean, row.mean + half))
    parts = [
        f'<text x="{_LABEL_WIDTH - 10}" y="{y + 4:.1f}" text-anchor="end" fill="#1a1a1a">{escape(row.label)}</text>',
        f'<line x1="{left:.1f}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}" stroke="#0b6e4f" stroke-width="2"/>',
        f'<line x1="{middle:.1f}" y1="{y - 7:.1f}" x2="{middle:.1f}" y2="{y + 7:.1f}" stroke="#0b6e4f" '
        'stroke-width="3"/>',
        f'<text x="{_LABEL_WIDTH + _PLOT_WIDTH + 14}" y="{y + 4:.1f}" fill="#1a1a1a">{row.mean:.3f}</text>',
    ]
    parts += [
        f'<circle cx="{across(value):.1f}" cy="{y:.1f}" r="3.5" fill="#9aa5b1" fill-opacity="0.8"/>'
        for value in row.values
    ]
    return parts
