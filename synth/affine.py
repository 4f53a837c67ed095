"""Affine maps of many pictures at once: as :mod:`synth.geometry`, for thousands of maps with a handful of array calls.

Maps are ``float64 (2, 3, ...)``: rows and columns first, then any number of maps, so that every sum and product runs
over all maps in a row. Points are ``float64 (2, ...)``, x and y. They broadcast against each other.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def similarity(centre: Floats, scale: Floats, angle_degrees: Floats, origin: Floats, side: Floats) -> Floats:
    """Scales, turns counter-clockwise on screen, and moves ``origin`` to ``centre``.

    Args:
        centre: ``(2, ...)``.
        scale: ``(...)``.
        angle_degrees: ``(...)``.
        origin: ``(2, ...)``.
        side: ``(...)``: -1 mirrors x first, 1 does not.
    """
    angle = np.deg2rad(angle_degrees)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    maps = np.empty((2, 3, *np.broadcast_shapes(centre.shape[1:], cos.shape)))
    maps[0, 0], maps[0, 1] = side * cos, sin
    maps[1, 0], maps[1, 1] = -side * sin, cos
    maps[:, 2] = centre - turn(maps, origin)
    return maps


def camera_maps(camera: Floats, extent: Floats) -> Floats:
    """World to frame.

    Args:
        camera: ``(4, ...)``: x, y, zoom and rotation, as :class:`synth.scene.Camera` has them.
        extent: ``(2, 1, ...)``: width and height of the frame, in the unit of both.
    """
    x, y, zoom, rotation = camera
    maps = similarity(extent / 2, zoom, -rotation, extent / 2, np.ones(1))
    maps[:, 2] -= turn(maps, np.stack([x, y]) * extent)
    return maps


def compose(outer: Floats, inner: Floats) -> Floats:
    """The maps that do ``inner`` first and then ``outer``."""
    both: Floats = outer[:, 0, None] * inner[0] + outer[:, 1, None] * inner[1]
    both[:, 2] += outer[:, 2]
    return both


def invert(maps: Floats) -> Floats:
    """The inverse maps."""
    (a, b, _), (c, d, _) = maps
    back = np.empty_like(maps)
    back[0, 0], back[0, 1], back[1, 0], back[1, 1] = d, -b, -c, a
    back[:, :2] /= a * d - b * c
    back[:, 2] = -turn(back, maps[:, 2])
    return back


def turn(maps: Floats, points: Floats) -> Floats:
    """The linear part of maps on points: ``(2, ...)``."""
    moved: Floats = maps[:, 0] * points[0] + maps[:, 1] * points[1]
    return moved


def move(maps: Floats, points: Floats) -> Floats:
    """Maps on points: ``(2, ...)``."""
    moved: Floats = turn(maps, points) + maps[:, 2]
    return moved
