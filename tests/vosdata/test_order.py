"""The order's laws on keys alone: one order for any cut into ranks and batches, and going on with changed settings."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.build import SetDescription, build_shard_set
from shards.codec import encode_jpeg
from shards.errors import ShardError
from shards.reader import ShardSet
from shards.types import Record, StoredFrame
from vosdata.stream import SnippetStream
from vosdata.streaming.engine import Schedule
from vosdata.streaming.mix import REMOTE_WINDOW, OrderSettings, SnippetOrder
from vosdata.streaming.snippet import SnippetRule

SetBuilder = Callable[[Path, str, Sequence[Record]], Path]
EPOCH_SIZE = 23
RAMP = {"linear": [[0, 3], [1500, 0.5]]}


def open_stream(sets: dict[str, Path], weights: Sequence[Any] = (0.5, 0.3, 0.2), **options: Any) -> SnippetStream:
    named = dict(zip((sets["alpha"], sets["beta"], sets["gamma"]), weights, strict=True))
    settings: dict[str, Any] = {"snippet": 4, "size": (24, 40), "seed": 7, "epoch_size": EPOCH_SIZE}
    return SnippetStream(named, **(settings | options))


@pytest.fixture(scope="module")
def order(tiny_sets: dict[str, Path]) -> list[str]:
    return open_stream(tiny_sets, **EVERYTHING).keys(range(2000))


EVERYTHING: dict[str, Any] = {
    "weights": (RAMP, {"steps": [[0, 1], [700, 0], [900, 2]]}, 1),
    "gap": (1, {"linear": [[0, 1], [1200, 3]]}),
    "objects": {"steps": [[0, 1], [500, 3]]},
    "reverse": 0.3,
    "shuffle_window": 1,
}


# One order


@pytest.mark.parametrize("num_ranks", range(1, 17))
def test_any_cut_into_ranks_and_batches_is_a_partition_of_the_one_order(
    tiny_sets: dict[str, Path], order: list[str], num_ranks: int
) -> None:
    # 16 numbers of ranks x 8 batch sizes x 2 starts = 256 worlds
    stream = open_stream(tiny_sets, **EVERYTHING)
    for batch, first in itertools.product((1, 2, 3, 4, 5, 7, 8, 16), (0, 1501)):
        steps = range(-(-60 // (num_ranks * batch)))
        dealt = [
            [Schedule(first, batch, rank, num_ranks).positions(step) for rank in range(num_ranks)] for step in steps
        ]
        positions = [position for ranks in dealt for of_rank in ranks for position in of_rank]
        assert positions == list(range(first, first + len(positions)))
        sample = positions[:: max(1, len(positions) // 6)]
        assert stream.keys(sample) == [order[position] for position in sample]


def test_every_position_can_be_resumed_at_and_gives_the_rest(tiny_sets: dict[str, Path], order: list[str]) -> None:
    stream, resumed = (open_stream(tiny_sets, **EVERYTHING) for _ in range(2))
    for position in range(0, 1900, 7):
        epoch, place = divmod(position, EPOCH_SIZE)
        stream.load_state_dict({**stream.state_dict(), "epoch": epoch, "position": place})
        resumed.load_state_dict(json.loads(json.dumps(stream.state_dict())))
        assert (resumed.epoch, resumed.position) == (epoch, place)
        assert resumed.keys(range(position, position + 3)) == order[position : position + 3]


@pytest.mark.parametrize("options", [{}, {"shuffle_window": 1}, {"weights": (RAMP, 1, 1)}, EVERYTHING])
def test_every_pass_over_every_set_draws_each_record_once(tiny_sets: dict[str, Path], options: dict[str, Any]) -> None:
    stream = open_stream(tiny_sets, **options)
    drawn: dict[str, list[int]] = {"alpha": [], "beta": [], "gamma": []}
    for position in range(400):
        snippet = stream.snippet(position)
        drawn[snippet.set_name].append(snippet.record)
    for name, length in (("alpha", 5), ("beta", 3), ("gamma", 3)):
        passes = [drawn[name][start : start + length] for start in range(0, len(drawn[name]) - length + 1, length)]
        assert len(passes) > 10
        assert all(len(set(one)) == length for one in passes)


def test_sets_follow_weights_that_change(tiny_sets: dict[str, Path]) -> None:
    stream = open_stream(tiny_sets, weights=({"steps": [[0, 1], [301, 0]]}, {"steps": [[0, 0], [301, 1]]}, 1))
    names = [stream.snippet(position).set_name for position in range(600)]
    first, second = Counter(names[:301]), Counter(names[301:])
    assert (first["beta"], second["alpha"]) == (0, 0)
    assert abs(first["alpha"] - Fraction(301, 2)) < 1
    assert abs(second["beta"] - Fraction(299, 2)) < 1


def test_drawing_is_counted_without_drawing(tiny_sets: dict[str, Path]) -> None:
    stream = open_stream(tiny_sets, **EVERYTHING)
    names = [stream.snippet(position).set_name for position in range(1200)]
    for position in (0, 1, 699, 700, 1199):
        epoch, place = divmod(position, EPOCH_SIZE)
        stream.load_state_dict({**stream.state_dict(), "epoch": epoch, "position": place})
        counts = Counter(names[:position])
        assert stream.state_dict()["drawn"] == [counts[name] for name in ("alpha", "beta", "gamma")]


# Windows


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve shards of three records each."""
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, 4:12] = 1
    image = encode_jpeg(np.zeros((16, 16, 3), np.uint8))
    records = [
        Record(f"r{n:02}", (StoredFrame(0, image, mask), StoredFrame(1, image, mask)), 16, 16) for n in range(36)
    ]
    folder = tmp_path_factory.mktemp("many") / "many"
    build_shard_set(ManyShards(tuple(records)), folder)
    return folder


