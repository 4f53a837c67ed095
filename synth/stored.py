"""Scenes that were drawn before, to be rendered again: out of a shard set's records, or out of a parquet file.

A scene file, as ``vosdata synth --out SCENES.parquet`` writes it, has one row per scene and the columns ``index``
(int64) and ``scene`` (JSON text, :mod:`synth.scene`); the file's metadata ``vosdata`` is the configuration that drew
them, as JSON. The parquet form of ``vosdata export`` is read too: its column ``extra`` holds the scenes.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shards.atomic import atomic_file
from shards.errors import SourceError
from shards.reader import ShardSet
from synth.scene import Scene
from synth.types import BackgroundSource, ObjectSource

_ROWS = 1000
"""Scenes per row group: about 3 MB of text, read at once."""

_METADATA = b"vosdata"


class StoredScenes(Protocol):
    """Numbered scenes. Picklable."""

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Configuration that drew them (``SynthPlan.configuration``); empty when it is not known."""

    def __len__(self) -> int:
        """Number of scenes."""

    def scene(self, number: int) -> Scene:
        """One scene, 0 <= number < len.

        Raises:
            SourceError: what is stored is no scene.
        """


def open_scenes(spec: str) -> StoredScenes:
    """Opens stored scenes.

    Args:
        spec: a shard set's folder or URL, or a parquet file.

    Raises:
        ShardError: there is no complete shard set.
        SourceError: the parquet file cannot be read or holds no scenes, or the shard set's records have none.
    """
    stored: StoredScenes = ParquetScenes(Path(spec)) if spec.endswith(".parquet") else ShardScenes(ShardSet(spec))
    if len(stored) == 0:
        raise SourceError(f"{spec} holds no scenes")
    stored.scene(0)
    return stored


@dataclass(frozen=True, slots=True)
class ShardScenes:
    """Scenes of a shard set's records."""

    shard_set: ShardSet
    """The set."""

    @property
    def configuration(self) -> Mapping[str, Any]:
        """What dataset.json has."""
        found = self.shard_set.description["configuration"]
        return found if found.get("maker") == "synthvos" else {}

    def __len__(self) -> int:
        return len(self.shard_set)

    def scene(self, number: int) -> Scene:
        """The scene of a record."""
        content = self.shard_set.record_json(number)
        if "scene" not in content:
            raise SourceError(
                f"{self.shard_set.path}: record {content['key']} has no scene; only sets of vosdata synth have"
            )
        return Scene.from_json(content["scene"])


class ParquetScenes:
    """Scenes of a parquet file, read a row group at a time. For one thread.

    Args:
        path: the file.

    Raises:
        SourceError: it cannot be read, or has no column of scenes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            metadata, schema = file.metadata, file.schema_arrow
            sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self.configuration: Mapping[str, Any] = json.loads((schema.metadata or {}).get(_METADATA, b"{}"))
        """What the file's metadata says."""
        column = next((name for name in ("scene", "extra") if name in schema.names), None)
        if column is None:
            raise SourceError(f"{path} holds no scenes: it has neither a column 'scene' nor 'extra'")
        self._column = column
        self._starts = np.cumsum([0, *sizes])
        self._group = -1
        self._texts: list[str] = []

    def __len__(self) -> int:
        return int(self._starts[-1])

    def scene(self, number: int) -> Scene:
        """The scene of a row."""
        group = int(np.searchsorted(self._starts, number, side="right")) - 1
        if group != self._group:
            with self._open() as file:
                self._texts = file.read_row_group(group, [self._column]).column(0).to_pylist()
            self._group = group
        text = self._texts[number - int(self._starts[group])]
        if self._column == "scene":
            return Scene.from_json(text)
        return Scene.from_json(json.loads(text).get("scene", {}))

    def _open(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.path)
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{self.path} cannot be read as parquet: {' '.join(str(error).split())}") from error


def write_scenes(path: Path, scenes: Iterable[Scene], configuration: Mapping[str, Any]) -> int:
    """Writes a scene file; returns the number of scenes."""
    schema = pa.schema([("index", pa.int64()), ("scene", pa.utf8())], {_METADATA: json.dumps(configuration)})
    count = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, path.parent) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        left = iter(scenes)
        while rows := list(islice(left, _ROWS)):
            indices = pa.array([scene.index for scene in rows], pa.int64())
            texts = pa.array([_text(scene) for scene in rows], pa.utf8())
            writer.write_batch(pa.RecordBatch.from_arrays([indices, texts], schema=schema))
            count += len(rows)
    return count


def digest_scenes(scenes: Iterable[Scene]) -> str:
    """Hash of scenes in their order."""
    digest = hashlib.sha256()
    for scene in scenes:
        digest.update(_text(scene).encode() + b"\n")
    return digest.hexdigest()


def check_pictures(scenes: Iterable[Scene], objects: ObjectSource, backgrounds: BackgroundSource) -> Iterator[Scene]:
    """Passes scenes on.

    Raises:
        SourceError: a picture that a scene names is in neither source.
    """
    held = set(objects.labels), set(backgrounds.labels)
    for scene in scenes:
        for name in {item.name for item in scene.objects} - held[0]:
            raise _missing(scene, name, objects)
        if scene.background.name not in held[1]:
            raise _missing(scene, scene.background.name, backgrounds)
        yield scene


def _missing(scene: Scene, name: str, source: ObjectSource | BackgroundSource) -> SourceError:
    return SourceError(
        f"{source.name}: scene {scene.index} names {name}, which is not among the {len(source)} pictures found here; "
        "give the sources that the scenes were made from with --objects and --backgrounds"
    )


def _text(scene: Scene) -> str:
    return json.dumps(scene.to_json(), separators=(",", ":"), allow_nan=False)
