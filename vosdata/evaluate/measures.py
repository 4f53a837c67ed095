"""Region similarity J and boundary measure F of one object in one frame, equal to the official DAVIS code's values.

Both are computed inside the box of the two masks, which gives the same counts as the whole frame for a fraction of the
work.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016,
section 5; the rules at borders and for empty masks are those of the evaluation code that the DAVIS challenge publishes.
"""

import math
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Region = NDArray[np.bool_]
"""``bool (H, W)``: True where one object is."""

BOUNDARY_TOLERANCE = 0.008
"""How far a boundary may be off and still count, as a fraction of the frame's diagonal (the DAVIS value)."""


def region_similarity(truth: Region, prediction: Region, void: Region | None = None) -> float:
    """J: intersection over union of two regions, 1 when both are empty.

    Args:
        truth: ``bool (H, W)``.
        prediction: ``bool (H, W)``.
        void: ``bool (H, W)``, True where the truth is unknown; those pixels count on neither side.

    Raises:
        ValueError: the shapes differ.
    """
    return measure_object(truth, prediction, void)[0]


def boundary_measure(
    truth: Region, prediction: Region, void: Region | None = None, tolerance: float = BOUNDARY_TOLERANCE
) -> float:
    """F: harmonic mean of the precision and recall of the boundary pixels, matched within a small disk.

    A region without a boundary (empty, or filling the frame) matches another one of that kind: F is 1.

    Args:
        truth: ``bool (H, W)``.
        prediction: ``bool (H, W)``.
        void: ``bool (H, W)``, True where the truth is unknown; both regions are emptied there.
        tolerance: radius of the disk, as a fraction of the frame's diagonal; 1 or more is a number of pixels.

    Raises:
        ValueError: the shapes differ.
    """
    return measure_object(truth, prediction, void, tolerance)[1]


def measure_object(
    truth: Region, prediction: Region, void: Region | None = None, tolerance: float = BOUNDARY_TOLERANCE
) -> tuple[float, float]:
    """J and F of one object in one frame; see :func:`region_similarity` and :func:`boundary_measure`."""
    shapes = {mask.shape for mask in (truth, prediction, void) if mask is not None}
    if len(shapes) != 1 or truth.ndim != 2:
        raise ValueError(f"masks to compare must be (H, W) of one shape, got {sorted(shapes)}")
    radius = boundary_radius(truth.shape[0], truth.shape[1], tolerance)
    if void is not None:
        truth, prediction = truth & ~void, prediction & ~void
    box = common_box(truth, prediction)
    if box is None:
        return 1.0, 1.0
    truth, prediction = truth[box], prediction[box]
    union = np.count_nonzero(truth | prediction)
    return np.count_nonzero(truth & prediction) / union, _boundary_agreement(truth, prediction, radius)


def boundary_radius(height: int, width: int, tolerance: float = BOUNDARY_TOLERANCE) -> float:
    """Radius in pixels within which two boundaries match: 4 at 240x432, 8 at 480x854."""
    return tolerance if tolerance >= 1 else math.ceil(tolerance * float(np.linalg.norm((height, width))))


def common_box(first: NDArray[Any], second: NDArray[Any]) -> tuple[slice, slice] | None:
    """The box of what two masks show, widened by one pixel where the frame allows; None when both are empty.

    Inside it the measures are those of the whole frame, given its radius: the extra pixel keeps the boundary map's
    special rules, which act on the last row and column, to regions that really touch the frame's edge.

    Args:
        first: ``bool`` or ``uint8 (H, W)``.
        second: the same.
    """
    height, width = first.shape
    x, y, w, h = cv2.boundingRect((first | second).view(np.uint8))
    if w == 0:
        return None
    return slice(max(y - 1, 0), min(y + h + 1, height)), slice(max(x - 1, 0), min(x + w + 1, width))


def _boundary_agreement(truth: Region, prediction: Region, radius: float) -> float:
    truth_map, prediction_map = boundary_map(truth), boundary_map(prediction)
    num_truth, num_prediction = np.count_nonzero(truth_map), np.count_nonzero(prediction_map)
    if num_truth == 0 and num_prediction == 0:
        return 1.0
    if num_truth == 0 or num_prediction == 0:
        return 0.0
    disk = _disk(radius)
    near_truth = cv2.dilate(truth_map.view(np.uint8), disk)
    near_prediction = cv2.dilate(prediction_map.view(np.uint8), disk)
    precision = np.count_nonzero(prediction_map & near_truth.view(np.bool_)) / num_prediction
    recall = np.count_nonzero(truth_map & near_prediction.view(np.bool_)) / num_truth
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def boundary_map(region: Region) -> Region:
    """Marks pixels that differ from their east, south or south-east neighbour.

    The last row looks east only and the last column south only, so a region that runs out of the frame has no boundary
    there. The map is one pixel wide and lies half a pixel towards the origin.

    Args:
        region: ``bool (H, W)``.

    Returns:
        ``bool (H, W)``.
    """
    edge = np.zeros_like(region)
    here = region[:-1, :-1]
    edge[:-1, :-1] = (here ^ region[:-1, 1:]) | (here ^ region[1:, :-1]) | (here ^ region[1:, 1:])
    edge[-1, :-1] = region[-1, :-1] ^ region[-1, 1:]
    edge[:-1, -1] = region[:-1, -1] ^ region[1:, -1]
    return edge


@cache
def _disk(radius: float) -> NDArray[np.uint8]:
    """The structuring element: all pixels whose centre lies within ``radius`` of the middle one."""
    reach = np.arange(-radius, radius + 1)
    return (reach[:, None] ** 2 + reach[None, :] ** 2 <= radius**2).astype(np.uint8)
