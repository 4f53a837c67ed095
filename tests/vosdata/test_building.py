"""The options of ``synth`` and ``shard`` that say where shards are made, and by whom."""

import subprocess
import sys
from pathlib import Path

import pytest

from shards.reader import ShardSet
from vosdata.cli.app import run

SYNTH = ["synth", "--n", "4", "--objects", "builtin", "--backgrounds", "builtin", "--frames", "2", "--size", "32x48"]
ONE = ["--workers", "1"]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_tasks_of_synth_make_what_one_call_makes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SYNTH, *ONE, "--out", str(tmp_path / "whole")]) == 0
    for task in ("1", "0"):
        capsys.readouterr()
        shared = ["--num-tasks", "2", "--task-id", task, "--out", str(tmp_path / "shared")]
        assert run([*SYNTH, *ONE, *shared]) == 0
        told = capsys.readouterr()
        if task == "1":
            assert "task 1 of 2 has made its 2 shards; 2 of other tasks are missing" in told.err
            assert not (tmp_path / "shared" / "dataset.json").exists()
    assert "4 videos" in told.out
    assert content(tmp_path / "whole") == content(tmp_path / "shared")
    assert len(ShardSet(tmp_path / "shared")) == 4


def test_tasks_of_shard_make_what_one_call_makes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    from shards.codec import encode_jpeg
    from shards.masks import encode_mask

    for name in ("bear", "swan"):
        for part, suffix, data in (
            ("JPEGImages/480p", "jpg", encode_jpeg(np.zeros((16, 24, 3), np.uint8))),
            ("Annotations/480p", "png", encode_mask(np.eye(16, 24, dtype=np.uint8))),
        ):
            folder = tmp_path / "raw" / part / name
            folder.mkdir(parents=True)
            (folder / f"00000.{suffix}").write_bytes(data)
    call = ["shard", str(tmp_path / "raw"), *ONE]
    assert run([*call, "--out", str(tmp_path / "whole")]) == 0
    for task in ("1", "0"):
        assert run([*call, "--num-tasks", "2", "--task-id", task, "--out", str(tmp_path / "shared")]) == 0
    (whole,) = (tmp_path / "whole").iterdir()
    assert content(whole) == content(tmp_path / "shared" / whole.name)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--num-tasks", "2"], "--num-tasks and --task-id go together"),
        (["--task-id", "0"], "--num-tasks and --task-id go together"),
        (["--num-tasks", "2", "--task-id", "2"], "--task-id must be 0 to 1 with --num-tasks 2, got 2"),
        (["--num-tasks", "2", "--task-id", "0", "--engine", "ray"], "leave it out with --engine ray"),
    ],
)
def test_contradictions_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    assert run([*SYNTH, *options, "--out", str(tmp_path / "set")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_a_missing_ray_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # what an absent module looks like to import
    assert run([*SYNTH, "--engine", "ray", "--out", str(tmp_path / "set")]) == 1
    assert capsys.readouterr().err.strip() == (
        "vosdata: the engine ray needs Ray, which is not installed: pip install vosdata[ray]"
    )


def test_ctrl_c_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vosdata.cli.building.Building.build", press)
    assert run([*SYNTH, "--out", str(tmp_path / "set")]) == 130
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1] == "vosdata: interrupted; the same command continues where this one stopped"


def test_an_interrupted_command_ends_tidily() -> None:
    """What is registered to be released at the end is, such as the semaphores of worker processes."""
    interrupted = (
        "import atexit\n"
        "from vosdata.cli import app, main\n"
        "app.run = lambda arguments: app.INTERRUPTED\n"
        "atexit.register(print, 'released')\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "released\n", "")
