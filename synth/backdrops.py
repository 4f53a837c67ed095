"""Procedural backgrounds: landscapes, rooms, streets, surfaces and heaps of shapes."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.silhouettes import draw_silhouette
from synth.textures import (
    Field,
    Shape,
    coloured,
    coordinates,
    fractal_noise,
    natural_colour,
    palette,
    pattern,
    round_shading,
    texture,
    to_bytes,
)

Canvas = NDArray[np.float32]
"""``float32 (H, W, 3)`` in 0..1."""


def draw_background(rng: np.random.Generator, shape: Shape) -> NDArray[np.uint8]:
    """Draws one background ``uint8 (H, W, 3)``: a scene, light over it, and the traces of a camera."""
    kinds: tuple[Callable[[np.random.Generator, Shape], Canvas], ...] = (
        landscape,
        landscape,
        room,
        street,
        surface,
        heap,
    )
    canvas = kinds[int(rng.integers(len(kinds)))](rng, shape)
    for _ in range(int(rng.choice([0, 0, 1, 2, 3, 5]))):
        _place_thing(rng, canvas)
    colour = rng.uniform(0.35, 1)
    canvas = cv2.transform(canvas, colour * np.eye(3) + (1 - colour) / 3)  # the rest is gray
    along, _ = coordinates(shape, rng.uniform(0, 2 * np.pi))
    canvas *= (1 + rng.uniform(0, 0.5) * along)[:, :, None]
    if rng.random() < 0.25:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.6, 2.5))
    canvas += np.float32(rng.uniform(0.004, 0.02)) * rng.standard_normal((*shape, 1), np.float32)
    return to_bytes(canvas)


def landscape(rng: np.random.Generator, shape: Shape) -> Canvas:
    """Sky, ranges of hills that fade with distance, and ground that comes nearer."""
    height, width = shape
    sky = _sky(rng, shape)
    canvas = sky
    haze = sky[height // 3, width // 2]
    base = natural_colour(rng)
    horizon = rng.uniform(0.2, 0.55)
    num_ranges = int(rng.integers(1, 4))
    for number in range(num_ranges):
        top = horizon + (0.45 * number / num_ranges)
        ridge = height * (top + rng.uniform(0.02, 0.15) * (_line(rng, width, rng.uniform(2, 30)) - 0.5))
        near = (number + 1) / num_ranges
        painted = _ground(rng, shape, top, palette(rng, base if rng.random() < 0.6 else None, 0.2 + 0.4 * near))
        painted += (1 - near) * rng.uniform(0.3, 0.7) * (haze - painted)
        _cover(canvas, painted, ridge)
    return canvas


def room(rng: np.random.Generator, shape: Shape) -> Canvas:
    """A wall, a floor, and things with straight edges on and in front of it."""
    height, width = shape
    canvas, _ = texture(rng, shape, palette(rng, natural_colour(rng), rng.uniform(0.05, 0.3)))
    edge = rng.uniform(0.5, 0.85)
    slope = rng.normal(0, 0.08) * (np.arange(width) / width - 0.5)
    _cover(canvas, _ground(rng, shape, edge, palette(rng)), height * (edge + slope))
    for _ in range(int(rng.integers(2, 9))):
        _place_box(rng, canvas, rng.uniform(0.05, 0.4))
    return canvas


def street(rng: np.random.Generator, shape: Shape) -> Canvas:
    """House fronts with windows below a sky, behind a road."""
    height, width = shape
    canvas = _sky(rng, shape)
    floor = int(height * rng.uniform(0.6, 0.85))
    left = -int(rng.integers(0, width // 4))
    while left < width:
        wide = int(width * rng.uniform(0.12, 0.45))
        top = int(height * rng.uniform(0.0, 0.5))
        _place_house(rng, canvas, (left, top, min(left + wide, width), floor))
        left += wide
    _cover(canvas, _ground(rng, shape, floor / height, palette(rng, None, 0.25)), np.full(width, float(floor)))
    return canvas


def surface(rng: np.random.Generator, shape: Shape) -> Canvas:
    """One material that fills the picture, as seen from above or near."""
    painted, relief = texture(rng, shape)
    everywhere = np.full(shape, 255, np.uint8)
    everywhere[[0, -1]] = 0
    return painted * round_shading(rng, everywhere, relief, rng.uniform(0.2, 0.9))[:, :, None]


def heap(rng: np.random.Generator, shape: Shape) -> Canvas:
    """Many shapes over each other, small ones being more frequent, as in the dead-leaves model of photographs.

    Source: Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 2001: radii with density r**-3.
    """
    height, width = shape
    count = int(rng.integers(80, 250))
    owner = np.zeros(shape, np.uint8)
    smallest = rng.uniform(8, 25)
    radii = np.minimum(smallest / np.sqrt(1 - rng.random(count) * 0.995), 0.4 * height)
    polygonal = rng.random() < 0.4
    for number in range(count):
        centre = rng.uniform((-20, -20), (width + 20, height + 20))
        angles = np.sort(rng.uniform(0, 2 * np.pi, 5)) if polygonal else np.linspace(0, 2 * np.pi, 24)
        stretch = rng.uniform(0.4, 1)
        x, y = radii[number] * np.cos(angles), stretch * radii[number] * np.sin(angles)
        turn = rng.uniform(0, np.pi)
        points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1) + centre
        cv2.fillPoly(owner, [np.rint(points * 16).astype(np.int32)], number % 255 + 1, cv2.LINE_8, 4)
    colours = np.concatenate([palette(rng) for _ in range(int(rng.integers(2, 7)))])
    levels = colours[rng.integers(0, len(colours), 256)] * rng.uniform(0.7, 1.2, (256, 1)).astype(np.float32)
    painted = np.take(levels, owner, axis=0)
    painted = cv2.GaussianBlur(painted, (0, 0), rng.choice([0.7, 0.7, 1.5, 6.0]))
    detail = pattern(rng, shape) * rng.uniform(0.1, 0.6) + fractal_noise(rng, shape, 60, 3, 0.8) * rng.uniform(0, 0.5)
    return np.asarray(painted * (0.75 + detail)[:, :, None], np.float32)


def _sky(rng: np.random.Generator, shape: Shape) -> Canvas:
    """A gradient from above to the horizon, with clouds."""
    zenith = np.array([rng.uniform(0.2, 0.6), rng.uniform(0.4, 0.7), rng.uniform(0.6, 0.95)], np.float32)
    if rng.random() < 0.35:
        zenith = np.full(3, rng.uniform(0.5, 0.95), np.float32)  # overcast
    glow = zenith + rng.uniform(0.2, 0.8) * (
        np.array([1, rng.uniform(0.75, 1), rng.uniform(0.6, 1)], np.float32) - zenith
    )
    clouds = fractal_noise(rng, shape, rng.uniform(2, 5), 5, 0.55, stretch=rng.uniform(1.2, 3))
    share = np.clip((clouds - rng.uniform(0.3, 0.8)) * rng.uniform(1.5, 6), 0, 1) * rng.uniform(0.3, 1)
    down = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None, None]
    clear = zenith + down * (glow - zenith)
    return np.asarray(clear + share[:, :, None] * (rng.uniform(0.75, 1) - clear), np.float32)


def _ground(rng: np.random.Generator, shape: Shape, top: float, colours: NDArray[np.float32]) -> Canvas:
    """A texture that lies flat: it gets finer and flatter towards the horizon at the height ``top`` (0..1)."""
    height, width = shape
    flat = _pattern_of_ground(rng, shape)
    y = np.arange(height, dtype=np.float32) / height
    depth = 1 / np.maximum(y - top + 0.12, 0.02)  # distance of a row, as of a plane seen at an angle
    depth *= rng.uniform(0.15, 0.3)
    rows = np.repeat((depth * height % (height - 1))[:, None], width, axis=1).astype(np.float32)
    x = np.arange(width, dtype=np.float32) - width * rng.uniform(-0.5, 1.5)
    columns = ((x[None, :] * depth[:, None] * 2) % (2 * width - 2)).astype(np.float32)
    columns = np.where(columns > width - 1, 2 * width - 2 - columns, columns)
    laid = cv2.remap(flat, columns, rows, cv2.INTER_LINEAR)
    upright = fractal_noise(rng, shape, rng.uniform(15, 60), 3, 0.7)
    share = rng.uniform(0.2, 0.8)
    return coloured(share * laid + (1 - share) * upright, colours)


def _pattern_of_ground(rng: np.random.Generator, shape: Shape) -> Field:
    return pattern(rng, shape) if rng.random() < 0.5 else fractal_noise(rng, shape, rng.uniform(4, 30), 5, 0.7)


def _line(rng: np.random.Generator, width: int, cells_across: float) -> NDArray[np.float32]:
    """A rough line of ``width`` heights in 0..1."""
    return np.asarray(fractal_noise(rng, (4, width), cells_across, 5, 0.5)[0])


def _cover(canvas: Canvas, painted: Canvas, ridge: NDArray[np.floating]) -> None:
    """Paints below a ridge, given as a row per column, with an anti-aliased edge."""
    rows = np.arange(canvas.shape[0], dtype=np.float32)[:, None]
    share = np.clip(rows - ridge[None, :] + 0.5, 0, 1).astype(np.float32)
    first = max(int(ridge.min()) - 1, 0)
    canvas[first:] += share[first:, :, None] * (painted[first:] - canvas[first:])


def _place_thing(rng: np.random.Generator, canvas: Canvas) -> None:
    """Puts a small textured shape somewhere, partly outside at times."""
    height, width = canvas.shape[:2]
    side = int(rng.uniform(0.08, 0.4) * height)
    shape = draw_silhouette(rng, side)
    painted, relief = texture(rng, (side, side))
    painted *= round_shading(rng, shape.alpha, relief)[:, :, None]
    x, y = int(rng.integers(-side // 3, width - side // 2)), int(rng.integers(height // 6, height - side // 2))
    _paste(canvas, painted, _share(shape.alpha), x, y)


def _share(alpha: NDArray[np.uint8]) -> Field:
    return np.asarray(alpha, np.float32) / np.float32(255)


def _paste(canvas: Canvas, painted: Canvas, share: Field, x: int, y: int) -> None:
    """Blends a painted patch with its corner at x, y."""
    height, width = canvas.shape[:2]
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + share.shape[1], width), min(y + share.shape[0], height)
    if x0 >= x1 or y0 >= y1:
        return
    patch = slice(y0 - y, y1 - y), slice(x0 - x, x1 - x)
    region = canvas[y0:y1, x0:x1]
    region += share[patch][:, :, None] * (painted[patch] - region)


def _place_box(rng: np.random.Generator, canvas: Canvas, size: float) -> None:
    """Puts a framed or plain rectangle, slightly turned or in perspective, with a soft shadow."""
    height, width = canvas.shape[:2]
    half_w, half_h = size * width / 2 * rng.uniform(0.4, 1.2), size * height / 2 * rng.uniform(0.4, 1.6)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [half_w, half_h] + rng.normal(0, 0.03 * half_w, (4, 2))
    side_w, side_h = int(2.4 * half_w) + 4, int(2.4 * half_h) + 4
    middle = np.array([side_w, side_h]) / 2
    alpha = np.zeros((side_h, side_w), np.uint8)
    cv2.fillPoly(alpha, [np.rint((corners + middle) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    colours = palette(rng, None, rng.uniform(0.05, 0.5))
    painted, _ = texture(rng, (side_h, side_w), colours)
    if rng.random() < 0.4:
        inner = np.rint((corners * rng.uniform(0.6, 0.9) + middle) * 16).astype(np.int32)
        frame = cv2.fillPoly(np.zeros_like(alpha), [inner], 255, cv2.LINE_AA, 4)
        other, _ = texture(rng, (side_h, side_w))
        painted += (frame[:, :, None] / np.float32(255)) * (other - painted)
    x, y = int(rng.uniform(-0.1, 0.9) * width), int(rng.uniform(0.05, 0.8) * height)
    share = _share(alpha)
    shadow: Field = cv2.GaussianBlur(share, (0, 0), 2 + 0.05 * half_w) * np.float32(rng.uniform(0.2, 0.6))
    _paste(canvas, np.zeros_like(painted), shadow, x + int(0.06 * half_w), y + int(0.08 * half_h))
    _paste(canvas, painted, share, x, y)


def _place_house(rng: np.random.Generator, canvas: Canvas, box: tuple[int, int, int, int]) -> None:
    """Paints a house front with rows of windows into a box x0, y0, x1, y1."""
    x0, y0, x1, y1 = box
    shape = max(y1 - y0, 8), max(x1 - x0, 8)
    front, _ = texture(rng, shape, palette(rng, None, rng.uniform(0.05, 0.3)))
    pane, frame = natural_colour(rng) * 0.6, natural_colour(rng)
    step_x, step_y = rng.uniform(22, 60), rng.uniform(26, 70)
    wide, high = rng.uniform(0.3, 0.75), rng.uniform(0.35, 0.8)
    x = np.abs((np.arange(shape[1], dtype=np.float32) / step_x) % 1 - 0.5)
    y = np.abs((np.arange(shape[0], dtype=np.float32) / step_y) % 1 - 0.5)
    for scale, colour in ((1.0, frame), (0.8, pane)):
        across = np.clip((wide * scale / 2 - x) * step_x + 0.5, 0, 1)
        down = np.clip((high * scale / 2 - y) * step_y + 0.5, 0, 1)
        share = (down[:, None] * across[None, :]).astype(np.float32)[:, :, None]
        front += share * (colour * rng.uniform(0.8, 1.1) - front)
    front *= np.float32(rng.uniform(0.6, 1.15))
    _paste(canvas, front, np.ones(shape, np.float32), x0, y0)
