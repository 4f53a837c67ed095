"""Motion blur: what moves on screen while the shutter is open is smeared along its way.

The smear of a picture is the mean of 2**k places along a straight line, at most 32, made in k passes that each take the
mean of the picture and itself some whole pixels further on. Its middle is where the sharp picture is: that of the
frame's time. Each pass makes the picture smaller by its step, so it is warped into a larger box first; that box may lie
outside the frame, so that borders show no seam.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]
"""``float64 (T, 2)``: x and y in pixels."""

MAX_PASSES = 5
"""Passes of a smear: at most 32 places."""


Smear = tuple[tuple[int, int], ...]
"""How a picture is smeared in one frame: pixels along x and y by which each pass averages; none leaves it sharp."""


def smear_steps(ways: Vectors) -> NDArray[np.int64]:
    """How far the passes of smears along ``ways`` reach.

    Each pass reaches half as far as the one before. All of them together reach an even number of pixels along x and y,
    so that the smeared picture lies in the middle of its way as the sharp one does, and not half a pixel beside it. A
    way of up to two pixels leaves the picture sharp.

    Args:
        ways: ``float64 (..., 2)``, x and y in pixels.

    Returns:
        ``int64 (MAX_PASSES, ..., 2)``; 0 where there is no pass.
    """
    length = np.maximum(np.hypot(ways[..., 0], ways[..., 1]), 1.0)
    passes = np.minimum(np.ceil(np.log2(length)), MAX_PASSES)[..., None]
    rest = 2 * np.rint(0.5 * ways * (1 - 0.5**passes))  # from the first of the places to the last
    steps: NDArray[np.int64] = np.zeros((MAX_PASSES, *ways.shape), np.int64)
    for number, step in enumerate(steps):
        left = np.maximum(passes - number, 1)
        step[:] = np.where(passes > number, np.rint(rest * 2 ** (left - 1) / (2**left - 1)), 0)
        rest -= step
    return steps


def smear_margin(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """How far beyond its box a picture is smeared to either side, and must be known: ``int64 (..., 2)``, x and y."""
    margin: NDArray[np.int64] = np.abs(steps.sum(axis=0)) // 2
    return margin


def list_smears(steps: NDArray[np.int64]) -> tuple[Smear, ...]:
    """The smears of T frames from their steps ``int64 (MAX_PASSES, T, 2)``."""
    return tuple(tuple((x, y) for x, y in frame if x or y) for frame in steps.swapaxes(0, 1).tolist())


def smeared(picture: NDArray[np.uint8], smear: Smear, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """The smeared picture, smaller by the sum of all steps; in ``out`` when there are steps and it is given."""
    for number, (x, y) in enumerate(smear, start=1):
        one, other = _shifted(picture, x, y), _shifted(picture, -x, -y)
        target = out if number == len(smear) else None
        picture = np.asarray(cv2.addWeighted(one, 0.5, other, 0.5, 0.0, dst=target), np.uint8)
    return picture


def _shifted(picture: NDArray[np.uint8], x: int, y: int) -> NDArray[np.uint8]:
    """What lies x to the right and y below, of all pixels for which both that and its opposite exist."""
    height, width = picture.shape[:2]
    return picture[max(0, y) : height + min(0, y), max(0, x) : width + min(0, x)]
