"""Draws scenes: a pure function of configuration, seed, index and sources.

Pictures, motion, its manner (to and fro, pausing, overtaking), ways out of the frame, and every effect
(:mod:`synth.effects`) are drawn from separate random streams, so that a file left out changes which pictures appear,
not how they move, and what is off changes nothing else. Whether an object can be seen is decided on a few hundred
sample points of its silhouette, with plain arithmetic, so that every machine draws the same scenes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from shards.errors import BadFileError, SourceError
from shards.rng import draw_uniform, generator
from synth.bank import SILHOUETTE_CELLS, PictureBank, Sprite
from synth.config import SceneConfig, SynthConfig
from synth.effects import add_effects
from synth.geometry import Maps, Path, apply, camera_maps, compose, invert, object_maps, path_maps
from synth.motion import (
    Curve,
    Moments,
    accelerate,
    approach,
    come_back,
    control_times,
    enter,
    glide,
    leave,
    make_curve,
    overtake,
    pause,
    sway,
    swing,
    wander,
)
from synth.pipelines import Pipelines
from synth.scene import Camera, Scene, SceneBackground, SceneObject
from synth.types import BackgroundSource, ObjectSource

ReportBad: TypeAlias = Callable[[str, BadFileError], None]
"""Told of every file that is passed over: its printable name, and why it cannot be used."""

MAX_BAD = 100
"""Unusable files in a row before a source is given up."""

MAX_TRIES = 60
"""Places tried for an object before the best one is taken."""

TRIES_PER_SIZE = 6
"""Tries before an object that finds no place is made a tenth smaller."""

CHECKS = 9
"""Moments, evenly over the video, at which an object's place in the frame is checked."""

FARTHEST_OUT = 0.5
"""Longest way out of the frame in frame diagonals; longer ones would be too fast to be followed, and are not taken."""


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """What objects are placed on. Lengths are in frame diagonals."""

    config: SceneConfig
    height: float
    width: float
    moments: Moments
    camera: Camera
    camera_maps: Maps
    """World to frame at the moments, ``(T, 2, 3)``."""

    @property
    def frame(self) -> tuple[float, float]:
        """Height and width of the frame in its diagonals."""
        return self.height, self.width


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """An object of a growing scene, how it looks and where it is."""

    item: SceneObject
    sprite: Sprite
    maps: Maps
    """Cutout's pixels to world at the moments, ``(T, 2, 3)``."""
    back: Maps
    """World to cutout's pixels in the first frame, ``(2, 3)``."""
    seen: NDArray[np.bool_]
    """``bool (P,)``: which of the cutout's sample points the first frame shows."""


def make_scene(
    config: SynthConfig, seed: int, index: int, objects: ObjectSource, backgrounds: BackgroundSource
) -> Scene:
    """Draws one scene; see :func:`compose_scene`, which reuses decoded pictures between scenes."""
    return compose_scene(config, seed, index, PictureBank(objects, backgrounds))


