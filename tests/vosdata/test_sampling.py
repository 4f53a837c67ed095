"""What may be drawn, and with which probability."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.stats import chi2

from shards.codec import encode_jpeg
from shards.errors import ShardError
from shards.index import IndexBatch, IndexEntry, entries_to_batch
from shards.reader import ShardSet
from shards.rng import generator
from shards.types import Record, StoredFrame
from vosdata.streaming.eligibility import (
    common_size,
    eligible_count,
    eligible_records,
    eligible_starts,
    require_eligible,
)
from vosdata.streaming.sampling import draw_snippet, new_labels
from vosdata.streaming.snippet import Snippet, SnippetRule, read_gap, read_objects

SetBuilder = Callable[[Path, str, Sequence[Record]], Path]


def entry_of(annotated: Sequence[bool], areas: np.ndarray, height: int = 10, width: int = 10) -> IndexEntry:
    num_frames, num_objects = areas.shape
    zeros = np.zeros(num_frames, np.int64)
    return IndexEntry(
        key="k",
        sequence="k",
        shard=0,
        height=height,
        width=width,
        source="",
        licence="",
        provenance="",
        json_offset=0,
        json_size=0,
        json_crc=0,
        frame_numbers=np.arange(num_frames),
        annotated=np.array(annotated, np.bool_),
        image_offsets=zeros,
        image_sizes=zeros.astype(np.int32),
        image_crcs=zeros.astype(np.uint32),
        mask_offsets=zeros,
        mask_sizes=zeros.astype(np.int32),
        mask_crcs=zeros.astype(np.uint32),
        object_ids=np.arange(1, num_objects + 1, dtype=np.uint8),
        areas=areas.astype(np.int32),
        boxes=np.zeros((num_frames, num_objects, 4), np.int32),
    )


@st.composite
def entries(draw: st.DrawFn) -> IndexEntry:
    num_frames, num_objects = draw(st.integers(1, 12)), draw(st.integers(0, 3))
    annotated = draw(npst.arrays(np.bool_, num_frames))
    pixels = st.sampled_from([0, 1, 24, 25, 26, 99, 100])
    areas = draw(npst.arrays(np.int32, (num_frames, num_objects), elements=pixels))
    height, width = draw(st.sampled_from([(10, 10), (10, 20), (7, 9)]))
    return entry_of(annotated, areas * annotated[:, None], height, width)


rules = st.builds(
    SnippetRule,
    num_frames=st.integers(1, 6),
    size=st.sampled_from([(10, 10), (5, 10), (20, 20), (7, 9)]),
    min_object_pixels=st.sampled_from([1, 25, 26]),
)


def starts_in_words(entry: IndexEntry, rule: SnippetRule, step: int = 1) -> list[int]:
    """The rule, spelled out one frame at a time; a negative step runs backwards."""
    scale = rule.size[0] * rule.size[1] / (entry.height * entry.width)
    result = []
    for start in range(len(entry.annotated)):
        frames = [start + step * t for t in range(rule.num_frames)]
        if not all(0 <= frame < len(entry.annotated) for frame in frames):
            continue
        shows = any(area * scale > rule.min_object_pixels - 1e-9 for area in entry.areas[start])
        rest = frames[1:]
        if entry.annotated[start] and shows and (not rest or any(entry.annotated[t] for t in rest)):
            result.append(start)
    return result


@given(entry=entries(), rule=rules, gap=st.integers(1, 5), reverse=st.booleans())
@settings(max_examples=400)
def test_eligible_starts_are_what_the_rule_says(entry: IndexEntry, rule: SnippetRule, gap: int, reverse: bool) -> None:
    starts = eligible_starts(entry, rule, gap, reverse).tolist()
    assert starts == starts_in_words(entry, rule, -gap if reverse else gap)


@given(chunks=st.lists(st.lists(entries(), max_size=5), max_size=3), rule=rules, gap=st.integers(1, 4))
@settings(max_examples=200)
def test_whole_columns_say_the_same_as_record_by_record(
    chunks: list[list[IndexEntry]], rule: SnippetRule, gap: int
) -> None:
    rule = replace(rule, gap=read_gap((gap, 9)))
    batches = [IndexBatch(entries_to_batch(chunk)) for chunk in chunks]
    shard_set: Any = SimpleNamespace(index=SimpleNamespace(batches=lambda: batches))
    every = [entry for chunk in chunks for entry in chunk]
    expected = [number for number, entry in enumerate(every) if starts_in_words(entry, rule, gap)]
    assert eligible_records(shard_set, rule).tolist() == expected


def test_object_pixels_count_at_training_size() -> None:
    entry = entry_of([True, True], np.array([[100], [100]]), 20, 20)
    assert len(eligible_starts(entry, SnippetRule(2, (10, 10), min_object_pixels=25))) == 1
    assert len(eligible_starts(entry, SnippetRule(2, (10, 10), min_object_pixels=26))) == 0


@pytest.mark.parametrize(
    ("numbers", "objects", "key"),
    [
        (range(10, 18), (1,), "davis2017/bear[10-17]#1"),
        (range(0, 40, 5), (3,), "davis2017/bear[0-35:5]#3"),
        ((0, 5, 15), (1, 2), "davis2017/bear[0,5,15]#1,2"),
        ((7,), (1,), "davis2017/bear[7]#1"),
        (range(17, 9, -1), (1,), "davis2017/bear[17-10]#1"),
        (range(35, -1, -5), (3,), "davis2017/bear[35-0:5]#3"),
    ],
)
def test_key_names_the_snippet(numbers: Sequence[int], objects: tuple[int, ...], key: str) -> None:
    snippet = Snippet("davis2017", 0, "bear", tuple(range(len(numbers))), tuple(numbers), objects)
    assert snippet.key == key


@pytest.fixture(scope="module")
def alpha(tiny_sets: dict[str, Path]) -> ShardSet:
    return ShardSet(tiny_sets["alpha"])


def record_of(shard_set: ShardSet, sequence: str) -> int:
    return next(n for n in range(len(shard_set)) if shard_set.entry(n).sequence == sequence)


def test_first_frame_and_object_are_drawn_evenly(alpha: ShardSet) -> None:
    record = record_of(alpha, "alpha.4")  # 10 frames, objects 1 and 2
    rule = SnippetRule(4, (24, 40), min_object_pixels=20)
    draws = Counter(
        (snippet.frames[0], snippet.objects)
        for position in range(2800)
        for snippet in [draw_snippet(alpha, record, rule, generator(0, 0, position, "snippet"))]
    )
    cells = [(start, (object_id,)) for start in range(7) for object_id in (1, 2)]
    assert set(draws) == set(cells)
    assert sum((draws[cell] - 200) ** 2 / 200 for cell in cells) < chi2.ppf(0.9999, 13)


def test_frames_follow_each_other_in_the_record(tiny_sets: dict[str, Path]) -> None:
    beta = ShardSet(tiny_sets["beta"])
    rule = SnippetRule(4, (24, 40))
    for position in range(50):
        snippet = draw_snippet(beta, record_of(beta, "beta 0"), rule, generator(3, 0, position, "snippet"))
        assert all(later == earlier + 1 for earlier, later in pairwise(snippet.frames))
        assert snippet.frame_numbers == tuple(5 * frame for frame in snippet.frames)
        assert snippet.frames[0] % 2 == 0  # only every other frame is annotated


def test_without_a_generator_the_first_eligible_frame_and_lowest_id_are_taken(alpha: ShardSet) -> None:
    snippet = draw_snippet(alpha, record_of(alpha, "alpha.2"), SnippetRule(4, (24, 40)), None)
    assert (snippet.frames, snippet.objects) == ((0, 1, 2, 3), (1,))


def test_all_objects_are_those_that_the_snippet_shows(tiny_sets: dict[str, Path]) -> None:
    beta = ShardSet(tiny_sets["beta"])
    rule = SnippetRule(4, (24, 40), "all")
    seen = {
        snippet.frames[0]: snippet.objects
        for position in range(60)
        for snippet in [draw_snippet(beta, record_of(beta, "beta 0"), rule, generator(0, 0, position, "snippet"))]
    }
    # object 2 appears at frame 4: a snippet of frames 0 to 3 does not show it, one from 2 to 5 does
    assert seen == {0: (1,), 2: (1, 2), 4: (1, 2), 6: (1, 2), 8: (1, 2)}


def test_later_objects_are_never_drawn_as_the_one_object(tiny_sets: dict[str, Path]) -> None:
    beta = ShardSet(tiny_sets["beta"])
    for position in range(80):
        rng = generator(1, 0, position, "snippet")
        snippet = draw_snippet(beta, record_of(beta, "beta 1"), SnippetRule(4, (24, 40)), rng)
        assert snippet.objects == (1,) or snippet.frames[0] >= 5


def test_drawing_opens_no_shard(tiny_sets: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_sets["alpha"], tmp_path / "alpha")
    for shard in copy.glob("*.tar"):
        shard.unlink()
    shard_set = ShardSet(copy)
    rule = SnippetRule(4, (24, 40))
    assert len(eligible_records(shard_set, rule)) == 5
    assert draw_snippet(shard_set, 0, rule, None).frames == (0, 1, 2, 3)


def test_eligible_count_leaves_out_what_cannot_be_drawn(tiny_sets: dict[str, Path]) -> None:
    assert eligible_count(tiny_sets["beta"], 4, (24, 40)) == 3  # of 5: one is too short, one shows nothing
    assert eligible_count(tiny_sets["beta"], 4) == 3
    assert eligible_count(tiny_sets["alpha"], 10, (24, 40)) == 1
    assert eligible_count(tiny_sets["alpha"], 11, (24, 40)) == 0


def test_a_record_without_an_eligible_frame_cannot_be_drawn(tiny_sets: dict[str, Path]) -> None:
    beta = ShardSet(tiny_sets["beta"])
    with pytest.raises(ValueError, match="no eligible snippet of 4 frames"):
        draw_snippet(beta, record_of(beta, "short"), SnippetRule(4, (24, 40)), None)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (SnippetRule(11, (24, 40)), "its longest sequence has 10"),
        (SnippetRule(4, (24, 40), min_object_pixels=49), "no object has an area of 49 px at 24x40"),
        (SnippetRule(4, (1, 1), min_object_pixels=1), "no object has an area of 1 px at 1x1"),
    ],
)
def test_a_set_with_nothing_to_draw_is_named_with_the_reason(alpha: ShardSet, rule: SnippetRule, why: str) -> None:
    with pytest.raises(ShardError, match=f"alpha has no eligible snippet: .*{why}"):
        require_eligible(alpha, rule)


def still(masks: list[np.ndarray | None]) -> Record:
    image = encode_jpeg(np.zeros((16, 16, 3), np.uint8))
    return Record("still", tuple(StoredFrame(n, image, mask) for n, mask in enumerate(masks)), 16, 16)


@pytest.mark.parametrize(
    ("masks", "why"),
    [
        ([np.zeros((16, 16), np.uint8)] * 4, "no frame is annotated with an object"),
        ([np.ones((16, 16), np.uint8), None, None, None], "no annotated frame with an object has 3 frames behind it"),
    ],
)
def test_a_set_without_annotation_says_so(
    masks: list[np.ndarray | None], why: str, build_tiny_set: SetBuilder, tmp_path: Path
) -> None:
    folder = build_tiny_set(tmp_path, "poor", [still(masks)])
    with pytest.raises(ShardError, match=why):
        require_eligible(ShardSet(folder), SnippetRule(4, (16, 16)))


def test_sets_of_several_sizes_need_a_size(tiny_sets: dict[str, Path]) -> None:
    alpha, beta, gamma = (ShardSet(tiny_sets[name]) for name in ("alpha", "beta", "gamma"))
    assert common_size([alpha, gamma]) == (24, 40)
    with pytest.raises(ValueError, match=r"24x40, 36x60.*give size"):
        common_size([alpha, beta])


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_frames": 0},
        {"size": (0, 4)},
        {"objects": "some"},
        {"objects": read_objects(0)},
        {"min_object_pixels": 0},
        {"gap": read_gap(0)},
        {"gap": read_gap((3, 2))},
        {"gap": read_gap(0), "gap_unit": "seconds"},
        {"gap_unit": "hours"},
        {"reverse": 1.5},
        {"later": "drop"},
    ],
)
def test_rules_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|at least"):
        SnippetRule(**{"num_frames": 4, "size": (24, 40), **wrong})


# Gaps and direction


def alone(entry: IndexEntry, frame_rate: float | None = None) -> Any:
    """A shard set of one record, as far as drawing looks at it."""
    return SimpleNamespace(name="lone", path="lone", entry=lambda record: entry, description={"frame_rate": frame_rate})


def draw_many(entry: IndexEntry, rule: SnippetRule, number: int = 300, position: int = 0) -> list[Snippet]:
    return [
        draw_snippet(alone(entry), 0, rule, generator(5, 0, n, "snippet"), position=position) for n in range(number)
    ]


@given(entry=entries(), rule=rules, low=st.integers(1, 4), more=st.integers(0, 4), seed=st.integers(0, 99))
@settings(max_examples=300)
def test_every_draw_starts_where_it_may_and_keeps_one_gap(
    entry: IndexEntry, rule: SnippetRule, low: int, more: int, seed: int
) -> None:
    rule = replace(rule, gap=read_gap((low, low + more)), reverse=0.5)
    steps = [sign * gap for gap in range(low, low + more + 1) for sign in (1, -1)]
    possible = any(starts_in_words(entry, rule, step) for step in steps)
    # a stream leaves records out in which none can start forwards at the smallest gap
    assume(starts_in_words(entry, rule, low) or not possible)
    if not possible:
        with pytest.raises(ValueError, match="no eligible snippet"):
            draw_snippet(alone(entry), 0, rule, generator(seed, 0, 0, "snippet"))
        return
    snippet = draw_snippet(alone(entry), 0, rule, generator(seed, 0, 0, "snippet"))
    taken = {later - one for one, later in pairwise(snippet.frames)}
    assert len(taken) <= 1
    step = taken.pop() if taken else 1
    assert rule.num_frames == 1 or low <= abs(step) <= low + more
    assert snippet.frames[0] in starts_in_words(entry, rule, step)


def test_gaps_and_directions_are_drawn_evenly() -> None:
    entry = entry_of([True] * 40, np.full((40, 1), 99))
    snippets = draw_many(entry, SnippetRule(3, (10, 10), gap=read_gap((2, 5)), reverse=0.25), 4000)
    steps = Counter(snippet.frames[1] - snippet.frames[0] for snippet in snippets)
    expected = {sign * gap: 1000 * part for gap in (2, 3, 4, 5) for sign, part in ((-1, 0.25), (1, 0.75))}
    assert set(steps) == set(expected)
    assert sum((steps[step] - aim) ** 2 / aim for step, aim in expected.items()) < chi2.ppf(0.9999, 7)


def test_a_gap_that_does_not_fit_is_lowered_to_the_largest_that_does() -> None:
    rule = SnippetRule(4, (10, 10), gap=read_gap((1, {"linear": [[0, 1], [100, 25]]})))
    entry = entry_of([True] * 11, np.full((11, 1), 99))  # room for gaps up to 3
    assert {snippet.frames[1] - snippet.frames[0] for snippet in draw_many(entry, rule, 50, position=0)} == {1}
    assert {snippet.frames[1] - snippet.frames[0] for snippet in draw_many(entry, rule, 200, position=100)} == {1, 2, 3}
    constant = SnippetRule(4, (10, 10), gap=read_gap(4))  # but never below the smallest that is ever asked for
    with pytest.raises(ValueError, match="no eligible snippet"):
        draw_snippet(alone(entry), 0, constant, None)


def test_gaps_in_seconds_go_by_the_frame_rate() -> None:
    rule = SnippetRule(3, (10, 10), gap=read_gap(0.2), gap_unit="seconds")
    entry = entry_of([True] * 40, np.full((40, 1), 99))
    for frame_rate, gap in ((24.0, 5), (30.0, 6), (6.0, 1), (1.0, 1)):
        snippet = draw_snippet(alone(entry, frame_rate), 0, rule, None)
        assert snippet.frames == (0, gap, 2 * gap)
    with pytest.raises(ShardError, match=r"lone says nothing of its frame rate, so a gap of 0\.2 seconds"):
        draw_snippet(alone(entry), 0, rule, None)


def test_a_record_in_which_nothing_can_start_backwards_runs_forwards() -> None:
    areas = np.zeros((6, 1), int)
    areas[0] = 99
    snippets = draw_many(entry_of([True] * 6, areas), SnippetRule(4, (10, 10), reverse=1.0), 20)
    assert {snippet.frames for snippet in snippets} == {(0, 1, 2, 3)}


# Objects

# objects 1 and 2 are there from the start, 3 is too small at first, 4 and 5 appear later, 6 never shows much
MANY = np.array([[50, 60, 3, 0, 0, 0], [50, 60, 80, 70, 0, 2], [50, 60, 80, 70, 90, 2]])


def objects_drawn(objects: Any, later: Any, number: int = 400) -> list[Snippet]:
    rule = SnippetRule(3, (10, 10), read_objects(objects), later=later)
    return draw_many(entry_of([True] * 3, MANY), rule, number)


@pytest.mark.parametrize("later", ["given", "void", "background"])
def test_up_to_n_objects_are_drawn_and_one_is_always_in_the_first_frame(later: Any) -> None:
    for count in (1, 2, 3, 9):
        seen = Counter(object_id for snippet in objects_drawn(count, later) for object_id in snippet.objects)
        candidates = {1, 2, 4, 5} if later == "given" and count > 1 else {1, 2}
        assert set(seen) == candidates
        for snippet in objects_drawn(count, later, 50):
            assert len(snippet.objects) == min(count, len(candidates))
            assert set(snippet.objects) & {1, 2}
            assert list(snippet.objects) == sorted(snippet.objects)
        if count < len(candidates):
            assert seen[1] / (seen[1] + seen[2]) == pytest.approx(0.5, abs=0.12)


def test_the_number_of_objects_may_change_with_the_position() -> None:
    rule = SnippetRule(3, (10, 10), read_objects({"linear": [[0, 1], [100, 2]]}))
    entry = entry_of([True] * 3, MANY)
    assert {len(draw_many(entry, rule, 5, position)[0].objects) for position in (0, 49)} == {1}
    assert {len(draw_many(entry, rule, 5, position)[0].objects) for position in (50, 10**9)} == {2}


def test_without_a_generator_the_lowest_ids_are_drawn() -> None:
    entry = entry_of([True] * 3, MANY)
    for objects, later, expected in ((3, "given", (1, 2, 4)), (3, "void", (1, 2)), (1, "given", (1,))):
        rule = SnippetRule(3, (10, 10), read_objects(objects), later=later)  # type: ignore[arg-type]
        assert draw_snippet(alone(entry), 0, rule, None).objects == expected


@pytest.mark.parametrize(
    ("objects", "later", "drawn", "labels"),
    [
        ("one", "given", (2,), {2: 1}),
        ("one", "background", (2,), {2: 1}),
        ("one", "void", (2,), {2: 1, 4: 255, 5: 255, 6: 255}),
        ("all", "given", (1, 2, 3, 4, 5, 6), None),
        ("all", "void", (1, 2, 3), {1: 1, 2: 2, 3: 3, 4: 255, 5: 255, 6: 255}),
        ("all", "background", (1, 2, 3), {1: 1, 2: 2, 3: 3}),
        (2, "void", (1, 2), {1: 1, 2: 2, 4: 255, 5: 255, 6: 255}),
        (2, "background", (1, 2), {1: 1, 2: 2}),
        (2, "given", (2, 5), {2: 1, 5: 2}),
    ],
)
def test_ids_become_what_is_documented(
    objects: Any, later: Any, drawn: tuple[int, ...], labels: dict[int, int] | None
) -> None:
    rule = SnippetRule(3, (10, 10), read_objects(objects), later=later)
    snippet = next(one for one in objects_drawn(objects, later) if one.objects == drawn)
    table = new_labels(snippet, rule)
    if labels is None:
        assert table is None
        return
    expected = np.zeros(256, np.uint8)
    expected[255] = 255
    for stored, becomes in labels.items():
        expected[stored] = becomes
    assert table is not None
    assert np.array_equal(table, expected)
