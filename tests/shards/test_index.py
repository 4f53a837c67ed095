"""The index: what goes in comes out, in views, however many records there are."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards import format
from shards import index as index_module
from shards.errors import DamageError, ShardError
from shards.format import INDEX_BATCH
from shards.index import LIST_COLUMNS, SCHEMA, Index, IndexEntry, entries_to_batch, write_index

ARRAYS = (
    "frame_numbers", "annotated", "image_offsets", "image_sizes", "image_crcs", "mask_offsets", "mask_sizes",
    "mask_crcs", "object_ids", "areas", "boxes", "extra_offsets", "extra_sizes", "extra_crcs",
)  # fmt: skip


def entry_of(number: int, num_frames: int, num_objects: int) -> IndexEntry:
    extras = (number % 3, num_frames if number % 3 else 0)
    chance = np.random.default_rng([number, num_frames, num_objects])

    def integers(kind: type, *shape: int) -> np.ndarray:
        return chance.integers(0, np.iinfo(kind).max, shape, kind)

    return IndexEntry(
        key=f"key-{number}", sequence=f"séquence {number}", shard=number // 3, height=24 + number, width=40,
        source="s", licence="", provenance="p" * (number % 5),
        json_offset=int(integers(np.int64)), json_size=7, json_crc=int(integers(np.uint32)),
        frame_numbers=np.arange(num_frames) * 3, annotated=integers(np.uint8, num_frames) % 2 == 0,
        image_offsets=integers(np.int64, num_frames), image_sizes=integers(np.int32, num_frames),
        image_crcs=integers(np.uint32, num_frames), mask_offsets=integers(np.int64, num_frames),
        mask_sizes=integers(np.int32, num_frames), mask_crcs=integers(np.uint32, num_frames),
        object_ids=np.arange(1, num_objects + 1, dtype=np.uint8), areas=integers(np.int32, num_frames, num_objects),
        boxes=integers(np.int32, num_frames, num_objects, 4),
        extra_names=("amodal.png", "fwdflow.png")[: number % 3],
        extra_offsets=integers(np.int64, *extras), extra_sizes=integers(np.int32, *extras),
        extra_crcs=integers(np.uint32, *extras),
    )  # fmt: skip


def assert_equal(found: IndexEntry, expected: IndexEntry) -> None:
    for name in IndexEntry.__slots__:
        if name in ARRAYS:
            array, wanted = getattr(found, name), getattr(expected, name)
            assert (array.dtype, array.shape) == (wanted.dtype, wanted.shape), name
            np.testing.assert_array_equal(array, wanted)
        else:
            assert getattr(found, name) == getattr(expected, name), name


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4)), min_size=1, max_size=12), st.integers(1, 5))
def test_entries_come_back_equal_whatever_the_batches_they_came_in(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, int]], chunk: int
) -> None:
    entries = [entry_of(number, *shape) for number, shape in enumerate(shapes)]
    path = tmp_path_factory.mktemp("index") / "index.arrow"
    batches = [entries_to_batch(entries[start : start + chunk]) for start in range(0, len(entries), chunk)]
    with path.open("wb") as file:
        assert write_index(file, batches) == len(entries)
    index = Index(path)
    assert len(index) == len(entries)
    for position, entry in enumerate(entries):
        assert_equal(index.entry(position), entry)
        assert index.find(entry.key) == position
    assert index.num_frames.tolist() == [num_frames for num_frames, _ in shapes]
    assert index.num_objects.tolist() == [num_objects for _, num_objects in shapes]
    assert index.heights.tolist() == [24 + number for number in range(len(entries))]
    assert index.widths.tolist() == [40] * len(entries)
    whole = path.read_bytes()
    with path.open("wb") as file:
        write_index(file, [entries_to_batch(entries)])
    assert path.read_bytes() == whole


def test_batches_are_cut_to_one_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "INDEX_BATCH", 4)
    entries = [entry_of(number, 2, 1) for number in range(11)]
    path = tmp_path / "index.arrow"
    with path.open("wb") as file:
        write_index(file, (entries_to_batch(entries[start : start + 3]) for start in (0, 3, 6, 9)))
    reader = pa.ipc.open_file(path.read_bytes())
    assert [reader.get_batch(number).num_rows for number in range(reader.num_record_batches)] == [4, 4, 3]
    index = Index(path)
    assert (len(index), index.num_batches) == (11, 3)
    for position, entry in enumerate(entries):
        assert_equal(index.entry(position), entry)
        assert index.find(entry.key) == position
    again = pickle.loads(pickle.dumps(index))
    assert_equal(again.entry(10), entries[10])


def test_columns_can_be_scanned_without_entries(tmp_path: Path) -> None:
    entries = [entry_of(number, number + 1, 2) for number in range(5)]
    path = tmp_path / "index.arrow"
    with path.open("wb") as file:
        write_index(file, [entries_to_batch(entries)])
    (batch,) = Index(path).batches()
    starts, areas = batch.lists("areas")
    for row, entry in enumerate(entries):
        np.testing.assert_array_equal(areas[starts[row] : starts[row + 1]], entry.areas.reshape(-1))
    assert batch.numbers("shard").tolist() == [0, 0, 0, 1, 1]


def test_a_file_that_is_no_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="does not exist"):
        Index(tmp_path / "index.arrow")
    (tmp_path / "index.arrow").write_bytes(b"something else")
    with pytest.raises(DamageError, match="not an Arrow file"):
        Index(tmp_path / "index.arrow")
    (tmp_path / "index.arrow").write_bytes(b"")
    with pytest.raises(DamageError, match="not an Arrow file"):
        Index(tmp_path / "index.arrow")
    with pa.OSFile(str(tmp_path / "index.arrow"), "wb") as file, pa.ipc.new_file(file, pa.schema([("a", pa.int8())])):
        pass
    with pytest.raises(ShardError, match="other columns"):
        Index(tmp_path / "index.arrow")


OPEN_AND_LOOK = """
import resource, sys, time
from pathlib import Path
import numpy as np
from shards.index import Index

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

