"""The index: one row per record, memory-mapped, read as numpy views on the Arrow buffers.

Opening maps the file and reads its footer; a lookup slices a few views. Nothing loops over rows, so a million records
cost no more to open than a thousand. The columns are specified in :mod:`shards.format`.
"""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shards.errors import DamageError, ShardError
from shards.format import INDEX_BATCH

TEXT_COLUMNS = ("key", "sequence", "source", "licence", "provenance", "extra_names")
NUMBER_COLUMNS = {
    "shard": pa.int32(),
    "height": pa.int32(),
    "width": pa.int32(),
    "json_offset": pa.int64(),
    "json_size": pa.int32(),
    "json_crc": pa.uint32(),
}
LIST_COLUMNS = {
    "frame_numbers": pa.int32(),
    "annotated": pa.uint8(),
    "image_offsets": pa.int64(),
    "image_sizes": pa.int32(),
    "image_crcs": pa.uint32(),
    "mask_offsets": pa.int64(),
    "mask_sizes": pa.int32(),
    "mask_crcs": pa.uint32(),
    "object_ids": pa.uint8(),
    "areas": pa.int32(),
    "boxes": pa.int32(),
    "extra_offsets": pa.int64(),
    "extra_sizes": pa.int32(),
    "extra_crcs": pa.uint32(),
}
SCHEMA = pa.schema(
    [pa.field(name, pa.utf8(), nullable=False) for name in TEXT_COLUMNS]
    + [pa.field(name, kind, nullable=False) for name, kind in NUMBER_COLUMNS.items()]
    + [
        pa.field(name, pa.list_(pa.field("item", kind, nullable=False)), nullable=False)
        for name, kind in LIST_COLUMNS.items()
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class IndexEntry:
    """All that the index says about one record of T frames and N objects. Arrays may be read-only views."""

    key: str
    """Member names start with it; unique in the set."""

    sequence: str
    """Name of the sequence as its dataset published it."""

    shard: int
    """Number of the shard that holds the record."""

    height: int
    """Pixels."""

    width: int
    """Pixels."""

    source: str
    """Where the pixels came from."""

    licence: str
    """Licence of the pixels; empty when unknown."""

    provenance: str
    """How the record was made, in one line."""

    json_offset: int
    """Byte offset of the record's JSON in its shard."""

    json_size: int
    """Bytes."""

    json_crc: int
    """CRC32C."""

    frame_numbers: NDArray[np.int64]
    """``int64 (T,)``, strictly increasing."""

    annotated: NDArray[np.bool_]
    """``bool (T,)``: which frames have a mask."""

    image_offsets: NDArray[np.int64]
    """``int64 (T,)``: byte offsets in the shard."""

    image_sizes: NDArray[np.int32]
    """``int32 (T,)``: bytes."""

    image_crcs: NDArray[np.uint32]
    """``uint32 (T,)``: CRC32C."""

    mask_offsets: NDArray[np.int64]
    """``int64 (T,)``: byte offsets in the shard, 0 where unannotated."""

    mask_sizes: NDArray[np.int32]
    """``int32 (T,)``: bytes, 0 where unannotated."""

    mask_crcs: NDArray[np.uint32]
    """``uint32 (T,)``: CRC32C, 0 where unannotated."""

    object_ids: NDArray[np.uint8]
    """``uint8 (N,)``: every id seen in the record, ascending."""

    areas: NDArray[np.int32]
    """``int32 (T, N)``: pixels; 0 where the object is absent or the frame unannotated."""

    boxes: NDArray[np.int32]
    """``int32 (T, N, 4)``: x0, y0, x1, y1 in pixels, end-exclusive; 0 where the area is 0."""

    extra_names: tuple[str, ...] = ()
    """Names of the record's K extras, ascending, such as ``"amodal.png"``."""

    extra_offsets: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    """``int64 (K, T)``: byte offsets in the shard, 0 where a frame lacks the extra; ``(0, 0)`` without extras."""

    extra_sizes: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    """``int32 (K, T)``: bytes, 0 where a frame lacks the extra."""

    extra_crcs: NDArray[np.uint32] = field(default_factory=lambda: np.zeros((0, 0), np.uint32))
    """``uint32 (K, T)``: CRC32C, 0 where a frame lacks the extra."""

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.frame_numbers)

    def __repr__(self) -> str:
        ids = ", ".join(str(number) for number in self.object_ids)
        return f"IndexEntry({self.key!r}, {self.num_frames} frames of {self.height}x{self.width}, objects [{ids}])"


def entries_to_batch(entries: list[IndexEntry]) -> pa.RecordBatch:
    """Puts entries into one record batch, row by row in the order given."""
    columns: list[pa.Array] = []
    for column in SCHEMA:
        values = [getattr(entry, column.name) for entry in entries]
        if column.name in LIST_COLUMNS:
            columns.append(_list_array(values, column.type))
        elif column.name == "extra_names":
            columns.append(pa.array([" ".join(names) for names in values], column.type))
        else:
            columns.append(pa.array(values, column.type))
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _list_array(values: list[NDArray[Any]], kind: pa.ListType) -> pa.ListArray:
    starts = np.zeros(len(values) + 1, np.int32)
    np.cumsum([value.size for value in values], out=starts[1:])
    dtype = kind.value_type.to_pandas_dtype()
    flat = np.concatenate([value.reshape(-1).astype(dtype) for value in values]) if values else np.zeros(0, dtype)
    return pa.ListArray.from_arrays(pa.array(starts), pa.array(flat, kind.value_type), type=kind)


def write_index(file: BinaryIO, batches: Iterable[pa.RecordBatch]) -> int:
    """Writes the index file from batches of any length; the file has batches of ``INDEX_BATCH`` rows.

    Returns:
        Number of rows.
    """
    num_rows, pending, num_pending = 0, list[pa.RecordBatch](), 0
    with pa.ipc.new_file(file, SCHEMA) as writer:
        for batch in batches:
            pending.append(batch)
            num_pending += batch.num_rows
            num_rows += batch.num_rows
            while num_pending >= INDEX_BATCH:
                table = pa.Table.from_batches(pending, SCHEMA)
                writer.write_batch(_one_batch(table.slice(0, INDEX_BATCH)))
                pending = table.slice(INDEX_BATCH).to_batches()
                num_pending -= INDEX_BATCH
        if num_pending:
            writer.write_batch(_one_batch(pa.Table.from_batches(pending, SCHEMA)))
    return num_rows


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    # Concatenating copies, so list offsets start at 0 and the bytes do not depend on how the rows came in.
    columns = [pa.concat_arrays([pa.array([], column.type), *column.chunks]) for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


class IndexBatch:
    """Views on the columns of one record batch: numpy for scans, memoryviews for single rows, as they index faster."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.num_rows: int = batch.num_rows
        self._numbers: dict[str, NDArray[Any]] = {
            name: batch.column(name).to_numpy(zero_copy_only=True) for name in NUMBER_COLUMNS
        }
        self._lists = {name: _list_views(batch.column(name)) for name in LIST_COLUMNS}
        texts = {name: _text_views(batch.column(name)) for name in TEXT_COLUMNS}
        self._text_rows = [(name, starts.data, characters.data) for name, (starts, characters) in texts.items()]
        self._number_rows = [(name, values.data) for name, values in self._numbers.items()]
        self._list_rows = [(name, starts.data, values) for name, (starts, values) in self._lists.items()]

    def numbers(self, name: str) -> NDArray[Any]:
        """A column with one number per row, ``(rows,)``."""
        return self._numbers[name]

    def lists(self, name: str) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """A list column, as ``starts (rows + 1,)`` and ``values``: row r is ``values[starts[r]:starts[r + 1]]``."""
        return self._lists[name]

    def entry(self, row: int) -> IndexEntry:
        """The entry of one row, as views."""
        values: dict[str, Any] = {}
        for name, starts, characters in self._text_rows:
            values[name] = str(characters[starts[row] : starts[row + 1]], "utf-8")
        for name, column in self._number_rows:
            values[name] = column[row]
        for name, starts, flat in self._list_rows:
            values[name] = flat[starts[row] : starts[row + 1]]
        num_frames, num_objects = len(values["frame_numbers"]), len(values["object_ids"])
        values["frame_numbers"] = values["frame_numbers"].astype(np.int64)
        values["annotated"] = values["annotated"].view(np.bool_)
        values["areas"] = values["areas"].reshape(num_frames, num_objects)
        values["boxes"] = values["boxes"].reshape(num_frames, num_objects, 4)
        self._shape_extras(values, num_frames)
        return IndexEntry(**values)

    @staticmethod
    def _shape_extras(values: dict[str, Any], num_frames: int) -> None:
        names = values["extra_names"] = tuple(values["extra_names"].split())
        shape = (len(names), num_frames) if names else (0, 0)
        for column in ("extra_offsets", "extra_sizes", "extra_crcs"):
            values[column] = values[column].reshape(shape)


def _text_views(array: pa.StringArray) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    _, starts, characters = array.buffers()
    views = np.frombuffer(starts, np.int32)[array.offset : array.offset + len(array) + 1]
    return views, np.frombuffer(characters, np.uint8) if characters else np.zeros(0, np.uint8)


def _list_views(array: pa.ListArray) -> tuple[NDArray[np.int32], NDArray[Any]]:
    starts = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    return starts, array.values.to_numpy(zero_copy_only=True)


class Index:
    """The memory-mapped index of a shard set. Thread-safe; pickles as its path.

    Args:
        path: the ``index.arrow`` file.

    Raises:
        ShardError: there is no such file, or its columns are not those of this format version.
        DamageError: it is not an Arrow file any more (cut off or overwritten).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._batches: dict[int, IndexBatch] = {}
        self._reader = _open_arrow(path)
        last = self._reader.num_record_batches - 1
        self._length = 0 if last < 0 else last * INDEX_BATCH + self._reader.get_batch(last).num_rows

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r}, {len(self)} records)"

    def __reduce__(self) -> tuple[type["Index"], tuple[Path]]:
        return Index, (self.path,)

    @property
    def num_batches(self) -> int:
        """Number of record batches."""
        return int(self._reader.num_record_batches)

    def batch(self, number: int) -> IndexBatch:
        """Views on one record batch: rows ``number * INDEX_BATCH`` and on. For vectorised scans."""
        batch = self._batches.get(number)
        if batch is None:
            with self._lock:
                batch = self._batches.setdefault(number, IndexBatch(self._reader.get_batch(number)))
        return batch

    def batches(self) -> Iterator[IndexBatch]:
        """All record batches in order."""
        return (self.batch(number) for number in range(self.num_batches))

    def entry(self, position: int) -> IndexEntry:
        """The entry of one record, 0 <= position < len.

        Raises:
            IndexError: there is no such record.
            DamageError: its row makes no sense.
        """
        if not 0 <= position < self._length:
            raise IndexError(f"record {position} of {self._length}")
        try:
            return self.batch(position // INDEX_BATCH).entry(position % INDEX_BATCH)
        except ValueError as error:  # text that is no text, lists that do not fit each other
            raise DamageError(f"{self.path} is damaged: row {position} cannot be read ({error})") from error

    def shard(self, position: int) -> int:
        """Number of the shard that holds a record, without reading its entry.

        Raises:
            IndexError: there is no such record.
        """
        if not 0 <= position < self._length:
            raise IndexError(f"record {position} of {self._length}")
        return int(self.batch(position // INDEX_BATCH).numbers("shard")[position % INDEX_BATCH])

    def find(self, key: str) -> int:
        """Position of the record with this key.

        Raises:
            KeyError: no record has it.
        """
        for number in range(self.num_batches):
            row = pc.index(self._reader.get_batch(number).column("key"), key).as_py()
            if row >= 0:
                return number * INDEX_BATCH + int(row)
        raise KeyError(key)

    @property
    def num_frames(self) -> NDArray[np.int32]:
        """Frames of every record, ``int32 (R,)``."""
        return self._counts("frame_numbers")

    @property
    def num_objects(self) -> NDArray[np.int32]:
        """Objects of every record, ``int32 (R,)``."""
        return self._counts("object_ids")

    @property
    def heights(self) -> NDArray[np.int32]:
        """Height of every record in pixels, ``int32 (R,)``."""
        return self._gather("height")

    @property
    def widths(self) -> NDArray[np.int32]:
        """Width of every record in pixels, ``int32 (R,)``."""
        return self._gather("width")

    def _gather(self, name: str) -> NDArray[np.int32]:
        return np.concatenate([np.zeros(0, np.int32), *(batch.numbers(name) for batch in self.batches())])

    def _counts(self, name: str) -> NDArray[np.int32]:
        return np.concatenate([np.zeros(0, np.int32), *(np.diff(batch.lists(name)[0]) for batch in self.batches())])


def _open_arrow(path: Path) -> Any:
    try:
        with pa.memory_map(str(path)) as mapped:  # closing frees the descriptor; the buffer keeps the mapping
            content = mapped.read_buffer()
        reader = pa.ipc.open_file(pa.BufferReader(content))
    except FileNotFoundError as error:
        raise ShardError(
            f"{path} does not exist; the shard set is incomplete, run the command that makes it"
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise DamageError(
            f"{path} is damaged: not an Arrow file ({error}); make or copy the shard set again"
        ) from error
    if not reader.schema.equals(SCHEMA):
        raise ShardError(f"{path} has other columns than this version of vosdata writes; make the shard set again")
    return reader
