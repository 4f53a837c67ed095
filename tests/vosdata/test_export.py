"""Exports: other tools see what our reader sees, and reading an export back gives the same bytes."""

import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from shards.errors import ConflictError, DamageError, DatasetError
from shards.format import RECORD_KEYS
from shards.reader import ShardSet
from shards.types import Record, StoredFrame
from vosdata.cli.app import run
from vosdata.datasets import recognise
from vosdata.export.folders import folder_name, split_folder
from vosdata.export.job import FORMS, Form, export
from vosdata.export.note import NOTE_FILE
from vosdata.export.rebuild import plan_rebuild

SIZE = (24, 40)


def record(sequence: str, numbers: Sequence[int], size: tuple[int, int], unannotated: Sequence[int] = ()) -> Record:
    """Noise with object 1, object 200 and a row of void; frame 0 is a PNG, and all but frame 1 have a further file."""
    rng = np.random.default_rng(list(sequence.encode()))
    frames = []
    for place, number in enumerate(numbers):
        mask = np.zeros(size, np.uint8)
        mask[2 + place : 9 + place, 3:20] = 1
        mask[12:15, place : place + 9] = 200
        mask[0] = 255
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        data = cv2.imencode(".png" if place == 0 else ".jpg", pixels)[1].tobytes()
        extras = {} if place == 1 else {"depth.bin": bytes([place]) * 700, "amodal.png": b"any bytes"}
        frames.append(StoredFrame(number, data, None if place in unannotated else mask, extras))
    extra = {"scene": {"index": len(numbers), "paths": [[0.5, 1]], "name": "é"}}
    return Record(sequence, tuple(frames), *size, source="noise", licence="CC0-1.0", provenance="made", extra=extra)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory, build_tiny_set: Callable[..., Path]) -> Path:
    """Sequences that differ in length and size, with gaps, void, unannotated frames and an awkward name."""
    records = [
        record("bear", range(3, 8), SIZE),
        record("über cat 2", range(0, 20, 5), SIZE, unannotated=(1, 3)),
        record("a/b.c", [7], (36, 60)),
        record("nothing known", range(3), SIZE, unannotated=(0, 1, 2)),
        record("goat", [0, 1, 99999, 100000], SIZE, unannotated=(2,)),
    ]
    return build_tiny_set(tmp_path_factory.mktemp("uneven"), "uneven-train", records)


def tar_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in [*folder.glob("*.tar"), folder / "index.arrow"]}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_equal(ours: ShardSet, theirs: ShardSet, rename: Callable[[str], str] = lambda name: name) -> None:
    """Frames byte for byte, masks pixel for pixel, unannotated frames, numbers and names."""
    by_name = {theirs.entry(position).sequence: position for position in range(len(theirs))}
    assert len(ours) == len(theirs)
    for position in range(len(ours)):
        entry = ours.entry(position)
        other = by_name[rename(entry.sequence)]
        assert theirs.entry(other).frame_numbers.tolist() == entry.frame_numbers.tolist()
        for frame in range(entry.num_frames):
            assert theirs.image_bytes(other, frame) == ours.image_bytes(position, frame)
            mask, copy = ours.mask(position, frame), theirs.mask(other, frame)
            assert (mask is None and copy is None) or np.array_equal(mask, copy)


# Hugging Face


