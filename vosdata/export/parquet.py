"""Exports to parquet: one row per record, for sets whose records differ in length too.

One file per shard. Pictures and masks are lists of Hugging Face ``Image``: the files' own bytes, so that any tool that
knows parquet can read them and ``datasets`` shows them decoded, with masks as palette pictures whose indices are the
object ids. The ``hf`` form puts the files into ``data/`` and adds the dataset card of the Hub.

=============  ===================  ===========================================================================
column         type                 meaning
=============  ===================  ===========================================================================
key            string               key of the record
sequence       string               name as its dataset published it
height, width  int32                pixels
frame_numbers  list of int32        the integers in the frames' file names, increasing
annotated      list of bool         for each frame whether it has a mask
object_ids     list of int32        every id seen in the record, ascending
frames         list of Image        JPEG or PNG, original bytes
masks          list of Image        palette PNG: 0 background, 1..254 objects, 255 void; null where unannotated
source         string               where the pixels came from
licence        string               licence of the pixels
provenance     string               how the record was made
extras         list of struct       further files of frames, such as truth: name, frame_number, data
fields         string               JSON of the set's own fields, such as ``{"scene": ...}``
=============  ===================  ===========================================================================
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards.atomic import atomic_file, write_atomically
from shards.codec import image_suffix
from shards.errors import DatasetError, VosDataError
from shards.format import CARD_FILE
from shards.masks import decode_mask
from shards.reader import ShardSet
from shards.types import Record, StoredFrame
from vosdata.export.card import hub_card
from vosdata.export.layout import ShardFile, Tick, mask_file, records_by_shard

ROW_GROUP_BYTES = 64 * 2**20
"""Readers take whole row groups, and the Hub's viewer refuses those above 286 MiB."""


def parquet_schema() -> pa.Schema:
    """The columns, with the metadata by which Hugging Face ``datasets`` knows that these bytes are pictures."""
    from datasets import Features, Image, List, Value

    return Features(
        {
            "key": Value("string"),
            "sequence": Value("string"),
            "height": Value("int32"),
            "width": Value("int32"),
            "frame_numbers": List(Value("int32")),
            "annotated": List(Value("bool")),
            "object_ids": List(Value("int32")),
            "frames": List(Image()),
            "masks": List(Image()),
            "source": Value("string"),
            "licence": Value("string"),
            "provenance": Value("string"),
            "extras": List({"name": Value("string"), "frame_number": Value("int32"), "data": Value("binary")}),
            "fields": Value("string"),
        }
    ).arrow_schema


class ParquetFile(ShardFile):
    """The records of one shard as a parquet file; a piece of an export."""

    __slots__ = ()

    def write(self, out: Path, workspace: Path, tick: Tick) -> None:
        """Writes the file, one row group at a time."""
        schema = parquet_schema()
        (out / self.path).parent.mkdir(exist_ok=True)
        with (
            atomic_file(out / self.path, workspace) as file,
            # pictures are compressed already, and no two are equal
            pq.ParquetWriter(file, schema, compression="none", use_dictionary=False, write_page_index=True) as writer,
        ):
            rows, num_bytes = list[dict[str, Any]](), 0
            for position in self.positions:
                row = parquet_row(self.shard_set, position)
                rows.append(row)
                num_bytes += sum(len(picture["bytes"]) for picture in row["frames"])
                if num_bytes >= ROW_GROUP_BYTES or position == self.positions[-1]:
                    writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=len(rows))
                    rows, num_bytes = [], 0
                tick()


class ParquetFiles:
    """Parquet files side by side, named so that ``load_dataset`` finds their split."""

    def __init__(self, sets: Sequence[ShardSet], folder: str = "") -> None:
        """Names the files.

        Args:
            sets: what is exported.
            folder: where files go below the export, such as ``"data/"``.
        """
        self._sets = sets
        self._folder = folder

    def pieces(self) -> Iterator[ParquetFile]:
        """One piece for each shard."""
        for shard_set in self._sets:
            by_shard = records_by_shard(shard_set)
            for shard, positions in by_shard.items():
                yield ParquetFile(shard_set, positions, parquet_path(shard_set.name, shard, self._folder))

    def finish(self, out: Path) -> None:
        """Nothing more is needed."""


class HubFolder(ParquetFiles):
    """Parquet files below ``data/`` and a dataset card: what a dataset repository on the Hub holds."""

    def __init__(self, sets: Sequence[ShardSet]) -> None:
        super().__init__(sets, "data/")

    def finish(self, out: Path) -> None:
        """Writes the card."""
        write_atomically(out / CARD_FILE, hub_card(self._sets).encode())


def parquet_path(name: str, shard: int, folder: str = "") -> str:
    """Path of the file of a shard below the export."""
    return f"{folder}{name}-{shard:06d}.parquet"


def parquet_row(shard_set: ShardSet, position: int) -> dict[str, Any]:
    """A record as a row."""
    entry = shard_set.entry(position)
    numbers = entry.frame_numbers.tolist()
    images = [bytes(shard_set.image_bytes(position, frame, entry)) for frame in range(entry.num_frames)]
    masks = [mask_file(shard_set, position, frame) for frame in range(entry.num_frames)]
    return {
        "key": entry.key,
        "sequence": entry.sequence,
        "height": entry.height,
        "width": entry.width,
        "frame_numbers": numbers,
        "annotated": entry.annotated.tolist(),
        "object_ids": entry.object_ids.tolist(),
        "frames": [
            {"bytes": data, "path": f"{number:05d}.{image_suffix(data)}"}
            for number, data in zip(numbers, images, strict=True)
        ],
        "masks": [
            None if data is None else {"bytes": data, "path": f"{number:05d}.png"}
            for number, data in zip(numbers, masks, strict=True)
        ],
        "source": entry.source,
        "licence": entry.licence,
        "provenance": entry.provenance,
        "extras": [
            {"name": name, "frame_number": number, "data": bytes(data)}
            for name in entry.extra_names
            for frame, number in enumerate(numbers)
            if (data := shard_set.extra_bytes(position, frame, name, entry)) is not None
        ],
        "fields": json.dumps(shard_set.own_fields(position)),
    }


def read_parquet(path: Path) -> Iterator[Record]:
    """Reads the records of a file back, one row group at a time.

    Raises:
        DatasetError: the file is damaged or has other columns.
    """
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                for row in file.read_row_group(group).to_pylist():
                    yield _record(row)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, VosDataError) as error:
        raise DatasetError(f"{path} cannot be read back: {' '.join(str(error).split())}") from error


def _record(row: dict[str, Any]) -> Record:
    columns = (row["frame_numbers"], row["frames"], row["masks"])
    extras: dict[int, dict[str, bytes]] = {}
    for one in row["extras"]:
        extras.setdefault(one["frame_number"], {})[one["name"]] = one["data"]
    frames = tuple(
        StoredFrame(
            number, image["bytes"], None if mask is None else decode_mask(mask["bytes"]), extras.get(number, {})
        )
        for number, image, mask in zip(*columns, strict=True)
    )
    return Record(
        sequence=row["sequence"],
        frames=frames,
        height=row["height"],
        width=row["width"],
        source=row["source"],
        licence=row["licence"],
        provenance=row["provenance"],
        extra=json.loads(row["fields"]),
    )
