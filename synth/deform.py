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
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.geometry import Maps
from synth.motion import Moments
from synth.scene import Wave

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the frame, end-exclusive; empty where x0 >= x1 or y0 >= y1."""

Points = NDArray[np.float64]
"""``float64 (P, 2)``: x and y in pixels of a picture."""

_TOLERANCE = 1e-7
"""Pixels by which a point may be off when the bend is undone."""

_MAX_STEPS = 200
"""Steps to undo a bend; at a slope of 0.5, 30 are enough."""

_SMALL_PRODUCT = 2**18
"""Multiplications up to which a matrix product starts no threads in OpenBLAS: there is a process for every core."""


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
        frequency = np.array([(wave.frequency_x, wave.frequency_y) for wave in waves]) / diagonal  # (K, 2)
        self._amplitude = np.array([(wave.amplitude_x, wave.amplitude_y) for wave in waves]) * diagonal  # (K, 2)
        phase = np.stack([moments.values(wave.phase) for wave in waves])  # (K, T)
        centre = np.array([picture_size[1] / 2, picture_size[0] / 2])
        self._turns = 2 * math.pi * frequency
        self._start = 2 * math.pi * phase - (self._turns @ centre)[:, None]
        self.reach: NDArray[np.float64] = np.abs(self._amplitude).sum(axis=0)
        """``float64 (2,)``: largest displacement along x and y, in pixels of the picture."""

    def forward(self, points: Points, t: int) -> Points:
        """Where in the picture to look for points u: s."""
        shown: Points = points + self._displacement(points.T.copy(), t).T
        return shown

    def backward(self, points: Points, t: int) -> Points:
        """The points u that show points s of the picture: u = s - d(u), by iteration."""
        shown: NDArray[np.float64] = points.T.copy()
        at = shown
        for _ in range(_MAX_STEPS):
            before = at
            at = shown - self._displacement(at, t)
            if np.abs(at - before).max(initial=0.0) < _TOLERANCE:
                break
        return at.T

    def _displacement(self, points: NDArray[np.float64], t: int) -> NDArray[np.float64]:
        """Displacements d(u) of points u: both ``float64 (2, P)``, x and y."""
        x, y = points
        moved = np.zeros_like(points)
        for (along, down), start, amplitude in zip(self._turns, self._start[:, t], self._amplitude, strict=True):
            angle = along * x
            angle += down * y
            angle += start
            moved += amplitude[:, None] * np.sin(angle, out=angle)
        return moved

    def lookup(self, to_picture: Maps, boxes: NDArray[np.int64], scale: NDArray[np.float64], pad: int) -> "Lookup":
        """Where the pixels of a box in each of the T frames look the picture up.

        Args:
            to_picture: ``float64 (T, 2, 3)``, frame to picture, without the bend.
            boxes: ``int64 (T, 4)``: x0, y0, x1, y1 in pixels of the frame; may be empty.
            scale: ``float64 (2,)``: pixels of the level that is looked up per pixel of the picture, along x and y.
            pad: pixels that the level was padded with on each side.
        """
        sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
        width, height = sizes.max(axis=0).tolist()
        waves = len(self._turns)
        # Functions of x and of y for all frames at once, as long as the longest box.
        across = boxes[:, :1] + (np.arange(width) + 0.5)  # (T, width)
        down = boxes[:, 1:2] + (np.arange(height) + 0.5)
        cycles = self._turns @ to_picture  # (T, K, 3), in radians
        angles: NDArray[np.floating[Any]] = np.empty((len(boxes), waves, width + height))
        np.multiply(cycles[..., :1], across[:, None], out=angles[..., :width])
        angles[..., :width] += cycles[..., 2:] + self._start.T[..., None]
        np.multiply(cycles[..., 1:2], down[:, None], out=angles[..., width:])
        angles = angles.astype(np.float32)  # ten times as fast, and at most 1e-5 pixels off
        sines, cosines = np.sin(angles), np.cos(angles)
        rows = np.empty((len(boxes), height, 2 + 2 * waves), np.float32)
        rows[..., 0], rows[..., 1] = 1.0, down
        rows[..., 2 : 2 + waves] = cosines[..., width:].swapaxes(1, 2)
        rows[..., 2 + waves :] = sines[..., width:].swapaxes(1, 2)
        amplitude = (self._amplitude * scale).astype(np.float32)[..., None]  # (K, 2, 1)
        scaled = (to_picture * scale[:, None])[..., None]  # (T, 2, 3, 1)
        columns = np.empty((len(boxes), 2 + 2 * waves, 2, width), np.float32)
        columns[:, 0] = scaled[:, :, 0] * across[:, None] + (scaled[:, :, 2] + (pad - 0.5))
        columns[:, 1] = scaled[:, :, 1]
        np.multiply(sines[:, :, None, :width], amplitude, out=columns[:, 2 : 2 + waves])
        np.multiply(cosines[:, :, None, :width], amplitude, out=columns[:, 2 + waves :])
        return Lookup(rows, columns, sizes)


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """Where pixels look a picture up: sums of products of functions of y and of x."""

    rows: NDArray[np.float32]
    """``float32 (T, H, J)``."""

    columns: NDArray[np.float32]
    """``float32 (T, J, 2, W)``, for x and y."""

    sizes: NDArray[np.int64]
    """``int64 (T, 2)``: width and height of each box."""

    def at(self, t: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The places of a box's pixels, as ``cv2.remap`` wants them.

        Returns:
            Two times ``float32 (h, w)``: x and y in pixels of the level, whose centres are integers.
        """
        width, height = self.sizes[t].tolist()
        rows, columns = self.rows[t, :height], self.columns[t, :, :, :width].reshape(-1, 2 * width)
        places = np.empty((height, 2 * width), np.float32)
        at_once = max(1, _SMALL_PRODUCT // max(1, columns.size))
        for y in range(0, height, at_once):
            np.matmul(rows[y : y + at_once], columns, out=places[y : y + at_once])
        return places[:, :width], places[:, width:]


def bends(waves: Sequence[Wave]) -> bool:
    """Whether waves change anything."""
    return any(wave.amplitude_x or wave.amplitude_y for wave in waves)
