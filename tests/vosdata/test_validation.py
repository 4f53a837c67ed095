"""Held-out sequences: chosen, never drawn, scored as ``vosdata eval`` does, and what training makes of the scores."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from shards.errors import CheckpointError, RecipeError, ShardError
from shards.reader import ShardSet
from shards.types import Record
from vosdata.checkpoint import checkpoint_path, list_checkpoints, load_checkpoint, load_model, open_checkpoint
from vosdata.cli.app import run as run_command
from vosdata.datasets.sized import SizedVideo
from vosdata.evaluate.predictions import PredictionFolder
from vosdata.evaluate.score import score_videos
from vosdata.infer import predict_video
from vosdata.models.agame import AGAME, VideoSegmenter
from vosdata.recipe import Recipe, ValidationRecipe, load_recipe
from vosdata.stream import SnippetStream
from vosdata.train import TrainResult, train
from vosdata.training.data import find_data, with_data
from vosdata.training.held_out import excluded_from, hold_out
from vosdata.training.history import History
from vosdata.training.interruption import Interruption
from vosdata.training.metrics_log import read_lines, read_metrics
from vosdata.training.ranks import Ranks
from vosdata.training.schedule import Schedule
from vosdata.training.validation import Validation, open_held_out, validate

ALONE = Ranks(0, 1, torch.device("cpu"))


def ignore(line: str) -> None:
    """What is told here does not matter."""


@pytest.fixture
def recipe(tiny_recipe: Callable[..., Path], tiny_sets: dict[str, Path]) -> Callable[..., Recipe]:
    """Function that makes a tiny recipe which trains on alpha and holds two of its sequences out."""
    path = tiny_recipe(
        data={"sets": {str(tiny_sets["alpha"]): 1}},
        train={"steps": 6, "learning_rate": 3e-3},
        run={"checkpoint_every": 100, "keep": 1},
    )

    def make(*settings: str) -> Recipe:
        held_out = [f"validation.sets=[{tiny_sets['alpha']}]", "validation.sequences=2", "validation.every_steps=2"]
        return load_recipe(path, [*held_out, *settings])

    return make


def run(recipe: Recipe, out: Path, **more: Any) -> TrainResult:
    return train(recipe, out=out, device="cpu", on_message=more.pop("on_message", ignore), **more)


def step_lines(out: Path) -> list[dict[str, Any]]:
    times = ("frames_per_second", "data_wait")
    lines = [line for line in read_metrics(out / "metrics.jsonl") if "event" not in line]
    return [{key: value for key, value in line.items() if key not in times} for line in lines]


def events(out: Path, event: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics(out / "metrics.jsonl") if line.get("event") == event]


# --- which sequences -------------------------------------------------------------------------------------------------


def names_of(recipe: ValidationRecipe, folder: Path) -> set[str]:
    (held_out,) = hold_out(recipe, [folder], ignore)
    shard_set = ShardSet(folder)
    assert held_out.names >= {shard_set.entry(record).sequence for record in held_out.records}
    return set(held_out.names)


def test_numbers_and_shares_choose_by_seed_and_name_alone(tiny_sets: dict[str, Path]) -> None:
    alpha = tiny_sets["alpha"]
    by_count = [names_of(ValidationRecipe(sequences=count), alpha) for count in range(1, 6)]
    assert [len(names) for names in by_count] == [1, 2, 3, 4, 5]
    assert all(fewer < more for fewer, more in pairwise(by_count))
    assert names_of(ValidationRecipe(sequences=0.4), alpha) == by_count[1]
    assert names_of(ValidationRecipe(sequences="all"), alpha) == by_count[4]
    others = {frozenset(names_of(ValidationRecipe(sequences=1, seed=seed), alpha)) for seed in range(20)}
    assert len(others) > 2


def test_names_can_be_listed_or_read_from_a_file(tiny_sets: dict[str, Path], tmp_path: Path) -> None:
    alpha, listed = tiny_sets["alpha"], ["alpha.1", "alpha.3"]
    assert names_of(ValidationRecipe(sequences=listed), alpha) == set(listed)
    (tmp_path / "held_out.txt").write_text("alpha.1\nalpha.3\n")
    assert names_of(ValidationRecipe(sequences=str(tmp_path / "held_out.txt")), alpha) == set(listed)


def test_only_sequences_that_can_be_scored_are_chosen_by_number(tiny_sets: dict[str, Path]) -> None:
    """Of beta, "empty" shows no object; "short" has three annotated frames, which is enough."""
    assert names_of(ValidationRecipe(sequences=4), tiny_sets["beta"]) == {"beta 0", "beta 1", "beta 2", "short"}
    said: list[str] = []
    (held_out,) = hold_out(ValidationRecipe(sequences=["empty", "short"]), [tiny_sets["beta"]], said.append)
    assert held_out.names == {"empty", "short"}
    assert len(held_out.records) == 1
    assert "1 held-out sequences" in said[0]
    assert "empty" in said[0]


@pytest.mark.parametrize(
    ("sequences", "error", "said"),
    [
        (6, RecipeError, "asks for 6 sequences, but .*alpha has 5"),
        (["alpha.1", "nosuch"], RecipeError, "does not have: nosuch"),
        ("nosuch.txt", RecipeError, r"nosuch\.txt is no file of names"),
    ],
)
def test_sequences_that_are_not_there_are_refused(
    sequences: Any, error: type[Exception], said: str, tiny_sets: dict[str, Path]
) -> None:
    with pytest.raises(error, match=said):
        hold_out(ValidationRecipe(sequences=sequences), [tiny_sets["alpha"]], ignore)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "true", "[]", "[3]"])
def test_selections_that_mean_nothing_are_refused(value: str) -> None:
    with pytest.raises(RecipeError, match=r"validation\.sequences: should be all, a number"):
        load_recipe("smoke", [f"validation.sequences={value}"])


def test_held_out_sequences_are_excluded_from_other_editions_and_from_no_namesake(
    tmp_path: Path,
    tiny_sets: dict[str, Path],
    build_tiny_set: Callable[[Path, str, Sequence[Record]], Path],
) -> None:
    alpha = ShardSet(tiny_sets["alpha"])
    records = [alpha.record(i) for i in range(5)]
    names = ("davis2016", "davis2017", "synth", "synth2")
    folders = {name: build_tiny_set(tmp_path, name, records[: 4 + n % 2]) for n, name in enumerate(names)}
    for name, other in (("davis2016", "davis2017"), ("synth", "synth2")):
        held_out = hold_out(ValidationRecipe(sequences=2), [folders[name]], ignore)
        assert excluded_from(str(folders[name]), held_out) == held_out[0].names
        elsewhere = excluded_from(str(folders[other]), held_out)
        assert elsewhere == (held_out[0].names if name == "davis2016" else frozenset())


def test_training_never_draws_what_is_held_out(recipe: Callable[..., Recipe], tiny_sets: dict[str, Path]) -> None:
    data = find_data(recipe(), Path("data"), ignore)
    (held_out,) = data.held_out
    assert data.excluded == {str(tiny_sets["alpha"]): held_out.names}
    settings = {"snippet": 3, "size": (32, 48), "min_object_pixels": 4, "epoch_size": 50}
    stream = SnippetStream(data.weights, exclude=data.excluded, **settings)  # type: ignore[arg-type]
    drawn = {key.partition("[")[0].removeprefix("alpha/") for key in stream.keys(range(200))}
    everything = {f"alpha.{n}" for n in range(5)}
    assert drawn == everything - held_out.names
    with pytest.raises(ShardError, match="excluded"):
        SnippetStream(data.weights, exclude={str(tiny_sets["alpha"]): everything}, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not drawn from"):
        SnippetStream(data.weights, exclude={"elsewhere": everything}, **settings)  # type: ignore[arg-type]
    whole = SnippetStream(data.weights, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="without 2 sequences"):
        whole.load_state_dict(stream.state_dict())


def test_the_bundled_stages_hold_300_sequences_of_youtube_vos_out() -> None:
    for name in ("agame_initial", "agame_finetune", "agame_no_update"):
        validation = load_recipe(name).validation
        assert (validation.sets, validation.sequences, validation.seed) == (["ytvos"], 300, 0), name
    assert load_recipe("agame_finetune").validation.patience
    assert load_recipe("smoke").validation.sets == []


def test_given_data_keep_a_recipes_validation_where_its_set_is_among_them(tmp_path: Path) -> None:
    said: list[str] = []
    initial = load_recipe("agame_initial")
    among = with_data(initial, [tmp_path / "davis2017-train", tmp_path / "ytvos2019-train"], said.append)
    assert among.validation.sets == [str(tmp_path / "ytvos2019-train")]
    assert not said
    without = with_data(initial, [tmp_path / "davis2017-train"], said.append)
    assert without.validation.sets == []
    assert "validates on ytvos" in said[0]


# --- scoring ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_scores_are_those_of_predictions_written_and_scored_as_eval_does(
    name: str, recipe: Callable[..., Recipe], tiny_sets: dict[str, Path], tmp_path: Path
) -> None:
    wanted = recipe(f"validation.sets=[{tiny_sets[name]}]", "validation.sequences=0.9", "validation.size=stored")
    network = AGAME(wanted.model.config(), seed=3).train()
    videos = open_held_out(find_data(wanted, Path("data"), ignore).held_out, wanted)
    found = validate(network, videos, ALONE, False, Interruption())
    assert found is not None
    assert network.training
    for one in videos:
        predict_video(VideoSegmenter(network), one.video, tmp_path / "predictions", lambda mask: mask * (mask != 255))
    score = score_videos([one.video for one in videos], PredictionFolder(tmp_path / "predictions"))
    network.train()
    assert pytest.approx(score.j.mean, abs=1e-12) == found.J
    expected = {(one.sequence, str(one.object_id)): one.j.mean for one in score.objects}
    assert {(one.sequence, key): J for one in found.sequences for key, J in one.objects.items()} == expected
    assert 0 < found.J < 1


def test_frames_are_brought_to_the_size_trained_at_and_cut_to_the_wanted_number(
    recipe: Callable[..., Recipe], tiny_sets: dict[str, Path]
) -> None:
    wanted = recipe(f"validation.sets=[{tiny_sets['beta']}]", "validation.max_frames=7")
    (held_out, *_) = open_held_out(find_data(wanted, Path("data"), ignore).held_out, wanted)
    video = held_out.video
    assert video.num_frames in (3, 7)
    assert video.frame(0).shape == (32, 48, 3)
    mask = video.mask(0)
    assert mask is not None
    assert mask.shape == (32, 48)


def test_validation_leaves_weights_statistics_and_random_state_alone(recipe: Callable[..., Recipe]) -> None:
    wanted = recipe()
    network = AGAME(wanted.model.config(), seed=0).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random_state = torch.get_rng_state()
    validate(
        network, open_held_out(find_data(wanted, Path("data"), ignore).held_out, wanted), ALONE, False, Interruption()
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(module.training for module in network.modules())


# --- in training -----------------------------------------------------------------------------------------------------


def test_steps_are_the_same_to_the_bit_however_often_is_validated(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    for every in (1, 100):
        run(recipe(f"validation.every_steps={every}"), tmp_path / str(every))
    often, once = (
        [{k: v for k, v in line.items() if k != "validation_J"} for line in step_lines(tmp_path / str(every))]
        for every in (1, 100)
    )
    assert often == once
    ends = [load_checkpoint(list_checkpoints(tmp_path / str(every))[0]).model for every in (1, 100)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_run_leaves_every_validation_and_the_best_checkpoint(
    recipe: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    result = run(recipe(), out)
    found = events(out, "validation")
    assert [line["step"] for line in found] == [2, 4, 6]
    best = max(found, key=lambda line: (line["J"], -line["step"]))
    assert result.history.best == (best["step"], best["J"])
    assert found[-1]["best_step"] == best["step"]
    assert [line["is_best"] for line in found] == [
        line["J"] > max((other["J"] for other in found[:n]), default=-1) for n, line in enumerate(found)
    ]
    lines = read_lines(out / "validation.jsonl")
    for one in found:
        mine = [line for line in lines if line["step"] == one["step"]]
        assert len(mine) == one["num_sequences"] == 2
        objects = [J for line in mine for J in line["objects"].values()]
        assert len(objects) == one["num_objects"]
        assert sum(objects) / len(objects) == pytest.approx(one["J"])
    assert [line["validation_J"] for line in step_lines(out)] == [
        None,
        None,
        *[found[0]["J"]] * 2,
        *[found[1]["J"]] * 2,
    ]
    assert {path.stem for path in list_checkpoints(out)} == {"step-00000006", f"step-{best['step']:08d}"}
    loaded, _ = load_model(out)
    stored = load_checkpoint(result.best).model
    assert all(torch.equal(stored[name], tensor) for name, tensor in loaded.state_dict().items())
    assert run_command(["train", str(out / "recipe.yaml"), f"--out={out}", "--device=cpu"]) == 0
    assert f"held-out J {best['J']:.4f} after step {best['step']}, the best of 3" in capsys.readouterr().out


def test_interrupting_a_validation_ends_it_at_once_and_going_on_makes_it_anew(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(recipe(), tmp_path / "whole")
    read: list[int] = []
    frame = SizedVideo.frame

    def frame_and_interrupt(video: SizedVideo, t: int) -> Any:
        read.append(t)
        if len(read) == interrupted_at:
            signal.raise_signal(signal.SIGINT)
        return frame(video, t)

    monkeypatch.setattr(SizedVideo, "frame", frame_and_interrupt)
    out, interrupted_at = tmp_path / "run", 0
    said: list[str] = []
    run(recipe("train.steps=2"), tmp_path / "count")
    frames_of_one, interrupted_at = len(read), 2 * len(read) + 2
    assert frames_of_one > 4
    with pytest.raises(KeyboardInterrupt):
        run(recipe(), out, on_message=said.append)
    assert len(read) == interrupted_at
    assert "interrupted after step 4 of 6" in said[-1]
    (newest, _) = list_checkpoints(out)
    assert [step for step, _ in load_checkpoint(newest).history.validations] == [2]
    interrupted_at = len(read) + 3
    with pytest.raises(KeyboardInterrupt):
        run(recipe(), out, on_message=said.append)
    assert len(read) == interrupted_at
    assert "interrupted after step 4 of 6" in said[-1]
    result = run(recipe(), out)
    assert [step for step, _ in result.history.validations] == [2, 4, 6]
    assert read_lines(out / "validation.jsonl") == read_lines(tmp_path / "whole" / "validation.jsonl")
    assert step_lines(out) == step_lines(tmp_path / "whole")
    ends = [load_checkpoint(list_checkpoints(folder)[0]).model for folder in (out, tmp_path / "whole")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


class OneOfTwo(Ranks):
    """Rank 0 of two, of which the other was interrupted."""

    def share_buffers(self, model: torch.nn.Module) -> None:
        """Nobody is there."""

    def gather(self, share: Any) -> list[Any]:
        return [share, None]


def test_a_validation_that_one_rank_gave_up_is_given_up_by_all(recipe: Callable[..., Recipe]) -> None:
    wanted = recipe()
    videos = open_held_out(find_data(wanted, Path("data"), ignore).held_out, wanted)
    network = AGAME(wanted.model.config(), seed=0).train()
    assert validate(network, videos, OneOfTwo(0, 2, torch.device("cpu")), False, Interruption()) is None
    assert network.training


def scripted(monkeypatch: pytest.MonkeyPatch, scores_wanted: Sequence[float]) -> None:
    """Makes the validations of a run come out as wanted, whatever is trained."""
    wanted = iter(scores_wanted)

    def scores(*arguments: Any) -> Validation:
        found = validate(*arguments)
        assert found is not None
        return replace(found, sequences=tuple(replace(found.sequences[0], objects={"1": next(wanted)}) for _ in "1"))

    monkeypatch.setattr("vosdata.train.validate", scores)


def test_patience_stops_early_and_the_best_is_what_is_used(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted(monkeypatch, [0.2, 0.5, 0.4, 0.5, 0.9])
    out, said = tmp_path / "run", []
    wanted = recipe("validation.every_steps=1", "validation.patience=2", "train.steps=20")
    result = run(wanted, out, on_message=said.append)
    assert (result.step, result.stopped_early, result.history.best) == (4, True, (2, 0.5))
    assert "stopping early after step 4" in said[-1]
    assert [(line["step"], line["best_step"]) for line in events(out, "stopped_early")] == [(4, 2)]
    assert [path.stem for path in list_checkpoints(out)] == ["step-00000004", "step-00000002"]
    assert open_checkpoint(out).step == 2
    assert open_checkpoint(out, "last").step == 4
    again = run(wanted, out)  # a run that was stopped stays so
    assert (again.step, again.stopped_early) == (4, True)
    assert len(step_lines(out)) == 4
    capsys.readouterr()
    status = run_command(["eval", str(out), f"--data={wanted.validation.sets[0]}", "--device=cpu"])
    assert status == 0
    error = capsys.readouterr().err
    assert "step-00000002.safetensors, the best: held-out J 0.5000; the last is of step 4" in error


def test_a_second_stage_starts_from_the_best_or_if_asked_from_the_last(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.5, 0.4, 0.3])
    first = tmp_path / "first"
    run(recipe(), first)
    for which, step in (("best", 2), ("last", 6)):
        settings = ["validation.sets=[]", "train.steps=1", "train.learning_rate=1e-30", f"train.init_from={first}"]
        run(recipe(*settings, f"train.init_with={which}"), tmp_path / which)
        end = load_checkpoint(list_checkpoints(tmp_path / which)[0])
        expected = load_checkpoint(checkpoint_path(first, step)).model
        assert all(torch.equal(end.model[name], t) for name, t in expected.items() if name.endswith("weight"))
        assert f"after step {step}" in end.backbone


def test_a_best_checkpoint_that_is_damaged_is_said_and_the_last_is_taken(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.5, 0.4, 0.3])
    out = tmp_path / "run"
    best = run(recipe(), out).best
    best.write_bytes(best.read_bytes()[:-10])
    with pytest.warns(UserWarning, match="taking step 6 instead, though step 2 was better"):
        assert open_checkpoint(out).step == 6
    for path in list_checkpoints(out):
        path.unlink()
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        open_checkpoint(out)


def test_what_was_best_for_an_earlier_checkpoint_stays_as_long_as_that(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.5, 0.4, 0.6])
    out = tmp_path / "run"
    run(recipe("run.keep=2"), out)
    assert [path.stem[-1] for path in list_checkpoints(out)] == ["6", "4", "2"]
    (newest, *_) = list_checkpoints(out)
    newest.unlink()
    assert open_checkpoint(out).step == 2


def test_validations_are_due_by_steps_or_epochs_and_at_the_end() -> None:
    train_recipe = load_recipe("smoke", ["train.batch=4", "train.epochs=5", "train.steps=null"]).train
    schedule = Schedule(train_recipe, epoch_size=10)

    def due(**settings: Any) -> list[int]:
        validation = ValidationRecipe(**settings)
        return [step for step in range(1, schedule.last_step + 1) if schedule.validates(step, validation)]

    assert due() == [3, 5, 8, 10, 13]  # epochs end with snippets 10, 20, ... of 4 in each step
    assert due(every_epochs=2) == [5, 10, 13]
    assert due(every_steps=6) == [6, 12, 13]


def test_the_best_is_the_earliest_of_equals_and_patience_counts_from_it() -> None:
    history = History(((10, 0.3), (20, 0.7), (30, 0.7), (40, 0.6)))
    assert history.best == (20, 0.7)
    assert (history.num_since_best, history.is_exhausted(2), history.is_exhausted(3)) == (2, True, False)
    assert history.until(15).best == (10, 0.3)
    assert History().best is None
    assert not History().is_exhausted(1)
