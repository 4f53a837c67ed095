"""Pictures ready for rendering: decoded once, premultiplied, and kept in bounded memory.

Colours are premultiplied by alpha before anything is resampled; otherwise the colour that happens to lie in transparent
pixels bleeds into the edge as a halo.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.errors import BadFileError, SourceError
from synth.origins import SceneOrigins
from synth.scene import Scene, SceneBackground, SceneObject
from synth.types import BackgroundSource, ObjectSource

Image: TypeAlias = NDArray[np.uint8]

MAX_BYTES = 512 * 2**20
"""Default bound of a bank's memory: all built-in pictures, or about 2,000 cutouts and photographs of 250 KB."""

SILHOUETTE_CELLS = 24
"""Cells along each side of a silhouette, which says where an object is while a scene is drawn."""

SAMPLE_POINTS = 64
"""Points of each cutout that say whether it can be seen: a bit each of a word."""

LEVEL_STEP = math.sqrt(0.5)
"""Each level of a picture is this much smaller. Bilinear sampling then never skips a pixel: a warp shrinks by at most
this factor, and area averaging did the rest."""

FRAME = 3
"""Transparent pixels around a level that is warped: OpenCV looks up 16 pixels together, and one by one where any of
them falls beside the picture."""

SOLID = 128
"""From this alpha on a pixel belongs to the object (0.5, rounded up)."""


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """A cutout or background ready to be warped."""

    name: str
    """Name within its source."""

    pixels: Image
    """``uint8 (h, w, 4)``: RGB premultiplied by alpha, and alpha."""

    points: NDArray[np.float64]
    """``float64 (3, SAMPLE_POINTS)``: x, y and 1 of points in pixels that lie on the object, about evenly spread; of
    objects with few pixels some are there more than once. Of backgrounds the middle."""

    occupied: NDArray[np.bool_]
    """``bool (SILHOUETTE_CELLS + 2, SILHOUETTE_CELLS + 2)``: coarse silhouette, true where a cell's middle is solid,
    with an empty border."""

    num_solid: int
    """Number of pixels that belong to the object."""

    hull: NDArray[np.float64]
    """``float64 (Q, 2)``: corners (x, y) of the convex hull of all pixels that are not transparent."""

    on_new_level: Callable[[], None] | None = field(default=None, repr=False)
    """Called after a level was made: there is more to keep."""

    _framed: dict[int, Image] = field(default_factory=dict, init=False, repr=False)

    @property
    def num_bytes(self) -> int:
        """Memory of the pixels and of the levels made so far."""
        return self.pixels.nbytes + sum(level.nbytes for level in self._framed.values())

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def level(self, number: int) -> Image:
        """The pixels, shrunk by ``LEVEL_STEP ** number`` with area averaging; kept, so not to be written into."""
        return self.framed(number)[FRAME:-FRAME, FRAME:-FRAME] if number else self.pixels

    def framed(self, number: int) -> Image:
        """That level with ``FRAME`` transparent pixels on each side; kept as well."""
        framed = self._framed.get(number)
        if framed is None:
            factor = LEVEL_STEP**number
            height, width = (max(1, round(side * factor)) for side in self.size)
            shrunk = cv2.resize(self.pixels, (width, height), interpolation=cv2.INTER_AREA) if number else self.pixels
            framed = cv2.copyMakeBorder(shrunk, FRAME, FRAME, FRAME, FRAME, cv2.BORDER_CONSTANT)
            self._framed[number] = framed
            if self.on_new_level is not None:
                self.on_new_level()
        return framed

    def forget_levels(self) -> None:
        """Frees the memory of the levels; those that are asked for again are made again."""
        self._framed.clear()


def level_for(scale: float) -> int:
    """Which level to warp from when a picture is drawn at ``scale`` output pixels per picture pixel."""
    return max(0, math.floor(math.log(scale) / math.log(LEVEL_STEP) + 1e-9)) if scale < 1 else 0


