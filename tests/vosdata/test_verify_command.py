"""``vosdata verify``: exit status 0 for intact sets only, one clear line for damage."""

import json
import shutil
from pathlib import Path

import pytest

from vosdata.cli.app import run


@pytest.fixture
def sets(tiny_sets: dict[str, Path], tmp_path: Path) -> Path:
    """A folder of three shard sets that may be damaged."""
    for name, folder in tiny_sets.items():
        shutil.copytree(folder, tmp_path / "shards" / name)
    return tmp_path / "shards"


def damage(folder: Path) -> Path:
    path = sorted(folder.glob("*.tar"))[0]
    data = bytearray(path.read_bytes())
    data[600] ^= 4
    path.write_bytes(data)
    return path


def test_intact_sets_pass_one_by_one_or_by_their_folder(sets: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(sets / "alpha"), str(sets / "beta")]) == 0
    assert run(["verify", str(sets)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(": intact (" in line for line in lines)


def test_damage_is_status_1_and_says_where(sets: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = damage(sets / "beta")
    assert run(["verify", str(sets)]) == 1
    captured = capfd.readouterr()
    assert captured.err.count("\n") == 1
    assert f"{sets / 'beta'} is damaged: {path.name} at byte 512 (record" in captured.err
    assert f"{sets / 'alpha'}: intact" in captured.out
    assert f"{sets / 'beta'}: 2 problems" in captured.out


def test_a_damaged_dataset_file_is_named_once_with_one_remedy(sets: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = sets / "beta" / "dataset.json"
    path.write_bytes(path.read_bytes().replace(b'"title"', b'"tItle"'))
    assert run(["verify", str(sets / "beta")]) == 1
    said = capfd.readouterr().err
    assert said.startswith(f"vosdata: {sets / 'beta'} is damaged: dataset.json: its checksum is")
    assert said.endswith("Nothing else was checked; copy or make the damaged files again\n")
    assert (said.count("is damaged"), said.count("dataset.json"), said.count("again")) == (1, 1, 1)


def test_json_report_lists_every_problem(sets: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = damage(sets / "gamma")
    assert run(["verify", str(sets), "--json"]) == 1
    reports = json.loads(capfd.readouterr().out)
    assert [report["intact"] for report in reports] == [True, True, False]
    first = reports[2]["problems"][0]
    assert (first["file"], first["offset"]) == (path.name, 512)
    assert first["member"].endswith(".json")


def test_an_incomplete_set_is_said_to_be_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "half" / ".building").mkdir(parents=True)
    assert run(["verify", str(tmp_path / "half")]) == 1
    assert "incomplete shard set" in capfd.readouterr().err


def test_the_command_that_mends_a_damaged_index_is_named(sets: Path, capfd: pytest.CaptureFixture[str]) -> None:
    index = sets / "beta" / "index.arrow"
    index.write_bytes(index.read_bytes()[:-8])
    assert run(["verify", str(sets / "beta")]) == 1
    assert "; vosdata index makes it anew" in capfd.readouterr().err
    assert run(["index", str(sets / "beta")]) == 0
    assert run(["verify", str(sets / "beta")]) == 0
    damage(sets / "beta")
    assert run(["verify", str(sets / "beta")]) == 1
    assert "vosdata index" not in capfd.readouterr().err
