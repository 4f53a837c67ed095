"""The one order for everyone: which snippet stands at which position, over all shard sets and epochs.

Positions are global: position g = epoch x epoch_size + place. Everything here is a pure function of the settings and g:

* the set, by a low-discrepancy interleave of the weights (after any n draws each set is within 1 of n times its
  weight);
* the record, by a keyed permutation of the set's eligible records for each pass over them, so that every pass draws
  every record once, on and on across epochs;
* first frame, object and flip, by the generator of (seed, epoch, place).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from shards.index import IndexEntry
from shards.order import Interleave, exact_shares, permute
from shards.reader import ShardSet
from shards.rng import digest_coordinates, generator
from vosdata.sampling import Snippet, SnippetRule, draw_snippet, require_eligible

SetsArgument = (
    Mapping[str | Path, float] | Mapping[str, float] | Mapping[Path, float] | Sequence[str | Path] | str | Path
)


@dataclass(frozen=True, slots=True)
class Draw:
    """What stands at one position."""

    position: int
    """Global position."""

    epoch: int
    """Epoch of the position."""

    place: int
    """Place in that epoch, 0 <= place < epoch_size."""

    set_index: int
    """Which of the mixed sets."""

    snippet: Snippet
    """What to read."""

    entry: IndexEntry
    """What the index says about its record."""

    flip: bool
    """Whether the snippet is mirrored left to right."""


@dataclass(frozen=True, slots=True)
class OrderSettings:
    """What, besides the sets, determines the order."""

    rule: SnippetRule
    """What counts as a snippet."""

    seed: int
    """The user's seed, 0 <= seed < 2**64."""

    epoch_size: int | None
    """Positions in an epoch; None means one pass: as many as there are eligible records."""

    shuffle: bool
    """False takes records in stored order, the first eligible frame and the lowest id."""

    flip: bool
    """Mirror every snippet left to right with probability one half."""


class SnippetOrder:
    """Maps positions to snippets. Picklable; holds one index array per set and the table of the interleave."""

    def __init__(self, sets: Sequence[ShardSet], weights: Sequence[float] | None, settings: OrderSettings) -> None:
        """Finds the eligible records of each set.

        Args:
            sets: one or more shard sets.
            weights: one positive weight per set; None weighs each set by its number of eligible records.
            settings: everything else.

        Raises:
            ShardError: a set has no eligible snippet.
            ValueError: a setting is out of range.
        """
        if settings.epoch_size is not None and settings.epoch_size < 1:
            raise ValueError(f"epoch_size must be at least 1, got {settings.epoch_size}")
        digest_coordinates(settings.seed, 0, 0, "order")  # refuses a seed that does not fit
        self.sets = tuple(sets)
        self.settings = settings
        self.eligible = tuple(require_eligible(shard_set, settings.rule) for shard_set in sets)
        """Indices of the eligible records of each set."""
        counts = [len(records) for records in self.eligible]
        self.interleave = Interleave(exact_shares(counts if weights is None else weights))
        self.epoch_size = settings.epoch_size or sum(counts)

    def draw(self, position: int) -> Draw:
        """Says what stands at a global position; opens no picture.

        Raises:
            ValueError: the position is negative.
        """
        epoch, place = divmod(position, self.epoch_size)
        set_index, earlier = self.interleave.locate(position)
        settings = self.settings
        rng = generator(settings.seed, epoch, place, "snippet") if settings.shuffle else None
        record = self._record(set_index, earlier)
        entry = self.sets[set_index].entry(record)
        snippet = draw_snippet(self.sets[set_index], record, settings.rule, rng, entry)
        flip = settings.flip and bool(generator(settings.seed, epoch, place, "flip").integers(2))
        return Draw(position, epoch, place, set_index, snippet, entry, flip)

    def _record(self, set_index: int, earlier: int) -> int:
        """The record of a set's draw number ``earlier``."""
        records = self.eligible[set_index]
        passes, within = divmod(earlier, len(records))
        if self.settings.shuffle:
            digest = digest_coordinates(self.settings.seed, passes, set_index, "order")
            within = permute(within, len(records), int.from_bytes(digest[:8], "little"))
        return int(records[within])

    @cached_property
    def description(self) -> dict[str, Any]:
        """Everything that determines the order, as JSON; two streams with equal descriptions draw the same."""
        rule, settings = self.settings.rule, self.settings
        return {
            "sets": [
                {
                    "name": f"{shard_set.name}/{shard_set.split}",
                    "content": shard_set.description["checksum"],
                    "weight": f"{share}/{self.interleave.period}",
                }
                for shard_set, share in zip(self.sets, self.interleave.shares, strict=True)
            ],
            "snippet": rule.num_frames,
            "size": list(rule.size),
            "objects": rule.objects,
            "min_object_pixels": rule.min_object_pixels,
            "seed": settings.seed,
            "epoch_size": self.epoch_size,
            "shuffle": settings.shuffle,
            "flip": settings.flip,
        }


def open_sets(sets: SetsArgument) -> tuple[list[ShardSet], list[float] | None]:
    """Opens the shard sets that a user named.

    Args:
        sets: one path; several paths, to be weighed by their numbers of eligible records, which draws each record
            equally often; or a mapping from path to weight.

    Returns:
        The sets, and their weights or None.

    Raises:
        ShardError: a path holds no complete shard set.
        TypeError: it is neither a path, paths, nor a mapping.
        ValueError: no set is named.
    """
    if isinstance(sets, str | Path):
        sets = [sets]
    paths = list(sets)
    if not paths:
        raise ValueError("a stream needs at least one shard set")
    if not all(isinstance(path, str | Path) for path in paths):
        raise TypeError(f"shard sets are named by path, got {[type(path).__name__ for path in paths]}")
    weights = [float(sets[path]) for path in paths] if isinstance(sets, Mapping) else None  # type: ignore[index]
    return [ShardSet(path) for path in paths], weights
