"""Draws scenes: a pure function of configuration, seed, index and sources.

Pictures, motion, places that are tried, and effects (:mod:`synth.effects`) are drawn from separate random streams, so
that a file left out changes which pictures appear, not how the camera moves; and of each stream equally much is drawn
whatever is asked for, so that what is off changes nothing else. Whether an object can be seen is decided on sample
points of its silhouette, with plain arithmetic, so that every machine draws the same scenes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shards.errors import BadFileError, SourceError
from shards.rng import draw_columns, draw_uniform, generator
from synth.affine import camera_maps, compose, invert, move, similarity, turn
from synth.bank import SAMPLE_POINTS, SILHOUETTE_CELLS, PictureBank, Sprite
from synth.config import SceneConfig, SynthConfig
from synth.effects import add_effects
from synth.motion import (
    NUM_CONTROL,
    Curve,
    accelerate,
    approach,
    come_back,
    enter,
    glide,
    leave,
    make_curve,
    make_curves,
    overtake,
    pause,
    round_values,
    spline_basis,
    sway,
    swing,
    wander,
)
from synth.pipelines import Pipelines
from synth.scene import Camera, Scene, SceneBackground, SceneObject
from synth.types import BackgroundSource, ObjectSource

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]

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

STEP_OUT = 0.02
"""Ways out are multiples of this, so that bending and trembling a little more seldom changes them."""

_TURN = 0.0, 2 * math.pi
_SHARE = 0.0, 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """What objects are placed on. Lengths are in frame diagonals."""

    config: SceneConfig
    extent: Floats
    """``(2, 1)``: width and height of the frame."""
    camera: Floats
    """``(4, NUM_CONTROL)``: control values of the camera's x, y, zoom and rotation, before it trembles."""
    camera_maps: Floats
    """World to frame at the checks, ``(2, 3, T)``."""


@dataclass(frozen=True, slots=True, eq=False)
class _Cast:
    """N objects without places, in the order in which they find them. Columns are ``float64 (N, 1)``."""

    sprites: list[Sprite]
    depth: Ints
    """``(N,)``: from 0, the nearest, to N - 1."""
    size: Floats
    """Diagonal of the picture in frame diagonals, at first and if it is not made smaller; a column."""
    largest: Floats
    """What bounds it, a column."""
    side: Floats
    """-1 where it is mirrored, else 1, a column."""
    cycles: Floats
    """Times to and fro, a column; 0 goes straight on."""
    phase: Floats
    """Where in the cycle it starts, in cycles, a column."""
    pauses: list[tuple[float, float] | None]
    """Begin and length of a standstill; None goes on all the time."""
    sizes: Floats
    """``(2, N)``: width and height of the cutouts' pictures in pixels."""
    diagonal: Floats
    """Of these pictures in pixels, a column."""
    points: Floats
    """``(N, 3, SAMPLE_POINTS)``: x, y and 1 of sample points of the cutouts, in pixels."""
    occupied: Bools
    """``(N, cells + 2, cells + 2)``: silhouettes with an empty border."""

    def __len__(self) -> int:
        return len(self.sprites)


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
    motion = generator(seed, 0, index, "scene motion")
    pictures = generator(seed, 0, index, "scene pictures")
    aspect = config.size[1] / config.size[0]
    stage = _make_stage(motion, config.scene, aspect)
    camera = _draw_shaken(motion, stage)
    number, backdrop = _draw_picture(pictures, bank.backdrop, bank.backgrounds, set(), report_bad)
    backdrop = pipelines.background(backdrop, seed, index)
    background = _place_background(motion, stage, camera, bank.backgrounds.name, number, backdrop)
    count = int(motion.integers(config.objects_per_video[0], config.objects_per_video[1] + 1))
    by_id, by_depth, copied, choice = motion.random((4, count))
    is_copy = (copied < config.scene.distractor) & (np.arange(count) > 0)
    ids = (by_id.argsort() + 1).tolist()
    taken: set[int] = set()
    numbers: list[int] = []
    sprites: list[Sprite] = []
    for place, object_id in enumerate(ids):
        number, sprite = _draw_picture(pictures, bank.cutout, bank.objects, taken, report_bad)
        taken.add(number)
        if is_copy[place]:
            number = numbers[int(choice[place] * place)]
            sprite = bank.cutout(number)
        numbers.append(number)
        sprites.append(pipelines.cutout(sprite, seed, index, object_id))
    cast = _draw_cast(motion, stage, sprites, by_depth.argsort().argsort())
    paths = _find_paths(generator(seed, 0, index, "scene paths"), stage, cast)
    _take_out(motion, stage, cast, paths)
    depths = _draw_depths(motion, stage, cast, paths)
    curves = make_curves(paths.reshape(-1, NUM_CONTROL))  # all x, all y, and so on
    items = [
        SceneObject(
            ids[place],
            bank.objects.name,
            sprites[place].name,
            numbers[place],
            mirrored=bool(cast.side[place] < 0),
            x=curves[place],
            y=curves[count + place],
            size=curves[2 * count + place],
            rotation=curves[3 * count + place],
            depth=depths[place],
            role="distractor" if is_copy[place] else "target",
        )
        for place in sorted(range(count), key=ids.__getitem__)
    ]
    return add_effects(Scene(seed, index, aspect, camera, background, tuple(items)), config.scene)


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
    """Draws a camera and prepares what every object is checked against."""
    extent = np.array([[aspect], [1.0]]) / math.hypot(1.0, aspect)
    camera = _draw_camera(rng, config)
    return _Stage(config, extent, camera, camera_maps(camera @ _check_basis(), extent))


