"""Checkpoints: everything a run needs to go on, or a model to be used, in one file without pickle.

A run folder holds::

    recipe.yaml      the resolved recipe
    metrics.jsonl    one line per logged step
    checkpoints/     step-00000500.safetensors ...: see vosdata/training/tensor_file.py for the bytes

There is no pointer to the last checkpoint that could go stale: the newest whole one is found by looking, and it tells
all validations so far, hence which is the best.
"""

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from shards.atomic import sync_folder
from shards.errors import CheckpointError
from vosdata.recipe import Recipe, recipe_from_json
from vosdata.training.history import History
from vosdata.training.tensor_file import read_tensors, write_tensors

if TYPE_CHECKING:
    from vosdata.models.agame import AGAME

FORMAT = "vosdata checkpoint"
FORMAT_VERSION = 1
FOLDER = "checkpoints"
_FILE_NAME = re.compile(r"step-\d{8,}\.safetensors")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A run as it stood after a step."""

    step: int
    """Optimiser steps taken."""

    recipe: Recipe
    """The resolved recipe."""

    stream: Mapping[str, Any]
    """What :meth:`vosdata.SnippetStream.state_dict` gave: the position from which the next batch comes."""

    model: Mapping[str, Tensor]
    """The network's state dict: parameters and batch-norm statistics."""

    optimiser: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """Parameter name to Adam's tensors (``exp_avg``, ``exp_avg_sq``, ``step``); empty where only the model was read."""

    counters: Mapping[str, int] = field(default_factory=dict)
    """Running totals of the whole run, such as snippets drawn."""

    backbone: str = ""
    """Where the backbone's first weights came from, with their SHA-256."""

    history: History = field(default_factory=History)
    """Every validation up to this step; the best of them was of the run's best checkpoint."""


