"""How waves bend a cutout: smooth in space and time, exact in both directions, and cheap to look up.

A cutout of diagonal D whose picture has its centre at c is bent by waves k with frequency f, amplitude a and phase p.
The point of the frame that the object's affine map takes from u shows the point

    s = u + d(u),    d(u) = D sum_k a_k sin(2 pi (f_k . (u - c) / D + p_k(t)))

of the picture; so rendering looks pictures up and inverts nothing. Few plane waves stand for a coarse grid of
displacements: they are as smooth as they are long; their slope is bounded everywhere, by ``sum_k 2 pi |f_k| |a_k|``,
and below one the map is invertible everywhere; and on the rows and columns of a frame each is the sum of two products
of a function of x and one of y, so that a map for all pixels is one small matrix product.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synth.geometry import Maps
from synth.motion import Moments
from synth.scene import Wave

Points = NDArray[np.float64]
"""``float64 (P, 2)``: x and y in pixels of a picture."""

_TOLERANCE = 1e-7
"""Pixels by which a point may be off when the bend is undone."""

_MAX_STEPS = 200
"""Steps to undo a bend; at a slope of 0.5, 30 are enough."""


class Bend:
    """The waves of one cutout at T moments."""

    def __init__(self, waves: Sequence[Wave], moments: Moments, picture_size: tuple[int, int]) -> None:
        """Evaluates the waves.

        Args:
            waves: the object's.
            moments: T times.
            picture_size: height and width of the cutout's picture in pixels.
        """
        diagonal = math.hypot(*picture_size)
        self._centre = np.array([picture_size[1] / 2, picture_size[0] / 2])
        self._frequency = np.array([(wave.frequency_x, wave.frequency_y) for wave in waves]) / diagonal  # (K, 2)
        self._amplitude = np.array([(wave.amplitude_x, wave.amplitude_y) for wave in waves]) * diagonal  # (K, 2)
        self._phase = np.stack([moments.values(wave.phase) for wave in waves])  # (K, T)
        self.reach: NDArray[np.float64] = np.abs(self._amplitude).sum(axis=0)
        """``float64 (2,)``: largest displacement along x and y, in pixels of the picture."""

    def forward(self, points: Points, t: int) -> Points:
        """Where in the picture to look for points u: s."""
        cycles = (points - self._centre) @ self._frequency.T + self._phase[:, t]
        shown: Points = points + np.sin(2 * math.pi * cycles) @ self._amplitude
        return shown

    def backward(self, points: Points, t: int) -> Points:
        """The points u that show points s of the picture: u = s - d(u), by iteration."""
        at = points
        for _ in range(_MAX_STEPS):
            error = self.forward(at, t) - points
            at = at - error
            if np.abs(error).max(initial=0.0) < _TOLERANCE:
                break
        return at

    def lookup(
        self, to_picture: Maps, t: int, box: tuple[int, int, int, int], scale: NDArray[np.float64], pad: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where each pixel of a box looks the picture up, as ``cv2.remap`` wants it.

        Args:
            to_picture: ``float64 (2, 3)``, frame to picture, without the bend.
            t: which moment.
            box: x0, y0, x1, y1 in pixels of the frame.
            scale: ``float64 (2,)``: pixels of the level that is looked up per pixel of the picture, along x and y.
            pad: pixels that the level was padded with on each side.

        Returns:
            x and y, ``float32 (h, w)`` each, in pixels of the level whose centres are integers.
        """
        x0, y0, x1, y1 = box
        across, down = np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5
        cycles = self._frequency @ to_picture  # (K, 3)
        phase = cycles[:, 2] - self._frequency @ self._centre + self._phase[:, t]
        angle_x = 2 * math.pi * (cycles[:, :1] * across + phase[:, None])  # (K, w)
        angle_y = 2 * math.pi * np.multiply.outer(down, cycles[:, 1])  # (h, K)
        waves_x = np.concatenate([np.sin(angle_x), np.cos(angle_x)])  # (2K, w)
        rows = np.column_stack([np.ones_like(down), down, np.cos(angle_y), np.sin(angle_y)]).astype(np.float32)
        columns = np.empty((2, 2 + len(waves_x), len(across)), np.float32)
        for axis in (0, 1):
            map_x, map_y, shift = to_picture[axis] * scale[axis]
            amplitude = self._amplitude[:, axis] * scale[axis]
            columns[axis, 0] = map_x * across + (shift + pad - 0.5)
            columns[axis, 1] = map_y
            columns[axis, 2:] = np.concatenate([amplitude, amplitude])[:, None] * waves_x
        return rows @ columns[0], rows @ columns[1]


def bends(waves: Sequence[Wave]) -> bool:
    """Whether waves change anything."""
    return any(wave.amplitude_x or wave.amplitude_y for wave in waves)
