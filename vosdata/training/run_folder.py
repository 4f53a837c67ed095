"""The folder of a run: one writer at a time, one recipe for good, and going on from its newest whole checkpoint.

A run folder holds::

    recipe.yaml         the resolved recipe, every key of it
    metrics.jsonl       one JSON object per logged step, and one per event, in order of steps
    validation.jsonl    one JSON object per scored sequence of every validation, in order of steps
    checkpoints/        step-00000500.safetensors ...: the newest, and the best of those that were validated
    tensorboard/        event files, where run.tensorboard asks for them

**metrics.jsonl**, read by :func:`vosdata.training.metrics_log.read_metrics`. A line without the key ``event`` is a
logged step and has the keys of :class:`vosdata.training.metrics_log.StepMetrics`: among them ``step``, ``loss``, ``J``
(of the training batch, or null), ``validation_J`` (of the newest validation, or null), ``learning_rate``, ``data_wait``
(0 to 1) and ``frames_per_second``. A line with ``event`` has ``step`` too, and:

* ``start``: ``device``, ``num_ranks``, ``sets`` (folder to weight); each time the run was begun or gone on with;
* ``left_out``: ``set``, ``reason``; a shard set that offers nothing;
* ``validation``: ``J`` (mean over objects), ``is_best``, ``best_step``, ``best_J``, ``num_sequences``, ``num_objects``,
  ``seconds``;
* ``replaced``: ``problem`` (which snippet is damaged, and how), ``by`` (key of the one that stands in for it); those of
  the first rank, while the steps' ``replaced_snippets`` count those of all;
* ``stopped_early``: ``best_step``, ``best_J``, ``num_validations`` that brought nothing better;
* ``not_finite``: ``loss``, ``gradient_norm``, ``keys``; training stopped there. Going on cuts it off again.

**validation.jsonl**, read by :func:`vosdata.training.metrics_log.read_lines`: ``step``, ``set`` (folder of the shard
set), ``sequence``, ``J`` (mean over its objects), ``num_frames`` (scored ones), ``objects`` (object id, as text, to J).
The newest evaluation is that of the last line's ``step``, the best that of the last ``validation`` event's
``best_step``.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.atomic import write_atomically
from shards.conflict import refuse_other_configuration
from shards.errors import CheckpointError, ConflictError
from vosdata.checkpoint import FOLDER, Checkpoint, list_checkpoints, newest_checkpoint, step_of
from vosdata.recipe import Recipe, load_recipe, recipe_to_yaml

RECIPE_FILE = "recipe.yaml"
METRICS_FILE = "metrics.jsonl"
VALIDATION_FILE = "validation.jsonl"
TENSORBOARD_DIR = "tensorboard"
LOCK_FILE = ".lock"


@contextmanager
def locked_run(out: Path, must_exist: bool = False) -> Iterator[None]:
    """Makes the folder and holds it for one writer; the lock dies with the process.

    Raises:
        CheckpointError: ``must_exist``, and no run was begun there.
        ConflictError: another process trains into it, or it is a file.
        OSError: the folder cannot be made.
    """
    if must_exist and not (out / RECIPE_FILE).exists():
        raise CheckpointError(f"nothing to resume in {out}: it has no {RECIPE_FILE}; leave out --resume to start a run")
    if out.exists() and not out.is_dir():
        raise ConflictError(f"{out} is a file, and a run needs a folder; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"{out} is in use by another training; wait for it or choose another --out") from None
        yield


def last_state(out: Path, recipe: Recipe, tell: Callable[[str], None]) -> Checkpoint | None:
    """Finds where the run in a locked folder stands.

    Args:
        out: the folder.
        recipe: the resolved recipe.
        tell: is given a line for each damaged checkpoint that is passed over.

    Returns:
        The newest whole checkpoint, or None where training starts from the beginning.

    Raises:
        ConflictError: the folder belongs to another recipe; the message names the keys that differ.
        CheckpointError: every checkpoint is damaged.
    """
    if (out / RECIPE_FILE).exists() and list_checkpoints(out):  # a run that failed at once claims it for nobody
        earlier = load_recipe(out / RECIPE_FILE)
        refuse_other_configuration(out, earlier.configuration(), recipe.configuration())
    checkpoint, problems = newest_checkpoint(out)
    for problem in problems:
        tell(f"passed over: {problem}")
    if checkpoint is not None:
        refuse_other_configuration(out, checkpoint.recipe.configuration(), recipe.configuration())
    return checkpoint


def begin_run(out: Path, recipe: Recipe, step: int) -> None:
    """Claims a locked folder for a recipe, and clears what lies behind the step that the run goes on from.

    Call it when nothing can go wrong any more, so that a start that fails claims no folder.
    """
    checkpoints = list_checkpoints(out)
    for name in () if checkpoints else (METRICS_FILE, VALIDATION_FILE):  # of a run that failed at once
        (out / name).unlink(missing_ok=True)
    write_atomically(out / RECIPE_FILE, recipe_to_yaml(recipe).encode())
    for path in checkpoints:
        if step_of(path) > step:  # damaged, or it would have been gone on from
            path.replace(path.with_name(f"damaged-{path.name}"))
    for path in (out / FOLDER).glob("*.tmp"):
        path.unlink(missing_ok=True)
