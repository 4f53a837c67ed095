"""Cuts an object out of a picture along its mask, with a soft edge and without a halo of the old background."""

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.errors import BadFileError

MARGIN = 2
"""Transparent pixels on each side of a cutout, so that warping never clips an edge."""

MIN_AREA = 64
"""Smallest object in pixels that is worth moving."""

MAX_SIDE = 1024
"""Longest side of a cutout in pixels; larger ones are reduced, which bounds memory."""

MAX_SPECK_SHARE = 0.005
"""A component smaller than this share of the largest one is a speck and dropped."""

EDGE_SIGMA = 0.7
"""Standard deviation in pixels of the blur that softens a binary edge over about one pixel on each side."""

BLEED = 9
"""Side in pixels of the window from which the colours of edge pixels are taken."""


def cut_out(rgb: NDArray[np.uint8], mask: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Cuts one object out.

    All components of the mask are kept but specks. A binary mask is shrunk by one pixel, where the colours of object
    and background mix, and blurred to an edge about two pixels wide; parts too thin to shrink are kept. A soft mask is
    kept as it is. Colours at and outside the edge are taken from inside the object, so that neither the edge nor
    interpolation across it shows the old background.

    Args:
        rgb: ``uint8 (H, W, 3)``.
        mask: ``uint8 (H, W)`` alpha of the same size.
        name: what messages call the object.

    Returns:
        ``uint8 (h, w, 4)``: RGB and straight alpha, cropped to the object plus ``MARGIN`` transparent pixels.

    Raises:
        BadFileError: the mask is empty, smaller than ``MIN_AREA`` pixels, or covers the whole picture.
    """
    solid = np.greater_equal(mask, 128).view(np.uint8)
    if not solid.any():
        raise BadFileError(f"{name}: mask is empty")
    box = _box(solid)
    inside = without_specks(solid[box].view(np.bool_))
    area = int(np.count_nonzero(inside))
    if area < MIN_AREA:
        raise BadFileError(f"{name}: object has only {area} pixels, at least {MIN_AREA} are needed")
    if area == mask.size:
        raise BadFileError(f"{name}: mask covers the whole picture, so there is no object to cut out")
    rgb, mask = rgb[box], mask[box]
    mask = np.where(inside, mask, np.minimum(mask, 127)) if _is_soft(mask) else inside.view(np.uint8) * np.uint8(255)
    box = _box(inside.view(np.uint8))  # smaller where a speck stuck out
    rgb, mask = _bounded(rgb[box], mask[box])
    rgb, mask = _with_margin(rgb), _with_margin(mask)
    alpha = mask if _is_soft(mask) else soft_edge(mask >= 128)
    rgba = np.empty((*alpha.shape, 4), np.uint8)
    rgba[..., :3] = _bled(rgb, mask >= 128, alpha)
    rgba[..., 3] = alpha
    return rgba


def _box(inside: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Smallest box around what is not zero in ``uint8 (h, w)``; empty where all is."""
    x0, y0, width, height = cv2.boundingRect(inside)
    return slice(y0, y0 + height), slice(x0, x0 + width)


def _with_margin(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(h, w, ...)`` with ``MARGIN`` zeros on each side."""
    height, width = array.shape[:2]
    wider = np.zeros((height + 2 * MARGIN, width + 2 * MARGIN, *array.shape[2:]), np.uint8)
    wider[MARGIN:-MARGIN, MARGIN:-MARGIN] = array
    return wider


def soft_edge(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Turns a binary mask ``bool (h, w)`` into alpha ``uint8 (h, w)``, anti-aliased and zero outside the mask."""
    binary = inside.astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    core = cv2.erode(binary, cross)
    thin = binary & ~cv2.dilate(core, cross)
    blurred = cv2.GaussianBlur((core | thin) * np.uint8(255), (0, 0), EDGE_SIGMA)
    return np.where(inside, blurred, 0).astype(np.uint8)


def without_specks(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Drops the components of ``bool (h, w)`` that are smaller than MAX_SPECK_SHARE of the largest one."""
    num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    areas[0] = 0  # label 0 is everything outside
    if num_labels <= 2:
        return inside
    kept: NDArray[np.bool_] = (areas >= MAX_SPECK_SHARE * areas.max()) & (areas > 0)
    without: NDArray[np.bool_] = kept[labels]
    return without


def _is_soft(mask: NDArray[np.uint8]) -> bool:
    """Whether a mask has levels between outside and inside."""
    return bool((mask + np.uint8(1) > 1).any())  # 255 wraps around to 0, and 0 becomes 1


def _bounded(rgb: NDArray[np.uint8], mask: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Reduces picture and mask so that the cutout with its margin is at most MAX_SIDE long."""
    height, width = mask.shape
    scale = (MAX_SIDE - 2 * MARGIN) / max(height, width)
    if scale >= 1:
        return rgb, mask
    size = max(1, round(width * scale)), max(1, round(height * scale))
    smaller = cv2.resize(np.ascontiguousarray(mask), size, interpolation=cv2.INTER_AREA)
    return cv2.resize(np.ascontiguousarray(rgb), size, interpolation=cv2.INTER_AREA), np.asarray(smaller, np.uint8)


def _bled(rgb: NDArray[np.uint8], inside: NDArray[np.bool_], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Gives every pixel that is not fully opaque the mean colour of the opaque pixels around it.

    Pixels with no opaque one within the window keep the colour of the picture inside the object, else become black;
    they are either parts too thin to have opaque pixels or invisible.
    """
    opaque = np.greater_equal(alpha, 240).view(np.uint8)
    counts = cv2.boxFilter(opaque, cv2.CV_32F, (BLEED, BLEED), normalize=False)
    sums = cv2.boxFilter(cv2.copyTo(rgb, opaque), cv2.CV_32F, (BLEED, BLEED), normalize=False)
    bled = cv2.copyTo(rgb, inside.view(np.uint8))
    edge = np.nonzero((opaque == 0) & (counts > 0))
    bled[edge] = np.rint(sums[edge] / counts[edge][:, None])
    return np.asarray(bled, np.uint8)
