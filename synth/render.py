"""Renders scenes: frames and masks from cutouts, backgrounds and their paths.

Each frame is painted from far to near. Every object is warped once, four premultiplied channels together, in nothing
but its own box, and laid over what is there: ``out = object + (1 - alpha) * below``. Where its alpha is at least one
half it owns the pixel, so the nearest such object is the one in the mask.

What changes how things look changes no mask: masks, amodal ones too, show sharp geometry at the frame's moment, which
is the middle of the exposure; so an object's motion blur reaches out of its mask by half of its way during it. For each
object, from far to near: its shadow darkens what is there; then the object, bent by its waves and smeared along its
way, is laid over. At last the light falls on everything. (:mod:`synth.appearance`, :mod:`synth.deform`,
:mod:`synth.exposure`; :mod:`synth.placement` has what is drawn and where.)
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.appearance import LIGHT_STEPS, light_gains, opaque_grey
from synth.bank import SOLID, PictureBank, Sprite
from synth.deform import Box
from synth.exposure import smeared
from synth.geometry import Maps
from synth.motion import frame_moments
from synth.pipelines import NO_PIPELINES, Pipelines
from synth.placement import Backdrop, Layer, PlacedScene, Warp, place_scenes
from synth.scene import Scene
from synth.types import BackgroundSource, ObjectSource

Image: TypeAlias = NDArray[np.uint8]

TakeFrame: TypeAlias = Callable[[Image], None]
"""Gets a frame: ``uint8 (H, W, 4)``, RGB and a channel without meaning, until the next frame is drawn over it."""

LIT_ROWS = 40
"""Rows that the light falls on at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class RenderedVideo:
    """Pixels of one synthetic video."""

    frames: Image
    """``uint8 (T, H, W, 3)``, RGB; T is 0 where another took the frames one by one."""

    masks: Image
    """``uint8 (T, H, W)``: 0 background, 1..254 object ids."""

    order: NDArray[np.int64]
    """``int64 (T, N)``: places in the scene's list of objects, the nearest object first."""

    sprites: tuple[Sprite, ...]
    """The cutouts of the N objects."""

    object_maps: NDArray[np.float64]
    """``float64 (N, T, 2, 3)``: pixels of each cutout to pixels of the frame, as in :mod:`synth.geometry`, before
    waves bend it."""

    background_maps: Maps
    """``float64 (T, 2, 3)``: pixels of the background's picture to pixels of the frame."""

    camera_maps: Maps
    """``float64 (T, 2, 3)``: resting view to frame, both in pixels of the frame."""

    object_ways: NDArray[np.float64]
    """``float64 (N, T, 2)``: way of each object during the exposure, along which it is smeared, in pixels."""

    background_ways: NDArray[np.float64]
    """``float64 (T, 2)``: the same of the background."""

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
    scene: Scene,
    objects: ObjectSource,
    backgrounds: BackgroundSource,
    size: tuple[int, int],
    num_frames: int,
    pipelines: Pipelines = NO_PIPELINES,
) -> RenderedVideo:
    """Renders one scene; see :class:`Renderer`, which reuses decoded pictures between scenes."""
    return Renderer(PictureBank(objects, backgrounds), size, num_frames, pipelines).render(scene)


