"""Pictures that are made of others once per scene, before anything is drawn: recoloured, out of focus, or a shadow.

Only what is to be made is decided here, as arrays; :mod:`synth.render_torch` makes it. The rules are those of
:mod:`synth.render`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synth.bank import LEVEL_STEP
from synth.scene import Scene, SceneBackground, SceneObject

SHADOW_LEVELS = 4
"""Shadows are made of a picture a quarter as large: they are soft."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a picture lies among the resident ones."""

    offset: int
    """Number of its first pixel; the others follow row by row."""

    height: int
    """Pixels."""

    width: int
    """Pixels."""


class Pictures(Protocol):
    """What has to be known of a scene's pictures to lay them out."""

    def size_of(self, item: SceneObject | SceneBackground) -> tuple[int, int]:
        """Height and width in pixels of the picture that an object or background names."""

    def slot_of(self, item: SceneObject | SceneBackground, level: int) -> Slot:
        """Where a level of that picture lies."""


class Library(Protocol):
    """All resident pictures."""

    @property
    def num_pixels(self) -> int:
        """Pixels that all slots take; what is made of them lies behind."""

    def of(self, scene: Scene) -> Pictures:
        """The pictures that a scene names."""


@dataclass(frozen=True, slots=True)
class Job:
    """A picture to be made of another one."""

    source: Slot
    """What it is made of."""

    pad: int
    """Transparent pixels on every side."""

    gains: tuple[float, float, float]
    """What red, green and blue are multiplied by at first; they never exceed alpha."""

    sigma: float
    """Of the Gaussian blur, in pixels; 0 for none."""

    radius: int
    """Pixels that the blur reaches."""

    strength: float = 1.0
    """What everything is multiplied by at last."""


@dataclass(frozen=True, slots=True)
class Drawable:
    """A picture as it is drawn: a level of it, or what is made of that."""

    made_of: Slot | Job
    """The level, or what is to be made of it."""

    ratio: tuple[float, float]
    """Width and height of a pixel of the level, in pixels of the picture."""

    @property
    def pad(self) -> int:
        """Transparent pixels on every side."""
        return self.made_of.pad if isinstance(self.made_of, Job) else 0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        source = self.made_of.source if isinstance(self.made_of, Job) else self.made_of
        return source.height + 2 * self.pad, source.width + 2 * self.pad


def sharp(item: SceneObject | SceneBackground, level: int, pictures: Pictures) -> Drawable:
    """A level of a picture as it is."""
    slot = pictures.slot_of(item, level)
    return Drawable(slot, _ratio(item, slot, pictures))


def focused(
    item: SceneObject | SceneBackground, level: int, per_pixel: float, blur: float, pictures: Pictures
) -> Drawable:
    """A picture with an object's colours, blurred as its defocus wants it.

    Args:
        item: the object or background.
        level: level that is drawn in focus.
        per_pixel: largest scale at which the picture is drawn, in frame pixels per picture pixel.
        blur: sigma in frame pixels.
        pictures: the pictures.
    """
    gains = (item.red, item.green, item.blue) if isinstance(item, SceneObject) else (1.0, 1.0, 1.0)
    plain = sharp(item, level, pictures)
    if blur == 0:
        recoloured = Job(pictures.slot_of(item, level), 0, gains, 0.0, 0)
        return plain if gains == (1.0, 1.0, 1.0) else Drawable(recoloured, plain.ratio)
    height, width = pictures.size_of(item)
    sigma = blur / (per_pixel * math.hypot(height, width) / math.hypot(*plain.size))
    coarser = max(0, math.floor(2 * math.log2(sigma) + 1e-9))
    slot = pictures.slot_of(item, level + coarser)
    sigma *= LEVEL_STEP**coarser
    radius = math.ceil(3 * sigma)
    pad = radius if isinstance(item, SceneObject) else 0
    return Drawable(Job(slot, pad, gains, sigma, radius), _ratio(item, slot, pictures))