def compose_scene(
    config: SynthConfig,
    seed: int,
    index: int,
    bank: PictureBank,
    report_bad: ReportBad | None = None,
    pipelines: Pipelines | None = None,
) -> Scene:
    """Draws one scene.

    Args:
        config: what is drawn; of the frame size only the aspect matters, number of frames and quality do not.
        seed: the data set's seed, 0 <= seed < 2**64.
        index: index of the scene, 0 <= index < 2**64.
        bank: where pictures come from.
        report_bad: called with every file that cannot be used, and another picture is drawn. None: the error stops.
        pipelines: those of the configuration, which are made anew when they are not given.

    Raises:
        BadFileError: a drawn file cannot be used and ``report_bad`` is None.
        SourceError: a source is empty, or ``MAX_BAD`` files in a row cannot be used.
    """
    if pipelines is None:
        pipelines = Pipelines(config.cutout_pipeline, config.background_pipeline)
    pictures = generator(seed, 0, index, "scene pictures")
    motion = generator(seed, 0, index, "scene motion")
    manners = generator(seed, 0, index, "scene manners")
    copies = generator(seed, 0, index, "scene copies")
    ways_out = generator(seed, 0, index, "scene ways out")
    aspect = config.size[1] / config.size[0]
    num_objects = int(motion.integers(config.objects_per_video[0], config.objects_per_video[1] + 1))
    stage = _make_stage(motion, config.scene, aspect)
    camera = _shaken(stage.camera, generator(seed, 0, index, "scene shake"), stage)
    number, backdrop = _draw_picture(pictures, bank.backdrop, bank.backgrounds, set(), report_bad)
    backdrop = pipelines.background(backdrop, seed, index)
    background = _place_background(motion, stage, camera, bank.backgrounds.name, number, backdrop)
    ids = (motion.permutation(num_objects) + 1).tolist()
    depths = motion.permutation(num_objects).tolist()
    placed: list[_Placed] = []
    taken: set[int] = set()
    for object_id, depth in zip(ids, depths, strict=True):
        number, sprite = _draw_picture(pictures, bank.cutout, bank.objects, taken, report_bad)
        taken.add(number)
        copied, choice = copies.random() < config.scene.distractor and bool(placed), copies.random()
        if copied:
            number = placed[int(choice * len(placed))].item.number
            sprite = bank.cutout(number)
        sprite = pipelines.cutout(sprite, seed, index, object_id)
        still: Curve = (0.0,)
        depth_curve = (float(depth),)
        item = SceneObject(
            object_id,
            bank.objects.name,
            sprite.name,
            number,
            mirrored=False,
            x=still,
            y=still,
            size=still,
            rotation=still,
            depth=depth_curve,
            role="distractor" if copied else "target",
        )
        placed = _place_object(motion, _draw_manner(manners, config.scene), stage, item, sprite, placed)
    placed = [_take_out(ways_out, stage, entry, number > 0) for number, entry in enumerate(placed)]
    placed = _change_order(manners, stage, placed)
    items = sorted((entry.item for entry in placed), key=lambda item: item.id)
    scene = Scene(seed, index, aspect, camera, background, tuple(items))
    return add_effects(scene, config.scene)


def _draw_picture(
    rng: np.random.Generator,
    load: Callable[[int], Sprite],
    source: ObjectSource | BackgroundSource,
    taken: set[int],
    report_bad: ReportBad | None,
) -> tuple[int, Sprite]:
    """Draws a usable picture, one that is not taken yet while the source has others."""
    if len(source) == 0:
        raise SourceError(f"{source.name}: the source holds no pictures")
    for _ in range(MAX_BAD):
        number = int(rng.integers(len(source)))
        for _ in range(8):  # a second copy of an object is a distractor, which nobody asked for here
            if number not in taken:
                break
            number = int(rng.integers(len(source)))
        try:
            return number, load(number)
        except BadFileError as error:
            if report_bad is None:
                raise
            report_bad(f"{source.name}/{source.labels[number]}", error)
    raise SourceError(
        f"{source.name}: {MAX_BAD} drawn files in a row cannot be used; run vosdata inspect on the source"
    )


def _make_stage(rng: np.random.Generator, config: SceneConfig, aspect: float) -> _Stage:
    """Draws the camera and prepares what every object is checked against."""
    height, width = 1 / math.hypot(1, aspect), aspect / math.hypot(1, aspect)
    moments = _check_moments()
    camera = _draw_camera(rng, config)
    return _Stage(config, height, width, moments, camera, camera_maps(camera, moments, (height, width)))


@lru_cache(maxsize=1)
def _check_moments() -> Moments:
    """The moments of all checks; they know their splines after the first scene."""
    return Moments(np.linspace(0.0, 1.0, CHECKS))


def _draw_camera(rng: np.random.Generator, config: SceneConfig) -> Camera:
    """A gentle pan, zoom and roll around the resting view."""
    distance = rng.uniform(0.0, config.camera_pan)
    direction = rng.uniform(0.0, 2 * math.pi)
    bend = rng.uniform(-0.5, 0.5)
    along = distance * (glide(1.0) + accelerate(bend))
    zoom = config.camera_zoom ** rng.uniform(-1.0, 1.0)
    roll = rng.uniform(-config.camera_rotation, config.camera_rotation)
    # The zoom starts or ends at 1 and is never below: the photograph is never drawn smaller than it must be.
    magnification = approach(zoom) * max(1.0, 1.0 / zoom)
    return Camera(
        x=make_curve(along * math.cos(direction)),
        y=make_curve(along * math.sin(direction)),
        zoom=make_curve(magnification),
        rotation=make_curve(glide(roll)),
    )


