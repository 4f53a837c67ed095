"""Procedural textures: scalar patterns, natural colours, and the shading that makes a flat shape look round.

A pattern is a field ``float32 (h, w)`` in 0..1. Colour comes from a ramp of a few related colours. Everything is a pure
function of the generator that is passed in.
"""

import colorsys
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Shape = tuple[int, int]
Pattern = Callable[[np.random.Generator, Shape], Field]

# Hues of photographs crowd around skin, soil and wood, then foliage, then sky: mean and spread in degrees, and the
# share, mean and spread of saturation of each crowd.
HUES = ((30, 12, 0.4, 0.38, 0.18), (88, 24, 0.2, 0.36, 0.16), (212, 18, 0.14, 0.32, 0.18), (5, 8, 0.06, 0.6, 0.2))


def natural_colour(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draws a colour ``float32 (3,)`` in 0..1, with the hues that photographs have; sometimes gray or vivid."""
    kind = rng.random()
    for mean, spread, share, saturation, saturation_spread in HUES:
        if kind < share:
            return _hsv(rng.normal(mean, spread), rng.normal(saturation, saturation_spread), rng.uniform(0.15, 0.95))
        kind -= share
    vivid = rng.random() < 0.25
    saturation = rng.uniform(0.6, 1.0) if vivid else rng.uniform(0.0, 0.12)
    return _hsv(rng.uniform(0, 360), saturation, rng.uniform(0.35 if vivid else 0.08, 0.98))


def palette(
    rng: np.random.Generator, base: NDArray[np.float32] | None = None, contrast: float | None = None
) -> NDArray[np.float32]:
    """Draws 3 to 5 related colours ``float32 (K, 3)``: a base, darker and lighter ones, at times a foreign accent."""
    base = natural_colour(rng) if base is None else base
    contrast = rng.uniform(0.15, 0.75) if contrast is None else contrast
    count = int(rng.integers(3, 6))
    hue, saturation, value = colorsys.rgb_to_hsv(*base.tolist())
    values = value + contrast * (np.linspace(-0.5, 0.5, count) + rng.normal(0, 0.08, count))
    hues = hue * 360 + rng.normal(0, 7, count)
    saturations = saturation + rng.normal(0, 0.08, count)
    colours = np.stack([_hsv(*triple) for triple in zip(hues, saturations, values, strict=True)])
    if rng.random() < 0.35:
        colours[rng.integers(count)] = natural_colour(rng)
    return colours if rng.random() < 0.6 else rng.permutation(colours)


def coloured(field: Field, colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps a field through a ramp of colours; returns ``float32 (h, w, 3)`` in 0..1."""
    places = np.linspace(0, 255, len(colours))
    ramp = np.stack([np.interp(np.arange(256), places, colours[:, channel]) for channel in range(3)], axis=1)
    indices = np.clip(field * 255, 0, 255).astype(np.uint8)
    return np.take(ramp.astype(np.float32), indices, axis=0)


def texture(
    rng: np.random.Generator, shape: Shape, colours: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.float32], Field]:
    """Draws a texture.

    Returns:
        The colours ``float32 (h, w, 3)`` in 0..1, and the field behind them, which also serves as relief.
    """
    colours = palette(rng) if colours is None else colours
    field = pattern(rng, shape)
    painted = coloured(field, colours)
    if rng.random() < 0.35:  # a second material in patches, as on fur, worn paint and labels
        patches = fractal_noise(rng, shape, rng.uniform(1.5, 4), 3)
        sharpness = rng.uniform(4, 40)
        share = np.clip((patches - rng.uniform(0.4, 0.65)) * sharpness, 0, 1)[:, :, None]
        painted = painted + share * (coloured(pattern(rng, shape), palette(rng)) - painted)
    grain = fractal_noise(rng, shape, max(shape) / rng.uniform(3, 8), 2) - 0.5
    return np.clip(painted * (1 + rng.uniform(0.05, 0.5) * grain[:, :, None]), 0, 1), field


def pattern(rng: np.random.Generator, shape: Shape) -> Field:
    """Draws one of the patterns below."""
    kinds: tuple[Pattern, ...] = (
        clouds,
        clouds,
        marble,
        wood,
        stripes,
        cells,
        cracks,
        spots,
        weave,
        fur,
        scales,
        plain,
    )
    return kinds[int(rng.integers(len(kinds)))](rng, shape)


