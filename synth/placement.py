"""What is drawn of a scene, and where: the pictures made ready once, and their places in every frame."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.appearance import (
    Picture,
    blurred,
    blurred_backdrop,
    brightness_gains,
    focus_for,
    picture_of,
    shadow_of,
    tinted,
)
from synth.bank import Sprite, level_for
from synth.deform import Bend, Box, Lookup, Points, bends
from synth.exposure import Exposure, Smear, make_smear
from synth.geometry import Maps, apply, background_map, between_pixel_centres, compose, invert, object_maps
from synth.motion import Moments
from synth.scene import Scene, SceneObject

Image: TypeAlias = NDArray[np.uint8]

Size: TypeAlias = tuple[int, int]
"""Height and width of the frame in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """A picture and where it goes in each of T frames."""

    picture: Picture
    """What is warped."""

    boxes: tuple[Box, ...]
    """T boxes around it, smear included, inside the frame."""

    wide: tuple[Box, ...]
    """T boxes that it is warped into: larger by what the smear takes away, so they may lie outside of the frame."""

    to_wide: Maps
    """``float64 (T, 2, 3)``: its pixels to those of the wide boxes, integers at pixel centres; without the bend."""

    lookup: Lookup | None = None
    """Where the pixels of the wide boxes look a bent picture up."""

    def draw(self, t: int, memory: Image, outside: int = 0) -> Image:
        """Warps the picture into its wide box.

        Args:
            t: which frame.
            memory: ``uint8 (n,)`` large enough for the result.
            outside: value of what lies around a picture of one channel.

        Returns:
            ``uint8 (h, w)`` or ``(h, w, 4)``, in that memory.
        """
        x0, y0, x1, y1 = self.wide[t]
        pixels = self.picture.pixels
        shape = (y1 - y0, x1 - x0, *pixels.shape[2:])
        out = memory[: math.prod(shape)].reshape(shape)
        if self.lookup is None:
            cv2.warpAffine(pixels, self.to_wide[t], shape[1::-1], out, cv2.INTER_LINEAR, borderValue=(outside,))
        else:
            cv2.remap(pixels, self.lookup.at(t), None, cv2.INTER_LINEAR, out)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """An object and all that is drawn of it."""

    item: SceneObject
    """What the scene says of it."""

    sprite: Sprite
    """Its cutout."""

    to_frame: Maps
    """``float64 (T, 2, 3)``: pixels of its cutout to the frame's, without the bend."""

    colours: Warp
    """Its colours and alpha."""

    outline: Warp | None
    """Its sharp alpha, when its colours are out of focus."""

    shadow: Warp | None
    """What share of the light its shadow lets through, in 255ths."""

    ways: NDArray[np.float64]
    """``float64 (T, 2)``: its way during each exposure, in pixels along x and y."""

    smears: tuple[Smear, ...]
    """T smears along those ways."""

    gains: tuple[float, ...]
    """T gains of its colours."""


@dataclass(frozen=True, slots=True, eq=False)
class Backdrop:
    """The background and where it goes."""

    pixels: Image
    """``uint8 (h, w, 4)``."""

    wide: tuple[Box, ...]
    """T boxes that it is warped into: the frame, and what the smear takes away."""

    to_wide: Maps
    """``float64 (T, 2, 3)``: those pixels to those of the wide boxes, integers at pixel centres."""

    to_frame: Maps
    """``float64 (T, 2, 3)``: pixels of the whole picture to the frame's."""

    ways: NDArray[np.float64]
    """``float64 (T, 2)``: way of what is seen in the middle during each exposure, in pixels along x and y."""

    smears: tuple[Smear, ...]
    """T smears along those ways."""

    @property
    def stands_still(self) -> bool:
        """Whether all frames show the same of it."""
        return bool((self.to_wide == self.to_wide[0]).all())


def place_background(scene: Scene, sprite: Sprite, size: Size, camera: Maps, exposure: Exposure) -> Backdrop:
    """Makes the background ready.

    Args:
        scene: the scene.
        sprite: its background.
        size: of the frame.
        camera: ``float64 (3 T or T, 2, 3)``, world to frame at the moments of the exposure.
        exposure: when the shutter is open.
    """
    item = scene.background
    to_frame = compose(camera[: exposure.num_frames], background_map(item, sprite.size, size))
    scale = _scale(item.size, scene, sprite, size)
    level = level_for(scale)
    pixels = sprite.level(level)
    if item.defocus > 0:
        focus = focus_for(sprite, level, scale, item.defocus * math.hypot(*size))
        pixels = blurred_backdrop(sprite.level(level + focus.levels), focus.sigma)
    ways = exposure.camera_ways(camera, size)
    smears = tuple(make_smear(way) for way in ways)
    wide = _wide(((0, 0, size[1], size[0]),) * exposure.num_frames, smears)
    to_wide = _into(wide, _picture_maps(picture_of(pixels, sprite), to_frame))
    return Backdrop(pixels, wide, to_wide, to_frame, ways, smears)


