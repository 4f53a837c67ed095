"""The one order for everyone: which snippet stands at which position, over all shard sets and epochs.

Positions are global: position g = epoch x epoch_size + place. Everything here is a pure function of the settings and g:

* the set, by a low-discrepancy interleave of the weights (after any n draws each set is within 1 of n times its
  weight; each change of weights adds at most 1 to that);
* the record, by a keyed permutation of the set's eligible records for each pass over them, so that every pass draws
  every record once, on and on across epochs; or by a shuffle that keeps few shards open;
* gap, direction, first frame, objects and flip, by the generator of (seed, epoch, place).

Settings may change at a position, when a run goes on with others: what came before then stays drawn, and is known only
by how often each set was drawn (:class:`Origin`).
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shards.errors import ShardError
from shards.index import IndexEntry
from shards.order import permute
from shards.reader import ShardSet
from shards.rng import Dice, digest_coordinates
from shards.segments import SegmentedInterleave
from shards.windows import WindowedShuffle
from vosdata.opening import open_shard_set
from vosdata.scene_set import OTHER_SCENES, SceneEntry, SceneSet, is_scene_set
from vosdata.streaming.curriculum import Curriculum, Value, read_curriculum, weight_segments
from vosdata.streaming.eligibility import eligible_starts, frame_rate, require_eligible
from vosdata.streaming.sampling import Candidate, draw_snippet
from vosdata.streaming.snippet import Snippet, SnippetRule

SetPath = str | Path | ShardSet
"""What names a set: its folder, its URL, ``synth:PRESET``, or the set itself where it was opened with settings of its
own."""

AnySet = ShardSet | SceneSet
"""Stored videos, or synthetic ones that are drawn on the fly."""

_MAX_CANDIDATES = 1024
"""Records that are remembered, each some kilobytes."""

_MAX_TRIES = 20
"""Scenes that are drawn in each other's place before it is said that none of them will do."""

SetsArgument = (
    Mapping[SetPath, Value]
    | Mapping[str | Path, Value]
    | Mapping[str, Value]
    | Mapping[Path, Value]
    | Sequence[SetPath]
    | SetPath
)


WindowMode = Literal["auto", "all"]

