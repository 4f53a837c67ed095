"""What is drawn of a scene, and where: the pictures made ready once, and their places in every frame."""

import math
from collections.abc import Sequence
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
from synth.bank import FRAME, Sprite, level_for
from synth.deform import Bend, Box, Lookup, Points, bends
from synth.exposure import Exposure, Smear, list_smears, smear_margin, smear_steps
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

    def draw(self, t: int, memory: Image) -> Image:
        """Warps the picture into its wide box.

        Args:
            t: which frame.
            memory: ``uint8 (n,)`` large enough for the result.

        Returns:
            ``uint8 (h, w)`` or ``(h, w, 4)``, in that memory.
        """
        x0, y0, x1, y1 = self.wide[t]
        pixels = self.picture.pixels
        shape = (y1 - y0, x1 - x0, *pixels.shape[2:])
        out = memory[: math.prod(shape)].reshape(shape)
        if self.lookup is None:
            cv2.warpAffine(pixels, self.to_wide[t], shape[1::-1], out, cv2.INTER_LINEAR)
        else:
            # Copied first: looking up here and there in memory that is not at hand takes longer than a run through it.
            cv2.remap(pixels.copy(), *self.lookup.at(t), cv2.INTER_LINEAR, out)
        return out

    def draw_soft(self, t: int) -> Image:
        """Warps a soft picture of one channel, 255 all around, into its box: at half the size, and then enlarged.

        Returns:
            ``uint8 (h, w)``.
        """
        x0, y0, x1, y1 = self.wide[t]
        left, top = x0 % 2, y0 % 2  # two pixels that become one are the same ones in all frames
        half = (x1 - x0 + left + 1) // 2, (y1 - y0 + top + 1) // 2
        to_half = 0.5 * self.to_wide[t]
        to_half[:, 2] += 0.5 * left - 0.25, 0.5 * top - 0.25
        small = cv2.warpAffine(self.picture.pixels, to_half, half, None, cv2.INTER_LINEAR, borderValue=(255,))
        large = cv2.resize(small, (2 * half[0], 2 * half[1]), interpolation=cv2.INTER_LINEAR)
        return np.asarray(large[top : top + y1 - y0, left : left + x1 - x0], np.uint8)


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
    steps = smear_steps(ways)
    wide = np.array([0, 0, size[1], size[0]]) + _around(smear_margin(steps))
    picture = picture_of(pixels, sprite)
    to_wide = _into(wide, _picture_maps(to_frame, picture.scale, np.array(picture.pad)))
    return Backdrop(pixels, _box_tuples(wide), to_wide, to_frame, ways, list_smears(steps))


