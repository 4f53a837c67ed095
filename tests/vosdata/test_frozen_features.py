"""Features of frozen stages that are kept: the same training, computed once; refused where it cannot be the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shards.errors import RecipeError
from vosdata.models.agame import AGAME, AGAMEConfig
from vosdata.models.resnet import StageName
from vosdata.recipe import load_recipe
from vosdata.train import train
from vosdata.training.frozen_features import FrozenFeatures
from vosdata.training.metrics_log import read_metrics

SIZE = (32, 48)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOSDATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(cache: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def network(train_from: StageName = "layer4", seed: int = 0) -> AGAME:
    narrow: Any = {f"{head}_channels": 4 for head in ("appearance", "propagation", "fusion", "encoding", "upsampling")}
    return AGAME(AGAMEConfig("resnet18", 4, train_from, **narrow), seed).train()


def pictures(seed: int, num: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (2, num // 2, 3, *SIZE), generator=torch.Generator().manual_seed(seed)).byte()


@pytest.mark.parametrize("train_from", ["layer1", "layer2", "layer3", "layer4", "none"])
def test_a_network_goes_on_from_what_its_frozen_stages_said(train_from: StageName) -> None:
    model, frames = network(train_from).eval(), pictures(0)
    given = torch.zeros(2, *SIZE, dtype=torch.uint8)
    given[:, 8:20, 10:30] = 1
    begun = model.begin(frames.transpose(0, 1).flatten(0, 1))
    assert list(begun)[-1] == {"layer1": "stem", "layer2": "layer1", "layer3": "layer2", "layer4": "layer3"}.get(
        train_from, "layer4"
    )
    for one, other in zip(model(frames, given), model(torch.zeros_like(frames), given, None, begun), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("half", [False, True])
def test_what_is_read_back_is_what_was_computed(cache: Path, half: bool) -> None:
    first = FrozenFeatures(network(), SIZE, half, cache)
    computed = {stage: output.clone() for stage, output in first(pictures(0)).items()}
    assert sum(map(len, kept(cache).values())) == 4 * (first.num_bytes + 3 * 4)
    fresh = FrozenFeatures(network(), SIZE, half, cache)
    fresh._network = None  # type: ignore[assignment]  # it computes nothing
    read = fresh(pictures(0))
    assert read.keys() == computed.keys()
    assert all(torch.equal(read[stage], computed[stage]) for stage in read)
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in read.values())


def test_other_weights_sizes_and_precisions_are_kept_apart(cache: Path) -> None:
    folders = {
        FrozenFeatures(network(seed=seed), size, half, cache).folder
        for seed in (0, 1)
        for size in (SIZE, (48, 32))
        for half in (False, True)
    }
    assert len(folders) == 8


def test_what_is_trained_does_not_matter_to_what_is_kept(cache: Path) -> None:
    model = network()
    before = FrozenFeatures(model, SIZE, False, cache).folder
    torch.nn.init.ones_(model.backbone.get_submodule("layer4")[0].conv1.weight)  # type: ignore[union-attr, index]
    assert FrozenFeatures(model, SIZE, False, cache).folder == before


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: bytes([data[0] ^ 1]) + data[1:], lambda _: b""])
def test_a_spoilt_file_is_computed_again(cache: Path, spoil: Callable[[bytes], bytes]) -> None:
    features = FrozenFeatures(network(), SIZE, False, cache)
    right = {stage: output.clone() for stage, output in features(pictures(0)).items()}
    before = kept(cache)
    path = next(iter(before))
    path.write_bytes(spoil(before[path]))
    torch.testing.assert_close(features(pictures(0)), right, rtol=1e-4, atol=1e-4)  # alone it is rounded otherwise
    assert {name: len(data) for name, data in kept(cache).items()} == {name: len(data) for name, data in before.items()}
    features._network = None  # type: ignore[assignment]  # it computes nothing
    torch.testing.assert_close(features(pictures(0)), right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"model": {"train_from": "none"}}, {"train": {"precision": "bfloat16"}}])
def test_training_is_the_same_and_computes_each_picture_once(
    tiny_recipe: Callable[..., Path], tiny_sets: dict[str, Path], tmp_path: Path, cache: Path, changes: dict[str, Any]
) -> None:
    merged = {"model": {"train_from": "layer4"}, "train": {"steps": 6, "accumulate": 2}}
    path = tiny_recipe(**{name: {**merged.get(name, {}), **changes.get(name, {})} for name in ("model", "train")})
    told: list[str] = []

    def losses(name: str, *overrides: str) -> list[float]:
        recipe = load_recipe(path, ["run.checkpoint_every=6", *overrides])
        train(recipe, [tiny_sets["alpha"]], tmp_path / name, device="cpu", on_message=told.append)
        return [line["loss"] for line in read_metrics(tmp_path / name / "metrics.jsonl") if "loss" in line]

    plain = losses("plain")
    assert not kept(cache)
    assert losses("kept", "run.cache_features=true") == pytest.approx(plain, rel=1e-5)
    files = {path: path.stat().st_ino for path in kept(cache)}
    assert files
    assert losses("again", "run.cache_features=true") == pytest.approx(plain, rel=1e-5)
    assert {path: path.stat().st_ino for path in kept(cache)} == files  # none was made again
    assert "GB when all are kept" in " ".join(told)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model.train_from=stem"], "needs frozen stages, and model.train_from stem leaves none"),
        (["data.tensors.hue_degrees=5"], "needs the same pictures again and again; data.tensors changes them"),
        (["data.sets={'synth:rich?objects=builtin&backgrounds=builtin': 1}"], "those of synth: never are"),
    ],
)
def test_it_is_refused_where_pictures_do_not_come_again(
    tiny_recipe: Callable[..., Path], tiny_sets: dict[str, Path], tmp_path: Path, overrides: list[str], told: str
) -> None:
    sets = [f"data.sets={{'{tiny_sets['alpha']}': 1}}", "model.train_from=layer4", "run.cache_features=true"]
    recipe = load_recipe(tiny_recipe(train={"steps": 1}), [*sets, *overrides])
    with pytest.raises(RecipeError, match=f"run.cache_features .*{told}"):
        train(recipe, None, tmp_path / "out", device="cpu", on_message=lambda line: None)


def test_a_disk_without_room_is_said_beforehand(
    tiny_recipe: Callable[..., Path], tiny_sets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    recipe = load_recipe(tiny_recipe(train={"steps": 1}), ["model.train_from=layer4", "run.cache_features=true"])
    with pytest.raises(RecipeError, match=r"features of .* pictures .*: 0.0 GB, and .* has 0.0 GB left"):
        train(recipe, [tiny_sets["alpha"]], tmp_path / "out", device="cpu", on_message=lambda line: None)
