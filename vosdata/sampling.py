"""Which frames and which object: draws a snippet out of a record, from the index alone.

The rule is A-GAME's: the frames follow each other in the record; the first is drawn evenly from the *eligible* ones,
which

* are annotated and show an object with at least ``min_object_pixels`` pixels at training size,
* leave room for the whole snippet, and
* have a further annotated frame behind them in the snippet, so that there is something to learn from
  (a snippet of a single frame is excused);

the object is drawn evenly from those with enough pixels in the first frame. A record with no eligible frame is never
drawn. Pixels at training size are counted from the stored areas, so no picture is opened.

Source: Johnander et al., "A Generative Appearance Model for End-to-End Video Object Segmentation" (CVPR 2019), section
    4.2
and the released loaders. Those ask for 100 pixels at native size and die when that leaves too few after resizing; here
one number counts at training size. They also count positions in a list by frame number, which drops videos whose
frame numbers have gaps; here room is counted in frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from shards.errors import ShardError
from shards.index import IndexBatch, IndexEntry
from shards.reader import ShardSet

ObjectsMode = Literal["one", "all"]
Pixels = TypeVar("Pixels", int, NDArray[np.int64])


@dataclass(frozen=True, slots=True)
class SnippetRule:
    """What counts as a snippet."""

    num_frames: int
    """Frames in a snippet, 1 or more."""

    size: tuple[int, int]
    """Training size in pixels: height, width."""

    objects: ObjectsMode = "one"
    """``"one"``: one object is drawn, the others become background. ``"all"``: ids stay as they are stored."""

    min_object_pixels: int = 25
    """Pixels at training size that an object must show in the first frame, 1 or more."""

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"a snippet needs at least 1 frame, got {self.num_frames}")
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size must be (height, width) in pixels, got {self.size}")
        if self.objects not in ("one", "all"):
            raise ValueError(f'objects must be "one" or "all", got {self.objects!r}')
        if self.min_object_pixels < 1:
            raise ValueError(f"min_object_pixels must be at least 1, got {self.min_object_pixels}")


@dataclass(frozen=True, slots=True)
class Snippet:
    """What to read, before any pixel is touched."""

    set_name: str
    """Name of the shard set."""

    record: int
    """Index of the record in its shard set."""

    sequence: str
    """Name of the sequence."""

    frames: tuple[int, ...]
    """Which frames of the record, counted from 0."""

    frame_numbers: tuple[int, ...]
    """The numbers of these frames, as the dataset published them."""

    objects: tuple[int, ...]
    """Object ids: the drawn one (``"one"``), or all that the snippet's frames show (``"all"``)."""

    @property
    def key(self) -> str:
        """Printable name: ``davis2017/bear[10-17]#1``; ``[0-35:5]`` steps by 5, ``[0,5,15]`` steps unevenly."""
        ids = ",".join(map(str, self.objects))
        return f"{self.set_name}/{self.sequence}[{_span(self.frame_numbers)}]#{ids}"

    def __str__(self) -> str:
        return self.key


def _span(numbers: tuple[int, ...]) -> str:
    steps = {later - earlier for earlier, later in pairwise(numbers)}
    if len(steps) > 1:
        return ",".join(map(str, numbers))
    if not steps:
        return str(numbers[0])
    step = steps.pop()
    return f"{numbers[0]}-{numbers[-1]}" + (f":{step}" if step > 1 else "")


