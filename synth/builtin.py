"""Procedural cutouts and backgrounds, so that everything works with no download.

Each is a pure function of its index. Objects have one of a dozen kinds of outline, up to three textures, and are lit as
if they bulged; backgrounds are landscapes, rooms, streets, surfaces and heaps of shapes. They are no photographs, but
their colours, textures and edges are varied enough that a model trained on them has to look at appearance and shape.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shards.rng import generator
from synth.backdrops import draw_background
from synth.cutouts import cut_out
from synth.silhouettes import draw_silhouette
from synth.textures import natural_colour, palette, round_shading, texture, to_bytes
from synth.types import Background, Cutout, Origin, Problem

NUM_OBJECTS, NUM_BACKGROUNDS = 1000, 200
"""Number of cutouts and of backgrounds: so many that few videos share them all, so few that a process draws each once
and keeps it (about 400 MB)."""

VERSION = 2
"""Part of the fingerprints; raised whenever the same index gives other pixels than before."""

OBJECT_SIDES = 130, 321
"""Least and (exclusive) largest side of an object's canvas in pixels."""


class _Builtin:
    """What both builtin sources have in common."""

    name = "builtin"
    licence = "Apache-2.0"
    problems: tuple[Problem, ...] = ()
    num_left_out = 0
    kind = ""
    num_items = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @cached_property
    def labels(self) -> Sequence[str]:
        """Name of every item, in index order."""
        return tuple(f"{self.kind}-{index:04d}" for index in range(self.num_items))

    def __len__(self) -> int:
        return self.num_items

    def origin(self, index: int) -> Origin:
        """Its name: code makes it, and there is no file."""
        return Origin(self.name, self.labels[index], "", self.licence)

    def fingerprint(self) -> str:
        """Kind and version: the items follow from the code alone."""
        return f"builtin-{self.kind}-{VERSION}"

    def _generator(self, index: int) -> np.random.Generator:
        if not 0 <= index < self.num_items:
            raise IndexError(f"index {index} is outside 0..{self.num_items - 1}")
        return generator(0, 0, index, f"builtin {self.kind}")


class BuiltinObjects(_Builtin):
    """Procedural cutouts, 120 to 320 pixels long; an :class:`~synth.types.ObjectSource`."""

    kind = "object"
    num_items = NUM_OBJECTS

    def load(self, index: int) -> Cutout:
        """Draws one cutout.

        Raises:
            IndexError: there is no such cutout.
        """
        rng = self._generator(index)
        rgb, alpha = draw_object(rng, int(rng.integers(*OBJECT_SIDES)))
        return Cutout(cut_out(rgb, alpha, self.labels[index]), self.labels[index])


class BuiltinBackgrounds(_Builtin):
    """Procedural backgrounds of about 480x640; a :class:`~synth.types.BackgroundSource`."""

    kind = "background"
    num_items = NUM_BACKGROUNDS

    def load(self, index: int) -> Background:
        """Draws one background.

        Raises:
            IndexError: there is no such background.
        """
        rng = self._generator(index)
        shape = int(rng.integers(440, 521)), int(rng.integers(600, 681))
        return Background(draw_background(rng, shape), self.labels[index])


def draw_object(rng: np.random.Generator, side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draws one object.

    Returns:
        ``uint8 (side, side, 3)`` RGB and ``uint8 (side, side)`` alpha.
    """
    shape = draw_silhouette(rng, side)
    base = natural_colour(rng)
    painted, relief = texture(rng, (side, side), palette(rng, base))
    for part in range(1, int(shape.parts.max()) + 1):
        if rng.random() < 0.6:  # else the part looks like the rest
            colours = palette(rng, base if rng.random() < 0.5 else None)
            other, _ = texture(rng, (side, side), colours)
            np.copyto(painted, other, where=(shape.parts == part)[:, :, None])
    lit = painted * round_shading(rng, shape.alpha, relief)[:, :, None]
    lit += np.float32(0.012) * rng.standard_normal((side, side, 1), np.float32)
    return to_bytes(lit), shape.alpha
