"""A scene: everything that defines one synthetic video, as plain data.

A scene knows no pixels and no frame numbers. Time runs from 0 (first frame) to 1 (last frame), so a scene can be
rendered with any number of frames; positions are fractions of the frame's width and height, lengths are in frame
diagonals, angles in degrees, counter-clockwise as seen on screen; so it can be rendered at any size.

The world is what the camera sees when it rests: a point at (x, y) of the world is at (x, y) of the frame. Objects and
background are placed in the world, and the camera moves them together.

Stored form (``Scene.to_json``, version 3; all numbers are floats unless said otherwise; a *curve* is a list of control
values, see ``synth.motion``)::

    version     int     1
    seed, index int     coordinates the scene was drawn with
    aspect              width / height of the frame the scene was composed for
    quality_loss int    points of JPEG quality by which the frames lie below the best
    shutter             exposure of every frame as a share of the video's duration; 0 freezes all motion
    light               brightness: curve, gain of all colours; warmth: curve, by how much red gains and blue loses
    shadow              strength: 0 (none) to 1 (black); x, y: offset on screen, softness: sigma, both in the diagonals
                        that the objects have on screen
    camera              x, y: curves, centre of the view minus (0.5, 0.5), in fractions of the frame
                        zoom: curve, magnification; rotation: curve, roll of the camera in degrees
    background          source, name: str; number: int, index in the source; mirrored: bool
                        x, y: centre in the world; size: diagonal of the picture in frame diagonals
                        defocus: sigma of its blur in frame diagonals
    objects             list, ascending by id, of
        id              int     1..254, the value in the masks, the same in every frame
        source, name, number, mirrored      as for the background
        x, y            curves, centre of the cutout in the world
        size            curve, diagonal of the cutout's picture in frame diagonals
        rotation        curve, degrees
        depth           curve, the smaller the nearer; nearer objects hide farther ones
        role            "target", or "distractor" when it is a second copy of another object
        red, green, blue      gains of the cutout's colours
        brightness      curve, gain of all colours
        defocus         sigma of its blur in frame diagonals
        waves           list, at least one, of what bends the cutout (``synth.deform``), each with
                        frequency_x, frequency_y: cycles per diagonal of the cutout; amplitude_x, amplitude_y: in
                        diagonals; phase: curve, in cycles

Version 2 has the same form; a seed gave other scenes. Version 1 had nothing from ``quality_loss`` to ``shadow``, no
``defocus`` and nothing below ``depth``. Such scenes are still read and look as they did.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from shards.errors import SourceError
from synth.motion import Curve

SCENE_VERSION = 3
"""Raised when the form changes, and when the same seed gives other scenes: part of a set's configuration."""

READ_VERSIONS = (1, 2, 3)

Role: TypeAlias = Literal["target", "distractor"]


@dataclass(frozen=True, slots=True)
class Camera:
    """How the view moves over the world."""

    x: Curve
    """Centre of the view minus 0.5, in fractions of the frame's width."""

    y: Curve
    """Centre of the view minus 0.5, in fractions of the frame's height."""

    zoom: Curve
    """Magnification; 1 shows the world as it is."""

    rotation: Curve
    """Roll of the camera in degrees."""


@dataclass(frozen=True, slots=True)
class Light:
    """How the light changes over the whole picture."""

    brightness: Curve = (1.0,)
    """Gain of all colours."""

    warmth: Curve = (0.0,)
    """Red is multiplied by 1 + warmth, blue by 1 - warmth."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """The shadow that every object casts on what lies behind it."""

    strength: float = 0.0
    """Share of the light that it takes away; 0 is no shadow."""

    x: float = 0.0
    """Offset to the right, in the object's diagonal on screen."""

    y: float = 0.0
    """Offset downwards, in the object's diagonal on screen."""

    softness: float = 0.0
    """Sigma of its edge, in the object's diagonal."""


@dataclass(frozen=True, slots=True)
class Wave:
    """A travelling wave that bends a cutout; what it does is defined in :mod:`synth.deform`."""

    frequency_x: float = 0.0
    """Cycles per diagonal of the cutout, along its picture's x."""

    frequency_y: float = 0.0
    """Cycles per diagonal of the cutout, along its picture's y."""

    amplitude_x: float = 0.0
    """Displacement along x, in diagonals of the cutout."""

    amplitude_y: float = 0.0
    """Displacement along y, in diagonals of the cutout."""

    phase: Curve = (0.0,)
    """Phase in cycles."""


