"""What a sequence of J or F values is summed up to: mean, recall and decay.

Source: Perazzi et al., CVPR 2016, section 5.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RECALL_THRESHOLD = 0.5
NUM_BINS = 4


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean, recall and decay of one measure."""

    mean: float
    """Mean over the frames, 0..1."""

    recall: float
    """Share of frames whose value is above 0.5."""

    decay: float
    """Mean of the first quarter of the frames minus mean of the last: what is lost over time (negative: gained)."""


def summarise(values: Sequence[float] | NDArray[np.float64]) -> Statistics:
    """Sums up the values of one object over the frames of its sequence.

    The four quarters share their end points, as in the official code. That code keeps the end points in 8 bits, so that
    its decay is wrong or NaN from 257 frames on; here the quarters are the intended ones for any length, and equal
    the official ones below that.

    Args:
        values: float (T,), one per scored frame, in order of time.

    Raises:
        ValueError: there is no value.
    """
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or series.size == 0:
        raise ValueError(f"statistics need a list of at least one value, got shape {series.shape}")
    # The official rounding: 1-based ends, nudged so that halves round up rather than to even.
    ends = np.round(np.linspace(1, series.size, NUM_BINS + 1) + 1e-10).astype(np.int64) - 1
    first, last = series[ends[0] : ends[1] + 1], series[ends[-2] : ends[-1] + 1]
    return Statistics(
        mean=float(np.mean(series)),
        recall=float(np.mean(series > RECALL_THRESHOLD)),
        decay=float(np.mean(first) - np.mean(last)),
    )


def average(statistics: Sequence[Statistics]) -> Statistics:
    """Averages the statistics of several objects, each of equal weight.

    Raises:
        ValueError: there is none.
    """
    if not statistics:
        raise ValueError("there is nothing to average")
    return Statistics(
        mean=float(np.mean([item.mean for item in statistics])),
        recall=float(np.mean([item.recall for item in statistics])),
        decay=float(np.mean([item.decay for item in statistics])),
    )
