"""Reading: any member of any record, checked, from any thread and any process."""

import ctypes
import mmap
import os
import pickle
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from toy_plan import HEIGHT, WIDTH, toy_record

from shards.build import build_shard_set
from shards.codec import decode_image
from shards.errors import DamageError, ShardError
from shards.manifest import read_manifest, seal
from shards.reader import ShardSet


@pytest.fixture
def copy(toy_set: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_set, tmp_path / "toy"))


def test_every_record_comes_back_as_it_was_given(toy_set: Path) -> None:
    shard_set = ShardSet(toy_set)
    assert (len(shard_set), shard_set.name, shard_set.split) == (9, "toy", "train")
    for position in range(9):
        given, stored = toy_record(f"video {position}.é", 0, position), shard_set.record(position)
        assert (stored.sequence, stored.height, stored.width) == (given.sequence, HEIGHT, WIDTH)
        assert (stored.source, stored.licence, stored.provenance) == (given.source, given.licence, given.provenance)
        assert stored.extra == given.extra
        for frame, original in zip(stored.frames, given.frames, strict=True):
            assert (frame.number, frame.image) == (original.number, original.image)
            if original.mask is None:
                assert frame.mask is None
            else:
                np.testing.assert_array_equal(frame.mask, original.mask)


def test_frames_and_masks_decode_into_a_batch(toy_set: Path) -> None:
    shard_set = ShardSet(str(toy_set))
    frames, masks = np.zeros((3, HEIGHT, WIDTH, 3), np.uint8), np.zeros((3, HEIGHT, WIDTH), np.uint8)
    record = toy_record("video 4.é", 0, 4)
    for frame in range(3):
        shard_set.image(4, frame, out=frames[frame])
        shard_set.mask(4, frame, out=masks[frame])
        np.testing.assert_array_equal(frames[frame], decode_image(record.frames[frame].image))
        np.testing.assert_array_equal(masks[frame], record.frames[frame].mask)


@pytest.mark.parametrize("frames", [(0, 1, 2), (2, 1), (1,)])
@pytest.mark.parametrize("only", [None, 1])
def test_frames_decoded_together_are_those_decoded_alone(
    toy_set: Path, frames: tuple[int, ...], only: int | None
) -> None:
    shard_set = ShardSet(toy_set)
    for record in range(len(shard_set)):
        images = np.zeros((len(frames), HEIGHT, WIDTH, 3), np.uint8)
        masks = np.full((len(frames), HEIGHT, WIDTH), 77, np.uint8)
        shard_set.decode(shard_set.entry(record), frames, images, masks, only)
        for place, frame in enumerate(frames):
            np.testing.assert_array_equal(images[place], shard_set.image(record, frame))
            alone = shard_set.mask(record, frame, only=only)
            np.testing.assert_array_equal(masks[place], 77 if alone is None else alone)


@pytest.mark.parametrize("kind", ["image", "mask"])
@pytest.mark.parametrize("check", [True, False])
def test_damage_is_named_where_frames_are_decoded_together(copy: Path, kind: str, check: bool) -> None:
    entry = ShardSet(copy).entry(4)
    offset = int((entry.image_offsets if kind == "image" else entry.mask_offsets)[1])
    flip(copy / "toy-000001.tar", offset)
    images, masks = np.zeros((3, HEIGHT, WIDTH, 3), np.uint8), np.zeros((3, HEIGHT, WIDTH), np.uint8)
    with pytest.raises(DamageError) as caught:
        ShardSet(copy, check=check).decode(entry, (0, 1, 2), images, masks)
    text = str(caught.value)
    assert f"{entry.key}.{'frame' if kind == 'image' else 'mask'}00005" in text and f"byte {offset}" in text
    assert ("expected CRC32C" in text) == check


@pytest.mark.parametrize("frames", [(0, 3), (-1, 0)])
def test_frames_that_are_not_there_are_not_decoded(toy_set: Path, frames: tuple[int, ...]) -> None:
    shard_set = ShardSet(toy_set)
    images, masks = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8), np.zeros((2, HEIGHT, WIDTH), np.uint8)
    with pytest.raises(IndexError, match="which has 3"):
        shard_set.decode(shard_set.entry(0), frames, images, masks)


