"""Further files of frames: stored, checked, indexed and read like the rest, and seen by other people's readers."""

import io
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image
from toy_plan import ToyPlan, toy_record

from shards.build import build_shard_set
from shards.plan import Skipped
from shards.reader import ShardSet
from shards.rebuild import rebuild
from shards.types import Record
from shards.verify import verify
from shards.writer import ShardWriter


def picture(value: int) -> bytes:
    """A 2x3 gray PNG."""
    file = io.BytesIO()
    Image.fromarray(np.full((2, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def with_extras(record: Record) -> Record:
    """Every frame gets a ``depth.png``; all but the last a ``fwdflow.png``."""
    frames = []
    for place, frame in enumerate(record.frames):
        extras = {"fwdflow.png": picture(100 + place)} if place < len(record.frames) - 1 else {}
        frames.append(replace(frame, extras={**extras, "depth.png": picture(place)}))
    return replace(record, frames=tuple(frames))


class ExtrasPlan(ToyPlan):
    """Toy records with extras."""

    def records(self, shard: int) -> Iterator[Record | Skipped]:
        for item in super().records(shard):
            yield with_extras(item) if isinstance(item, Record) else item


@pytest.fixture(scope="module")
def extras_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extras") / "toy"
    build_shard_set(ExtrasPlan(num_shards=2, records_per_shard=4, skip=(1, 3, 5, 7)), folder)
    return folder


def test_extras_lie_behind_the_usual_members_by_name_and_frame(extras_set: Path) -> None:
    with tarfile.open(extras_set / "toy-000000.tar") as tar:
        endings = [name.partition(".")[2] for name in tar.getnames()]
    extras = ["depth00000.png", "depth00005.png", "depth00010.png", "fwdflow00000.png", "fwdflow00005.png"]
    assert endings[6:12] == ["mask00010.png", *extras]


def test_extras_come_back_as_they_went_in(extras_set: Path) -> None:
    shard_set = ShardSet(extras_set)
    expected = with_extras(toy_record("video 2.é", 0, 2))
    stored = shard_set.record(1)
    assert [frame.extras for frame in stored.frames] == [frame.extras for frame in expected.frames]
    assert shard_set.entry(1).extra_names == ("depth.png", "fwdflow.png")
    assert shard_set.extra_bytes(1, 0, "fwdflow.png") == picture(100)
    assert shard_set.extra_bytes(1, 2, "fwdflow.png") is None
    assert shard_set.extra_bytes(1, 0, "amodal.png") is None
    with pytest.raises(IndexError):
        shard_set.extra_bytes(1, 3, "depth.png")


def test_damage_in_an_extra_is_found_and_named(extras_set: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(extras_set, tmp_path / "toy")
    offset = int(ShardSet(folder).entry(0).extra_offsets[1, 1])
    data = bytearray((folder / "toy-000000.tar").read_bytes())
    data[offset + 40] ^= 1
    (folder / "toy-000000.tar").write_bytes(data)
    found = verify(folder).problems[0]
    assert (found.offset, found.record, found.member) == (
        offset,
        "video%200%2E%C3%A9",
        "video%200%2E%C3%A9.fwdflow00005.png",
    )
    with pytest.raises(Exception, match=r"fwdflow00005\.png at byte"):
        ShardSet(folder).extra_bytes(0, 1, "fwdflow.png")


def test_a_set_with_extras_is_clean_and_its_index_can_be_made_again(extras_set: Path, tmp_path: Path) -> None:
    report = verify(extras_set)
    assert report.problems == ()
    assert report.num_members == 4 * (1 + 3 + 3 + 3 + 2)
    folder = shutil.copytree(extras_set, tmp_path / "toy")
    (folder / "index.arrow").unlink()
    rebuilt = rebuild(folder)
    assert "extras (KEY.depth00000.png x 12, KEY.fwdflow00000.png x 8)" in rebuilt.recognised
    assert "left alone" not in rebuilt.recognised
    assert (folder / "index.arrow").read_bytes() == (extras_set / "index.arrow").read_bytes()


def test_webdataset_and_hugging_face_read_extras(
    extras_set: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tars = [str(path) for path in sorted(extras_set.glob("*.tar"))]
    sample = next(iter(webdataset.WebDataset(tars, shardshuffle=False)))
    assert sample["depth00005.png"] == picture(1)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    import datasets

    loaded = datasets.load_dataset("webdataset", data_files={"train": tars}, split="train", streaming=True)
    row = next(iter(loaded))
    assert np.asarray(row["fwdflow00005.png"]).tolist() == np.full((2, 3), 101).tolist()


@pytest.mark.parametrize("name", ["mask.png", "img.jpg", "amodal", "Depth.png", "a.b.c", "longword.png", "x1.png", ""])
def test_names_that_would_be_taken_for_something_else_are_refused(name: str) -> None:
    record = toy_record("a")
    frames = (replace(record.frames[0], extras={name: b"x"}), *record.frames[1:])
    with pytest.raises(ValueError, match="an extra may not be called"):
        ShardWriter(io.BytesIO(), 0).add(replace(record, frames=frames))


def test_an_empty_extra_is_refused() -> None:
    record = toy_record("a")
    frames = (replace(record.frames[0], extras={"depth.png": b""}), *record.frames[1:])
    with pytest.raises(ValueError, match=r"depth\.png of frame 0 is empty"):
        ShardWriter(io.BytesIO(), 0).add(replace(record, frames=frames))