def _min_stored_area(rule: SnippetRule, height: Pixels, width: Pixels) -> Pixels:
    """Pixels that an object needs at stored size to have ``rule.min_object_pixels`` at training size (rounded up)."""
    return -(-rule.min_object_pixels * height * width // (rule.size[0] * rule.size[1]))


def eligible_starts(entry: IndexEntry, rule: SnippetRule) -> NDArray[np.int64]:
    """Returns the frames of a record at which a snippet may start, counted from 0, ascending."""
    num_starts = len(entry.annotated) - rule.num_frames + 1
    if num_starts < 1:
        return np.zeros(0, np.int64)
    shown = _enough(entry, rule)[:num_starts].any(axis=1)
    if rule.num_frames > 1:
        seen = np.cumsum(entry.annotated)
        shown &= seen[rule.num_frames - 1 :] > seen[:num_starts]
    return np.flatnonzero(shown)


def _enough(entry: IndexEntry, rule: SnippetRule) -> NDArray[np.bool_]:
    """Which objects have enough pixels in which frame: ``bool (T, N)``. Unannotated frames have area 0."""
    return entry.areas >= _min_stored_area(rule, entry.height, entry.width)


def draw_snippet(
    shard_set: ShardSet,
    record: int,
    rule: SnippetRule,
    rng: np.random.Generator | None,
    entry: IndexEntry | None = None,
) -> Snippet:
    """Draws a snippet of one record.

    Args:
        shard_set: where the record lies.
        record: index of an eligible record.
        rule: what counts as a snippet.
        rng: draws the first frame, then the object; None takes the first eligible frame and the lowest id (validation).
        entry: the record's entry when the caller has it already.

    Raises:
        ValueError: the record has no eligible frame.
    """
    entry = shard_set.entry(record) if entry is None else entry
    starts = eligible_starts(entry, rule)
    if not len(starts):
        raise ValueError(f"record {record} of {shard_set.name} has no eligible snippet of {rule.num_frames} frames")
    start = int(starts[0 if rng is None else rng.integers(len(starts))])
    frames = range(start, start + rule.num_frames)
    if rule.objects == "one":
        candidates = entry.object_ids[_enough(entry, rule)[start]]
        objects = candidates[:1] if rng is None else candidates[[rng.integers(len(candidates))]]
    else:
        objects = entry.object_ids[entry.areas[start : frames.stop].any(axis=0)]
    return Snippet(
        shard_set.name,
        record,
        entry.sequence,
        tuple(frames),
        tuple(entry.frame_numbers[start : frames.stop].tolist()),
        tuple(objects.tolist()),
    )


def eligible_records(shard_set: ShardSet, rule: SnippetRule) -> NDArray[np.int64]:
    """Returns the indices of all records that have an eligible snippet, ascending.

    Works on whole columns of the index, so a million records take a second or two.
    """
    found, first = [np.zeros(0, np.int64)], 0
    for batch in shard_set.index.batches():
        found.append(first + np.flatnonzero(_records_with_a_start(batch, rule)))
        first += batch.num_rows
    return np.concatenate(found)


def _records_with_a_start(batch: IndexBatch, rule: SnippetRule) -> NDArray[np.bool_]:
    """Does for R records of F frames in all at once what :func:`eligible_starts` does for one; ``bool (R,)``."""
    starts, flags = batch.lists("annotated")
    record_of_frame = np.repeat(np.arange(batch.num_rows), np.diff(starts))  # (F,)
    height, width = (batch.numbers(name).astype(np.int64) for name in ("height", "width"))
    needed = _min_stored_area(rule, height, width)[record_of_frame]

    frame = np.arange(len(record_of_frame))
    last = frame + rule.num_frames - 1
    fits = last < (starts[1:] - starts[0])[record_of_frame]
    good = fits & (_largest_areas(batch, record_of_frame) >= needed)
    if rule.num_frames > 1:
        seen = np.cumsum(flags[starts[0] : starts[-1]], dtype=np.int64)
        good &= seen[np.where(fits, last, frame)] > seen[frame]
    result = np.zeros(batch.num_rows, np.bool_)
    result[record_of_frame[good]] = True
    return result


def _largest_areas(batch: IndexBatch, record_of_frame: NDArray[np.int64]) -> NDArray[np.int64]:
    """Area of the largest object of every frame, in pixels at stored size, 0 where there is none; ``int64 (F,)``."""
    num_objects = np.diff(batch.lists("object_ids")[0])[record_of_frame].astype(np.int64)
    starts, areas = batch.lists("areas")
    largest = np.zeros(len(record_of_frame), np.int64)
    some = np.flatnonzero(num_objects)
    if len(some):
        first_area = starts[0] + np.cumsum(num_objects) - num_objects
        largest[some] = np.maximum.reduceat(areas[: starts[-1]], first_area[some])
    return largest


def eligible_count(
    path: str | Path,
    snippet: int,
    size: tuple[int, int] | None = None,
    *,
    objects: ObjectsMode = "one",
    min_object_pixels: int = 25,
) -> int:
    """Number of records of a shard set that a stream with these settings would draw from. Reads only the index.

    Args:
        path: folder of the shard set.
        snippet: frames in a snippet.
        size: training size (height, width); None means each record's stored size.
        objects: as in :class:`SnippetRule`.
        min_object_pixels: as in :class:`SnippetRule`.

    Raises:
        ShardError: there is no complete shard set at the path.
        ValueError: a setting is out of range.
    """
    shard_set = ShardSet(path)
    rule = SnippetRule(snippet, size or common_size([shard_set]), objects, min_object_pixels)
    return len(eligible_records(shard_set, rule))


def common_size(sets: list[ShardSet]) -> tuple[int, int]:
    """The one stored size (height, width) of all records.

    Raises:
        ValueError: the records have several sizes, so that they cannot share a batch unless a size is given.
    """
    sizes = sorted({size for shard_set in sets for size in _sizes(shard_set)})
    if len(sizes) != 1:
        listed = ", ".join(f"{height}x{width}" for height, width in sizes[:4]) + (", ..." if len(sizes) > 4 else "")
        names = ", ".join(shard_set.name for shard_set in sets)
        raise ValueError(f"frames of {names} are stored at {len(sizes)} sizes ({listed}); give size=(height, width)")
    return sizes[0]


def _sizes(shard_set: ShardSet) -> Iterator[tuple[int, int]]:
    index = shard_set.index
    yield from map(tuple, np.unique(np.stack([index.heights, index.widths]), axis=1).T.tolist())


def require_eligible(shard_set: ShardSet, rule: SnippetRule) -> NDArray[np.int64]:
    """As :func:`eligible_records`, but an empty result is an error that says what is missing.

    Raises:
        ShardError: the set has no eligible snippet; the message names the set and why.
    """
    records = eligible_records(shard_set, rule)
    if len(records):
        return records
    longest = int(shard_set.index.num_frames.max(initial=0))
    relaxed = partial(SnippetRule, size=rule.size, objects=rule.objects)
    if longest < rule.num_frames:
        why = f"a snippet takes {rule.num_frames} frames, but its longest sequence has {longest}"
    elif not len(eligible_records(shard_set, relaxed(1, min_object_pixels=1))):
        why = "no frame is annotated with an object"
    elif not len(eligible_records(shard_set, relaxed(rule.num_frames, min_object_pixels=1))):
        why = f"no annotated frame with an object has {rule.num_frames - 1} frames behind it, one of them annotated"
    else:
        height, width = rule.size
        why = f"no object has {rule.min_object_pixels} pixels at {height}x{width} where a snippet could start"
    raise ShardError(
        f"{shard_set.path}: {shard_set.name} has no eligible snippet: {why}. "
        "Leave the set out, or ask for shorter snippets or smaller objects (snippet, min_object_pixels)."
    )
