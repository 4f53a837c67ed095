"""Pictures that are made of others once per scene, before anything is drawn: recoloured, out of focus, or a shadow.

Only what is to be made is decided here, for all pictures of a batch at once; :mod:`synth.render_torch` makes it. The
rules are those of :mod:`synth.appearance`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from synth.appearance import COLOUR_STEPS, SHADOW_LEVELS
from synth.bank import LEVEL_STEP
from synth.scene import Scene

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

Array = TypeVar("Array")
"""What arrays are: NumPy's, or tensors on a device."""

NUM_LEVELS = 64
"""Levels of a picture; from there on it is a single pixel."""


class Library(Protocol):
    """All resident pictures, by number."""

    def find(self, scenes: Sequence[Scene]) -> tuple[Ints, Ints]:
        """Numbers of the pictures that scenes name: their backgrounds', and their objects' scene by scene."""

    def sizes(self, numbers: Ints) -> Ints:
        """Heights and widths of pictures in pixels: ``(n, 2)``."""

    def slots(self, numbers: Ints, levels: Ints) -> Ints:
        """Where levels of pictures lie: ``(n, 3)``, number of the first pixel, height and width."""

    @property
    def num_pixels(self) -> int:
        """Pixels that all slots take; what is made of them lies behind."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawables:
    """M pictures as they are drawn: levels of pictures, or what is made of these."""

    source: Ints
    """``(M, 3)``: slot of the level."""

    ratio: Floats
    """``(2, M)``: width and height of a pixel of the level, in pixels of the whole picture."""

    pad: Ints
    """``(M,)``: transparent pixels that are added on every side."""

    gains: Floats
    """``(3, M)``: what red, green and blue are multiplied by at first; they never exceed alpha."""

    sigma: Floats
    """``(M,)``: of the Gaussian blur in pixels of the level; 0 for none."""

    radius: Ints
    """``(M,)``: pixels that the blur reaches."""

    strength: Floats
    """``(M,)``: what everything is multiplied by at last."""

    @property
    def size(self) -> Ints:
        """Width and height in pixels, ``(2, M)``."""
        return self.source[:, :0:-1].T + 2 * self.pad

    @property
    def is_made(self) -> NDArray[np.bool_]:
        """``(M,)``: whether anything has to be done to the level."""
        made: NDArray[np.bool_] = (self.radius > 0) | (self.gains != 1).any(axis=0)
        return made


def joined(parts: Sequence[Drawables]) -> Drawables:
    """All pictures of some parts, one part after the other."""
    return Drawables(
        source=np.concatenate([one.source for one in parts]),
        ratio=np.concatenate([one.ratio for one in parts], axis=1),
        pad=np.concatenate([one.pad for one in parts]),
        gains=np.concatenate([one.gains for one in parts], axis=1),
        sigma=np.concatenate([one.sigma for one in parts]),
        radius=np.concatenate([one.radius for one in parts]),
        strength=np.concatenate([one.strength for one in parts]),
    )


class Workshop:
    """Chooses what n pictures are drawn from, as they are or changed."""

    def __init__(self, pictures: Library, numbers: Ints, scale: Floats) -> None:
        """Chooses the levels.

        Args:
            pictures: the resident pictures.
            numbers: ``(n,)``: theirs.
            scale: ``(n,)``: largest scale at which each is drawn, in pixels of the frame per pixel of the picture.
        """
        self._pictures = pictures
        self._numbers = numbers
        self._scale = scale
        self._sizes = pictures.sizes(numbers)
        shrunk = np.log(np.minimum(scale, 1.0)) / math.log(LEVEL_STEP)
        self._level = np.floor(shrunk + 1e-9).astype(np.int64)  # as synth.bank.level_for

    def sharp(self) -> Drawables:
        """The levels as they are."""
        return self._made(self._level)

    def focused(self, blur: Floats, gains: Floats | None = None) -> Drawables:
        """The levels in the colours of objects and out of focus.

        Args:
            blur: ``(n,)``: sigma in pixels of the frame; 0 is sharp.
            gains: ``(3, n)``: of the colours; None: these are backgrounds, which keep theirs and their size.
        """
        level_sizes = np.maximum(1, np.rint(self._sizes * LEVEL_STEP ** self._level[:, None]))
        sigma = blur / self._scale * _diagonal(level_sizes) / _diagonal(self._sizes)
        # Below one pixel there is no coarser level, so it does not matter what a sharp picture's logarithm would be.
        coarser = np.floor(2 * np.log2(np.maximum(sigma, 1.0)) + 1e-9).astype(np.int64)
        sigma = sigma * LEVEL_STEP**coarser
        radius = np.ceil(3 * sigma).astype(np.int64)
        if gains is None:
            return self._made(self._level + coarser, sigma=sigma, radius=radius)
        stepped = np.clip(np.rint(COLOUR_STEPS * gains), 0, 255) / COLOUR_STEPS
        return self._made(self._level + coarser, radius, stepped, sigma, radius)

    def shadows(self, softness: Floats, strength: Floats) -> Drawables:
        """Shadows ``(n,)``: black, with the share of light that they take as their alpha."""
        level = self._level + SHADOW_LEVELS
        sigma = np.maximum(0.5, softness * _diagonal(self._slots(level)[:, 1:]))
        radius = np.ceil(2.5 * sigma).astype(np.int64)
        return self._made(level, radius, np.zeros((3, len(level))), sigma, radius, strength)

    def _slots(self, level: Ints) -> Ints:
        return self._pictures.slots(self._numbers, np.minimum(level, NUM_LEVELS - 1))

    def _made(
        self,
        level: Ints,
        pad: Ints | None = None,
        gains: Floats | None = None,
        sigma: Floats | None = None,
        radius: Ints | None = None,
        strength: Floats | None = None,
    ) -> Drawables:
        count = len(level)
        source = self._slots(level)
        nothing = np.zeros(count, np.int64)
        return Drawables(
            source,
            (self._sizes / source[:, 1:])[:, ::-1].T,
            nothing if pad is None else pad,
            np.ones((3, count)) if gains is None else gains,
            np.zeros(count) if sigma is None else sigma,
            nothing if radius is None else radius,
            np.ones(count) if strength is None else strength,
        )


def _diagonal(sizes: NDArray[np.number]) -> Floats:
    """Of sizes ``(n, 2)``."""
    diagonals: Floats = np.hypot(sizes[:, 0], sizes[:, 1])
    return diagonals


@dataclass(frozen=True, slots=True, eq=False)
class Jobs(Generic[Array]):
    """J pictures to be made, all with blur or all without; here or on a device."""

    boxes: Array
    """``int64 (J, 6)``: number, 0, 0, width, height, and number of its first pixel among all that these jobs make."""

    source: Array
    """``int64 (J, 3)``: slot of what a picture is made of."""

    pad: Array
    """``int64 (J,)``."""

    gains: Array
    """``float32 (J, 3)``."""

    taps: Array
    """``float32 (J, 2 R + 1)``: weights of the blur; R = 0 where no picture is blurred."""

    strength: Array
    """``float32 (J,)``."""

    first: int
    """Number of the first pixel that is made, among the resident ones; the others follow."""

    num_pixels: int
    """Pixels that are made."""


def plan_jobs(pictures: Drawables, first: int) -> tuple[tuple[Jobs[NDArray[Any]], ...], Ints]:
    """What has to be made of pictures; it lies one behind the other from pixel ``first`` on.

    Returns:
        The jobs, and the slots ``(M, 3)`` where the pictures are found when these are done.
    """
    slots = pictures.source.copy()
    jobs = []
    for chosen in (pictures.is_made & (pictures.radius == 0), pictures.is_made & (pictures.radius > 0)):
        rows = np.flatnonzero(chosen)
        if len(rows):
            made = _jobs(pictures, rows, first)
            slots[rows, 0] = first + made.boxes[:, 5]
            slots[rows, 1:] = pictures.size[::-1, rows].T
            first += made.num_pixels
            jobs.append(made)
    return tuple(jobs), slots


def _jobs(pictures: Drawables, rows: Ints, first: int) -> Jobs[NDArray[Any]]:
    width, height = pictures.size[:, rows]
    ends = np.cumsum(width * height)
    nothing = np.zeros_like(width)
    boxes = np.stack([np.arange(len(rows)), nothing, nothing, width, height, ends - width * height], axis=1)
    return Jobs(
        boxes,
        source=pictures.source[rows],
        pad=pictures.pad[rows],
        gains=pictures.gains[:, rows].T.astype(np.float32),
        taps=_taps(pictures.sigma[rows], pictures.radius[rows]).astype(np.float32),
        strength=pictures.strength[rows].astype(np.float32),
        first=first,
        num_pixels=int(ends[-1]),
    )


def _taps(sigma: Floats, radius: Ints) -> Floats:
    """Weights of Gaussian blurs, ``(J, 2 R + 1)``; each adds up to one."""
    farthest = int(radius.max())
    away = np.abs(np.arange(-farthest, farthest + 1))
    weights = np.exp(-0.5 * (away / np.where(sigma > 0, sigma, 1.0)[:, None]) ** 2)
    weights[away > radius[:, None]] = 0.0
    taps: Floats = weights / weights.sum(axis=1, keepdims=True)
    return taps
