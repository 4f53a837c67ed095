"""Scenes laid out as arrays: which picture is warped into which box of which frame, for many videos at once.

What :class:`synth.render.Renderer` decides picture by picture while it draws is decided here beforehand for a whole
batch, in the same float64, so that a device only has to look up pixels: how far a picture is shrunk, its box, the map
from the box back to the picture, how motion blurs it, and the order in which things lie over each other.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.bank import level_for
from synth.geometry import Maps, apply, background_map, camera_maps, compose, invert, object_maps
from synth.motion import Moments, frame_moments
from synth.prepared import Drawable, Job, JobTable, Library, Pictures, focused, shadow_of, sharp, tabulate
from synth.scene import Scene, SceneBackground, SceneObject

MAX_PASSES = 5
"""Passes of motion blur; they average up to 32 places along the way."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """E pictures, at most one in each frame: what is drawn in one go."""

    slot: Ints
    """``(E, 3)``: offset, height and width of the picture."""

    back: Floats
    """``(E, 6)``: rows of the map from the outer box's pixels to the picture's, integers at pixel centres."""

    waves: Floats
    """``(E, K, 5)``: waves that bend the picture: weights of x, y and 1 in their phase in cycles; amplitude along x and
    y in pixels of the picture."""

    outer: Ints
    """``(E, 5)``: frame (counted over the batch), x0, y0, width and height of the box that the picture is warped into:
    it may reach out of the frame by as much as motion blur needs."""

    steps: Ints
    """``(E, MAX_PASSES, 2)``: how far along x and y the passes of motion blur reach, 0 where there is none."""

    inner: Ints
    """``(E, 5)``: frame, x0, y0, width and height of the box that is drawn, inside the frame and not empty."""

    lag: Ints
    """``(E, 2)``: how far along x and y the blurred picture has to be moved."""

    gain: Floats
    """``(E,)``: brightness of the picture."""

    ids: Ints
    """``(E,)``: what owns the pixels where the warped picture is solid; 0: nothing does."""

    def take(self, chosen: NDArray[np.bool_]) -> "Layer":
        """Some of its pictures."""
        return Layer(*(getattr(self, one.name)[chosen] for one in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Rank:
    """What lies at the same place in the order of depth, in frames of many videos."""

    shadows: Layer | None
    """Shadows, drawn first."""

    objects: Layer | None
    """The objects."""

    outlines: Layer | None
    """Sharp pictures of those objects that are out of focus: not drawn, but they own pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """B videos of T frames, ready to be drawn."""

    num_videos: int
    """B."""

    num_frames: int
    """T."""

    jobs: JobTable
    """Pictures that have to be made first."""

    ground: Layer | None
    """The backgrounds, one in each frame."""

    ranks: tuple[Rank, ...]
    """Objects, the farthest first: rank k holds every frame's k-th object from behind."""

    light: Floats | None
    """``(B T, 3)``: what red, green and blue are multiplied by at last; None: nothing is changed."""