def make_sprite(name: str, rgba: Image) -> Sprite:
    """Prepares a cutout (straight alpha) for warping.

    Raises:
        BadFileError: no pixel is solid.
    """
    alpha = np.ascontiguousarray(rgba[..., 3])
    solid = alpha >= SOLID
    num_solid = int(np.count_nonzero(solid))
    if num_solid == 0:
        raise BadFileError(f"{name}: no pixel of the object has an alpha of {SOLID} or more. Remove the picture.")
    pixels = cv2.multiply(rgba, cv2.merge((alpha, alpha, alpha, alpha)), scale=1 / 255)
    pixels[..., 3] = alpha
    points, occupied = _silhouette(solid)
    return Sprite(name, pixels, points, occupied, num_solid, _hull(alpha > 0))


def make_backdrop(name: str, rgb: Image) -> Sprite:
    """Prepares a background for warping: four channels warp faster than three."""
    pixels = cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA)
    middle = np.array([[rgb.shape[1] / 2], [rgb.shape[0] / 2], [1.0]])
    height, width = rgb.shape[:2]
    corners = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    return Sprite(name, pixels, middle, np.zeros((0, 0), np.bool_), height * width, corners)


def _hull(shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Corners ``(Q, 2)`` of the convex hull of true pixels, of which there is at least one: of its rows' ends."""
    y = np.flatnonzero(shown.any(axis=1))
    left, right = shown[y].argmax(axis=1), shown.shape[1] - shown[y, ::-1].argmax(axis=1)
    ends = [np.stack([x, row], axis=1) for x in (left, right) for row in (y, y + 1)]
    corners: NDArray[np.float64] = cv2.convexHull(np.concatenate(ends).astype(np.int32))[:, 0].astype(np.float64)
    return corners


def _silhouette(solid: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Sample points and coarse occupancy of an object; points are probed, not averaged, so they are exact."""
    y, x = ((np.arange(SILHOUETTE_CELLS) + 0.5) * (side / SILHOUETTE_CELLS) for side in solid.shape)
    occupied = np.pad(solid[np.ix_(y.astype(np.int64), x.astype(np.int64))], 1)
    rows, columns = np.nonzero(occupied[1:-1, 1:-1])
    x, y = x[columns], y[rows]
    if len(x) < 8:  # thin or tiny: every solid pixel counts
        y, x = (middle + 0.5 for middle in np.nonzero(solid))
    chosen = np.linspace(0, len(x) - 1, SAMPLE_POINTS).astype(np.int64)
    return np.stack([x[chosen], y[chosen], np.ones(SAMPLE_POINTS)]), occupied


@dataclass(slots=True)
class PictureBank:
    """Cutouts and backgrounds by number, decoded once while memory lasts; the least recently used go first.

    Levels go before pictures: one is made in a moment, a picture is read or even drawn in a hundred. What a bank
    returns never depends on what it holds, so it changes speed and nothing else. For one thread.
    """

    objects: ObjectSource
    """Where cutouts come from."""

    backgrounds: BackgroundSource
    """Where backgrounds come from."""

    max_bytes: int = MAX_BYTES
    """Bound of the memory for pixels; the picture in use is kept even when it is larger. Levels count from the next use
    of the bank on."""

    _kept: OrderedDict[tuple[str, int], Sprite | BadFileError] = field(default_factory=OrderedDict)
    _sizes: dict[tuple[str, int], int] = field(default_factory=dict)
    _with_levels: OrderedDict[tuple[str, int], Sprite] = field(default_factory=OrderedDict)
    _grown: list[tuple[str, int]] = field(default_factory=list)
    """Pictures of which levels were made since they were last counted."""
    _num_bytes: int = 0
    _labels: dict[int, Sequence[str]] = field(default_factory=dict)

    def cutout(self, number: int) -> Sprite:
        """The cutout of that index in the object source.

        Raises:
            BadFileError: its file cannot be used.
        """

        def read() -> Sprite:
            cutout = self.objects.load(number)
            return make_sprite(cutout.name, cutout.rgba)

        return self._get(("cutout", number), read)

    def backdrop(self, number: int) -> Sprite:
        """The background of that index in the background source.

        Raises:
            BadFileError: its file cannot be used.
        """

        def read() -> Sprite:
            background = self.backgrounds.load(number)
            return make_backdrop(background.name, background.rgb)

        return self._get(("background", number), read)

    def scene_cutout(self, item: SceneObject) -> Sprite:
        """The cutout that an object of a scene names, wherever it is in the source.

        Raises:
            BadFileError: its file cannot be used.
            SourceError: the source does not hold it.
        """
        return self.cutout(self._find(self.objects, item.name, item.number))

    def scene_backdrop(self, item: SceneBackground) -> Sprite:
        """The background that a scene names; as :meth:`scene_cutout`."""
        return self.backdrop(self._find(self.backgrounds, item.name, item.number))

    def scene_origins(self, scene: Scene) -> SceneOrigins:
        """Where the pictures of a scene come from.

        Raises:
            BadFileError: a file cannot be read.
            SourceError: a source does not hold a picture.
        """
        numbers = [self._find(self.objects, item.name, item.number) for item in scene.objects]
        background = self._find(self.backgrounds, scene.background.name, scene.background.number)
        return SceneOrigins(tuple(map(self.objects.origin, numbers)), self.backgrounds.origin(background))

    def load_pictures(self, scene: Scene) -> None:
        """Loads all that a scene needs; errors as :meth:`scene_cutout`."""
        self.scene_backdrop(scene.background)
        for item in scene.objects:
            self.scene_cutout(item)

    def _find(self, source: ObjectSource | BackgroundSource, name: str, number: int) -> int:
        """Where a picture is in a source: most likely at the place where it was when the scene was drawn."""
        labels = self._labels.get(id(source))
        if labels is None:  # sources make them anew at every call
            labels = self._labels[id(source)] = source.labels
        if number < len(labels) and labels[number] == name:
            return number
        try:
            return list(labels).index(name)
        except ValueError:
            raise SourceError(
                f"{source.name}: a scene names {name}, which is not among the {len(source)} pictures found here; "
                "give the sources that the scene was made from"
            ) from None

    def _get(self, key: tuple[str, int], read: Callable[[], Sprite]) -> Sprite:
        held = self._kept.get(key)
        if held is None:
            try:
                held = replace(read(), on_new_level=partial(self._grown.append, key))
                self._count(key, held)
            except BadFileError as error:
                held = error
            self._kept[key] = held
        self._kept.move_to_end(key)
        if isinstance(held, BadFileError):
            raise held.with_traceback(None)
        self._count_levels()
        if key in self._with_levels:
            self._with_levels.move_to_end(key)
        if self._num_bytes > self.max_bytes:
            self._shrink(key)
        return held

    def _count_levels(self) -> None:
        for key in self._grown:
            held = self._kept.get(key)
            if isinstance(held, Sprite):
                self._count(key, held)
                self._with_levels[key] = held
        self._grown.clear()

    def _count(self, key: tuple[str, int], held: Sprite) -> None:
        self._num_bytes += held.num_bytes - self._sizes.get(key, 0)
        self._sizes[key] = held.num_bytes

    def _shrink(self, newest: tuple[str, int]) -> None:
        """Forgets levels, then pictures, the least recently used first, until the bound holds.

        Known bad files need no memory.
        """
        while self._num_bytes > self.max_bytes and self._with_levels:
            key, held = self._with_levels.popitem(last=False)
            held.forget_levels()
            self._count(key, held)
        for key in list(self._kept):
            if self._num_bytes <= self.max_bytes:
                return
            if key != newest and key in self._sizes:
                self._num_bytes -= self._sizes.pop(key)
                del self._kept[key]
