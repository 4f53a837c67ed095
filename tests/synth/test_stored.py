"""Stored scenes render again: to the same bytes with equal settings, at any size and length otherwise."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.build import build_shard_set
from shards.errors import BadFileError, ShardError, SourceError
from shards.plan import Skipped
from shards.reader import ShardSet
from shards.types import Record
from synth.builtin import BuiltinBackgrounds, BuiltinObjects
from synth.config import make_config
from synth.generate import SynthPlan
from synth.scene import Scene
from synth.sources import open_backgrounds, open_objects
from synth.stored import open_scenes
from synth.types import BackgroundSource, ObjectSource
from vosdata.cli.app import run

SETTINGS = ["--frames", "3", "--size", "32x56"]
QUICK = ["synth", "--n", "9", "--objects-per-video", "1-2", "--workers", "1", "--seed", "4", *SETTINGS]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the set ``first`` and the file ``scenes.parquet`` of the same scenes."""
    root = tmp_path_factory.mktemp("made")
    assert run([*QUICK, "--set", "quality=80", "--out", str(root / "first")]) == 0
    assert run([*QUICK, "--set", "quality=80", "--out", str(root / "scenes.parquet")]) == 0
    return root


def tars(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def scenes_of(folder: Path) -> list[Scene]:
    shards = ShardSet(folder)
    return [Scene.from_json(shards.record_json(number)["scene"]) for number in range(len(shards))]


@pytest.mark.parametrize("name", ["first", "scenes.parquet"])
def test_equal_settings_give_equal_bytes(made: Path, name: str, tmp_path: Path) -> None:
    """Size, length and quality are those of the first run when they are not given."""
    assert run(["synth", "--from", str(made / name), "--out", str(tmp_path / "again"), "--workers", "1"]) == 0
    assert tars(tmp_path / "again") == tars(made / "first")


@pytest.mark.parametrize("name", ["first", "scenes.parquet"])
def test_any_size_and_length_shows_the_same_scenes(made: Path, name: str, tmp_path: Path) -> None:
    options = ["--size", "64x112", "--frames", "5", "--n", "4", "--truth", "visibility"]
    assert run(["synth", "--from", str(made / name), "--out", str(tmp_path / "large"), *options]) == 0
    large, first = ShardSet(tmp_path / "large"), ShardSet(made / "first")
    assert len(large) == 4
    assert scenes_of(tmp_path / "large") == scenes_of(made / "first")[:4]
    for number in range(4):
        assert large.image(number, 4).shape == (64, 112, 3)
        for few, many in ((0, 0), (1, 2), (2, 4)):
            small, big = first.mask(number, few), large.mask(number, many)
            assert small is not None and big is not None
            assert (small == cv2.resize(big, (56, 32), interpolation=cv2.INTER_NEAREST)).mean() > 0.93


def test_scenes_alone_take_little_room_and_survive_pickling(made: Path) -> None:
    stored = open_scenes(str(made / "scenes.parquet"))
    assert [pickle.loads(pickle.dumps(stored)).scene(number) for number in range(9)] == scenes_of(made / "first")
    assert len(stored) == 9
    assert (made / "scenes.parquet").stat().st_size < 30_000


def test_row_groups_are_read_in_any_order(made: Path, tmp_path: Path) -> None:
    pq.write_table(pq.read_table(made / "scenes.parquet"), tmp_path / "cut.parquet", row_group_size=2)
    stored = open_scenes(str(tmp_path / "cut.parquet"))
    expected = scenes_of(made / "first")
    assert [stored.scene(number).index for number in (8, 0, 3, 2, 7)] == [8, 0, 3, 2, 7]
    assert [stored.scene(number) for number in range(9)] == expected


def test_scenes_come_out_of_an_export_too(made: Path) -> None:
    extra = ShardSet(made / "first")
    texts = [{"scene": extra.record_json(number)["scene"]} for number in range(9)]
    table = pa.table({"key": [str(number) for number in range(9)], "extra": [json.dumps(text) for text in texts]})
    pq.write_table(table, made / "exported.parquet")
    stored = open_scenes(str(made / "exported.parquet"))
    assert [stored.scene(number) for number in range(9)] == scenes_of(made / "first")
    assert stored.configuration == {}


def test_what_holds_no_scenes_is_refused(tmp_path: Path, toy_video_set: Path) -> None:
    (tmp_path / "text.parquet").write_text("hello")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({"scene": pa.array([], pa.utf8())}), tmp_path / "empty.parquet")
    pq.write_table(pa.table({"scene": ["{}"]}), tmp_path / "wrong.parquet")
    names = (("text", "cannot be read"), ("other", "neither"), ("empty", "no scenes"), ("wrong", "scene"))
    for name, message in (*names, ("missing", "cannot be read")):
        with pytest.raises(SourceError, match=message):
            open_scenes(str(tmp_path / f"{name}.parquet"))
    with pytest.raises(SourceError, match="has no scene; only sets of vosdata synth have"):
        open_scenes(str(toy_video_set))
    with pytest.raises(ShardError):
        open_scenes(str(tmp_path / "nowhere"))


