"""Scenes laid out as arrays: which picture is warped into which box of which frame, for many videos at once.

What :mod:`synth.placement` decides picture by picture is decided here for a whole batch, in the same float64 and with a
few hundred array calls however many videos there are, so that a device only has to look up pixels: how far a picture is
shrunk, its box, the map from the box back to the picture, how motion blurs it, and the order in which things lie over
each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from synth.affine import camera_maps, compose, invert, move, similarity, turn
from synth.appearance import BRIGHTNESS_STEPS, LIGHT_STEPS
from synth.exposure import smear_margin, smear_steps
from synth.prepared import Array, Drawables, Jobs, Library, Workshop, joined, plan_jobs
from synth.scene import Scene
from synth.scene_arrays import ObjectArrays, Stage, extent_of, gather

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_SHADOW, _BODY, _SMEARED_BODY, _OUTLINE = range(4)
"""What is drawn of one object, in this order."""


@dataclass(frozen=True, slots=True, eq=False)
class Sheet(Generic[Array]):
    """E pictures, each warped into a box of a frame, in the order in which they are drawn; here or on a device."""

    slot: Array
    """``int64 (E, 3)``: offset, height and width of the picture."""

    back: Array
    """``float32 (E, 6)``: rows of the map from the outer box's pixels to the picture's, integers at pixel centres."""

    waves: Array
    """``float32 (E, K, 5)``: waves that bend the picture: weights of x, y and 1 in their phase in cycles; amplitude
    along x and y in pixels of the picture."""

    outer: Array
    """``int64 (E, 6)``: frame (counted over the batch), x0, y0, width and height of the box that the picture is warped
    into, and the number of its first pixel among all boxes'; it may reach out of the frame by as much as blur needs."""

    inner: Array
    """``int64 (E, 6)``: the same of the box that is drawn, inside the frame and not empty."""

    steps: Array
    """``int64 (P, 2, E)``: how far along x and y the P passes of motion blur reach, 0 where there is none."""

    lag: Array
    """``int64 (E, 2)``: how far along x and y the blurred picture has to be moved."""

    gain: Array
    """``float32 (E,)``: brightness of the picture."""

    ids: Array
    """``uint8 (E,)``: what owns the pixels where the warped picture is solid; 0: nothing does."""

    num_outer: int
    """Pixels of all outer boxes."""

    num_inner: int
    """Pixels of all inner boxes."""


@dataclass(frozen=True, slots=True)
class Part:
    """Pixels that are drawn in one go, of which no two are the same."""

    order: int
    """The larger, the later it is drawn."""

    sheet: int
    """On which of the sheets they are."""

    first: int
    """Number of the first among the sheet's inner boxes' pixels."""

    end: int
    """Number behind the last."""

    drawn: bool
    """Whether they are drawn at all, or only owned."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """B videos of T frames, ready to be drawn."""

    num_videos: int
    """B."""

    num_frames: int
    """T."""

    jobs: tuple[Jobs[NDArray[Any]], ...]
    """Pictures that have to be made first."""

    grounds: tuple[Sheet[NDArray[Any]], ...]
    """The backgrounds, one in each frame."""

    sheets: tuple[Sheet[NDArray[Any]], ...]
    """What lies over them."""

    parts: tuple[Part, ...]
    """In which order that is drawn: the k-th objects from behind of all frames together, each over its shadow."""

    light: NDArray[np.float32] | None
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
    found = gather(scenes, num_frames, chosen)
    backgrounds, cutouts = pictures.find(scenes)
    stage = _Stage(found, size, camera_maps(found.camera, extent_of(size)), pictures)
    ground, things = _place_grounds(stage, backgrounds), _place_objects(stage, cutouts)
    jobs, slots = plan_jobs(joined([ground.pictures, things.pictures]), pictures.num_pixels)
    grounds, _ = _sheets(ground, slots[: len(backgrounds)], stage)
    sheets, parts = _sheets(things, slots[len(backgrounds) :], stage)
    return Layout(
        num_videos=len(scenes),
        num_frames=stage.num_frames,
        jobs=jobs,
        grounds=tuple(grounds),
        sheets=tuple(sheets),
        parts=tuple(parts),
        light=_light(found.light),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Stage(Stage):
    pictures: Library


@dataclass(frozen=True, slots=True, eq=False)
class _Things:
    """M pictures in T frames each."""

    pictures: Drawables
    maps: Floats
    """``(2, 3, M, T)``: pixels of the whole picture to the frame's."""
    ways: Floats
    """``(2, M, T)``: motion blur in pixels."""
    scene: Ints
    """``(M,)``."""
    order: Ints
    """``(M, T)``: when it is drawn; four numbers for each object from behind, of which the last is not drawn."""
    gain: Floats
    """``(M, T)``."""
    ids: Ints
    """``(M,)``."""
    bent: "_Bent | None"
    """What bends them; None for backgrounds, which fill the frame and go on mirrored."""


