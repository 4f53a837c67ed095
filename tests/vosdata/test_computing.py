"""How PyTorch is set up for a run, and TensorBoard where it is asked for."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shards.errors import RecipeError
from vosdata.recipe import RunRecipe, load_recipe
from vosdata.train import train
from vosdata.training.computing import CUBLAS_VARIABLE, computing_as
from vosdata.training.metrics_log import read_metrics


@pytest.fixture
def tiny(tiny_recipe: Callable[..., Path]) -> Path:
    return tiny_recipe(train={"steps": 4})


def run(tiny: Path, data: Path, out: Path, *settings: str) -> None:
    train(load_recipe(tiny, settings), [data], out, device="cpu", on_message=lambda line: None)


def state() -> tuple[Any, ...]:
    cudnn = torch.backends.cudnn
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
    )


def test_threads_and_determinism_hold_in_a_run_and_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CUBLAS_VARIABLE, raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = state()
    with computing_as(RunRecipe(compute_threads=before[0] + 1, deterministic=True)):
        assert state() == (before[0] + 1, True, True, False)
        with pytest.raises(RuntimeError, match="deterministic"):  # an operation without such an algorithm
            torch.zeros(4).put_(torch.tensor([0, 0]), torch.ones(2))
    assert state() == before
    with computing_as(RunRecipe()):
        assert state() == before


def test_training_has_deterministic_algorithms_only_where_it_is_told_to(
    tiny: Path, tiny_sets: dict[str, Path], tmp_path: Path
) -> None:
    seen = []
    recipe = load_recipe(tiny, ["run.deterministic=true", "train.accumulate=2"])
    settings = {"device": "cpu", "on_message": lambda line: None}
    train(recipe, [tiny_sets["alpha"]], tmp_path / "run", on_step=lambda *_: seen.append(state()[1]), **settings)
    assert seen == [True] * 4
    assert not torch.are_deterministic_algorithms_enabled()
    # How a run is carried out may change when it goes on.
    run(tiny, tiny_sets["alpha"], tmp_path / "run", "train.accumulate=2", "run.deterministic=false")


def test_tensorboard_that_is_not_there_is_said_before_a_folder_is_claimed(
    tiny: Path, tiny_sets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(RecipeError, match=r"pip install 'vosdata\[tensorboard\]'"):
        run(tiny, tiny_sets["alpha"], tmp_path / "run", "run.tensorboard=true")
    assert not (tmp_path / "run" / "recipe.yaml").exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="pip install vosdata[tensorboard]")
def test_tensorboard_shows_what_metrics_and_validations_say(
    tiny: Path, tiny_sets: dict[str, Path], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    held_out = [f"validation.sets=[{tiny_sets['alpha']}]", "validation.sequences=2", "validation.every_steps=2"]
    out = tmp_path / "run"
    run(tiny, tiny_sets["alpha"], out, "run.tensorboard=true", *held_out)
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    lines = read_metrics(out / "metrics.jsonl")
    losses = {line["step"]: line["loss"] for line in lines if "event" not in line}
    assert {one.step: one.value for one in events.Scalars("training/loss")} == pytest.approx(losses, rel=1e-6)
    found = {line["step"]: line["J"] for line in lines if line.get("event") == "validation"}
    assert {one.step: one.value for one in events.Scalars("validation/J")} == pytest.approx(found, rel=1e-6)
    assert list(found) == [2, 4]
