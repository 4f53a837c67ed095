"""Everything that a run writes down while it trains: steps, events, and how every held-out sequence was segmented."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vosdata.recipe import Recipe
from vosdata.training.data import TrainingData
from vosdata.training.history import History
from vosdata.training.metrics_log import MetricsLog, StepLog, StepMetrics
from vosdata.training.ranks import Ranks
from vosdata.training.run_folder import METRICS_FILE, TENSORBOARD_DIR, VALIDATION_FILE, begin_run
from vosdata.training.tensorboard import TensorBoardLog
from vosdata.training.validation import Validation


class RunLog:
    """The files of figures in a run folder; :mod:`vosdata.training.run_folder` says what is in them."""

    def __init__(self, out: Path, recipe: Recipe, step: int) -> None:
        """Opens the files where the run stands.

        Raises:
            RecipeError: the recipe asks for TensorBoard, and it is not installed.
        """
        self._board = TensorBoardLog(out / TENSORBOARD_DIR, step) if recipe.run.tensorboard else None
        self._metrics = MetricsLog(out / METRICS_FILE, step)
        self._sequences = StepLog(out / VALIDATION_FILE, step)

    def write(self, metrics: StepMetrics) -> None:
        """Appends a logged step."""
        self._metrics.write(metrics)
        if self._board is not None:
            self._board.write(metrics)

    def event(self, step: int, event: str, **facts: Any) -> None:
        """Appends what happened after a step."""
        self._metrics.event(step, event, **facts)

    def validation(self, step: int, found: Validation, history: History) -> None:
        """Appends a validation; ``history`` holds it already."""
        for one in found.sequences:
            facts = {"set": one.set, "sequence": one.sequence, "J": one.J, "num_frames": one.num_frames}
            self._sequences.append(json.dumps({"step": step, **facts, "objects": one.objects}))
        best_step, best = history.best or (step, found.J)
        self.event(
            step,
            "validation",
            J=found.J,
            is_best=best_step == step,
            best_step=best_step,
            best_J=best,
            num_sequences=len(found.sequences),
            num_objects=found.num_objects,
            seconds=found.seconds,
        )
        if self._board is not None:
            self._board.validation(step, found.J)

    def sync(self) -> None:
        """Makes all lines durable; call it before a checkpoint that stands for them is written."""
        self._sequences.sync()
        self._metrics.sync()

    def close(self) -> None:
        """Closes the files."""
        self._sequences.close()
        self._metrics.close()
        if self._board is not None:
            self._board.close()


@contextmanager
def opened_log(
    out: Path, recipe: Recipe, step: int, ranks: Ranks, data: TrainingData, tell: Callable[[str], None]
) -> Iterator[RunLog]:
    """Claims the run folder, opens its files of figures where the run stands, and notes how it starts."""
    begin_run(out, recipe, step)
    log = RunLog(out, recipe, step)
    try:
        log.event(
            step,
            "start",
            device=str(ranks.device),
            num_ranks=ranks.num_ranks,
            sets=data.weights,
            held_out={one.folder: len(one.records) for one in data.held_out},
        )
        for folder, reason in data.left_out.items():
            log.event(step, "left_out", set=folder, reason=reason)
            tell(f"warning: {folder} is left out: {reason}")
        yield log
    finally:
        log.close()
