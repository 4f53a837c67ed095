"""``vosdata synth --match``: the set is an ordinary one, and the page lies beside it."""

import json
from functools import partial
from pathlib import Path

import pytest

from synth.match import match
from vosdata.cli.app import run

SOURCES = ["--objects", "builtin", "--backgrounds", "builtin", "--workers", "1"]
SMALL = ["--frames", "3", "--size", "48x64"]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("target") / "target"
    few = ["--objects-per-video", "2", "--set", "scene.displacement=0.02,0.05", "--preset", "paper"]
    assert run(["synth", "--n", "12", *SOURCES, *SMALL, *few, "--seed", "9", "--out", str(folder)]) == 0
    return folder


def test_a_matched_set_is_made_again_without_its_target(
    tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synth.match.match", partial(match, num_scenes=12))  # enough to see that it acts
    fit = ["--match", str(target), "--set", "scene.tilt=5", "--set", "scene.area=0.02,0.03"]
    out = tmp_path / "set"
    assert run(["synth", "--n", "2", *SOURCES, *SMALL, *fit, "--out", str(out)]) == 0
    told = capsys.readouterr().err
    assert "distance before" in told and "occlusion" in told
    assert "data:image/svg+xml" in (tmp_path / "set.match.html").read_text()
    made = json.loads((out / "dataset.json").read_text())["configuration"]["synth"]
    assert made["objects_per_video"] == [2, 2]
    assert made["scene"]["area"] == [0.02, 0.03]  # named, so it stays
    assert made["scene"]["tilt"] == 5
    assert run(["synth", "--from", str(out / "dataset.json"), *SOURCES, "--out", str(tmp_path / "again")]) == 0
    assert content(tmp_path / "again") == content(out)


def test_wrong_targets_are_one_line(tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["synth", "--n", "2", *SOURCES, *SMALL, "--out", str(tmp_path / "set")]
    assert run([*call, "--match", str(tmp_path)]) == 1
    assert "is no shard set" in capsys.readouterr().err.splitlines()[-1]
    assert run([*call, "--match", str(target), "--from", str(target)]) == 2
    assert "--match says how scenes are drawn" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
