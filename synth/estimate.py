"""How much of each object every frame shows, estimated from few points of each, without drawing a pixel."""

import numpy as np
from numpy.typing import NDArray

from synth.bank import PictureBank, Sprite
from synth.geometry import Maps, apply, camera_maps, compose, invert, object_maps
from synth.motion import frame_moments
from synth.scene import Scene


def estimate_areas(scene: Scene, bank: PictureBank, size: tuple[int, int], num_frames: int) -> NDArray[np.int32]:
    """Visible pixels of every object in every frame; what waves do to its shape is left out.

    Args:
        scene: the scene.
        bank: where pictures come from.
        size: height and width of the frames in pixels.
        num_frames: T.

    Returns:
        ``int32 (T, N)``, objects as in the scene; 0 where none of an object's sample points can be seen.
    """
    moments = frame_moments(num_frames)
    camera = camera_maps(scene.camera, moments, size)
    sprites = [bank.scene_cutout(item) for item in scene.objects]
    placed = [
        (compose(camera, object_maps(item, moments, sprite.size, size)), sprite, moments.values(item.depth))
        for item, sprite in zip(scene.objects, sprites, strict=True)
    ]
    areas = np.zeros((num_frames, len(placed)), np.int32)
    for number, (maps, sprite, depth) in enumerate(placed):
        points = apply(maps, sprite.points)  # (T, P, 2)
        seen = ((points >= 0) & (points < np.array([size[1], size[0]]))).all(axis=2)
        for other, (its_maps, its_sprite, its_depth) in enumerate(placed):
            nearer = (its_depth < depth) | ((its_depth == depth) & (other < number))
            if other != number and nearer.any():
                seen &= ~(_covers(its_sprite, its_maps, points) & nearer[:, None])
        magnified = np.abs(np.linalg.det(maps[..., :2]))
        areas[:, number] = np.rint(seen.mean(axis=1) * sprite.num_solid * magnified)
    return areas


def _covers(sprite: Sprite, maps: Maps, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points of the frame ``(T, P, 2)`` lie on a cutout's silhouette: ``bool (T, P)``."""
    back = invert(maps)
    inside = points @ np.swapaxes(back[..., :2], -1, -2) + back[:, None, :, 2]
    rows, columns = sprite.occupied.shape
    x = np.floor(inside[..., 0] * (columns / sprite.size[1])).astype(np.int64)
    y = np.floor(inside[..., 1] * (rows / sprite.size[0])).astype(np.int64)
    within = (x >= 0) & (y >= 0) & (x < columns) & (y < rows)
    covered: NDArray[np.bool_] = within & sprite.occupied[np.where(within, y, 0), np.where(within, x, 0)]
    return covered
