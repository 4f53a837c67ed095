"""Histograms, and the page about a fit."""

import base64
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from synth.config import make_config
from synth.match import Match
from synth.statistics import NAMES, Statistics
from vosdata.view.histograms import Histogram, draw_histograms
from vosdata.view.matched import match_page, match_rows


def evenly(low: float, high: float) -> Statistics:
    return Statistics(**{name: np.linspace(low, high, 101) for name in NAMES})


MATCH = Match(make_config({"num_frames": 5}), target=evenly(0, 1), before=evenly(2, 3), after=evenly(0.25, 1.25))


def test_shares_are_counted_as_numpy_does_and_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    samples = [("a", rng.uniform(0, 1, 500)), ("b", rng.exponential(1, 300))]
    histogram = Histogram("title", "unit", samples)
    bins, shares = histogram.bins(), histogram.shares()
    assert shares.sum(axis=1) == pytest.approx([1.0, 1.0])  # nothing is left out, not even what lies far off
    counts = np.histogram(samples[0][1], bins)[0]
    assert shares[0, 1:-1] == pytest.approx(counts[1:-1] / 500)
    assert shares[0, 0] == pytest.approx((counts[0] + (samples[0][1] < bins[0]).sum()) / 500)
    assert (samples[0][1] < bins[0]).any()


def test_whole_numbers_have_a_bin_each() -> None:
    histogram = Histogram("objects", "", [("a", np.array([1.0, 1, 3])), ("b", np.array([2.0]))], whole_numbers=True)
    assert histogram.shares().tolist() == [[2 / 3, 0, 1 / 3], [0, 1, 0]]


def test_the_drawing_has_a_bar_per_bin_and_a_line_per_further_sample() -> None:
    samples = [("one", np.arange(3.0)), ("two", np.arange(3.0)), ("three <", np.arange(3.0))]
    media = draw_histograms([Histogram("title", "unit", samples, whole_numbers=True)])
    tree = ElementTree.fromstring(base64.b64decode(media.data_uri.partition(",")[2]))
    kinds = [element.tag.rpartition("}")[2] for element in tree.iter()]
    assert kinds.count("rect") == 1 + 3
    assert kinds.count("polyline") == 2
    texts = [element.text for element in tree.iter() if element.tag.endswith("text")]
    assert {"title", "unit", "one", "two", "three <", "0", "1", "2", "33%"} <= set(texts)


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="speed: the sample 'a' is empty"):
        draw_histograms([Histogram("speed", "", [("a", np.empty(0))])])


def test_figures_are_those_of_the_samples() -> None:
    rows = {row[0]: row[1:] for row in match_rows(MATCH)}
    assert rows["speed"] == ("0.5 [0.1, 0.9]", "2.5 [2.1, 2.9]", "0.75 [0.35, 1.15]", "2", "0.25")
    assert rows["area"][0] == f"{np.exp(0.5):.3g} [{np.exp(0.1):.3g}, {np.exp(0.9):.3g}]"
    assert len(rows) == 5


def test_the_page_shows_histograms_figures_and_the_configuration() -> None:
    page = match_page(MATCH, "davis <2017>")
    assert "target: davis &lt;2017&gt;, in windows of 5 frames" in page
    assert page.count("data:image/svg+xml") == 1
    assert "0.75 [0.35, 1.15]" in page
    assert "camera_shake" in page


def test_a_statistic_without_values_is_left_out_of_the_drawing() -> None:
    lone = Statistics(**{name: np.empty(0) if name == "speed" else np.ones(3) for name in NAMES})
    page = match_page(Match(make_config({"num_frames": 1}), lone, lone, lone), "stills")
    assert "none" in page
