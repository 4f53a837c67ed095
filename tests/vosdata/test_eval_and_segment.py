"""``vosdata eval`` and ``vosdata segment`` with a small untrained network: what they write and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shards.codec import decode_image, encode_jpeg
from shards.masks import decode_mask, encode_mask
from vosdata.checkpoint import Checkpoint, load_model, save_checkpoint
from vosdata.cli.app import run
from vosdata.evaluate.predictions import PredictionFolder
from vosdata.evaluate.score import score_videos
from vosdata.evaluate.truth import open_dataset
from vosdata.models.agame import AGAME, VideoSegmenter
from vosdata.recipe import load_recipe

SMALL = [f"model.{part}_channels=8" for part in ("appearance", "propagation", "fusion", "encoding", "upsampling")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network with very narrow heads."""
    recipe = load_recipe("smoke", [*SMALL, "model.backbone_width=8"])
    path = tmp_path_factory.mktemp("run") / "small.safetensors"
    model = AGAME(recipe.model.config(), seed=3)
    save_checkpoint(path, Checkpoint(step=0, recipe=recipe, stream={}, model=model.state_dict()))
    return path


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A folder of six frames of 40x56, numbered from 4, in which a bright square moves over noise."""
    folder = tmp_path / "walk"
    folder.mkdir()
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 120, (40, 56, 3), np.uint8)
    for t in range(6):
        rgb = noise.copy()
        rgb[10:26, 6 + 3 * t : 22 + 3 * t] = (230, 180, 40)
        (folder / f"{4 + t:05d}.jpg").write_bytes(encode_jpeg(rgb))
    return folder


def square(object_id: int, left: int, top: int = 10) -> np.ndarray:
    mask = np.zeros((40, 56), np.uint8)
    mask[top : top + 16, left : left + 16] = object_id
    return mask


def expected_masks(checkpoint: Path, frames: Path, given: dict[int, np.ndarray]) -> list[np.ndarray]:
    model, _ = load_model(checkpoint)
    segmenter = VideoSegmenter(model)
    paths = sorted(frames.glob("*.jpg"))
    return [segmenter.step(decode_image(path.read_bytes()), given.get(t)) for t, path in enumerate(paths)]


def test_segment_writes_the_masks_of_the_network_and_a_video(
    checkpoint: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, joining = tmp_path / "first.png", tmp_path / "00006.png"
    first.write_bytes(encode_mask(square(1, 6)))
    joining.write_bytes(encode_mask(square(2, 30, 20) + square(1, 0, 0)))
    out = tmp_path / "out"
    arguments = ["segment", str(frames), "--mask", str(first), "--mask", str(joining), "--checkpoint", str(checkpoint)]
    assert run([*arguments, "--out", str(out)]) == 0

    written = sorted((out / "masks").iterdir())
    assert [path.name for path in written] == [f"{number:05d}.png" for number in range(4, 10)]
    masks = [decode_mask(path.read_bytes()) for path in written]
    expected = expected_masks(checkpoint, frames, {0: square(1, 6), 2: square(2, 30, 20)})
    assert all(np.array_equal(*pair) for pair in zip(masks, expected, strict=True))
    assert np.array_equal(masks[0], square(1, 6)), "the first frame is what was given"
    assert 2 in masks[2]
    with Image.open(written[0]) as picture:
        assert picture.mode == "P"

    video = next(out.glob("overlay.*"))
    assert str(video) in capsys.readouterr().out
    assert video.stat().st_size > 0


def test_segment_again_gives_the_same_and_another_mask_is_refused(
    checkpoint: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = tmp_path / "first.png"
    mask.write_bytes(encode_mask(square(1, 6)))
    arguments = [
        "segment",
        str(frames),
        "--mask",
        str(mask),
        "--checkpoint",
        str(checkpoint),
        "--out",
        str(tmp_path / "o"),
    ]
    assert run(arguments) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "o" / "masks").iterdir()}
    assert run(arguments) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "o" / "masks").iterdir()} == before
    mask.write_bytes(encode_mask(square(1, 8)))
    capsys.readouterr()
    assert run(arguments) == 1
    assert "masks" in capsys.readouterr().err


def test_a_mask_that_does_not_fit_leaves_no_output_behind(
    checkpoint: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = tmp_path / "first.png"
    mask.write_bytes(encode_mask(square(1, 6)[:, :-2]))
    out = tmp_path / "out"
    status = run(["segment", str(frames), "--mask", str(mask), "--checkpoint", str(checkpoint), "--out", str(out)])
    assert status == 1
    assert "40x54" in capsys.readouterr().err
    assert not out.exists()


def test_eval_writes_predictions_and_their_score(
    checkpoint: Path, tiny_sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "predictions"
    data = tiny_sets["alpha"]
    assert run(["eval", str(checkpoint), "--data", str(data), "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    videos = open_dataset(data)
    assert {path.name for path in out.iterdir() if path.is_dir()} == {video.name for video in videos}
    score = score_videos(videos, PredictionFolder(out))
    assert printed == json.loads(json.dumps(score.to_json()))
    assert printed["protocol"] == "davis2017"
    assert len(printed["objects"]) == sum(1 + n % 3 for n in range(5))

    for video in videos:  # the network saw the first mask and nothing else
        first = video.mask(0)
        assert first is not None
        number = video.frame_numbers[0]
        prediction = decode_mask((out / video.name / f"{number:05d}.png").read_bytes())
        assert np.array_equal(prediction, np.where(first == 255, 0, first))


def test_eval_continues_with_the_sequences_that_are_missing(
    checkpoint: Path, tiny_sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "predictions"
    arguments = ["eval", str(checkpoint), "--data", str(tiny_sets["gamma"]), "--out", str(out)]
    assert run(arguments) == 0
    table = capsys.readouterr().out
    kept, again = sorted(path for path in out.iterdir() if path.is_dir())[:2]
    stamps = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    content = {path.name: path.read_bytes() for path in again.iterdir()}
    again.rename(out / f".{again.name}.part")  # as if killed before the last step
    assert run(arguments) == 0
    assert capsys.readouterr().out == table
    assert {path: path.stat().st_mtime_ns for path in kept.iterdir()} == stamps
    assert {path.name: path.read_bytes() for path in again.iterdir()} == content
    for option, value in (("--protocol", "davis2016"), ("--data", str(tiny_sets["alpha"]))):
        assert run([*arguments, option, value]) == 1
        assert f"{option[2:]} is" in capsys.readouterr().err


def test_eval_without_an_output_leaves_nothing(
    checkpoint: Path, tiny_sets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["eval", str(checkpoint), "--data", str(tiny_sets["gamma"])]) == 0
    assert not list(tmp_path.iterdir())


def test_under_davis2016_all_objects_are_given_as_one(
    checkpoint: Path, tiny_sets: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "predictions"
    data = str(tiny_sets["alpha"])
    assert run(["eval", str(checkpoint), "--data", data, "--protocol", "davis2016", "--out", str(out)]) == 0
    values = {int(v) for path in out.rglob("*.png") for v in np.unique(decode_mask(path.read_bytes()))}
    assert values <= {0, 1}


def test_a_device_that_is_not_there_is_a_wrong_call(
    checkpoint: Path, tiny_sets: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", str(checkpoint), "--data", str(tiny_sets["gamma"]), "--device", "gpu7"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_lower_precision_is_a_choice_that_is_remembered_with_the_output(
    checkpoint: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = tmp_path / "first.png"
    mask.write_bytes(encode_mask(square(1, 6)))
    chosen = []
    started = VideoSegmenter.__init__

    def noting(self: VideoSegmenter, *arguments: object, **options: object) -> None:
        started(self, *arguments, **options)
        chosen.append(self.autocast)

    monkeypatch.setattr(VideoSegmenter, "__init__", noting)
    call = ["segment", str(frames), "--mask", str(mask), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "o")]
    assert run([*call, "--device=cpu", "--precision=bfloat16"]) == 0
    assert chosen == [torch.bfloat16]
    assert run([*call, "--device=cpu"]) == 1  # auto is float32 here
    refusal = capsys.readouterr().err
    assert "precision" in refusal and "bfloat16" in refusal and "float32" in refusal
