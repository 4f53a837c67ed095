"""What may be drawn, and with which probability."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.stats import chi2

from shards.codec import encode_jpeg
from shards.errors import ShardError
from shards.index import IndexBatch, IndexEntry, entries_to_batch
from shards.reader import ShardSet
from shards.rng import generator
from shards.types import Record, StoredFrame
from vosdata.eligibility import common_size, eligible_count, eligible_records, eligible_starts, require_eligible
from vosdata.sampling import draw_snippet
from vosdata.snippet import Snippet, SnippetRule

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


def starts_in_words(entry: IndexEntry, rule: SnippetRule) -> list[int]:
    """The rule, spelled out one frame at a time."""
    scale = rule.size[0] * rule.size[1] / (entry.height * entry.width)
    result = []
    for start in range(len(entry.annotated)):
        rest = range(start + 1, start + rule.num_frames)
        shows = any(area * scale > rule.min_object_pixels - 1e-9 for area in entry.areas[start])
        fits = start + rule.num_frames <= len(entry.annotated)
        if entry.annotated[start] and shows and fits and (not rest or any(entry.annotated[t] for t in rest)):
            result.append(start)
    return result


@given(entry=entries(), rule=rules)
@settings(max_examples=300, deadline=None)
def test_eligible_starts_are_what_the_rule_says(entry: IndexEntry, rule: SnippetRule) -> None:
    assert eligible_starts(entry, rule).tolist() == starts_in_words(entry, rule)


@given(chunks=st.lists(st.lists(entries(), max_size=5), max_size=3), rule=rules)
@settings(max_examples=200, deadline=None)
def test_whole_columns_say_the_same_as_record_by_record(chunks: list[list[IndexEntry]], rule: SnippetRule) -> None:
    batches = [IndexBatch(entries_to_batch(chunk)) for chunk in chunks]
    shard_set: Any = SimpleNamespace(index=SimpleNamespace(batches=lambda: batches))
    every = [entry for chunk in chunks for entry in chunk]
    expected = [number for number, entry in enumerate(every) if starts_in_words(entry, rule)]
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
        (SnippetRule(4, (24, 40), min_object_pixels=49), "no object has 49 pixels at 24x40"),
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


@pytest.mark.parametrize("wrong", [{"num_frames": 0}, {"size": (0, 4)}, {"objects": "some"}, {"min_object_pixels": 0}])
def test_rules_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|at least"):
        SnippetRule(**{"num_frames": 4, "size": (24, 40), **wrong})
