"""Reads an export back as shard sets: same records, same bytes of every tar.

The folder forms (davis, youtube-vos) are read by ``vosdata shard`` like any dataset; this is for the others.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.errors import DatasetError
from shards.format import shard_name
from shards.plan import SetDescription, Skipped
from shards.types import Record
from vosdata.export.note import NOTE_FILE, ExportedSet, read_note
from vosdata.export.parquet import parquet_path, read_parquet
from vosdata.export.tars import read_frame_tar

_READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    "parquet": read_parquet,
    "hf": read_parquet,
    "webdataset": read_frame_tar,
}


@dataclass(frozen=True, slots=True)
class RebuildPlan:
    """How one set of an export becomes a shard set again; a ``ShardPlan`` that pickles."""

    folder: Path
    """The export."""

    form: str
    """Its form."""

    exported: ExportedSet
    """What it remembers of the set."""

    @property
    def name(self) -> str:
        """Name of the shard set."""
        return self.exported.name

    @property
    def split(self) -> str:
        """Split of the dataset."""
        return self.exported.split

    @property
    def num_shards(self) -> int:
        """Number of shards; those between that had no records stay without a tar."""
        return self.exported.shards[-1] + 1

    @property
    def num_records(self) -> int:
        """Number of records."""
        return self.exported.num_records

    def path(self, shard: int) -> Path:
        """The file that holds the records of a shard."""
        name = self.name
        if self.form == "webdataset":
            return self.folder / shard_name(name, shard)
        return self.folder / parquet_path(name, shard, "data/" if self.form == "hf" else "")

    def configuration(self) -> dict[str, Any]:
        """Everything that the bytes depend on: how the set was made first, and the files it is read from."""
        sizes = [[path.name, path.stat().st_size] for path in map(self.path, self.exported.shards)]
        return {
            "made_by": "export",
            "read_from": self.form,
            "content": self.exported.content,
            "files": hashlib.blake2b(repr(sizes).encode(), digest_size=16).hexdigest(),
            "first_made": self.exported.configuration,
        }

    def records(self, shard: int) -> Iterator[Record | Skipped]:
        """Reads the records of one shard.

        Raises:
            DatasetError: its file cannot be read.
        """
        if shard in self.exported.shards:
            yield from _READERS[self.form](self.path(shard))

    def description(self) -> SetDescription:
        """What the set said about itself."""
        return SetDescription(
            frame_size=self.exported.frame_size,
            frame_rate=self.exported.frame_rate,
            source_fingerprint=self.exported.source_fingerprint,
            licence=self.exported.licence,
            title=self.exported.title,
            text=f"{self.exported.title}, read back from a {self.form} export with all its bytes.",
        )


def plan_rebuild(folder: Path) -> list[RebuildPlan]:
    """Lists the sets of an export.

    Args:
        folder: what ``vosdata export`` wrote as parquet, hf or webdataset.

    Raises:
        DatasetError: it holds no such export, or files of it are missing.
    """
    if not folder.is_dir():
        raise DatasetError(
            f"{folder}: no such folder" if not folder.exists() else f"{folder} is a file, expected a folder"
        )
    note = read_note(folder)
    if note is None:
        raise DatasetError(
            f"{folder} holds no complete export (no {NOTE_FILE}). Expected what vosdata export wrote as "
            f"{', '.join(_READERS)}; vosdata shard packs datasets"
        )
    if note.form not in _READERS:
        raise DatasetError(
            f"{folder} is an export in the layout of {note.form}, which vosdata shard reads: name it there"
        )
    plans = [RebuildPlan(folder, note.form, one) for one in note.sets]
    for plan in plans:
        missing = next((path for path in map(plan.path, plan.exported.shards) if not path.is_file()), None)
        if missing is not None:
            raise DatasetError(f"{missing} is missing; run the export again, or copy all of its files")
    return plans
