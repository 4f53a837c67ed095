"""``vosdata train``: A-GAME from shards."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vosdata.recipe import Recipe
    from vosdata.train import TrainResult
    from vosdata.training.metrics_log import StepMetrics

DEFAULT_RECIPE = "agame_initial"
PLAIN_INTERVAL_SECONDS = 10.0
COUNTED = {
    "uncounted_snippets": "had no pixel of known truth, and no part in training",
    "empty_snippets": "had an empty given mask, as a crop can cause",
    "replaced_snippets": "stood in for one whose stored bytes are damaged; see the events in metrics.jsonl",
    "vanished_snippets": "showed no target after their first frame, in any annotated one",
}
"""Kinds of snippets that the end of a run speaks of, and what it says of them."""


def command(
    recipe: Annotated[
        str | None, typer.Argument(help=f"Name of a recipe, or path of a YAML file; {DEFAULT_RECIPE} if not given.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Shard set to train on instead of the recipe's, or synth:PRESET for synthetic videos rendered on the "
            "fly (its options are told in vosdata/scene_set.py); repeat to mix with equal probability."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/RECIPE if not given.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key of the recipe: section.key=value; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Fail unless there is a run to go on with.")] = False,
    root: Annotated[Path | None, typer.Option(help="Data root; $VOSDATA_ROOT or ./data if not given.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    weights_dir: Annotated[
        Path | None,
        typer.Option(envvar="VOSDATA_WEIGHTS_DIR", help="Folder of ImageNet weights, asked before the hub."),
    ] = None,
) -> None:
    """Train A-GAME from shards; the same command again goes on where a run was cut.

    Several GPUs: torchrun --nproc-per-node 4 -m vosdata train RECIPE ...

    \b
    Example:
      vosdata train smoke --data data/shards/synthvos --set train.steps=50
    """
    resolved = _choose_recipe(recipe, out, resume, settings or [])
    from vosdata.train import train

    with shown_progress() as on_step:
        result = train(
            resolved,
            data,
            out,
            resume,
            root=root,
            device=device,
            weights_dir=weights_dir,
            on_step=on_step,
            on_message=_tell,
        )
    if result.is_main:
        print("\n".join(_summary(result)))


def _summary(result: "TrainResult") -> "Iterator[str]":
    """What the run came to, line by line."""
    early = ", stopped early" if result.stopped_early else ""
    yield f"trained {result.step} steps{early}; {result.checkpoint} and {result.out / 'metrics.jsonl'}"
    if result.history.best is not None:
        step, best = result.history.best
        validations = len(result.history.validations)
        yield f"held-out J {best:.4f} after step {step}, the best of {validations} validations; {result.best}"
    for name, meaning in COUNTED.items():
        if result.counters.get(name):
            yield f"{result.counters[name]} snippets {meaning}"


def _choose_recipe(recipe: str | None, out: Path | None, resume: bool, settings: list[str]) -> "Recipe":
    """The recipe that is named; a run that is resumed by its folder alone brings its own."""
    from vosdata.recipe import load_recipe
    from vosdata.training.run_folder import RECIPE_FILE

    if recipe is None and resume and out is not None and (out / RECIPE_FILE).exists():
        return load_recipe(out / RECIPE_FILE, settings)
    return load_recipe(recipe or DEFAULT_RECIPE, settings)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def shown_progress() -> "Iterator[Callable[[StepMetrics, int], None]]":
    """Shows logged steps on standard error: a bar on a terminal, else a plain line now and then."""
    if sys.stderr.isatty():
        with _bar() as update:
            yield update
    else:
        yield _plain_lines()


@contextmanager
def _bar() -> "Iterator[Callable[[StepMetrics, int], None]]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("steps", total=None)

        def update(metrics: "StepMetrics", last_step: int) -> None:
            progress.update(task, completed=metrics.step, total=last_step, description=_figures(metrics))

        yield update


def _plain_lines() -> "Callable[[StepMetrics, int], None]":
    next_line = time.monotonic()
    first: tuple[int, float] | None = None  # step and time from which the speed is measured: a run may have gone on

    def update(metrics: "StepMetrics", last_step: int) -> None:
        nonlocal next_line, first
        now = time.monotonic()
        first = first or (metrics.step, now)
        if now < next_line and metrics.step < last_step:
            return
        next_line = now + PLAIN_INTERVAL_SECONDS
        steps, left = metrics.step - first[0], last_step - metrics.step
        time_left = timedelta(seconds=round(left * (now - first[1]) / steps)) if steps else "-:--:--"
        _tell(f"step {metrics.step}/{last_step}  {_figures(metrics)}  {time_left} left")

    return update


def _figures(metrics: "StepMetrics") -> str:
    region = "  -  " if metrics.J is None else f"{metrics.J:.3f}"
    held_out = "" if metrics.validation_J is None else f"held-out J {metrics.validation_J:.3f}  "
    return (
        f"epoch {metrics.epoch}  loss {metrics.loss:.4f}  J {region}  {held_out}"
        f"{metrics.frames_per_second:.0f} frames/s  waiting for data {metrics.data_wait:.0%}"
    )