def _draw_camera(rng: np.random.Generator, config: SceneConfig) -> Floats:
    """Control values ``(4, NUM_CONTROL)`` of a gentle pan, zoom and roll around the resting view."""
    roll = config.camera_rotation
    distance, direction, bend, zoom, roll = draw_uniform(
        rng, (0.0, config.camera_pan), _TURN, (-0.5, 0.5), (-1.0, 1.0), (-roll, roll)
    )
    along, ratio = distance * (glide(1.0) + accelerate(bend)), config.camera_zoom**zoom
    # The zoom starts or ends at 1 and is never below: the photograph is never drawn smaller than it must be.
    magnification = approach(ratio) * max(1.0, 1.0 / ratio)
    return np.array([along * math.cos(direction), along * math.sin(direction), magnification, glide(roll)])


def _draw_shaken(rng: np.random.Generator, stage: _Stage) -> Camera:
    """The stage's camera in a hand that trembles."""
    camera = stage.camera.copy()
    camera[:2] += wander(rng, stage.config.camera_shake, 2) / stage.extent
    return Camera(*make_curves(camera))


@lru_cache(maxsize=1)
def _check_times() -> Floats:
    return np.linspace(0.0, 1.0, CHECKS)


@lru_cache(maxsize=1)
def _check_basis() -> Floats:
    """Weights of control values at the checks, ``(NUM_CONTROL, T)``."""
    return np.ascontiguousarray(spline_basis(NUM_CONTROL, _check_times()).T)


def _place_background(
    rng: np.random.Generator, stage: _Stage, camera: Camera, source: str, number: int, backdrop: Sprite
) -> SceneBackground:
    """Makes the photograph just large enough for all that the camera sees, and shifts it within what is left over."""
    roll = math.radians(max(map(abs, camera.rotation)))
    frame_width, frame_height = stage.extent[:, 0].tolist()
    view_width = (frame_width + math.sin(roll) * frame_height) / min(camera.zoom)
    view_height = (frame_height + math.sin(roll) * frame_width) / min(camera.zoom)
    view_width += 2 * max(map(abs, camera.x)) * frame_width
    view_height += 2 * max(map(abs, camera.y)) * frame_height
    height, width = backdrop.size
    diagonal = math.hypot(height, width)
    size = max(view_width / width, view_height / height) * diagonal
    slack_x = (size * width / diagonal - view_width) / frame_width
    slack_y = (size * height / diagonal - view_height) / frame_height
    x, y, mirror = draw_uniform(rng, (-0.5, 0.5), (-0.5, 0.5), _SHARE)
    x, y, size = round_values(np.array([0.5 + slack_x * x, 0.5 + slack_y * y, size])).tolist()
    return SceneBackground(source, backdrop.name, number, mirror < stage.config.mirror, x, y, size)


