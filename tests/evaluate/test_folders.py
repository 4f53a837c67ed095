"""Truth and predictions on disk, and the ``vosdata score`` command."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from shards.errors import DatasetError, ScoreError
from shards.types import Record
from vosdata.cli.app import run
from vosdata.evaluate.predictions import PredictionFolder, write_prediction
from vosdata.evaluate.score import score_videos
from vosdata.evaluate.truth import open_dataset, open_mask_folders, open_truth, usual_protocol

Mask = NDArray[np.uint8]
Make = Callable[..., Any]


def moving(object_id: int, num_frames: int = 5, step: int = 1) -> list[Mask]:
    masks = np.zeros((num_frames, 24, 32), np.uint8)
    for t in range(num_frames):
        masks[t, 4:16, 3 + step * t : 13 + step * t] = object_id
    return list(masks)


def write_sequence(folder: Path, masks: Sequence[Mask], numbers: Sequence[int] | None = None) -> None:
    for number, mask in zip(numbers or range(len(masks)), masks, strict=True):
        write_prediction(folder, number, mask)


def write_davis(root: Path, sequences: dict[str, Sequence[Mask]], val: Sequence[str], *, frames: bool = True) -> None:
    """A DAVIS 2017 folder at 480p whose val list names some of the sequences."""
    for name, masks in sequences.items():
        write_sequence(root / "Annotations" / "480p" / name, masks)
        if frames:
            (root / "JPEGImages" / "480p" / name).mkdir(parents=True)
            for t in range(len(masks)):
                picture = Image.new("RGB", (32, 24), (t, 2 * t, 3 * t))
                picture.save(root / "JPEGImages" / "480p" / name / f"{t:05d}.jpg")
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("\n".join(val) + "\n")
    (root / "ImageSets" / "2017" / "train.txt").write_text("\n".join(set(sequences) - set(val)) + "\n")


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    root = tmp_path / "DAVIS"
    write_davis(root, {"bear": moving(1), "cat": moving(1), "dog": moving(2)}, ["bear", "dog"])
    return root


@pytest.fixture
def guesses(tmp_path: Path) -> Path:
    folder = tmp_path / "predictions"
    write_sequence(folder / "bear", moving(1, step=2))
    write_sequence(folder / "dog", moving(2, step=2))
    return folder


@pytest.mark.parametrize("part", [".", "Annotations", "Annotations/480p"])
def test_truth_is_found_at_every_level_of_a_dataset(davis: Path, guesses: Path, part: str) -> None:
    videos = open_truth(davis / part)
    assert [video.name for video in videos] == ["bear", "dog"], "the val list, not every folder"
    assert len(score_videos(videos, PredictionFolder(guesses)).objects) == 3


def test_truth_needs_no_frames(tmp_path: Path, guesses: Path) -> None:
    root = tmp_path / "masks"
    write_davis(root, {"bear": moving(1), "cat": moving(1)}, ["bear"], frames=False)
    assert [video.name for video in open_truth(root)] == ["bear"]
    assert [video.name for video in open_truth(root, "train")] == ["cat"]
    with pytest.raises(DatasetError, match=r"test\.txt"):
        open_truth(root, "test")


def test_a_bare_folder_of_sequences_is_truth(guesses: Path) -> None:
    assert [video.name for video in open_truth(guesses)] == ["bear", "dog"]


def test_a_shard_set_and_its_masks_as_files_score_the_same(
    tmp_path: Path, tiny_sets: dict[str, Path], guesses: Path
) -> None:
    stored = open_truth(tiny_sets["alpha"])
    for video in stored:
        masks = [video.mask(t) for t in range(video.num_frames)]
        write_sequence(tmp_path / "truth" / video.name, [m for m in masks if m is not None], list(video.frame_numbers))
        shifted = [np.roll(np.where(m == 255, 0, m).astype(np.uint8), 1, axis=1) for m in masks if m is not None]
        write_sequence(tmp_path / "guess" / video.name, shifted, list(video.frame_numbers))
    predictions = PredictionFolder(tmp_path / "guess")
    from_shards = score_videos(stored, predictions)
    from_files = score_videos(open_truth(tmp_path / "truth"), predictions)
    assert 0.5 < from_shards.j.mean < 1
    assert {(o.sequence, o.object_id): o for o in from_shards.objects} == {
        (o.sequence, o.object_id): o for o in from_files.objects
    }


def test_predictions_are_found_by_number_whatever_the_padding(davis: Path, guesses: Path) -> None:
    expected = score_videos(open_truth(davis), PredictionFolder(guesses))
    for path in [*guesses.rglob("*.png")]:
        path.rename(path.with_name(f"{int(path.stem):08d}.png"))
    assert score_videos(open_truth(davis), PredictionFolder(guesses)) == expected


def test_missing_predictions_are_named(davis: Path, guesses: Path) -> None:
    (guesses / "dog" / "00002.png").unlink()
    with pytest.raises(ScoreError, match=r"dog: there is no prediction of frame 00002; 4 of the sequence's 5"):
        score_videos(open_truth(davis), PredictionFolder(guesses))
    (guesses / "dog").rename(guesses / "Dog")
    with pytest.raises(ScoreError, match="no prediction of sequence dog"):
        score_videos(open_truth(davis), PredictionFolder(guesses))


def test_unscored_end_frames_need_no_prediction(davis: Path, guesses: Path) -> None:
    for name in ("bear", "dog"):
        (guesses / name / "00000.png").unlink()
        (guesses / name / "00004.png").unlink()
    assert len(score_videos(open_truth(davis), PredictionFolder(guesses)).objects) == 3


def test_colour_predictions_are_refused_by_name(davis: Path, guesses: Path) -> None:
    path = guesses / "bear" / "00003.png"
    Image.open(path).convert("RGB").save(path)
    with pytest.raises(ScoreError, match=r"bear.*00003\.png.*RGB"):
        score_videos(open_truth(davis), PredictionFolder(guesses))


def test_gray_binary_truth_is_object_one(tmp_path: Path, guesses: Path) -> None:
    folder = tmp_path / "binary" / "bear"
    folder.mkdir(parents=True)
    for t, mask in enumerate(moving(1)):
        Image.fromarray(mask * 255).save(folder / f"{t:05d}.png")
    (video,) = open_mask_folders(folder.parent)
    assert [np.unique(video.mask(t)).tolist() for t in range(5)] == [[0, 1]] * 5
    write_sequence(tmp_path / "palette" / "bear", moving(1))
    (same,) = open_mask_folders(tmp_path / "palette")
    predictions = PredictionFolder(guesses)
    assert score_videos([video], predictions) == score_videos([same], predictions)


def test_written_predictions_are_palette_png_of_the_davis_colours(tmp_path: Path) -> None:
    mask = np.array([[0, 1], [2, 3]], np.uint8)
    path = write_prediction(tmp_path / "bear", 7, mask)
    assert path.name == "00007.png"
    with Image.open(path) as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.asarray(picture), mask)
        assert (picture.getpalette() or [])[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]


def test_the_protocol_follows_the_dataset(
    davis: Path,
    tmp_path: Path,
    build_tiny_set: Callable[[Path, str, Sequence[Record]], Path],
    tiny_sets: dict[str, Path],
) -> None:
    assert usual_protocol(davis) == "davis2017"
    assert usual_protocol(tiny_sets["alpha"]) == "davis2017"
    (davis / "ImageSets" / "2017").rename(davis / "ImageSets" / "2016")
    assert usual_protocol(davis) == "davis2016"
    assert [video.name for video in open_dataset(davis, None, "davis2016")] == ["bear", "dog"]


def test_the_year_of_the_protocol_chooses_the_list(davis: Path) -> None:
    (davis / "ImageSets" / "2016").mkdir()
    (davis / "ImageSets" / "2016" / "val.txt").write_text("cat\n")
    for part in (davis, davis / "Annotations" / "480p"):
        assert [video.name for video in open_truth(part, None, "davis2016")] == ["cat"]
        assert [video.name for video in open_truth(part, None, "davis2017")] == ["bear", "dog"]


def test_score_prints_a_table_and_json(davis: Path, guesses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["score", "--protocol", "davis2017", "--truth", str(davis), "--pred", str(guesses)]
    expected = score_videos(open_truth(davis), PredictionFolder(guesses))
    assert run(arguments) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:2] == ["sequence", "object"]
    assert table[-1].split()[:4] == ["davis2017", "all", "3", f"{expected.j_and_f:.3f}"]
    assert run([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["protocol"] == "davis2017"
    assert printed["J"]["mean"] == expected.j.mean
    assert printed["J&F"] == expected.j_and_f
    assert [row["object"] for row in printed["objects"]] == [1, 1, 2]
    assert {"mean", "recall", "decay"} == set(printed["F"])


@pytest.mark.parametrize("broken", ["truth", "pred"])
def test_a_folder_without_masks_is_one_clear_line(
    davis: Path, guesses: Path, tmp_path: Path, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    folders = {"truth": davis, "pred": guesses, broken: tmp_path / "empty"}
    assert run(["score", "--truth", str(folders["truth"]), "--pred", str(folders["pred"])]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.real_data
def test_untouched_davis2016_masks_score_as_their_palette_copies(real_data: Path) -> None:
    root = real_data / "davis"
    binary = PredictionFolder(root / "Annotations_binary_original" / "480p")
    score = score_videos(open_truth(root, "val"), binary, "davis2016")
    assert score.j_and_f == 1.0
    assert any("is this the truth itself" in warning for warning in score.warnings)
    with pytest.raises(ScoreError, match="value 255"):
        score_videos(open_truth(root, "val"), binary, "davis2017")