def shadow_of(item: SceneObject, level: int, softness: float, strength: float, pictures: Pictures) -> Drawable:
    """The shadow of an object: black, with the share of light that it takes as its alpha."""
    slot = pictures.slot_of(item, level + SHADOW_LEVELS)
    sigma = max(0.5, softness * math.hypot(slot.height, slot.width))
    radius = math.ceil(2.5 * sigma)
    return Drawable(Job(slot, radius, (0.0, 0.0, 0.0), sigma, radius, strength), _ratio(item, slot, pictures))


def _ratio(item: SceneObject | SceneBackground, slot: Slot, pictures: Pictures) -> tuple[float, float]:
    height, width = pictures.size_of(item)
    return width / slot.width, height / slot.height


@dataclass(frozen=True, slots=True, eq=False)
class JobPart:
    """J jobs of a kind, as arrays."""

    source: NDArray[np.int64]
    """``int64 (J, 3)``: offset, height and width of what a picture is made of."""

    made: NDArray[np.int64]
    """``int64 (J, 3)``: the same of the picture that is made; these lie one behind the other."""

    pad: NDArray[np.int64]
    """``int64 (J,)``."""

    gains: NDArray[np.float32]
    """``float32 (J, 3)``."""

    taps: NDArray[np.float32]
    """``float32 (J, 2 M + 1)``: weights of the blur; M = 0 where no picture is blurred."""

    strength: NDArray[np.float32]
    """``float32 (J,)``."""

    def boxes(self) -> NDArray[np.int64]:
        """The pictures as boxes ``int64 (J, 5)``: number, 0, 0, width, height."""
        zeros = np.zeros(len(self.made), np.int64)
        return np.stack([np.arange(len(self.made)), zeros, zeros, self.made[:, 2], self.made[:, 1]], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class JobTable:
    """All that has to be made."""

    parts: tuple[JobPart, ...]
    """Jobs without blur, and jobs with blur; none of them empty."""

    made: dict[Job, tuple[int, int, int]]
    """Offset, height and width of what each job makes."""

    num_pixels: int
    """Pixels of all that is made."""


def tabulate(jobs: Iterable[Job], first: int) -> JobTable:
    """Puts jobs into tables; what they make lies from pixel ``first`` on."""
    found = list(dict.fromkeys(jobs))
    groups = ([job for job in found if not job.radius], [job for job in found if job.radius])
    parts: list[JobPart] = []
    made: dict[Job, tuple[int, int, int]] = {}
    end = first
    for group in groups:
        if group:
            parts.append(_part(group, end))
            made |= {job: (row[0], row[1], row[2]) for job, row in zip(group, parts[-1].made.tolist(), strict=True)}
            end += int(parts[-1].made[:, 1:].prod(axis=1).sum())
    return JobTable(tuple(parts), made, end - first)


def _part(jobs: Sequence[Job], first: int) -> JobPart:
    sizes = np.array([(job.source.height + 2 * job.pad, job.source.width + 2 * job.pad) for job in jobs])
    num_pixels = sizes.prod(axis=1)
    offsets = first + np.cumsum(num_pixels) - num_pixels
    farthest = max(job.radius for job in jobs)
    return JobPart(
        source=np.array([(job.source.offset, job.source.height, job.source.width) for job in jobs]),
        made=np.concatenate([offsets[:, None], sizes], axis=1),
        pad=np.array([job.pad for job in jobs]),
        gains=np.array([job.gains for job in jobs], np.float32),
        taps=np.array([_taps(job, farthest) for job in jobs], np.float32),
        strength=np.array([job.strength for job in jobs], np.float32),
    )


def _taps(job: Job, farthest: int) -> NDArray[np.float64]:
    away = np.abs(np.arange(-farthest, farthest + 1))
    weights = np.exp(-0.5 * (away / job.sigma) ** 2) if job.sigma else (away == 0).astype(np.float64)
    weights[away > job.radius] = 0.0
    taps: NDArray[np.float64] = weights / weights.sum()
    return taps
