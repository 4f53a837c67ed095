"""Fits how scenes are drawn to a real shard set: object count, area, speed, change of scale, and occlusion.

A few rounds of simulate and compare: scenes are drawn and rendered small, and each group of keys is moved by how far
its own statistic (:mod:`synth.statistics`) is off. The same scenes are drawn in every round, so that rounds differ by
their keys alone. The best round is kept. Everything is a pure function of what is given; the result is an ordinary
configuration, which a set stores as any other, so the target is not needed to make the set again.

    objects     objects_per_video: of all ranges, the one whose uniform distribution is nearest
    area        scene.area: both ends follow the lower and the upper half of the sample
    speed       scene.displacement likewise; acceleration, sway, camera_pan and camera_shake grow and shrink together
    scale       scene.scale_change and camera_zoom grow and shrink together
    occlusion   first_visible and in_frame allow more or less, as objects are more or less hidden; enter, leave and
                come_back follow the share of objects that are gone for a time
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import SourceError
from synth.bank import PictureBank
from synth.compose import compose_scene
from synth.config import SceneConfig, SynthConfig
from synth.pipelines import Pipelines
from synth.render import Renderer, single_threaded_opencv
from synth.statistics import NAMES, Statistics, distance, summarise, track_masks
from synth.types import Background, ObjectSource, Origin, Problem

NUM_ROUNDS = 8
"""Rounds of simulate and compare; the keys hardly move after that."""

NUM_SCENES = 150
"""Scenes drawn in each round."""

HEIGHT = 120
"""Height in pixels at which scenes are simulated; a pixel is then half a hundredth of the diagonal or less."""

FIT_SEED, REPORT_SEED = 1, 2
"""Seeds of the scenes that are fitted on and of those that the report is about."""

GONE = 0.95
"""From this share on that goes missing, an object counts as gone."""

_DIGITS = 4
"""Digits that a fitted value keeps."""

# What changes how things look changes no mask: it is left out of the simulation.
_PLAIN: dict[str, Any] = {
    "shutter": 0.0,
    "shadow": 0.0,
    "defocus": 0.0,
    "light": 1.0,
    "warmth": 0.0,
    "colour_jitter": 0.0,
    "flicker": 0.0,
}

_MOTION_KEYS = ("acceleration", "sway", "camera_pan", "camera_shake")
_VISIBLE_KEYS = ("first_visible", "in_frame")
_AWAY_KEYS = ("enter", "leave", "come_back")

_LIMITS = {"acceleration": 10.0, "sway": 1.0, "camera_pan": 1.0, "camera_shake": 0.1}
"""Largest values that :class:`synth.config.SceneConfig` allows."""


@dataclass(frozen=True, slots=True)
class Match:
    """A configuration fitted to a target, and how near it came."""

    config: SynthConfig
    """The fitted configuration."""

    target: Statistics
    """Of the target."""

    before: Statistics
    """Of the configuration that the fit began with."""

    after: Statistics
    """Of the fitted configuration; like ``before``, on scenes that the fit has not seen."""

    def distances(self) -> dict[str, tuple[float, float]]:
        """Wasserstein distance to the target, before and after, by statistic."""
        return {name: (self._distance(name, self.before), self._distance(name, self.after)) for name in NAMES}

    def _distance(self, name: str, other: Statistics) -> float:
        return distance(self.target.sample(name), other.sample(name))


@dataclass(frozen=True, slots=True)
class _Knobs:
    """What is turned: values of keys, and factors on those that the first configuration has."""

    area: tuple[float, float]
    """Natural logarithms of the ends of scene.area."""

    displacement: tuple[float, float]
    motion: float
    """Factor on the keys that move things besides."""

    scale: float
    """Factor on the logarithms of scale_change and camera_zoom."""

    hidden: float
    """Factor on the shares of an object that need not be seen."""

    away: float
    """Factor on the probabilities of being out of the frame for a time."""


Progress = Callable[[int, int], None]


def match(
    target: Statistics,
    config: SynthConfig,
    objects: ObjectSource,
    *,
    fixed: Collection[str] = (),
    num_scenes: int = NUM_SCENES,
    progress: Progress | None = None,
) -> Match:
    """Fits a configuration to a target.

    Args:
        target: measured with windows of ``config.num_frames`` frames.
        config: what to begin with; keys that are not named above stay as they are.
        objects: where cutouts come from; files that cannot be used are passed over.
        fixed: keys that must stay as well, such as ``"scene.area"`` or ``"objects_per_video"``.
        num_scenes: scenes drawn in each round.
        progress: called with rounds done and rounds in all.

    Raises:
        SourceError: the source is empty or cannot be used.
    """
    bank = PictureBank(objects, _Plain())
    steps = NUM_ROUNDS + 2

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, steps)

    tell(0)
    first = config
    if "objects_per_video" not in fixed:
        first = config.model_copy(update={"objects_per_video": _fit_count(target.objects)})
    rounds: list[tuple[SynthConfig, Statistics]] = []
    knobs = _first_knobs(first.scene)
    for number in range(NUM_ROUNDS):
        drawn = _turned(first, knobs if number else None, fixed)
        rounds.append((drawn, simulate(drawn, bank, FIT_SEED, num_scenes)))
        knobs = _turn(knobs, rounds[-1][1], target, first.num_frames)
        tell(number + 1)
    start = rounds[0][1] if first == config else simulate(config, bank, FIT_SEED, num_scenes)
    best = _best(rounds, start, target)
    before, after = (simulate(one, bank, REPORT_SEED, num_scenes) for one in (config, best))
    tell(steps)
    return Match(best, target, before, after)


def simulate(config: SynthConfig, bank: PictureBank, seed: int, num_scenes: int) -> Statistics:
    """Statistics of the first scenes of a seed, from their masks at a small size.

    Raises:
        SourceError: no scene could be drawn that begins with an object.
    """
    plain = config.model_copy(update={"scene": config.scene.model_copy(update=_PLAIN), "background_pipeline": None})
    pipelines = Pipelines(config.cutout_pipeline, None)
    size = (HEIGHT, max(16, round(HEIGHT * config.size[1] / config.size[0])))
    renderer = Renderer(bank, size, config.num_frames, pipelines)
    with single_threaded_opencv():
        scenes = (
            compose_scene(plain, seed, index, bank, lambda name, error: None, pipelines) for index in range(num_scenes)
        )
        statistics = summarise(track_masks(renderer.render(scene).masks) for scene in scenes)
    if statistics is None:
        raise SourceError(f"{bank.objects.name}: no scene of this configuration begins with an object")
    return statistics


def _fit_count(counts: NDArray[np.float64]) -> tuple[int, int]:
    """Fewest and most objects of the uniform distribution that is nearest."""
    most = int(counts.max())
    ranges = [(low, high) for low in range(1, most + 1) for high in range(low, most + 1)]
    return min(ranges, key=lambda ends: distance(counts, np.arange(ends[0], ends[1] + 1.0)))


def _first_knobs(scene: SceneConfig) -> _Knobs:
    low, high = np.log(scene.area).tolist()
    return _Knobs((low, high), scene.displacement, motion=1.0, scale=1.0, hidden=1.0, away=1.0)


def _turn(knobs: _Knobs, found: Statistics, target: Statistics, num_frames: int) -> _Knobs:
    """Moves every knob by how far its statistic is off."""
    steps = max(1, num_frames - 1)
    area = np.array(knobs.area) + _halves(target.area) - _halves(found.area)
    way = np.array(knobs.displacement) + 0.7 * steps * (_halves(target.speed) - _halves(found.speed))
    gone, wanted_gone = found.occlusion > GONE, target.occlusion > GONE
    hidden = _ratio(_middle(target.occlusion[~wanted_gone]), _middle(found.occlusion[~gone]))
    return _Knobs(
        area=_ordered(area, np.log(1e-4), 0.0),
        displacement=_ordered(way, 0.0, 2.0),
        motion=min(3.0, knobs.motion * _ratio(_middle(target.speed), _middle(found.speed))),
        scale=min(50.0, knobs.scale * _ratio(_middle(target.scale), _middle(found.scale))),
        hidden=min(10.0, knobs.hidden * hidden),
        away=min(10.0, knobs.away * _ratio(float(wanted_gone.mean()), float(gone.mean()))),
    )


def _halves(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of the lower and of the upper half of an ascending sample; zeros when it is empty."""
    if not len(sample):
        return np.zeros(2)
    middle = (len(sample) + 1) // 2
    return np.array([sample[:middle].mean(), sample[-middle:].mean()])


