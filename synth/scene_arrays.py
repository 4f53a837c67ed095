"""Many scenes as arrays: every curve at every moment that is drawn, and every number of every object."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from synth.motion import Curve, spline_basis
from synth.scene import Scene, Wave

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_STILL = Wave()


@dataclass(frozen=True, slots=True, eq=False)
class Exposures:
    """When the shutters of B scenes are open for T frames each. An exposure has its frame's time in its middle."""

    now: Floats
    """``(B, T)``: times of the frames, in [0, 1]."""

    opened: Floats
    """``(B, T)``: where exposures begin, but not before the video does."""

    closed: Floats
    """``(B, T)``: where they end, but not after the video does."""

    length: Floats
    """``(B, 1)``: of an exposure that is not cut short, at most from one frame to the next."""

    def ways(self, opened: Floats, closed: Floats, of: Ints) -> Floats:
        """How far things go while a frame is exposed, as if no exposure were cut short: ``(2, n, T)``.

        Args:
            opened: where they are when exposures begin, ``(2, n, T)``.
            closed: where they are when these end.
            of: the scene of each, ``(n,)``.
        """
        lasted = self.closed - self.opened
        stretch = np.divide(self.length, lasted, out=np.zeros_like(lasted), where=lasted > 0)
        ways: Floats = (closed - opened) * stretch[of]
        return ways


def expose(scenes: Sequence[Scene], num_frames: int, chosen: Sequence[Sequence[int]]) -> Exposures:
    """The moments of some frames of scenes.

    Args:
        scenes: B of them.
        num_frames: of a whole video.
        chosen: for each scene, which T of these frames.
    """
    now = np.linspace(0.0, 1.0, num_frames)[np.array(chosen)]
    length = np.array([scene.shutter for scene in scenes])[:, None]
    if num_frames > 1:
        length = np.minimum(length, 1 / (num_frames - 1))
    return Exposures(now, np.maximum(now - length / 2, 0.0), np.minimum(now + length / 2, 1.0), length)