@pytest.fixture
def toy_video_set(tmp_path: Path) -> Path:
    """A shard set whose records have no scene."""

    class Plain(SynthPlan):
        def records(self, shard: int) -> Iterator[Record | Skipped]:
            return (replace(item, extra={}) for item in super().records(shard) if isinstance(item, Record))

    config = make_config({"num_frames": 1, "size": (16, 16)})
    build_shard_set(Plain(config, BuiltinObjects(), BuiltinBackgrounds(), 1), tmp_path / "plain")
    return tmp_path / "plain"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "1"], "--seed"),
        (["--preset", "hard"], "--preset"),
        (["--objects-per-video", "1"], "--objects-per-video"),
        (["--set", "scene.tilt=3"], "--set scene.tilt"),
        (["--n", "10"], "at most that of the scenes, 9"),
    ],
)
def test_what_would_draw_other_scenes_is_a_wrong_call(
    made: Path, options: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    assert run(["synth", "--from", str(made / "first"), "--out", str(tmp_path / "set"), *options]) == 2
    assert message in capfd.readouterr().err.strip().splitlines()[-1]
    assert run(["synth", "--from", str(made / "first")]) == 2
    assert "--out" in capfd.readouterr().err
    assert run(["synth", "--out", str(tmp_path / "set")]) == 2
    assert "--n" in capfd.readouterr().err


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("objects", "walls"):
        (tmp_path / folder).mkdir()
    for number in range(4):
        rgb = rng.integers(0, 256, (72, 80, 3), np.uint8)
        mask = np.zeros((72, 80), np.uint8)
        cv2.circle(mask, (40, 30), 15 + 3 * number, 255, -1)
        cv2.imwrite(str(tmp_path / "objects" / f"{number}.jpg"), rgb)
        cv2.imwrite(str(tmp_path / "objects" / f"{number}.png"), mask)
        cv2.imwrite(str(tmp_path / "walls" / f"{number}.jpg"), rgb)
    return tmp_path


def test_pictures_that_are_missing_stop_the_run_and_bad_ones_can_be_left_out(pictures: Path) -> None:
    def sources() -> tuple[ObjectSource, BackgroundSource]:
        return open_objects(pictures / "objects"), open_backgrounds(pictures / "walls")

    config = make_config({"num_frames": 2, "size": (32, 56), "objects_per_video": (1, 2)})
    build_shard_set(SynthPlan(config, *sources(), 12), pictures / "first")
    stored = open_scenes(str(pictures / "first"))
    with pytest.raises(SourceError, match=r"builtin: scene 0 names .*--objects"):
        SynthPlan(config, BuiltinObjects(), open_backgrounds(pictures / "walls"), 12, stored=stored)
    photo = pictures / "walls" / "2.jpg"
    photo.write_bytes(photo.read_bytes()[:200])
    plan = SynthPlan(config, *sources(), 12, stored=stored)
    with pytest.raises(BadFileError, match=r"2\.jpg.*--on-bad skip"):
        list(chain.from_iterable(plan.records(shard) for shard in range(plan.num_shards)))
    plan = SynthPlan(config, *sources(), 12, stored=stored, on_bad="skip")
    items = [item for shard in range(plan.num_shards) for item in plan.records(shard)]
    left_out = {item.name for item in items if isinstance(item, Skipped)}
    hurt = {
        f"scene {scene.index}" for scene in scenes_of(pictures / "first") if scene.background.name.endswith("2.jpg")
    }
    assert left_out == hurt and hurt
    kept = {item.sequence for item in items if isinstance(item, Record)}
    assert len(kept) == 12 - len(hurt)


def test_other_pictures_of_the_same_names_are_told(pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sources = ["--objects", str(pictures / "objects"), "--backgrounds", str(pictures / "walls")]
    assert run([*QUICK, *sources, "--out", str(pictures / "first")]) == 0
    cv2.imwrite(str(pictures / "walls" / "1.jpg"), np.zeros((72, 80, 3), np.uint8))
    capfd.readouterr()
    assert run(["synth", "--from", str(pictures / "first"), *sources, "--out", str(pictures / "again")]) == 0
    assert "backgrounds: walls is not what the scenes were drawn from" in capfd.readouterr().err
