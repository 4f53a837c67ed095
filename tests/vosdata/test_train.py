"""The training loop: goes on exactly where it was cut, shares steps among ranks, and refuses what it cannot do."""

import io
import json
import math
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from shards.errors import CheckpointError, ConflictError, ShardError, TrainingError
from shards.reader import ShardSet
from shards.types import Record
from vosdata.batch import SnippetBatch
from vosdata.checkpoint import list_checkpoints, load_checkpoint, load_model
from vosdata.cli.app import run as run_command
from vosdata.cli.train import shown_progress
from vosdata.models.agame import AGAME, AGAMEOutput
from vosdata.recipe import LossRecipe, Recipe, load_recipe
from vosdata.train import TrainResult, train
from vosdata.training.metrics_log import MetricsLog, StepMetrics, read_metrics
from vosdata.training.ranks import Ranks
from vosdata.training.schedule import Schedule
from vosdata.training.step import training_loss


@pytest.fixture
def tiny(tiny_recipe: Callable[..., Path]) -> Path:
    return tiny_recipe(train={"steps": 6, "learning_rate": 3e-3, "lr_decay": 0.5}, run={"checkpoint_every": 4})


@pytest.fixture
def data(tiny_sets: dict[str, Path]) -> list[Path]:
    return [tiny_sets["alpha"], tiny_sets["beta"]]


def run(recipe: Recipe, data: list[Path], out: Path, resume: bool = False) -> TrainResult:
    return train(recipe, data, out, resume, device="cpu", on_message=lambda line: None)


def step_lines(out: Path) -> list[dict[str, Any]]:
    return [line for line in read_metrics(out / "metrics.jsonl") if "event" not in line]


def exact_lines(out: Path) -> list[dict[str, Any]]:
    """What must be equal to the bit; times differ."""
    times = ("frames_per_second", "data_wait")
    return [{key: value for key, value in line.items() if key not in times} for line in step_lines(out)]


def assert_same_end(one: Path, other: Path) -> None:
    first, second = (load_checkpoint(list_checkpoints(out)[0]) for out in (one, other))
    assert (first.step, first.stream, first.counters) == (second.step, second.stream, second.counters)
    assert first.model.keys() == second.model.keys()
    assert all(torch.equal(first.model[name], second.model[name]) for name in first.model)
    for name, states in first.optimiser.items():
        assert all(torch.equal(states[key], second.optimiser[name][key]) for key in states)


