"""Which shard sets a recipe trains on: names to folders, weights to numbers, and sets that have nothing to offer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.errors import ShardError
from vosdata.recipe import DataRecipe, Recipe, Weight
from vosdata.streaming.curriculum import Value
from vosdata.streaming.eligibility import eligible_count

_COMMANDS = {"synthvos": "vosdata synth --n 10000"}


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The shard sets that are drawn from."""

    weights: dict[str, Value]
    """Folder of a shard set to its weight."""

    left_out: dict[str, str]
    """Folder of a shard set that is not used, to the reason."""


def with_data(recipe: Recipe, data: Sequence[Path]) -> Recipe:
    """The recipe with its shard sets replaced by these folders, each drawn with equal probability.

    Raises:
        ValueError: a folder is given twice.
    """
    sets: dict[str, Weight] = {str(path) if "/" in str(path) else f"./{path}": 1.0 for path in data}
    if len(sets) < len(data):
        raise ValueError(f"--data names a folder twice: {', '.join(map(str, data))}")
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"sets": sets})})


def find_data(data: DataRecipe, root: Path) -> TrainingData:
    """Finds the folders of a recipe's shard sets.

    A name without ``/`` is looked for below ``root/shards``: that folder, else its training split (``davis2017`` finds
    ``davis2017-train``), else the only one whose name goes on (``ytvos`` finds ``ytvos2019-train``). Anything else is
    a path.

    A set given by its path is left out when no snippet can be drawn from it; a set that a recipe names is needed.

    Args:
        data: the recipe's section.
        root: the data root.

    Raises:
        ShardError: a set is missing or incomplete, a name fits several, or no set has an eligible snippet.
    """
    folders = {name: _find(name, root / "shards") for name in data.sets}
    missing = [name for name, folder in folders.items() if folder is None]
    if missing:
        raise ShardError(_missing(missing, root / "shards"))
    weights: dict[str, Value] = {}
    left_out: dict[str, str] = {}
    for name, weight in data.sets.items():
        folder = str(folders[name])
        count = eligible_count(
            folder,
            data.frames,
            data.size,
            min_object_pixels=data.min_object_pixels,
            gap=data.gap,
            gap_unit=data.gap_unit,
        )
        if count == 0 and "/" in name:
            left_out[folder] = (
                f"no sequence has {data.frames} consecutive frames with an object of "
                f"{data.min_object_pixels} pixels in the first and an annotation behind it"
            )
        else:
            # A named set without a snippet keeps a weight: the stream then says precisely what is missing.
            weights[folder] = float(max(count, 1)) if isinstance(weight, str) else weight
    if not weights:
        reasons = "; ".join(f"{folder}: {reason}" for folder, reason in left_out.items())
        raise ShardError(f"none of the shard sets has a snippet to train on ({reasons}); try fewer data.frames")
    return TrainingData(weights, left_out)


def _find(name: str, shards: Path) -> Path | None:
    if "/" in name:
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