def checkpoint_path(run: Path, step: int) -> Path:
    """Where the checkpoint after a step lies in a run folder."""
    return run / FOLDER / f"step-{step:08d}.safetensors"


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint; ``path`` never holds a part of one.

    Raises:
        OSError: the disk is full or refuses; what was at ``path`` stays.
    """
    tensors = {f"model.{name}": tensor for name, tensor in checkpoint.model.items()}
    for name, states in checkpoint.optimiser.items():
        tensors |= {f"optimiser.{key}.{name}": tensor for key, tensor in states.items()}
    facts = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "step": checkpoint.step,
        "recipe": checkpoint.recipe.model_dump(mode="json"),
        "stream": dict(checkpoint.stream),
        "counters": dict(checkpoint.counters),
        "backbone": checkpoint.backbone,
        "validations": [list(one) for one in checkpoint.history.validations],
        "torch": str(torch.__version__),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, json.dumps(facts))


def load_checkpoint(path: Path, *, model_only: bool = False) -> Checkpoint:
    """Reads a checkpoint and checks every byte of it.

    Args:
        path: a checkpoint file.
        model_only: leave the optimiser's tensors on disk.

    Raises:
        CheckpointError: the file is missing, damaged, or of another form or version.
    """
    tensors, metadata = read_tensors(path, prefix="model." if model_only else "")
    try:
        facts = json.loads(metadata)
        found = (facts["format"], facts["version"])
        if found != (FORMAT, FORMAT_VERSION):
            raise CheckpointError(
                f"checkpoint {path}: expected {FORMAT} version {FORMAT_VERSION}, got {found[0]} {found[1]}"
            )
        return Checkpoint(
            step=int(facts["step"]),
            recipe=recipe_from_json(facts["recipe"], f"checkpoint {path}: its recipe"),
            stream=facts["stream"],
            model={name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")},
            optimiser=_optimiser_tensors(tensors),
            counters=facts["counters"],
            backbone=facts["backbone"],
            history=History(tuple((int(step), float(J)) for step, J in facts.get("validations", ()))),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path}: its description lacks or garbles {error}") from error


def list_checkpoints(run: Path) -> list[Path]:
    """Checkpoint files of a run folder, newest first; none of them is opened."""
    folder = run / FOLDER
    return sorted(
        (file for file in folder.glob("step-*") if _FILE_NAME.fullmatch(file.name)), key=step_of, reverse=True
    )


def step_of(path: Path) -> int:
    """The step after which a checkpoint was written, from its name."""
    return int(path.stem.removeprefix("step-"))


def newest_checkpoint(run: Path, *, model_only: bool = False) -> tuple[Checkpoint | None, list[str]]:
    """Reads the newest whole checkpoint of a run folder.

    Returns:
        The checkpoint, or None where the folder has none; and a line for each newer file that had to be passed over.

    Raises:
        CheckpointError: there are checkpoints, and all are damaged.
    """
    problems: list[str] = []
    for path in list_checkpoints(run):
        try:
            return load_checkpoint(path, model_only=model_only), problems
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        raise CheckpointError(f"run {run}: every checkpoint is unusable: {'; '.join(problems)}")
    return None, problems


def remove_old_checkpoints(run: Path, keep: int, history: History = History()) -> None:  # noqa: B008  (it is frozen)
    """Deletes all but the ``keep`` newest checkpoints and the best; call it after a newer one is safely in place.

    What was the best for any of the newest stays, so that whichever of them is found whole, its best is there.
    """
    paths = list_checkpoints(run)
    best = {found[0] for path in paths[:keep] if (found := history.until(step_of(path)).best)}
    old = [path for path in paths[keep:] if step_of(path) not in best]
    for path in old:
        path.unlink()
    if old:
        sync_folder(run / FOLDER)


def open_checkpoint(path: Path, which: Literal["best", "last"] = "best") -> Checkpoint:
    """Reads the model part of a checkpoint file, or of a run folder's chosen checkpoint; see :func:`chosen_checkpoint`.

    Raises:
        CheckpointError: there is no such file or folder, or nothing usable in it.
    """
    return load_checkpoint(chosen_checkpoint(path, which)[0], model_only=True)


def chosen_checkpoint(path: Path, which: Literal["best", "last"] = "best") -> tuple[Path, str]:
    """Finds the checkpoint that stands for a run.

    That is the best of those that were validated, where the run was validated at all, else the last. Checkpoints that
    cannot be used are passed over with a warning.

    Args:
        path: a run folder; or a checkpoint file, which is returned as it is.
        which: ``"last"`` takes the newest whole checkpoint of a run folder, whatever its validations say.

    Returns:
        The file; and why this one, as words to put behind its name, empty where there is nothing to say.

    Raises:
        CheckpointError: it is a folder without a usable checkpoint.
    """
    if not path.is_dir():
        return path, ""
    newest, problems = newest_checkpoint(path, model_only=True)
    if newest is None:
        raise CheckpointError(
            f"no checkpoint in {path}: expected {path / FOLDER}/step-*.safetensors, as vosdata train writes"
        )
    chosen, reason = newest.step, ", the last"
    if which == "best" and newest.history.best is not None:
        step, best = newest.history.best
        try:
            chosen = load_checkpoint(checkpoint_path(path, step), model_only=True).step
            reason = f", the best: held-out J {best:.4f}; the last is of step {newest.step}"
        except CheckpointError as error:
            problems.append(f"{error}; taking step {newest.step} instead, though step {step} was better")
    for problem in problems:
        warnings.warn(problem, stacklevel=3)
    return checkpoint_path(path, chosen), reason


def load_model(path: str | Path, device: str = "cpu") -> "tuple[AGAME, Recipe]":
    """Makes the network of a checkpoint, ready to segment.

    Args:
        path: a checkpoint file, or a run folder, of which the best checkpoint is taken; without validation the last.
        device: where the network goes, e.g. ``"cuda"``.

    Returns:
        The network in evaluation mode, and the recipe that it was trained with.

    Raises:
        CheckpointError: nothing usable is there, or its tensors do not fit its recipe's network.
    """
    from vosdata.models.agame import AGAME

    checkpoint = open_checkpoint(Path(path))
    model = AGAME(checkpoint.recipe.model.config())
    load_weights(model, checkpoint.model, str(path))
    return model.to(device).eval(), checkpoint.recipe


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Copies weights into a model; every name and shape must fit.

    Raises:
        CheckpointError: names or shapes differ; the message names them.
    """
    own = model.state_dict()
    faults = [f"{name} is missing" for name in own if name not in weights]
    faults += [f"{name} is unknown" for name in weights if name not in own]
    faults += [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(f"checkpoint {where}: does not fit this network: {'; '.join(faults[:3])}{more}")
    model.load_state_dict(dict(weights))


def optimiser_tensors(optimiser: torch.optim.Optimizer, model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Names an optimiser's tensors by the parameters that they belong to, so that their order does not matter."""
    return {name: dict(optimiser.state[p]) for name, p in model.named_parameters() if p in optimiser.state}


def restore_optimiser(
    optimiser: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Mapping[str, Tensor]], where: str
) -> None:
    """Puts an optimiser's tensors back.

    Raises:
        CheckpointError: they belong to other parameters than the optimiser has.
    """
    parameters = dict(model.named_parameters())
    trained = {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
    strangers = [name for name in tensors if name not in parameters or id(parameters[name]) not in trained]
    if strangers:
        raise CheckpointError(f"checkpoint {where}: has optimiser state of {strangers[0]}, which is not trained here")
    positions = {id(p): i for i, p in enumerate(p for group in optimiser.param_groups for p in group["params"])}
    state = {
        positions[id(parameters[name])]: {key: _laid_out_as(parameters[name], tensor) for key, tensor in states.items()}
        for name, states in tensors.items()
    }
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def _laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A tensor of a parameter's shape in its order in memory, which a fused optimiser goes by; others as they are."""
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor


def _optimiser_tensors(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    states: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, key, parameter = name.split(".", 2)
            states.setdefault(parameter, {})[key] = tensor
    return states
