"""Procedural outlines of objects, drawn with anti-aliased edges.

A silhouette comes with a map of its parts, so that head, body and legs may have different textures.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

SUBPIXEL_BITS = 4
BORDER = 3
"""Empty pixels around a drawn shape."""

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Silhouette:
    """A drawn shape."""

    alpha: NDArray[np.uint8]
    """``uint8 (side, side)``: 255 inside, 0 outside, between them at the edge."""

    parts: NDArray[np.uint8]
    """``uint8 (side, side)``: number of the part that a pixel belongs to."""


@dataclass(slots=True, eq=False)
class Drawing:
    """Polygons ``(N, 2)`` of x, y (right, down) in any unit; drawn so that together they just fit the canvas."""

    outlines: list[Points] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    holes: list[Points] = field(default_factory=list)
    softness: float = 0.0
    """Radius, as a share of half the canvas, over which corners are rounded and notches between polygons are filled."""

    def add(self, outline: Points, part: int = 0) -> None:
        """Adds a polygon, over those before where part numbers differ."""
        self.outlines.append(outline)
        self.parts.append(part)

    def change(self, matrix: NDArray[np.float64]) -> None:
        """Multiplies every point with a 2x2 matrix: turns, mirrors or shears the whole."""
        self.outlines = [points @ matrix.T for points in self.outlines]
        self.holes = [points @ matrix.T for points in self.holes]

    def box(self) -> tuple[Points, Points]:
        """Least and greatest x, y of all polygons."""
        points = np.concatenate(self.outlines)
        return points.min(axis=0), points.max(axis=0)

    def draw(self, side: int) -> Silhouette:
        """Draws on a canvas of ``side`` x ``side`` pixels."""
        low, high = self.box()
        scale = (side - 1 - 2 * BORDER) / (high - low).max()

        def fill(layer: NDArray[np.uint8], outline: Points, value: int, line: int) -> None:
            pixels = (outline - (low + high) / 2) * scale + (side - 1) / 2
            cv2.fillPoly(layer, [np.rint(pixels * (1 << SUBPIXEL_BITS)).astype(np.int32)], value, line, SUBPIXEL_BITS)

        alpha, parts = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)
        for outline, part in zip(self.outlines, self.parts, strict=True):
            fill(alpha, outline, 255, cv2.LINE_AA)
            if any(self.parts):
                fill(parts, outline, part, cv2.LINE_8)
        for hole in self.holes:
            fill(alpha, hole, 0, cv2.LINE_AA)
        return Silhouette(_softened(alpha, self.softness), parts)


def draw_silhouette(rng: np.random.Generator, side: int) -> Silhouette:
    """Draws one of the kinds of shapes below, slightly sheared; compact ones at times with a hole."""
    compact = (blob, blob, superellipse, star, vessel, cluster)
    jointed = (leaf, creature, creature, creature, flower, vehicle)
    kinds: tuple[Callable[[np.random.Generator], Drawing], ...] = compact + jointed
    kind = int(rng.integers(len(kinds)))
    drawing = kinds[kind](rng)
    drawing.change(np.eye(2) + rng.normal(0, 0.08, (2, 2)))
    if rng.random() < 0.5:
        drawing.change(np.diag([-1.0, 1.0]))
    if kind < len(compact) and rng.random() < 0.2:
        low, high = drawing.box()
        size = (high - low).min() * rng.uniform(0.1, 0.25)
        drawing.holes.append(_wavy(rng, size, 0.1) + low + (high - low) * rng.uniform(0.42, 0.58, 2))
    return drawing.draw(side)


def _softened(alpha: NDArray[np.uint8], softness: float) -> NDArray[np.uint8]:
    """Blurs and steepens again, which keeps an edge of about one pixel."""
    sigma = max(softness * alpha.shape[0] / 2, 0.6)
    # Outside the canvas is outside the shape; mirrored, a shape near the border would grow into it.
    blurred = cv2.GaussianBlur(alpha, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT).astype(np.float32) / 255
    slope = sigma * np.sqrt(2 * np.pi)  # a blurred edge rises by 1 / slope per pixel
    return np.asarray(np.clip((blurred - 0.5) * slope * 255 + 127.5, 0, 255), np.uint8)


def blob(rng: np.random.Generator) -> Drawing:
    """A smooth closed contour of random Fourier terms."""
    outline = _wavy(rng, 1.0, rng.uniform(0.15, 0.5)) * [1, rng.uniform(0.5, 1)]
    return _single(_turned(outline, rng.uniform(0, 2 * np.pi)))


def superellipse(rng: np.random.Generator) -> Drawing:
    """Between a diamond, an ellipse and a box with round corners."""
    t = _turn(160)
    power = 2 / rng.choice([1.2, 2.0, 3.0, 5.0, 9.0])
    x, y = np.cos(t), np.sin(t)
    outline = np.stack([np.sign(x) * np.abs(x) ** power, np.sign(y) * np.abs(y) ** power], axis=1)
    outline *= [1, rng.uniform(0.35, 1)]
    outline[:, 0] *= 1 + rng.uniform(-0.3, 0.3) * outline[:, 1]
    return _single(_turned(outline, rng.normal(0, 0.5)))


def star(rng: np.random.Generator) -> Drawing:
    """Rays around a centre: starfish, gear, splash."""
    t = _turn(240)
    num_rays = int(rng.integers(3, 10))
    ray = np.cos(num_rays * t + rng.normal(0, 0.4) * np.sin(t))
    radius = 1 + rng.uniform(0.2, 0.55) * np.clip(ray * rng.uniform(0.8, 3), -1, 1)
    radius *= 1 + 0.15 * np.sin(2 * t + rng.uniform(0, 6))
    return _single(_turned(_polar(t, radius), rng.uniform(0, 2 * np.pi)), rng.uniform(0.01, 0.05))


def leaf(rng: np.random.Generator) -> Drawing:
    """A blade with a bent axis, a stem, and a smooth or toothed edge."""
    along = np.linspace(0, 1, 80)
    width = rng.uniform(0.25, 0.6) * np.sin(np.pi * along ** rng.uniform(0.6, 1.4))
    teeth = rng.choice([0.0, 0.06, 0.15]) * np.abs(np.sin(along * np.pi * rng.integers(5, 14)))
    bend = rng.uniform(-0.4, 0.4) * along**2
    left = np.stack([2 * along - 1, bend + width * (1 + teeth)], axis=1)
    right = np.stack([2 * along - 1, bend - width * (1 + teeth)], axis=1)
    drawing = _single(np.concatenate([left, right[::-1]]))
    drawing.add(_limb([-1.05, 0], [0.6, rng.uniform(-0.1, 0.1)], 0.03, 0.012), 1)
    angle = rng.uniform(0, 2 * np.pi)
    drawing.change(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]))
    return drawing


def creature(rng: np.random.Generator) -> Drawing:
    """A body, head, legs and tail; proportions from bird and beetle to giraffe, drawn from the side."""
    drawing = Drawing(softness=rng.uniform(0.015, 0.05))
    length, girth = rng.uniform(0.35, 0.6), rng.uniform(0.14, 0.34)
    pitch = rng.normal(0, 0.25)
    hip = np.array([-length, rng.uniform(-0.1, 0.1)])
    chest = hip + 2 * length * np.array([np.cos(pitch), -np.sin(pitch)])
    drawing.add(_limb(hip, chest, girth * rng.uniform(0.7, 1.2), girth))
    neck = rng.uniform(0.15, 0.6)
    lean = rng.uniform(-1.3, 0.2)
    head = chest + neck * np.array([np.cos(lean), np.sin(lean)])
    drawing.add(_limb(chest, head, girth * 0.7, girth * rng.uniform(0.3, 0.6)))
    head_size = girth * rng.uniform(0.5, 0.95)
    snout = head + head_size * rng.uniform(0.6, 2) * np.array([np.cos(lean / 3), np.sin(lean / 3 + 0.3)])
    drawing.add(_limb(head, snout, head_size, head_size * rng.uniform(0.25, 0.8)), 1)
    if rng.random() < 0.7:
        ear = head + np.array([-0.3, -1]) * head_size * rng.uniform(1.1, 2.2)
        drawing.add(_limb(head, ear, head_size * 0.45, head_size * rng.uniform(0.05, 0.3)), 1)
    leg, thick = rng.uniform(0.3, 0.9), girth * rng.uniform(0.15, 0.4)
    for place in np.linspace(0.05, 0.95, int(rng.choice([1, 2, 2, 3]))):
        for _ in range(2):
            top = hip + (chest - hip) * place + [0, girth * 0.3]
            knee = top + np.array([rng.normal(0, 0.12), girth * 0.5 + leg * 0.5])
            foot = knee + np.array([rng.normal(0, 0.12), leg * 0.5])
            drawing.add(_limb(top, knee, thick * 1.5, thick), 2)
            drawing.add(_limb(knee, foot, thick, thick * 0.7), 2)
    tail = hip + rng.uniform(0.1, 0.7) * np.array([-1, rng.uniform(-0.8, 0.8)])
    drawing.add(_limb(hip, tail, girth * rng.uniform(0.2, 0.8), girth * rng.uniform(0.03, 0.6)), 2)
    return drawing


def vessel(rng: np.random.Generator) -> Drawing:
    """A turned body, as of a vase, bottle, lamp or chess piece; at times with a handle."""
    height = np.linspace(-1, 1, 90)
    knots = rng.uniform(0.12, 0.75, int(rng.integers(4, 8)))
    window = np.hanning(15)[1:-1]
    profile = np.pad(np.interp(height, np.linspace(-1, 1, len(knots)), knots), 6, "edge")
    width = np.convolve(profile, window / window.sum(), "valid")
    left, right = np.stack([-width, height], axis=1), np.stack([width, height], axis=1)
    drawing = _single(np.concatenate([right, left[::-1]]))
    lid = slice(0, int(rng.integers(3, 40)))
    drawing.add(np.concatenate([right[lid], left[lid][::-1]]), 1)
    if rng.random() < 0.35:
        outer = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 30)
        arc = _polar(outer, np.ones(30)) * [rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.5)]
        drawing.add(np.concatenate([arc, 0.65 * arc[::-1]]) + np.array([width[45] - 0.1, 0]), 1)
    angle = rng.normal(0, 0.25)
    drawing.change(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]))
    return drawing


def flower(rng: np.random.Generator) -> Drawing:
    """Petals around a middle, at times on a stalk."""
    drawing = Drawing(softness=0.01)
    num_petals = int(rng.integers(4, 13))
    reach, width = rng.uniform(0.45, 0.75), rng.uniform(0.12, 0.3)
    stalk = rng.random() < 0.5
    centre = np.array([0.0, -0.3 if stalk else 0.0])
    reach *= 0.75 if stalk else 1.1
    if stalk:
        drawing.add(_limb(centre, [rng.normal(0, 0.15), 0.97], 0.05, 0.04), 2)
        side = np.array([rng.choice([-0.4, 0.4]), rng.uniform(0.1, 0.4)])
        drawing.add(_limb([0, rng.uniform(0.4, 0.7)], side, 0.03, 0.12), 2)
    for angle in 2 * np.pi * np.arange(num_petals) / num_petals + rng.uniform(0, 2 * np.pi):
        tip = centre + reach * rng.uniform(0.8, 1.1) * np.array([np.cos(angle), np.sin(angle)])
        drawing.add(_limb(centre + 0.2 * (tip - centre), tip, width * 0.5, width * rng.uniform(0.4, 1)))
    drawing.add(_polar(_turn(60), np.full(60, rng.uniform(0.1, 0.3))) + centre, 1)
    return drawing


def vehicle(rng: np.random.Generator) -> Drawing:
    """A body with a cabin, on wheels or on runners."""
    drawing = Drawing(softness=rng.uniform(0.01, 0.04))
    length, body = 0.92, rng.uniform(0.15, 0.35)
    floor = 0.35
    hull = np.array(
        [[-length, floor - body], [length, floor - body * rng.uniform(0.5, 1.1)], [length, floor], [-length, floor]]
    )
    hull[2:, 0] *= rng.uniform(0.6, 1)
    drawing.add(hull)
    left, right = np.sort(rng.uniform(-0.75, 0.75, 2)) + np.array([-0.12, 0.12])
    roof = floor - body - rng.uniform(0.2, 0.55)
    slant = rng.uniform(0, 0.25, 2)
    cabin = np.array(
        [[left, floor - body + 0.02], [left + slant[0], roof], [right - slant[1], roof], [right, floor - body + 0.02]]
    )
    drawing.add(cabin, 1)
    if rng.random() < 0.75:
        radius = rng.uniform(0.12, 0.24)
        for place in np.linspace(-0.6, 0.6, int(rng.integers(2, 4))):
            drawing.add(_polar(_turn(60), np.full(60, radius)) + np.array([place, floor]), 2)
    return drawing


def cluster(rng: np.random.Generator) -> Drawing:
    """Several blobs that touch: fruit, mushrooms, a heap of stones."""
    drawing = Drawing(softness=0.012)
    centre = np.zeros(2)
    for part in range(int(rng.integers(2, 7))):
        size = rng.uniform(0.18, 0.45)
        drawing.add(_wavy(rng, size, 0.2) + centre, part % 3)
        angle = rng.uniform(0, 2 * np.pi)
        centre = centre + size * np.array([np.cos(angle), np.sin(angle)])
    return drawing


def _single(outline: Points, softness: float = 0.0) -> Drawing:
    drawing = Drawing(softness=softness)
    drawing.add(outline)
    return drawing


def _turn(count: int) -> NDArray[np.float64]:
    return np.linspace(0, 2 * np.pi, count, endpoint=False)


def _polar(angles: NDArray[np.float64], radius: NDArray[np.float64]) -> Points:
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _wavy(rng: np.random.Generator, radius: float, roughness: float) -> Points:
    """A closed contour around the origin: a circle with random Fourier terms whose amplitudes fall off."""
    angles = _turn(200)
    terms = np.arange(2, 9)
    amplitudes = roughness * rng.normal(0, 1, len(terms)) / terms ** rng.uniform(0.8, 1.5)
    phases = rng.uniform(0, 2 * np.pi, len(terms))
    waves = amplitudes @ np.cos(terms[:, None] * angles + phases[:, None])
    return _polar(angles, radius * np.clip(1 + waves, 0.25, 2))


def _limb(start: object, end: object, start_radius: float, end_radius: float) -> Points:
    """Outline of two discs and the hull between them."""
    disc = _polar(_turn(28), np.ones(28))
    points = np.concatenate([disc * start_radius + np.asarray(start), disc * end_radius + np.asarray(end)])
    hull = cv2.convexHull(points.astype(np.float32))
    return np.asarray(hull, np.float64).reshape(-1, 2)


def _turned(points: Points, angle: float) -> Points:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cosine, sine], [-sine, cosine]]))
