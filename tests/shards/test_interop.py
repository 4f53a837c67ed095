"""Other people's tools read our sets as they are: webdataset, Hugging Face datasets, tar."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image
from toy_plan import ToyPlan

from shards.build import build_shard_set
from shards.codec import decode_image
from shards.reader import ShardSet

MEMBERS = {"json", *(f"frame{number:05d}.jpg" for number in (0, 5, 10)), *(f"mask{n:05d}.png" for n in (0, 5, 10))}


@pytest.fixture(scope="module")
def equal_lengths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose records have the same members, as SynthVOS has."""
    folder = tmp_path_factory.mktemp("equal") / "toy"
    build_shard_set(ToyPlan(num_shards=2, records_per_shard=4, skip=(1, 3, 5, 7)), folder)
    return folder


@pytest.mark.parametrize("equal", [True, False])
def test_webdataset_reads_every_byte(toy_set: Path, equal_lengths: Path, equal: bool) -> None:
    folder = equal_lengths if equal else toy_set
    shard_set = ShardSet(folder)
    tars = [str(path) for path in sorted(folder.glob("*.tar"))]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert len(samples) == len(shard_set)
    for position, sample in enumerate(samples):
        entry = shard_set.entry(position)
        assert sample["__key__"] == entry.key
        assert json.loads(sample["json"]) == shard_set.record_json(position)
        members = {name for name in sample if not name.startswith("__")}
        for frame, number in enumerate(entry.frame_numbers.tolist()):
            assert sample[f"frame{number:05d}.jpg"] == shard_set.image_bytes(position, frame)
            members.discard(f"frame{number:05d}.jpg")
            if entry.annotated[frame]:
                assert sample[f"mask{number:05d}.png"] == shard_set.mask_bytes(position, frame)
                members.discard(f"mask{number:05d}.png")
        assert members == {"json"}


def check_hugging_face_rows(rows: list[dict], shard_set: ShardSet) -> None:
    assert len(rows) == len(shard_set)
    for row in rows:
        assert {name for name in row if not name.startswith("__")} == MEMBERS
        position = shard_set.find(row["__key__"])
        assert row["json"] == shard_set.record_json(position)
        for frame, number in enumerate((0, 5, 10)):
            mask = row[f"mask{number:05d}.png"]
            assert mask.mode == "P"
            np.testing.assert_array_equal(np.asarray(mask), shard_set.mask(position, frame))
            picture = np.asarray(row[f"frame{number:05d}.jpg"])
            np.testing.assert_array_equal(picture, shard_set.image(position, frame))


@pytest.fixture
def hugging_face(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    return datasets


def test_hugging_face_loads_sets_of_equal_length_and_masks_keep_their_indices(
    equal_lengths: Path,
    hugging_face,
    tmp_path: Path,
) -> None:
    files = {"train": sorted(str(path) for path in equal_lengths.glob("*.tar"))}
    shard_set = ShardSet(equal_lengths)
    loaded = hugging_face.load_dataset("webdataset", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    check_hugging_face_rows(list(loaded), shard_set)
    streamed = hugging_face.load_dataset("webdataset", data_files=files, split="train", streaming=True)
    check_hugging_face_rows(list(streamed), shard_set)


def test_hugging_face_loads_the_folder_by_its_card(equal_lengths: Path, hugging_face, tmp_path: Path) -> None:
    folder = shutil.copytree(equal_lengths, tmp_path / "folder")
    loaded = hugging_face.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    check_hugging_face_rows(list(loaded["train"]), ShardSet(equal_lengths))


def test_tar_lists_and_extracts_our_shards(toy_set: Path, tmp_path: Path) -> None:
    shard = toy_set / "toy-000000.tar"
    listed = subprocess.run(["tar", "tf", shard], capture_output=True, text=True, check=True)
    assert listed.stderr == ""
    names = listed.stdout.split()
    assert names[:3] == [
        "video%200%2E%C3%A9.json",
        "video%200%2E%C3%A9.frame00000.jpg",
        "video%200%2E%C3%A9.mask00000.png",
    ]
    subprocess.run(["tar", "xf", shard, "-C", tmp_path], check=True)
    shard_set = ShardSet(toy_set)
    np.testing.assert_array_equal(decode_image((tmp_path / names[1]).read_bytes()), shard_set.image(0, 0))
    with Image.open(io.BytesIO((tmp_path / names[2]).read_bytes())) as mask:
        np.testing.assert_array_equal(np.asarray(mask), shard_set.mask(0, 0))
