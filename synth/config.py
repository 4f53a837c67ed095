"""What can be chosen about SynthVOS: every key with its unit and range.

The A-GAME paper says two things of SynthVOS: 1 to 5 objects of MSRA10k are pasted on an image of VOC2012, and the
objects are moved across the image. Everything else here is our choice, and a key; :mod:`synth.presets` names
combinations of them.
"""

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from synth.presets import PRESETS, PresetName


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the first number must not be larger than the second, got {bounds[0]:g} and {bounds[1]:g}")
    return bounds


def _pipeline(value: Any) -> Any:
    from synth.pipelines import read_pipeline

    return None if value is None else read_pipeline(value)


Pipeline = Annotated[dict[str, Any] | None, BeforeValidator(_pipeline)]
Share = Annotated[float, Field(ge=0, le=1)]
AreaRange = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]], AfterValidator(_ascending)
]
DistanceRange = Annotated[
    tuple[Annotated[float, Field(ge=0, le=2)], Annotated[float, Field(ge=0, le=2)]], AfterValidator(_ascending)
]


class SceneConfig(BaseModel):
    """How scenes are drawn. Distances are in frame diagonals, angles in degrees, time in whole videos."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    area: AreaRange = (0.02, 0.25)
    """Share of the frame that an object covers when the video starts; drawn log-uniformly from this range."""

    max_extent: Annotated[float, Field(gt=0, le=4)] = 0.85
    """Largest width or height of an object's box at the start, as a share of the frame's width or height."""

    displacement: DistanceRange = (0.10, 0.40)
    """Distance from an object's first place to its last, in frame diagonals; uniform."""

    acceleration: Annotated[float, Field(ge=0, le=10)] = 0.3
    """Largest change of an object's velocity, in frame diagonals per video; its direction is free, so paths bend."""

    sway: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Largest amplitude of a gentle sine across an object's path, in frame diagonals."""

    oscillation: Share = 0.0
    """Probability that an object goes to and fro, one to two times, over the distance that it would have crossed."""

    pause: Share = 0.0
    """Probability that an object stands still in the world for 50 to 65 % of the video, and goes faster in the rest."""

    order_change: Share = 0.0
    """Probability, for two objects next to each other in depth, that they change places in depth while apart."""

    distractor: Share = 0.0
    """Probability that an object but the first is a second copy of an earlier one, with an id and a path of its own."""

    enter: Share = 0.06
    """Probability that an object, but for one, is out of the frame at first and comes in later."""

    leave: Share = 0.04
    """Probability that an object leaves the frame for good."""

    come_back: Share = 0.06
    """Probability that an object leaves the frame and comes back. Who is asked to enter, leave or come back does so
    only where that takes no more than half a frame diagonal; ``in_frame`` does not hold for them."""

    deformation: Annotated[float, Field(ge=0, le=0.06)] = 0.03
    """Largest displacement by which waves bend an object, in diagonals of its cutout; 0 leaves objects rigid."""

    tilt: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Largest rotation of an object in the middle of the video, in degrees either way."""

    rotation: Annotated[float, Field(ge=0, le=3600)] = 40.0
    """Largest rotation of an object between first and last frame, in degrees either way."""

    scale_change: Annotated[float, Field(ge=1, le=10)] = 1.5
    """Largest ratio between an object's last and first size, or first and last; drawn log-uniformly."""

    mirror: Share = 0.5
    """Probability that a cutout, or the background, is mirrored left to right."""

    camera_pan: Annotated[float, Field(ge=0, le=1)] = 0.06
    """Largest distance the camera pans, in frame diagonals. 0 leaves the background a still photograph."""

    camera_zoom: Annotated[float, Field(ge=1, le=4)] = 1.08
    """Largest ratio by which the camera zooms in or out over the video. 1 is none."""

    camera_rotation: Annotated[float, Field(ge=0, le=45)] = 1.5
    """Largest roll of the camera over the video, in degrees either way."""

    camera_shake: Annotated[float, Field(ge=0, le=0.1)] = 0.004
    """Largest distance by which the hand that holds the camera trembles, along x and along y, in frame diagonals."""

    light: Annotated[float, Field(ge=1, le=4)] = 1.2
    """Largest ratio between the scene's brightness at first or last and the photographs'; 1 is none."""

    warmth: Annotated[float, Field(ge=0, le=0.5)] = 0.06
    """Largest share by which red gains and blue loses, or the other way round, at first or last."""

    colour_jitter: Annotated[float, Field(ge=0, le=0.9)] = 0.15
    """Largest share by which red, green and blue of an object differ from its cutout's, each for itself."""

    flicker: Annotated[float, Field(ge=0, le=0.9)] = 0.05
    """Largest share by which an object's brightness wavers from frame to frame."""

    shutter: Annotated[float, Field(ge=0, le=0.5)] = 0.04
    """Longest exposure, as a share of the video's duration: what moves is blurred along its way on screen. It is never
    longer than from one frame to the next. Masks show where things are in the middle of the exposure."""

    shadow: Share = 0.5
    """Probability that the objects of a video cast a soft shadow. Masks are not changed by it."""

    shadow_strength: Share = 0.5
    """Largest share of the light that a shadow takes away."""

    defocus: Share = 0.3
    """Probability that a video has a shallow depth of field: the background is blurred, and objects far behind the
    nearest one less so. Masks stay sharp."""

    defocus_blur: Annotated[float, Field(ge=0, le=0.05)] = 0.005
    """Largest sigma of that blur, in frame diagonals."""

    quality_loss: Annotated[int, Field(ge=0, le=99)] = 25
    """Largest number of points by which a video's JPEG quality lies below ``quality``; uniform."""

    first_visible: Share = 0.5
    """Least share of every object that the first frame shows: inside the frame and behind no other object."""

    in_frame: Share = 0.65
    """Least share of every object that lies inside the frame, on average over the video."""