@pytest.mark.parametrize("wrong", ["too few", "too wide", "not contiguous", "wrong type"])
@pytest.mark.parametrize("which", [0, 1])
def test_arrays_that_do_not_fit_are_refused_before_anything_is_decoded(toy_set: Path, wrong: str, which: int) -> None:
    arrays = [np.full((2, HEIGHT, WIDTH, 3), 9, np.uint8), np.full((2, HEIGHT, WIDTH), 9, np.uint8)]
    arrays[which] = {  # type: ignore[assignment]
        "too few": arrays[which][:1],
        "too wide": np.repeat(arrays[which], 2, axis=2),
        "not contiguous": np.repeat(arrays[which], 2, axis=2)[:, :, ::2],
        "wrong type": arrays[which].astype(np.int8),
    }[wrong]
    shard_set = ShardSet(toy_set)
    with pytest.raises(ValueError, match="must be C-contiguous uint8"):
        shard_set.decode(shard_set.entry(0), (0, 1), arrays[0], arrays[1])
    assert all((array == 9).all() for array in arrays)


def test_reading_ahead_fetches_what_is_not_in_memory(copy: Path) -> None:
    shard_set = ShardSet(copy)
    entry, path = shard_set.entry(4), copy / "toy-000001.tar"
    with path.open("rb") as file:
        os.fsync(file.fileno())
        for _ in range(50):  # pages that were only just written leave with a delay
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if not is_resident(path, int(entry.image_offsets[0])):
                break
            time.sleep(0.02)
        else:
            pytest.skip("this file system keeps its files in memory")
    shard_set.read_ahead(entry, 0, 2)
    deadline = time.monotonic() + 5
    while not is_resident(path, int(entry.mask_offsets[2])) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_resident(path, int(entry.image_offsets[0])) and is_resident(path, int(entry.mask_offsets[2]))