def assert_same_way(recipe: Recipe, first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Two trainings went the same way but for rounding.

    Adam moves a weight whose gradient is all rounding as far as any other, so the way as a whole is compared.
    """
    start = AGAME(recipe.model.config(), seed=recipe.train.seed).state_dict()
    way, gap = (
        torch.cat([(second[name] - other[name]).double().flatten() for name in start]).norm()
        for other in (start, first)
    )
    assert gap < 1e-3 * way


# --- the loss of a step ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("void", ["excluded", "published"])
def test_the_given_frame_counts_only_under_the_published_rule(void: Literal["excluded", "published"]) -> None:
    generator = torch.Generator().manual_seed(0)
    fine, coarse = torch.randn(2, 2, 3, 2, 4, 6, generator=generator, dtype=torch.float64).log_softmax(3)
    coarse[:, 0] = fine[:, 0]  # both tell the given mask
    masks = torch.randint(0, 2, (2, 3, 4, 6), generator=generator, dtype=torch.uint8)
    masks[0, 1], masks[1, :, :2] = 255, 255
    annotated = torch.ones(2, 3, dtype=torch.bool)
    annotated[0, 1] = False
    batch = SnippetBatch(torch.zeros(2, 3, 3, 4, 6, dtype=torch.uint8), masks, annotated, ["a", "b"], 0, 0)
    recipe = LossRecipe(fine_weight=2, coarse_weight=0.5, void=void)
    loss, sums = training_loss(
        AGAMEOutput(fine[:, :1], fine[:, 1:], coarse[:, 1:]), batch, recipe, Ranks(0, 1, torch.device("cpu"))
    )
    first = 0 if void == "published" else 1
    counted = masks[:, first:] != 255 if void == "excluded" else torch.ones_like(masks, dtype=torch.bool)
    likelihoods = [torch.where(masks == 1, one[:, :, 1], one[:, :, 0])[:, first:] for one in (fine, coarse)]
    means = [-one[counted].mean().item() for one in likelihoods]
    assert loss.item() == pytest.approx(2 * means[0] + 0.5 * means[1], rel=1e-5)
    assert sums.num_pixels.item() == counted.sum().item()


def test_snippets_without_a_counted_pixel_are_counted() -> None:
    log_probs = torch.zeros(2, 1, 2, 4, 6, requires_grad=True)
    annotated = torch.tensor([[True, False], [True, True]])
    masks = torch.zeros(2, 2, 4, 6, dtype=torch.uint8)
    batch = SnippetBatch(torch.zeros(2, 2, 3, 4, 6, dtype=torch.uint8), masks, annotated, ["a", "b"], 0, 0)
    _, sums = training_loss(
        AGAMEOutput(log_probs, log_probs, log_probs), batch, LossRecipe(), Ranks(0, 1, torch.device("cpu"))
    )
    assert sums.counts.tolist() == [1, 2, 2, 0]  # and no target shows anywhere


# --- one run ---------------------------------------------------------------------------------------------------------


def test_a_run_leaves_recipe_metrics_and_a_usable_model(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    recipe, out = load_recipe(tiny), tmp_path / "run"
    seen: list[int] = []
    result = train(recipe, data, out, device="cpu", on_step=lambda metrics, last: seen.append(metrics.step))
    assert (result.step, seen) == (6, [1, 2, 3, 4, 5, 6])
    resolved = load_recipe(out / "recipe.yaml")
    assert resolved.data.sets == {str(folder): 1.0 for folder in data}
    assert resolved.train == recipe.train
    lines = step_lines(out)
    assert [line["step"] for line in lines] == seen
    for line in lines:
        assert line["loss"] == pytest.approx(line["fine"] + line["coarse"])
        assert 0 <= line["J"] <= 1
        assert 0 <= line["data_wait"] <= 1
        assert line["frames_per_second"] > 0
    assert [line["event"] for line in read_metrics(out / "metrics.jsonl") if "event" in line] == ["start"]
    model, loaded = load_model(out)
    assert loaded == resolved
    assert not model.training
    stored = load_checkpoint(result.checkpoint)
    assert all(torch.equal(stored.model[name], tensor) for name, tensor in model.state_dict().items())
    assert stored.backbone == "none"


def test_training_lowers_the_loss(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    run(load_recipe(tiny, ["train.steps=25", "train.lr_decay=1"]), data, tmp_path / "run")
    losses = [line["loss"] for line in step_lines(tmp_path / "run")]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_several_objects_are_trained_apart_as_one_batch(
    tiny: Path, tiny_sets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[int], int]] = []
    forward = AGAME.forward

    def spy(self: AGAME, frames: Tensor, given: Tensor, counts: list[int] | None, *more: Any) -> AGAMEOutput:
        output = forward(self, frames, given, counts, *more)
        seen.append((counts or [], output.log_probs.shape[2]))
        return output

    monkeypatch.setattr(AGAME, "forward", spy)
    run(load_recipe(tiny, ["data.objects=2", "train.batch=4"]), [tiny_sets["alpha"]], tmp_path / "run")
    assert {count for counts, _ in seen for count in counts} == {1, 2}  # alpha has up to 3 objects
    assert all(channels == max(counts) + 1 for counts, channels in seen)
    assert all(line["J"] is not None for line in step_lines(tmp_path / "run"))


def test_up_to_several_objects_are_one_where_there_is_but_one(
    tiny: Path, tiny_sets: dict[str, Path], tmp_path: Path
) -> None:
    for objects in ("one", "3"):
        run(load_recipe(tiny, [f"data.objects={objects}", "train.steps=3"]), [tiny_sets["gamma"]], tmp_path / objects)
    one, three = (step_lines(tmp_path / objects) for objects in ("one", "3"))
    for key in ("loss", "J", "gradient_norm"):
        assert [line[key] for line in one] == pytest.approx([line[key] for line in three], rel=1e-3), key


def test_bfloat16_stays_close_to_float32(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    for precision in ("float32", "bfloat16"):  # small steps: Adam's full ones drive any two roundings apart
        settings = ["train.steps=3", "train.learning_rate=1e-5", f"train.precision={precision}"]
        run(load_recipe(tiny, settings), data, tmp_path / precision)
    full, half = ([line["loss"] for line in step_lines(tmp_path / name)] for name in ("float32", "bfloat16"))
    assert half != full
    assert half == pytest.approx(full, rel=0.1)
    model, _ = load_model(tmp_path / "bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_learning_rate_and_place_follow_the_epochs(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    run(load_recipe(tiny, ["data.epoch_size=5"]), data, tmp_path / "run")
    lines = step_lines(tmp_path / "run")
    assert [(line["epoch"], line["position"]) for line in lines] == [(0, 0), (0, 2), (0, 4), (1, 1), (1, 3), (2, 0)]
    assert [line["learning_rate"] for line in lines] == pytest.approx([3e-3] * 3 + [1.5e-3] * 2 + [0.75e-3])


def test_training_ends_with_its_epochs_or_its_steps() -> None:
    smoke = load_recipe("smoke", ["train.epochs=3", "train.batch=4", "train.steps=null"]).train
    assert Schedule(smoke, epoch_size=10).last_step == 8  # 30 snippets in batches of 4
    assert Schedule(smoke.model_copy(update={"steps": 5}), epoch_size=10).last_step == 5


def test_a_batch_in_parts_trains_as_the_whole_one(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    """Parts count unequally many pixels (void, unannotated frames), and every pixel weighs the same all the same."""
    settings = ["model.batch_norm=frozen", "train.batch=4", "train.steps=3"]
    for parts in (1, 4):
        run(load_recipe(tiny, [*settings, f"train.accumulate={parts}"]), data, tmp_path / str(parts))
    whole, cut = (step_lines(tmp_path / str(parts)) for parts in (1, 4))
    for key in ("loss", "fine", "coarse", "J", "gradient_norm", "num_pixels"):
        assert [line[key] for line in cut] == pytest.approx([line[key] for line in whole], rel=1e-4), key
    first, second = (load_checkpoint(list_checkpoints(tmp_path / str(parts))[0]).model for parts in (1, 4))
    assert_same_way(load_recipe(tiny, settings), first, second)
    with pytest.raises(ValueError, match=r"evenly among 1 ranks with train\.accumulate 3"):
        run(load_recipe(tiny, [*settings, "train.accumulate=3"]), data, tmp_path / "odd")


def test_gradients_are_clipped_to_the_given_norm(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    """Adam divides by the root of its second moment, which shows what gradient it was given."""
    norms = {}
    for clip in (None, 1e-3, 1e9):
        out = tmp_path / str(clip)
        run(
            load_recipe(tiny, ["train.steps=1", "train.weight_decay=0", f"train.clip_gradient={clip or 'null'}"]),
            data,
            out,
        )
        states = load_checkpoint(list_checkpoints(out)[0]).optimiser.values()
        second_moments = sum(state["exp_avg_sq"].double().sum().item() for state in states)
        norms[clip] = math.sqrt(second_moments / (1 - 0.999))
        assert step_lines(out)[0]["gradient_norm"] == pytest.approx(norms[None], rel=1e-4), "metrics: before clipping"
    assert norms[1e9] == norms[None] > 1e-2
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3)


def test_sampling_and_augmentation_follow_the_recipe_and_resume_to_the_bit(
    tiny: Path, tiny_sets: dict[str, Path], tmp_path: Path
) -> None:
    sets = f"{{{tiny_sets['alpha']}: {{linear: [[0, 1], [8, 0.2]]}}, {tiny_sets['beta']}: 0.5}}"
    settings = [
        f"data.sets={sets}",
        "data.gap={steps: [[0, 1], [4, 2]]}",
        "data.reverse=0.5",
        "data.tensors={crop: 16x32, scale: [0.9, 1.2], brightness: 0.2, hue_degrees: 10}",
        "run.checkpoint_every=1",
        "train.steps=4",
    ]
    plain, full, cut = (tmp_path / name for name in ("plain", "full", "cut"))
    train(load_recipe(tiny, [settings[0], *settings[-2:]]), out=plain, device="cpu", on_message=lambda line: None)
    train(load_recipe(tiny, settings), out=full, device="cpu", on_message=lambda line: None)
    assert step_lines(full)[0]["num_pixels"] <= 2 * 2 * 16 * 32 < step_lines(plain)[0]["num_pixels"]
    train(load_recipe(tiny, settings), out=cut, device="cpu", on_message=lambda line: None)
    for checkpoint in list_checkpoints(cut)[:1]:
        checkpoint.unlink()
    train(load_recipe(tiny, settings), out=cut, device="cpu", on_message=lambda line: None)
    assert exact_lines(cut) == exact_lines(full)
    assert_same_end(cut, full)


def test_frozen_stages_stay_as_they_were(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    run(load_recipe(tiny, ["model.train_from=layer4", "train.steps=1"]), data, tmp_path / "one")
    run(load_recipe(tiny, ["model.train_from=layer4", "train.steps=3"]), data, tmp_path / "three")
    one, three = (load_checkpoint(list_checkpoints(tmp_path / name)[0]).model for name in ("one", "three"))
    same = {name for name in one if torch.equal(one[name], three[name])}
    assert {name for name in one if name.startswith(("backbone.layer1", "backbone.conv1"))} <= same
    assert not any(name.startswith("backbone.layer4") and name.endswith("conv1.weight") for name in same)


# --- going on --------------------------------------------------------------------------------------------------------


def test_an_interrupted_run_is_saved_and_goes_on(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    recipe, out = load_recipe(tiny), tmp_path / "run"

    def interrupt(metrics: StepMetrics, last_step: int) -> None:
        if metrics.step == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, out, device="cpu", on_step=interrupt, on_message=lambda line: None)
    assert load_checkpoint(list_checkpoints(out)[0]).step == 3
    run(recipe, data, out, resume=True)
    run(recipe, data, tmp_path / "uncut")
    assert exact_lines(out) == exact_lines(tmp_path / "uncut")
    assert_same_end(out, tmp_path / "uncut")


def test_a_finished_run_is_left_alone(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    recipe, out = load_recipe(tiny), tmp_path / "run"
    checkpoint = run(recipe, data, out).checkpoint
    before = checkpoint.read_bytes()
    assert run(recipe, data, out).step == 6
    assert checkpoint.read_bytes() == before
    assert len(step_lines(out)) == 6


def test_a_run_that_failed_before_its_first_checkpoint_claims_its_folder_for_nobody(
    tiny: Path, data: list[Path], tmp_path: Path
) -> None:
    recipe, out = load_recipe(tiny), tmp_path / "run"

    def fail(metrics: StepMetrics, last_step: int) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        train(recipe, data, out, device="cpu", on_step=fail, on_message=lambda line: None)
    other = load_recipe(tiny, ["train.learning_rate=0.1"])
    run(other, data, out)
    assert load_recipe(out / "recipe.yaml").train.learning_rate == 0.1
    run(other, data, tmp_path / "fresh")
    assert exact_lines(out) == exact_lines(tmp_path / "fresh")
    assert [line["step"] for line in read_metrics(out / "metrics.jsonl") if line.get("event") == "start"] == [0]


def test_a_damaged_newest_checkpoint_is_passed_over(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    recipe, out, said = load_recipe(tiny), tmp_path / "run", []
    newest = run(recipe, data, out).checkpoint
    exact = exact_lines(out)
    newest.write_bytes(newest.read_bytes()[:-10])
    train(recipe, data, out, device="cpu", on_message=said.append)
    assert any("passed over" in line and "damaged" in line for line in said)
    assert exact_lines(out) == exact
    assert load_checkpoint(newest).step == 6


def test_only_the_newest_checkpoints_stay(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    run(load_recipe(tiny, ["run.checkpoint_every=1", "run.keep=3"]), data, tmp_path / "run")
    assert [path.stem for path in list_checkpoints(tmp_path / "run")] == [f"step-0000000{n}" for n in (6, 5, 4)]


def test_metrics_behind_the_checkpoint_and_torn_lines_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    log = MetricsLog(path, step=2)
    log.event(2, "start")
    log.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 2]


def test_resuming_where_no_run_was_begun_is_refused(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        run(load_recipe(tiny), data, tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_another_recipe_in_the_same_folder_is_refused_by_key(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(load_recipe(tiny, ["train.steps=1"]), data, out)
    with pytest.raises(ConflictError, match=r"train\.learning_rate is 0\.003 there, 0\.1 was asked for"):
        run(load_recipe(tiny, ["train.steps=1", "train.learning_rate=0.1"]), data, out)
    run(load_recipe(tiny, ["train.steps=1", "run.threads=1"]), data, out)


def test_two_trainings_do_not_share_a_folder(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    recipe, out = load_recipe(tiny), tmp_path / "run"

    def train_again(metrics: StepMetrics, last_step: int) -> None:
        with pytest.raises(ConflictError, match="in use"):
            run(recipe, data, out)

    train(recipe, data, out, device="cpu", on_step=train_again)


def test_a_folder_alone_is_enough_to_resume(
    tiny: Path, data: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    run(load_recipe(tiny), data, out)
    assert run_command(["train", "--resume", f"--out={out}", "--device=cpu"]) == 0
    assert "trained 6 steps" in capsys.readouterr().out


# --- starting from another run ---------------------------------------------------------------------------------------


def test_a_second_stage_starts_from_the_first_stages_weights(tiny: Path, data: list[Path], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run(load_recipe(tiny, ["train.steps=2"]), data, first)
    # A rate of next to nothing: one step leaves the weights where they were.
    settings = ["train.steps=1", "train.learning_rate=1e-30", f"train.init_from={first}"]
    run(load_recipe(tiny, settings), data, second)
    earlier, later = (load_checkpoint(list_checkpoints(out)[0]) for out in (first, second))
    assert all(torch.equal(later.model[name], t) for name, t in earlier.model.items() if name.endswith("weight"))
    assert later.backbone.startswith(f"{first} after step 2")
    with pytest.raises(CheckpointError, match="does not fit"):
        run(load_recipe(tiny, [*settings, "model.fusion_channels=5"]), data, tmp_path / "third")
    with pytest.raises(CheckpointError, match="nosuch"):
        run(load_recipe(tiny, ["train.init_from=runs/nosuch"]), data, tmp_path / "fourth")
    assert not (tmp_path / "fourth" / "recipe.yaml").exists()


# --- data ------------------------------------------------------------------------------------------------------------


def test_sets_without_a_snippet_are_left_out_and_said(tiny: Path, tiny_sets: dict[str, Path], tmp_path: Path) -> None:
    said: list[str] = []
    recipe = load_recipe(tiny, ["data.frames=9", "train.steps=1"])  # gamma has 8 frames
    train(recipe, [tiny_sets["alpha"], tiny_sets["gamma"]], tmp_path / "run", device="cpu", on_message=said.append)
    assert [line for line in said if "left out" in line and "gamma" in line]
    events = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if line.get("event") == "left_out"]
    assert [Path(event["set"]).name for event in events] == ["gamma"]
    with pytest.raises(ShardError, match="none of the shard sets"):
        run(load_recipe(tiny, ["data.frames=30"]), [tiny_sets["alpha"], tiny_sets["gamma"]], tmp_path / "none")


def test_a_recipes_sets_are_found_by_name_and_missing_ones_are_named(
    tiny: Path, tiny_sets: dict[str, Path], tmp_path: Path
) -> None:
    shards = tmp_path / "data" / "shards"
    shards.mkdir(parents=True)
    (shards / "beta2019-train").symlink_to(tiny_sets["beta"])
    (shards / "alpha-train").symlink_to(tiny_sets["alpha"])
    found = load_recipe(tiny, ["data.sets={alpha: size, beta: 2}", "train.steps=1"])
    train(found, out=tmp_path / "run", root=tmp_path / "data", device="cpu")
    start = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]
    assert start["sets"] == {str(shards / "alpha-train"): 5.0, str(shards / "beta2019-train"): 2.0}
    lacking = load_recipe(tiny, ["data.sets={alpha: 1, synthvos: 1, davis2017: 1}"])
    with pytest.raises(ShardError, match=r"lacks 'synthvos', 'davis2017'; make it with `vosdata synth .* --data"):
        train(lacking, out=tmp_path / "other", root=tmp_path / "data", device="cpu")


def test_a_loss_that_is_not_finite_stops_and_names_step_and_snippets(
    tiny: Path, data: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(
        TrainingError, match=r"step \d+: loss or gradient is not finite .*(alpha|beta)/.*\[.*\]#"
    ) as told:
        run(load_recipe(tiny, ["train.learning_rate=1e30", "train.steps=20"]), data, tmp_path / "run")
    for path in list_checkpoints(tmp_path / "run"):
        assert all(torch.isfinite(tensor).all() for tensor in load_checkpoint(path).model.values())
    last = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    assert last["event"] == "not_finite"
    assert f"step {last['step']}: " in str(told.value)
    assert len(last["keys"]) == 2
    assert {last["loss"], last["gradient_norm"]} & {"nan", "inf"}


def with_masks(record: Record, change: Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]]) -> Record:
    """A record whose masks are changed, given their place and themselves."""
    assert all(frame.mask is not None for frame in record.frames)
    frames = (replace(frame, mask=change(t, frame.mask)) for t, frame in enumerate(record.frames))  # type: ignore[arg-type]
    return replace(record, frames=tuple(frames))


@pytest.mark.parametrize(
    ("later", "kinds"),
    [(0, {"vanished_snippets"}), (255, {"vanished_snippets", "uncounted_snippets"}), (None, set())],
)
def test_snippets_with_little_to_learn_from_are_trained_and_counted(
    later: int | None,
    kinds: set[str],
    tiny: Path,
    tiny_sets: dict[str, Path],
    tmp_path: Path,
    build_tiny_set: Callable[[Path, str, Sequence[Record]], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Objects that only a first frame shows; behind it is background, or nothing that is known."""

    def only_first(t: int, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return mask if t == 0 or later is None else np.full_like(mask, later)

    whole = ShardSet(tiny_sets["gamma"])
    records = [with_masks(whole.record(i), only_first) for i in range(len(whole))]
    folder = build_tiny_set(tmp_path, "first_only", records)
    out = tmp_path / "run"
    assert run_command(["train", str(tiny), f"--data={folder}", f"--out={out}", "--device=cpu"]) == 0
    lines = step_lines(out)
    for kind in ("uncounted_snippets", "empty_snippets", "vanished_snippets"):
        assert [line[kind] for line in lines] == [2 * n if kind in kinds else 0 for n in range(1, 7)], kind
    assert all(math.isfinite(line["loss"]) for line in lines)
    said = capsys.readouterr().out
    assert ("12 snippets showed no target after their first frame" in said) == ("vanished_snippets" in kinds)
    assert ("12 snippets had no pixel of known truth" in said) == ("uncounted_snippets" in kinds)


def test_damaged_snippets_end_training_or_are_replaced_counted_and_told(
    tiny: Path, tiny_sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(tiny_sets["gamma"], tmp_path / "gamma"))
    entry = ShardSet(folder).entry(1)
    path = sorted(folder.glob("*.tar"))[entry.shard]
    content = bytearray(path.read_bytes())
    for offset in entry.image_offsets.tolist():
        content[offset + 200] ^= 4
    path.write_bytes(content)
    call = ["train", str(tiny), f"--data={folder}", "--device=cpu"]
    assert run_command([*call, f"--out={tmp_path / 'stop'}"]) == 1
    assert entry.sequence in capsys.readouterr().err
    out = tmp_path / "replace"
    assert run_command([*call, f"--out={out}", "--set=data.on_damage=replace"]) == 0
    said = capsys.readouterr().out
    events = [line for line in read_metrics(out / "metrics.jsonl") if line.get("event") == "replaced"]
    assert events
    for event in events:
        assert f"gamma/{entry.sequence}[" in event["problem"] and f"/{entry.sequence}[" not in event["by"]
    assert step_lines(out)[-1]["replaced_snippets"] == len(events)
    assert f"{len(events)} snippets stood in for one whose stored bytes are damaged" in said or len(events) == 1


def test_snippets_whose_target_augmentation_lost_are_trained_and_counted(
    tiny: Path, data: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crops are placed to show the target, but where none of those that were tried does, it is lost."""

    def lose_first_target(batch: SnippetBatch, *arguments: Any) -> SnippetBatch:
        masks = batch.masks.clone()
        masks[0, 0] = 0
        return replace(batch, masks=masks)

    monkeypatch.setattr("vosdata.train.augment", lose_first_target)
    run(load_recipe(tiny, ["data.tensors={flip_vertical: 0.5}"]), data, tmp_path / "run")
    lines = step_lines(tmp_path / "run")
    assert [line["empty_snippets"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(line["loss"]) and math.isfinite(line["gradient_norm"]) for line in lines)
    assert load_checkpoint(list_checkpoints(tmp_path / "run")[0]).counters["empty_snippets"] == 6


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nosuch"], 1, "no recipe called 'nosuch'"),
        (["smoke", "--set", "model.bakbone=resnet18"], 1, "model.bakbone: no such key; did you mean 'backbone'?"),
        (["smoke", "--set", "nonsense"], 2, "--set section.key=value"),
        (["smoke", "--data", "no/such/folder"], 1, "no/such/folder"),
        (["smoke", "--root", "no/such/root"], 1, "no/such/root/shards lacks 'synthvos'"),
        (["smoke", "--device", "abacus"], 2, "abacus"),
        (["smoke", "--out", "file"], 1, "file is a file"),
    ],
)
def test_wrong_calls_give_one_line_and_a_status(
    arguments: list[str],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_sets: dict[str, Path],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    if "--device" in arguments or "--out" in arguments:
        arguments = [*arguments, "--data", str(tiny_sets["alpha"])]
    assert run_command(["train", *arguments]) == status
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def shown(**changes: Any) -> StepMetrics:
    """The metrics of a step, for progress to show."""
    numbers = dict.fromkeys(StepMetrics.__dataclass_fields__, 0)
    values = {**numbers, "loss": 0.25, "J": 0.5, "frames_per_second": 321.4, "data_wait": 0.07}
    return StepMetrics(**{**values, "validation_J": None, **changes})  # type: ignore[arg-type]


def test_plain_progress_tells_loss_j_speed_waiting_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("vosdata.cli.train.time.monotonic", lambda: now)
    with shown_progress() as update:
        update(shown(step=500), 700)  # a run that goes on: what was done before says nothing of the speed
        now += 60
        update(shown(step=550, validation_J=0.625), 700)
        now += 1
        update(shown(step=551), 700)  # too soon for another line
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("-:--:-- left")
    for part in ("step 550/700", "loss 0.2500", "J 0.500", "held-out J 0.625", "321 frames/s", "waiting for data 7%"):
        assert part in lines[1]
    assert lines[1].endswith("0:03:00 left")


def test_the_bar_on_a_terminal_tells_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    with shown_progress() as update:
        for step in (100, 101, 102):
            update(shown(step=step, validation_J=0.625), 200)
            time.sleep(0.02)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    for part in ("102/200", "loss 0.2500", "J 0.500", "held-out J 0.625", "321 frames/s", "waiting for data 7%"):
        assert part in text
    assert re.search(r"\d:\d\d:\d\d", text), "time left"