def _shaken(camera: Camera, rng: np.random.Generator, stage: _Stage) -> Camera:
    """The same camera in a hand that trembles."""
    x, y = wander(rng, stage.config.camera_shake), wander(rng, stage.config.camera_shake)
    return replace(
        camera,
        x=make_curve(np.array(camera.x) + x / stage.width),
        y=make_curve(np.array(camera.y) + y / stage.height),
    )


def _place_background(
    rng: np.random.Generator, stage: _Stage, camera: Camera, source: str, number: int, backdrop: Sprite
) -> SceneBackground:
    """Makes the photograph just large enough for all that the camera sees, and shifts it within what is left over."""
    roll = math.radians(max(map(abs, camera.rotation)))
    view_width = (stage.width + math.sin(roll) * stage.height) / min(camera.zoom)
    view_height = (stage.height + math.sin(roll) * stage.width) / min(camera.zoom)
    view_width += 2 * max(map(abs, camera.x)) * stage.width
    view_height += 2 * max(map(abs, camera.y)) * stage.height
    height, width = backdrop.size
    diagonal = math.hypot(height, width)
    size = max(view_width / width, view_height / height) * diagonal
    slack_x = (size * width / diagonal - view_width) / stage.width
    slack_y = (size * height / diagonal - view_height) / stage.height
    x = 0.5 + slack_x * rng.uniform(-0.5, 0.5)
    y = 0.5 + slack_y * rng.uniform(-0.5, 0.5)
    mirrored = bool(rng.random() < stage.config.mirror)
    return SceneBackground(
        source, backdrop.name, number, mirrored, make_curve(x)[0], make_curve(y)[0], make_curve(size)[0]
    )


@dataclass(frozen=True, slots=True)
class _Manner:
    """How an object goes along its path."""

    cycles: float | None
    """Times to and fro; None goes straight on."""

    phase: float
    """Where in the cycle it starts, in cycles."""

    pause: tuple[float, float] | None
    """Begin and length of a standstill; None goes on all the time."""

    def along(self, distance: float) -> NDArray[np.float64]:
        """Control values of the way along the path's direction."""
        return glide(distance) if self.cycles is None else swing(distance, self.cycles, self.phase)

    def curve(self, values: NDArray[np.float64]) -> Curve:
        """What is stored of control values that follow this manner."""
        return make_curve(values if self.pause is None else pause(values, *self.pause))


def _draw_manner(rng: np.random.Generator, config: SceneConfig) -> _Manner:
    oscillates, cycles, phase = rng.random() < config.oscillation, rng.uniform(1.0, 2.0), rng.random()
    stops, length = rng.random() < config.pause, rng.uniform(0.5, 0.65)
    begin = rng.uniform(0.0, 1.0 - length)
    return _Manner(cycles if oscillates else None, phase, (begin, length) if stops else None)


def _change_order(rng: np.random.Generator, stage: _Stage, placed: list[_Placed]) -> list[_Placed]:
    """Lets objects that are next to each other in depth change places, at a moment when they are apart.

    Otherwise one would pop out of the other. Each object changes places once at most.
    """
    ranked = sorted(placed, key=lambda entry: entry.item.depth[0])
    rank = 0
    while rank + 1 < len(ranked):
        wanted, choice = rng.random() < stage.config.order_change, rng.random()
        apart = _moments_apart(stage, ranked[rank], ranked[rank + 1]) if wanted else ()
        if not len(apart):
            rank += 1
            continue
        when = float(apart[int(choice * len(apart))])
        near, far = float(rank), float(rank + 1)
        for at, start, end in ((rank, near, far), (rank + 1, far, near)):
            item = replace(ranked[at].item, depth=make_curve(overtake(start, end, when)))
            ranked[at] = replace(ranked[at], item=item)
        rank += 2
    return ranked


