"""Renders scenes: frames and masks from cutouts, backgrounds and their paths.

Each frame is painted from far to near. Every object is warped once, four premultiplied channels together, in nothing
but its own box, and laid over what is there: ``out = object + (1 - alpha) * below``. Where its alpha is at least one
half it owns the pixel, so the nearest such object is the one in the mask.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.bank import SOLID, PictureBank, Sprite, level_for
from synth.geometry import Maps, apply, background_map, between_pixel_centres, camera_maps, compose, object_maps
from synth.motion import frame_moments
from synth.scene import Scene
from synth.types import BackgroundSource, ObjectSource

Image: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class RenderedVideo:
    """Pixels of one synthetic video."""

    frames: Image
    """``uint8 (T, H, W, 3)``, RGB."""

    masks: Image
    """``uint8 (T, H, W)``: 0 background, 1..254 object ids."""

    order: NDArray[np.int64]
    """``int64 (T, N)``: places in the scene's list of objects, the nearest object first."""

    sprites: tuple[Sprite, ...]
    """The cutouts of the N objects."""

    object_maps: NDArray[np.float64]
    """``float64 (N, T, 2, 3)``: pixels of each cutout to pixels of the frame, as in :mod:`synth.geometry`."""

    background_maps: Maps
    """``float64 (T, 2, 3)``: pixels of the background's picture to pixels of the frame."""

    camera_maps: Maps
    """``float64 (T, 2, 3)``: resting view to frame, both in pixels of the frame."""

    amodal: NDArray[np.bool_] | None
    """``bool (T, N, H, W)``: where each object is, hidden or not; None when it was not asked for."""

    def __repr__(self) -> str:
        num_frames, height, width = self.masks.shape
        return f"RenderedVideo({num_frames} frames of {height}x{width})"


@contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """Keeps OpenCV to one thread: rendering runs in one process per core, and its pictures are too small to share."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def render_scene(
    scene: Scene, objects: ObjectSource, backgrounds: BackgroundSource, size: tuple[int, int], num_frames: int
) -> RenderedVideo:
    """Renders one scene; see :class:`Renderer`, which reuses decoded pictures between scenes."""
    return Renderer(PictureBank(objects, backgrounds), size, num_frames).render(scene)


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A picture and where it goes in every frame."""

    sprite: Sprite
    """The picture."""

    to_frame: Maps
    """``float64 (T, 2, 3)``: its pixels to the frame's."""

    pixels: Image
    """``uint8 (h, w, 4)``, premultiplied: the level of the picture that is drawn."""

    maps: Maps
    """``float64 (T, 2, 3)``: that level's pixels to the frame's, integers at pixel centres."""

    boxes: NDArray[np.int64]
    """``int64 (T, 4)``: x0, y0, x1, y1, end-exclusive and inside the frame; empty where it is out of it."""

    def draw(self, t: int, scratch: Image) -> tuple[tuple[slice, slice], Image] | None:
        """Warps the picture for frame t into scratch memory; returns its box and pixels, None when it is outside."""
        x0, y0, x1, y1 = self.boxes[t].tolist()
        if x0 >= x1 or y0 >= y1:
            return None
        to_box = self.maps[t] - np.array([[0.0, 0.0, x0], [0.0, 0.0, y0]])
        out = scratch[: (y1 - y0) * (x1 - x0) * 4].reshape(y1 - y0, x1 - x0, 4)
        cv2.warpAffine(self.pixels, to_box, (x1 - x0, y1 - y0), dst=out, flags=cv2.INTER_LINEAR)
        return (slice(y0, y1), slice(x0, x1)), out


