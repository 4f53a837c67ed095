"""Which frames and which objects: draws a snippet out of a record, from the index alone.

By default the rule is A-GAME's: the frames follow each other in the record, the first is drawn evenly from the eligible
ones (:mod:`vosdata.streaming.eligibility`), and the object evenly from those with enough pixels in it. Frames may also
be spread out by a gap and run backwards, and several objects may be drawn; what counts is then the snippet's own first
frame.

Source: Johnander et al., "A Generative Appearance Model for End-to-End Video Object Segmentation" (CVPR 2019), section
4.2, and the released loaders. Those ask for 100 pixels at native size and die when that leaves too few after resizing;
here one number counts at training size. They also count positions in a list by frame number, which drops videos whose
frame numbers have gaps; here room is counted in frames.
"""

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shards.index import IndexEntry
from shards.reader import ShardSet
from shards.types import VOID
from vosdata.scene_set import SceneSet
from vosdata.streaming.curriculum import Curriculum
from vosdata.streaming.eligibility import eligible_starts, frame_rate, large_enough, stored_area
from vosdata.streaming.snippet import Snippet, SnippetRule

Ids: TypeAlias = NDArray[np.uint8]


class Randomness(Protocol):
    """What snippets are drawn with: :class:`shards.rng.Dice`, or a generator of NumPy."""

    def integers(self, low: int, high: int | None = None, /) -> int | np.integer[Any]:
        """A whole number in [low, high), or in [0, low)."""

    def random(self) -> float:
        """A number in [0, 1)."""

    def permutation(self, things: Any, /) -> Any:
        """The same things in random order."""


class Candidate:
    """A record that may be drawn from, with what was found out about it: that takes longer than the draw itself."""

    __slots__ = ("_rule", "_starts", "entry")

    def __init__(self, entry: IndexEntry, rule: SnippetRule) -> None:
        """Finds out nothing yet.

        Args:
            entry: what the index says about the record.
            rule: what counts as a snippet.
        """
        self.entry = entry
        self._rule = rule
        self._starts: dict[tuple[int, bool], list[int]] = {}

    def starts(self, gap: int, reverse: bool) -> list[int]:
        """Its eligible first frames; see :func:`vosdata.streaming.eligibility.eligible_starts`."""
        found = self._starts.get((gap, reverse))
        if found is None:
            found = self._starts[gap, reverse] = eligible_starts(self.entry, self._rule, gap, reverse).tolist()
        return found


def draw_snippet(
    shard_set: ShardSet | SceneSet,
    record: int,
    rule: SnippetRule,
    rng: Randomness | None,
    candidate: Candidate | None = None,
    position: int = 0,
) -> Snippet:
    """Draws a snippet of one record.

    Args:
        shard_set: where the record lies.
        record: index of an eligible record.
        rule: what counts as a snippet.
        rng: draws gap, direction, first frame and objects, in this order; None takes the smallest gap, forwards, the
            first eligible frame and the lowest ids (validation).
        candidate: the record, when the caller knows it already.
        position: global position, for what changes with it.

    Raises:
        ShardError: gaps are in seconds and the set's frame rate is unknown.
        ValueError: the record has no eligible frame.
    """
    candidate = Candidate(shard_set.entry(record), rule) if candidate is None else candidate
    entry = candidate.entry
    rate = frame_rate(shard_set, rule)
    lowest, (low, high) = rule.lowest_gap(rate), rule.gaps_at(position, rate)
    gap = low if rng is None or low == high else int(rng.integers(low, high + 1))
    reverse = rng is not None and rule.reverse > 0 and rng.random() < rule.reverse
    starts, step = _starts(candidate, rule, gap, lowest, reverse)
    if not starts:
        raise ValueError(f"record {record} of {shard_set.name} has no eligible snippet of {rule.num_frames} frames")
    start = starts[0 if rng is None else rng.integers(len(starts))]
    frames = tuple(range(start, start + rule.num_frames * step, step))
    rows = slice(start, frames[-1] + 1, step) if step > 0 else list(frames)  # a slice is a view, so it costs less
    objects, void = _draw_objects(entry, rule, rows, rng, position)
    numbers = tuple(entry.frame_numbers[rows].tolist())
    return Snippet(
        shard_set.name, record, entry.sequence, frames, numbers, tuple(objects.tolist()), tuple(void.tolist())
    )


def _starts(candidate: Candidate, rule: SnippetRule, gap: int, lowest: int, reverse: bool) -> tuple[list[int], int]:
    """Eligible first frames and the step to take from them: the largest possible one up to the gap, reversed or not.

    A record may have no eligible frame for running backwards, or none for the gap; it has one forwards at the lowest.
    """
    if rule.num_frames > 1:
        gap = max(lowest, min(gap, (candidate.entry.num_frames - 1) // (rule.num_frames - 1)))
    for step in range(gap, lowest - 1, -1):
        for sign in (-1, 1) if reverse else (1,):
            starts = candidate.starts(step, sign < 0)
            if starts:
                return starts, sign * step
    return [], 1


def _draw_objects(
    entry: IndexEntry, rule: SnippetRule, rows: slice | list[int], rng: Randomness | None, position: int
) -> tuple[Ids, Ids]:
    """The objects of a snippet and those whose pixels become void, both ascending; ``rows`` are its frames."""
    ids = entry.object_ids
    if rule.objects == "all" and rule.later == "given":  # the usual ways first, without what only others need
        return ids[entry.areas[rows].any(axis=0)], ids[:0]
    shown = large_enough(entry, rule)[rows]  # (T, N)
    first = shown[0]
    if rule.objects == "one" and rule.later != "void":
        candidates = ids[first]
        return candidates[:1] if rng is None else candidates[[rng.integers(len(candidates))]], ids[:0]
    areas = entry.areas[rows]
    least = stored_area(1, rule, entry.height, entry.width)
    is_late = (areas[0] < least) & (areas > 0).any(axis=0)
    if rule.objects == "all":
        drawn = areas[0] >= least
    else:
        late = is_late & shown.any(axis=0) if rule.later == "given" else is_late & False
        count = rule.objects.whole_at(position) if isinstance(rule.objects, Curriculum) else 1
        drawn = _draw_some(first, late, count, rng)
    void = is_late & ~drawn if rule.later == "void" else is_late & False
    return ids[drawn], ids[void]


def _draw_some(
    first: NDArray[np.bool_], late: NDArray[np.bool_], count: int, rng: Randomness | None
) -> NDArray[np.bool_]:
    """Chooses up to ``count`` objects, ``bool (N,)``: one of the first frame's, then any of these or the late ones."""
    firsts, lates = np.flatnonzero(first), np.flatnonzero(late)
    chosen = firsts[0 if rng is None else rng.integers(len(firsts))]
    others = np.concatenate([firsts[firsts != chosen], lates])
    if rng is not None:
        others = rng.permutation(others)
    drawn = np.zeros(len(first), np.bool_)
    drawn[chosen] = True
    drawn[others[: count - 1]] = True
    return drawn


def new_labels(snippet: Snippet, rule: SnippetRule) -> Ids | None:
    """What each stored id becomes in the batch.

    Returns:
        ``uint8 (256,)``; None where all ids stay as they are. Void stays void.
    """
    if rule.objects == "all" and rule.later == "given":
        return None
    labels = np.zeros(256, np.uint8)
    drawn = list(snippet.objects)
    labels[drawn] = drawn if rule.objects == "all" else range(1, len(drawn) + 1)
    labels[[*snippet.void_objects, VOID]] = VOID
    return labels
