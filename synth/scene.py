"""A scene: everything that defines one synthetic video, as plain data.

A scene knows no pixels and no frame numbers. Time runs from 0 (first frame) to 1 (last frame), so a scene can be
rendered with any number of frames; positions are fractions of the frame's width and height, lengths are in frame
diagonals, angles in degrees, counter-clockwise as seen on screen; so it can be rendered at any size.

The world is what the camera sees when it rests: a point at (x, y) of the world is at (x, y) of the frame. Objects and
background are placed in the world, and the camera moves them together.

Stored form (``Scene.to_json``, version 1; all numbers are floats unless said otherwise; a *curve* is a list of control
values, see ``synth.motion``)::

    version     int     1
    seed, index int     coordinates the scene was drawn with
    aspect              width / height of the frame the scene was composed for
    camera              x, y: curves, centre of the view minus (0.5, 0.5), in fractions of the frame
                        zoom: curve, magnification; rotation: curve, roll of the camera in degrees
    background          source, name: str; number: int, index in the source; mirrored: bool
                        x, y: centre in the world; size: diagonal of the picture in frame diagonals
    objects             list, ascending by id, of
        id              int     1..254, the value in the masks, the same in every frame
        source, name, number, mirrored      as for the background
        x, y            curves, centre of the cutout in the world
        size            curve, diagonal of the cutout's picture in frame diagonals
        rotation        curve, degrees
        depth           curve, the smaller the nearer; nearer objects hide farther ones
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shards.errors import SourceError
from synth.motion import Curve

SCENE_VERSION = 1


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

    def to_json(self) -> dict[str, Any]:
        """The scene as JSON-serialisable data: equal keys and types for every scene, floats that survive exactly."""
        values = asdict(self)
        values["objects"] = [_lists(item) for item in values["objects"]]
        return {"version": SCENE_VERSION, **values, "camera": _lists(values["camera"])}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str | bytes) -> "Scene":
        """Reads a scene back, from parsed JSON or its text.

        Raises:
            SourceError: the data is no scene, or one of another version.
        """
        try:
            values = dict(json.loads(data) if isinstance(data, str | bytes) else data)
            version = values.pop("version", None)
            if version != SCENE_VERSION:
                raise SourceError(
                    f"scene: expected version {SCENE_VERSION}, found {version}; use the vosdata that made it"
                )
            values["camera"] = Camera(**_curves(values["camera"]))
            values["background"] = SceneBackground(**values["background"])
            values["objects"] = tuple(SceneObject(**_curves(item)) for item in values["objects"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"scene: this is not a scene as vosdata writes it: {error}") from error


def _lists(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _curves(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(float(item) for item in value) if isinstance(value, list | tuple) else value
        for key, value in values.items()
    }
