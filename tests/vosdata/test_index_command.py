"""``vosdata index`` on the command line."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from vosdata.cli.app import run


def test_it_says_what_it_recognised_and_wrote(
    tiny_sets: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(tiny_sets["gamma"], tmp_path / "gamma"))
    before = (folder / "index.arrow").read_bytes()
    (folder / "index.arrow").unlink()
    assert run(["index", str(folder)]) == 0
    text = capfd.readouterr().out
    assert "2 shards of vosdata: 3 records, 24 frames (KEY.frame00000.jpg), 24 masks (KEY.mask00000.png)" in text
    assert "index.arrow written" in text
    assert (folder / "index.arrow").read_bytes() == before
    assert run(["index", str(folder), "--json"]) == 0
    (report,) = json.loads(capfd.readouterr().out)
    assert report["changed"] == [] and report["num_records"] == 3 and report["folder"] == str(folder)


def test_what_is_not_recognised_is_status_1_and_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"))
    assert run(["index", str(tmp_path)]) == 1
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert "record 'a' has no frame: expected members such as" in line
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_one_name_is_not_given_to_two_sets(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["index", str(tmp_path), str(tmp_path), "--name", "a"]) == 2
    assert "--name names one set" in capfd.readouterr().err