class Renderer:
    """Renders scenes at one size and length, reusing pictures and working memory. For one thread."""

    def __init__(
        self, bank: PictureBank, size: tuple[int, int], num_frames: int, pipelines: Pipelines = NO_PIPELINES
    ) -> None:
        """Makes the working memory.

        Args:
            bank: where pictures come from; its sources must hold every picture that a scene names.
            size: height and width of the frames in pixels.
            num_frames: frames per video, at least 1.
            pipelines: what pictures go through first; those that the scenes were drawn with.
        """
        self.bank = bank
        self.size = size
        self.moments = frame_moments(num_frames)
        self.pipelines = pipelines
        self._canvas: Image = np.empty((*size, 4), np.uint8)
        self._behind: Image = np.empty((*size, 4), np.uint8)
        self._light: Image = np.empty((LIT_ROWS, size[1], 4), np.uint8)
        self._one_channel: Image = np.empty(size[0] * size[1], np.uint8)
        self._scratch: Image = np.empty(0, np.uint8)

    def render(self, scene: Scene, amodal: bool = False) -> RenderedVideo:
        """Renders one scene; a pure function of the scene, its pictures, size and number of frames.

        Args:
            scene: the scene.
            amodal: also keep where each object is when others hide it.

        Raises:
            BadFileError: a picture cannot be read.
            SourceError: the sources do not hold a picture that the scene names.
        """
        return self.draw(self.place([scene])[0], amodal)

    def place(self, scenes: Sequence[Scene]) -> list[PlacedScene]:
        """Makes ready what is drawn of scenes and finds where; errors as of :meth:`render`."""
        pictures = [self._pictures(scene) for scene in scenes]
        return place_scenes(scenes, pictures, self.size, self.moments) if scenes else []

    def _pictures(self, scene: Scene) -> tuple[Sprite, list[Sprite]]:
        """A scene's background and cutouts as they leave the pipelines."""
        at = scene.seed, scene.index
        cutouts = [self.pipelines.cutout(self.bank.scene_cutout(item), *at, item.id) for item in scene.objects]
        return self.pipelines.background(self.bank.scene_backdrop(scene.background), *at), cutouts

    def draw(self, placed: PlacedScene, amodal: bool = False, take: TakeFrame | None = None) -> RenderedVideo:
        """Draws a scene.

        Args:
            placed: the scene, from :meth:`place`.
            amodal: as for :meth:`render`.
            take: gets each frame as soon as it is drawn, while it is at hand, and the video then has none.
        """
        num_frames, (height, width) = len(self.moments), self.size
        scene, backdrop, layers = placed.scene, placed.backdrop, placed.layers
        order = _depth_order(np.stack([self.moments.values(item.depth) for item in scene.objects]))
        light = light_gains(scene.light, self.moments)
        whole = np.zeros((num_frames, len(layers), height, width), np.bool_) if amodal else None
        frames = np.empty((num_frames if take is None else 0, height, width, 3), np.uint8)
        masks = np.zeros((num_frames, height, width), np.uint8)
        still = backdrop.stands_still
        for t in range(num_frames):
            if t == 0 or not still:
                self._draw_background(backdrop, t)
                if still:
                    np.copyto(self._behind, self._canvas)
            else:
                np.copyto(self._canvas, self._behind)
            for number in order[t, ::-1].tolist():
                self._draw_object(layers[number], t, masks[t], None if whole is None else whole[t, number])
            self._shine(light[t])
            if take is None:
                cv2.cvtColor(self._canvas, cv2.COLOR_RGBA2RGB, dst=frames[t])
            else:
                take(self._canvas)
        return RenderedVideo(
            frames=frames,
            masks=masks,
            order=order,
            sprites=tuple(layer.sprite for layer in layers),
            object_maps=np.stack([layer.to_frame for layer in layers]),
            background_maps=backdrop.to_frame,
            camera_maps=placed.camera_maps,
            object_ways=np.stack([layer.ways for layer in layers]),
            background_ways=backdrop.ways,
            amodal=whole,
        )

    def _draw_background(self, backdrop: Backdrop, t: int) -> None:
        """Fills the canvas. Mirrored borders only show when a scene is rendered at another aspect than composed for."""
        x0, y0, x1, y1 = backdrop.wide[t]
        smear = backdrop.smears[t]
        cv2.warpAffine(
            backdrop.picture.pixels,
            backdrop.to_wide[t],
            (x1 - x0, y1 - y0),
            dst=self._memory((y1 - y0, x1 - x0, 4)) if smear else self._canvas,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        if smear:
            smeared(self._memory((y1 - y0, x1 - x0, 4)), smear, self._canvas)

    def _draw_object(self, layer: Layer, t: int, mask: Image, whole: NDArray[np.bool_] | None) -> None:
        """Draws an object's shadow and itself over the canvas, and into the masks."""
        if layer.shadow is not None:
            self._darken(layer.shadow, t)
        box, smear = layer.colours.boxes[t], layer.smears[t]
        if _is_empty(box):
            return
        wide = layer.colours.wide[t]
        sharp = layer.colours.draw(t, self._memory((wide[3] - wide[1], wide[2] - wide[0], 4)).reshape(-1))
        pixels = smeared(sharp, smear)
        alpha = cv2.extractChannel(pixels, 3)
        _lay_over(self._canvas[_inside(box)], pixels, alpha, layer.gains[t])
        if layer.outline is not None:
            box = layer.outline.boxes[t]
            alpha = None if _is_empty(box) else layer.outline.draw(t, self._one_channel)
        elif smear:
            alpha = cv2.extractChannel(sharp[_inside(box, wide[0], wide[1])], 3)
        if alpha is not None:
            _own(mask[_inside(box)], alpha, layer.item.id)
            if whole is not None:
                whole[_inside(box)] = alpha >= SOLID

    def _darken(self, shadow: Warp, t: int) -> None:
        """Lets a shadow fall on the canvas."""
        box = shadow.boxes[t]
        if not _is_empty(box):
            canvas = self._canvas[_inside(box)]
            cv2.multiply(canvas, opaque_grey(shadow.draw_soft(t)), dst=canvas, scale=1 / 255)

    def _shine(self, gains: NDArray[np.uint8]) -> None:
        """Lets the light fall on the canvas, on some rows at a time: their gains stay in the nearest cache."""
        if (gains == LIGHT_STEPS).all():
            return
        self._light.view(np.uint32)[:] = gains.view(np.uint32)[0]
        for y in range(0, self.size[0], LIT_ROWS):
            rows = self._canvas[y : y + LIT_ROWS]
            cv2.multiply(rows, self._light[: len(rows)], dst=rows, scale=1 / LIGHT_STEPS)

    def _memory(self, shape: tuple[int, int, int]) -> Image:
        """Working memory of that shape, reused by the next call."""
        num_bytes = shape[0] * shape[1] * shape[2]
        if len(self._scratch) < num_bytes:
            self._scratch = np.empty(num_bytes, np.uint8)
        return self._scratch[:num_bytes].reshape(shape)


def _depth_order(depths: NDArray[np.float64]) -> NDArray[np.int64]:
    """Nearest first, ``int64 (T, N)``, from depths ``(N, T)``; of equal depths, the smaller id is nearer."""
    return np.argsort(depths.T, axis=1, kind="stable")


def _is_empty(box: Box) -> bool:
    return box[0] >= box[2] or box[1] >= box[3]


def _inside(box: Box, x: int = 0, y: int = 0) -> tuple[slice, slice]:
    """Rows and columns of a box in a picture whose upper left corner is at (x, y)."""
    return slice(box[1] - y, box[3] - y), slice(box[0] - x, box[2] - x)


def _lay_over(canvas: Image, pixels: Image, alpha: Image, gain: float) -> None:
    """Puts a warped object over a box of the canvas."""
    through = cv2.bitwise_not(alpha)
    below = cv2.multiply(canvas, opaque_grey(through), scale=1 / 255)
    if gain == 1:
        cv2.add(below, pixels, dst=canvas)
    else:
        cv2.addWeighted(below, 1.0, pixels, gain, 0.0, dst=canvas)


def _own(mask: Image, alpha: Image, object_id: int) -> None:
    """Gives an object the pixels of a box of the mask where its alpha is at least one half."""
    _, own = cv2.threshold(alpha, SOLID - 1, object_id, cv2.THRESH_BINARY)
    cv2.copyTo(own, own, mask)