def _draw_cast(rng: np.random.Generator, stage: _Stage, sprites: list[Sprite], depth: Ints) -> _Cast:
    """Draws what an object keeps wherever it is tried: area at first, side, and its manner of going along its path."""
    config = stage.config
    low, high = config.area
    area, mirror, oscillation, cycles, phase, stop, length, begin = draw_columns(
        rng,
        len(sprites),
        (math.log(low), math.log(high)),
        _SHARE,
        _SHARE,
        (1.0, 2.0),
        _SHARE,
        _SHARE,
        (0.5, 0.65),
        _SHARE,
    )
    rests = np.concatenate([begin * (1.0 - length), length], axis=1).tolist()
    stops = (stop[:, 0] < config.pause).tolist()
    sizes = np.array([sprite.size[::-1] for sprite in sprites], np.float64).T
    solid = np.array([[sprite.num_solid] for sprite in sprites])
    diagonal = np.hypot(*sizes)[:, None]
    return _Cast(
        sprites,
        depth,
        size=np.sqrt(np.exp(area) * stage.extent.prod() / solid) * diagonal,
        largest=config.max_extent * (stage.extent / sizes).min(axis=0)[:, None] * diagonal,
        side=np.where(mirror < config.mirror, -1.0, 1.0),
        cycles=np.where(oscillation < config.oscillation, cycles, 0.0),
        phase=phase,
        pauses=[(rest[0], rest[1]) if is_stopping else None for rest, is_stopping in zip(rests, stops, strict=True)],
        sizes=sizes,
        diagonal=diagonal,
        points=np.stack([sprite.points for sprite in sprites]),
        occupied=np.stack([sprite.occupied for sprite in sprites]),
    )