@pytest.fixture
def hugging_face(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    return datasets


def check_rows(rows: list[dict[str, Any]], shard_set: ShardSet) -> None:
    assert len(rows) == len(shard_set)
    for row in rows:
        position = shard_set.find(row["key"])
        entry = shard_set.entry(position)
        for name in ("sequence", "height", "width", "source", "licence", "provenance"):
            assert row[name] == getattr(entry, name)
        for name in ("frame_numbers", "annotated", "object_ids"):
            assert row[name] == getattr(entry, name).tolist()
        own = shard_set.record_json(position)
        assert json.loads(row["fields"]) == {name: own[name] for name in own if name not in RECORD_KEYS}
        for one in row["extras"]:
            frame = row["frame_numbers"].index(one["frame_number"])
            assert one["data"] == shard_set.extra_bytes(position, frame, one["name"])
        assert len(row["extras"]) == np.count_nonzero(entry.extra_sizes)
        assert len(row["frames"]) == len(row["masks"]) == entry.num_frames
        for frame, (picture, mask) in enumerate(zip(row["frames"], row["masks"], strict=True)):
            assert np.array_equal(np.asarray(picture.convert("RGB")), shard_set.image(position, frame))
            if entry.annotated[frame]:
                assert mask.mode == "P"
                assert np.array_equal(np.asarray(mask), shard_set.mask(position, frame))
            else:
                assert mask is None


@pytest.mark.parametrize("form", ["hf", "parquet"])
def test_hugging_face_loads_and_streams_sets_of_differing_lengths(
    form: Form, uneven: Path, hugging_face: Any, tmp_path: Path
) -> None:
    out = tmp_path / "export-train"
    export([uneven], form, out)
    loaded = hugging_face.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    streamed = hugging_face.load_dataset(str(out), split="train", streaming=True)
    check_rows(list(loaded), ShardSet(uneven))
    check_rows(list(streamed), ShardSet(uneven))
    assert loaded.features == streamed.features


def test_the_card_names_each_dataset_and_split(tiny_sets: dict[str, Path], hugging_face: Any, tmp_path: Path) -> None:
    out = tmp_path / "both"
    export([tiny_sets["alpha"], tiny_sets["beta"]], "hf", out)
    for name in ("alpha", "beta"):
        loaded = hugging_face.load_dataset(str(out), name, cache_dir=str(tmp_path / "cache"))
        assert list(loaded) == ["train"]
        check_rows(list(loaded["train"]), ShardSet(tiny_sets[name]))


def test_parquet_is_readable_without_our_code_or_theirs(uneven: Path, tmp_path: Path) -> None:
    import pyarrow.dataset

    export([uneven], "parquet", tmp_path / "out")
    rows = pyarrow.dataset.dataset(str(tmp_path / "out"), format="parquet", exclude_invalid_files=True).to_table()
    shard_set = ShardSet(uneven)
    for row in rows.to_pylist():
        position = shard_set.find(row["key"])
        assert [image["bytes"] for image in row["frames"]] == [
            shard_set.image_bytes(position, frame) for frame in range(len(row["frames"]))
        ]


def test_webdataset_reads_one_sample_per_frame(uneven: Path, tmp_path: Path) -> None:
    import webdataset

    out = tmp_path / "out"
    export([uneven], "webdataset", out)
    tars = sorted(str(path) for path in out.glob("*.tar"))
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    shard_set = ShardSet(uneven)
    assert len(samples) == shard_set.description["num_frames"]
    for sample in samples:
        key, number = sample["__key__"].split("/")
        position = shard_set.find(key)
        frame = shard_set.entry(position).frame_numbers.tolist().index(int(number))
        content = json.loads(sample["json"])
        picture = sample["jpg"] if "jpg" in sample else sample["frame.png"]
        assert picture == shard_set.image_bytes(position, frame)
        mask = shard_set.mask(position, frame)
        assert content["annotated"] == (mask is not None)
        shown = np.asarray(Image.open(io.BytesIO(sample["png"])))
        assert np.array_equal(shown, np.full_like(shown, 255) if mask is None else mask)


def test_one_sample_per_frame_loads_in_hugging_face_whatever_the_lengths(
    tiny_sets: dict[str, Path], hugging_face: Any, tmp_path: Path
) -> None:
    out, shard_set = tmp_path / "out", ShardSet(tiny_sets["beta"])
    export([tiny_sets["beta"]], "webdataset", out)
    files = {"train": sorted(str(path) for path in out.glob("*.tar"))}
    cache = str(tmp_path / "cache")
    loaded = hugging_face.load_dataset("webdataset", data_files=files, split="train", cache_dir=cache)
    streamed = hugging_face.load_dataset("webdataset", data_files=files, split="train", streaming=True)
    for rows in (list(loaded), list(streamed)):
        assert len(rows) == shard_set.description["num_frames"]
        for row in rows:
            assert {name for name in row if not name.startswith("__")} == {"jpg", "png", "json"}
            position = next(p for p in range(len(shard_set)) if shard_set.entry(p).sequence == row["json"]["sequence"])
            frame = shard_set.entry(position).frame_numbers.tolist().index(row["json"]["frame_number"])
            assert np.array_equal(np.asarray(row["jpg"]), shard_set.image(position, frame))
            mask, shown = shard_set.mask(position, frame), np.asarray(row["png"])
            assert np.array_equal(shown, np.full_like(shown, 255) if mask is None else mask)


# There and back


@pytest.mark.parametrize("form", ["parquet", "hf", "webdataset"])
def test_reading_an_export_back_gives_the_same_bytes(form: str, uneven: Path, tmp_path: Path) -> None:
    assert run(["export", str(uneven), "--format", form, "--out", str(tmp_path / "there")]) == 0
    assert run(["export", str(tmp_path / "there"), "--format", "shards", "--out", str(tmp_path / "back")]) == 0
    back = tmp_path / "back" / "uneven-train"
    assert tar_bytes(back) == tar_bytes(uneven)
    ours, theirs = ShardSet(uneven), ShardSet(back)
    for name in ("name", "split", "title", "licence", "frame_size", "frame_rate", "source_fingerprint"):
        assert theirs.description[name] == ours.description[name]
    assert run(["verify", str(back)]) == 0


@pytest.mark.parametrize("form", ["davis", "youtube-vos"])
def test_folders_are_packed_back_with_the_same_frames_masks_and_names(form: str, uneven: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    assert run(["export", str(uneven), "--format", form, "--out", str(there)]) == 0
    assert run(["shard", str(there), "--out", str(tmp_path / "back"), "--workers", "1"]) == 0
    back = ShardSet(tmp_path / "back" / "uneven-train")
    check_equal(ShardSet(uneven), back, folder_name)
    assert back.description["licence"] == ShardSet(uneven).description["licence"]


def test_davis_folders_look_as_published(uneven: Path, tiny_sets: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "DAVIS"
    export([tiny_sets["alpha"]], "davis", out)
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
        "Annotations",
        "ImageSets",
        "JPEGImages",
    ]
    names = (out / "ImageSets" / "2017" / "train.txt").read_text().splitlines()
    assert names == [ShardSet(tiny_sets["alpha"]).entry(n).sequence for n in range(5)]
    frames = sorted((out / "JPEGImages" / "24p" / names[0]).iterdir())
    assert [path.name for path in frames][:2] == ["00003.jpg", "00004.jpg"]
    with Image.open(out / "Annotations" / "24p" / names[0] / "00003.png") as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
    export([uneven], "davis", tmp_path / "mixed")
    assert (tmp_path / "mixed" / "JPEGImages" / "Full-Resolution" / "bear").is_dir()


def test_youtube_vos_lists_where_each_object_is(uneven: Path, tmp_path: Path) -> None:
    export([uneven], "youtube-vos", tmp_path)
    meta = json.loads((tmp_path / "train" / "meta.json").read_text())
    objects = meta["videos"]["über cat 2"]["objects"]
    assert {number: one["frames"] for number, one in objects.items()} == {
        "1": ["00000", "00010"],
        "200": ["00000", "00010"],
    }
    assert meta["videos"]["nothing known"] == {"objects": {}}


def test_categories_of_youtube_vos_survive_the_round_trip(tmp_path: Path) -> None:
    root = tmp_path / "YouTube-VOS" / "train"
    for name in ("JPEGImages", "Annotations"):
        (root / name / "video").mkdir(parents=True)
    mask = np.zeros(SIZE, np.uint8)
    mask[3:9, 3:9] = 1
    for number in (0, 5):
        cv2.imwrite(str(root / f"JPEGImages/video/{number:05d}.jpg"), np.zeros((*SIZE, 3), np.uint8))
        Image.fromarray(mask).save(root / f"Annotations/video/{number:05d}.png")
    said = {"videos": {"video": {"objects": {"1": {"category": "ape", "frames": ["00000", "00005"]}}}}}
    (root / "meta.json").write_text(json.dumps(said))
    assert run(["shard", str(root.parent), "--out", str(tmp_path / "sets"), "--workers", "1"]) == 0
    assert run(["export", str(tmp_path / "sets"), "--format", "youtube-vos", "--out", str(tmp_path / "again")]) == 0
    assert json.loads((tmp_path / "again" / "train" / "meta.json").read_text()) == said


def test_splits_lie_side_by_side(tiny_sets: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "pair"
    export([tiny_sets["alpha"]], "davis", source)
    (source / NOTE_FILE).unlink()
    names = (source / "ImageSets/2017/train.txt").read_text().splitlines(keepends=True)
    (source / "ImageSets/2017/train.txt").write_text("".join(names[:3]))
    (source / "ImageSets/2017/val.txt").write_text("".join(names[3:]))
    assert run(["shard", str(source), "--out", str(tmp_path / "sets"), "--workers", "1"]) == 0
    export([tmp_path / "sets"], "davis", tmp_path / "davis")
    assert [(one.name, one.split_names) for one in recognise(tmp_path / "davis")] == [
        ("davis2017-24p", ("train", "val"))
    ]
    for split in ("train", "val"):
        list_file = f"ImageSets/2017/{split}.txt"
        assert (tmp_path / "davis" / list_file).read_text() == (source / list_file).read_text()
    export([tmp_path / "sets"], "youtube-vos", tmp_path / "ytvos")
    metas = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "ytvos").glob("*/meta.json")}
    assert {split: len(meta["videos"]) for split, meta in metas.items()} == {"train": 3, "valid": 2}


@pytest.mark.parametrize(
    "name", ["..", ".hidden", "a/b", "#1", " x", "x ", "bear.jpg rest", "a\nb", "thumbs.db", "ü" * 200]
)
def test_names_that_cannot_be_folders_become_their_key(name: str) -> None:
    folder = folder_name(name)
    assert folder != name
    assert "/" not in folder and not folder.startswith((".", "#")) and folder == folder.strip()


def test_splits_that_youtube_vos_has_not_are_called_train() -> None:
    assert [split_folder(name) for name in ("train", "val", "test-dev", "all", "fold3")] == [
        "train",
        "valid",
        "test-dev",
        "train",
        "train",
    ]


def test_a_remote_set_is_exported_by_its_url(uneven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    handler = partial(SimpleHTTPRequestHandler, directory=str(uneven))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        assert run(["export", url, "--format", "parquet", "--out", str(tmp_path / "remote")]) == 0
        server.shutdown()
    export([uneven], "parquet", tmp_path / "local")
    assert tree(tmp_path / "remote") == tree(tmp_path / "local")


# Cut off, run again, refused


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("form", FORMS)
def test_an_export_that_was_cut_off_anywhere_is_continued_to_the_same_files(
    form: Form, uneven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export([uneven], form, tmp_path / "whole")
    out = tmp_path / "cut"
    for calls in range(1, 40):
        real, left = os.replace, calls

        def replace_or_die(*arguments: Any, real: Any = real) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", lambda self, target: replace_or_die(self, target))
            try:
                export([uneven], form, out)
            except Killed:
                assert not (out / NOTE_FILE).exists()
                continue
        break
    assert calls > 2
    assert tree(out) == tree(tmp_path / "whole")


def test_a_file_cut_short_by_a_power_cut_is_written_again(uneven: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export([uneven], "davis", out)
    whole = tree(out)
    short = next((out / "JPEGImages").rglob("00005.jpg"))
    short.write_bytes(short.read_bytes()[:100])
    report = export([uneven], "davis", out)
    assert not report.already_complete
    assert tree(out) == whole


@pytest.mark.parametrize("form", FORMS)
def test_the_same_export_again_does_nothing(form: Form, uneven: Path, tmp_path: Path) -> None:
    first = export([uneven], form, tmp_path / "out")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again = export([uneven], form, tmp_path / "out")
    assert (first.already_complete, again.already_complete) == (False, True)
    assert replace(again, already_complete=False) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == stamps


def test_another_set_or_form_into_the_same_folder_is_refused(
    uneven: Path, tiny_sets: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export([uneven], "parquet", out)
    before = tree(out)
    with pytest.raises(ConflictError, match='format is "parquet" there, "davis" was asked for'):
        export([uneven], "davis", out)
    with pytest.raises(ConflictError, match=r"sets\.alpha is absent there"):
        export([tiny_sets["alpha"]], "parquet", out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(ConflictError, match="not empty"):
        export([uneven], "davis", tmp_path / "full")
    assert tree(out) == before


def test_a_damaged_shard_is_never_exported(uneven: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(uneven, tmp_path / "broken")
    entry = ShardSet(broken).entry(0)
    shard = sorted(broken.glob("*.tar"))[entry.shard]
    data = bytearray(shard.read_bytes())
    data[int(entry.image_offsets[1]) + 50] ^= 1
    shard.write_bytes(data)
    for form in FORMS:
        with pytest.raises(DamageError, match="CRC32C"):
            export([broken], form, tmp_path / form)
        assert not (tmp_path / form / NOTE_FILE).exists()


def test_sequences_that_would_share_a_folder_are_named(uneven: Path, tmp_path: Path) -> None:
    other = shutil.copytree(uneven, tmp_path / "other")
    with pytest.raises(DatasetError, match="both called uneven-train"):
        export([uneven, other], "parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_a_damaged_export_is_refused_in_one_line(
    form: Form, uneven: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export([uneven], form, tmp_path / "out")
    file = next(path for path in (tmp_path / "out").iterdir() if path.suffix in {".tar", ".parquet"})
    file.write_bytes(file.read_bytes()[:1000])
    capfd.readouterr()
    assert run(["export", str(tmp_path / "out"), "--format", "shards", "--out", str(tmp_path / "back")]) == 1
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and str(file) in lines[0] and "cannot be read back" in lines[0]
    file.unlink()
    with pytest.raises(DatasetError, match="is missing"):
        plan_rebuild(tmp_path / "out")


def test_wrong_calls_are_one_clear_line(uneven: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    export([uneven], "davis", tmp_path / "davis")
    out = ["--out", str(tmp_path / "out")]
    for arguments, message in (
        ([str(tmp_path / "missing"), "--format", "hf"], "does not exist"),
        ([str(tmp_path / "empty"), "--format", "hf"], "is no shard set"),
        ([str(uneven), "--format", "zarr"], "--format must be one of"),
        ([str(uneven), "--format", "shards"], "holds no complete export"),
        ([str(tmp_path / "missing"), "--format", "shards"], "no such folder"),
        ([str(tmp_path / "davis"), "--format", "shards"], "vosdata shard reads"),
    ):
        capfd.readouterr()
        assert run(["export", *arguments, *out]) in (1, 2)
        lines = capfd.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and message in lines[0], lines
    assert not (tmp_path / "out").exists()


def test_the_report_as_json(uneven: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(uneven), "--format", "davis", "--out", str(tmp_path / "o"), "--json"]) == 0
    report = json.loads(capfd.readouterr().out)[0]
    assert (report["form"], report["num_records"], report["num_frames"]) == ("davis", 5, 17)
    assert report["num_bytes"] == sum(map(len, tree(tmp_path / "o").values()))