@dataclass(frozen=True, slots=True, eq=False)
class _Bent:
    """K waves of M things, in pixels of the whole picture."""

    frequency: Floats
    """``(2, M, K)``: cycles per pixel."""
    amplitude: Floats
    """``(2, M, K)``."""
    phase: Floats
    """``(M, K, T)``."""
    centre: Floats
    """``(2, M)``."""


def _place_grounds(stage: _Stage, numbers: Ints) -> _Things:
    x, y, size, defocus, side = stage.found.background
    sizes = stage.pictures.sizes(numbers)
    scale = size * stage.diagonal / np.hypot(sizes[:, 0], sizes[:, 1])
    world = similarity(np.stack([x, y]) * stage.extent[..., 0], scale, np.zeros(1), sizes[:, ::-1].T / 2, side)
    now, opened, closed = np.split(stage.camera, 3, axis=-1)
    middle = move(invert(now), stage.extent / 2)
    everyone, shape = np.arange(len(numbers)), now.shape[2:]
    return _Things(
        Workshop(stage.pictures, numbers, scale * stage.found.largest_zoom).focused(defocus * stage.diagonal),
        compose(now, world[..., None]),
        stage.found.exposures.ways(move(opened, middle), move(closed, middle), everyone),
        everyone,
        order=np.zeros(shape, np.int64),
        gain=np.ones(shape),
        ids=np.zeros(len(numbers), np.int64),
        bent=None,
    )


def _place_objects(stage: _Stage, numbers: Ints) -> _Things:
    """Shadows, objects, and sharp outlines of those that are out of focus."""
    found, num_frames = stage.found.objects, stage.num_frames
    sizes = stage.pictures.sizes(numbers)
    scale = stage.diagonal / np.hypot(sizes[:, 0], sizes[:, 1])
    centre, camera = found.path[:2] * stage.extent, stage.camera[:, :, found.scene]
    now = slice(num_frames)
    in_world = similarity(
        centre[..., now],
        found.path[2, :, now] * scale[:, None],
        found.path[3, :, now],
        sizes[:, ::-1].T[..., None] / 2,
        found.side[:, None],
    )
    places = move(camera[..., num_frames:], centre[..., num_frames:])
    ways = stage.found.exposures.ways(places[..., now], places[..., num_frames:], found.scene)
    strength, x, y, softness = stage.found.shadow[:, found.scene]
    shadows, outlines = np.flatnonzero(strength > 0), np.flatnonzero(found.defocus > 0)
    of = np.concatenate([shadows, np.arange(len(numbers)), outlines])
    kind = np.repeat([_SHADOW, _BODY, _OUTLINE], [len(shadows), len(numbers), len(outlines)])
    maps = compose(camera[..., now], in_world)[:, :, of]
    on_screen = found.path[2, shadows, now] * stage.found.camera[2, found.scene[shadows], now] * stage.diagonal
    maps[:, 2, : len(shadows)] += np.stack([x, y])[:, shadows, None] * on_screen
    largest = scale * found.largest_size * stage.found.largest_zoom[found.scene]
    return _Things(
        joined(
            [
                Workshop(stage.pictures, numbers[shadows], largest[shadows]).shadows(
                    softness[shadows], strength[shadows]
                ),
                Workshop(stage.pictures, numbers, largest).focused(found.defocus * stage.diagonal, found.colours),
                Workshop(stage.pictures, numbers[outlines], largest[outlines]).sharp(),
            ]
        ),
        maps,
        np.where((kind == _BODY)[:, None], ways[:, of], 0.0),
        found.scene[of],
        4 * _from_behind(found)[of] + kind[:, None],
        np.where((kind == _BODY)[:, None], np.rint(BRIGHTNESS_STEPS * found.brightness[of]) / BRIGHTNESS_STEPS, 1.0),
        np.where((kind == _OUTLINE) | ((kind == _BODY) & (found.defocus[of] == 0)), found.ids[of], 0),
        _bent(found, sizes, of, kind),
    )