def _take_out(rng: np.random.Generator, stage: _Stage, entry: _Placed, may_enter: bool) -> _Placed:
    """Lets an object enter, leave or come back, over the nearest border and a little aslant.

    Args:
        rng: where to draw from, always the same number of times.
        stage: what the object is on.
        entry: the object, inside the frame most of the time.
        may_enter: whether it may be out of the frame at first. One object of a scene may not.
    """
    config = stage.config
    enters, leaves, returns = rng.random(3) < (config.enter, config.leave, config.come_back)
    begin, length, middle, aslant = draw_uniform(rng, (0.05, 0.3), (0.25, 0.4), (0.5, 0.6), (-30.0, 30.0))
    if returns:
        out, when = come_back(middle, 0.08, 0.28), round(middle * (CHECKS - 1))
    elif enters and may_enter:
        out, when = enter(begin, length), 0
    elif leaves:
        out, when = leave(1.0 - begin - length, length), CHECKS - 1
    else:
        return entry
    camera = stage.camera_maps[when]
    points = _moved_points(compose(camera, entry.maps[when]), entry.sprite.points)
    x, y = points.mean(axis=1).tolist()
    borders = np.array([x, stage.width - x, y, stage.height - y])
    angle = math.radians((180.0, 0.0, 270.0, 90.0)[int(borders.argmin())] + aslant)
    # Points are half a cell from the edge at most; waves and a trembling hand move it a little further.
    spare = max(entry.item.size) * (1 / SILHOUETTE_CELLS + config.deformation) + config.camera_shake
    distances = np.arange(0.02, FARTHEST_OUT + 0.01, 0.02)
    direction = np.array([math.cos(angle), math.sin(angle)])
    along = camera[:, :2] @ direction * stage.moments.values(tuple(out))[when]
    moved = points[:, None] + (along[:, None] * distances)[..., None]  # (2, distances, P)
    seen = _within(moved + spare, (stage.height + 2 * spare, stage.width + 2 * spare)).any(axis=1)
    if seen.all():
        return entry
    x_out, y_out = float(distances[int(seen.argmin())]) * direction
    item = replace(
        entry.item,
        x=make_curve(np.array(entry.item.x) + x_out * out / stage.width),
        y=make_curve(np.array(entry.item.y) + y_out * out / stage.height),
    )
    return replace(entry, item=item, maps=object_maps(item, stage.moments, entry.sprite.size, stage.frame))


def _moments_apart(stage: _Stage, one: _Placed, other: _Placed) -> NDArray[np.float64]:
    """Times, first and last excluded, at which the boxes of two objects' pictures are apart in the world."""
    low, high = (np.stack([_box(entry)[side] for entry in (one, other)]) for side in (0, 1))
    overlap = (low.max(axis=0) < high.min(axis=0)).all(axis=1)
    overlap[[0, -1]] = True
    times: NDArray[np.float64] = stage.moments.times[~overlap]
    return times


def _box(entry: _Placed) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Upper left and lower right corners ``(T, 2)`` of the box around an object's picture."""
    height, width = entry.sprite.size
    corners = apply(entry.maps, np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]]))
    return corners.min(axis=1), corners.max(axis=1)


