"""Runs that are killed, and runs on several processes: they end as one process that nobody disturbed.

What is guaranteed on a CPU: with the same number of PyTorch threads, a run that was killed anywhere ends with the bits
of one that was not, on one process and on two (a sum of two gradients has no order to differ in). On another number of
processes, only rounding differs, unless batch statistics are those of each process's own share.
"""

import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from vosdata.checkpoint import list_checkpoints, load_checkpoint
from vosdata.models.agame import AGAME
from vosdata.training.metrics_log import read_lines, read_metrics

SMALL_STEPS = "train.learning_rate=3e-4"
"""Adam moves a weight whose gradient is all rounding by the whole learning rate; what is compared must not drift."""

Start = Callable[..., list[BaseProcess]]

_RANK = """
import os
os.environ.update({environment})
from vosdata.cli.app import run
raise SystemExit(run({arguments}))
"""


@pytest.fixture(scope="module")
def servers() -> Iterator[Any]:
    """A server with torch in it, which saves each training the imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        context = multiprocessing.get_context("forkserver")
        # torch._dynamo: optimisers import it when the first of them is made
        context.set_forkserver_preload(["vosdata.train", "vosdata.cli.train", "torch._dynamo"])
        yield context


@pytest.fixture
def start(servers: Any, tiny_recipe: Callable[..., Path], tiny_sets: dict[str, Path]) -> Start:
    """Function ``(run folder, ranks, settings)`` that starts a training as that many processes, as torchrun does."""
    recipe = tiny_recipe(
        data={"sets": {str(tiny_sets[name]): 1 for name in ("alpha", "beta")}},
        train={"batch": 4, "learning_rate": 3e-3, "lr_decay": 0.5},
    )

    def begin(out: Path, num_ranks: int, *settings: str) -> list[BaseProcess]:
        arguments = ["train", str(recipe), f"--out={out}", "--device=cpu", *(f"--set={one}" for one in settings)]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        processes = []
        for rank in range(num_ranks):
            environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks, "MASTER_PORT": port}
            texts = {name: str(value) for name, value in environment.items()} | {"MASTER_ADDR": "127.0.0.1"}
            code = _RANK.format(environment=texts, arguments=arguments)
            processes.append(servers.Process(target=exec, args=(code, {})))
        for process in processes:
            process.start()
        return processes

    return begin


def finish(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.join(600)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def reached(metrics: Path, step: int) -> bool:
    return any(line["step"] >= step and "event" not in line for line in read_metrics(metrics))


def kill(processes: list[BaseProcess], rng: random.Random) -> None:
    """Ends one of the processes with SIGKILL, and some moments later the others, as torchrun does."""
    victim, *others = rng.sample(processes, len(processes))
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    time.sleep(rng.uniform(0, 0.2) if others else 0)
    for process in processes:
        process.kill()
        process.join()
    assert victim.exitcode == -signal.SIGKILL


def kill_behind(step: int, processes: list[BaseProcess], metrics: Path, rng: random.Random) -> None:
    """Kills a training at a random moment after a step was logged."""
    try:
        while not reached(metrics, step):
            assert all(process.is_alive() for process in processes), "the training ended before it was killed"
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
    finally:
        kill(processes, rng)


def step_lines(out: Path) -> list[dict[str, Any]]:
    """What was logged of steps and validations, less the times that they took."""
    times = ("frames_per_second", "data_wait", "seconds")
    lines = [line for line in read_metrics(out / "metrics.jsonl") if line.get("event") in (None, "validation")]
    return [{key: value for key, value in line.items() if key not in times} for line in lines]


def assert_same_end(one: Path, other: Path) -> None:
    assert step_lines(one) == step_lines(other)
    assert read_lines(one / "validation.jsonl") == read_lines(other / "validation.jsonl") != []
    assert [path.name for path in list_checkpoints(one)] == [path.name for path in list_checkpoints(other)]
    for first_path, second_path in zip(list_checkpoints(one), list_checkpoints(other), strict=True):
        first, second = load_checkpoint(first_path), load_checkpoint(second_path)
        assert (first.step, first.stream, first.counters) == (second.step, second.stream, second.counters)
        assert first.history == second.history
        assert first.model.keys() == second.model.keys()
        assert all(torch.equal(first.model[name], second.model[name]) for name in first.model)
        for name, states in first.optimiser.items():
            assert all(torch.equal(states[key], second.optimiser[name][key]) for key in states)


@pytest.mark.parametrize(
    ("num_ranks", "num_kills"),
    [(1, 3), (2, 3), pytest.param(1, 20, marks=pytest.mark.slow), pytest.param(2, 20, marks=pytest.mark.slow)],
)
def test_a_run_killed_at_random_ends_with_the_bits_of_an_uncut_one(
    num_ranks: int, num_kills: int, start: Start, tmp_path: Path, tiny_sets: dict[str, Path]
) -> None:
    """Killed anywhere: while starting, in a step, in a validation, while a checkpoint is written."""
    last = 6 * num_kills + 12
    settings = [
        f"train.steps={last}",
        "run.checkpoint_every=4",
        f"validation.sets=[{tiny_sets['alpha']}]",
        "validation.sequences=2",
        "validation.every_steps=6",
    ]
    uncut, cut = tmp_path / "uncut", tmp_path / "cut"
    finish(start(uncut, num_ranks, *settings))
    rng = random.Random(num_ranks)
    num_at_start = num_kills // 4
    for step in sorted(rng.sample(range(1, last - 3), num_kills - num_at_start)):
        kill_behind(step, start(cut, num_ranks, *settings), cut / "metrics.jsonl", rng)
        assert all(load_checkpoint(path).step for path in list_checkpoints(cut))
    for _ in range(num_at_start):
        processes = start(cut, num_ranks, *settings)
        time.sleep(rng.uniform(0, 0.5))
        kill(processes, rng)
    finish(start(cut, num_ranks, *settings))
    assert [line["step"] for line in step_lines(cut) if "event" not in line] == list(range(1, last + 1))
    assert_same_end(cut, uncut)


def assert_same_but_for_rounding(one: Path, other: Path, rounding: float = 1e-4) -> None:
    keys = ("loss", "fine", "coarse", "J", "gradient_norm", "num_pixels")
    lines = [[line for line in step_lines(out) if "event" not in line] for out in (one, other)]
    assert len(lines[0]) == len(lines[1]) > 0
    for first, second in zip(*lines, strict=True):
        assert [first[key] for key in keys] == pytest.approx([second[key] for key in keys], rel=rounding)


def assert_same_way(one: Path, other: Path) -> None:
    """The same weights but for rounding.

    Adam moves a weight whose gradient is all rounding as far as any other, so the way as a whole is compared.
    """
    first, second = (load_checkpoint(list_checkpoints(out)[0]) for out in (one, other))
    begin = AGAME(first.recipe.model.config(), seed=first.recipe.train.seed).state_dict()
    way, gap = (
        torch.cat([(second.model[name] - weights[name]).double().flatten() for name in begin]).norm()
        for weights in (begin, first.model)
    )
    assert first.stream == second.stream
    assert gap < 1e-3 * way


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_train_as_one_does_on_the_same_global_batch(
    accumulate: int, start: Start, tmp_path: Path
) -> None:
    settings = ["model.batch_norm=frozen", "train.steps=4", SMALL_STEPS]
    one, two = tmp_path / "one", tmp_path / "two"
    running = [*start(one, 1, *settings), *start(two, 2, *settings, f"train.accumulate={accumulate}")]
    finish(running)
    assert_same_but_for_rounding(one, two)
    assert_same_way(one, two)


@pytest.mark.parametrize("batch_norm", ["per_frame", "joint"])
def test_batch_statistics_of_two_processes_are_those_of_one(batch_norm: str, start: Start, tmp_path: Path) -> None:
    """Dividing by the deviation of two dozen nearly equal numbers enlarges rounding; that of each share is far off."""
    settings = [f"model.batch_norm={batch_norm}", "train.steps=1", SMALL_STEPS]
    one, two, apart = tmp_path / "one", tmp_path / "two", tmp_path / "apart"
    finish([*start(one, 1, *settings), *start(two, 2, *settings)])
    assert_same_but_for_rounding(one, two, rounding=1e-3)
    finish(start(apart, 2, *settings, "train.sync_batch_norm=false"))
    with pytest.raises(AssertionError):
        assert_same_but_for_rounding(one, apart, rounding=1e-1)


def test_torchrun_starts_the_processes(start: Start, tmp_path: Path, tiny_sets: dict[str, Path]) -> None:
    finish(start(tmp_path / "one", 1, "model.batch_norm=frozen", "train.steps=2"))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "vosdata"]
    arguments = ["train", str(tmp_path / "one" / "recipe.yaml"), f"--out={tmp_path / 'two'}", "--device=cpu"]
    subprocess.run([*launcher, *arguments], check=True, capture_output=True, timeout=600)
    for number, out in enumerate((tmp_path / "one", tmp_path / "two"), start=1):
        (begun,) = (line for line in read_metrics(out / "metrics.jsonl") if line.get("event") == "start")
        assert begun["num_ranks"] == number
    one, two = ([line["loss"] for line in step_lines(tmp_path / name)] for name in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-4)


def test_a_run_goes_on_with_another_number_of_processes(start: Start, tmp_path: Path) -> None:
    settings = ["model.batch_norm=frozen", "train.steps=12", "run.checkpoint_every=1", SMALL_STEPS]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(start(whole, 1, *settings))
    rng = random.Random(0)
    for step, num_ranks in ((3, 1), (7, 2)):
        kill_behind(step, start(cut, num_ranks, *settings), cut / "metrics.jsonl", rng)
    finish(start(cut, 1, *settings))
    used = [line["num_ranks"] for line in read_metrics(cut / "metrics.jsonl") if line.get("event") == "start"]
    assert used == [1, 2, 1]
    assert_same_but_for_rounding(whole, cut)
    assert_same_way(whole, cut)


def test_interrupting_one_of_two_processes_saves_and_ends_both(start: Start, tmp_path: Path) -> None:
    settings = ["train.steps=12", "run.checkpoint_every=100"]
    out, whole = tmp_path / "run", tmp_path / "whole"
    processes = start(out, 2, *settings)
    while not reached(out / "metrics.jsonl", 2):
        time.sleep(0.002)
    assert processes[1].pid is not None
    os.kill(processes[1].pid, signal.SIGINT)
    for process in processes:
        process.join(600)
    assert [process.exitcode for process in processes] == [130, 130]
    (path,) = list_checkpoints(out)
    assert load_checkpoint(path).step == step_lines(out)[-1]["step"] < 12
    finish(start(out, 2, *settings))
    finish(start(whole, 2, *settings))
    assert step_lines(out) == step_lines(whole)


def test_validation_is_the_same_on_any_number_of_processes(
    start: Start, tmp_path: Path, tiny_sets: dict[str, Path]
) -> None:
    """Where nothing is learnt the weights are equal to the bit, batch statistics aside: those are rank 0's."""
    settings = [
        "train.steps=1",
        "train.learning_rate=1e-30",
        "model.batch_norm=frozen",
        f"validation.sets=[{tiny_sets['alpha']}]",
        "validation.sequences=3",
    ]
    outs = [tmp_path / str(num_ranks) for num_ranks in (1, 2)]
    for num_ranks, out in enumerate(outs, start=1):
        finish(start(out, num_ranks, *settings))
    one, two = (read_lines(out / "validation.jsonl") for out in outs)
    assert one == two
    assert len(one) == 3