def is_resident(path: Path, offset: int) -> bool:
    """Whether the system has a byte of a file in memory, asked without touching it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
        address = np.frombuffer(mapped, np.uint8).ctypes.data + offset // mmap.PAGESIZE * mmap.PAGESIZE
        flags = ctypes.create_string_buffer(1)
        assert ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(1), flags) == 0
        return bool(flags.raw[0] & 1)


def test_unannotated_frames_have_no_mask(toy_set: Path) -> None:
    shard_set = ShardSet(toy_set)
    assert shard_set.entry(1).annotated.tolist() == [True, True, False]
    assert shard_set.mask(1, 2) is None
    assert shard_set.mask_bytes(1, 2) is None


def test_records_are_found_by_key(toy_set: Path) -> None:
    shard_set = ShardSet(toy_set)
    for position in range(9):
        assert shard_set.find(shard_set.entry(position).key) == position
    with pytest.raises(KeyError, match="nobody"):
        shard_set.find("nobody")


@pytest.mark.parametrize("position", [-1, 9])
def test_positions_outside_are_index_errors(toy_set: Path, position: int) -> None:
    shard_set = ShardSet(toy_set)
    with pytest.raises(IndexError):
        shard_set.entry(position)
    with pytest.raises(IndexError, match="frame 3"):
        shard_set.image_bytes(0, 3)
    with pytest.raises(IndexError, match="frame -1"):
        shard_set.mask_bytes(0, -1)


def test_a_set_can_be_pickled_and_used_elsewhere(toy_set: Path) -> None:
    shard_set = ShardSet(toy_set)
    shard_set.image(0, 0)
    again = pickle.loads(pickle.dumps(shard_set))
    assert again.entry(5).key == shard_set.entry(5).key
    assert len(pickle.dumps(shard_set)) < 1000


def test_many_threads_read_one_set(toy_set: Path) -> None:
    shard_set = ShardSet(toy_set)

    def total(position: int) -> int:
        return int(shard_set.image(position % 9, position % 3).sum())

    with ThreadPoolExecutor(8) as pool:
        sums = list(pool.map(total, range(400)))
    assert sums == [total(position) for position in range(400)]


def test_open_sets_keep_no_file_descriptors(toy_set: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    sets = [ShardSet(toy_set) for _ in range(20)]
    for shard_set in sets:
        for position in range(9):
            shard_set.image_bytes(position, 0)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_views_outlive_their_set(toy_set: Path) -> None:
    view = ShardSet(toy_set).image_bytes(0, 0)
    entry = ShardSet(toy_set).entry(3)
    assert decode_image(view).shape == (HEIGHT, WIDTH, 3)
    assert entry.areas.sum() > 0
    with pytest.raises(TypeError):
        view[0] = 0


def flip(path: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_a_damaged_member_is_named_with_shard_record_member_and_offset(copy: Path) -> None:
    entry = ShardSet(copy).entry(4)
    offset = int(entry.image_offsets[1])
    flip(copy / "toy-000001.tar", offset + 400)
    damaged = ShardSet(copy)
    damaged.image(4, 0)
    with pytest.raises(DamageError) as caught:
        damaged.image(4, 1)
    message = str(caught.value)
    for part in (
        "toy-000001.tar",
        f"record {entry.key}",
        f"{entry.key}.frame00005",
        f"byte {offset}",
        "expected CRC32C",
    ):
        assert part in message
    assert f"{int(entry.image_crcs[1]):08x}" in message


def test_without_checks_damage_is_the_callers_risk(copy: Path) -> None:
    entry = ShardSet(copy).entry(0)
    flip(copy / "toy-000000.tar", int(entry.image_offsets[0]) + 400)
    assert len(ShardSet(copy, check=False).image_bytes(0, 0)) == entry.image_sizes[0]


def test_a_shard_of_another_length_is_refused_before_mapping(copy: Path) -> None:
    path = copy / "toy-000002.tar"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamageError, match=r"toy-000002\.tar has \d+ bytes, expected \d+"):
        ShardSet(copy).image(8, 0)
    path.unlink()
    with pytest.raises(DamageError, match=r"toy-000002\.tar is missing"):
        ShardSet(copy).image(8, 0)


def test_a_damaged_index_or_dataset_file_is_refused(copy: Path) -> None:
    flip(copy / "index.arrow", 1000)
    with pytest.raises(DamageError, match=r"index\.arrow is damaged"):
        ShardSet(copy)
    flip(copy / "index.arrow", 1000)
    ShardSet(copy)
    flip(copy / "dataset.json", 40)
    with pytest.raises(DamageError, match=r"dataset\.json is damaged"):
        ShardSet(copy)


def test_what_is_no_shard_set_is_said_in_one_line(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(ShardError, match="does not exist"):
        ShardSet(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ShardError, match=r"no shard set: it has no dataset\.json"):
        ShardSet(tmp_path / "empty")
    with pytest.raises(ShardError, match="is a file"):
        ShardSet(copy / "dataset.json")
    with pytest.raises(ShardError, match=f"no shard set but holds 1; name one of them, such as .*{copy.name}"):
        ShardSet(copy.parent)
    (copy / "index.arrow").unlink()
    with pytest.raises(ShardError, match=r"index\.arrow is missing"):
        ShardSet(copy)


def test_another_format_version_is_refused_as_such(copy: Path) -> None:
    content = read_manifest(copy)
    (copy / "dataset.json").write_bytes(seal({**content, "format_version": 2}))
    with pytest.raises(ShardError, match="format version 2; this vosdata reads version 1"):
        ShardSet(copy)


def test_sets_of_differing_lengths_and_sizes_are_read(tmp_path: Path) -> None:
    from toy_plan import ToyPlan

    build_shard_set(ToyPlan(num_frames=1, num_shards=1), tmp_path / "toy")
    shard_set = ShardSet(tmp_path / "toy")
    assert shard_set.index.num_frames.tolist() == [1, 1, 1]
    assert shard_set.index.num_objects.tolist() == [2, 0, 2]
    assert shard_set.entry(1).areas.shape == (1, 0)
    assert shard_set.entry(1).boxes.shape == (1, 0, 4)
