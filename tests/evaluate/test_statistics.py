"""Mean, recall and decay against the official code's values, and where that code is wrong."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vosdata.evaluate.statistics import Statistics, average, summarise


def test_statistics_equal_the_official_values(official_scores: dict[str, Any]) -> None:
    listed = official_scores["statistics"]
    assert listed
    for item in listed.values():
        found = summarise(item["values"])
        expected = [item["mean"], item["recall"], item["decay"]]
        assert [found.mean, found.recall, found.decay] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("num_frames", [256, 257, 400, 600, 1500])
def test_decay_of_long_sequences_uses_the_real_quarters(num_frames: int) -> None:
    # The official code's 8-bit bin edges wrap around here and give NaN or nonsense.
    values = np.linspace(1, 0, num_frames)
    quarter = (num_frames - 1) / 4
    expected = values[: round(quarter) + 1].mean() - values[round(3 * quarter) :].mean()
    assert summarise(values).decay == pytest.approx(expected, abs=2 / num_frames)
    steps = np.repeat([1.0, 0.5, 0.5, 0.25], num_frames // 4 + 1)[:num_frames]
    assert summarise(steps).decay == pytest.approx(0.75, abs=0.02)


def test_recall_counts_values_above_a_half_not_at_it() -> None:
    assert summarise([0.5, 0.5, 0.51, 0.2]).recall == 0.25


def test_a_single_value_has_no_decay() -> None:
    assert summarise([0.7]) == Statistics(mean=0.7, recall=1.0, decay=0.0)


def test_no_value_is_a_wrong_call() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        summarise([])
    with pytest.raises(ValueError, match="nothing to average"):
        average([])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_playing_backwards_negates_the_decay(values: list[float]) -> None:
    forward, backward = summarise(values), summarise(values[::-1])
    assert forward.mean == pytest.approx(backward.mean)
    assert forward.recall == backward.recall
    if len(values) % 4 == 1:  # the quarters are symmetric
        assert forward.decay == pytest.approx(-backward.decay, abs=1e-12)
