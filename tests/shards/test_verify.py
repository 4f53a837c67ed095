"""Verify: no flipped bit and no missing byte goes unnoticed, and the place is named."""

import json
import random
import shutil
from pathlib import Path

import pytest
from toy_plan import ToyPlan

from shards.build import build_shard_set
from shards.codec import crc32c
from shards.errors import ShardError
from shards.manifest import read_manifest, seal
from shards.reader import ShardSet
from shards.verify import VerifyReport, verify

CHECKED = ("dataset.json", "index.arrow", "toy-000000.tar")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One shard of two short records; tests restore what they damage."""
    folder = tmp_path_factory.mktemp("small") / "toy"
    build_shard_set(ToyPlan(num_shards=1, records_per_shard=2, num_frames=2), folder)
    return folder


@pytest.fixture
def copy(toy_set: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_set, tmp_path / "toy"))


def verify_with(path: Path, damaged: bytes) -> VerifyReport:
    intact = path.read_bytes()
    path.write_bytes(damaged)
    try:
        return verify(path.parent)
    finally:
        path.write_bytes(intact)


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_an_intact_set_has_no_problems(toy_set: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = verify(toy_set, lambda done, total: calls.append((done, total)))
    assert report.problems == ()
    assert (report.num_records, report.num_members) == (9, 9 + 27 + 27 - 4)
    files = [path for path in toy_set.iterdir() if path.name not in ("README.md", "dataset.json")]
    assert report.num_bytes == sum(path.stat().st_size for path in files) == calls[-1][0] == calls[-1][1]
    assert calls == sorted(calls)


@pytest.mark.parametrize("name", CHECKED)
def test_one_flipped_bit_anywhere_is_found_in_its_file(small: Path, name: str) -> None:
    data = (small / name).read_bytes()
    chance = random.Random(name)
    for bit in chance.sample(range(8 * len(data)), 200):
        report = verify_with(small / name, flipped(data, bit))
        assert report.problems, f"bit {bit}"
        assert {problem.file for problem in report.problems} == {name}


def test_every_part_of_a_tar_is_watched(small: Path) -> None:
    """One bit in every header field, in data and padding of every member, and in the end blocks."""
    path = small / "toy-000000.tar"
    data = path.read_bytes()
    places = [block + inside for block in range(0, len(data), 512) for inside in (0, 105, 130, 150, 260, 511)]
    for offset in places:
        report = verify_with(path, flipped(data, 8 * offset + offset % 8))
        first = report.problems[0]
        assert first.offset is not None
        assert first.offset <= offset
        if offset < len(data) - 1024:
            assert first.record is not None
            assert first.member is not None


def test_header_and_padding_damage_is_named_to_the_byte(copy: Path) -> None:
    entry = ShardSet(copy).entry(0)
    path = copy / "toy-000000.tar"
    data = path.read_bytes()
    header_byte = int(entry.mask_offsets[1]) - 512 + 3
    padding_byte = int(entry.image_offsets[1] + entry.image_sizes[1])
    path.write_bytes(flipped(flipped(data, 8 * header_byte), 8 * padding_byte + 7))
    problems = verify(copy).problems
    assert [problem.offset for problem in problems] == [padding_byte, header_byte, None]
    assert problems[0].what == "padding: byte is 0x80, expected 0x00"
    assert problems[1].what.startswith("tar header: byte is")
    assert problems[1].member == f"{entry.key}.mask00005.png"
    assert problems[2].what.startswith("CRC32C of the file is")


def test_member_damage_names_record_member_and_offset(copy: Path) -> None:
    entry = ShardSet(copy).entry(4)
    offset = int(entry.mask_offsets[2])
    path = copy / "toy-000001.tar"
    path.write_bytes(flipped(path.read_bytes(), 8 * (offset + 700)))
    first = verify(copy).problems[0]
    assert (first.file, first.offset, first.record, first.member) == (
        "toy-000001.tar", offset, entry.key, f"{entry.key}.mask00010.png",
    )  # fmt: skip
    assert str(first).startswith(f"toy-000001.tar at byte {offset} (record {entry.key}, member")


@pytest.mark.parametrize("name", CHECKED)
def test_a_file_cut_anywhere_is_found(small: Path, name: str) -> None:
    data = (small / name).read_bytes()
    step = 97 if name == "toy-000000.tar" else 41
    cuts = {*range(0, len(data), step), *range(0, len(data), 512), *range(511, len(data), 512), len(data) - 1}
    for length in sorted(cuts):
        report = verify_with(small / name, data[:length])
        assert report.problems, f"cut at {length}"
        assert {problem.file for problem in report.problems} == {name}
        if name == "toy-000000.tar":
            assert report.problems[-1].what == f"the file has {length} bytes, expected {len(data)}"


def test_a_cut_tar_names_the_first_member_that_is_missing(copy: Path) -> None:
    entry = ShardSet(copy).entry(8)
    path = copy / "toy-000002.tar"
    cut = int(entry.image_offsets[1]) + 10
    path.write_bytes(path.read_bytes()[:cut])
    first = verify(copy).problems[0]
    assert (first.offset, first.record, first.member) == (cut, entry.key, f"{entry.key}.frame00005.jpg")
    assert "cut off" in first.what


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKED)
def test_a_flip_or_a_cut_at_every_single_byte_is_found(small: Path, name: str) -> None:
    data = (small / name).read_bytes()
    chance = random.Random(1)
    for offset in range(len(data)):
        for damaged in (flipped(data, 8 * offset + chance.randrange(8)), data[:offset]):
            assert {problem.file for problem in verify_with(small / name, damaged).problems} == {name}, offset


@pytest.mark.parametrize("name", CHECKED)
def test_bytes_that_were_appended_are_found(small: Path, name: str) -> None:
    data = (small / name).read_bytes()
    for tail in (b"\0", b"\n", bytes(512), b"more"):
        assert {problem.file for problem in verify_with(small / name, data + tail).problems} == {name}


def test_missing_and_stray_files_are_found(copy: Path) -> None:
    (copy / "toy-000001.tar").rename(copy / "toy-000009.tar")
    problems = verify(copy).problems
    assert [(problem.file, problem.what[:19]) for problem in problems] == [
        ("toy-000009.tar", "dataset.json knows "), ("toy-000001.tar", "the file is missing"),
    ]  # fmt: skip
    (copy / "index.arrow").unlink()
    assert verify(copy).problems[0].file == "index.arrow"


def test_swapped_shards_are_found(copy: Path) -> None:
    first, second = (copy / "toy-000000.tar"), (copy / "toy-000001.tar")
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    assert {problem.file for problem in verify(copy).problems} >= {"toy-000000.tar", "toy-000001.tar"}


def test_an_index_that_contradicts_its_masks_is_found_even_when_all_checksums_fit(copy: Path) -> None:
    """Another set's index, sealed in properly: sizes agree, objects do not."""
    shard_set = ShardSet(copy)
    position = (copy / "index.arrow").read_bytes()
    areas = shard_set.entry(0).areas.tobytes()
    forged = position.replace(areas, (shard_set.entry(0).areas + 1).tobytes(), 1)
    assert forged != position
    (copy / "index.arrow").write_bytes(forged)
    manifest = read_manifest(copy)
    manifest["index"]["crc32c"] = f"{crc32c(forged):08x}"
    (copy / "dataset.json").write_bytes(seal(manifest))
    problems = verify(copy).problems
    assert problems
    assert problems[0].what == "areas or boxes of its objects differ from the index"


def test_whitespace_in_dataset_json_counts_as_damage(copy: Path) -> None:
    path = copy / "dataset.json"
    path.write_bytes(json.dumps(json.loads(path.read_bytes())).encode())
    assert [problem.file for problem in verify(copy).problems] == ["dataset.json"]


def test_what_is_no_shard_set_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="does not exist"):
        verify(tmp_path / "nowhere")
    with pytest.raises(ShardError, match="no shard set"):
        verify(tmp_path)
