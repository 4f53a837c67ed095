"""What is drawn of a scene, and where: the pictures made ready once, and their places in every frame."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.affine import Floats, camera_maps, compose, invert, move, similarity
from synth.appearance import (
    Picture,
    blur_pad,
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
from synth.exposure import Smear, list_smears, smear_margin, smear_steps
from synth.geometry import Maps, between_pixel_centres
from synth.motion import Moments
from synth.scene import Scene, SceneObject
from synth.scene_arrays import Stage, extent_of, gather

Image: TypeAlias = NDArray[np.uint8]

Size: TypeAlias = tuple[int, int]
"""Height and width of the frame in pixels."""


@dataclass(frozen=True, eq=False)
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

    to_sprite: Maps
    """``float64 (T, 2, 3)``: the frame's pixels to those of the sprite that the picture was made of; without the bend.
    """

    bend: Bend | None = None
    """What bends it."""

    @cached_property
    def _lookup(self) -> Lookup:
        """Where the pixels of the wide boxes look a bent picture up."""
        assert self.bend is not None
        return self.bend.lookup(self.to_sprite, np.array(self.wide), self.picture.scale, self.picture.pad)

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
        if self.bend is None:
            cv2.warpAffine(pixels, self.to_wide[t], shape[1::-1], out, cv2.INTER_LINEAR)
        else:
            cv2.remap(pixels, *self._lookup.at(t), cv2.INTER_LINEAR, out)
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

    picture: Picture
    """What is warped: ``uint8 (h, w, 4)``."""

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


@dataclass(frozen=True, slots=True, eq=False)
class PlacedScene:
    """A scene, ready to be drawn at one size and length."""

    scene: Scene
    """The scene."""

    backdrop: Backdrop
    """Its background."""

    layers: list[Layer]
    """Its N objects."""

    camera_maps: Maps
    """``float64 (T, 2, 3)``: resting view to frame, both in pixels of the frame."""


def place_scenes(
    scenes: Sequence[Scene], pictures: Sequence[tuple[Sprite, Sequence[Sprite]]], size: Size, moments: Moments
) -> list[PlacedScene]:
    """Makes scenes ready to be drawn; all at once, because calling NumPy costs more than the arithmetic here.

    The pictures of an object are chosen by its largest size, so they are the same at any number of frames.

    Args:
        scenes: at least one.
        pictures: of each scene its background and its objects' cutouts.
        size: of the frames.
        moments: the T times of the frames.
    """
    found = gather(scenes, len(moments), [range(len(moments))] * len(scenes))
    stage = _Stage(found, size, camera_maps(found.camera, extent_of(size)), scenes, moments)
    backdrops = _place_backdrops(stage, [backdrop for backdrop, _ in pictures])
    layers = iter(_place_objects(stage, [sprite for _, cutouts in pictures for sprite in cutouts]))
    cameras = _one_by_one(stage.camera[..., : len(moments)])
    return [
        PlacedScene(scene, backdrop, [next(layers) for _ in scene.objects], camera)
        for scene, backdrop, camera in zip(scenes, backdrops, cameras, strict=True)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Stage(Stage):
    scenes: Sequence[Scene]
    moments: Moments
    """Times of the frames."""


def _place_backdrops(stage: _Stage, sprites: Sequence[Sprite]) -> list[Backdrop]:
    x, y, size, _, side = stage.found.background
    sizes = np.array([sprite.size for sprite in sprites])
    scale = size * stage.diagonal / np.hypot(*sizes.T)
    world = similarity(np.array([x, y]) * stage.extent[..., 0], scale, np.zeros(1), sizes.T[::-1] / 2, side)
    now, opened, closed = np.split(stage.camera, 3, axis=-1)
    middle = move(invert(now), stage.extent / 2)
    ways = stage.found.exposures.ways(move(opened, middle), move(closed, middle), np.arange(len(sprites)))
    ways, to_frame = np.moveaxis(ways, 0, -1), _one_by_one(compose(now, world[..., None]))
    steps = smear_steps(ways)
    wide = np.array([0, 0, *stage.size[::-1]]) + _around(smear_margin(steps))
    drawn = [_sharp_or_blurred(scene, sprite, stage) for scene, sprite in zip(stage.scenes, sprites, strict=True)]
    scales = np.array([picture.scale for picture in drawn])
    to_wide = _into(wide, _picture_maps(to_frame, scales[:, None], np.zeros((1, 1), np.int64)))
    return [
        Backdrop(picture, _box_tuples(wide[n]), to_wide[n], to_frame[n], ways[n], list_smears(steps[:, n]))
        for n, picture in enumerate(drawn)
    ]


def _sharp_or_blurred(scene: Scene, sprite: Sprite, stage: _Stage) -> Picture:
    """A background, as large as it has to be."""
    item = scene.background
    scale = _scale(item.size, scene, sprite, stage.size)
    level = level_for(scale)
    if item.defocus == 0:
        sharp = sprite.level(level)
        return picture_of(lambda: sharp, sharp, sprite)
    focus = focus_for(sprite, level, scale, item.defocus * stage.diagonal)
    small = sprite.level(level + focus.levels)
    return picture_of(partial(blurred_backdrop, small, focus.sigma), small, sprite)


def _place_objects(stage: _Stage, sprites: Sequence[Sprite]) -> list[Layer]:
    """Makes the objects of all scenes ready."""
    found, now, later = stage.found.objects, slice(len(stage.moments)), slice(len(stage.moments), None)
    sizes = np.array([sprite.size for sprite in sprites])
    centre, camera = found.path[:2] * stage.extent, stage.camera[:, :, found.scene]
    scale = found.path[2, :, now] * (stage.diagonal / np.hypot(*sizes.T))[:, None]
    middle = sizes.T[::-1, :, None] / 2
    in_world = similarity(centre[..., now], scale, found.path[3, :, now], middle, found.side[:, None])
    to_frame = _one_by_one(compose(camera[..., now], in_world))
    opened, closed = np.split(move(camera[..., later], centre[..., later]), 2, axis=-1)
    ways = np.moveaxis(stage.found.exposures.ways(opened, closed, found.scene), 0, -1)
    diagonals = found.path[2, :, now] * stage.found.camera[2, found.scene, now] * stage.diagonal
    steps = smear_steps(ways)
    margins = smear_margin(steps)
    items = [(scene, item) for scene in stage.scenes for item in scene.objects]
    drawings = [
        _draw(scene, item, sprites[n], stage, to_frame[n], diagonals[n], margins[n])
        for n, (scene, item) in enumerate(items)
    ]
    warps = iter(_place([drawn for kinds in drawings for drawn in kinds if drawn is not None], stage.size))
    return [
        Layer(
            item=item,
            sprite=sprites[n],
            to_frame=to_frame[n],
            colours=next(warps),
            outline=next(warps) if outline else None,
            shadow=next(warps) if shadow else None,
            ways=ways[n],
            smears=list_smears(steps[:, n]),
            gains=tuple(brightness_gains(item, stage.moments).tolist()),
        )
        for n, ((_, item), (_, outline, shadow)) in enumerate(zip(items, drawings, strict=True))
    ]


def _one_by_one(maps: Floats) -> Maps:
    """Maps ``(2, 3, n, T)`` as ``(n, T, 2, 3)``."""
    return np.ascontiguousarray(np.moveaxis(maps, (0, 1), (-2, -1)))


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
    stage: _Stage,
    to_frame: Maps,
    diagonals: Floats,
    margin: NDArray[np.int64],
) -> tuple[_Drawing, _Drawing | None, _Drawing | None]:
    """The pictures that are drawn of an object: colours, outline and shadow as a :class:`Layer` has them.

    Args:
        scene: the scene.
        item: the object.
        sprite: its cutout.
        stage: where it is drawn.
        to_frame: ``(T, 2, 3)``: pixels of its cutout to the frame's, without the bend.
        diagonals: ``(T,)``: of its picture on screen, in pixels.
        margin: ``(T, 2)``: how far along x and y it is smeared.
    """
    scale = _scale(max(item.size), scene, sprite, stage.size)
    level = level_for(scale)
    sharp, framed = sprite.level(level), sprite.framed(level)
    sharp_edge = np.zeros_like(margin)
    picture, outline, shadow = picture_of(lambda: tinted(framed, item), sharp, sprite, FRAME), None, None
    bend = Bend(item.waves, stage.moments, sprite.size) if bends(item.waves) else None
    if item.defocus > 0:
        focus = focus_for(sprite, level, scale, item.defocus * stage.diagonal)
        small, pad = sprite.level(level + focus.levels), blur_pad(focus.sigma)
        picture = picture_of(lambda: blurred(tinted(small, item), focus.sigma), small, sprite, pad, reach=pad)
        edge = picture_of(lambda: cv2.extractChannel(framed, 3), sharp, sprite, FRAME)
        outline = _Drawing(edge, sprite, to_frame, sharp_edge, bend)
    if scene.shadow.strength:  # that of its rigid shape
        moved = to_frame.copy()
        moved[..., 2] += diagonals[:, None] * np.array([scene.shadow.x, scene.shadow.y])
        shadow = _Drawing(shadow_of(sprite, level, scene.shadow), sprite, moved, sharp_edge, None)
    return _Drawing(picture, sprite, to_frame, margin, bend), outline, shadow


def _place(drawings: Sequence[_Drawing], size: Size) -> list[Warp]:
    """Places D pictures in all T frames."""
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
    back = _one_by_one(invert(np.moveaxis(maps, (-2, -1), (0, 1))))
    return [
        Warp(drawn.picture, _box_tuples(boxes[n]), _box_tuples(wide[n]), to_wide[n], back[n], drawn.bend)
        for n, drawn in enumerate(drawings)
    ]


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