def fractal_noise(
    rng: np.random.Generator, shape: Shape, cells_across: float, octaves: int, gain: float = 0.5, stretch: float = 1.0
) -> Field:
    """Sums smoothed random grids of growing fineness.

    Args:
        rng: the source of randomness.
        shape: height and width in pixels.
        cells_across: cells of the coarsest grid along the longer side.
        octaves: number of grids; each has twice the cells of the one before, until cells reach two pixels.
        gain: amplitude of a grid relative to the one before.
        stretch: how much longer cells are across than down.

    Returns:
        ``float32 (h, w)`` spread over 0..1.
    """
    height, width = shape
    longest = max(shape)
    field = np.zeros(shape, np.float32)
    amplitude = 1.0
    for _ in range(octaves):
        rows = int(np.clip(cells_across * height / longest, 1, height // 2)) + 2
        columns = int(np.clip(cells_across * width / longest / stretch, 1, width // 2)) + 2
        grid = rng.random((rows, columns), np.float32)
        field += amplitude * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        amplitude *= gain
        cells_across *= 2
        if cells_across > longest / 2:
            break
    return spread(field)


def spread(field: NDArray[np.floating]) -> Field:
    """Stretches a field to 0..1."""
    low, high, _, _ = cv2.minMaxLoc(field)
    return ((field - low) / max(high - low, 1e-6)).astype(np.float32)


def coordinates(shape: Shape, angle: float = 0.0) -> tuple[Field, Field]:
    """Coordinates along and across a direction, in units of the longer side, zero at the centre."""
    height, width = shape
    y = (np.arange(height, dtype=np.float32)[:, None] - height / 2) / max(shape)
    x = (np.arange(width, dtype=np.float32)[None, :] - width / 2) / max(shape)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return _as_field(x * cosine + y * sine), _as_field(y * cosine - x * sine)


def clouds(rng: np.random.Generator, shape: Shape) -> Field:
    """Fractal noise."""
    return fractal_noise(rng, shape, rng.uniform(2, 16), 5, rng.uniform(0.45, 0.75))


def plain(rng: np.random.Generator, shape: Shape) -> Field:
    """Nearly even, with a soft gradient."""
    along, _ = coordinates(shape, rng.uniform(0, 2 * np.pi))
    return spread(along + 0.4 * fractal_noise(rng, shape, 3, 2)) * np.float32(0.5) + np.float32(0.25)


def marble(rng: np.random.Generator, shape: Shape) -> Field:
    """Veins: waves bent by strong noise."""
    along, _ = coordinates(shape, rng.uniform(0, np.pi))
    bend = fractal_noise(rng, shape, rng.uniform(2, 5), 5, 0.55)
    wave = np.sin(2 * np.pi * (rng.uniform(1, 4) * along + rng.uniform(1, 3) * bend))
    return _as_field(np.abs(wave)) ** np.float32(rng.uniform(0.3, 1))


def wood(rng: np.random.Generator, shape: Shape) -> Field:
    """Year rings, cut lengthwise or across."""
    along, across = coordinates(shape, rng.uniform(0, np.pi))
    far = rng.uniform(0, 1.5)
    radius = np.hypot(across + far, along * rng.uniform(0.05, 0.6))
    bend = fractal_noise(rng, shape, rng.uniform(2, 4), 3)
    rings = rng.uniform(6, 22) * radius + rng.uniform(0.3, 1.5) * bend
    return _as_field(rings % 1.0)


def stripes(rng: np.random.Generator, shape: Shape) -> Field:
    """Bands, straight or wavy, with hard or soft borders."""
    along, _ = coordinates(shape, rng.uniform(0, np.pi))
    bend = fractal_noise(rng, shape, rng.uniform(1.5, 4), 2) * rng.choice([0.0, 0.1, 0.25])
    wave = np.sin(2 * np.pi * (rng.uniform(3, 14) * (along + bend)))
    return _as_field(0.5 + 0.5 * np.clip(wave * rng.uniform(1, 6), -1, 1))


def weave(rng: np.random.Generator, shape: Shape) -> Field:
    """Crossing bands, as of checked cloth."""
    along, across = coordinates(shape, rng.uniform(0, np.pi))
    frequency = rng.uniform(3, 16)
    hardness = rng.uniform(1, 8)
    first = np.clip(np.sin(2 * np.pi * frequency * along) * hardness, -1, 1)
    second = np.clip(np.sin(2 * np.pi * frequency * rng.choice([0.5, 1.0]) * across) * hardness, -1, 1)
    return _as_field(0.5 + 0.25 * (first + second) if rng.random() < 0.6 else 0.5 + 0.5 * first * second)


def cells(rng: np.random.Generator, shape: Shape) -> Field:
    """Voronoi cells, each of one level."""
    distance, labels, count = _voronoi(rng, shape, rng.uniform(8, 80))
    levels = rng.random(count, np.float32)
    return _as_field(np.take(levels, labels) * 0.8 + 0.2 * spread(distance))


def cracks(rng: np.random.Generator, shape: Shape) -> Field:
    """Voronoi cells as cobbles: high in the middle, low at the joints."""
    distance, labels, count = _voronoi(rng, shape, rng.uniform(20, 150))
    levels = rng.random(count, np.float32)
    return spread(0.35 * np.take(levels, labels) - spread(distance) ** rng.uniform(0.7, 3))


def spots(rng: np.random.Generator, shape: Shape) -> Field:
    """Dots or rosettes of a leopard, a ladybird or rust."""
    distance, _, _ = _voronoi(rng, shape, rng.uniform(12, 120))
    wobble = distance + np.float32(rng.uniform(0, 6)) * fractal_noise(rng, shape, 20, 2)
    radius = float(np.median(wobble)) * rng.uniform(0.6, 1.1)
    dots = np.clip((radius - wobble) / 2 + 0.5, 0, 1)
    if rng.random() < 0.3:
        dots = dots - 0.8 * np.clip((radius * 0.55 - wobble) / 2 + 0.5, 0, 1)
    return _as_field(0.85 * dots + 0.15 * fractal_noise(rng, shape, 8, 3))


def fur(rng: np.random.Generator, shape: Shape) -> Field:
    """Strands: noise stretched along a direction that bends."""
    side = int(max(shape) * 1.5)
    strands = fractal_noise(rng, (side, side), rng.uniform(30, 80), 3, 0.7, stretch=rng.uniform(5, 12))
    along, across = coordinates(shape, rng.uniform(0, 2 * np.pi))
    bend = rng.uniform(0.05, 0.25) * fractal_noise(rng, shape, 2, 2)
    columns = ((along + bend + 0.75) * (side / 1.5)).astype(np.float32)
    rows = ((across + bend + 0.75) * (side / 1.5)).astype(np.float32)
    return np.asarray(cv2.remap(strands, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)


def scales(rng: np.random.Generator, shape: Shape) -> Field:
    """Overlapping rows of scales, shingles or bricks."""
    along, across = coordinates(shape, rng.uniform(0, 2 * np.pi))
    frequency = rng.uniform(5, 18)
    row = np.floor(across * frequency)
    x = (along * frequency * rng.uniform(0.4, 1) + 0.5 * (row % 2)) % 1.0 - 0.5
    y = across * frequency - row
    return _as_field(np.clip(1 - np.hypot(x * 1.4, y * rng.uniform(0.5, 1)), 0, 1))


def round_shading(
    rng: np.random.Generator, inside: NDArray[np.uint8], relief: Field, strength: float | None = None
) -> Field:
    """Lights a shape as if it bulged towards the viewer.

    Args:
        rng: the source of randomness: light direction, height of the bulge, roughness.
        inside: ``uint8 (h, w)``, above 127 inside the shape.
        relief: ``float32 (h, w)`` in 0..1, bumps of the surface.
        strength: 0 is flat, 1 is strong; drawn when None.

    Returns:
        ``float32 (h, w)`` to multiply colours by, about 0.4 to 1.3.
    """
    strength = rng.uniform(0.2, 1) if strength is None else strength
    distance = cv2.distanceTransform((inside > 127).astype(np.uint8), cv2.DIST_L2, 3)
    reach = max(float(distance.max()) * rng.uniform(0.4, 1.1), 1.0)
    rise = np.clip(distance / reach, 0, 1)
    height = np.sqrt(1 - (1 - rise) ** 2) * np.float32(reach)
    height = cv2.GaussianBlur(height, (0, 0), max(1.0, 0.06 * reach))
    height += relief * np.float32(rng.uniform(0, 0.03) * max(inside.shape))
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8)
    angle = rng.uniform(-np.pi, 0)  # light mostly comes from above
    light = np.array([np.cos(angle), np.sin(angle), rng.uniform(0.6, 1.6)])
    light /= np.linalg.norm(light)
    normal = 1 / np.sqrt(slope_x**2 + slope_y**2 + 1)
    lit = (light[2] - light[0] * slope_x - light[1] * slope_y) * normal / light[2]
    return _as_field(1 + strength * (np.clip(lit, 0, 1.45) - 1) * 0.8)


def _voronoi(rng: np.random.Generator, shape: Shape, num_points: float) -> tuple[Field, NDArray[np.int32], int]:
    """Distance in pixels to the nearest of scattered points, and which point that is."""
    count = max(3, int(num_points))
    seeds = np.ones(shape, np.uint8)
    seeds[rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)] = 0
    distance, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    return distance, labels, count + 1


def to_bytes(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colours ``float32 (h, w, 3)`` in 0..1 as ``uint8``; what is outside that range is cut off."""
    return np.asarray(cv2.convertScaleAbs(np.maximum(picture, 0), alpha=255), np.uint8)


def _as_field(values: NDArray[np.floating]) -> Field:
    return values.astype(np.float32, copy=False)


def _hsv(hue_degrees: float, saturation: float, value: float) -> NDArray[np.float32]:
    rgb = colorsys.hsv_to_rgb(hue_degrees / 360 % 1, min(max(saturation, 0), 1), min(max(value, 0.03), 1))
    return np.array(rgb, np.float32)
