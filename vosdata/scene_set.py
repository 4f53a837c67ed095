"""Synthetic videos that are drawn while training goes on, named where a shard set could be named.

    synth:rich
    synth:hard?objects=data/raw/MSRA10K&backgrounds=data/raw/VOC2012&frames=16&scene.tilt=20

Behind ``synth:`` stands a preset (``vosdata synth --preset``); behind ``?`` options, joined by ``&``:

``objects``, ``backgrounds``  a source, as for ``vosdata synth``; may be repeated. Without: what the data root holds, or
                              else the built-in pictures
``frames``                    frames of a whole video, of which a snippet shows some; 8
``objects_per_video``         fewest-most objects; 1-5
``seed``                      of the scenes; that of the stream
``scenes``                    videos that count as one pass, where sets are weighed by size or make up an epoch; 10000
``scene.KEY``                 a key of :class:`synth.config.SceneConfig`

No video is ever drawn twice: the set's draw number n shows scene n, or, where that has no object that is large enough,
scene n + 2**40, n + 2 x 2**40, ... Scenes are those that ``vosdata synth`` with the same settings and seed makes.
"""

import hashlib
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

import numpy as np

from shards.errors import SourceError
from shards.index import IndexEntry
from synth.bank import PictureBank
from synth.compose import compose_scene
from synth.config import SynthConfig, make_config, parse_counts
from synth.estimate import estimate_areas
from synth.presets import PresetName
from synth.render import single_threaded_opencv
from synth.scene import SCENE_VERSION, Scene
from synth.sources import join_backgrounds, join_objects, open_backgrounds, open_objects
from synth.types import BackgroundSource, ObjectSource
from vosdata.raw_sources import background_specs, object_specs
from vosdata.world import data_root

PREFIX = "synth:"
"""What a name of such a set begins with."""

OTHER_SCENES = 2**40
"""Distance from a scene to the one that is drawn in its place."""

_OPTIONS = ("objects", "backgrounds", "frames", "objects_per_video", "seed", "scenes")


@dataclass(frozen=True, slots=True, eq=False)
class SceneEntry(IndexEntry):
    """What an index would say of a synthetic video; areas are estimated, and nothing is stored."""

    scene: Scene | None = None
    """The scene."""


def is_scene_set(name: object) -> bool:
    """Whether this names synthetic videos that are drawn on the fly."""
    return isinstance(name, str | Path) and str(name).startswith(PREFIX)


class SceneSet:
    """An endless set of synthetic videos; to the order of a stream, much as a :class:`shards.reader.ShardSet`.

    Thread-safe and picklable.
    """

    split = "train"
    fetches_whole_shards = False
    num_ahead = 0

    def __init__(self, name: str | Path) -> None:
        """Opens the sources of pictures.

        Args:
            name: as in this module's docstring.

        Raises:
            ValueError: preset, option or value is unknown.
            SourceError: a source is not there or has no pictures.
        """
        self.path = str(name)
        preset, options = _read_name(self.path)
        self.name = f"synth-{preset}"
        """What snippet keys begin with."""
        self.config = _config(self.path, preset, options)
        """What videos look like."""
        self.num_scenes = _whole(self.path, options, "scenes", 10_000, 1)
        """Videos that count as one pass."""
        self._seed = _whole(self.path, options, "seed", -1, 0)
        raw = data_root(None) / "raw"
        self.objects: ObjectSource = join_objects(
            [open_objects(spec) for spec in _all(options, "objects") or object_specs(raw)]
        )
        self.backgrounds: BackgroundSource = join_backgrounds(
            [open_backgrounds(spec) for spec in _all(options, "backgrounds") or background_specs(raw)]
        )
        for source in (self.objects, self.backgrounds):
            if len(source) == 0:
                raise SourceError(f"{self.path}: {source.name} holds no pictures")
        self._prepare()

    def _prepare(self) -> None:
        self._bank = PictureBank(self.objects, self.backgrounds)
        self._lock = threading.Lock()  # a bank is for one thread

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_bank", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def __repr__(self) -> str:
        return f"SceneSet({self.path!r})"

    def settled(self, seed: int, size: tuple[int, int]) -> "SceneSet":
        """The same set in a stream of that seed and training size (height, width)."""
        other: SceneSet = object.__new__(SceneSet)
        other.__setstate__({**self.__getstate__(), "config": self.config.model_copy(update={"size": size})})
        other._seed = seed if self._seed < 0 else self._seed
        return other

    @property
    def seed(self) -> int:
        """Of the scenes."""
        return max(self._seed, 0)

    @property
    def description(self) -> dict[str, Any]:
        """What a stream asks of dataset.json; the checksum stands for everything that determines the videos."""
        return {"checksum": self._checksum(), "frame_rate": self.config.frame_rate, "shards": []}

    def _checksum(self) -> str:
        content = {
            "scene_version": SCENE_VERSION,
            "synth": self.config.model_dump(mode="json", exclude={"quality", "frame_rate"}),
            "seed": self.seed,
            "sources": [self.objects.fingerprint(), self.backgrounds.fingerprint()],
        }
        return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()

    def entry(self, position: int) -> SceneEntry:
        """Draws scene number ``position`` and estimates what it shows.

        Raises:
            BadFileError: a picture that is drawn cannot be used.
        """
        with self._lock, single_threaded_opencv():
            scene = compose_scene(self.config, self.seed, position, self._bank)
            areas = estimate_areas(scene, self._bank, self.config.size, self.config.num_frames)
        return _entry(scene, areas, self)

    def read_ahead(self, entry: IndexEntry, first: int, last: int) -> None:
        """Nothing can be fetched ahead."""

    def prefetch(self, records: Iterable[int]) -> None:
        """Nothing can be fetched ahead."""