class Renderer:
    """Renders scenes at one size and length, reusing pictures and working memory. For one thread."""

    def __init__(self, bank: PictureBank, size: tuple[int, int], num_frames: int) -> None:
        """Makes the working memory.

        Args:
            bank: where pictures come from; its sources must hold every picture that a scene names.
            size: height and width of the frames in pixels.
            num_frames: frames per video, at least 1.
        """
        self.bank = bank
        self.size = size
        self.moments = frame_moments(num_frames)
        self._canvas: Image = np.empty((*size, 4), np.uint8)
        self._scratch: Image = np.empty(size[0] * size[1] * 4, np.uint8)

    def render(self, scene: Scene, amodal: bool = False) -> RenderedVideo:
        """Renders one scene; a pure function of the scene, its pictures, size and number of frames.

        Args:
            scene: the scene.
            amodal: also keep where each object is when others hide it.

        Raises:
            BadFileError: a picture cannot be read.
            SourceError: the sources do not hold a picture that the scene names.
        """
        height, width = self.size
        camera = camera_maps(scene.camera, self.moments, self.size)
        backdrop = self._background_layer(scene, camera)
        layers = [self._object_layer(scene, number, camera) for number in range(len(scene.objects))]
        order = _depth_order(np.stack([self.moments.values(item.depth) for item in scene.objects]))
        whole = np.zeros((len(self.moments), len(layers), height, width), np.bool_) if amodal else None
        frames = np.empty((len(self.moments), height, width, 3), np.uint8)
        masks = np.zeros((len(self.moments), height, width), np.uint8)
        for t in range(len(self.moments)):
            self._draw_background(backdrop, t)
            for number in order[t, ::-1].tolist():
                drawn = layers[number].draw(t, self._scratch)
                if drawn is not None:
                    box, pixels = drawn
                    solid = _lay_over(self._canvas[box], masks[t][box], pixels, scene.objects[number].id)
                    if whole is not None:
                        whole[t, number][box] = solid
            cv2.cvtColor(self._canvas, cv2.COLOR_RGBA2RGB, dst=frames[t])
        return RenderedVideo(
            frames=frames,
            masks=masks,
            order=order,
            sprites=tuple(layer.sprite for layer in layers),
            object_maps=np.stack([layer.to_frame for layer in layers]),
            background_maps=backdrop.to_frame,
            camera_maps=camera,
            amodal=whole,
        )

    def _draw_background(self, layer: _Layer, t: int) -> None:
        # Mirrored borders only show when a scene is rendered at another aspect than it was composed for.
        cv2.warpAffine(
            layer.pixels,
            layer.maps[t],
            self.size[::-1],
            dst=self._canvas,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )

    def _background_layer(self, scene: Scene, camera: Maps) -> _Layer:
        item = scene.background
        sprite = self.bank.scene_backdrop(item)
        maps = compose(camera, background_map(item, sprite.size, self.size))
        return self._layer(sprite, maps, item.size * max(scene.camera.zoom))

    def _object_layer(self, scene: Scene, number: int, camera: Maps) -> _Layer:
        item = scene.objects[number]
        sprite = self.bank.scene_cutout(item)
        maps = compose(camera, object_maps(item, self.moments, sprite.size, self.size))
        return self._layer(sprite, maps, max(item.size) * max(scene.camera.zoom))

    def _layer(self, sprite: Sprite, maps: Maps, largest: float) -> _Layer:
        """Chooses the level of a picture from its largest size in frame diagonals, the same at any number of frames."""
        scale = largest * math.hypot(*self.size) / math.hypot(*sprite.size)
        pixels = sprite.level(level_for(scale))
        per_axis = np.array([sprite.size[1] / pixels.shape[1], sprite.size[0] / pixels.shape[0], 1.0])
        level_maps = maps * per_axis
        boxes = _boxes(level_maps, pixels.shape[:2], self.size)
        return _Layer(sprite, maps, pixels, between_pixel_centres(level_maps), boxes)


def _depth_order(depths: NDArray[np.float64]) -> NDArray[np.int64]:
    """Nearest first, ``int64 (T, N)``, from depths ``(N, T)``; of equal depths, the smaller id is nearer."""
    return np.argsort(depths.T, axis=1, kind="stable")


def _boxes(maps: Maps, picture_size: tuple[int, ...], size: tuple[int, int]) -> NDArray[np.int64]:
    """Boxes of a picture in every frame, clipped to the frame: ``int64 (T, 4)``."""
    height, width = picture_size
    corners = np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]])
    moved = apply(maps, corners)  # (T, 4, 2)
    low = np.floor(moved.min(axis=1)).astype(np.int64)
    high = np.ceil(moved.max(axis=1)).astype(np.int64)
    limit = np.array([size[1], size[0]])
    return np.concatenate([np.clip(low, 0, limit), np.clip(high, 0, limit)], axis=1)


def _lay_over(canvas: Image, mask: Image, pixels: Image, object_id: int) -> NDArray[np.bool_]:
    """Puts a warped object over a box of the canvas, takes the pixels where it is solid, and returns where that is."""
    alpha = cv2.extractChannel(pixels, 3)
    through = cv2.bitwise_not(alpha)
    below = cv2.multiply(canvas, cv2.merge((through, through, through, through)), scale=1 / 255)
    canvas[:] = cv2.add(below, pixels)
    solid: NDArray[np.bool_] = alpha >= SOLID
    np.copyto(mask, np.uint8(object_id), where=solid)
    return solid