@dataclass(frozen=True, slots=True)
class SceneBackground:
    """The photograph behind everything and where it lies in the world."""

    source: str
    """Name of the source."""

    name: str
    """Name of the picture within its source."""

    number: int
    """Index of the picture within its source when the scene was drawn; the name decides."""

    mirrored: bool
    """Whether the picture is mirrored left to right."""

    x: float
    """Centre of the picture in the world, in fractions of the frame's width."""

    y: float
    """Centre of the picture in the world, in fractions of the frame's height."""

    size: float
    """Diagonal of the picture in frame diagonals."""

    defocus: float = 0.0
    """Sigma of its blur in frame diagonals; 0 is sharp."""


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One cutout and its path."""

    id: int
    """Object id, 1..254: the value of its pixels in every mask."""

    source: str
    """Name of the source."""

    name: str
    """Name of the cutout within its source."""

    number: int
    """Index of the cutout within its source when the scene was drawn; the name decides."""

    mirrored: bool
    """Whether the cutout is mirrored left to right."""

    x: Curve
    """Centre of the cutout's picture in the world, in fractions of the frame's width."""

    y: Curve
    """Centre of the cutout's picture in the world, in fractions of the frame's height."""

    size: Curve
    """Diagonal of the cutout's picture in frame diagonals."""

    rotation: Curve
    """Rotation in degrees, counter-clockwise as seen on screen."""

    depth: Curve
    """Distance order: objects of smaller depth hide those of larger depth; ties go to the smaller id."""

    role: Role = "target"
    """Distractor when it is a second copy of another object."""

    red: float = 1.0
    """Gain of the cutout's red."""

    green: float = 1.0
    """Gain of the cutout's green."""

    blue: float = 1.0
    """Gain of the cutout's blue."""

    brightness: Curve = (1.0,)
    """Gain of all its colours."""

    defocus: float = 0.0
    """Sigma of its blur in frame diagonals; 0 is sharp."""

    waves: tuple[Wave, ...] = (Wave(),)
    """What bends it, at least one; a rigid object has one of no amplitude."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that defines one synthetic video."""

    seed: int
    """Seed the scene was drawn with."""

    index: int
    """Index of the scene, 0, 1, ... within its data set."""

    aspect: float
    """Width divided by height of the frame the scene was composed for."""

    camera: Camera
    """How the view moves."""

    background: SceneBackground
    """The photograph behind everything."""

    objects: tuple[SceneObject, ...]
    """The objects, ascending by id."""

    quality_loss: int = 0
    """Points of JPEG quality by which the frames lie below the best."""

    shutter: float = 0.0
    """Exposure of every frame as a share of the video's duration; never longer than from one frame to the next."""

    light: Light = Light()
    """How the light changes."""

    shadow: Shadow = Shadow()
    """What shadow the objects cast."""

    def jpeg_quality(self, best: int) -> int:
        """JPEG quality of the frames, 1..100, of a set whose best is ``best``."""
        return max(1, best - self.quality_loss)

    def to_json(self) -> dict[str, Any]:
        """The scene as JSON-serialisable data: equal keys and types for every scene, floats that survive exactly."""
        return {
            "version": SCENE_VERSION,
            **_plain(self),
            "camera": _plain(self.camera),
            "background": _plain(self.background),
            "objects": [{**_plain(item), "waves": [_plain(wave) for wave in item.waves]} for item in self.objects],
            "light": _plain(self.light),
            "shadow": _plain(self.shadow),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str | bytes) -> "Scene":
        """Reads a scene back, from parsed JSON or its text.

        Raises:
            SourceError: the data is no scene, or one of another version.
        """
        try:
            values = dict(json.loads(data) if isinstance(data, str | bytes) else data)
            version = values.pop("version", None)
            if version not in READ_VERSIONS:
                raise SourceError(
                    f"scene: expected version {' or '.join(map(str, READ_VERSIONS))}, found {version}; "
                    "use the vosdata that made it"
                )
            if version > 1:  # version 1 had nothing of these, and the defaults are nothing
                values["light"] = Light(**_curves(values["light"]))
                values["shadow"] = Shadow(**values["shadow"])
            values["camera"] = Camera(**_curves(values["camera"]))
            values["background"] = SceneBackground(**values["background"])
            values["objects"] = tuple(_read_object(item) for item in values["objects"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"scene: this is not a scene as vosdata writes it: {error}") from error


def _read_object(values: Mapping[str, Any]) -> SceneObject:
    """An object; of version 1, which had no waves, a rigid one."""
    waves = tuple(Wave(**_curves(wave)) for wave in values.get("waves", ())) or (Wave(),)
    curves = {key: value for key, value in values.items() if key != "waves"}
    return SceneObject(**_curves(curves), waves=waves)


def _plain(part: Any) -> dict[str, Any]:
    """A part of a scene by the names of its fields, with lists for curves; parts of its own stay as they are."""
    values = ((name, getattr(part, name)) for name in part.__slots__)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


def _curves(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values with curves for lists."""
    return {
        key: tuple(float(item) for item in value) if isinstance(value, list | tuple) else value
        for key, value in values.items()
    }