REMOTE_WINDOW = 8
"""Shards that are shuffled together where they have to be fetched: enough to mix well, few enough to keep at hand."""


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

    window: int | WindowMode = "auto"
    """Shards of a set that records are shuffled among at a time, 1 or more.

    ``"all"``: all of them. ``"auto"``: all of a set that lies here or is read in ranges, and ``REMOTE_WINDOW`` of a
    set whose shards are fetched whole.
    """


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the present settings began to hold, and what had been drawn by then."""

    position: int
    """Global position."""

    drawn: tuple[int, ...]
    """For each set, how often it had been drawn: whole passes over its present eligible records, and a rest."""


class SnippetOrder:
    """Maps positions to snippets. Picklable; holds one index array per set and the tables of the interleave."""

    def __init__(
        self,
        sets: Sequence[AnySet],
        weights: Sequence[Value] | None,
        settings: OrderSettings,
        excluded: Sequence[Collection[str]] | None = None,
    ) -> None:
        """Finds the eligible records of each set.

        Args:
            sets: one or more shard sets.
            weights: one weight per set, which may change with the position; None weighs each set by its number of
                eligible records.
            settings: everything else.
            excluded: for each set the names of sequences that are never drawn; None for none.

        Raises:
            ShardError: a set has no eligible snippet, or its frame rate is needed and unknown.
            TypeError: a weight is no number and no curriculum.
            ValueError: a setting is out of range.
        """
        if settings.epoch_size is not None and settings.epoch_size < 1:
            raise ValueError(f"epoch_size must be at least 1, got {settings.epoch_size}")
        digest_coordinates(settings.seed, 0, 0, "order")  # refuses a seed that does not fit
        seed, size = settings.seed, settings.rule.size
        self.sets = tuple(one.settled(seed, size) if isinstance(one, SceneSet) else one for one in sets)
        self.settings = settings
        self.excluded = tuple(tuple(sorted(set(names))) for names in excluded or [()] * len(self.sets))
        """For each set the names of sequences that are never drawn, ascending."""
        self.eligible = tuple(
            require_eligible(shard_set, settings.rule, names)
            for shard_set, names in zip(self.sets, self.excluded, strict=True)
        )
        """Indices of the eligible records of each set."""
        counts = [len(records) for records in self.eligible]
        self.weights: tuple[Curriculum, ...] = tuple(
            read_curriculum(weight, "a weight") for weight in (counts if weights is None else weights)
        )
        """The weight of each set over the positions."""
        self.epoch_size = settings.epoch_size or sum(counts)
        self.origin = Origin(0, (0,) * len(counts))
        """Where these settings began to hold."""
        self.interleave = SegmentedInterleave(weight_segments(self.weights, 0))
        self._candidates: dict[tuple[int, int], Candidate] = {}  # its single operations are atomic
        self.windows = tuple(_window(shard_set, settings) for shard_set in self.sets)
        """For each set, how many shards are shuffled together; None for all."""
        self._shuffles = [
            None
            if window is None or isinstance(shard_set, SceneSet)
            else WindowedShuffle(_count_per_shard(shard_set, records), window)
            for window, shard_set, records in zip(self.windows, self.sets, self.eligible, strict=True)
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_candidates": {}}  # arrays of the index, which others map for themselves

    def continued(self, origin: Origin, epoch_size: int) -> "SnippetOrder":
        """The order with these settings from an origin on; positions before it are not known to it.

        Raises:
            ValueError: a count or a weight does not fit.
        """
        other = copy.copy(self)
        other.origin, other.epoch_size = origin, epoch_size
        other.settings = replace(self.settings, epoch_size=epoch_size)
        other.interleave = SegmentedInterleave(weight_segments(self.weights, origin.position), origin.drawn)
        return other

    def draw(self, position: int) -> Draw:
        """Says what stands at a global position; opens no picture.

        Raises:
            ValueError: the position is negative, or was drawn before these settings began to hold.
        """
        set_index, record = self.locate(position)
        epoch, place = divmod(position, self.epoch_size)
        settings = self.settings
        rng = Dice(settings.seed, epoch, place, "snippet") if settings.shuffle else None
        candidate = self._candidate(set_index, record)
        snippet = draw_snippet(self.sets[set_index], record, settings.rule, rng, candidate, position)
        flip = settings.flip and bool(Dice(settings.seed, epoch, place, "flip").integers(2))
        return Draw(position, epoch, place, set_index, snippet, candidate.entry, flip)

    def stand_in(self, position: int, attempt: int) -> Draw:
        """What is read at a global position where nothing before could be: any snippet of the same set, drawn evenly.

        Args:
            position: global position.
            attempt: 1 for the first stand-in, 2 when that cannot be read either, and so on.

        Raises:
            As :meth:`draw`.
        """
        set_index, _ = self.locate(position)
        epoch, place = divmod(position, self.epoch_size)
        rng = Dice(self.settings.seed, epoch, place, f"stand-in {attempt}")
        record = int(self.eligible[set_index][rng.integers(len(self.eligible[set_index]))])
        candidate = self._candidate(set_index, record)
        snippet = draw_snippet(self.sets[set_index], record, self.settings.rule, rng, candidate, position)
        flip = self.settings.flip and bool(rng.integers(2))
        return Draw(position, epoch, place, set_index, snippet, candidate.entry, flip)

    def _candidate(self, set_index: int, record: int) -> Candidate:
        """A record, remembered from when it was drawn before; sets that fit in whole are looked up only once."""
        shard_set, rule = self.sets[set_index], self.settings.rule
        if not isinstance(shard_set, ShardSet):
            return Candidate(self._draw_scene(shard_set, record), rule)
        found = self._candidates.get((set_index, record))
        if found is None:
            if len(self._candidates) >= _MAX_CANDIDATES:
                self._candidates.clear()
            found = self._candidates[set_index, record] = Candidate(shard_set.entry(record), rule)
        return found

    def stored_set(self, draw: Draw) -> ShardSet:
        """The set that holds the pixels of what was drawn.

        Raises:
            TypeError: they are rendered.
        """
        shard_set = self.sets[draw.set_index]
        if not isinstance(shard_set, ShardSet):
            raise TypeError(f"{draw.snippet.key} is rendered, not stored")
        return shard_set

    def _draw_scene(self, scene_set: SceneSet, number: int) -> SceneEntry:
        """A scene, or the next in its place in which a snippet can start."""
        rule = self.settings.rule
        gap = rule.lowest_gap(frame_rate(scene_set, rule))
        for attempt in range(_MAX_TRIES):
            entry = scene_set.entry(number + attempt * OTHER_SCENES)
            if len(eligible_starts(entry, rule, gap)):
                return entry
        raise ShardError(
            f"{scene_set.path}: {_MAX_TRIES} scenes in a row show no object of {rule.min_object_pixels} pixels at "
            f"{rule.size[0]}x{rule.size[1]} where a snippet could start; ask for larger or for smaller objects "
            "(scene.area, min_object_pixels)"
        )

    def locate(self, position: int) -> tuple[int, int]:
        """Which set stands at a global position, and which of its records; for fetching shards ahead.

        Raises:
            ValueError: the position is negative, or was drawn before these settings began to hold.
        """
        if position < self.origin.position:
            since = f"; these settings hold since position {self.origin.position}" if self.origin.position else ""
            raise ValueError(f"position must not be negative or past, got {position}{since}")
        set_index, earlier = self.interleave.locate(position)
        return set_index, self._record(set_index, earlier)

    def drawn(self, position: int) -> tuple[int, ...]:
        """How often each set is drawn before a global position.

        Raises:
            ValueError: the position was drawn before these settings began to hold.
        """
        return self.interleave.counts(position)

    def _record(self, set_index: int, earlier: int) -> int:
        """The record of a set's draw number ``earlier``."""
        if isinstance(self.sets[set_index], SceneSet):
            return earlier  # there is no end to them
        records = self.eligible[set_index]
        passes, within = divmod(earlier, len(records))
        if self.settings.shuffle:
            digest = digest_coordinates(self.settings.seed, passes, set_index, "order")
            key = int.from_bytes(digest[:8], "little")
            windowed = self._shuffles[set_index]
            within = permute(within, len(records), key) if windowed is None else windowed.permute(within, key)
        return int(records[within])


