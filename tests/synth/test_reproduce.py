"""A set from its dataset.json alone: the same bytes, or an error that says why not."""

import json
from pathlib import Path

import pytest

from shards.manifest import seal
from vosdata.cli.app import run


def synth(*options: object) -> int:
    return run(["synth", *map(str, options), "--workers", "1"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "synthvos"
    options = ("--n", 3, "--size", "48x64", "--frames", 3, "--preset", "hard", "--seed", 5, "--truth", "order,camera")
    assert synth(*options, "--objects", "builtin", "--backgrounds", "builtin", "--out", folder) == 0
    return folder


def test_a_few_kilobytes_make_the_same_bytes_again(made: Path, tmp_path: Path) -> None:
    description = tmp_path / "few.json"
    description.write_bytes((made / "dataset.json").read_bytes())
    assert len(json.dumps(json.loads(description.read_bytes())["configuration"])) < 10_000
    assert synth("--from", description, "--out", tmp_path / "again") == 0
    files = {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir() if path.is_file()} == files


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"objects": {"name": "builtin", "num_pictures": 1000, "fingerprint": "other"}}, "objects.fingerprint"),
        ({"renderer_version": -1}, "renderer_version"),
        ({"synth": {"size": [0, 0]}}, "size"),
        ({"maker": "pack"}, "not of a set that vosdata synth made"),
        ({"scenes": {}}, "stored scenes"),
    ],
)
def test_what_would_give_other_bytes_is_refused(
    made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict, said: str
) -> None:
    content = json.loads((made / "dataset.json").read_bytes())
    content["configuration"] |= change
    (tmp_path / "dataset.json").write_bytes(seal(content))
    assert synth("--from", tmp_path / "dataset.json", "--out", tmp_path / "again") == 1
    assert said in capfd.readouterr().err
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("option", [("--n", 2), ("--size", "48x64"), ("--preset", "rich"), ("--set", "scene.tilt=1")])
def test_nothing_that_would_change_the_set_goes_with_it(made: Path, tmp_path: Path, option: tuple[str, object]) -> None:
    assert synth("--from", made / "dataset.json", "--out", tmp_path / "again", *option) == 2


def test_a_damaged_description_is_refused(made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dataset.json").write_bytes((made / "dataset.json").read_bytes().replace(b'"seed": 5', b'"seed": 6'))
    assert synth("--from", tmp_path / "dataset.json", "--out", tmp_path / "again") == 1
    assert "damaged" in capfd.readouterr().err
