"""Which sequences are held out of training: chosen by a recipe, scored during training, and drawn from no set."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.errors import RecipeError, ShardError
from shards.index import IndexEntry
from shards.reader import ShardSet
from shards.types import VOID
from vosdata.datasets.split_lists import read_names
from vosdata.evaluate.score import MIN_ANNOTATED_FRAMES
from vosdata.opening import open_shard_set
from vosdata.recipe import ValidationRecipe

_EDITIONS = re.compile(r"(davis|ytvos)\d*")
"""Datasets whose editions share sequences: one that is held out of an edition is in the others by the same name."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The sequences of one shard set that are held out."""

    folder: str
    """The shard set."""

    records: tuple[int, ...]
    """Their places in the set, ascending."""

    names: frozenset[str]
    """Their names."""


def hold_out(recipe: ValidationRecipe, folders: Sequence[Path], tell: Callable[[str], None]) -> tuple[HeldOut, ...]:
    """Chooses the sequences that a recipe holds out.

    Args:
        recipe: the section.
        folders: of its shard sets.
        tell: is given a line for sequences that were named and cannot be scored.

    Raises:
        RecipeError: more sequences are asked for than there are, a name is unknown, or the file of names is unreadable.
        ShardError: a set is missing or incomplete, or has no sequence that can be scored.
    """
    return tuple(_hold_out(recipe, folder, tell) for folder in folders)


def excluded_from(folder: str, held_out: Sequence[HeldOut]) -> frozenset[str]:
    """Names of the sequences that must not be drawn from a shard set.

    Those are the ones held out of this very set, and of other editions of its dataset. Sets that merely use the same
    names, as synthetic ones do, are not concerned.
    """
    shard_set = open_shard_set(folder)
    names: frozenset[str] = frozenset()
    for one in held_out:
        other = open_shard_set(one.folder)
        same = other.description["checksum"] == shard_set.description["checksum"]
        if same or (_dataset(other) is not None and _dataset(other) == _dataset(shard_set)):
            names |= one.names
    return names


def _dataset(shard_set: ShardSet) -> str | None:
    """Name of a dataset whose editions share sequences, without the edition."""
    found = _EDITIONS.match(shard_set.name)
    return None if found is None else found[1]


def _hold_out(recipe: ValidationRecipe, folder: Path, tell: Callable[[str], None]) -> HeldOut:
    shard_set = open_shard_set(folder)
    entries = [shard_set.entry(i) for i in range(len(shard_set))]
    scorable = {e.sequence: i for i, e in enumerate(entries) if _can_be_scored(e, recipe.max_frames)}
    chosen = _names(recipe, {entry.sequence for entry in entries}, set(scorable), folder)
    unscored = sorted(name for name in chosen if name not in scorable)
    if unscored:
        tell(
            f"warning: {len(unscored)} held-out sequences of {folder} cannot be scored, as they have fewer than "
            f"{MIN_ANNOTATED_FRAMES} annotated frames or no object in the first: {', '.join(unscored[:5])}"
        )
    records = tuple(sorted(scorable[name] for name in chosen if name in scorable))
    if not records:
        raise ShardError(f"{folder}: none of the sequences that validation asks for can be scored")
    return HeldOut(str(folder), records, frozenset(chosen))


def _names(recipe: ValidationRecipe, present: set[str], scorable: set[str], folder: Path) -> set[str]:
    """The names that are meant, of those that are present."""
    wanted = recipe.sequences
    if wanted == "all":
        return present
    if isinstance(wanted, str | list):
        names = set(_read(Path(wanted)) if isinstance(wanted, str) else wanted)
        unknown = sorted(names - present)
        if unknown:
            raise RecipeError(
                f"validation.sequences names {len(unknown)} sequences that {folder} does not have: "
                f"{', '.join(unknown[:5])}"
            )
        return names
    count = wanted if isinstance(wanted, int) else max(1, round(wanted * len(scorable)))
    if count > len(scorable):
        raise RecipeError(
            f"validation.sequences asks for {count} sequences, but {folder} has {len(scorable)} that can be scored; "
            "ask for fewer or for a share, as in --set validation.sequences=0.1"
        )
    return set(sorted(scorable, key=lambda name: _rank(recipe.seed, name))[:count])


def _read(path: Path) -> Sequence[str]:
    try:
        return read_names(path)
    except OSError as error:
        raise RecipeError(
            f"validation.sequences: {path} is no file of names ({error.strerror}); give one, a number, a share or all"
        ) from error


def _rank(seed: int, name: str) -> bytes:
    """By what sequences are sorted before the first are taken: the same in every edition, whatever else it holds."""
    return hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()


def _can_be_scored(entry: IndexEntry, num_frames: int | None) -> bool:
    """Whether enough of the frames looked at are annotated, and the first of those shows an object."""
    annotated = entry.annotated[:num_frames].nonzero()[0]
    if len(annotated) < MIN_ANNOTATED_FRAMES:
        return False
    objects = entry.object_ids < VOID
    return bool(entry.areas[annotated[0]][objects].any())
