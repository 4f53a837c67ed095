"""The report of a fit: how objects move in the target, in scenes before the fit, and after it."""

import json

import numpy as np
from numpy.typing import NDArray

from synth.match import Match
from synth.statistics import NAMES, Statistics
from vosdata.view.histograms import Histogram, draw_histograms
from vosdata.view.page import Block, Paragraph, Preformatted, Section, Table, render_page

TITLES = {
    "objects": ("Objects", "objects in the first frame"),
    "area": ("Area", "share of the frame, as power of ten"),
    "speed": ("Speed", "frame diagonals per frame"),
    "scale": ("Change of scale", "factor by which the size changes over the window, as natural logarithm"),
    "occlusion": ("Occlusion", "largest share that goes missing in a window"),
}
HEADER = ("", "target: median [10 %, 90 %]", "before", "after", "distance before", "after")


def match_rows(match: Match) -> list[tuple[str, ...]]:
    """The fit in figures, a row of texts per statistic, under ``HEADER``."""
    rows = []
    for name, (before, after) in match.distances().items():
        samples = (match.target, match.before, match.after)
        figures = (_summary(np.exp(s.sample(name)) if name == "area" else s.sample(name)) for s in samples)
        rows.append((TITLES[name][0].lower(), *figures, f"{before:.3g}", f"{after:.3g}"))
    return rows


def match_page(match: Match, target: str) -> str:
    """An HTML page with histograms, figures and the fitted configuration; ``target`` says what was fitted to."""
    histograms = [
        Histogram(
            *TITLES[name],
            [(label, _shown(name, one.sample(name))) for label, one in _labelled(match)],
            whole_numbers=name == "objects",
        )
        for name in NAMES
        if all(len(one.sample(name)) for _, one in _labelled(match))
    ]
    figures: list[Block] = [
        Paragraph(
            "Distances are Wasserstein distances of order 1 to the target, in the unit of each statistic; of areas, "
            "those of their natural logarithms. Before and after are measured on scenes that the fit has not seen."
        ),
        Table(HEADER, match_rows(match)),
        draw_histograms(histograms),
    ]
    configuration = Preformatted(json.dumps(match.config.model_dump(mode="json"), indent=2))
    return render_page(
        "Scenes fitted to a real set",
        Section("How objects move", figures),
        Section("Fitted configuration", [configuration]),
        summary=f"target: {target}, in windows of {match.config.num_frames} frames",
    )


def _labelled(match: Match) -> tuple[tuple[str, Statistics], ...]:
    return (("target", match.target), ("before", match.before), ("after", match.after))


def _shown(name: str, sample: NDArray[np.float64]) -> NDArray[np.float64]:
    return sample / np.log(10) if name == "area" else sample


def _summary(sample: NDArray[np.float64]) -> str:
    if not len(sample):
        return "none"
    low, middle, high = np.quantile(sample, [0.1, 0.5, 0.9])
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"
