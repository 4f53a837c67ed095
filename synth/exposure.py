"""Motion blur: what moves on screen while the shutter is open is smeared along its way.

The smear of a picture is the mean of 2**k places along a straight line, at most 32, made in k passes that each take the
mean of the picture and itself some whole pixels further on. Each pass makes the picture smaller by its step, so it is
warped into a larger box first; that box may lie outside the frame, so that borders show no seam.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.geometry import Maps, apply, invert
from synth.motion import Moments

Vectors = NDArray[np.float64]
"""``float64 (T, 2)``: x and y in pixels."""

MAX_PASSES = 5
"""Passes of a smear: at most 32 places."""


class Exposure:
    """When the shutter is open in each of T frames.

    An exposure has the frame's time in its middle. It lasts ``shutter`` of the video, but never longer than from one
    frame to the next, and neither begins before the video nor ends after it.
    """

    def __init__(self, num_frames: int, shutter: float) -> None:
        """Takes T and the scene's shutter."""
        self.num_frames = num_frames
        self._length = shutter if num_frames == 1 else min(shutter, 1 / (num_frames - 1))
        times = np.linspace(0.0, 1.0, num_frames)
        opened = np.maximum(times - self._length / 2, 0.0)
        closed = np.minimum(times + self._length / 2, 1.0)
        self._lasted = closed - opened
        self.moments = Moments(np.concatenate([times, opened, closed]) if shutter else times)
        """T times of the frames; with a shutter, T of opening and T of closing follow."""

    def ways(self, places: Vectors) -> Vectors:
        """Ways of things during each exposure, as if none were cut short, from their places at the moments.

        Args:
            places: ``float64 (..., 3 T or T, 2)``.

        Returns:
            ``float64 (..., T, 2)``.
        """
        num_frames = self.num_frames
        if not self._length:
            return np.zeros((*places.shape[:-2], num_frames, 2))
        opened, closed = places[..., num_frames : 2 * num_frames, :], places[..., 2 * num_frames :, :]
        ways: Vectors = (closed - opened) * (self._length / self._lasted)[:, None]
        return ways

    def camera_ways(self, camera: Maps, size: tuple[int, int]) -> Vectors:
        """Way of what is seen in the middle of the frame, from the maps of world to frame at the moments."""
        middle = np.array([[size[1] / 2, size[0] / 2]])
        seen = apply(invert(camera[: self.num_frames]), middle)  # (T, 1, 2)
        seen = np.tile(seen, (len(camera) // self.num_frames, 1, 1))
        places = seen @ np.swapaxes(camera[..., :2], -1, -2) + camera[..., None, :, 2]
        return self.ways(places[:, 0])


@dataclass(frozen=True, slots=True)
class Smear:
    """How a picture is smeared in one frame."""

    steps: tuple[tuple[int, int], ...]
    """Pixels along x and y by which each pass averages; none leaves the picture sharp."""

    before: tuple[int, int, int, int]
    """What is added to x0, y0, x1, y1 of a box to have all that it is made of."""

    reach: tuple[int, int, int, int]
    """What is added to the box of a picture to have all that it is smeared over."""

    def apply(self, picture: NDArray[np.uint8], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The smeared picture, smaller by the sum of all steps; in ``out`` when there are steps and it is given."""
        for number, (x, y) in enumerate(self.steps, start=1):
            one, other = _shifted(picture, x, y), _shifted(picture, -x, -y)
            target = out if number == len(self.steps) else None
            picture = np.asarray(cv2.addWeighted(one, 0.5, other, 0.5, 0.0, dst=target), np.uint8)
        return picture


def _shifted(picture: NDArray[np.uint8], x: int, y: int) -> NDArray[np.uint8]:
    """What lies x to the right and y below, of all pixels for which both that and its opposite exist."""
    height, width = picture.shape[:2]
    return picture[max(0, y) : height + min(0, y), max(0, x) : width + min(0, x)]


def make_smear(way: Sequence[float] | NDArray[np.float64]) -> Smear:
    """The smear along ``way``, x and y; none when it is shorter than a pixel."""
    way_x, way_y = way
    length = math.hypot(way_x, way_y)
    if length < 1:
        return SHARP
    passes = min(MAX_PASSES, max(1, math.ceil(math.log2(length))))
    steps = tuple((round(way_x / 2**j), round(way_y / 2**j)) for j in range(1, passes + 1))
    x, y = sum(step[0] for step in steps), sum(step[1] for step in steps)
    middle_x, middle_y = x // 2, y // 2
    before = min(0, x) - middle_x, min(0, y) - middle_y, max(0, x) - middle_x, max(0, y) - middle_y
    reach = middle_x - max(0, x), middle_y - max(0, y), middle_x - min(0, x), middle_y - min(0, y)
    return Smear(steps, before, reach)


SHARP = Smear((), (0, 0, 0, 0), (0, 0, 0, 0))
"""No smear."""
