"""What is done to a picture once per scene, before it is warped: colours, focus, shadow. And the frames' light."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.bank import LEVEL_STEP, Sprite
from synth.motion import Moments
from synth.scene import Light, SceneObject, Shadow

Image = NDArray[np.uint8]

LIGHT_STEPS = 128
"""Gains of the light are multiples of 1 / 128, below 2."""

COLOUR_STEPS = 128
"""Gains of an object's colours are multiples of 1 / 128, below 2."""

BRIGHTNESS_STEPS = 256
"""Brightness of objects is a multiple of 1 / 256."""

SHADOW_LEVELS = 4
"""A shadow is made from a picture this many levels smaller: a quarter of the size; it is soft anyway."""


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels to be warped, and where they are in the picture that they are made of."""

    make: Callable[[], Image]
    """Makes the pixels."""

    scale: NDArray[np.float64]
    """``float64 (2,)``: pixels per pixel of the whole picture, along x and y, without padding."""

    pad: int = 0
    """Pixels added on each side."""

    reach: int = 0
    """How many of these may show something."""

    @cached_property
    def pixels(self) -> Image:
        """``uint8 (h, w, 4)``, premultiplied, or ``uint8 (h, w)``; made when they are first asked for.

        That is when the scene is drawn, so that they lie in the processor's caches then and their memory is used again
        for the next scene's.
        """
        return self.make()


def picture_of(make: Callable[[], Image], level: Image, sprite: Sprite, pad: int = 0, reach: int = 0) -> Picture:
    """What is made of a level of a sprite; ``pad`` and ``reach`` as :class:`Picture` has them."""
    height, width = level.shape[:2]
    return Picture(make, np.array([width / sprite.size[1], height / sprite.size[0]]), pad, reach)


def colour_gains(item: SceneObject) -> NDArray[np.float64]:
    """Gains of an object's red, green and blue: ``float64 (3,)``, multiples of 1 / 128."""
    gains: NDArray[np.float64] = np.rint(COLOUR_STEPS * np.array([item.red, item.green, item.blue])) / COLOUR_STEPS
    return np.clip(gains, 0.0, 255 / COLOUR_STEPS)


def tinted(pixels: Image, item: SceneObject) -> Image:
    """Premultiplied pixels with their colours multiplied by the object's gains; no colour exceeds its alpha."""
    steps = np.append(colour_gains(item) * COLOUR_STEPS, COLOUR_STEPS).astype(np.uint8)
    if (steps == COLOUR_STEPS).all():
        return pixels
    factors = np.full(pixels.shape[:2], steps.view(np.uint32)[0]).view(np.uint8).reshape(pixels.shape)
    colours = np.asarray(cv2.multiply(pixels, factors, scale=1 / COLOUR_STEPS), np.uint8)
    if (steps <= COLOUR_STEPS).all():
        return colours
    return np.asarray(cv2.min(colours, opaque_grey(cv2.extractChannel(pixels, 3)), dst=colours), np.uint8)


def opaque_grey(values: Image, out: Image | None = None) -> Image:
    """Values ``uint8 (h, w)`` as red, green and blue: ``uint8 (h, w, 4)``, in ``out`` if it is given; alpha is 255."""
    return np.asarray(cv2.cvtColor(values, cv2.COLOR_GRAY2RGBA, dst=out), np.uint8)


@dataclass(frozen=True, slots=True)
class Focus:
    """How a picture is blurred: from a level that is smaller by ``levels``, by a Gaussian of ``sigma`` pixels there."""

    levels: int
    sigma: float


def focus_for(sprite: Sprite, level: int, scale: float, sigma: float) -> Focus:
    """How to blur a picture.

    Args:
        sprite: the picture.
        level: that it is drawn from when it is sharp.
        scale: pixels of the frame per pixel of the picture, at most.
        sigma: of the blur in pixels of the frame.
    """
    height, width = (max(1, round(side * LEVEL_STEP**level)) for side in sprite.size)
    wide = sigma / scale * math.hypot(height, width) / math.hypot(*sprite.size)  # in pixels of the level
    levels = max(0, math.floor(2 * math.log2(wide) + 1e-9)) if wide > 0 else 0
    return Focus(levels, wide * LEVEL_STEP**levels)


def blur_pad(sigma: float) -> int:
    """Pixels that a cutout out of focus grows by on each side."""
    return math.ceil(3 * sigma)


def blurred(pixels: Image, sigma: float) -> Image:
    """A cutout out of focus, with :func:`blur_pad` more pixels on each side. It fades into transparency."""
    pad = blur_pad(sigma)
    padded = cv2.copyMakeBorder(pixels, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    return np.asarray(cv2.GaussianBlur(padded, (2 * pad + 1, 2 * pad + 1), sigma), np.uint8)


def blurred_backdrop(pixels: Image, sigma: float) -> Image:
    """A background out of focus, of the same size."""
    side = 2 * math.ceil(3 * sigma) + 1
    return np.asarray(cv2.GaussianBlur(pixels, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101), np.uint8)


def shadow_of(sprite: Sprite, level: int, shadow: Shadow) -> Picture:
    """What share of the light, in 255ths, a cutout's shadow lets through: ``uint8 (h, w)``, 255 far from it."""
    small = sprite.level(level + SHADOW_LEVELS)
    sigma = max(0.5, shadow.softness * math.hypot(*small.shape[:2]))
    pad = math.ceil(2.5 * sigma)

    def make() -> Image:
        alpha = cv2.extractChannel(small, 3)
        padded = cv2.copyMakeBorder(alpha, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
        soft = cv2.GaussianBlur(padded, (2 * pad + 1, 2 * pad + 1), sigma)
        through = 255 - np.rint(np.arange(256) * shadow.strength)
        return np.asarray(cv2.LUT(soft, through.astype(np.uint8)), np.uint8)

    return picture_of(make, small, sprite, pad, reach=pad)


def light_gains(light: Light, moments: Moments) -> NDArray[np.uint8]:
    """Gains of red, green, blue in 128ths, and 128 for alpha: ``uint8 (T, 4)``."""
    brightness, warmth = moments.values(light.brightness), moments.values(light.warmth)
    gains = np.stack([brightness * (1 + warmth), brightness, brightness * (1 - warmth), np.ones(len(moments))], axis=1)
    stepped: Image = np.clip(np.rint(LIGHT_STEPS * gains), 0, 255).astype(np.uint8)
    return stepped


def brightness_gains(item: SceneObject, moments: Moments) -> NDArray[np.float64]:
    """Gain of an object's colours in each frame: ``float64 (T,)``, multiples of 1 / 256."""
    gains: NDArray[np.float64] = np.rint(BRIGHTNESS_STEPS * moments.values(item.brightness)) / BRIGHTNESS_STEPS
    return gains
