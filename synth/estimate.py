"""How much of each object every frame shows, estimated from few points of each, without drawing a pixel."""

import numpy as np
from numpy.typing import NDArray

from synth.bank import SILHOUETTE_CELLS, PictureBank, Sprite
from synth.geometry import Maps, camera_maps, compose, invert, object_maps
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
    maps = [
        compose(camera, object_maps(item, moments, sprite.size, size))
        for item, sprite in zip(scene.objects, sprites, strict=True)
    ]
    backs = [invert(one) for one in maps]
    depths = [moments.values(item.depth) for item in scene.objects]
    areas = np.zeros((num_frames, len(maps)), np.int32)
    for number, sprite in enumerate(sprites):
        x, y = _moved(maps[number], sprite.points)
        seen = (x >= 0) & (y >= 0) & (x < size[1]) & (y < size[0])
        for other, back in enumerate(backs):
            nearer = depths[other] < depths[number]
            if other < number:  # of equal depths, the smaller id is nearer
                nearer |= depths[other] == depths[number]
            if nearer.any():
                times = np.flatnonzero(nearer)
                covered = _covers(sprites[other], _moved(compose(back[times], maps[number][times]), sprite.points))
                seen[times] &= ~covered
        magnified = np.abs(np.linalg.det(maps[number][..., :2]))
        areas[:, number] = np.rint(seen.mean(axis=1) * sprite.num_solid * magnified)
    return areas


def _moved(maps: Maps, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maps points ``(3, P)`` to ``(2, T, P)``: all x in a row, and all y, for what is done to them next."""
    moved: NDArray[np.float64] = maps.swapaxes(0, 1) @ points
    return moved


def _covers(sprite: Sprite, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points ``(2, T, P)``, in a cutout's pixels, lie on its silhouette: ``bool (T, P)``; overwrites them."""
    cells = []
    for along, length in zip(points, sprite.size[::-1], strict=True):
        along *= SILHOUETTE_CELLS / length
        along += 1  # what lies outside falls on the empty border
        cells.append(np.clip(along, 0, SILHOUETTE_CELLS + 1, out=along).astype(np.int64))
    covered: NDArray[np.bool_] = sprite.occupied[cells[1], cells[0]]
    return covered