class SynthConfig(BaseModel):
    """A whole synthetic data set besides seed, number of videos and sources."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    num_frames: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Frames per video."""

    size: tuple[Annotated[int, Field(ge=16, le=8192)], Annotated[int, Field(ge=16, le=8192)]] = (240, 432)
    """Height and width of the frames in pixels."""

    frame_rate: Annotated[float, Field(gt=0, le=1000)] = 24.0
    """Frames per second that viewers should assume; moves nothing."""

    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """Best JPEG quality of the frames; a video lies below it by what its scene says (``scene.quality_loss``)."""

    objects_per_video: tuple[Annotated[int, Field(ge=1, le=254)], Annotated[int, Field(ge=1, le=254)]] = (1, 5)
    """Fewest and most objects in a video; uniform."""

    cutout_pipeline: Pipeline = None
    """albumentations pipeline that each cutout goes through once per scene, seeded per scene and object: the path of a
    JSON or YAML file as ``albumentations.save`` writes it, or what it holds, which is part of the configuration."""

    background_pipeline: Pipeline = None
    """The same for the background."""

    scene: SceneConfig = SceneConfig()
    """How scenes are drawn."""

    @model_validator(mode="after")
    def _objects_ascend(self) -> "SynthConfig":
        if self.objects_per_video[0] > self.objects_per_video[1]:
            low, high = self.objects_per_video
            raise ValueError(f"objects_per_video: the fewest ({low}) must not exceed the most ({high})")
        return self


def make_config(values: dict[str, Any], overrides: Iterable[str] = (), preset: PresetName = "rich") -> SynthConfig:
    """Builds a checked configuration.

    Args:
        values: top-level keys of :class:`SynthConfig`; missing ones keep their default. Keys below ``scene`` win over
            the preset's.
        overrides: ``key=value`` texts with dotted keys, such as ``scene.area=0.02,0.1``; the value is YAML, and a comma
            makes a list. They win over ``values``.
        preset: which combination of values below ``scene`` to start from (:mod:`synth.presets`).

    Raises:
        ValueError: an unknown key (the message names the nearest one), or a value outside its range.
    """
    merged: dict[str, Any] = {**values, "scene": {**PRESETS[preset], **values.get("scene", {})}}
    for override in overrides:
        key, value = _parse_override(override)
        *groups, last = key.split(".")
        target = merged
        for group in groups:
            target = target.setdefault(group, {})
        target[last] = value
    try:
        return SynthConfig.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{key}: {message}, got {first['input']!r}" if key else message) from None


def parse_counts(text: str) -> tuple[int, int]:
    """Fewest and most of ``"1-5"``, or of ``"3"`` for as many at least as at most.

    Raises:
        ValueError: it is neither.
    """
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if match is None:
        raise ValueError(f"wants FEWEST-MOST, such as 1-5, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def _parse_override(override: str) -> tuple[str, Any]:
    """Splits ``key=value`` and checks the key."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals:
        raise ValueError(f"--set wants key=value, such as scene.area=0.02,0.1, got {override!r}")
    known = known_keys()
    if key not in known:
        by_last_part = {name.rpartition(".")[2]: name for name in known}
        near = difflib.get_close_matches(key.rpartition(".")[2], by_last_part, n=1)
        hint = f"did you mean {by_last_part[near[0]]}?" if near else f"known keys: {', '.join(known)}"
        raise ValueError(f"--set: unknown key {key!r}; {hint}")
    try:
        return key, yaml.safe_load(f"[{text}]" if "," in text and not text.strip().startswith("[") else text)
    except yaml.YAMLError:
        raise ValueError(f"--set {key}: cannot read the value {text!r}") from None


def known_keys() -> list[str]:
    """Every key that an override may name."""
    top = [key for key in SynthConfig.model_fields if key != "scene"]
    return top + [f"scene.{key}" for key in SceneConfig.model_fields]
