"""Softmax aggregation against its definition in probabilities."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from vosdata.models.agame.aggregation import aggregate, alone

LOG_ODDS = arrays(np.float64, st.tuples(st.integers(1, 5), st.just(3), st.just(4)), elements=st.floats(-30, 30))


def _by_definition(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Background is the least that any target leaves; odds, each with clamped probabilities, are normalised."""
    target = 1 / (1 + np.exp(-log_odds))
    background = (1 / (1 + np.exp(log_odds))).min(0, keepdims=True)
    probability = np.clip(np.concatenate([background, target]), 1e-7, 1 - 1e-7)
    odds = probability / (1 - probability)
    normalised: NDArray[np.float64] = odds / odds.sum(0)
    return normalised


@given(LOG_ODDS)
@settings(max_examples=50)
def test_aggregation_normalises_the_odds_of_background_and_targets(log_odds: NDArray[np.float64]) -> None:
    found = aggregate(torch.from_numpy(log_odds)).softmax(0)
    np.testing.assert_allclose(found, _by_definition(log_odds), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found.sum(0), 1)


def test_a_pixel_goes_to_the_surest_target_or_to_the_background() -> None:
    log_odds = torch.tensor([[[2.0, -1.0, -1.0, 0.0]], [[1.0, 0.5, -2.0, 0.0]]])
    assert aggregate(log_odds).argmax(0).tolist() == [[1, 2, 0, 0]]


def test_a_single_target_keeps_its_probability_alone_and_is_sharpened_by_aggregation() -> None:
    log_odds = torch.tensor([[[-2.0, 0.3, 1.5]]])
    p = log_odds.sigmoid()
    torch.testing.assert_close(alone(log_odds).softmax(0)[1:], p)
    torch.testing.assert_close(aggregate(log_odds).softmax(0)[1:], p**2 / (p**2 + (1 - p) ** 2))
    assert torch.equal(alone(log_odds).argmax(0), aggregate(log_odds).argmax(0))
