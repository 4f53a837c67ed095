"""``vosdata view`` on everything that it opens, and what the pictures then show."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.errors import DatasetError
from vosdata.cli.app import run
from vosdata.view.drawn import fitted, open_drawn, spread


def rgb_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def reddish(picture: np.ndarray) -> int:
    """Pixels in the pure red of object 1's outline."""
    return int(((picture[..., 0] > 200) & (picture[..., 1] < 60) & (picture[..., 2] < 60)).sum())


def test_a_dataset_becomes_a_contact_sheet(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out" / "sheet.png"
    assert run(["view", str(dataset), "--out", str(target), "--height", "50"]) == 0
    assert str(target) in capsys.readouterr().out
    sheet = rgb_of(target)
    assert reddish(sheet) > 9 * 40
    assert sheet.shape[0] > 2 * 50


def test_the_output_is_named_after_the_folder(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["view", str(dataset)]) == 0
    assert capsys.readouterr().out.startswith("animals.jpg")
    assert rgb_of(tmp_path / "animals.jpg").size


def test_a_shard_set_becomes_a_video(tiny_sets: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "clip.webp"
    assert run(["view", str(tiny_sets["gamma"]), "--out", str(target)]) == 0
    with Image.open(target) as picture:
        assert picture.n_frames == 3 * 8
        assert picture.size == (40, 24)


def test_a_page_carries_a_strip_per_sequence_and_clips(dataset: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    assert run(["view", str(dataset), "--out", str(target)]) == 0
    page = target.read_text()
    assert page.count("data:image/jpeg") == 2
    assert page.count("data:video/mp4") + page.count("data:image/webp") == 2
    assert "<h2>bear</h2>" in page


def test_predictions_are_shown_alone_or_over_their_frames(predictions: Path, dataset: Path) -> None:
    alone = open_drawn(predictions)[0].picture(0)
    over = open_drawn(predictions, frames_from=dataset)[0].picture(0)
    assert alone[0, 0].tolist() == [0, 0, 0]
    assert over[0, 0].tolist() == pytest.approx([100, 100, 100], abs=3)
    assert alone[20, 15].tolist() == [0, 128, 0]
    assert over[20, 15].tolist() == pytest.approx([50, 114, 50], abs=3)


def test_frames_without_annotation_are_shown_as_they_are(dataset: Path) -> None:
    dog = open_drawn(dataset)[1]
    assert dog.name == "dog"
    assert reddish(dog.picture(3)) == 0
    assert reddish(dog.picture(2)) > 0


def test_predictions_of_another_size_than_the_frames_are_refused(predictions: Path, dataset: Path) -> None:
    (predictions / "bear").rename(predictions / "keep")
    (predictions / "dog").rename(predictions / "bear")
    (predictions / "keep").rename(predictions / "dog")
    with pytest.raises(DatasetError, match="bear: mask of frame 0 is 50x60, the frame is 40x60"):
        open_drawn(predictions, frames_from=dataset)[0].picture(0)


@pytest.mark.parametrize(
    ("extra", "status"), [(["--out", "film.gif"], 2), (["--sequence", "cat"], 2), (["--data", "nowhere"], 2)]
)
def test_wrong_calls_are_one_clear_line(
    extra: list[str],
    status: int,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["view", str(dataset), *extra]) == status
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_places_are_spread_from_first_to_last() -> None:
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(3, 6) == [0, 1, 2]
    assert spread(1, 6) == [0]
    assert spread(5, 1) == [0]


def test_fitting_keeps_proportions_and_fills_with_black() -> None:
    white = np.full((20, 20, 3), 255, np.uint8)
    inside = fitted(white, 40, 100)
    assert inside.shape == (40, 100, 3)
    assert (inside == 255).all(axis=2).sum() == 40 * 40
    assert fitted(np.full((90, 10, 3), 255, np.uint8), 30, 30).shape == (30, 30, 3)
    assert fitted(np.full((10, 90, 3), 255, np.uint8), 30, 30).shape == (30, 30, 3)


def test_looking_at_things_needs_no_torch() -> None:
    code = "import sys, vosdata.view.drawn, vosdata.view.page, vosdata.view.video; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_folder_of_shard_sets_is_answered_with_one_of_them(tiny_sets: dict[str, Path]) -> None:
    parent = tiny_sets["alpha"].parent
    with pytest.raises(DatasetError, match=rf"holds {len(tiny_sets)} shard sets; look at one of them.*alpha"):
        open_drawn(parent)


def test_a_file_is_not_said_to_be_missing(tiny_sets: dict[str, Path]) -> None:
    with pytest.raises(DatasetError, match="is a file, expected a folder"):
        open_drawn(tiny_sets["alpha"] / "dataset.json")
