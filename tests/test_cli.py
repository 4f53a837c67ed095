"""Every command: an example in its help, and one clear line with the right exit status on a wrong call."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vosdata.cli.app import COMMANDS, run


def call(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vosdata", *arguments], check=False, capture_output=True, text=True, cwd=cwd, timeout=120
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"vosdata {name}" in text.split("Example", 1)[1]


def wrong_calls(folder: Path) -> dict[str, list[str]]:
    """Calls that must fail, by name; ``folder`` holds an empty folder and nothing else."""
    missing, empty = str(folder / "missing"), str(folder / "empty")
    checkpoint = str(folder / "missing.safetensors")
    return {
        "no such command": ["synthesize"],
        "no such option": ["synth", "--frame-count", "8"],
        "synth: objects missing": ["synth", "--n", "2", "--objects", missing, "--out", str(folder / "o")],
        "synth: objects empty": ["synth", "--n", "2", "--objects", empty, "--out", str(folder / "o")],
        "synth: no videos": ["synth", "--n", "0", "--out", str(folder / "o")],
        "synth: bad size": ["synth", "--n", "2", "--size", "240", "--out", str(folder / "o")],
        "synth: bad key": ["synth", "--n", "2", "--set", "scene.framse=3", "--out", str(folder / "o")],
        "shard: missing": ["shard", missing],
        "shard: empty": ["shard", empty],
        "train: no such recipe": ["train", "smok", "--out", str(folder / "o")],
        "train: bad key": ["train", "smoke", "--set", "model.bakbone=resnet18", "--out", str(folder / "o")],
        "train: data missing": ["train", "smoke", "--data", missing, "--out", str(folder / "o")],
        "train: data empty": ["train", "smoke", "--data", empty, "--out", str(folder / "o")],
        "eval: no checkpoint": ["eval", checkpoint, "--data", empty],
        "score: missing": ["score", "--protocol", "davis2017", "--truth", missing, "--pred", missing],
        "score: empty": ["score", "--protocol", "davis2017", "--truth", empty, "--pred", empty],
        "score: no such protocol": ["score", "--protocol", "davis2018", "--truth", empty, "--pred", empty],
        "segment: missing": ["segment", missing, "--mask", missing, "--checkpoint", checkpoint],
        "segment: empty": ["segment", empty, "--mask", missing, "--checkpoint", checkpoint],
        "inspect: missing": ["inspect", missing],
        "inspect: empty": ["inspect", empty],
        "verify: missing": ["verify", missing],
        "verify: empty": ["verify", empty],
        "index: missing": ["index", missing],
        "index: empty": ["index", empty],
        "view: missing": ["view", missing],
        "view: empty": ["view", empty],
        "bench: missing": ["bench", missing],
        "bench: empty": ["bench", empty],
    }


WRONG_CALLS = list(wrong_calls(Path()))


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_a_wrong_call_is_one_clear_line(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    status = run(wrong_calls(tmp_path)[name])
    lines = capfd.readouterr().err.strip().splitlines()
    assert status in (1, 2)
    assert len(lines) == 1, lines
    assert lines[0].startswith("vosdata: ")


def test_a_misspelt_recipe_key_is_answered_with_the_right_one(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "smoke", "--set", "model.bakbone=resnet18"]) != 0
    assert "did you mean" in capfd.readouterr().err


def test_the_command_exits_with_the_status() -> None:
    assert call("--help").returncode == 0
    assert call("nonsense").returncode == 2


def test_a_closed_output_is_no_error() -> None:
    closed = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m vosdata --help >&-"], check=False, capture_output=True, text=True, timeout=60
    )
    assert (closed.returncode, closed.stderr) == (0, "")


@contextmanager
def no_room_beyond(num_bytes: int) -> Iterator[None]:
    """Lets no file grow beyond a size, which the system reports as it does a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_where_there_is_no_room_the_message_names_the_file_and_the_same_command_continues(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def make(folder: str) -> list[str]:
        sources = ["--objects", "builtin", "--backgrounds", "builtin"]
        return ["synth", "--n", "2", "--size", "96x128", "--workers", "1", *sources, "--out", str(tmp_path / folder)]

    with no_room_beyond(20_000):
        assert run(make("cut")) == 1
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert str(tmp_path / "cut" / "synthvos-000000.tar") in last
    assert "the same command continues" in last
    assert run(make("cut")) == run(make("whole")) == 0
    files = [
        sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*")) for name in ("cut", "whole")
    ]
    assert files[0] == files[1]
    assert all((tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in files[0])
