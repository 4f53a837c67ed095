"""The experiments: equal budgets, honest intervals, nothing done twice, nothing mixed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from shards.errors import ConflictError, TrainingError
from synth.sources import open_objects
from vosdata.datasets.videos import open_videos
from vosdata.models.agame import AGAME
from vosdata.recipe import Recipe, load_recipe

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TINY = [
    "model.backbone_width=4",
    *(f"model.{part}_channels=4" for part in ("appearance", "propagation", "fusion", "encoding", "upsampling")),
    "data.frames=2",
    "data.size=32x48",
    "data.min_object_pixels=10",
    "data.epoch_size=4",
    "train.batch=2",
    "run.threads=1",
]


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)  # examining sets one thread, in a process of its own
    for name in set(sys.modules) - before:
        if (BENCHMARKS / f"{name}.py").exists():
            del sys.modules[name]


def recipes(folder: Path, *more: str) -> tuple[Recipe, ...]:
    common = [*TINY, f"data.sets={json.dumps({str(folder): 1})}", *more]
    return tuple(load_recipe("smoke", [*common, f"train.steps={steps}"]) for steps in (2, 1))


def test_intervals_are_those_of_students_t() -> None:
    from seeds import difference, estimate

    rng = np.random.default_rng(0)
    ours, base = rng.normal(0.5, 0.1, (2, 5))
    found = difference(dict(enumerate(ours)), dict(enumerate(base)))
    low, high = stats.ttest_rel(ours, base).confidence_interval(0.95)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert found.excludes_zero == (stats.ttest_rel(ours, base).pvalue < 0.05)
    assert not estimate([0.3]).excludes_zero
    assert str(estimate([0.3])) == "0.300"


def test_differences_pair_seeds_and_leave_out_those_that_only_one_arm_has() -> None:
    from seeds import difference

    assert difference({0: 0.5, 1: 0.7, 2: 0.9}, {2: 0.4, 1: 0.6}).values == pytest.approx((0.1, 0.5))


def test_ablations_change_exactly_what_their_recipes_say() -> None:
    from agame_ablation import ABLATIONS, changes

    found = {ablation: changes(ablation) for ablation in ABLATIONS}
    assert found == {
        "no_appearance": ["model.appearance=none"],
        "no_mask_propagation": ["model.mask_propagation=false"],
        "unimodal": ["model.appearance=unimodal"],
        "no_update": ["model.update_rate=0.0"],
        "softmax": ["model.appearance_output=posteriors"],
        "no_end_to_end": ["model.end_to_end=false"],
    }


def test_contenders_of_a_seed_differ_in_nothing_but_their_change(tmp_path: Path) -> None:
    from experiment_data import SCALES, Setting

    setting = Setting(SCALES["small"], 0.5, None, tmp_path, tmp_path, tmp_path, tmp_path)
    full = setting.recipes({tmp_path: 1.0}, seed=1)
    ablated = setting.recipes({tmp_path: 1.0}, seed=1, changes=["model.appearance=unimodal"])
    stages = SCALES["small"].stages
    assert [one.train.steps for one in full] == [stage.steps // 2 for stage in stages]
    for one, other, stage in zip(full, ablated, stages, strict=True):
        changed = one.model_copy(update={"model": one.model.model_copy(update={"appearance": "unimodal"})})
        assert changed == other
        assert one.train.lr_decay**one.train.epochs == pytest.approx(stage.final_rate, rel=1e-3)
        assert (one.train.epochs - 1) * 400 < one.train.steps * one.train.batch <= one.train.epochs * 400


def test_held_out_pictures_are_not_trained_on() -> None:
    from experiment_data import part, spread

    pool = spread(open_objects("builtin"), 13)
    parts = [part(pool, is_held_out) for is_held_out in (False, True)]
    assert [len(one) for one in parts] == [10, 3]
    assert sorted(label for one in parts for label in one.labels) == sorted(pool.labels)
    assert len({one.fingerprint() for one in (pool, *parts)}) == 3
    assert pool.load(3).name == parts[1].load(0).name == parts[1].labels[0]


def test_further_pictures_are_those_that_a_spread_leaves_out() -> None:
    from experiment_data import rest, spread

    source = open_objects("builtin")
    labels = [label for one in (spread(source, 13), rest(source, 13)) for label in one.labels]
    assert sorted(labels) == sorted(source.labels)
    assert len(rest(source, 13)) == len(source) - 13


def test_a_contender_is_trained_once_and_never_mixed_with_another(
    tmp_path: Path, tiny_sets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import experiment

    exam = experiment.Exam("alpha", tiny_sets["alpha"], "davis2017")
    contender = experiment.Trained("full", 0, recipes(tiny_sets["alpha"]))
    # Frames of 24x40 are padded to 32x48, as by any user of the segmenter.
    first = experiment.examine(contender, [exam], tmp_path, "cpu")
    assert set(first["exams"]["alpha"]) >= {"J", "F", "J&F"}
    started = [load_recipe(tmp_path / "full-seed0" / stage / "recipe.yaml").train for stage in ("stage1", "stage2")]
    assert [(one.steps, one.init_from) for one in started] == [(2, None), (1, str(tmp_path / "full-seed0" / "stage1"))]
    monkeypatch.setattr(experiment, "train", None)
    assert experiment.examine(contender, [exam], tmp_path, "cpu") == first
    other = experiment.Trained("full", 0, recipes(tiny_sets["alpha"], "train.learning_rate=0.5"))
    with pytest.raises(ConflictError, match="learning_rate"):
        experiment.examine(other, [exam], tmp_path, "cpu")
    with pytest.raises(ConflictError, match="gamma"):
        gamma = experiment.Exam("gamma", tiny_sets["gamma"], "davis2017")
        experiment.examine(contender, [gamma], tmp_path, "cpu")


def test_a_failed_training_is_reported_and_counts_in_no_mean(
    tmp_path: Path, tiny_sets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import experiment

    def fail(*_: object, **__: object) -> None:
        raise TrainingError("step 7: loss is not finite")

    monkeypatch.setattr(experiment, "train", fail)
    exam = experiment.Exam("alpha", tiny_sets["alpha"], "davis2017")
    contenders = [experiment.Trained("full", 1, recipes(tiny_sets["alpha"])), experiment.FirstMaskCopied("full")]
    results = [experiment.examine(one, [exam], tmp_path, "cpu") for one in contenders]
    assert list(experiment.failures(results)) == ["full, seed 1: step 7: loss is not finite"]
    assert list(experiment.values(results, "full", "alpha", "J")) == [0]


# The last level of a random network knows where the border is, so only what stays is found in it.
@pytest.mark.parametrize(("all_levels", "distance"), [(True, 32), (True, 0), (False, 0)])
def test_nearest_neighbours_find_what_looks_the_same(all_levels: bool, distance: int) -> None:
    from nearest_neighbour import NearestNeighbourSegmenter

    model = AGAME(load_recipe("smoke", ["model.backbone_width=8"]).model.config())
    frame = np.full((64, 96, 3), 40, np.uint8)
    frame[:, ::8] = 60
    moved, mask = frame.copy(), np.zeros((64, 96), np.uint8)
    frame[16:40, 8:40], moved[16:40, 8 + distance : 40 + distance] = (230, 30, 30), (230, 30, 30)
    mask[16:40, 8:40] = 5
    segmenter = NearestNeighbourSegmenter(model, all_levels)
    assert not segmenter.step(frame).any()
    segmenter.step(frame, mask)
    truth, found = np.roll(mask, distance, 1) == 5, segmenter.step(moved) == 5
    assert (truth & found).sum() / (truth | found).sum() > 0.6
    assert set(np.unique(segmenter.step(moved))) == {0, 5}


def fake(arm: str, seed: int, exams: dict[str, float]) -> dict[str, Any]:
    scores = {name: {"J": value, "F": value, "J&F": value} for name, value in exams.items()}
    return {"arm": arm, "seed": seed, "exams": scores, "configuration": {"sets": {"/somewhere/davis": 1}}}


def facts(scale: str = "small", *overrides: str) -> dict[str, Any]:
    sizes = ["data.size=96x160", "data.frames=3", "train.steps=2500", "train.batch=8"]
    whole = load_recipe("smoke", [*sizes, "model.appearance_output=scores", *overrides]).configuration()
    return {
        "command": f"python benchmarks/some.py --scale {scale}",
        "scale": scale,
        "recipes": [whole],
        "cutouts": 3,
        "photographs": 4,
        "synthetic_videos": 5,
        "presets": {"rich": 0.7, "paper": 0.3},
        "changes": {},
        "synth": {"scene": {"area": [0.1, 0.2]}},
    }


def test_the_ablation_table_stands_beside_the_papers_and_says_what_disagrees(tmp_path: Path) -> None:
    from ablation_report import BASELINES, PAPER, write_report
    from experiment import Exam

    drop = {"no_appearance": -0.2, "unimodal": 0.1}
    results = [
        fake(arm, seed, {"davis": 0.5 + drop.get(arm, 0.0) + 0.01 * seed + 0.003 * seed * (arm == "softmax")})
        for arm in (*PAPER, *BASELINES)
        for seed in range(1 if arm == "copy" else 3)
    ]
    write_report(tmp_path, results, [Exam("davis", tmp_path, "davis2016")], facts())
    text = (tmp_path / "agame_ablation.md").read_text()
    assert "| No appearance module | 50.0 | -16.0 | 0.310 ± 0.025 | -0.200 ± 0.000 |" in text
    assert "worse than the full model, as in the paper: No appearance module." in text
    assert "Better, against the paper: Unimodal appearance." in text
    assert "First mask copied" in text
    assert '{"scene": {"area": [0.1, 0.2]}}' in text
    assert "/somewhere" not in (tmp_path / "agame_ablation.json").read_text()
    assert (tmp_path / "agame_ablation.svg").read_text().count("<circle") == 3 * (len(PAPER) + len(BASELINES) - 1) + 1


def test_the_baselines_table_leads_by_seed_and_names_the_strongest(tmp_path: Path) -> None:
    from ablation_report import BASELINES
    from baselines_report import ARMS, write_report
    from experiment import Exam

    above = {"full": 0.2, "nearest": 0.1, "nearest_deep": 0.05}
    results = [
        fake(
            arm,
            seed,
            {"rich": 0.4 + above.get(arm, 0.0) + 0.01 * seed, "paper": 0.4 - above.get(arm, 0.0) + 0.01 * seed**2},
        )
        for arm in ARMS
        for seed in range(1 if arm == "copy" else 3)
    ]
    exams = [Exam(name, tmp_path, "davis2017") for name in ("rich", "paper")]
    write_report(tmp_path, results, exams, facts())
    rich, paper = (tmp_path / "agame_baselines.md").read_text().split("## paper")
    assert "| A-GAME | 0.610 ± 0.025 | 0.600 0.610 0.620 |  |" in rich
    assert "| Nearest neighbour, all levels | 0.510 ± 0.025 | 0.500 0.510 0.520 | +0.100 ± 0.000 |" in rich
    assert "| First mask copied | 0.400 | 0.400 | +0.210 ± 0.025 |" in rich
    assert "lies above that of the strongest baseline (nearest neighbour, all levels): +0.100" in rich
    assert "lies below that of the strongest baseline (nearest neighbour, untrained): -0.200" in paper
    assert "Trained on 5 SynthVOS videos alone: 70 % rich and 30 % paper. Examined at 96x160." in rich
    assert "2500 steps of 8 snippets of 3 frames of 96x160; 3 seeds." in rich
    assert "is told" not in rich
    write_report(tmp_path, results, exams, facts("medium", "model.appearance_output=posteriors"))
    assert "The fusion module is told posteriors where" in (tmp_path / "agame_baselines.md").read_text()
    assert "/somewhere" not in (tmp_path / "agame_baselines.json").read_text()
    assert (tmp_path / "agame_baselines.svg").read_text().count("<circle") == 2 * (3 * len(BASELINES) + 1)


def test_the_effect_table_compares_arms_seed_by_seed(tmp_path: Path) -> None:
    from effect_report import ARMS, write_report
    from experiment import Exam

    gain = {"real_and_rich": 0.1, "rich": -0.05}
    results = [
        fake(arm, seed, {"davis": 0.4 + gain.get(arm, 0.0) + 0.1 * seed + 0.01 * (arm == "rich") * seed})
        for arm in ARMS
        for seed in range(3)
    ]
    write_report(tmp_path, results, Exam("davis", tmp_path, "davis2016"), facts())
    text = (tmp_path / "synth_effect.md").read_text()
    assert "Made by `python benchmarks/some.py --scale small`." in text
    assert "rich: J&F is higher than with real videos alone (+0.100 ± 0.000)" in text
    assert "paper: J&F is not told apart from that of real videos alone" in text
    assert "alone: J&F is lower than with real videos alone (-0.040 ± 0.025)" in text


def test_predictions_while_scoring_equal_predictions_on_disk(tmp_path: Path, tiny_sets: dict[str, Path]) -> None:
    from experiment import Segmented

    from vosdata.evaluate.predictions import PredictionFolder
    from vosdata.evaluate.protocols import find_protocol
    from vosdata.evaluate.score import score_videos
    from vosdata.infer import predict_video
    from vosdata.models.agame import VideoSegmenter

    model = AGAME(load_recipe("smoke", TINY).model.config())
    rule, videos = find_protocol("davis2017"), open_videos(tiny_sets["alpha"])
    for video in videos:
        predict_video(VideoSegmenter(model), video, tmp_path, rule.prepare_truth)
    make: Callable[[], VideoSegmenter] = lambda: VideoSegmenter(model)  # noqa: E731
    assert score_videos(videos, Segmented(make, rule)) == score_videos(videos, PredictionFolder(tmp_path))


def test_an_arm_that_failed_altogether_is_named_and_left_out(tmp_path: Path) -> None:
    from ablation_report import BASELINES, PAPER
    from ablation_report import write_report as write_ablation
    from effect_report import ARMS
    from effect_report import write_report as write_effect
    from experiment import Exam

    exam = Exam("davis", tmp_path, "davis2016")
    failed: dict[str, Any] = {"arm": "", "seed": 0, "failure": "step 7: loss is not finite", "configuration": {}}
    ablation = [fake(arm, 0, {"davis": 0.5}) for arm in (*PAPER, *BASELINES) if arm != "softmax"]
    write_ablation(tmp_path, [*ablation, {**failed, "arm": "softmax"}], [exam], facts())
    assert "| Appearance SoftMax | 55.8 | -10.2 | failed | |" in (tmp_path / "agame_ablation.md").read_text()
    effect = [fake(arm, 0, {"davis": 0.5}) for arm in ARMS if arm != "rich"]
    write_effect(tmp_path, [*effect, {**failed, "arm": "rich"}], exam, facts())
    text = (tmp_path / "synth_effect.md").read_text()
    assert "* failed: rich, seed 0: step 7: loss is not finite" in text
    assert "| SynthVOS, rich, alone |" not in text


def test_no_worker_outlives_an_experiment_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        "import multiprocessing, os, sys, time\n"
        "def work(): print(os.getpid(), flush=True); time.sleep(60)\n"
        "def begin(): experiment._end_with_parent(); work()\n"
        f"sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "import experiment\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.get_context('fork').Process(target=begin).start()\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists():
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker went on without its experiment")
