"""Which shard sets a recipe trains on: names to folders, weights to numbers, and what they have nothing of to offer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shards.errors import ShardError
from vosdata.recipe import Recipe, Weight
from vosdata.scene_set import is_scene_set
from vosdata.stream import SnippetStream
from vosdata.streaming.curriculum import Value
from vosdata.streaming.eligibility import eligible_count
from vosdata.training.held_out import HeldOut, excluded_from, hold_out
from vosdata.training.ranks import Ranks

_COMMANDS = {"synthvos": "vosdata synth --n 10000"}


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The shard sets that are drawn from."""

    weights: dict[str, Value]
    """Folder of a shard set to its weight."""

    left_out: dict[str, str]
    """Folder of a shard set that is not used, to the reason."""

    held_out: tuple[HeldOut, ...] = ()
    """What is scored during training and never drawn."""

    excluded: dict[str, frozenset[str]] = field(default_factory=dict)
    """Folder of a shard set that is drawn from, to the names of its sequences that are not."""


def with_data(recipe: Recipe, data: Sequence[Path], tell: Callable[[str], None]) -> Recipe:
    """The recipe with its shard sets replaced by these folders, each drawn with equal probability.

    A set of validation that the recipe names is then looked for among these folders too; where it is not one of them,
    it is left out, and ``tell`` is given a line that says so.

    Raises:
        ValueError: a folder is given twice.
    """
    sets: dict[str, Weight] = {
        str(path) if "/" in str(path) or is_scene_set(path) else f"./{path}": 1.0 for path in data
    }
    if len(sets) < len(data):
        raise ValueError(f"--data names a folder twice: {', '.join(map(str, data))}")
    found = {name: name if "/" in name else _among(name, list(sets)) for name in recipe.validation.sets}
    validated = [folder for folder in found.values() if folder is not None]
    for name in [name for name, folder in found.items() if folder is None]:
        tell(
            f"warning: the recipe validates on {name}, which is not among --data: nothing is held out of it; "
            "--set 'validation.sets=[DIR]' names another set"
        )
    changes = {
        "data": recipe.data.model_copy(update={"sets": sets}),
        "validation": recipe.validation.model_copy(update={"sets": validated}),
    }
    return recipe.model_copy(update=changes)


def _among(name: str, folders: list[str]) -> str | None:
    """The folder that a set's name means, by the rule of :func:`find_data`."""
    names = {Path(folder).name: folder for folder in folders}
    for wanted in (name, f"{name}-train"):
        if wanted in names:
            return names[wanted]
    return next((names[other] for other in sorted(names) if other.startswith(name) and other.endswith("-train")), None)


def find_data(recipe: Recipe, root: Path, tell: Callable[[str], None]) -> TrainingData:
    """Finds the folders of a recipe's shard sets, and chooses what is held out of them.

    A name without ``/`` is looked for below ``root/shards``: that folder, else its training split (``davis2017`` finds
    ``davis2017-train``), else the only one whose name goes on (``ytvos`` finds ``ytvos2019-train``). Anything else is
    a path, but for ``synth:...``, which is rendered on the fly (:mod:`vosdata.scene_set`).

    A set given by its path is left out when no snippet can be drawn from it; a set that a recipe names is needed.

    Args:
        recipe: the recipe.
        root: the data root.
        tell: is given a line for held-out sequences that cannot be scored.

    Raises:
        RecipeError: the sequences that are to be held out are not there.
        ShardError: a set is missing or incomplete, a name fits several, or no set has an eligible snippet.
    """
    data = recipe.data
    folders = _find_all([*data.sets, *recipe.validation.sets], root / "shards")
    held_out = hold_out(recipe.validation, [folders[name] for name in dict.fromkeys(recipe.validation.sets)], tell)
    excluded: dict[str, frozenset[str]] = {}
    weights: dict[str, Value] = {}
    left_out: dict[str, str] = {}
    for name, weight in data.sets.items():
        folder = str(folders[name])
        names = frozenset[str]() if is_scene_set(folder) else excluded_from(folder, held_out)
        count = eligible_count(
            folder,
            data.frames,
            data.size,
            min_object_pixels=data.min_object_pixels,
            gap=data.gap,
            gap_unit=data.gap_unit,
            exclude=names,
        )
        if count == 0 and "/" in name:
            left_out[folder] = (
                f"no sequence has {data.frames} consecutive frames with an object of "
                f"{data.min_object_pixels} pixels in the first and an annotation behind it"
                + (" that is not held out" if names else "")
            )
        else:
            # A named set without a snippet keeps a weight: the stream then says precisely what is missing.
            weights[folder] = float(max(count, 1)) if isinstance(weight, str) else weight
            if names:
                excluded[folder] = names
    if not weights:
        reasons = "; ".join(f"{folder}: {reason}" for folder, reason in left_out.items())
        raise ShardError(f"none of the shard sets has a snippet to train on ({reasons}); try fewer data.frames")
    return TrainingData(weights, left_out, held_out, excluded)


def _find_all(names: Sequence[str], shards: Path) -> dict[str, Path]:
    """The folder of each name.

    Raises:
        ShardError: some are missing; the message names all of them.
    """
    found = {name: _find(name, shards) for name in names}
    missing = [name for name, folder in found.items() if folder is None]
    if missing:
        raise ShardError(_missing(missing, shards))
    return {name: folder for name, folder in found.items() if folder is not None}


def _find(name: str, shards: Path) -> Path | None:
    if "/" in name or is_scene_set(name):
        return Path(name)
    for folder in (shards / name, shards / f"{name}-train"):
        if folder.is_dir():
            return folder
    found = sorted(folder for folder in shards.glob(f"{name}*-train") if folder.is_dir())
    if len(found) > 1:
        raise ShardError(f"shard set '{name}' could be any of {', '.join(map(str, found))}; name one with --data")
    return found[0] if found else None


def _missing(names: list[str], shards: Path) -> str:
    commands = "` and `".join(dict.fromkeys(_COMMANDS.get(name, "vosdata shard") for name in names))
    listed = ", ".join(f"'{name}'" for name in names)
    return f"{shards} lacks {listed}; make it with `{commands}`, or name the shard sets to train on with --data DIR"


def open_stream(recipe: Recipe, data: TrainingData, ranks: Ranks) -> SnippetStream:
    """Opens this rank's share of the stream of snippets.

    Raises:
        ValueError: the batch cannot be shared out evenly.
        VosDataError: a set or the augmentation cannot be used.
    """
    if recipe.train.batch % (ranks.num_ranks * recipe.train.accumulate):
        raise ValueError(
            f"train.batch {recipe.train.batch} cannot be shared out evenly among {ranks.num_ranks} ranks with "
            f"train.accumulate {recipe.train.accumulate}"
        )
    return SnippetStream(
        data.weights,
        snippet=recipe.data.frames,
        size=recipe.data.size,
        batch=recipe.train.batch // ranks.num_ranks,
        seed=recipe.train.seed,
        rank=ranks.rank,
        num_ranks=ranks.num_ranks,
        threads=recipe.run.threads,
        epoch_size=recipe.data.epoch_size,
        flip=recipe.data.flip,
        objects=recipe.data.objects,
        later="background",
        min_object_pixels=recipe.data.min_object_pixels,
        gap=recipe.data.gap,
        gap_unit=recipe.data.gap_unit,
        reverse=recipe.data.reverse,
        augment=recipe.data.augment,
        on_damage=recipe.data.on_damage,
        exclude=data.excluded,
        device=ranks.device if any(map(is_scene_set, data.weights)) else None,
    )
