"""The hidden file that an export ends with: what was exported, so that it can be continued, recognised and read back.

``.vosdata-export.json`` is written last; its presence means that the export is complete. It is hidden because tools
that look at all files of a folder, as Hugging Face ``load_dataset`` does, must not take it for data.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.errors import DatasetError
from shards.manifest import canonical_text, shard_infos
from shards.reader import ShardSet

NOTE_FILE = ".vosdata-export.json"
NOTE_VERSION = 1


@dataclass(frozen=True, slots=True)
class ExportedSet:
    """What an export remembers of a shard set besides its records."""

    name: str
    """Name of the shard set, such as ``davis2017-train``."""

    split: str
    """Split of the dataset."""

    title: str
    """Heading of its card."""

    licence: str
    """Licence of the pixels."""

    frame_size: tuple[int, int] | None
    """Height and width in pixels, None when they vary."""

    frame_rate: float | None
    """Frames per second as stored, None when unknown."""

    source_fingerprint: str
    """Hash of what the set was made from."""

    content: str
    """Checksum of its dataset.json; differs whenever a byte of the set does."""

    configuration: dict[str, Any]
    """How the set was made."""

    shards: tuple[int, ...]
    """Numbers of its shards, ascending."""

    num_records: int
    """Records in it."""

    num_frames: int
    """Frames in it."""

    @classmethod
    def of(cls, shard_set: ShardSet) -> "ExportedSet":
        """What there is to remember of a set."""
        said = shard_set.description
        return cls(
            name=shard_set.name,
            split=shard_set.split,
            title=said["title"],
            licence=said["licence"],
            frame_size=None if said["frame_size"] is None else (said["frame_size"][0], said["frame_size"][1]),
            frame_rate=said["frame_rate"],
            source_fingerprint=said["source_fingerprint"],
            content=said["checksum"],
            configuration=said["configuration"],
            shards=tuple(sorted(shard_infos(said))),
            num_records=said["num_records"],
            num_frames=said["num_frames"],
        )

    @property
    def dataset(self) -> str:
        """Name of the dataset that the set is a split of: ``davis2017`` of ``davis2017-train``."""
        return self.name.removesuffix(f"-{self.split}")


@dataclass(frozen=True, slots=True)
class ExportNote:
    """Content of the file."""

    form: str
    """What was written: ``parquet``, ``hf``, ``davis``, ``youtube-vos`` or ``webdataset``."""

    sets: tuple[ExportedSet, ...]
    """What was exported."""

    def configuration(self) -> dict[str, Any]:
        """Everything that determines the export's bytes."""
        return {
            "export_version": NOTE_VERSION,
            "format": self.form,
            "sets": {one.name: one.content for one in self.sets},
        }

    def to_bytes(self) -> bytes:
        """The bytes of the file."""
        return canonical_text(
            {"export_version": NOTE_VERSION, "format": self.form, "sets": [asdict(one) for one in self.sets]}
        )


def read_note(folder: Path) -> ExportNote | None:
    """Reads the note of an export; None when the folder holds no complete one.

    Raises:
        DatasetError: the file is there but is not what this version writes.
    """
    path = folder / NOTE_FILE
    try:
        content = json.loads(path.read_bytes())
        version = content["export_version"]
        if version != NOTE_VERSION:
            raise DatasetError(f"{path} has export version {version}; this vosdata reads version {NOTE_VERSION}")
        return ExportNote(content["format"], tuple(_read_set(one) for one in content["sets"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is damaged ({error!r}); export again into another folder") from error


def _read_set(content: dict[str, Any]) -> ExportedSet:
    size = content["frame_size"]
    read = {**content, "frame_size": None if size is None else (size[0], size[1]), "shards": tuple(content["shards"])}
    return ExportedSet(**read)