@dataclass(frozen=True, slots=True, eq=False)
class SceneArrays:
    """B scenes, each at T moments when a frame is shown, T when its exposure begins, and T when that ends."""

    exposures: Exposures
    """These moments."""

    camera: Floats
    """``(4, B, 3 T)``: x, y, zoom and rotation."""

    largest_zoom: Floats
    """``(B,)``: bound of the zoom."""

    light: Floats
    """``(2, B, T)``: brightness and warmth."""

    shadow: Floats
    """``(4, B)``: strength, x, y and softness."""

    background: Floats
    """``(5, B)``: x, y, size, defocus, and -1 where it is mirrored, 1 where it is not."""

    objects: "ObjectArrays"
    """The objects of all scenes."""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectArrays:
    """N objects of many scenes, scene by scene; moments as of :class:`SceneArrays`."""

    scene: Ints
    """``(N,)``: number of its scene."""

    place: Ints
    """``(N,)``: its place among that scene's objects."""

    num_in_scene: Ints
    """``(N,)``: how many objects its scene has."""

    ids: Ints
    """``(N,)``."""

    path: Floats
    """``(4, N, 3 T)``: x, y, size and rotation."""

    largest_size: Floats
    """``(N,)``: bound of the size."""

    depth: Floats
    """``(N, T)``."""

    brightness: Floats
    """``(N, T)``."""

    side: Floats
    """``(N,)``: -1 where it is mirrored, 1 where it is not."""

    colours: Floats
    """``(3, N)``: gains of red, green and blue."""

    defocus: Floats
    """``(N,)``."""

    waves: Floats
    """``(4, N, K)``: frequency and amplitude along x, y each; waves that an object does not have do nothing."""

    phase: Floats
    """``(N, K, T)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """B scenes and their cameras in T frames of one size."""

    found: SceneArrays
    size: tuple[int, int]
    """Height and width of the frames in pixels."""
    camera: Floats
    """``(2, 3, B, 3 T)``: world to frame, now and where exposures begin and end."""

    @property
    def num_frames(self) -> int:
        """T."""
        return int(self.found.exposures.now.shape[1])

    @property
    def diagonal(self) -> float:
        """Of the frame, in pixels."""
        return math.hypot(*self.size)

    @property
    def extent(self) -> Floats:
        """Width and height of the frame, ``(2, 1, 1)``."""
        return extent_of(self.size)


def extent_of(size: tuple[int, int]) -> Floats:
    """Width and height of frames of that height and width, ``(2, 1, 1)``."""
    return np.array([size[1], size[0]], np.float64)[:, None, None]


def gather(scenes: Sequence[Scene], num_frames: int, chosen: Sequence[Sequence[int]]) -> SceneArrays:
    """Scenes as arrays; arguments as of :func:`expose`, at least one scene."""
    exposures = expose(scenes, num_frames, chosen)
    times = np.concatenate([exposures.now, exposures.opened, exposures.closed], axis=1)
    curves = [
        curve
        for scene in scenes
        for curve in (
            *(scene.camera.x, scene.camera.y, scene.camera.zoom, scene.camera.rotation),
            *(scene.light.brightness, scene.light.warmth),
        )
    ]
    values = _at_times(curves, times).reshape(len(scenes), 6, -1).swapaxes(0, 1)
    shadows = [(one.strength, one.x, one.y, one.softness) for one in (scene.shadow for scene in scenes)]
    grounds = [
        (one.x, one.y, one.size, one.defocus, -1.0 if one.mirrored else 1.0)
        for one in (scene.background for scene in scenes)
    ]
    return SceneArrays(
        exposures,
        camera=values[:4],
        largest_zoom=np.array([max(scene.camera.zoom) for scene in scenes]),
        light=values[4:, :, : exposures.now.shape[1]],
        shadow=np.array(shadows).T,
        background=np.array(grounds).T,
        objects=_gather_objects(scenes, times),
    )


def _gather_objects(scenes: Sequence[Scene], times: Floats) -> ObjectArrays:
    items = [item for scene in scenes for item in scene.objects]
    counts = np.array([len(scene.objects) for scene in scenes])
    scene = np.repeat(np.arange(len(scenes)), counts)
    most = max(len(item.waves) for item in items)
    waves = [(*item.waves, *[_STILL] * (most - len(item.waves))) for item in items]
    curves = [
        curve
        for item, bent in zip(items, waves, strict=True)
        for curve in (
            *(item.x, item.y, item.size, item.rotation, item.depth, item.brightness),
            *[wave.phase for wave in bent],
        )
    ]
    num_frames = times.shape[1] // 3
    values = _at_times(curves, times, counts).reshape(len(items), 6 + most, -1)
    numbers = np.array(
        [
            (one.id, -1.0 if one.mirrored else 1.0, one.red, one.green, one.blue, one.defocus, max(one.size))
            for one in items
        ]
    ).T
    bends = [(one.frequency_x, one.frequency_y, one.amplitude_x, one.amplitude_y) for bent in waves for one in bent]
    return ObjectArrays(
        scene=scene,
        place=np.arange(len(items)) - np.repeat(np.cumsum(counts) - counts, counts),
        num_in_scene=counts[scene],
        ids=numbers[0].astype(np.int64),
        path=values[:, :4].swapaxes(0, 1),
        largest_size=numbers[6],
        depth=values[:, 4, :num_frames],
        brightness=values[:, 5, :num_frames],
        side=numbers[1],
        colours=numbers[2:5],
        defocus=numbers[5],
        waves=np.array(bends).T.reshape(4, len(items), most),
        phase=values[:, 6:, :num_frames],
    )


def _at_times(curves: Sequence[Curve], times: Floats, counts: Ints | None = None) -> Floats:
    """Values of curves ``(C, M)`` at the times ``(B, M)`` of their scenes.

    Args:
        curves: scene by scene, all scenes' in the same number for each of their objects.
        times: of each scene.
        counts: objects of each scene, ``(B,)``; None: one, the scene itself.
    """
    if counts is None:
        counts = np.ones(len(times), np.int64)
    ends = np.cumsum(counts) * (len(curves) // int(counts.sum()))  # of each scene's curves
    lengths = np.fromiter(map(len, curves), np.int64, len(curves))
    values = np.empty((len(curves), times.shape[1]))
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        controls = np.fromiter(
            chain.from_iterable(curves[row] for row in rows.tolist()), np.float64, len(rows) * length
        ).reshape(-1, length)
        if length == 1:
            values[rows] = controls
            continue
        bases = spline_basis(length, times.reshape(-1)).reshape(*times.shape, length)
        found = np.empty((len(rows), times.shape[1]))
        first = 0
        for basis, end in zip(bases, np.searchsorted(rows, ends).tolist(), strict=True):
            found[first:end] = controls[first:end] @ basis.T
            first = end
        values[rows] = found
    return values