memory, start = resident(), time.process_time()
index = Index(Path(sys.argv[1]))
opened = time.process_time() - start
grown = resident() - memory
positions = np.random.default_rng(0).integers(0, len(index), 2000)
for position in positions: index.entry(int(position))
start = time.process_time()
for position in positions: index.entry(int(position))
print(len(index), opened, grown, (time.process_time() - start) / len(positions))
"""


def big_index(path: Path, num_batches: int) -> None:
    """Writes many records quickly: the same batch again and again."""
    rows = [entry_of(number, 8, 3) for number in range(64)]
    batch = entries_to_batch(rows * (INDEX_BATCH // 64))
    with path.open("wb") as file:
        write_index(file, (batch for _ in range(num_batches)))


def measure(path: Path) -> tuple[int, float, int, float]:
    found = subprocess.run([sys.executable, "-c", OPEN_AND_LOOK, path], capture_output=True, text=True, check=True)
    number, opened, grown, lookup = found.stdout.split()
    return int(number), float(opened), int(grown), float(lookup)


def test_opening_a_large_index_touches_no_rows(tmp_path: Path) -> None:
    big_index(tmp_path / "index.arrow", 6)
    number, opened, grown, _ = measure(tmp_path / "index.arrow")
    assert number == 6 * INDEX_BATCH
    assert (tmp_path / "index.arrow").stat().st_size > 80 << 20
    assert grown < 20 << 20
    assert opened < 0.5


@pytest.mark.slow
def test_a_million_records_open_in_a_fifth_of_a_second_and_look_up_in_50_microseconds(tmp_path: Path) -> None:
    big_index(tmp_path / "index.arrow", 62)
    number, opened, grown, lookup = measure(tmp_path / "index.arrow")
    assert number >= 1_000_000
    assert opened < 0.2
    assert grown < 50 << 20
    assert lookup < 50e-6


def test_the_schema_is_the_documented_one() -> None:
    for field in SCHEMA:
        assert re.search(rf"\b{field.name}\b", format.__doc__), field.name
    assert set(LIST_COLUMNS) == set(ARRAYS)