def _from_behind(found: ObjectArrays) -> Ints:
    """How many objects of its scene lie behind each, ``(N, T)``; of equal depths, the smaller id is nearer."""
    shape = int(found.scene[-1]) + 1, int(found.num_in_scene.max()), found.depth.shape[1]
    depth = np.full(shape, np.inf)
    depth[found.scene, found.place] = found.depth
    nearer = depth.argsort(axis=1, kind="stable").argsort(axis=1)[found.scene, found.place]
    behind: Ints = found.num_in_scene[:, None] - 1 - nearer
    return behind


def _bent(found: ObjectArrays, sizes: Ints, of: Ints, kind: Ints) -> _Bent:
    """Waves of all things; shadows are those of the rigid shape."""
    used = np.flatnonzero((found.waves[2:] != 0).any(axis=(0, 1)))
    diagonal = np.hypot(sizes[:, 0], sizes[:, 1])[of, None]
    frequency, amplitude = found.waves[:, of][..., used].reshape(2, 2, len(of), len(used))
    return _Bent(
        frequency / diagonal,
        np.where((kind == _SHADOW)[:, None], 0.0, amplitude * diagonal),
        found.phase[of][:, used],
        sizes[of, ::-1].T / 2,
    )


def _sheets(things: _Things, slots: Ints, stage: _Stage) -> tuple[list[Sheet[NDArray[Any]]], list[Part]]:
    """Puts things into boxes, on one sheet what motion does not blur and on another what it does; and orders them."""
    boxed = _put_into_boxes(things, stage)
    is_seen, num_passes = (boxed.high > boxed.low).all(axis=0), boxed.steps.any(axis=1).sum(axis=0)
    sheets: list[Sheet[NDArray[Any]]] = []
    parts: list[Part] = []
    for smeared in (False, True):
        thing, t = np.nonzero(is_seen & ((num_passes > 0) == smeared))
        if len(thing):
            order = things.order[thing, t] + (smeared and things.bent is not None)
            sorting = order.argsort(kind="stable")
            thing, t = thing[sorting], t[sorting]
            sheet = _sheet(things, boxed, slots, (thing, t), things.scene[thing] * stage.num_frames + t)
            parts += _parts(order[sorting], sheet.inner, len(sheets))
            sheets.append(sheet)
    return sheets, sorted(parts, key=lambda part: part.order)


@dataclass(frozen=True, slots=True, eq=False)
class _Boxed:
    """Where M things are drawn in T frames."""

    maps: Floats
    """``(2, 3, M, T)``: pixels of what is drawn to the frame's."""
    low: Ints
    """``(2, M, T)``: upper left corners; ``high`` the lower right ones, and nothing is seen where they are not."""
    high: Ints
    steps: Ints
    """``(P, 2, M, T)``: passes of motion blur, as :func:`synth.exposure.smear_steps` has them."""
    margin: Ints
    """``(2, M, T)``: how far they reach to either side."""


def _put_into_boxes(things: _Things, stage: _Stage) -> _Boxed:
    pictures = things.pictures
    linear = things.maps[:, :2] * pictures.ratio[:, :, None]
    shift = things.maps[:, 2] - linear.sum(axis=1) * pictures.pad[:, None]
    maps = np.concatenate([linear, shift[:, None]], axis=1)
    smear = smear_steps(np.moveaxis(things.ways, 0, -1))
    steps, margin = np.moveaxis(smear, -1, 1), np.moveaxis(smear_margin(smear), -1, 0)
    limit = stage.extent.astype(np.int64)
    if things.bent is None:
        low, high = np.zeros_like(margin), np.zeros_like(margin) + limit
    else:
        reach = np.abs(things.bent.amplitude).sum(axis=2) / pictures.ratio
        low, high = _corners(maps, pictures.size[..., None], reach[..., None])
        low, high = np.clip(low - margin, 0, limit), np.clip(high + margin, 0, limit)
    return _Boxed(maps, low, high, steps, margin)


