"""The index made anew from the tars alone: byte for byte as it was, and for tars that others made."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image
from toy_plan import HEIGHT, WIDTH, ToyPlan, toy_record

from shards.build import build_shard_set
from shards.errors import ConflictError, DamageError, DatasetError, ShardError
from shards.manifest import read_manifest
from shards.masks import encode_mask
from shards.reader import ShardSet
from shards.rebuild import rebuild
from shards.types import Record, StoredFrame
from shards.verify import verify
from shards.writer import ShardWriter


@pytest.fixture
def copy(toy_set: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_set, tmp_path / "toy"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_intact_set_is_left_as_it_is(copy: Path, toy_set: Path) -> None:
    report = rebuild(copy)
    assert content(copy) == content(toy_set)
    assert (report.changed, report.is_foreign, report.notes) == ((), False, ())
    assert (report.num_shards, report.num_records, report.num_frames, report.num_annotated_frames) == (3, 9, 27, 23)


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_an_index_comes_out_byte_for_byte_as_it_was(copy: Path, toy_set: Path, how: str) -> None:
    (copy / "index.arrow").unlink() if how == "missing" else (copy / "index.arrow").write_bytes(b"junk")
    assert rebuild(copy).changed == ("index.arrow",)
    assert content(copy) == content(toy_set)


def test_both_come_from_the_tars_alone(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    build_shard_set(ToyPlan(skip=(3, 4, 5)), folder)  # shard 1 is not there
    before = content(folder)
    for name in ("index.arrow", "dataset.json", "README.md"):
        (folder / name).unlink()
    report = rebuild(folder, split="val")
    assert report.changed == ("index.arrow", "dataset.json")
    assert {name: content(folder)[name] for name in before if name.endswith(("arrow", "tar"))} == {
        name: data for name, data in before.items() if name.endswith(("arrow", "tar"))
    }
    made, old = read_manifest(folder), json.loads(before["dataset.json"])
    assert made.keys() == old.keys()
    for key in (
        "name",
        "num_records",
        "num_frames",
        "num_annotated_frames",
        "index",
        "shards",
        "frame_size",
        "licence",
    ):
        assert made[key] == old[key], key
    assert made["split"] == "val"
    assert verify(folder).problems == ()
    after = content(folder)
    assert rebuild(folder).changed == ()
    assert content(folder) == after


def test_a_damaged_dataset_file_is_made_anew_and_said(copy: Path) -> None:
    (copy / "dataset.json").write_bytes((copy / "dataset.json").read_bytes()[:-50])
    report = rebuild(copy)
    assert any("was damaged" in note for note in report.notes)
    assert verify(copy).problems == ()


def damaged_at(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("what", ["header", "json", "mask", "png picture", "png extra", "padding", "end"])
def test_damage_is_found_without_dataset_file_where_something_tells(tmp_path: Path, what: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    mask = np.eye(HEIGHT, WIDTH, dtype=np.uint8)
    extras = {"flow.png": encode_mask(mask + 1)}
    record = Record("clip", (StoredFrame(0, png(pixels), mask, extras),), HEIGHT, WIDTH)
    path = tmp_path / "toy-000000.tar"
    with path.open("wb") as file:
        writer = ShardWriter(file, 0)
        entry = writer.add(record)
        writer.close()
    offset = {
        "header": entry.image_offsets[0] - 300,
        "json": entry.json_offset + 10,
        "mask": entry.mask_offsets[0] + entry.mask_sizes[0] - 20,
        "png picture": entry.image_offsets[0] + entry.image_sizes[0] // 2,
        "png extra": entry.extra_offsets[0, 0] + entry.extra_sizes[0, 0] - 20,
        "padding": entry.image_offsets[0] + entry.image_sizes[0],
        "end": path.stat().st_size - 1,
    }[what]
    whole = path.read_bytes()
    damaged_at(path, int(offset))
    with pytest.raises((DamageError, DatasetError), match=r"toy-000000\.tar"):
        rebuild(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["toy-000000.tar"]
    path.write_bytes(whole)
    (note,) = rebuild(tmp_path).notes
    assert "checksums that 3 PNG files carry; damage inside the 1 other files" in note


def test_damage_that_nothing_can_tell_is_said_to_be_possible(copy: Path) -> None:
    offset = int(ShardSet(copy).entry(4).image_offsets[0]) + 400
    (copy / "dataset.json").unlink()
    damaged_at(copy / "toy-000001.tar", offset)
    (note,) = rebuild(copy).notes
    assert "no dataset.json vouches for 3 of the tars" in note
    assert "checksums that 23 PNG files carry; damage inside the 36 other files (JPEG, JSON) may go unseen" in note
    assert rebuild(copy).notes == ()


def test_shards_that_are_not_those_that_were_written_get_no_seal(copy: Path) -> None:
    path = copy / "toy-000001.tar"
    before = (copy / "dataset.json").read_bytes()
    data = bytearray(path.read_bytes())
    data[int(ShardSet(copy).entry(4).image_offsets[0]) + 400] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamageError, match=r"toy-000001\.tar .*dataset\.json knows"):
        rebuild(copy)
    assert (copy / "dataset.json").read_bytes() == before
    assert sorted(path.name for path in copy.iterdir()) == [
        "README.md", "dataset.json", "index.arrow", "toy-000000.tar", "toy-000001.tar", "toy-000002.tar",
    ]  # fmt: skip


def test_a_shard_less_is_taken_in_and_said(copy: Path) -> None:
    (copy / "toy-000001.tar").unlink()
    report = rebuild(copy)
    assert report.num_records == 6
    assert report.notes == ("1 shards are gone, the first is toy-000001.tar; the set lost 3 records",)
    assert read_manifest(copy)["title"] == "Toy"
    assert verify(copy).problems == ()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (b'"height":24', b'"height":25', "its JSON has height 25, its members say 24"),
        (b'"object_ids":[1,7]', b'"object_ids":[1,8]', "object_ids"),
        (b'"frame_numbers":[0,5,10]', b'"frame_numbers":[0,5,11]', "frame_numbers"),
        (b'"sequence":"video 0', b'"sequence":"video 9', "its key does not stand for its sequence"),
        (b"video%200%2E%C3%A9.frame00005.jpg\0", b"video%200%2E%C3%A9.frame00006.jpg\0", "is damaged"),
    ],
)
def test_a_set_of_ours_that_breaks_the_format_is_refused(copy: Path, old: bytes, new: bytes, text: str) -> None:
    path = copy / "toy-000000.tar"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    (copy / "dataset.json").unlink()
    with pytest.raises(DamageError, match=text):
        rebuild(copy)


def test_a_set_that_is_being_made_is_left_alone(copy: Path) -> None:
    (copy / ".building").mkdir()
    (copy / ".building" / "plan.json").write_text("{}")
    with pytest.raises(ConflictError, match="still being made"):
        rebuild(copy)


# --- tars of others -------------------------------------------------------------------------------------------------


def foreign(folder: Path, members: Iterable[tuple[str, bytes]], name: str = "others-00.tar") -> Path:
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / name, "w") as tar:
        for member, data in members:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return folder


def png(pixels: np.ndarray, mode: str | None = None) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels, mode).save(out, "PNG")
    return out.getvalue()


RECORDS = [toy_record(f"v{number}", 0, number) for number in range(3)]
NAMINGS: dict[str, tuple[Callable[[int], str], Callable[[int], str]]] = {
    "ours": (lambda t: f"frame{t:05d}.jpg", lambda t: f"mask{t:05d}.png"),
    "numbers": (lambda t: f"{t:02d}.jpg", lambda t: f"{t:02d}.png"),
    "letters": (lambda t: f"f{t:02d}.jpg", lambda t: f"m{t:02d}.png"),
    "same letter": (lambda t: f"f{t:02d}.jpeg", lambda t: f"f{t:02d}.png"),
    "words": (lambda t: f"image_{t}.JPG", lambda t: f"seg_{t}.png"),
    "dotted": (lambda t: f"rgb.{t:04d}.jpg", lambda t: f"label.{t:04d}.png"),
}


def members_of(key: str, record, naming: str) -> Iterable[tuple[str, bytes]]:
    image_name, mask_name = NAMINGS[naming]
    for t, frame in enumerate(record.frames):
        yield f"{key}.{image_name(t)}", frame.image
        if frame.mask is not None:
            yield f"{key}.{mask_name(t)}", encode_mask(frame.mask)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("with_json", [True, False])
def test_frames_and_masks_of_others_are_recognised(tmp_path: Path, naming: str, with_json: bool) -> None:
    parts: list[tuple[str, bytes]] = []
    for number, record in enumerate(RECORDS):
        key = f"train/s{number:02d}"
        fields = json.dumps({"caption": "a dog", "sequence": record.sequence}).encode()
        parts += [(f"{key}.json", fields)] if with_json else []
        parts += [*members_of(key, record, naming), (f"{key}.cls", b"3")]
    folder = foreign(tmp_path / "others", parts)
    report = rebuild(folder)
    assert report.is_foreign
    assert "3 records, 9 frames" in report.recognised and "8 masks" in report.recognised
    assert "left alone: cls" in report.recognised
    assert verify(folder).problems == ()
    shard_set = ShardSet(folder)
    assert (shard_set.name, shard_set.split) == ("others", "train")
    for position, record in enumerate(RECORDS):
        entry = shard_set.entry(position)
        assert entry.key == f"train/s{position:02d}"
        assert entry.sequence == (record.sequence if with_json else entry.key)
        assert (entry.height, entry.width, entry.frame_numbers.tolist()) == (HEIGHT, WIDTH, [0, 1, 2])
        stored = shard_set.record(position)
        assert stored.extra == ({"caption": "a dog"} if with_json else {})
        for frame, original in zip(stored.frames, record.frames, strict=True):
            assert frame.image == original.image
            assert (frame.mask is None) == (original.mask is None)
            if original.mask is not None:
                np.testing.assert_array_equal(frame.mask, original.mask)
    areas = [int((RECORDS[0].frames[1].mask == number).sum()) for number in (1, 7)]
    assert shard_set.entry(0).areas[1].tolist() == areas


def test_what_webdataset_writes_is_read(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "wds-000000.tar"), encoder=False) as writer:
        for number, record in enumerate(RECORDS):
            masks = {f"{t:02d}.png": encode_mask(f.mask) for t, f in enumerate(record.frames) if f.mask is not None}
            images = {f"{t:02d}.jpg": frame.image for t, frame in enumerate(record.frames)}
            writer.write({"__key__": f"clip{number}", **images, **masks})
    assert rebuild(tmp_path).num_annotated_frames == 8
    shard_set = ShardSet(tmp_path)
    for sample, position in zip(
        webdataset.WebDataset(str(tmp_path / "wds-000000.tar"), shardshuffle=False), range(3), strict=True
    ):
        assert sample["__key__"] == shard_set.entry(position).key
        for t in range(3):
            assert sample[f"{t:02d}.jpg"] == shard_set.image_bytes(position, t)
            assert sample.get(f"{t:02d}.png") == shard_set.mask_bytes(position, t)


def test_single_pictures_with_masks_are_records_of_one_frame(tmp_path: Path) -> None:
    frame = RECORDS[0].frames[0]
    parts = [("a/1.jpg", frame.image), ("a/1.png", encode_mask(frame.mask)), ("a/2.jpg", frame.image)]
    report = rebuild(foreign(tmp_path / "x", parts))
    assert (report.num_records, report.num_frames, report.num_annotated_frames) == (2, 2, 1)
    shard_set = ShardSet(tmp_path / "x")
    assert shard_set.entry(1).annotated.tolist() == [False]
    np.testing.assert_array_equal(shard_set.mask(0, 0), frame.mask)


def test_gray_masks_and_png_pictures_are_read(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:9, 4:20] = 2
    rgb = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    rebuild(foreign(tmp_path / "x", [("k.image.png", png(rgb)), ("k.mask.png", png(mask))]))
    shard_set = ShardSet(tmp_path / "x")
    np.testing.assert_array_equal(shard_set.image(0, 0), rgb)
    np.testing.assert_array_equal(shard_set.mask(0, 0), mask)
    assert shard_set.entry(0).boxes[0].tolist() == [[4, 3, 20, 9]]


def test_keys_that_begin_anew_in_each_tar_are_told_apart(tmp_path: Path) -> None:
    for number in range(2):
        foreign(tmp_path / "x", members_of("000", RECORDS[number], "numbers"), f"part{number}.tar")
    report = rebuild(tmp_path / "x", name="joined")
    assert "the tar's name is put before every key" in report.notes[0]
    shard_set = ShardSet(tmp_path / "x")
    assert [shard_set.entry(position).key for position in range(2)] == ["part0/000", "part1/000"]
    assert shard_set.image_bytes(1, 0) == RECORDS[1].frames[0].image
    assert shard_set.name == "joined"


JPEG = RECORDS[0].frames[0].image
MASK = encode_mask(RECORDS[0].frames[0].mask)
ODD = np.zeros((9, 9), np.uint8)
BLACK_AND_WHITE = np.where(RECORDS[0].frames[0].mask == 1, 255, 0).astype(np.uint8)
REFUSED = {
    "no frames": ([("k.txt", b"x"), ("k.cls", b"1")], "has no frame: expected members such as .*found cls, txt"),
    "a mask alone": ([("k.00.jpg", JPEG), ("k.mask01.png", MASK)], "has a mask .* without a picture"),
    "jpeg masks": ([("k.00.jpg", JPEG), ("k.mask00.jpg", JPEG)], "is a mask as JPEG"),
    "png that may be both": ([("k.00.png", MASK), ("k.01.png", MASK)], "may be a picture or a mask"),
    "two for one frame": ([("k.0.jpg", JPEG), ("k.00.jpg", JPEG)], "is a second one for frame 0"),
    "two masks": ([("k.0.jpg", JPEG), ("k.m0.png", MASK), ("k.seg0.png", MASK)], "is a second one for frame 0"),
    "apart": ([("a.jpg", JPEG), ("b.jpg", JPEG), ("a.png", MASK)], "do not lie together"),
    "another size": ([("k.jpg", JPEG), ("k.png", png(ODD))], r"k\.png.* at byte \d+: is 9x9, its record 24x40"),
    "broken picture": ([("k.jpg", JPEG[:40])], "header"),
    "no picture": ([("k.jpg", b"hello")], "neither JPEG nor PNG"),
    "colour masks": ([("k.jpg", JPEG), ("k.png", png(np.zeros((24, 40, 3), np.uint8)))], "colour"),
    "black and white": ([("k.jpg", JPEG), ("k.png", png(BLACK_AND_WHITE))], "no values but 0 and 255"),
    "links outside": ([("../k.jpg", JPEG)], "leads outside"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_recognised_is_refused_and_nothing_is_written(tmp_path: Path, what: str) -> None:
    members, text = REFUSED[what]
    folder = foreign(tmp_path / "x", members)
    with pytest.raises(DatasetError, match=text):
        rebuild(folder)
    assert [path.name for path in folder.iterdir()] == ["others-00.tar"]


def test_a_folder_without_usable_tars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="does not exist"):
        rebuild(tmp_path / "none")
    with pytest.raises(ShardError, match=r"holds no \.tar file$"):
        rebuild(tmp_path)
    (tmp_path / "x.tar.gz").write_bytes(b"")
    with pytest.raises(ShardError, match=r"unpack x\.tar\.gz"):
        rebuild(tmp_path)
    with tarfile.open(tmp_path / "x.tar", "w"):
        pass
    with pytest.raises(DatasetError, match=r"the tars are empty, such as x\.tar"):
        rebuild(tmp_path)
    shutil.move(tmp_path / "x.tar", tmp_path / "a b.tar")
    with pytest.raises(DatasetError, match="rename it"):
        rebuild(tmp_path)


@pytest.mark.parametrize("sequence", ["../../etc", "/etc", "a\\b", "\x1b[31m"])
def test_names_in_the_json_of_others_lead_nowhere(tmp_path: Path, sequence: str) -> None:
    rebuild(foreign(tmp_path / "x", [("k.json", json.dumps({"sequence": sequence}).encode()), ("k.jpg", JPEG)]))
    assert ShardSet(tmp_path / "x").entry(0).sequence == "k"


def test_verify_finds_a_flipped_bit_in_a_foreign_shard(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "x", members_of("k", RECORDS[0], "numbers"))
    rebuild(folder)
    path = folder / "others-00.tar"
    data = bytearray(path.read_bytes())
    inside = int(ShardSet(folder).entry(0).image_offsets[1])
    for byte, named in ((inside + 5, True), (100, False), (len(data) - 1, False)):
        data[byte] ^= 1
        path.write_bytes(data)
        problems = verify(folder).problems
        assert problems and (problems[0].record == "k") is named
        data[byte] ^= 1


def test_progress_counts_bytes_up_to_all(copy: Path) -> None:
    seen: list[tuple[int, int]] = []
    rebuild(copy, progress=lambda done, total: seen.append((done, total)))
    total = sum(path.stat().st_size for path in copy.glob("*.tar"))
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
