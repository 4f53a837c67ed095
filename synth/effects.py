"""Draws how a scene looks: light, colours, shadows, blur, compression, and what bends its objects.

Each effect has a random stream of its own, so that one that is off changes nothing else. How they look in pixels is
defined in :mod:`synth.render` and :mod:`synth.deform`.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from shards.rng import draw_uniform, generator
from synth.config import SceneConfig
from synth.motion import DECIMALS, control_times, drift, make_curve, wander
from synth.scene import Light, Scene, Shadow, Wave

NUM_WAVES = 2
"""Waves that bend an object."""

WAVE_LENGTHS = 0.8, 2.0
"""Shortest and longest wave in diagonals of the cutout. With an amplitude of at most 0.06 diagonals in all, the slope
of the displacement is below 2 pi 0.06 / 0.8 = 0.48, so that no part of a cutout is folded over another."""

SHADOW_OFFSETS = 0.02, 0.07
"""Shortest and longest distance of a shadow in diagonals of its object."""

SHADOW_SOFTNESS = 0.02, 0.05
"""Smallest and largest sigma of a shadow's edge in diagonals of its object."""

FOCUS_DEPTHS = 0.2, 0.8
"""Where the depth of field may end: 0 is the nearest object, 1 the background."""


def add_effects(scene: Scene, config: SceneConfig) -> Scene:
    """The same scene with its effects drawn; a pure function of the configuration and the scene's coordinates.

    Args:
        scene: a scene without effects.
        config: which effects there are and how strong. Nothing is drawn for those that are off, which takes time.
    """

    def stream(name: str) -> np.random.Generator:
        return generator(scene.seed, 0, scene.index, f"scene {name}")

    lit = replace(
        scene,
        light=_draw_light(stream("light"), config) if config.light > 1 or config.warmth else Light(),
        shadow=_draw_shadow(stream("shadow"), config) if config.shadow and config.shadow_strength else Shadow(),
        shutter=_rounded(stream("shutter").uniform(0.0, config.shutter)) if config.shutter else 0.0,
        quality_loss=int(stream("quality").integers(0, config.quality_loss + 1)) if config.quality_loss else 0,
    )
    changes: list[dict[str, Any]] = [{} for _ in scene.objects]
    if config.colour_jitter:
        rng = stream("colours")
        for change in changes:
            change |= _draw_colours(rng, config)
    if config.flicker:
        rng = stream("flicker")
        for change in changes:
            change["brightness"] = make_curve(1.0 + wander(rng, config.flicker))
    if config.deformation:
        rng = stream("waves")
        for change in changes:
            change["waves"] = _draw_waves(rng, config)
    if config.defocus and config.defocus_blur:
        lit = _focus(lit, changes, stream("focus"), config)
    if not any(changes):
        return lit
    objects = (replace(item, **change) for item, change in zip(scene.objects, changes, strict=True))
    return replace(lit, objects=tuple(objects))


def _draw_light(rng: np.random.Generator, config: SceneConfig) -> Light:
    brightness = config.light ** drift(*rng.uniform(-1.0, 1.0, 2))
    return Light(make_curve(brightness), make_curve(config.warmth * drift(*rng.uniform(-1.0, 1.0, 2))))


def _draw_shadow(rng: np.random.Generator, config: SceneConfig) -> Shadow:
    """A shadow that falls down, to the left or right, as of a light above."""
    present, strength = rng.random() < config.shadow, config.shadow_strength * rng.uniform(0.4, 1.0)
    angle = math.radians(rng.uniform(10.0, 170.0))
    distance, softness = rng.uniform(*SHADOW_OFFSETS), rng.uniform(*SHADOW_SOFTNESS)
    if not present:
        return Shadow()
    offset = _rounded(distance * math.cos(angle)), _rounded(distance * math.sin(angle))
    return Shadow(_rounded(strength), *offset, _rounded(softness))


def _draw_colours(rng: np.random.Generator, config: SceneConfig) -> dict[str, float]:
    gains = rng.uniform(-config.colour_jitter, config.colour_jitter, 3)
    return {name: _rounded(1.0 + gain) for name, gain in zip(("red", "green", "blue"), gains, strict=True)}


def _draw_waves(rng: np.random.Generator, config: SceneConfig) -> tuple[Wave, ...]:
    total = rng.uniform(0.0, config.deformation)
    share = rng.uniform(0.3, 0.7)
    return tuple(_draw_wave(rng, total * part) for part in (share, 1.0 - share))


def _draw_wave(rng: np.random.Generator, amplitude: float) -> Wave:
    turn = 0.0, 2 * math.pi
    length, along, push, start, cycles = draw_uniform(rng, WAVE_LENGTHS, turn, turn, (0.0, 1.0), (-1.0, 1.0))
    frequency = 1.0 / length
    return Wave(
        _rounded(frequency * math.cos(along)),
        _rounded(frequency * math.sin(along)),
        _rounded(amplitude * math.cos(push)),
        _rounded(amplitude * math.sin(push)),
        make_curve(start + cycles * control_times()),
    )


def _focus(scene: Scene, changes: list[dict[str, Any]], rng: np.random.Generator, config: SceneConfig) -> Scene:
    """Blurs the background, and objects by how far they are between the end of the depth of field and it.

    Returns the scene with its background blurred, and says in ``changes`` how its objects are.
    """
    shallow, blur = rng.random() < config.defocus, config.defocus_blur * rng.uniform(0.3, 1.0)
    end = rng.uniform(*FOCUS_DEPTHS)
    if not shallow:
        return scene
    ranked = sorted(scene.objects, key=lambda item: item.depth[0])
    places = {item.id: rank / len(ranked) for rank, item in enumerate(ranked)}
    for item, change in zip(scene.objects, changes, strict=True):
        change["defocus"] = _rounded(blur * max(0.0, places[item.id] - end) / (1.0 - end))
    return replace(scene, background=replace(scene.background, defocus=_rounded(blur)))


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS) + 0.0