def _window(shard_set: AnySet, settings: OrderSettings) -> int | None:
    """Shards of a set that are shuffled together; None for all."""
    window = settings.window
    if isinstance(window, str):
        if window not in ("auto", "all"):
            raise ValueError(f'the shuffle window must be a number of shards, "auto" or "all", got {window!r}')
        return REMOTE_WINDOW if window == "auto" and shard_set.fetches_whole_shards else None
    if window < 1:
        raise ValueError(f"the shuffle window must be at least 1 shard, got {window}")
    return window


def _count_per_shard(shard_set: ShardSet, records: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of eligible records in each shard that has any; records lie in the order of their shards."""
    shards = np.concatenate([batch.numbers("shard") for batch in shard_set.index.batches()])[records]
    return np.unique(shards, return_counts=True)[1].astype(np.int64)


def open_sets(sets: SetsArgument) -> tuple[list[AnySet], list[Value] | None]:
    """Opens the sets that a user named, by folder, by URL, as ``synth:...``, or open already.

    Args:
        sets: one path; several paths, to be weighed by their numbers of eligible records, which draws each record
            equally often; or a mapping from path to weight (see :mod:`vosdata.streaming.curriculum`).

    Returns:
        The sets, and their weights or None.

    Raises:
        ShardError: a path holds no complete shard set.
        TypeError: it is neither a path, paths, nor a mapping.
        ValueError: no set is named.
    """
    if isinstance(sets, SetPath):
        sets = [sets]
    paths = list(sets)
    if not paths:
        raise ValueError("a stream needs at least one shard set")
    if not all(isinstance(path, SetPath) for path in paths):
        raise TypeError(f"shard sets are named by path, got {[type(path).__name__ for path in paths]}")
    weights = list(sets.values()) if isinstance(sets, Mapping) else None
    return [open_set(path) for path in paths], weights


def open_set(path: SetPath) -> AnySet:
    """Opens one set; as :func:`open_sets`."""
    if not isinstance(path, ShardSet) and is_scene_set(path):
        return SceneSet(path)
    return open_shard_set(path)
