"""A bar plot as SVG text, without a plotting library."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _LABEL_WIDTH, _BAR_WIDTH, _ROW, _HEAD = 760, 230, 380, 24, 34


@dataclass(frozen=True)
class Bar:
    """One bar."""

    label: str
    """What it stands for."""

    share: float
    """Its length, as a share of the panel's limit."""

    text: str
    """What stands behind it."""

    ours: bool = False
    """Whether it is drawn in the strong colour."""


@dataclass(frozen=True)
class Panel:
    """Bars under one heading, with a line at 1."""

    heading: str
    bars: Sequence[Bar]


def svg(title: str, panels: Sequence[Panel], note: str) -> str:
    """The picture: panels one below the other, the longest bars first as they are given."""
    height = 44 + sum(_HEAD + _ROW * len(panel.bars) + 14 for panel in panels) + 26
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="28" font-size="17" font-weight="bold" fill="#1a1a1a">{escape(title)}</text>',
    ]
    top = 44
    for panel in panels:
        parts += _panel(panel, top)
        top += _HEAD + _ROW * len(panel.bars) + 14
    parts.append(f'<text x="16" y="{height - 12}" font-size="11" fill="#666666">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, top: int) -> list[str]:
    scale = _BAR_WIDTH / max(1.0, *(bar.share for bar in panel.bars))
    parts = [f'<text x="16" y="{top + 20}" font-weight="bold" fill="#1a1a1a">{escape(panel.heading)}</text>']
    for row, bar in enumerate(panel.bars):
        y, length = top + _HEAD + row * _ROW, max(1.0, bar.share * scale)
        colour = "#0b6e4f" if bar.ours else "#9aa5b1"
        parts += [
            f'<text x="{_LABEL_WIDTH - 8}" y="{y + 13}" text-anchor="end" fill="#1a1a1a">{escape(bar.label)}</text>',
            f'<rect x="{_LABEL_WIDTH}" y="{y}" width="{length:.1f}" height="17" rx="2" fill="{colour}"/>',
            f'<text x="{_LABEL_WIDTH + length + 6:.1f}" y="{y + 13}" fill="#1a1a1a">{escape(bar.text)}</text>',
        ]
    line = _LABEL_WIDTH + scale
    bottom = top + _HEAD + _ROW * len(panel.bars) - 4
    parts.append(
        f'<line x1="{line:.1f}" y1="{top + _HEAD - 5}" x2="{line:.1f}" y2="{bottom}" stroke="#c0392b" '
        'stroke-dasharray="4 3"/>'
    )
    return parts