def _find_paths(rng: np.random.Generator, stage: _Stage, cast: _Cast) -> Floats:
    """Tries places and paths until every object can be seen well enough; those that never can take the best one tried.

    All that have no place yet are tried at once, because calling NumPy costs more than the arithmetic here. Then one
    after the other takes its place, if those that have one are still seen well enough.

    Returns:
        Paths ``(4, N, NUM_CONTROL)``: control values of x, y, size and rotation.
    """
    config, count = stage.config, len(cast)
    paths, best = np.empty((4, count, NUM_CONTROL)), np.empty((4, count, NUM_CONTROL))
    margins = [-math.inf] * count
    left, placed = list(range(count)), list[int]()
    for attempt in range(MAX_TRIES):
        paths[:, left] = _draw_paths(rng, stage, cast, left, 0.9 ** (attempt // TRIES_PER_SIZE))
        view = _look(stage, cast, paths)
        for number in left:
            together = [*placed, number]
            margin = min(
                view.inside[number] - config.in_frame, view.least_seen(together) / SAMPLE_POINTS - config.first_visible
            )
            if margin > margins[number]:
                margins[number], best[:, number] = margin, paths[:, number]
            if margin >= 0:
                placed = together
        left = [number for number in left if number not in placed]
        if not left:
            break
    return best


@dataclass(frozen=True, slots=True)
class _View:
    """How well N objects can be seen on their paths. Sets of sample points are integers, a bit for each point."""

    inside: list[float]
    """Share of each that lies inside the frame, on average over the checks."""
    first: list[int]
    """Points of each that lie inside the first frame."""
    hides: list[list[int]]
    """What points of each the first object covers in the first frame, because it is nearer; and so on."""

    def least_seen(self, numbers: Sequence[int]) -> int:
        """Points that the first frame shows of the object that it shows least of, if there are only these objects."""
        least = SAMPLE_POINTS
        for number in numbers:
            seen = self.first[number]
            for other in numbers:
                seen &= ~self.hides[other][number]
            least = min(least, seen.bit_count())
        return least


def _look(stage: _Stage, cast: _Cast, paths: Floats) -> _View:
    """Looks how well objects on paths can be seen."""
    maps = _world_maps(stage, cast, paths)
    on_screen = compose(stage.camera_maps[:, :, None], maps).transpose(2, 0, 3, 1)  # (N, 2, T, 3)
    moved = on_screen.reshape(len(cast), -1, 3) @ cast.points  # (N, 2 T, P)
    x, y, (width, height) = moved[:, :CHECKS], moved[:, CHECKS:], stage.extent
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    first = maps[..., 0]
    to_other = compose(invert(first)[..., None], first[:, :, None]).transpose(2, 3, 0, 1)  # (N, N, 2, 3)
    cells = to_other @ cast.points * (SILHOUETTE_CELLS / cast.sizes.T[:, None, :, None]) + 1
    columns, rows = np.clip(cells, 0, SILHOUETTE_CELLS + 1).astype(np.int64).transpose(2, 0, 1, 3)
    hits = cast.occupied[np.arange(len(cast))[:, None, None], rows, columns]  # what lies outside hits the empty border
    hits &= (cast.depth[:, None] < cast.depth)[..., None]
    return _View([np.count_nonzero(one) / one.size for one in inside], _as_bits(inside[:, 0]), _as_bits(hits))


def _as_bits(points: Bools) -> Any:
    """Sets of points ``bool (..., SAMPLE_POINTS)`` as nested lists of integers."""
    return np.packbits(points, axis=-1).view(np.uint64)[..., 0].tolist()


def _draw_paths(rng: np.random.Generator, stage: _Stage, cast: _Cast, chosen: list[int], shrink: float) -> Floats:
    """Draws paths of some objects: in their manner, with acceleration and sway, turning and changing size evenly."""
    config = stage.config
    power, tilt, rotation, distance, direction, acceleration, bend, amplitude, cycles, phase, x, y = draw_columns(
        rng,
        len(chosen),
        (-1.0, 1.0),
        (-config.tilt, config.tilt),
        (-config.rotation, config.rotation),
        config.displacement,
        _TURN,
        (0.0, config.acceleration),
        _TURN,
        (0.0, config.sway),
        (0.5, 1.5),
        _SHARE,
        (0.2, 0.8),
        (0.2, 0.8),
    )
    # Ways are complex numbers: a turn by an angle is then a product.
    along = _along(cast, chosen, distance) + 1j * sway(amplitude, cycles, phase)
    way = along * np.exp(1j * direction) + accelerate(acceleration) * np.exp(1j * bend)
    size = np.minimum(shrink * cast.size[chosen], cast.largest[chosen])
    width, height = stage.extent
    paths = np.array(
        [
            x + way.real / width,
            y + way.imag / height,
            size * approach(config.scale_change**power),
            tilt + glide(rotation),
        ]
    )
    for place, number in enumerate(chosen):
        rest = cast.pauses[number]
        if rest is not None:
            paths[:, place] = [pause(values, *rest) for values in paths[:, place]]
    return paths


def _along(cast: _Cast, chosen: list[int], distance: Floats) -> Floats:
    """Control values of the ways along the paths' directions, straight on or to and fro."""
    straight, cycles = glide(distance), cast.cycles[chosen]
    return np.where(cycles > 0, swing(distance, cycles, cast.phase[chosen]), straight) if cycles.any() else straight


def _world_maps(stage: _Stage, cast: _Cast, paths: Floats) -> Floats:
    """Cutouts' pixels to world at the checks, ``(2, 3, N, T)``, of objects on paths ``(4, N, K)``."""
    values = paths @ _check_basis()  # (4, N, T)
    centre, scale = values[:2] * stage.extent[..., None], values[2] / cast.diagonal
    return similarity(centre, scale, values[3], cast.sizes[..., None] / 2, cast.side)


def _take_out(rng: np.random.Generator, stage: _Stage, cast: _Cast, paths: Floats) -> None:
    """Lets objects enter, leave or come back, in their paths. One of them is there at first."""
    config = stage.config
    enters, leaves, returns, *numbers = draw_columns(
        rng, len(cast), _SHARE, _SHARE, _SHARE, (0.05, 0.3), (0.25, 0.4), (0.5, 0.6), (-30.0, 30.0)
    )[..., 0]
    for number, (begin, length, middle, aslant) in enumerate(np.stack(numbers, axis=1).tolist()):
        if returns[number] < config.come_back:
            out, when = come_back(middle, 0.08, 0.28), round(middle * (CHECKS - 1))
        elif enters[number] < config.enter and number > 0:
            out, when = enter(begin, length), 0
        elif leaves[number] < config.leave:
            out, when = leave(1.0 - begin - length, length), CHECKS - 1
        else:
            continue
        paths[:2, number] += _way_out(stage, cast, paths, number, when, aslant)[:, None] * out


def _way_out(stage: _Stage, cast: _Cast, paths: Floats, number: int, when: int, aslant: float) -> Floats:
    """How far an object has to go so that a check does not see it, over the nearest border and a little aslant.

    Args:
        stage: what the object is on.
        cast: the objects.
        paths: of all of them.
        number: which object.
        when: which check.
        aslant: degrees by which its way differs from the border's normal.

    Returns:
        ``float64 (2,)`` in fractions of the frame; 0 where it would be too far.
    """
    width, height = stage.extent[:, 0].tolist()
    camera = stage.camera_maps[..., when]
    maps = compose(camera, _world_maps(stage, cast, paths)[..., number, when])
    x, y = move(maps[..., None], cast.sprites[number].hull.T)
    ways = {180.0: x.max(), 0.0: width - x.min(), 270.0: y.max(), 90.0: height - y.min()}  # by the direction of each
    normal = min(ways, key=ways.__getitem__)
    # Waves and a trembling hand move it a little further.
    spare = stage.camera[2].max() * (paths[2, number].max() * stage.config.deformation + stage.config.camera_shake)
    angle, outwards = math.radians(normal + aslant), math.radians(normal)
    direction = np.array([math.cos(angle), math.sin(angle)])
    gone = turn(camera, direction) @ np.array([math.cos(outwards), math.sin(outwards)])  # out of it, per unit of way
    distance = STEP_OUT * max(0, math.ceil((ways[normal] + spare) / gone / STEP_OUT))
    if distance > FARTHEST_OUT:
        return np.zeros(2)
    way: Floats = distance * direction / stage.extent[:, 0]
    return way


def _draw_depths(rng: np.random.Generator, stage: _Stage, cast: _Cast, paths: Floats) -> list[Curve]:
    """Lets objects that are next to each other in depth change places, at a moment when they are apart.

    Otherwise one would pop out of the other. Each object changes places once at most.
    """
    depths: list[Curve] = [(float(depth),) for depth in cast.depth]
    wanted, choice = rng.random((2, len(cast)))
    wanted = wanted < stage.config.order_change
    if not wanted.any():
        return depths
    boxes = _boxes(cast, _world_maps(stage, cast, paths))
    ranked = cast.depth.argsort()
    rank = 0
    while rank + 1 < len(ranked):
        pair = ranked[rank : rank + 2]
        apart = _moments_apart(boxes[..., pair, :]) if wanted[rank] else ()
        if len(apart):
            when = float(apart[int(choice[rank] * len(apart))])
            near, far = float(rank), float(rank + 1)
            depths[pair[0]] = make_curve(overtake(near, far, when))
            depths[pair[1]] = make_curve(overtake(far, near, when))
        rank += 2 if len(apart) else 1
    return depths


def _boxes(cast: _Cast, maps: Floats) -> Floats:
    """Corners, upper left and lower right, of the boxes around objects' pictures: ``(2, 2, N, T)``."""
    corners = np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]])[:, None] * cast.sizes[..., None]  # (2, N, 4)
    moved = move(maps[..., None], corners[:, :, None])
    return np.stack([moved.min(axis=-1), moved.max(axis=-1)])


def _moments_apart(boxes: Floats) -> Floats:
    """Times of the checks, first and last excluded, at which two boxes ``(2, 2, 2, T)`` are apart."""
    low, high = boxes
    overlap = (low.max(axis=1) < high.min(axis=1)).all(axis=0)
    overlap[[0, -1]] = True
    times: Floats = _check_times()[~overlap]
    return times
