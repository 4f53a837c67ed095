"""The report of a training: what its folder holds stands on its page, and what the network saw is what is drawn."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from vosdata.cli.app import run
from vosdata.datasets.sized import SizedVideo
from vosdata.datasets.videos import open_videos
from vosdata.models.agame import AGAME, VideoSegmenter
from vosdata.models.agame.watching import watching
from vosdata.recipe import Recipe, load_recipe
from vosdata.stream import SnippetStream
from vosdata.train import train
from vosdata.view.run_folder import open_run
from vosdata.view.watched import COLOURS, heat, likeliest, watch

TINY = [
    "model.backbone_width=4",
    *(f"model.{part}_channels=4" for part in ("appearance", "propagation", "fusion", "encoding", "upsampling")),
    "data.frames=2",
    "data.size=32x48",
    "data.min_object_pixels=10",
    "data.epoch_size=4",
    "train.batch=2",
    "train.steps=3",
    "run.threads=1",
    "run.log_every=1",
]


def recipe(folder: Path, *more: str) -> Recipe:
    return load_recipe("smoke", [*TINY, f"data.sets={json.dumps({str(folder): 1})}", *more])


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, tiny_sets: dict[str, Path]) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    train(recipe(tiny_sets["alpha"]), out=folder, device="cpu", on_message=lambda line: None)
    return folder


def network(*more: str) -> AGAME:
    return AGAME(load_recipe("smoke", [*TINY, *more]).model.config()).eval()


def test_a_training_becomes_one_page_that_refers_to_nothing_outside(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["view", str(run_folder), "--rows", "5", "--columns", "3", "--height", "40"]) == 0
    assert "small.html" in capsys.readouterr().out
    page = (tmp_path / "small.html").read_text()
    assert page.count("data:image/svg+xml") == 1
    assert page.count("data:image/jpeg") == 5  # two best, two worst, and their appearance
    assert "Best and worst by J of 5 sequences of alpha (trained on, for there was no validation)" in page
    assert "http" not in page.replace("data:", "")


def test_the_best_validation_chooses_what_is_shown(
    tiny_sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    validated = [f"validation.sets={json.dumps([str(tiny_sets['alpha'])])}", "validation.every_steps=1"]
    folder = tmp_path / "validated"
    train(recipe(tiny_sets["gamma"], *validated), out=folder, device="cpu", on_message=lambda line: None)
    found = open_run(folder)
    (best,) = {event["best_step"] for event in found.events[-1:]}
    lines = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
    scores = sorted((line["J"] for line in lines if line["step"] == best), reverse=True)
    assert [score.j for score in found.validated] == scores and len(scores) == 5
    assert len(found.charts()[1].curves[1].points) == 3
    assert run(["view", str(folder), "--out", str(tmp_path / "page.html"), "--height", "40"]) == 0
    page = (tmp_path / "page.html").read_text()
    assert f"Best and worst of the 5 sequences of the best validation, by J: {found.validated[0].name}" in page
    assert "best validation" in page and f"after step {best}" in page


def test_a_video_is_sized_as_training_sees_it(tiny_sets: dict[str, Path]) -> None:
    settings = {"snippet": 5, "size": (32, 48), "batch": 5, "objects": "all", "shuffle": False, "engine": "threads"}
    with SnippetStream(tiny_sets["alpha"], **settings) as stream:  # type: ignore[arg-type]
        batch, snippet = next(iter(stream)), stream.snippet(4)
    model, video = network(), open_videos(tiny_sets["alpha"])[snippet.record]
    assert snippet.frames == (0, 1, 2, 3, 4)
    sized = SizedVideo(video, (32, 48), max_frames=5)
    assert (sized.name, sized.num_frames) == (snippet.sequence, 5)
    for t in range(5):
        assert np.array_equal(sized.frame(t), batch.frames[4, t].permute(1, 2, 0).numpy())
        assert np.array_equal(sized.mask(t), batch.masks[4, t].numpy())
    assert watch(model, sized, [4]).frames[0].mask.shape == (32, 48)


def test_curves_hold_what_was_logged(run_folder: Path) -> None:
    found = open_run(run_folder)
    charts = {chart.title: chart.curves for chart in found.charts()}
    assert [step for step, _ in charts["Learning rate"][0].points] == [1, 2, 3]
    logged = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    losses = [(line["step"], line["fine"]) for line in logged if "fine" in line]
    assert list(charts["Loss, nats per pixel"][0].points) == losses
    assert dict(found.facts())["steps"] == "3, epoch 1"


def test_a_run_is_shown_as_a_page_only(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["view", str(run_folder), "--out", str(tmp_path / "run.jpg")]) == 2
    assert "must end in .html" in capsys.readouterr().err


def test_a_run_without_checkpoint_still_shows_its_curves(run_folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("recipe.yaml", "metrics.jsonl"):
        (bare / name).write_bytes((run_folder / name).read_bytes())
    target = tmp_path / "bare.html"
    assert run(["view", str(bare), "--out", str(target)]) == 0
    assert "has written no checkpoint yet" in target.read_text()
    assert "data:image/svg+xml" in target.read_text()


def test_watching_tells_what_the_network_computes_and_changes_nothing(tiny_sets: dict[str, Path]) -> None:
    model, video = network(), open_videos(tiny_sets["gamma"])[0]
    frames, given = [video.frame(t) for t in range(3)], video.mask(0)
    plain = VideoSegmenter(model)
    expected = [plain.step(frame, given if t == 0 else None) for t, frame in enumerate(frames)]
    watched = VideoSegmenter(model)
    with watching(model) as seen:
        found = [watched.step(frame, given if t == 0 else None) for t, frame in enumerate(frames)]
        assert seen.posteriors is not None and seen.coarse is not None
        assert seen.posteriors.shape == (1, 4, 2, 3)
        torch.testing.assert_close(seen.posteriors.sum(1), torch.ones(1, 2, 3))
        last = seen.coarse
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    watched.step(frames[0])
    assert seen.coarse is last  # the context is closed


def test_the_coarse_map_is_the_networks_own(tiny_sets: dict[str, Path]) -> None:
    """After one step what is fed back is the given mask, so training's forward pass says the same."""
    model = network()
    frames = torch.randint(0, 256, (1, 2, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    given = torch.zeros(1, 32, 48, dtype=torch.uint8)
    given[0, 5:20, 8:30] = 1
    with watching(model) as seen, torch.no_grad():
        output = model(frames, given)
    assert seen.coarse is not None
    logs = torch.stack([(1 - seen.coarse).log(), seen.coarse.log()], 1)
    enlarged = interpolate(logs, scale_factor=16, mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarged[0], output.coarse_log_probs[0, 1], atol=1e-4, rtol=1e-4)


def test_watched_frames_have_maps_of_their_own_size_and_the_masks_found(tiny_sets: dict[str, Path]) -> None:
    model, video = network(), open_videos(tiny_sets["alpha"])[3]  # 24x40, void around its object
    watched = watch(model, video, [0, 2])
    assert [frame.number for frame in watched.frames] == [video.frame_numbers[0], video.frame_numbers[2]]
    first, later = watched.frames
    assert first.coarse is None and not first.components
    assert later.coarse is not None and later.coarse.shape == (24, 40)
    assert len(later.components) == 4
    assert np.allclose(np.sum(later.components, axis=0), 1, atol=1e-5)
    assert watched.j is not None and 0 <= watched.j <= 1
    assert likeliest(later.components).shape == heat(later.coarse).shape == (24, 40, 3)


def test_a_network_without_appearance_module_has_no_maps(tiny_sets: dict[str, Path]) -> None:
    watched = watch(network("model.appearance=none"), open_videos(tiny_sets["gamma"])[0], [1])
    assert not watched.frames[0].components
    assert watched.frames[0].coarse is not None


def test_the_likeliest_component_has_its_colour() -> None:
    maps = [np.array([[0.6, 0.1]], np.float32), np.array([[0.4, 0.2]], np.float32), np.array([[0, 0.7]], np.float32)]
    assert likeliest(maps).tolist() == [[COLOURS[0].tolist(), COLOURS[2].tolist()]]
    assert heat(np.array([[0.0, 1.0]], np.float32)).sum(axis=-1)[0, 1] > 600