def _entry(scene: Scene, areas: np.ndarray[Any, np.dtype[np.int32]], of: SceneSet) -> SceneEntry:
    num_frames, num_objects = areas.shape
    name = f"{scene.index:06d}"
    nothing = np.zeros(num_frames, np.int64)
    return SceneEntry(
        key=name,
        sequence=name,
        shard=0,
        height=of.config.size[0],
        width=of.config.size[1],
        source=f"{of.objects.name} over {of.backgrounds.name}",
        licence=of.objects.licence,
        provenance=f"scene {scene.index} of seed {scene.seed}",
        json_offset=0,
        json_size=0,
        json_crc=0,
        frame_numbers=np.arange(num_frames),
        annotated=np.ones(num_frames, np.bool_),
        image_offsets=nothing,
        image_sizes=nothing.astype(np.int32),
        image_crcs=nothing.astype(np.uint32),
        mask_offsets=nothing,
        mask_sizes=nothing.astype(np.int32),
        mask_crcs=nothing.astype(np.uint32),
        object_ids=np.array([item.id for item in scene.objects], np.uint8),
        areas=areas,
        boxes=np.zeros((num_frames, num_objects, 4), np.int32),
        scene=scene,
    )


def _read_name(name: str) -> tuple[PresetName, list[tuple[str, str]]]:
    """Preset and options of a set's name.

    Raises:
        ValueError: the preset or an option is unknown.
    """
    text, _, query = name.removeprefix(PREFIX).partition("?")
    presets: tuple[PresetName, ...] = get_args(PresetName)
    preset = next((one for one in presets if one == text), None)
    if preset is None:
        raise ValueError(f"{name}: there is no preset {text!r}; synth: wants one of {', '.join(presets)}")
    options = []
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not equals or not (key in _OPTIONS or key.startswith("scene.")):
            raise ValueError(f"{name}: options are {', '.join(_OPTIONS)} and scene.KEY, each with =VALUE, got {part!r}")
        options.append((key, unquote(value)))
    return preset, options


def _config(name: str, preset: PresetName, options: list[tuple[str, str]]) -> SynthConfig:
    values: dict[str, Any] = {"num_frames": _whole(name, options, "frames", 8, 1)}
    for text in _all(options, "objects_per_video"):
        try:
            values["objects_per_video"] = parse_counts(text)
        except ValueError as error:
            raise ValueError(f"{name}: objects_per_video {error}") from None
    overrides = [f"{key}={value}" for key, value in options if key.startswith("scene.")]
    try:
        return make_config(values, overrides, preset)
    except ValueError as error:
        raise ValueError(f"{name}: {str(error).removeprefix('--set: ')}") from None


def _all(options: list[tuple[str, str]], key: str) -> list[str]:
    return [value for name, value in options if name == key]


def _whole(name: str, options: list[tuple[str, str]], key: str, default: int, least: int) -> int:
    found = _all(options, key)
    if not found:
        return default
    if not found[-1].isdecimal() or not least <= int(found[-1]) < 2**40:
        raise ValueError(f"{name}: {key} wants a whole number from {least} on, got {found[-1]!r}")
    return int(found[-1])
