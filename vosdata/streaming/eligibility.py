"""Which records a snippet can be drawn from, and at which of their frames it may start: from the index alone.

A frame is *eligible* as the first of a snippet when it

* is annotated and shows an object with at least ``min_object_pixels`` pixels at training size,
* leaves room for the whole snippet, and
* has a further annotated frame among those of the snippet behind it, so that there is something to learn from
  (a snippet of a single frame is excused).

Pixels at training size are counted from the stored areas, so no picture is opened. A record with no eligible frame is
never drawn.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shards.errors import ShardError
from shards.index import IndexBatch, IndexEntry
from shards.reader import ShardSet
from shards.writer import key_of
from vosdata.opening import open_shard_set
from vosdata.scene_set import SceneSet, is_scene_set
from vosdata.streaming.curriculum import Value
from vosdata.streaming.snippet import GapUnit, ObjectsMode, SnippetRule, read_gap, read_objects

Pixels = TypeVar("Pixels", int, NDArray[np.int64])

_LARGE_SIZE = (2**15, 2**15)
"""Height and width at which every object that has a stored pixel is large enough."""


def stored_area(num_pixels: int, rule: SnippetRule, height: Pixels, width: Pixels) -> Pixels:
    """Pixels that an object needs at stored size to have ``num_pixels`` at training size (rounded up)."""
    return -(-num_pixels * height * width // (rule.size[0] * rule.size[1]))


def frame_rate(shard_set: ShardSet | SceneSet, rule: SnippetRule) -> float | None:
    """Frame rate of a set; None where it is unknown and the rule does not need it.

    Raises:
        ShardError: it is unknown and the rule has gaps in seconds.
    """
    if rule.gap_unit == "frames":
        return None
    rate = shard_set.description.get("frame_rate")
    rule.require_frame_rate(str(shard_set.path), rate)
    return None if rate is None else float(rate)


def eligible_starts(entry: IndexEntry, rule: SnippetRule, gap: int = 1, reverse: bool = False) -> NDArray[np.int64]:
    """Returns the frames of a record at which a snippet may start, counted from 0, ascending.

    Args:
        entry: the record's entry.
        rule: what counts as a snippet.
        gap: frames from each frame of the snippet to the next.
        reverse: whether the snippet runs backwards from its first frame.
    """
    num_frames = len(entry.annotated)
    num_starts = num_frames - (rule.num_frames - 1) * gap
    if num_starts < 1:
        return np.zeros(0, np.int64)
    shown: NDArray[np.bool_] = np.any(large_enough(entry, rule), axis=1)
    annotated = entry.annotated
    if reverse:
        shown, annotated = shown[::-1], annotated[::-1]
    shown = shown[:num_starts]
    if rule.num_frames > 1:
        seen = _strided_sums(annotated, gap)
        shown = shown & (seen[num_frames - num_starts :] > seen[:num_starts])
    starts = np.flatnonzero(shown)
    return num_frames - 1 - starts[::-1] if reverse else starts


def _strided_sums(flags: NDArray[Any], gap: int) -> NDArray[np.int64]:
    """Element f is the sum of the flags at f, f - gap, f - 2 gap, ..., ``int64 (F,)``."""
    if gap == 1:
        return np.cumsum(flags, dtype=np.int64)
    padded = np.zeros(-(-len(flags) // gap) * gap, np.uint8)
    padded[: len(flags)] = flags
    return np.cumsum(padded.reshape(-1, gap), axis=0, dtype=np.int64).reshape(-1)[: len(flags)]


def large_enough(entry: IndexEntry, rule: SnippetRule) -> NDArray[np.bool_]:
    """Which objects have enough pixels in which frame: ``bool (T, N)``. Unannotated frames have area 0."""
    return entry.areas >= stored_area(rule.min_object_pixels, rule, entry.height, entry.width)


def eligible_records(shard_set: ShardSet, rule: SnippetRule, exclude: Collection[str] = ()) -> NDArray[np.int64]:
    """Returns the indices of all records that have an eligible snippet, ascending, but those of excluded sequences.

    They are eligible at the smallest gap that the rule ever asks for, played forwards. Works on whole columns of the
    index, so a million records take about a second.

    Raises:
        ShardError: gaps are in seconds and the set's frame rate is unknown.
    """
    gap = rule.lowest_gap(frame_rate(shard_set, rule))
    found, first = [np.zeros(0, np.int64)], 0
    for batch in shard_set.index.batches():
        found.append(first + np.flatnonzero(_records_with_a_start(batch, rule, gap)))
        first += batch.num_rows
    records = np.concatenate(found)
    return records[~np.isin(records, _records_of(shard_set, exclude))] if exclude else records


def _scenes_of_a_pass(scene_set: SceneSet, rule: SnippetRule, exclude: Collection[str]) -> NDArray[np.int64]:
    room = 1 + (rule.num_frames - 1) * rule.lowest_gap(frame_rate(scene_set, rule))
    if scene_set.config.num_frames < room:
        raise ShardError(
            f"{scene_set.path}: a snippet takes {room} frames, its videos have {scene_set.config.num_frames}; "
            f"add frames={room} to its name"
        )
    if exclude:
        raise ValueError(f"{scene_set.path}: nothing can be excluded from videos that are drawn on the fly")
    return np.arange(scene_set.num_scenes)


def _records_of(shard_set: ShardSet, sequences: Collection[str]) -> list[int]:
    """Indices of the records that hold these sequences, as far as the set has them."""
    found = []
    for sequence in sequences:
        with suppress(KeyError):
            found.append(shard_set.find(key_of(sequence)))
    return found


def _records_with_a_start(batch: IndexBatch, rule: SnippetRule, gap: int) -> NDArray[np.bool_]:
    """Does for R records of F frames in all at once what :func:`eligible_starts` does for one; ``bool (R,)``."""
    starts, flags = batch.lists("annotated")
    record_of_frame = np.repeat(np.arange(batch.num_rows), np.diff(starts))  # (F,)
    height, width = (batch.numbers(name).astype(np.int64) for name in ("height", "width"))
    needed = stored_area(rule.min_object_pixels, rule, height, width)[record_of_frame]

    frame = np.arange(len(record_of_frame))
    last = frame + (rule.num_frames - 1) * gap
    fits = last < (starts[1:] - starts[0])[record_of_frame]
    good = fits & (_largest_areas(batch, record_of_frame) >= needed)
    if rule.num_frames > 1:
        seen = _strided_sums(flags[starts[0] : starts[-1]], gap)
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
    objects: ObjectsMode | Value = "one",
    min_object_pixels: int = 25,
    gap: Value | tuple[Value, Value] = 1,
    gap_unit: GapUnit = "frames",
    exclude: Collection[str] = (),
) -> int:
    """Number of records of a shard set that a stream with these settings would draw from. Reads only the index.

    Args:
        path: folder of the shard set.
        snippet: frames in a snippet.
        size: training size (height, width); None means each record's stored size.
        objects: as in ``SnippetStream``.
        min_object_pixels: as in ``SnippetStream``.
        gap: as in ``SnippetStream``.
        gap_unit: as in ``SnippetStream``.
        exclude: names of sequences that are not drawn.

    Raises:
        ShardError: there is no complete shard set at the path, or its frame rate is needed and unknown.
        ValueError: a setting is out of range.
    """
    if is_scene_set(path):
        return SceneSet(path).num_scenes
    shard_set = open_shard_set(path)
    size = size or common_size([shard_set])
    rule = SnippetRule(snippet, size, read_objects(objects), min_object_pixels, read_gap(gap), gap_unit)
    return len(eligible_records(shard_set, rule, exclude))


def common_size(sets: Sequence[ShardSet | SceneSet]) -> tuple[int, int]:
    """The one stored size (height, width) of all records; where all are drawn on the fly, what ``vosdata synth`` takes.

    Raises:
        ValueError: the records have several sizes, so that they cannot share a batch unless a size is given.
    """
    stored = [shard_set for shard_set in sets if isinstance(shard_set, ShardSet)]
    sizes = sorted({size for shard_set in stored for size in _sizes(shard_set)})
    if not stored:
        sizes = [one.config.size for one in sets[:1] if isinstance(one, SceneSet)]
    if len(sizes) != 1:
        listed = ", ".join(f"{height}x{width}" for height, width in sizes[:4]) + (", ..." if len(sizes) > 4 else "")
        names = ", ".join(shard_set.name for shard_set in stored)
        raise ValueError(f"frames of {names} are stored at {len(sizes)} sizes ({listed}); give size=(height, width)")
    return sizes[0]


def _sizes(shard_set: ShardSet) -> Iterator[tuple[int, int]]:
    index = shard_set.index
    both = index.heights.astype(np.int64) << 32 | index.widths  # one number sorts forty times as fast as two
    yield from (divmod(size, 2**32) for size in np.unique(both).tolist())


def require_eligible(
    shard_set: ShardSet | SceneSet, rule: SnippetRule, exclude: Collection[str] = ()
) -> NDArray[np.int64]:
    """As :func:`eligible_records`, but an empty result is an error that says what is missing.

    Of an endless set, the records of what counts as one pass.

    Raises:
        ShardError: the set has no eligible snippet; the message names the set and why.
        ValueError: sequences are excluded from an endless set.
    """
    if isinstance(shard_set, SceneSet):
        return _scenes_of_a_pass(shard_set, rule, exclude)
    records = eligible_records(shard_set, rule, exclude)
    if len(records):
        return records
    longest = int(shard_set.index.num_frames.max(initial=0))
    room = 1 + (rule.num_frames - 1) * rule.lowest_gap(frame_rate(shard_set, rule))
    any_object = replace(rule, min_object_pixels=1, size=_LARGE_SIZE)
    if exclude and len(eligible_records(shard_set, rule)):
        why = "every sequence that could be drawn is excluded"
    elif longest < room:
        spread = "" if room == rule.num_frames else f" and spans {room} at its smallest gap"
        why = f"a snippet takes {rule.num_frames} frames{spread}, but its longest sequence has {longest}"
    elif not len(eligible_records(shard_set, replace(any_object, num_frames=1))):
        why = "no frame is annotated with an object"
    elif not len(eligible_records(shard_set, any_object)):
        why = f"no annotated frame with an object has {room - 1} frames behind it, one of the snippet's annotated"
    else:
        height, width = rule.size
        why = f"no object has an area of {rule.min_object_pixels} px at {height}x{width} where a snippet could start"
    raise ShardError(
        f"{shard_set.path}: {shard_set.name} has no eligible snippet: {why}. "
        "Leave the set out, or ask for shorter snippets or smaller objects (snippet, gap, min_object_pixels)."
    )
