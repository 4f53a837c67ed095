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
from typing import Any

import cv2
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
        self._turns = 2 * math.pi * self._frequency
        self._start = 2 * math.pi * self._phase - (self._turns @ self._centre)[:, None]
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
        across, down = np.arange(box[0], box[2]) + 0.5, np.arange(box[1], box[3]) + 0.5
        width, waves = len(across), len(self._frequency)
        cycles = self._turns @ to_picture  # (K, 3), in radians
        angles: NDArray[np.floating[Any]] = np.empty((waves, width + len(down)))
        np.multiply(cycles[:, :1], across, out=angles[:, :width])
        angles[:, :width] += (cycles[:, 2] + self._start[:, t])[:, None]
        np.multiply(cycles[:, 1:2], down, out=angles[:, width:])
        angles = angles.astype(np.float32)  # ten times as fast, and at most 1e-5 pixels off
        sines, cosines = np.sin(angles), np.cos(angles)
        rows = np.empty((len(down), 2 + 2 * waves), np.float32)
        rows[:, 0], rows[:, 1] = 1.0, down
        rows[:, 2 : 2 + waves], rows[:, 2 + waves :] = cosines[:, width:].T, sines[:, width:].T
        amplitude = (self._amplitude * scale).astype(np.float32)[:, :, None]  # (K, 2, 1)
        scaled = to_picture * scale[:, None]
        columns = np.empty((2 + 2 * waves, 2, width), np.float32)
        columns[0] = scaled[:, :1] * across + (scaled[:, 2:] + (pad - 0.5))
        columns[1] = scaled[:, 1:2]
        columns[2 : 2 + waves] = amplitude * sines[:, None, :width]
        columns[2 + waves :] = amplitude * cosines[:, None, :width]
        # Not numpy's product, which starts threads for large boxes: there is a process for every core already.
        both = cv2.gemm(rows, columns.reshape(len(columns), 2 * width), 1.0, None, 0.0)
        return both[:, :width], both[:, width:]


def bends(waves: Sequence[Wave]) -> bool:
    """Whether waves change anything."""
    return any(wave.amplitude_x or wave.amplitude_y for wave in waves)