def _place_object(
    rng: np.random.Generator, manner: _Manner, stage: _Stage, blank: SceneObject, sprite: Sprite, others: list[_Placed]
) -> list[_Placed]:
    """Tries places and paths until every object can be seen well enough; else takes the best one tried.

    Returns:
        The others and the object.
    """
    config = stage.config
    area = math.exp(rng.uniform(math.log(config.area[0]), math.log(config.area[1])))
    mirrored = bool(rng.random() < config.mirror)
    tried: list[_Try] = []
    for attempt in range(MAX_TRIES):
        shrink = 0.9 ** (attempt // TRIES_PER_SIZE)
        path = _draw_path(rng, manner, stage, area * shrink**2, sprite, mirrored)
        tried.append(_try(stage, blank, path, sprite, others))
        if tried[-1].margin >= 0:
            break
    best = max(tried, key=lambda one: one.margin)
    return best.together or _together(others, best.placed)


def _draw_path(
    rng: np.random.Generator, manner: _Manner, stage: _Stage, area: float, sprite: Sprite, mirrored: bool
) -> Path:
    """Draws one path: straight on, or in its manner, with acceleration and sway, turning and changing size evenly."""
    config = stage.config
    turn = 0.0, 2 * math.pi
    distance, direction, acceleration, bend = draw_uniform(
        rng, config.displacement, turn, (0.0, config.acceleration), turn
    )
    amplitude, cycles, phase = draw_uniform(rng, (0.0, config.sway), (0.5, 1.5), (0.0, 1.0))
    middle_x, middle_y, power = draw_uniform(rng, (0.2, 0.8), (0.2, 0.8), (-1.0, 1.0))
    tilt, rotation = draw_uniform(rng, (-config.tilt, config.tilt), (-config.rotation, config.rotation))
    aside = sway(amplitude, cycles, phase)
    along, pull = manner.along(distance), accelerate(acceleration)
    x = along * math.cos(direction) + pull * math.cos(bend) - aside * math.sin(direction)
    y = along * math.sin(direction) + pull * math.sin(bend) + aside * math.cos(direction)
    height, width = sprite.size
    size = math.sqrt(area * stage.height * stage.width / sprite.num_solid)  # diagonals per pixel of the cutout
    size = min(size, config.max_extent * min(stage.height / height, stage.width / width)) * math.hypot(height, width)
    return Path(
        mirrored=mirrored,
        x=manner.curve(middle_x + x / stage.width),
        y=manner.curve(middle_y + y / stage.height),
        size=manner.curve(size * approach(config.scale_change**power)),
        rotation=manner.curve(tilt + rotation * (control_times() - 0.5)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Try:
    """An object on a path that it might take."""

    placed: _Placed

    margin: float
    """How much better than asked for the worst object can be seen; negative when one cannot be seen well enough."""

    together: list[_Placed] | None
    """The others and this one; None when it cannot be seen well enough even without them."""


def _try(stage: _Stage, blank: SceneObject, path: Path, sprite: Sprite, others: list[_Placed]) -> _Try:
    """Puts an object on a path and looks how well it and the others can be seen."""
    config = stage.config
    maps = path_maps(path, stage.moments, sprite.size, stage.frame)
    inside = _within(_moved_points(compose(stage.camera_maps, maps), sprite.points).swapaxes(0, -2), stage.frame)
    item = replace(blank, mirrored=path.mirrored, x=path.x, y=path.y, size=path.size, rotation=path.rotation)
    placed = _Placed(item, sprite, maps, invert(maps[0]), inside[0])
    margin = min(_share(inside) - config.in_frame, _share(inside[0]) - config.first_visible)
    if margin < 0:
        return _Try(placed, margin, None)
    together = _together(others, placed)
    changed = [entry for entry, before in zip(together, [*others, None], strict=True) if entry is not before]
    margin = min(margin, *(_share(entry.seen) - config.first_visible for entry in changed))
    return _Try(placed, margin, together)


def _together(others: list[_Placed], new: _Placed) -> list[_Placed]:
    """Objects and one more: what the first frame shows of each changes where one hides another."""
    known, seen = [], new.seen
    for other in others:
        if other.item.depth[0] < new.item.depth[0]:
            known.append(other)
            seen = seen & ~_hidden(new, other)
        else:
            known.append(replace(other, seen=other.seen & ~_hidden(other, new)))
    return [*known, replace(new, seen=seen)]


def _hidden(entry: _Placed, nearer: _Placed) -> NDArray[np.bool_]:
    """Which of an object's points another one covers in the first frame: ``bool (P,)``."""
    return _hits(nearer.sprite, _moved_points(compose(nearer.back, entry.maps[0]), entry.sprite.points))


def _share(true: NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(true)) / true.size


def _moved_points(maps: Maps, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maps points ``(P, 2)`` to ``(..., 2, P)``: all x in a row, and all y, for what is done to them next."""
    moved: NDArray[np.float64] = maps[..., :2] @ points.T
    moved += maps[..., 2:]
    return moved


def _within(points: NDArray[np.float64], frame: tuple[float, float]) -> NDArray[np.bool_]:
    """Which points ``(2, ..., P)`` lie inside the frame: ``bool (..., P)``."""
    x, y = points
    inside: NDArray[np.bool_] = (x >= 0) & (y >= 0) & (x < frame[1]) & (y < frame[0])
    return inside


def _hits(sprite: Sprite, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points ``(2, P)``, in the cutout's pixels, lie on its silhouette: ``bool (P,)``."""
    rows, columns = sprite.occupied.shape
    x = np.floor(points[0] * (columns / sprite.size[1])).astype(np.int64)
    y = np.floor(points[1] * (rows / sprite.size[0])).astype(np.int64)
    inside = np.flatnonzero((x >= 0) & (y >= 0) & (x < columns) & (y < rows))
    hits: NDArray[np.bool_] = np.zeros(len(x), np.bool_)
    hits[inside] = sprite.occupied[y[inside], x[inside]]
    return hits
