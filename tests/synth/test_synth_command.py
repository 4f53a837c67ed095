"""``vosdata synth``: what it makes, what it says, and how it refuses a wrong call."""

import json
from pathlib import Path

import pytest

from shards.reader import ShardSet
from vosdata.cli.app import run

QUICK = ["synth", "--n", "3", "--frames", "2", "--size", "32x56", "--objects-per-video", "1-2", "--workers", "1"]


def test_it_makes_a_set_below_the_data_root_and_says_where(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--root", str(tmp_path), "--set", "quality=60", "--set", "scene.area=0.1,0.2"]) == 0
    out, err = capfd.readouterr()
    folder = tmp_path / "shards" / "synthvos"
    assert out.startswith(f"{folder}: 3 videos, 6 frames, ")
    assert "objects: builtin" in err and "backgrounds: builtin" in err
    shards = ShardSet(folder)
    assert len(shards) == 3
    assert shards.image(2, 1).shape == (32, 56, 3)
    assert shards.description["configuration"]["synth"]["quality"] == 60
    assert run([*QUICK, "--root", str(tmp_path), "--set", "quality=60", "--set", "scene.area=0.1,0.2"]) == 0
    assert "complete already" in capfd.readouterr().out
    assert run([*QUICK, "--root", str(tmp_path)]) == 1
    refusal = capfd.readouterr().err.splitlines()[-1]
    assert "quality" in refusal and "60" in refusal and "95" in refusal


def test_json_is_all_that_standard_output_holds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for already_complete in (False, True):
        assert run([*QUICK, "--out", str(tmp_path / "set"), "--json"]) == 0
        (report,) = json.loads(capfd.readouterr().out)
        tars = sum(path.stat().st_size for path in (tmp_path / "set").glob("*.tar"))
        assert report == {
            "folder": str(tmp_path / "set"),
            "num_records": 3,
            "num_frames": 6,
            "num_bytes": tars,
            "already_complete": already_complete,
            "skipped": [],
        }
    assert run([*QUICK, "--out", str(tmp_path / "scenes.parquet"), "--json"]) == 0
    (report,) = json.loads(capfd.readouterr().out)
    size = (tmp_path / "scenes.parquet").stat().st_size
    assert report == {"file": str(tmp_path / "scenes.parquet"), "num_scenes": 3, "num_bytes": size, "skipped": []}


def test_a_preset_sets_keys_and_set_wins(tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "set"), "--preset", "paper", "--set", "scene.tilt=5"]
    assert run([*QUICK, *options]) == 0
    scene = ShardSet(tmp_path / "set").description["configuration"]["synth"]["scene"]
    assert (scene["camera_pan"], scene["rotation"], scene["tilt"]) == (0.0, 0.0, 5.0)


def test_truth_is_stored_on_request(tmp_path: Path) -> None:
    assert run([*QUICK, "--out", str(tmp_path / "set"), "--truth", "visibility, flow"]) == 0
    shards = ShardSet(tmp_path / "set")
    assert shards.entry(0).extra_names == ("bwdflow.png", "fwdflow.png")
    assert {"flow_steps_per_pixel", "visible_fraction", "state"} < set(shards.record_json(0)["truth"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n", "0"], "0"),
        (["--n", "-5"], "-5"),
        (["--size", "432"], "HEIGHTxWIDTH"),
        (["--size", "0x0"], "size"),
        (["--size", "-2x9"], "HEIGHTxWIDTH"),
        (["--frames", "0"], "num_frames"),
        (["--objects-per-video", "many"], "FEWEST-MOST"),
        (["--objects-per-video", "4-2"], "must not exceed"),
        (["--objects-per-video", "0"], "objects_per_video"),
        (["--seed", "-1"], "-1"),
        (["--workers", "0"], "--workers"),
        (["--workers", "some"], "--workers"),
        (["--on-bad", "ignore"], "ignore"),
        (["--preset", "easy"], "easy"),
        (["--truth", "amodal,flows"], "flows"),
        (["--set", "scene.camera_pam=0"], "did you mean scene.camera_pan?"),
        (["--set", "scene.area=2,3"], "scene.area"),
        (["--device", "cuda"], "--device"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_two(
    options: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([*QUICK, "--out", str(tmp_path / "set"), *options]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "set").exists()


def test_sources_that_are_missing_or_empty_are_one_line_and_status_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for option in ("--objects", "--backgrounds"):
        for folder in ("empty", "nowhere"):
            assert run([*QUICK, "--out", str(tmp_path / "set"), option, str(tmp_path / folder)]) == 1
            lines = capfd.readouterr().err.strip().splitlines()
            assert len(lines) == 1 and folder in lines[0]


@pytest.mark.real_data
def test_without_sources_it_takes_what_the_data_root_holds(
    real_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "MSRA10K").symlink_to(real_data / "msra10k")
    (tmp_path / "raw" / "VOCdevkit").symlink_to(real_data / "voc2012" / "VOCdevkit")
    (tmp_path / "raw" / "DAVIS").symlink_to(real_data / "davis")
    assert run([*QUICK, "--root", str(tmp_path)]) == 0
    said = capfd.readouterr().err
    assert "MSRA10K (26 cutouts)" in said and "VOCdevkit (16 pictures)" in said and "DAVIS" not in said
