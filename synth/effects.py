"""Draws how a scene looks: light, colours, shadows, blur, compression, and what bends its objects.

Equally much is drawn for effects that are off, so that this changes no other. How they look in pixels is defined in
:mod:`synth.render` and :mod:`synth.deform`.
"""

import math
from dataclasses import replace

import numpy as np

from shards.rng import draw_columns, draw_uniform, generator
from synth.config import SceneConfig
from synth.motion import DECIMALS, Curve, control_times, drift, make_curve, make_curves, round_values, wander
from synth.scene import Light, Scene, SceneObject, Shadow, Wave

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

_SHARE = 0.0, 1.0
_EITHER_WAY = -1.0, 1.0
_TURN = 0.0, 2 * math.pi


def add_effects(scene: Scene, config: SceneConfig) -> Scene:
    """The same scene with its effects drawn; a pure function of the configuration and the scene's coordinates.

    Args:
        scene: a scene without effects.
        config: which effects there are and how strong.
    """
    if _is_plain(config):
        return scene
    rng = generator(scene.seed, 0, scene.index, "scene effects")
    shutter, loss, shallow, blur, end = draw_uniform(rng, _SHARE, _SHARE, _SHARE, (0.3, 1.0), FOCUS_DEPTHS)
    defocus = config.defocus_blur * blur if shallow < config.defocus else 0.0
    return replace(
        scene,
        light=_draw_light(rng, config),
        shadow=_draw_shadow(rng, config),
        shutter=_rounded(shutter * config.shutter),
        quality_loss=int(loss * (config.quality_loss + 1)),
        background=replace(scene.background, defocus=_rounded(defocus)),
        objects=_draw_looks(rng, config, scene.objects, _blurs(scene.objects, defocus, end)),
    )


def _is_plain(config: SceneConfig) -> bool:
    """Whether there are no effects at all: then nothing needs to be drawn."""
    bent, lit = config.deformation, config.light > 1 or config.warmth or config.shadow
    coloured, blurred = config.colour_jitter or config.flicker, config.shutter or config.defocus
    return not (bent or lit or coloured or blurred or config.quality_loss)


def _draw_light(rng: np.random.Generator, config: SceneConfig) -> Light:
    bright_first, bright_last, warm_first, warm_last = draw_uniform(rng, *[_EITHER_WAY] * 4)
    brightness = config.light ** drift(bright_first, bright_last)
    return Light(make_curve(brightness), make_curve(config.warmth * drift(warm_first, warm_last)))


def _draw_shadow(rng: np.random.Generator, config: SceneConfig) -> Shadow:
    """A shadow that falls down, to the left or right, as of a light above."""
    chance, strength, angle, distance, softness = draw_uniform(
        rng, _SHARE, (0.4, 1.0), (10.0, 170.0), SHADOW_OFFSETS, SHADOW_SOFTNESS
    )
    strength *= config.shadow_strength
    if chance >= config.shadow or not strength:
        return Shadow()
    x, y = distance * math.cos(math.radians(angle)), distance * math.sin(math.radians(angle))
    return Shadow(_rounded(strength), _rounded(x), _rounded(y), _rounded(softness))


def _draw_looks(
    rng: np.random.Generator, config: SceneConfig, items: tuple[SceneObject, ...], blurs: list[float]
) -> tuple[SceneObject, ...]:
    """The objects in colours of their own, wavering, bent, and blurred as is said."""
    gains = round_values(1.0 + config.colour_jitter * rng.uniform(-1.0, 1.0, (len(items), 3))).tolist()
    brightness = make_curves(1.0 + wander(rng, config.flicker, len(items)))
    waves = _draw_waves(rng, config.deformation, len(items)) if config.deformation else [(Wave(),)] * len(items)
    return tuple(
        replace(item, red=red, green=green, blue=blue, brightness=wavering, defocus=blur, waves=bent)
        for item, (red, green, blue), wavering, blur, bent in zip(items, gains, brightness, blurs, waves, strict=True)
    )


def _draw_waves(rng: np.random.Generator, largest: float, count: int) -> list[tuple[Wave, ...]]:
    """Waves of ``count`` objects, whose amplitudes add up to at most ``largest``."""
    totals = draw_columns(rng, count, (0.0, largest), (0.3, 0.7))[..., 0].T.tolist()
    amplitudes = [total * part for total, share in totals for part in (share, 1.0 - share)]
    *numbers, start, cycles = draw_columns(rng, len(amplitudes), WAVE_LENGTHS, _TURN, _TURN, _SHARE, _EITHER_WAY)
    phases = make_curves(start + cycles * control_times())
    waves = [
        _wave(1.0 / length, along, amplitude, push, phase)
        for (length, along, push), amplitude, phase in zip(
            np.concatenate(numbers, axis=1).tolist(), amplitudes, phases, strict=True
        )
    ]
    return [tuple(waves[first : first + NUM_WAVES]) for first in range(0, len(waves), NUM_WAVES)]


def _wave(frequency: float, along: float, amplitude: float, push: float, phase: Curve) -> Wave:
    """A wave that runs and pushes in directions given as angles."""
    return Wave(
        _rounded(frequency * math.cos(along)),
        _rounded(frequency * math.sin(along)),
        _rounded(amplitude * math.cos(push)),
        _rounded(amplitude * math.sin(push)),
        phase,
    )


def _blurs(items: tuple[SceneObject, ...], defocus: float, end: float) -> list[float]:
    """How blurred objects are, by how far they are between the end of the depth of field and the background.

    Args:
        items: the objects.
        defocus: of the background.
        end: of the depth of field; 0 is the nearest object, 1 the background.
    """
    depths = [item.depth[0] for item in items]
    places = [sum(other < depth for other in depths) / len(depths) for depth in depths]
    return [_rounded(defocus * max(0.0, place - end) / (1.0 - end)) for place in places]


def _rounded(value: float) -> float:
    return round(value, DECIMALS) + 0.0
