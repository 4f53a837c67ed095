"""Where things are: affine maps from a cutout's or background's pixels to the frame's.

Maps are ``float64 (..., 2, 3)`` and act on continuous coordinates (x to the right, y down) in which pixel i covers
[i, i + 1]. Frame sizes may be any unit: with the frame's height and width in diagonals, results are in diagonals.
"""

import math

import numpy as np
from numpy.typing import NDArray

from synth.motion import Moments
from synth.scene import Camera, SceneBackground, SceneObject

Maps = NDArray[np.float64]


def compose(outer: Maps, inner: Maps) -> Maps:
    """The maps that do ``inner`` first and then ``outer``."""
    linear = outer[..., :2] @ inner[..., :2]
    shift = outer[..., :2] @ inner[..., 2:] + outer[..., 2:]
    return np.concatenate([linear, shift], axis=-1)


def invert(maps: Maps) -> Maps:
    """The inverse maps."""
    linear = np.linalg.inv(maps[..., :2])
    return np.concatenate([linear, -linear @ maps[..., 2:]], axis=-1)


def apply(maps: Maps, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maps points ``float64 (P, 2)`` to ``float64 (..., P, 2)``."""
    moved: NDArray[np.float64] = points @ np.swapaxes(maps[..., :2], -1, -2) + maps[..., None, :, 2]
    return moved


def between_pixel_centres(maps: Maps) -> Maps:
    """The same maps on coordinates whose integers are pixel centres, as OpenCV wants them."""
    shifted = maps.copy()
    shifted[..., 2] += 0.5 * maps[..., :2].sum(axis=-1) - 0.5
    return shifted


def _similarity(
    centre: tuple[NDArray[np.float64], NDArray[np.float64]],
    scale: NDArray[np.float64],
    angle_degrees: NDArray[np.float64],
    origin: tuple[float, float],
    mirrored: bool,
) -> Maps:
    """Scales, turns counter-clockwise on screen, and moves ``origin`` to ``centre``; mirrors x first if asked."""
    angle = np.deg2rad(angle_degrees)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    side = -1.0 if mirrored else 1.0
    maps = np.empty((*np.broadcast(cos, centre[0]).shape, 2, 3))
    maps[..., 0, 0], maps[..., 0, 1] = side * cos, sin
    maps[..., 1, 0], maps[..., 1, 1] = -side * sin, cos
    maps[..., 0, 2] = centre[0] - maps[..., 0, 0] * origin[0] - maps[..., 0, 1] * origin[1]
    maps[..., 1, 2] = centre[1] - maps[..., 1, 0] * origin[0] - maps[..., 1, 1] * origin[1]
    return maps


def camera_maps(camera: Camera, moments: Moments, frame_size: tuple[float, float]) -> Maps:
    """World to frame, ``(T, 2, 3)``, both in units of ``frame_size`` (height, width)."""
    height, width = frame_size
    zoom = moments.values(camera.zoom)
    middle = (np.full(len(moments), width / 2), np.full(len(moments), height / 2))
    maps = _similarity(middle, zoom, -moments.values(camera.rotation), (width / 2, height / 2), False)
    pan = np.stack([moments.values(camera.x) * width, moments.values(camera.y) * height], axis=1)
    maps[..., 2] -= (maps[..., :2] @ pan[..., None])[..., 0]
    return maps


def object_maps(
    item: SceneObject, moments: Moments, picture_size: tuple[float, float], frame_size: tuple[float, float]
) -> Maps:
    """Cutout pixels to world, ``(T, 2, 3)``.

    Args:
        item: the object and its path.
        moments: the T times to evaluate at.
        picture_size: height and width of the cutout's picture in pixels.
        frame_size: height and width of the frame, in the unit of the result.
    """
    height, width = frame_size
    scale = moments.values(item.size) * (math.hypot(*frame_size) / math.hypot(*picture_size))
    centre = (moments.values(item.x) * width, moments.values(item.y) * height)
    origin = (picture_size[1] / 2, picture_size[0] / 2)
    return _similarity(centre, scale, moments.values(item.rotation), origin, item.mirrored)


def background_map(item: SceneBackground, picture_size: tuple[float, float], frame_size: tuple[float, float]) -> Maps:
    """Background pixels to world, ``(2, 3)``; arguments as :func:`object_maps`."""
    height, width = frame_size
    scale = np.array(item.size * (math.hypot(*frame_size) / math.hypot(*picture_size)))
    centre = (np.array(item.x * width), np.array(item.y * height))
    return _similarity(centre, scale, np.array(0.0), (picture_size[1] / 2, picture_size[0] / 2), item.mirrored)