class ManyShards:
    """A plan of twelve shards; see ``shards.plan.ShardPlan``."""

    name, split, num_shards, num_records = "many", "train", 12, 36

    def __init__(self, content: tuple[Record, ...]) -> None:
        self.content = content

    def configuration(self) -> dict[str, Any]:
        return {}

    def records(self, shard: int) -> Any:
        yield from self.content[shard :: self.num_shards]

    def description(self) -> SetDescription:
        return SetDescription(None, 12.5, "many", "", self.name, "Made for tests.")


@pytest.mark.parametrize("window", [1, 3, 5])
def test_a_windowed_stream_opens_few_shards_at_a_time(many_shards: Path, window: int) -> None:
    stream, shard_set = SnippetStream(many_shards, snippet=2, shuffle_window=window), ShardSet(many_shards)
    for epoch in range(3):
        records = [stream.snippet(position).record for position in range(epoch * 36, (epoch + 1) * 36)]
        assert sorted(records) == list(range(36))
        left, open_shards = Counter(dict.fromkeys(range(12), 3)), set[int]()
        for record in records:
            shard = shard_set.entry(record).shard
            open_shards.add(shard)
            left[shard] -= 1
            assert len(open_shards) <= window
            open_shards = {one for one in open_shards if left[one]}


def test_windows_leave_out_records_that_are_not_eligible(tiny_sets: dict[str, Path]) -> None:
    stream = SnippetStream(tiny_sets["beta"], snippet=4, size=(24, 40), shuffle_window=1)
    assert [len({stream.snippet(3 * one + n).record for n in range(3)}) for one in range(5)] == [3] * 5


