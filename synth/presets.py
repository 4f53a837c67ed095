"""Named configurations of scenes: what ``vosdata synth --preset`` takes.

``paper``  what the two sentences of the A-GAME paper say and nothing more: cutouts pasted on a still photograph, each
           moved across it straight on, neither turned nor resized nor mirrored
``rich``   the default, after real video: bent paths, turning, change of size and shape under a gentle camera; light
           that drifts, shadows, motion blur, depth of field and compression; some objects leave, enter or come back
``hard``   smaller objects, faster and farther; strong turning and change of size; some go to and fro or stop and start;
           the order in depth changes; some are copies of others; a restless camera, poor light and poor JPEGs;
           objects may be mostly hidden at first and spend half of the video outside the frame

A preset only chooses values of :class:`synth.config.SceneConfig`; ``--set scene.key=value`` still wins.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

PresetName = Literal["paper", "rich", "hard"]

PRESETS: Mapping[PresetName, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": MappingProxyType(
            {
                "acceleration": 0.0,
                "sway": 0.0,
                "tilt": 0.0,
                "rotation": 0.0,
                "scale_change": 1.0,
                "mirror": 0.0,
                "camera_pan": 0.0,
                "camera_zoom": 1.0,
                "camera_rotation": 0.0,
                "camera_shake": 0.0,
                "enter": 0.0,
                "leave": 0.0,
                "come_back": 0.0,
                "deformation": 0.0,
                "light": 1.0,
                "warmth": 0.0,
                "colour_jitter": 0.0,
                "flicker": 0.0,
                "shutter": 0.0,
                "shadow": 0.0,
                "shadow_strength": 0.0,
                "defocus": 0.0,
                "defocus_blur": 0.0,
                "quality_loss": 0,
            }
        ),
        "rich": MappingProxyType({}),
        "hard": MappingProxyType(
            {
                "area": (0.005, 0.15),
                "displacement": (0.2, 0.8),
                "acceleration": 1.2,
                "sway": 0.05,
                "oscillation": 0.15,
                "pause": 0.15,
                "order_change": 0.5,
                "distractor": 0.25,
                "tilt": 45.0,
                "rotation": 120.0,
                "scale_change": 2.5,
                "camera_pan": 0.15,
                "camera_zoom": 1.25,
                "camera_rotation": 6.0,
                "camera_shake": 0.012,
                "enter": 0.12,
                "leave": 0.08,
                "come_back": 0.15,
                "deformation": 0.05,
                "light": 1.6,
                "warmth": 0.15,
                "colour_jitter": 0.3,
                "flicker": 0.15,
                "shutter": 0.08,
                "shadow": 0.6,
                "shadow_strength": 0.7,
                "defocus": 0.5,
                "defocus_blur": 0.008,
                "quality_loss": 60,
                "first_visible": 0.3,
                "in_frame": 0.5,
            }
        ),
    }
)
"""Values of :class:`~synth.config.SceneConfig` that differ from its defaults; the defaults are ``rich``."""