def lay_out(
    scenes: Sequence[Scene],
    num_frames: int,
    chosen: Sequence[Sequence[int]],
    size: tuple[int, int],
    pictures: Library,
) -> Layout:
    """Lays out scenes.

    Args:
        scenes: B of them, at least one.
        num_frames: frames of a whole video.
        chosen: for each scene which T of these frames.
        size: height and width of the frames in pixels.
        pictures: the pictures that the scenes name.

    Raises:
        BadFileError: a picture cannot be read.
        SourceError: a scene names a picture that the sources do not hold.
    """
    stages = [
        _set_up(scene, num_frames, frames, size, pictures.of(scene))
        for scene, frames in zip(scenes, chosen, strict=True)
    ]
    placed = [_place(stage) for stage in stages]
    made_of = (thing.picture.made_of for scene in placed for thing in scene.things())
    table = tabulate((job for job in made_of if isinstance(job, Job)), pictures.num_pixels)
    joiner = _Joiner(len(chosen[0]), table)
    light = np.concatenate([_light(stage) for stage in stages])
    return Layout(
        num_videos=len(placed),
        num_frames=len(chosen[0]),
        jobs=table,
        ground=joiner.join([(number, scene.ground, None) for number, scene in enumerate(placed)]),
        ranks=tuple(_rank(joiner, placed, rank) for rank in range(max(len(scene.objects) for scene in placed))),
        light=None if (light == 1).all() else light,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """A scene at the moments of its frames."""

    scene: Scene
    size: tuple[int, int]
    pictures: Pictures
    now: Moments
    camera: Maps
    exposure: tuple[Moments, Moments] | None
    """Where the exposure of every frame begins and ends; None when there is none."""
    exposed: float
    """Length of the exposure, as a share of the video."""

    @property
    def diagonal(self) -> float:
        """Of the frame, in pixels."""
        return math.hypot(*self.size)

    def scale(self, item: SceneObject | SceneBackground) -> float:
        """Largest size at which a picture is drawn, in frame pixels per picture pixel."""
        largest = max(item.size) if isinstance(item, SceneObject) else item.size
        return largest * max(self.scene.camera.zoom) * self.diagonal / math.hypot(*self.pictures.size_of(item))

    def object_maps(self, item: SceneObject, moments: Moments) -> Maps:
        """A cutout's pixels to the frame's."""
        camera = self.camera if moments is self.now else camera_maps(self.scene.camera, moments, self.size)
        return compose(camera, object_maps(item, moments, self.pictures.size_of(item), self.size))

    def way(self, place: Callable[[Moments], Floats]) -> Floats:
        """How far something at ``place(moments)``, ``(T, 2)``, goes while a frame is exposed: ``(T, 2)`` in pixels."""
        if self.exposure is None:
            return np.zeros((len(self.now), 2))
        begin, end = self.exposure
        return (place(end) - place(begin)) * (self.exposed / (end.times - begin.times))[:, None]


def _set_up(scene: Scene, num_frames: int, chosen: Sequence[int], size: tuple[int, int], pictures: Pictures) -> _Stage:
    now = Moments(frame_moments(num_frames).times[list(chosen)])
    exposed = min(scene.shutter, 1 / (num_frames - 1)) if num_frames > 1 else scene.shutter
    exposure = None
    if exposed > 0:
        exposure = Moments(np.maximum(now.times - exposed / 2, 0)), Moments(np.minimum(now.times + exposed / 2, 1))
    return _Stage(scene, size, pictures, now, camera_maps(scene.camera, now, size), exposure, exposed)


@dataclass(frozen=True, slots=True, eq=False)
class _Thing:
    """One picture in all T frames of a video; arrays as in :class:`Layer`, boxes without the frame."""

    picture: Drawable
    back: Floats
    waves: Floats
    outer: Ints
    steps: Ints
    inner: Ints
    lag: Ints
    gain: Floats
    object_id: int


@dataclass(frozen=True, slots=True, eq=False)
class _PlacedObject:
    shadow: _Thing | None
    body: _Thing
    outline: _Thing | None


@dataclass(frozen=True, slots=True, eq=False)
class _PlacedScene:
    ground: _Thing
    objects: list[_PlacedObject]
    order: Ints
    """``(T, N)``: the nearest object first."""

    def things(self) -> Iterator[_Thing]:
        yield self.ground
        for item in self.objects:
            yield from (thing for thing in (item.shadow, item.body, item.outline) if thing is not None)


def _place(stage: _Stage) -> _PlacedScene:
    objects = [_place_object(stage, item) for item in stage.scene.objects]
    depths = np.stack([stage.now.values(item.depth) for item in stage.scene.objects])
    order = np.argsort(depths.T, axis=1, kind="stable")  # of equal depths, the smaller id is nearer
    return _PlacedScene(_place_ground(stage), objects, order)


def _place_ground(stage: _Stage) -> _Thing:
    item = stage.scene.background
    scale = stage.scale(item)
    picture = focused(item, level_for(scale), scale, item.defocus * stage.diagonal, stage.pictures)
    middle = apply(invert(stage.camera), np.array([[stage.size[1] / 2, stage.size[0] / 2]]))  # (T, 1, 2)
    way = stage.way(lambda moments: _move(camera_maps(stage.scene.camera, moments, stage.size), middle[:, 0]))
    maps = compose(stage.camera, background_map(item, stage.pictures.size_of(item), stage.size))
    return _thing(stage, picture, maps, way=way, everywhere=True)


def _place_object(stage: _Stage, item: SceneObject) -> _PlacedObject:
    scale = stage.scale(item)
    level = level_for(scale)
    maps = stage.object_maps(item, stage.now)
    centre = np.array(stage.pictures.size_of(item))[::-1] / 2
    way = stage.way(lambda moments: _move(stage.object_maps(item, moments), centre))
    gain = np.rint(256 * stage.now.values(item.brightness)) / 256
    picture = focused(item, level, scale, item.defocus * stage.diagonal, stage.pictures)
    in_focus = item.defocus == 0
    body = _thing(stage, picture, maps, item, way, gain, item.id if in_focus else 0)
    crisp = sharp(item, level, stage.pictures)
    outline = None if in_focus else _thing(stage, crisp, maps, item, object_id=item.id)
    return _PlacedObject(_place_shadow(stage, item, level, maps), body, outline)


def _place_shadow(stage: _Stage, item: SceneObject, level: int, maps: Maps) -> _Thing | None:
    shadow = stage.scene.shadow
    if shadow.strength == 0:
        return None
    away = stage.now.values(item.size) * stage.now.values(stage.scene.camera.zoom) * stage.diagonal
    moved = maps.copy()
    moved[..., 2] += away[:, None] * np.array([shadow.x, shadow.y])
    picture = shadow_of(item, level, shadow.softness, shadow.strength, stage.pictures)
    return _thing(stage, picture, moved)


def _move(maps: Maps, points: Floats) -> Floats:
    """One point by each of T maps: ``(T, 2)``; points ``(2,)`` or ``(T, 2)``."""
    moved: Floats = (maps[..., :2] @ np.broadcast_to(points, (len(maps), 2))[..., None])[..., 0] + maps[..., 2]
    return moved


def _thing(
    stage: _Stage,
    picture: Drawable,
    maps: Maps,
    bent: SceneObject | None = None,
    way: Floats | None = None,
    gain: Floats | None = None,
    object_id: int = 0,
    everywhere: bool = False,
) -> _Thing:
    """Puts a picture into its boxes.

    Args:
        stage: the scene.
        picture: what is drawn.
        maps: ``(T, 2, 3)``, pixels of the picture at full size to the frame's.
        bent: the object whose waves bend the picture.
        way: ``(T, 2)``, motion blur in pixels.
        gain: ``(T,)``, brightness.
        object_id: what owns its pixels.
        everywhere: whether the picture fills the frame.
    """
    (width, height), pad = picture.ratio, picture.pad
    to_picture = np.array([[width, 0.0, -pad * width], [0.0, height, -pad * height]])
    level_maps = compose(maps, np.broadcast_to(to_picture, maps.shape))
    steps, lag, before, behind = _smear(np.zeros((len(maps), 2)) if way is None else way)
    limit = np.array([stage.size[1], stage.size[0]])
    if everywhere:
        low, high = np.zeros_like(lag), np.tile(limit, (len(maps), 1))
    else:
        sway = _reach(bent, stage.pictures) / np.array(picture.ratio)
        low, high = _corners(level_maps, picture.size, sway)
        low, high = np.clip(low - behind, 0, limit), np.clip(high - before, 0, limit)
    outer_low, outer_high = low + before, high + behind
    back = invert(level_maps)
    back[..., 2] += _linear(back, outer_low + 0.5) - 0.5
    waves = _waves(stage, bent, maps, outer_low, picture)
    return _Thing(
        picture,
        back.reshape(-1, 6),
        waves,
        np.concatenate([outer_low, outer_high - outer_low], axis=1),
        steps,
        np.concatenate([low, high - low], axis=1),
        lag,
        np.ones(len(maps)) if gain is None else gain,
        object_id,
    )


def _linear(maps: Maps, points: NDArray[np.floating]) -> Floats:
    """The linear part of T maps on a point each: ``(T, 2)``."""
    moved: Floats = (maps[..., :2] @ points[..., None])[..., 0]
    return moved


def _corners(maps: Maps, picture_size: tuple[int, int], reach: Floats) -> tuple[Ints, Ints]:
    """Upper left and lower right corners ``(T, 2)`` of the box around a picture that is grown by ``reach`` (x, y)."""
    height, width = picture_size
    x0, y0, x1, y1 = -reach[0], -reach[1], width + reach[0], height + reach[1]
    moved = apply(maps, np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]]))  # (T, 4, 2)
    return np.floor(moved.min(axis=1)).astype(np.int64), np.ceil(moved.max(axis=1)).astype(np.int64)