def test_sets_whose_shards_are_fetched_are_shuffled_in_windows(
    many_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = SnippetRule(2, (16, 16))

    def windows(window: Any) -> tuple[int | None, ...]:
        return SnippetOrder([ShardSet(many_shards)], None, OrderSettings(rule, 0, None, True, False, window)).windows

    assert [windows(window) for window in ("auto", "all", 3)] == [(None,), (None,), (3,)]
    monkeypatch.setattr(ShardSet, "fetches_whole_shards", property(lambda self: True))
    assert [windows(window) for window in ("auto", "all", 3)] == [(REMOTE_WINDOW,), (None,), (3,)]


@pytest.mark.parametrize("window", [0, -1, "some"])
def test_windows_that_mean_nothing_are_refused(tiny_sets: dict[str, Path], window: Any) -> None:
    with pytest.raises(ValueError, match="shuffle window must be"):
        open_stream(tiny_sets, shuffle_window=window)


# Changes on resume


def state_at(stream: SnippetStream, position: int) -> dict[str, Any]:
    """The state after ``position`` draws; decodes nothing."""
    epoch, place = divmod(position, stream.epoch_size)
    stream.load_state_dict({**stream.state_dict(), "epoch": epoch, "position": place})
    return json.loads(json.dumps(stream.state_dict()))  # type: ignore[no-any-return]


CHANGES: list[dict[str, Any]] = [
    {"weights": (0.2, 0.2, 0.6)},
    {"weights": ({"steps": [[0, 1], [150, 0]]}, 1, 1)},
    {"gap": (1, 2)},
    {"objects": {"steps": [[0, 2], [140, 5]]}},
    {"reverse": 1.0, "later": "void", "flip": True},
    {"snippet": 3},
    {"size": (12, 20), "min_object_pixels": 10},
    {"shuffle_window": 1},
    {"shuffle": False},
]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_settings_hold_from_where_the_run_goes_on(tiny_sets: dict[str, Path], change: dict[str, Any]) -> None:
    state = state_at(open_stream(tiny_sets), 100)
    with pytest.raises(ValueError, match="allow_changes=True"):
        open_stream(tiny_sets, **change).load_state_dict(state)
    changed = open_stream(tiny_sets, **change)
    changed.load_state_dict(state, allow_changes=True)
    assert divmod(100, EPOCH_SIZE) == (changed.epoch, changed.position)
    after = changed.keys(range(100, 400))
    with pytest.raises(ValueError, match="these settings hold since position 100"):
        changed.snippet(99)
    again = open_stream(tiny_sets, **change)  # and later states of the changed run resume exactly, as any do
    again.load_state_dict(state_at(changed, 180))
    assert again.keys(range(100, 400)) == after
    assert len(json.dumps(changed.state_dict())) <= 1024


def test_passes_go_on_where_they_were_when_weights_change(tiny_sets: dict[str, Path]) -> None:
    before = open_stream(tiny_sets)
    for position in (1, 50, 99, 100, 101):
        after = open_stream(tiny_sets, weights=(0.2, 0.2, 0.6))
        after.load_state_dict(state_at(before, position), allow_changes=True)
        snippets = [before.snippet(n) for n in range(position)] + [after.snippet(n) for n in range(position, 400)]
        for name, length in (("alpha", 5), ("beta", 3), ("gamma", 3)):
            drawn = [snippet.record for snippet in snippets if snippet.set_name == name]
            assert all(len(set(drawn[n : n + length])) == length for n in range(0, len(drawn) - length + 1, length))
        counts = Counter(after.snippet(n).set_name for n in range(position, position + 200))
        for name, part in (("alpha", 40), ("beta", 40), ("gamma", 120)):
            assert abs(counts[name] - part) < 1


def test_a_new_pass_begins_when_other_records_become_eligible(tiny_sets: dict[str, Path]) -> None:
    long = SnippetStream(tiny_sets["alpha"], snippet=8, seed=1, epoch_size=10)  # 3 of its 5 sequences have 8 frames
    short = SnippetStream(tiny_sets["alpha"], snippet=4, seed=1, epoch_size=10)
    short.load_state_dict(state_at(long, 4), allow_changes=True)  # in the middle of a pass
    assert sorted(short.snippet(n).record for n in range(4, 9)) == [0, 1, 2, 3, 4]
    assert short.state_dict()["since"] == {"position": 4, "drawn": [10]}


def test_sets_may_come_and_go_when_a_run_goes_on(tiny_sets: dict[str, Path]) -> None:
    settings: dict[str, Any] = {"snippet": 4, "size": (24, 40), "epoch_size": 50}
    old = SnippetStream({tiny_sets["alpha"]: 1, tiny_sets["beta"]: 1}, **settings)
    new = SnippetStream({tiny_sets["beta"]: 1, tiny_sets["gamma"]: 1}, **settings)
    new.load_state_dict(state_at(old, 21), allow_changes=True)
    assert new.state_dict()["since"] == {"position": 21, "drawn": [12, 0]}  # beta was in its fourth pass over 3
    assert {new.snippet(n).set_name for n in range(21, 30)} == {"beta", "gamma"}


def test_an_epoch_keeps_its_length_when_a_run_goes_on_with_other_snippets(tiny_sets: dict[str, Path]) -> None:
    old = SnippetStream(tiny_sets["alpha"], snippet=8)
    new = SnippetStream(tiny_sets["alpha"], snippet=4)
    assert (old.epoch_size, new.epoch_size) == (3, 5)
    new.load_state_dict(state_at(old, 4), allow_changes=True)
    assert (new.epoch_size, new.epoch, new.position) == (3, 1, 1)
    again = SnippetStream(tiny_sets["alpha"], snippet=4)
    again.load_state_dict(new.state_dict())
    assert (again.epoch_size, again.keys(range(4, 9))) == (3, new.keys(range(4, 9)))


@pytest.mark.parametrize("change", [{"seed": 8}, {"epoch_size": 24}])
def test_seed_and_epoch_size_cannot_change_within_a_run(tiny_sets: dict[str, Path], change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"was .*here it is"):
        open_stream(tiny_sets, **change).load_state_dict(open_stream(tiny_sets).state_dict(), allow_changes=True)


def test_allowing_changes_changes_nothing_where_there_are_none(tiny_sets: dict[str, Path]) -> None:
    stream = open_stream(tiny_sets)
    stream.load_state_dict(state_at(open_stream(tiny_sets), 50), allow_changes=True)
    assert stream.keys(range(90)) == open_stream(tiny_sets).keys(range(90))


def test_other_schedules_are_other_orders(tiny_sets: dict[str, Path]) -> None:
    state = open_stream(tiny_sets, gap={"steps": [[0, 1], [50, 2]]}).state_dict()
    with pytest.raises(ValueError, match=r"gap was .*steps"):
        open_stream(tiny_sets, gap={"steps": [[0, 1], [51, 2]]}).load_state_dict(state)
    state = open_stream(tiny_sets, weights=(RAMP, 1, 1)).state_dict()
    with pytest.raises(ValueError, match=r"shard sets were alpha/train .weight linear"):
        open_stream(tiny_sets, weights=({"linear": [[0, 3], [1500, 1]]}, 1, 1)).load_state_dict(state)


@pytest.mark.parametrize(
    "change",
    [
        {"drawn": [1, 2]},
        {"drawn": [1, 2, -3]},
        {"eligible": [0, 3, 3]},
        {"since": {"position": 0}},
        {"since": {"position": 5, "drawn": [0, 0, 0]}},
        {"since": None},
        {"sets": []},
        {"windows": []},
        {"epoch_size": 0},
        {"position": True},
    ],
)
def test_a_state_with_impossible_numbers_is_refused(tiny_sets: dict[str, Path], change: dict[str, Any]) -> None:
    stream = open_stream(tiny_sets)
    with pytest.raises(ValueError, match="state belongs to another stream"):
        stream.load_state_dict({**stream.state_dict(), **change}, allow_changes=True)


def test_a_state_of_a_dozen_sets_far_out_is_under_a_kilobyte(
    tiny_sets: dict[str, Path], build_tiny_set: SetBuilder, tmp_path: Path
) -> None:
    shard_set = ShardSet(tiny_sets["gamma"])
    records = [shard_set.record(n) for n in range(3)]
    weights = {build_tiny_set(tmp_path, f"davis20{n:02}", records): 0.1 * (n + 1) for n in range(12)}
    state = state_at(SnippetStream(weights, snippet=4, seed=2**63), 10**9)
    assert len(json.dumps(state, separators=(",", ":"))) <= 1024


# Seconds


def test_gaps_in_seconds_need_a_frame_rate(tiny_sets: dict[str, Path], many_shards: Path) -> None:
    with pytest.raises(ShardError, match="alpha says nothing of its frame rate"):
        open_stream(tiny_sets, gap=0.2, gap_unit="seconds")
    stream = SnippetStream(many_shards, snippet=2, gap=0.08, gap_unit="seconds")  # one frame at 12.5 frames/s
    assert stream.snippet(0).frames == (0, 1)
    with pytest.raises(ShardError, match="spans 3 at its smallest gap, but its longest sequence has 2"):
        SnippetStream(many_shards, snippet=2, gap=0.16, gap_unit="seconds")