def _middle(sample: NDArray[np.float64]) -> float | None:
    """Mean of an ascending sample without its lowest and highest tenth, which far-off values hardly move."""
    cut = len(sample) // 10
    return float(sample[cut : len(sample) - cut].mean()) if len(sample) else None


def _ratio(wanted: float | None, found: float | None) -> float:
    """How much more of something is wanted than found, at most a factor of two in one round; 1 when one is unknown."""
    if wanted is None or found is None:
        return 1.0
    return float(np.clip((wanted + 1e-6) / (found + 1e-6), 0.5, 2.0))


def _ordered(ends: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """Ends within bounds; where they have crossed, both are their middle."""
    if ends[0] > ends[1]:
        ends = np.full(2, ends.mean())
    first, last = np.clip(ends, low, high).tolist()
    return first, last


def _turned(config: SynthConfig, knobs: _Knobs | None, fixed: Collection[str]) -> SynthConfig:
    """The configuration with the knobs' values for all keys that are not fixed."""
    if knobs is None:
        return config
    scene = config.scene
    values: dict[str, Any] = {
        "area": tuple(_rounded(float(np.exp(end))) for end in knobs.area),
        "displacement": tuple(map(_rounded, knobs.displacement)),
        "scale_change": _rounded(min(10.0, max(scene.scale_change, 1.02) ** knobs.scale)),
        "camera_zoom": _rounded(min(4.0, scene.camera_zoom ** min(knobs.scale, 3.0))),
    }
    for key in _MOTION_KEYS:
        values[key] = _rounded(min(_LIMITS[key], getattr(scene, key) * knobs.motion))
    for key in _VISIBLE_KEYS:
        values[key] = _rounded(max(0.0, 1.0 - (1.0 - getattr(scene, key)) * knobs.hidden))
    for key in _AWAY_KEYS:
        values[key] = _rounded(min(1.0, getattr(scene, key) * knobs.away))
    kept = {key: value for key, value in values.items() if f"scene.{key}" not in fixed}
    return SynthConfig.model_validate({**config.model_dump(), "scene": {**scene.model_dump(), **kept}})


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _best(rounds: Sequence[tuple[SynthConfig, Statistics]], start: Statistics, target: Statistics) -> SynthConfig:
    """The round that lowers the distances most in proportion; first of all, one that raises as few as possible."""
    first = _distances(start, target)
    floor = np.array([1e-3 * (np.ptp(target.sample(name)) + 1e-6) for name in NAMES])

    def cost(one: tuple[SynthConfig, Statistics]) -> tuple[int, float]:
        found = _distances(one[1], target)
        return int((found > first + floor).sum()), float(((found + floor) / (first + floor)).sum())

    return min(rounds, key=cost)[0]


def _distances(found: Statistics, target: Statistics) -> NDArray[np.float64]:
    return np.array([distance(target.sample(name), found.sample(name)) for name in NAMES])


class _Plain:
    """One gray background: what is behind the objects changes no mask."""

    name = "plain"
    licence = ""
    labels = ("plain",)
    problems: tuple[Problem, ...] = ()
    num_left_out = 0

    def __len__(self) -> int:
        return 1

    def load(self, index: int) -> Background:
        return Background(np.full((16, 16, 3), 128, np.uint8), "plain")

    def origin(self, index: int) -> Origin:
        return Origin(self.name, "plain", "", "")

    def fingerprint(self) -> str:
        return self.name