def _reach(item: SceneObject | None, pictures: Pictures) -> Floats:
    """How far waves move anything along x and y, in pixels of the picture: ``(2,)``."""
    if item is None:
        return np.zeros(2)
    total = [sum(abs(wave.amplitude_x) for wave in item.waves), sum(abs(wave.amplitude_y) for wave in item.waves)]
    return np.array(total) * math.hypot(*pictures.size_of(item))


def _waves(stage: _Stage, item: SceneObject | None, maps: Maps, corner: Ints, picture: Drawable) -> Floats:
    """Waves as functions of a box's pixels, ``(T, K, 5)``; see :attr:`Layer.waves`."""
    waves = () if item is None else [wave for wave in item.waves if wave.amplitude_x or wave.amplitude_y]
    found = np.zeros((len(maps), len(waves), 5))
    if item is None or not waves:
        return found
    height, width = stage.pictures.size_of(item)
    diagonal = math.hypot(height, width)
    back = invert(maps)
    shift = _linear(back, corner + 0.5) + back[..., 2] - np.array([width / 2, height / 2])
    for number, wave in enumerate(waves):
        along = np.array([wave.frequency_x, wave.frequency_y]) / diagonal
        found[:, number, :2] = along @ back[..., :2]
        found[:, number, 2] = shift @ along + stage.now.values(wave.phase)
        found[:, number, 3:] = np.array([wave.amplitude_x, wave.amplitude_y]) * diagonal / np.array(picture.ratio)
    return found


