"""Synthetic videos that are rendered while training goes on: one order, exact resume, pixels of the CPU renderer."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from shards.errors import ShardError, SourceError
from synth.bank import PictureBank
from synth.compose import compose_scene
from synth.config import make_config
from synth.estimate import estimate_areas
from synth.render import Renderer
from vosdata import SnippetStream
from vosdata.batch import SnippetBatch, target_counts
from vosdata.scene_set import SceneSet
from vosdata.training.data import find_data, with_data
from vosdata.training.step import num_targets

SIZE = (32, 48)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Options that name a folder of eight small cutouts and one of four backgrounds."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, count, size in (("objects", 8, (40, 56)), ("backgrounds", 4, (72, 96))):
        (folder / name).mkdir()
        for number in range(count):
            coarse = rng.integers(0, 256, (size[0] // 4, size[1] // 4, 3), np.uint8)
            picture = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / name / f"{number}.jpg"), picture)
            if name == "objects":
                mask = np.zeros(size, np.uint8)
                axes = 10 + 2 * (number % 4), 8 + 2 * (number // 4)
                cv2.ellipse(mask, (size[1] // 2, size[0] // 2), axes, 20.0 * number, 0, 360, 255, -1)
                cv2.imwrite(str(folder / name / f"{number}.png"), mask)
    return f"objects={folder}/objects&backgrounds={folder}/backgrounds"


@pytest.fixture(scope="module")
def rich(sources: str) -> str:
    return f"synth:rich?{sources}&frames=6"


@pytest.fixture(scope="module")
def bank(rich: str) -> PictureBank:
    opened = SceneSet(rich)
    return PictureBank(opened.objects, opened.backgrounds)


def open_stream(sets: object, **changes: object) -> SnippetStream:
    settings = {"snippet": 3, "size": SIZE, "batch": 2, "seed": 3, "epoch_size": 12, "threads": 2, "engine": "threads"}
    return SnippetStream(sets, **{**settings, **changes})  # type: ignore[arg-type]


Sample = tuple[str, bytes, bytes]


def samples(batch: SnippetBatch) -> list[Sample]:
    parts = zip(batch.keys, batch.frames, batch.masks, strict=True)
    return [(key, frames.numpy().tobytes(), masks.numpy().tobytes()) for key, frames, masks in parts]


def take(stream: SnippetStream, count: int) -> list[Sample]:
    """The next samples of a stream, over the end of epochs."""
    found: list[Sample] = []
    while len(found) < count:
        for batch in stream:
            found += samples(batch)
            if len(found) >= count:
                break
    return found[:count]


@pytest.fixture(scope="module")
def plain(rich: str) -> list[Sample]:
    with open_stream(rich) as stream:
        return take(stream, 16)


def test_ranks_threads_batches_and_engine_change_no_pixel(rich: str, plain: list[Sample]) -> None:
    with open_stream(rich, batch=4, threads=1) as stream:
        assert take(stream, 12) == plain[:12]
    with open_stream(rich, rank=0, num_ranks=2) as one, open_stream(rich, rank=1, num_ranks=2) as other:
        first, second = take(one, 4), take(other, 4)
    assert [*first[:2], *second[:2], *first[2:], *second[2:]] == plain[:8]
    with open_stream(rich, engine="process") as stream:
        assert take(stream, 4) == plain[:4]


def test_it_resumes_anywhere_with_any_batch(rich: str, plain: list[Sample]) -> None:
    for behind in (2, 6):
        with open_stream(rich) as stream:
            take(stream, behind)
            state = json.loads(json.dumps(stream.state_dict()))
        with open_stream(rich, batch=1) as stream:
            stream.load_state_dict(state)
            assert take(stream, 3) == plain[behind : behind + 3]


def test_no_scene_comes_twice_and_epochs_go_on(rich: str, plain: list[Sample]) -> None:
    sequences = [key.partition("[")[0] for key, _, _ in plain]
    assert len(set(sequences)) == 16
    assert sequences[0] == "synth-rich/000000" and sequences[15] == "synth-rich/000015"


def test_pixels_are_those_of_the_other_renderer_with_the_drawn_object_as_target(
    rich: str, bank: PictureBank, plain: list[Sample]
) -> None:
    renderer = Renderer(bank, SIZE, 6)
    config = make_config({"size": SIZE, "num_frames": 6})
    with open_stream(rich) as stream:
        for position, (key, frames, masks) in enumerate(plain[:8]):
            snippet = stream.snippet(position)
            assert snippet.key == key
            video = renderer.render(compose_scene(config, 3, int(snippet.sequence), bank))
            shown = list(snippet.frames)
            expected = (video.masks[shown] == snippet.objects[0]).astype(np.uint8)
            assert (np.frombuffer(masks, np.uint8).reshape(3, *SIZE) != expected).mean() <= 1e-3
            assert expected[0].sum() >= 12, "the target of a snippet shows in its first frame"
            colours = np.frombuffer(frames, np.uint8).reshape(3, 3, *SIZE).transpose(0, 2, 3, 1).astype(np.int16)
            assert np.abs(colours - video.frames[shown]).mean() <= 2


def test_sources_are_mixed_sample_by_sample(rich: str, sources: str, tiny_sets: dict[str, Path]) -> None:
    sets = {str(tiny_sets["alpha"]): 0.5, rich: 0.25, f"synth:paper?{sources}": 0.25}
    with open_stream(sets, size=(24, 40), batch=4) as stream:
        mixed = take(stream, 8)
        assert [key for key, _, _ in mixed] == stream.keys(range(8))
    names = [key.partition("/")[0] for key, _, _ in mixed]
    assert {name: names.count(name) for name in names} == {"alpha": 4, "synth-rich": 2, "synth-paper": 2}
    with open_stream(str(tiny_sets["alpha"]), size=(24, 40)) as stream:
        alone = {key: pixels for key, *pixels in take(stream, 10)}
    stored = [(key, pixels) for key, *pixels in mixed if key in alone]
    assert stored and all(alone[key] == pixels for key, pixels in stored)


def test_objects_flips_and_gaps_are_those_of_any_set(rich: str) -> None:
    with open_stream(rich, objects="all", flip=True, gap=2, reverse=0.5) as stream:
        batches = [batch for _, batch in zip(range(6), stream, strict=False)]
    with open_stream(rich, objects="all", gap=2, reverse=0.5) as stream:
        plain = [batch for _, batch in zip(range(6), stream, strict=False)]
    numbers = [key.partition("[")[2].partition("]")[0] for batch in batches for key in batch.keys]
    assert {tuple(number.split("-")) for number in numbers} <= {("0", "4:2"), ("1", "5:2"), ("4", "0:2"), ("5", "1:2")}
    mirrored = 0
    for one, other in zip(batches, plain, strict=True):
        assert one.keys == other.keys
        for row in range(2):
            same = torch.equal(one.frames[row], other.frames[row]) and torch.equal(one.masks[row], other.masks[row])
            turned = torch.equal(one.frames[row].flip(-1), other.frames[row])
            assert same or (turned and torch.equal(one.masks[row].flip(-1), other.masks[row]))
            mirrored += not same
    assert 0 < mirrored < 12
    assert any(int(batch.masks.max()) > 1 for batch in batches)


def test_nobody_waits_for_the_device_while_batches_are_made(rich: str, tiny_sets: dict[str, Path]) -> None:
    """On a device that has shapes and no values, whoever asks for a value fails."""
    sets = {str(tiny_sets["alpha"]): 0.5, rich: 0.5}
    for some, objects in ((rich, "one"), (sets, 3), (rich, "all")):
        settings = {"size": (24, 40), "batch": 4, "objects": objects, "flip": True}
        with open_stream(some, device="meta", **settings) as stream:
            batches = [batch for _, batch in zip(range(3), stream, strict=False)]
        with open_stream(some, **settings) as stream:
            for batch, real in zip(batches, stream, strict=False):
                assert batch.frames.device.type == batch.masks.device.type == "meta"
                assert batch.frames.stride() == real.frames.stride()
                assert num_targets(batch) == num_targets(real)
                shown = target_counts(real.masks).tolist()
                assert all(one >= other for one, other in zip(num_targets(batch), shown, strict=True))
                assert num_targets(batch) == shown or objects != "one"
                with pytest.raises(RuntimeError):
                    target_counts(batch.masks).tolist()


def test_areas_are_estimated_well_enough_to_choose_objects(bank: PictureBank) -> None:
    config = make_config({"size": (120, 216)}, preset="hard")
    renderer = Renderer(bank, (120, 216), 4)
    estimated, counted = [], []
    for index in range(12):
        scene = compose_scene(config, 0, index, bank)
        masks = renderer.render(scene).masks
        counted.append(np.stack([(masks == item.id).sum(axis=(1, 2)) for item in scene.objects], axis=1).ravel())
        estimated.append(estimate_areas(scene, bank, (120, 216), 4).ravel())
    truth, guess = np.concatenate(counted), np.concatenate(estimated)
    assert np.corrcoef(truth, guess)[0, 1] > 0.98
    assert np.abs(truth - guess).mean() < 0.1 * truth.mean()


def test_wrong_names_are_told_in_one_line(rich: str, tmp_path: Path) -> None:
    wrong = {
        "synth:poor": "no preset 'poor'",
        "synth:rich?size=3": "options are objects",
        "synth:rich?frames=none": "frames wants a whole number",
        "synth:rich?scene.tild=3": "did you mean scene.tilt",
        "synth:rich?objects_per_video=many": "FEWEST-MOST",
    }
    for name, message in wrong.items():
        with pytest.raises(ValueError, match=message) as caught:
            SceneSet(name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(SourceError, match="nowhere"):
        SceneSet(f"synth:rich?objects={tmp_path}/nowhere&backgrounds=builtin")
    with pytest.raises(ShardError, match="add frames=9"):
        open_stream(rich, snippet=9)
    with (
        pytest.raises(ShardError, match="show no object of 5000 pixels"),
        open_stream(rich, min_object_pixels=5000) as stream,
    ):
        stream.snippet(0)
    with pytest.raises(ValueError, match="leave it out"):
        import albumentations

        open_stream(rich, augment=albumentations.HorizontalFlip())


def test_state_names_the_settings_of_the_scenes(rich: str) -> None:
    with open_stream(rich) as stream:
        state = stream.state_dict()
    with open_stream(rich + "&scene.tilt=90") as other, pytest.raises(ValueError, match="synth-rich"):
        other.load_state_dict(state)


def test_a_recipe_trains_on_them(rich: str, tmp_path: Path) -> None:
    from vosdata.recipe import load_recipe
    from vosdata.train import train

    small = [f"model.{part}_channels=4" for part in ("appearance", "propagation", "fusion", "encoding", "upsampling")]
    settings = ["data.size=32x48", "data.min_object_pixels=25", "train.steps=2", "train.batch=2", "data.epoch_size=8"]
    recipe = load_recipe("smoke", [*small, *settings, "run.log_every=1"])
    result = train(recipe, [Path(rich)], tmp_path / "run", device="cpu", on_message=lambda line: None)
    assert result.step == 2
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("loss" in line for line in lines)
    named = with_data(recipe, [Path(rich)], lambda line: None)
    assert find_data(named, tmp_path, lambda line: None).weights == {rich: 1.0}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_are_on_the_device(rich: str, plain: list[Sample]) -> None:
    with open_stream(rich, device="cuda") as stream:
        batch = next(iter(stream))
    assert batch.frames.device.type == "cuda" and batch.masks.device.type == "cuda"
    expected = np.frombuffer(plain[0][2], np.uint8).reshape(3, *SIZE)
    assert (batch.masks[0].cpu().numpy() != expected).mean() <= 1e-3
