"""Draws masks over frames in the DAVIS palette: a tint inside each object and a solid line along its edge."""

import numpy as np
from numpy.typing import NDArray

from shards.masks import DAVIS_PALETTE
from shards.types import BACKGROUND

Picture = NDArray[np.uint8]
"""``uint8 (H, W, 3)``, RGB."""

Mask = NDArray[np.uint8]
"""``uint8 (H, W)``: 0 background, 1..254 object ids, 255 void."""


def palette() -> Picture:
    """The DAVIS palette as ``uint8 (256, 3)``: the RGB colour of each id."""
    return np.frombuffer(DAVIS_PALETTE, dtype=np.uint8).reshape(256, 3)


def overlay(rgb: Picture, mask: Mask, alpha: float = 0.5) -> Picture:
    """Draws a mask over a frame; background keeps the frame's pixels.

    Args:
        rgb: ``uint8 (H, W, 3)``.
        mask: ``uint8 (H, W)``.
        alpha: weight of the colour inside an object, 0 (only its edge shows) to 1 (only colour shows).

    Returns:
        A new ``uint8 (H, W, 3)``.

    Raises:
        ValueError: sizes differ, or alpha is out of range.
    """
    if rgb.shape != (*mask.shape, 3) or rgb.dtype != np.uint8 or mask.dtype != np.uint8:
        raise ValueError(
            f"expected uint8 frame (H, W, 3) and mask (H, W) of one size, got {rgb.shape} and {mask.shape}"
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
    drawn = rgb.copy()
    inside = mask != BACKGROUND
    ids = mask[inside]
    if ids.size == 0:
        return drawn
    colours = palette()
    # Blending in integers of 1/256: exact for alpha 0 and 1 and several times faster than floats.
    weight = np.uint16(round(alpha * 256))
    tint = (colours.astype(np.uint16) * weight)[ids]
    drawn[inside] = (rgb[inside] * (np.uint16(256) - weight) + tint) >> np.uint16(8)
    edge = outline(mask, width=max(1, round(min(mask.shape) / 300)))
    drawn[edge] = bright_palette()[mask[edge]]
    return drawn


def bright_palette() -> Picture:
    """The palette with every colour as bright as it gets, ``uint8 (256, 3)``: lines must show on dark frames."""
    colours = palette().astype(np.float64)
    brightest = colours.max(axis=1, keepdims=True)
    return np.where(brightest > 0, colours * 255 / np.maximum(brightest, 1), 0).astype(np.uint8)


def outline(mask: Mask, width: int = 1) -> NDArray[np.bool_]:
    """The pixels of objects (and of void) that lie within ``width`` steps of another id.

    Args:
        mask: ``uint8 (H, W)``.
        width: thickness in pixels, at least 1.

    Returns:
        ``bool (H, W)``, False on background. Where an object leaves the frame it has no outline.
    """
    edge = np.zeros(mask.shape, dtype=np.bool_)
    for step in range(1, width + 1):
        rows = mask[step:] != mask[:-step]
        edge[step:] |= rows
        edge[:-step] |= rows
        columns = mask[:, step:] != mask[:, :-step]
        edge[:, step:] |= columns
        edge[:, :-step] |= columns
    shown: NDArray[np.bool_] = edge & (mask != BACKGROUND)
    return shown


def mask_picture(mask: Mask) -> Picture:
    """A mask alone in palette colours, ``uint8 (H, W, 3)``: what an image viewer shows of the PNG."""
    return palette()[mask]
