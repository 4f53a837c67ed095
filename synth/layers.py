"""Scenes laid out as arrays: which picture is warped into which box of which frame, for many videos at once.

What :class:`synth.render.Renderer` decides picture by picture while it draws is decided here beforehand for a whole
batch, in the same float64, so that a device only has to look up pixels: how far a picture is shrunk, its box, the map
from the box back to the picture, and the order in which objects lie over each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synth.bank import level_for
from synth.geometry import (
    Maps,
    apply,
    background_map,
    between_pixel_centres,
    camera_maps,
    compose,
    invert,
    object_maps,
)
from synth.motion import Moments
from synth.scene import Scene, SceneBackground, SceneObject


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a level of a picture lies among the resident pictures."""

    offset: int
    """Number of its first pixel; the others follow row by row."""

    height: int
    """Pixels."""

    width: int
    """Pixels."""


class Pictures(Protocol):
    """What has to be known of pictures to lay them out."""

    def size_of(self, item: SceneObject | SceneBackground) -> tuple[int, int]:
        """Height and width in pixels of the picture that an object or background names."""

    def slot_of(self, item: SceneObject | SceneBackground, level: int) -> Slot:
        """Where a level of that picture lies."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What every pixel of the F = B T frames shows before anything lies over it."""

    back: NDArray[np.float32]
    """``float32 (F, 6)``: rows of the map from the frame's pixels to the picture's, integers at pixel centres."""

    slot: NDArray[np.int64]
    """``int64 (F, 3)``: offset, height and width of the picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """E warped boxes, at most one in each frame: what is laid over the frames in one go."""

    back: NDArray[np.float32]
    """``float32 (E, 6)``: rows of the map from the box's pixels to the picture's, integers at pixel centres."""

    slot: NDArray[np.int64]
    """``int64 (E, 3)``: offset, height and width of the picture."""

    box: NDArray[np.int64]
    """``int64 (E, 4)``: frame (counted over the batch), x0, y0, width."""

    num_pixels: NDArray[np.int64]
    """``int64 (E,)``: pixels of each box, more than 0."""

    ids: NDArray[np.int64]
    """``int64 (E,)``: what the objects are in the masks."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """B videos of T frames, ready to be drawn."""

    num_videos: int
    """B."""

    num_frames: int
    """T."""

    ground: Ground
    """The backgrounds."""

    layers: tuple[Layer, ...]
    """The objects, farthest first: layer k holds every frame's k-th object from behind."""


def lay_out(scenes: Sequence[Scene], moments: Sequence[Moments], size: tuple[int, int], pictures: Pictures) -> Layout:
    """Lays out scenes.

    Args:
        scenes: B of them.
        moments: for each the times of its frames, T of them.
        size: height and width of the frames in pixels.
        pictures: the pictures that the scenes name.

    Raises:
        BadFileError: a picture cannot be read.
        SourceError: a scene names a picture that the sources do not hold.
    """
    placed = [_place(scene, times, size, pictures) for scene, times in zip(scenes, moments, strict=True)]
    num_frames = len(moments[0])
    ground = Ground(
        np.concatenate([_as_rows(one.ground) for one in placed]),
        np.repeat(np.stack([_slot_row(one.ground_slot) for one in placed]), num_frames, axis=0),
    )
    deepest = max(len(one.objects) for one in placed)
    layers = (_layer(placed, num_frames, rank) for rank in range(deepest))
    return Layout(len(placed), num_frames, ground, tuple(layer for layer in layers if len(layer.ids)))


@dataclass(frozen=True, slots=True, eq=False)
class _PlacedObject:
    item: SceneObject
    slot: Slot
    back: Maps
    """``float64 (T, 2, 3)``: the box's pixels to the picture's."""
    boxes: NDArray[np.int64]
    """``int64 (T, 4)``: x0, y0, x1, y1."""


@dataclass(frozen=True, slots=True, eq=False)
class _PlacedScene:
    ground: Maps
    """``float64 (T, 2, 3)``: the frame's pixels to the background's."""
    ground_slot: Slot
    objects: list[_PlacedObject]
    order: NDArray[np.int64]
    """``int64 (T, N)``: the nearest object first."""


