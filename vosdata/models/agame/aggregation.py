"""Several targets in one frame: independent predictions become one distribution over background and targets.

Every target k is segmented on its own and has log-odds d_k = ln(p_k / (1 - p_k)) at each pixel. Softmax aggregation
normalises the odds of the background and of all targets, where the background's probability is the smallest that any
target leaves it: its odds are exp(-max_k d_k). Normalised odds are the softmax of log-odds, which is how it is computed
here: no probability is ever formed that could round to 0 or 1.

Source: A-GAME paper, section 3.3, after RGMP (Oh et al.); background rule and bounds of the published code.
Letters: B snippets, N targets, H and W of the picture.
"""

import math

import torch
from torch import Tensor

_LEAST_PROBABILITY = 1e-7
LOG_ODDS_LIMIT = math.log((1 - _LEAST_PROBABILITY) / _LEAST_PROBABILITY)
"""Log-odds are bounded to +-16.1, probabilities to [1e-7, 1 - 1e-7]."""


def join(log_odds: Tensor, is_single: Tensor) -> Tensor:
    """Joins the targets of several pictures, as training needs it: without bounds, where gradients would end.

    Args:
        log_odds: float (B, N, H, W).
        is_single: bool (B, 1, 1, 1), the pictures with a single target, which keeps its own probability.

    Returns:
        logits float (B, N + 1, H, W), background first.
    """
    background = -log_odds.amax(1, keepdim=True)
    return torch.cat([background.masked_fill(is_single, 0), log_odds], 1)


def aggregate(log_odds: Tensor) -> Tensor:
    """Joins the targets of a frame by softmax aggregation.

    Args:
        log_odds: of each target against the rest of the picture, float (N, H, W), N >= 1.

    Returns:
        logits float (N + 1, H, W), background first: their softmax is the distribution, their argmax the segmentation
        (of equals the first, so background wins a tie).
    """
    background = -log_odds.amax(0, keepdim=True)
    return torch.cat([background, log_odds]).clamp(-LOG_ODDS_LIMIT, LOG_ODDS_LIMIT)


def alone(log_odds: Tensor) -> Tensor:
    """Logits (2, H, W) of a single target (1, H, W) that shall keep its own probability.

    Aggregation would sharpen it: odds p/(1-p) against (1-p)/p give p^2 / (p^2 + (1-p)^2).
    """
    return torch.cat([torch.zeros_like(log_odds), log_odds.clamp(-LOG_ODDS_LIMIT, LOG_ODDS_LIMIT)])
