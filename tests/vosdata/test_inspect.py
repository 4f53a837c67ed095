"""``vosdata inspect``: true facts about shard sets, records, datasets, checkpoints and single files."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shards.codec import encode_jpeg
from shards.masks import encode_mask
from shards.reader import ShardSet
from vosdata.cli.app import run


def inspected(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> list[dict[str, Any]]:
    assert run(["inspect", *(str(argument) for argument in arguments), "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capfd.readouterr().out)
    return found


def refused(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert run(["inspect", *(str(argument) for argument in arguments)]) in (1, 2)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_shard_set_is_summed_up_from_its_index(tiny_sets: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    (facts,) = inspected(capfd, tiny_sets["beta"])
    shard_set = ShardSet(tiny_sets["beta"])
    entries = [shard_set.entry(position) for position in range(len(shard_set))]
    assert facts["kind"] == "shard set"
    assert (facts["name"], facts["records"]) == ("beta", len(entries))
    assert facts["frames"] == sum(entry.num_frames for entry in entries)
    assert facts["annotated_frames"] == sum(int(entry.annotated.sum()) for entry in entries)
    assert facts["frame_sizes"] == [f"36x60 ({len(entries)})"]
    shares = np.concatenate([entry.areas[entry.areas > 0] / (36 * 60) for entry in entries])
    assert f"median {np.median(shares):.2%}" in facts["object_share_of_frame"]
    assert sorted(facts["configuration"]["sequences"]) == sorted(entry.sequence for entry in entries)


def test_a_folder_of_shard_sets_lists_all(tiny_sets: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    parent = tiny_sets["alpha"].parent
    assert [facts["name"] for facts in inspected(capfd, parent)] == sorted(tiny_sets)


def test_a_record_is_found_by_key_name_or_position(
    tiny_sets: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    shard_set = ShardSet(tiny_sets["alpha"])
    entry = shard_set.entry(2)
    for name in (entry.key, entry.sequence, "2"):
        (facts,) = inspected(capfd, tiny_sets["alpha"], "--record", name)
        assert (facts["kind"], facts["record"], facts["position"]) == ("record", entry.key, 2)
    assert [row["number"] for row in facts["frame_table"]] == entry.frame_numbers.tolist()
    assert [row["image_bytes"] for row in facts["frame_table"]] == entry.image_sizes.tolist()
    assert facts["shard"] == f"alpha-{entry.shard:06d}.tar"
    assert "no record 'nobody'" in refused(capfd, tiny_sets["alpha"], "--record", "nobody")


def test_text_output_names_every_fact(tiny_sets: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(tiny_sets["gamma"])]) == 0
    text = capfd.readouterr().out
    assert text.startswith(f"{tiny_sets['gamma']}: shard set\n")
    for name in ("title", "frames per record", "object share of frame", "configuration"):
        assert f"  {name} " in text


def test_a_dataset_folder_is_recognised_and_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for frame in range(3):
        for name, data in (
            (f"JPEGImages/480p/cat/{frame:05d}.jpg", encode_jpeg(np.zeros((16, 20, 3), np.uint8))),
            (f"Annotations/480p/cat/{frame:05d}.png", encode_mask(np.ones((16, 20), np.uint8))),
        ):
            path = tmp_path / "DAVIS" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    (tmp_path / "DAVIS" / "Annotations/480p/cat/00002.png").unlink()
    lists = tmp_path / "DAVIS" / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("cat\n")
    (facts,) = inspected(capfd, tmp_path)
    assert (facts["kind"], facts["name"]) == ("dataset", "davis2017")
    (split,) = facts["splits"]
    assert (split["split"], split["sequences"], split["frames"], split["annotated"]) == ("val", 1, 3, 2)


def test_masks_and_pictures_are_told_apart(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mask = np.zeros((9, 12), np.uint8)
    mask[1:4, 2:6] = 5
    mask[8] = 255
    (tmp_path / "mask.png").write_bytes(encode_mask(mask))
    (tmp_path / "photo.jpg").write_bytes(encode_jpeg(np.zeros((9, 12, 3), np.uint8)))
    (facts,) = inspected(capfd, tmp_path / "mask.png")
    assert facts["objects"] == [{"id": 5, "pixels": 12, "box": "[2, 1, 6, 4]"}]
    assert (facts["void_pixels"], facts["background_pixels"]) == (12, 9 * 12 - 24)
    (facts,) = inspected(capfd, tmp_path / "photo.jpg")
    assert (facts["kind"], facts["size"]) == ("picture", "9x12")
    (tmp_path / "broken.png").write_bytes(b"")
    assert "broken.png: the file is empty" in refused(capfd, tmp_path / "broken.png")


def safetensors(path: Path, missing: int = 0) -> None:
    header = {
        "__metadata__": {"recipe": json.dumps({"name": "smoke"}), "note": "plain"},
        "model.head.weight": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
        "model.head.bias": {"dtype": "F32", "shape": [4], "data_offsets": [48, 64]},
        "optimiser.step": {"dtype": "I64", "shape": [], "data_offsets": [64, 72]},
    }
    text = json.dumps(header).encode()
    path.write_bytes((struct.pack("<Q", len(text)) + text + bytes(72))[: 8 + len(text) + 72 - missing])


def test_a_checkpoint_shows_its_metadata_and_parts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "checkpoints" / "step-00000007.safetensors"
    path.parent.mkdir()
    safetensors(path)
    (facts,) = inspected(capfd, path)
    assert facts["recipe"] == {"name": "smoke"}
    assert facts["note"] == "plain"
    assert (facts["tensors"], facts["numbers"]) == (3, 17)
    assert facts["parts"][0] == {"part": "model.head", "tensors": 2, "numbers": 16, "types": "F32"}
    assert "cut_off" not in facts
    assert [facts["kind"] for facts in inspected(capfd, tmp_path)] == ["run", "checkpoint"]
    safetensors(path, missing=5)
    assert inspected(capfd, path)[0]["cut_off"] == "5 bytes are missing at the end"


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01", b"\xff" * 64, struct.pack("<Q", 4) + b"nope", b"\x02" + bytes(7) + b"[]"]
)
def test_a_file_that_is_no_checkpoint_is_one_clear_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    assert "no safetensors file" in refused(capfd, tmp_path / "x.safetensors")


@pytest.mark.parametrize("kind", ["missing", "empty", "unknown", "incomplete"])
def test_wrong_paths_are_one_clear_line(tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    folder = tmp_path / kind
    if kind != "missing":
        folder.mkdir()
    if kind == "unknown":
        (folder / "notes.txt").write_text("hello")
    if kind == "incomplete":
        (folder / ".building").mkdir()
    assert kind in refused(capfd, folder)


@pytest.mark.real_data
def test_real_datasets_are_counted(real_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = {facts["name"] for facts in inspected(capfd, real_data / "davis")}
    assert {"davis2016", "davis2017"} <= names


def test_shards_without_their_dataset_json_are_known_and_the_command_that_mends_them_is_named(
    tiny_sets: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_sets["alpha"], tmp_path / "alpha")
    (tmp_path / "alpha" / "dataset.json").unlink()
    assert "no dataset.json; vosdata index makes it from the tars" in refused(capfd, tmp_path / "alpha")
    assert run(["index", str(tmp_path / "alpha")]) == 0
    assert run(["verify", str(tmp_path / "alpha")]) == 0


def test_pictures_for_synthetic_videos_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    for name in ("one", "two", "three"):
        picture = generator.integers(0, 256, (40, 60, 3), np.uint8)
        (tmp_path / f"{name}.jpg").write_bytes(encode_jpeg(picture))
        alpha = np.zeros((40, 60), np.uint8)
        alpha[10:30, 10:40] = 255
        Image.fromarray(alpha).save(tmp_path / f"{name}.png")
    (tmp_path / "three.png").unlink()
    (facts,) = inspected(capfd, tmp_path)
    assert (facts["kind"], facts["cutouts"], facts["backgrounds"]) == ("source of pictures", 2, 3)
    assert [row["name"] for row in facts["unusable_files"]] == ["three.jpg"]


def test_pictures_that_are_nothing_in_particular_are_not_made_out_to_be_a_source(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.jpg").write_bytes(encode_jpeg(np.zeros((40, 60, 3), np.uint8)))
    assert "no dataset recognised" in refused(capfd, tmp_path)