def _place(scene: Scene, moments: Moments, size: tuple[int, int], pictures: Pictures) -> _PlacedScene:
    camera = camera_maps(scene.camera, moments, size)
    zoom = max(scene.camera.zoom)
    item = scene.background
    picture_size = pictures.size_of(item)
    maps = compose(camera, background_map(item, picture_size, size))
    slot, level_maps = _level(item, maps, item.size * zoom, size, pictures)
    objects = []
    for thing in scene.objects:
        to_frame = compose(camera, object_maps(thing, moments, pictures.size_of(thing), size))
        objects.append(_place_object(thing, to_frame, max(thing.size) * zoom, size, pictures))
    depths = np.stack([moments.values(thing.depth) for thing in scene.objects])
    order = np.argsort(depths.T, axis=1, kind="stable")  # of equal depths, the smaller id is nearer
    return _PlacedScene(invert(between_pixel_centres(level_maps)), slot, objects, order)


def _place_object(
    item: SceneObject, to_frame: Maps, largest: float, size: tuple[int, int], pictures: Pictures
) -> _PlacedObject:
    slot, level_maps = _level(item, to_frame, largest, size, pictures)
    boxes = _boxes(level_maps, (slot.height, slot.width), size)
    to_box = between_pixel_centres(level_maps)
    to_box[..., 2] -= boxes[:, :2]
    return _PlacedObject(item, slot, invert(to_box), boxes)


def _level(
    item: SceneObject | SceneBackground, maps: Maps, largest: float, size: tuple[int, int], pictures: Pictures
) -> tuple[Slot, Maps]:
    """The level that is drawn, and its pixels' maps to the frame."""
    height, width = pictures.size_of(item)
    slot = pictures.slot_of(item, level_for(largest * math.hypot(*size) / math.hypot(height, width)))
    return slot, maps * np.array([width / slot.width, height / slot.height, 1.0])


def _boxes(maps: Maps, picture_size: tuple[int, int], size: tuple[int, int]) -> NDArray[np.int64]:
    """Boxes of a picture in every frame, clipped to the frame: ``int64 (T, 4)``; empty where it is out of it."""
    height, width = picture_size
    moved = apply(maps, np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]]))  # (T, 4, 2)
    low, high = np.floor(moved.min(axis=1)), np.ceil(moved.max(axis=1))
    limit = np.array([size[1], size[0]])
    return np.concatenate([np.clip(low, 0, limit), np.clip(high, 0, limit)], axis=1).astype(np.int64)


def _layer(placed: Sequence[_PlacedScene], num_frames: int, rank: int) -> Layer:
    """The object number ``rank`` from behind of every frame that has so many, where its box is not empty."""
    backs, slots, boxes, ids = [], [], [], []
    for number, scene in enumerate(placed):
        if rank >= len(scene.objects):
            continue
        chosen = scene.order[:, len(scene.objects) - 1 - rank]
        for place in np.unique(chosen).tolist():
            thing = scene.objects[place]
            x0, y0, x1, y1 = thing.boxes.T
            times = np.flatnonzero((chosen == place) & (x0 < x1) & (y0 < y1))
            backs.append(_as_rows(thing.back[times]))
            slots.append(np.repeat(_slot_row(thing.slot)[None], len(times), axis=0))
            frames = number * num_frames + times
            boxes.append(np.stack([frames, x0[times], y0[times], (x1 - x0)[times], (y1 - y0)[times]], axis=1))
            ids.append(np.full(len(times), thing.item.id))
    box = np.concatenate(boxes)
    num_pixels = box[:, 3] * box[:, 4]
    return Layer(np.concatenate(backs), np.concatenate(slots), box[:, :4], num_pixels, np.concatenate(ids))


def _as_rows(maps: Maps) -> NDArray[np.float32]:
    return maps.reshape(-1, 6).astype(np.float32)


def _slot_row(slot: Slot) -> NDArray[np.int64]:
    return np.array([slot.offset, slot.height, slot.width])