def _smear(way: Floats) -> tuple[Ints, Ints, Ints, Ints]:
    """Motion blur as passes that average a picture with itself some pixels on.

    Args:
        way: ``(T, 2)``, what is gone while a frame is exposed, in pixels.

    Returns:
        Steps ``(T, MAX_PASSES, 2)``; lag ``(T, 2)``; and what has to be known before and behind a box, ``(T, 2)`` each.
    """
    length = np.hypot(way[:, 0], way[:, 1])
    passes = np.clip(np.ceil(np.log2(np.maximum(length, 1.0))), 1, MAX_PASSES) * (length >= 1)
    number = np.arange(MAX_PASSES)
    steps = np.rint(way[:, None, :] / 2.0 ** (number[:, None] + 1)).astype(np.int64)
    steps *= (number < passes[:, None])[..., None]
    total = steps.sum(axis=1)
    lag = total // 2
    return steps, lag, np.minimum(total, 0) - lag, np.maximum(total, 0) - lag


def _light(stage: _Stage) -> Floats:
    """What colours are multiplied by at last: ``(T, 3)``."""
    brightness, warmth = (stage.now.values(curve) for curve in (stage.scene.light.brightness, stage.scene.light.warmth))
    gains = np.stack([brightness * (1 + warmth), brightness, brightness * (1 - warmth)], axis=1)
    light: Floats = np.clip(np.rint(128 * gains), 0, 255) / 128
    return light


Part = tuple[int, _Thing, Ints | None]
"""Number of a video, a thing in it, and in which of its frames; None for all."""


class _Joiner:
    """Puts things of many videos into layers."""

    def __init__(self, num_frames: int, jobs: JobTable) -> None:
        self._num_frames = num_frames
        self._made = jobs.made

    def join(self, parts: Sequence[Part]) -> Layer | None:
        """One layer of things, where their boxes are not empty; None where nothing is left."""
        most = max((part[1].waves.shape[1] for part in parts), default=0)
        rows = [self._rows(part, most) for part in parts]
        if not sum(len(row[-1]) for row in rows):
            return None
        slot, back, waves, outer, steps, inner, lag, gain, ids = (
            np.concatenate(one) for one in zip(*rows, strict=True)
        )
        return Layer(slot, back, waves, outer, steps, inner, lag, gain, ids)

    def _rows(self, part: Part, num_waves: int) -> tuple[NDArray[Any], ...]:
        number, thing, times = part
        seen = thing.inner[:, 2:].min(axis=1) > 0
        times = np.flatnonzero(seen) if times is None else times[seen[times]]
        made_of = thing.picture.made_of
        slot = self._made[made_of] if isinstance(made_of, Job) else (made_of.offset, made_of.height, made_of.width)
        frame = (number * self._num_frames + times)[:, None]
        waves = np.zeros((len(times), num_waves, 5))
        waves[:, : thing.waves.shape[1]] = thing.waves[times]
        return (
            np.tile(np.array(slot, np.int64), (len(times), 1)),
            thing.back[times],
            waves,
            np.concatenate([frame, thing.outer[times]], axis=1),
            thing.steps[times],
            np.concatenate([frame, thing.inner[times]], axis=1),
            thing.lag[times],
            thing.gain[times],
            np.full(len(times), thing.object_id),
        )


def _rank(joiner: _Joiner, placed: Sequence[_PlacedScene], rank: int) -> Rank:
    """The object number ``rank`` from behind of every frame that has so many."""
    shadows: list[Part] = []
    bodies: list[Part] = []
    outlines: list[Part] = []
    for number, scene in enumerate(placed):
        if rank >= len(scene.objects):
            continue
        chosen = scene.order[:, len(scene.objects) - 1 - rank]
        for place in np.unique(chosen).tolist():
            item, times = scene.objects[place], np.flatnonzero(chosen == place)
            bodies.append((number, item.body, times))
            if item.shadow is not None:
                shadows.append((number, item.shadow, times))
            if item.outline is not None:
                outlines.append((number, item.outline, times))
    return Rank(joiner.join(shadows), joiner.join(bodies), joiner.join(outlines))