def _sheet(things: _Things, boxed: _Boxed, slots: Ints, chosen: tuple[Ints, Ints], frame: Ints) -> Sheet[NDArray[Any]]:
    """A sheet of E things at moments: ``chosen``, in the frames ``(E,)``."""
    thing, t = now = chosen
    low, high = boxed.low[:, *now], boxed.high[:, *now]
    margin, steps = boxed.margin[:, *now], boxed.steps[:, :, *now]
    inner, outer = _boxes(frame, low, high), _boxes(frame, low - margin, high + margin)
    back = invert(boxed.maps[:, :, *now])
    back[:, 2] += turn(back, outer[:, 1:3].T + np.array(0.5)) - 0.5
    return Sheet(
        slots[thing],
        back.reshape(6, -1).T.astype(np.float32),
        _waves(things, thing, t, back).astype(np.float32),
        outer,
        inner,
        steps[steps.any(axis=(1, 2))],
        steps.sum(axis=0).T // 2,
        things.gain[now].astype(np.float32),
        things.ids[thing].astype(np.uint8),
        num_outer=_num_pixels(outer),
        num_inner=_num_pixels(inner),
    )


def _boxes(frame: Ints, low: Ints, high: Ints) -> Ints:
    """Boxes ``(E, 6)`` from their corners ``(2, E)``; see :attr:`Sheet.outer`."""
    width, height = high - low
    return np.stack([frame, *low, width, height, np.cumsum(width * height) - width * height], axis=1)


def _num_pixels(boxes: Ints) -> int:
    """Pixels of all boxes ``(E, 6)``."""
    return int((boxes[-1, 5] + boxes[-1, 3] * boxes[-1, 4]).item())


def _parts(order: Ints, inner: Ints, sheet: int) -> list[Part]:
    """What is drawn in one go, of boxes in ascending order."""
    found, firsts = np.unique(order, return_index=True)
    starts = inner[firsts, 5].tolist()
    ends = [*starts[1:], _num_pixels(inner)]
    return [
        Part(one, sheet, first, end, drawn=one % 4 != _OUTLINE)
        for one, first, end in zip(found.tolist(), starts, ends, strict=True)
    ]


def _corners(maps: Floats, size: Ints, reach: Floats) -> tuple[Ints, Ints]:
    """Upper left and lower right corners ``(2, M, T)`` of the boxes around pictures that are grown by ``reach``."""
    middle = move(maps, size / 2)
    spread = turn(np.abs(maps), size / 2 + reach)
    return np.floor(middle - spread).astype(np.int64), np.ceil(middle + spread).astype(np.int64)


def _waves(things: _Things, thing: Ints, t: Ints, back: Floats) -> Floats:
    """Waves as functions of a box's pixels, ``(E, K, 5)``; see :attr:`Sheet.waves`."""
    bent, pictures = things.bent, things.pictures
    if bent is None:
        return np.zeros((len(thing), 0, 5))
    ratio = pictures.ratio[:, thing]
    frequency = bent.frequency[:, thing] * ratio[..., None]  # cycles per pixel of what is drawn, (2, E, K)
    centre = bent.centre[:, thing] / ratio + pictures.pad[thing] - 0.5
    turns = frequency[0, ..., None] * back[0, :2].T[:, None] + frequency[1, ..., None] * back[1, :2].T[:, None]
    start = (frequency * (back[:, 2] - centre)[..., None]).sum(axis=0) + bent.phase[thing, :, t]
    sway = bent.amplitude[:, thing] / ratio[..., None]
    return np.concatenate([turns, start[..., None], np.moveaxis(sway, 0, -1)], axis=-1)


def _light(light: Floats) -> NDArray[np.float32] | None:
    """What colours are multiplied by at last; see :attr:`Layout.light`."""
    brightness, warmth = light
    gains = np.stack([brightness * (1 + warmth), brightness, brightness * (1 - warmth)], axis=-1)
    stepped = np.clip(np.rint(LIGHT_STEPS * gains), 0, 255) / LIGHT_STEPS
    return None if (stepped == 1).all() else stepped.reshape(-1, 3).astype(np.float32)