def place_object(
    scene: Scene, item: SceneObject, sprite: Sprite, size: Size, camera: Maps, exposure: Exposure, moments: Moments
) -> Layer:
    """Makes an object ready; arguments as :func:`place_background`, and the T times of the frames.

    Its pictures are chosen by its largest size, so they are the same at any number of frames.
    """
    maps = compose(camera, object_maps(item, exposure.moments, sprite.size, size))
    to_frame = maps[: exposure.num_frames]
    ways = exposure.ways(apply(maps, np.array([[sprite.size[1] / 2, sprite.size[0] / 2]]))[:, 0])
    smears = tuple(make_smear(way) for way in ways)
    scale = _scale(max(item.size), scene, sprite, size)
    level = level_for(scale)
    sharp = sprite.level(level)
    picture, outline = picture_of(tinted(sharp, item), sprite), None
    bend = Bend(item.waves, moments, sprite.size) if bends(item.waves) else None
    if item.defocus > 0:
        focus = focus_for(sprite, level, scale, item.defocus * math.hypot(*size))
        pixels, pad = blurred(tinted(sprite.level(level + focus.levels), item), focus.sigma)
        outline = _bent_warp(picture_of(cv2.extractChannel(sharp, 3), sprite), sprite, to_frame, bend, size, None)
        picture = picture_of(pixels, sprite, pad)
    return Layer(
        item=item,
        sprite=sprite,
        to_frame=to_frame,
        colours=_bent_warp(picture, sprite, to_frame, bend, size, smears),
        outline=outline,
        shadow=_place_shadow(scene, item, sprite, level, to_frame, size, moments) if scene.shadow.strength else None,
        ways=ways,
        smears=smears,
        gains=tuple(brightness_gains(item, moments).tolist()),
    )


def _scale(largest: float, scene: Scene, sprite: Sprite, size: Size) -> float:
    """Pixels of the frame per pixel of a picture, at most, from its largest size in frame diagonals."""
    return largest * max(scene.camera.zoom) * math.hypot(*size) / math.hypot(*sprite.size)


def _bent_warp(
    picture: Picture, sprite: Sprite, to_frame: Maps, bend: Bend | None, size: Size, smears: tuple[Smear, ...] | None
) -> Warp:
    """Places a picture that may be bent and smeared."""
    reach = np.zeros(2) if bend is None else bend.reach
    boxes = _boxes(picture, sprite, to_frame, size, reach, smears)
    wide = boxes if smears is None else _wide(boxes, smears)
    lookup = None if bend is None else bend.lookup(invert(to_frame), wide, picture.scale, picture.pad)
    return Warp(picture, boxes, wide, _into(wide, _picture_maps(picture, to_frame)), lookup)


def _place_shadow(
    scene: Scene, item: SceneObject, sprite: Sprite, level: int, to_frame: Maps, size: Size, moments: Moments
) -> Warp:
    """Places the shadow of an object, which is that of its rigid shape."""
    picture = shadow_of(sprite, level, scene.shadow)
    on_screen = moments.values(item.size) * moments.values(scene.camera.zoom) * math.hypot(*size)
    moved = to_frame.copy()
    moved[..., 2] += on_screen[:, None] * np.array([scene.shadow.x, scene.shadow.y])
    boxes = _boxes(picture, sprite, moved, size, np.zeros(2), None)
    return Warp(picture, boxes, boxes, _into(boxes, _picture_maps(picture, moved)))


def _wide(boxes: tuple[Box, ...], smears: tuple[Smear, ...]) -> tuple[Box, ...]:
    """Boxes with all that their smeared pixels are made of."""
    befores = (smear.before for smear in smears)
    return tuple(
        (box[0] + x0, box[1] + y0, box[2] + x1, box[3] + y1)
        for box, (x0, y0, x1, y1) in zip(boxes, befores, strict=True)
    )


def _into(boxes: tuple[Box, ...], maps: Maps) -> Maps:
    """Maps to the frame turned into maps to boxes of it."""
    moved = maps.copy()
    moved[..., 2] -= np.array(boxes)[:, :2]
    return moved


def _picture_maps(picture: Picture, to_frame: Maps) -> Maps:
    """Maps of a whole picture turned into maps of the pixels drawn instead of it, between pixel centres."""
    maps = to_frame.copy()
    maps[..., :2] /= picture.scale
    maps[..., 2] -= picture.pad * maps[..., :2].sum(axis=-1)
    return between_pixel_centres(maps)


def _boxes(
    picture: Picture,
    sprite: Sprite,
    to_frame: Maps,
    size: Size,
    reach: NDArray[np.float64],
    smears: tuple[Smear, ...] | None,
) -> tuple[Box, ...]:
    """Boxes of a picture in every frame, clipped to the frame; ``reach``: pixels by which it may be bent along x, y."""
    margin = picture.pad / picture.scale + reach
    low, high = _spread(to_frame, _corners_of(sprite.size), margin)
    # Most cutouts fill little of their picture's corners. Bilinear sampling and the level's coarser pixels reach
    # farther than the hull by 1.5 of these pixels at most.
    tight_low, tight_high = _spread(to_frame, sprite.hull, margin + 1.5 / picture.scale)
    boxes = np.concatenate([np.maximum(low, tight_low), np.minimum(high, tight_high)], axis=1)
    if smears is not None:
        boxes += np.array([smear.reach for smear in smears])
    clipped = np.clip(boxes, 0, np.array([size[1], size[0], size[1], size[0]]))
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in clipped.tolist())


def _corners_of(size: Size) -> Points:
    height, width = size
    return np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]])


def _spread(maps: Maps, corners: Points, margin: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners ``(T, 2)`` of the boxes around a convex shape that is grown by ``margin`` along x and y."""
    moved = apply(maps, corners)  # (T, Q, 2)
    grown = np.abs(maps[..., :2]) @ margin
    low, high = np.floor(moved.min(axis=1) - grown), np.ceil(moved.max(axis=1) + grown)
    return low.astype(np.int64), high.astype(np.int64)