def place_objects(
    scene: Scene, sprites: Sequence[Sprite], size: Size, camera: Maps, exposure: Exposure, moments: Moments
) -> list[Layer]:
    """Makes all objects ready; other arguments as :func:`place_background`, and the T times of the frames.

    The pictures of an object are chosen by its largest size, so they are the same at any number of frames.
    """
    pairs = tuple(zip(scene.objects, sprites, strict=True))
    maps = compose(camera, np.stack([object_maps(item, exposure.moments, sprite.size, size) for item, sprite in pairs]))
    to_frame = maps[:, : exposure.num_frames]
    middles = np.array([[[sprite.size[1] / 2, sprite.size[0] / 2]] for sprite in sprites])
    ways = exposure.ways(apply(maps, middles[:, None])[..., 0, :])
    steps = smear_steps(ways)
    drawings = [
        _draw(scene, item, sprite, size, maps, margin, moments)
        for (item, sprite), maps, margin in zip(pairs, to_frame, smear_margin(steps), strict=True)
    ]
    warps = iter(_place([drawn for kinds in drawings for drawn in kinds if drawn is not None], size))
    return [
        Layer(
            item=item,
            sprite=sprite,
            to_frame=maps,
            colours=next(warps),
            outline=next(warps) if outline else None,
            shadow=next(warps) if shadow else None,
            ways=way,
            smears=list_smears(steps[:, number]),
            gains=tuple(brightness_gains(item, moments).tolist()),
        )
        for number, ((item, sprite), maps, way, (_, outline, shadow)) in enumerate(
            zip(pairs, to_frame, ways, drawings, strict=True)
        )
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Drawing:
    """A picture of an object, before it is known which pixels of the frames it falls on."""

    picture: Picture

    sprite: Sprite
    """What it was made of."""

    to_frame: Maps
    """``float64 (T, 2, 3)``: pixels of the sprite to the frame's, without the bend."""

    margin: NDArray[np.int64]
    """``int64 (T, 2)``: how far along x and y it is smeared."""

    bend: Bend | None
    """What bends it."""


def _draw(
    scene: Scene,
    item: SceneObject,
    sprite: Sprite,
    size: Size,
    to_frame: Maps,
    margin: NDArray[np.int64],
    moments: Moments,
) -> tuple[_Drawing, _Drawing | None, _Drawing | None]:
    """The pictures that are drawn of an object: colours, outline and shadow as a :class:`Layer` has them."""
    scale = _scale(max(item.size), scene, sprite, size)
    level = level_for(scale)
    sharp = sprite.framed(level)
    sharp_edge = np.zeros_like(margin)
    picture, outline, shadow = picture_of(tinted(sharp, item), sprite, FRAME), None, None
    bend = Bend(item.waves, moments, sprite.size) if bends(item.waves) else None
    if item.defocus > 0:
        focus = focus_for(sprite, level, scale, item.defocus * math.hypot(*size))
        pixels, pad = blurred(tinted(sprite.level(level + focus.levels), item), focus.sigma)
        picture = picture_of(pixels, sprite, pad, reach=pad)
        outline = _Drawing(picture_of(cv2.extractChannel(sharp, 3), sprite, FRAME), sprite, to_frame, sharp_edge, bend)
    if scene.shadow.strength:  # that of its rigid shape
        on_screen = moments.values(item.size) * moments.values(scene.camera.zoom) * math.hypot(*size)
        moved = to_frame.copy()
        moved[..., 2] += on_screen[:, None] * np.array([scene.shadow.x, scene.shadow.y])
        shadow = _Drawing(shadow_of(sprite, level, scene.shadow), sprite, moved, sharp_edge, None)
    return _Drawing(picture, sprite, to_frame, margin, bend), outline, shadow


def _place(drawings: Sequence[_Drawing], size: Size) -> list[Warp]:
    """Places D pictures in all T frames; all at once, because calling NumPy costs more than the arithmetic here."""
    maps = np.stack([drawn.to_frame for drawn in drawings])
    scales, pads, reach = (
        np.array([getattr(drawn.picture, name) for drawn in drawings]) for name in ("scale", "pad", "reach")
    )
    bent = np.array([(0.0, 0.0) if drawn.bend is None else drawn.bend.reach for drawn in drawings])
    smeared = _around(np.stack([drawn.margin for drawn in drawings]))
    margin = reach[:, None] / scales + bent
    low, high = _spread(maps, np.stack([_corners_of(drawn.sprite.size) for drawn in drawings]), margin)
    # Most cutouts fill little of their picture's corners. Bilinear sampling and the level's coarser pixels reach
    # farther than the hull by 1.5 of these pixels at most.
    tight_low, tight_high = _spread(
        maps, _same_length([drawn.sprite.hull for drawn in drawings]), margin + 1.5 / scales
    )
    boxes = np.concatenate([np.maximum(low, tight_low), np.minimum(high, tight_high)], axis=-1) + smeared
    boxes = np.clip(boxes, 0, np.array([size[1], size[0], size[1], size[0]]))
    wide = boxes + smeared
    to_wide = _into(wide, _picture_maps(maps, scales[:, None], pads[:, None]))
    back = invert(maps)
    warps = []
    for number, drawn in enumerate(drawings):
        picture, into, bend = drawn.picture, wide[number], drawn.bend
        lookup = None if bend is None else bend.lookup(back[number], into, picture.scale, picture.pad)
        warps.append(Warp(picture, _box_tuples(boxes[number]), _box_tuples(into), to_wide[number], lookup))
    return warps


def _scale(largest: float, scene: Scene, sprite: Sprite, size: Size) -> float:
    """Pixels of the frame per pixel of a picture, at most, from its largest size in frame diagonals."""
    return largest * max(scene.camera.zoom) * math.hypot(*size) / math.hypot(*sprite.size)


def _box_tuples(boxes: NDArray[np.int64]) -> tuple[Box, ...]:
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes.tolist())


def _around(margin: NDArray[np.int64]) -> NDArray[np.int64]:
    """What is added to boxes ``(..., 4)`` so that they are larger by ``margin`` ``(..., 2)`` on each side."""
    return np.concatenate([-margin, margin], axis=-1)


def _into(boxes: NDArray[np.int64], maps: Maps) -> Maps:
    """Maps to the frame turned into maps to boxes ``(..., 4)`` of it."""
    moved = maps.copy()
    moved[..., 2] -= boxes[..., :2]
    return moved


def _picture_maps(to_frame: Maps, scale: NDArray[np.float64], pad: NDArray[np.int64]) -> Maps:
    """Maps of whole pictures turned into maps of the pixels drawn instead of them, between pixel centres."""
    maps = to_frame.copy()
    maps[..., :2] /= scale[..., None, :]
    maps[..., 2] -= pad[..., None] * maps[..., :2].sum(axis=-1)
    return between_pixel_centres(maps)


def _corners_of(size: Size) -> Points:
    height, width = size
    return np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]])


def _same_length(shapes: Sequence[Points]) -> Points:
    """D shapes as ``float64 (D, Q, 2)``: the first corner of the shorter ones is there more than once."""
    longest = max(map(len, shapes))
    corners = np.empty((len(shapes), longest, 2))
    for row, shape in zip(corners, shapes, strict=True):
        row[: len(shape)], row[len(shape) :] = shape, shape[0]
    return corners


def _spread(maps: Maps, corners: Points, margin: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners of the boxes around convex shapes that are grown along x and y.

    Args:
        maps: ``float64 (D, T, 2, 3)``.
        corners: ``float64 (D, Q, 2)``.
        margin: ``float64 (D, 2)``.

    Returns:
        Two times ``int64 (D, T, 2)``.
    """
    moved = maps[..., :2] @ corners.swapaxes(1, 2)[:, None]  # (D, T, 2, Q)
    grown = (np.abs(maps[..., :2]) @ margin[:, None, :, None])[..., 0]
    low = np.floor(moved.min(axis=-1) + maps[..., 2] - grown)
    high = np.ceil(moved.max(axis=-1) + maps[..., 2] + grown)
    return low.astype(np.int64), high.astype(np.int64)
