"""The stream's laws: one order for any ranks, threads and batch size; exact resume; the right pixels; no leftovers."""

import gc
import itertools
import json
import math
import pickle
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shards.errors import DamageError, ShardError
from shards.reader import ShardSet
from vosdata.batch import SnippetBatch
from vosdata.stream import SnippetStream
from vosdata.streaming.engine import Filled, Schedule, ThreadEngine
from vosdata.streaming.snippet import Snippet

EPOCH_SIZE = 23  # prime, so that every batch size makes batches that straddle epochs
RANKS = (1, 2, 3, 4, 8)
THREADS = (1, 2, 3, 4)
BATCHES = (1, 2, 3, 4, 5, 6)


def open_stream(sets: dict[str, Path], **options: Any) -> SnippetStream:
    weights = {sets["alpha"]: 0.5, sets["beta"]: 0.3, sets["gamma"]: 0.2}
    settings: dict[str, Any] = {"snippet": 4, "size": (24, 40), "seed": 7, "epoch_size": EPOCH_SIZE, "batch": 1}
    settings["engine"] = (
        "threads"  # starts at once; test_process_engine.py holds the helper process to the same batches
    )
    return SnippetStream(weights, **(settings | options))


@pytest.fixture(scope="module")
def order(tiny_sets: dict[str, Path]) -> list[str]:
    """The one order: snippet keys of the first four epochs, asked for without decoding."""
    return open_stream(tiny_sets).keys(range(4 * EPOCH_SIZE))


def keys_of_ranks(streams: list[SnippetStream]) -> list[str]:
    """Runs one iteration on every rank and puts the global batches together."""
    per_rank = []
    for stream in streams:
        expected = len(stream)
        with stream:
            per_rank.append([batch.keys for batch in stream])
        assert len(per_rank[-1]) == expected
    assert len({len(batches) for batches in per_rank}) == 1
    return [key for batches in zip(*per_rank, strict=True) for keys in batches for key in keys]


@pytest.mark.parametrize("num_ranks", RANKS)
def test_ranks_threads_and_batch_size_never_change_the_order(
    tiny_sets: dict[str, Path], order: list[str], num_ranks: int
) -> None:
    for threads, batch in itertools.product(THREADS, BATCHES):
        streams = [
            open_stream(tiny_sets, rank=rank, num_ranks=num_ranks, threads=threads, batch=batch)
            for rank in range(num_ranks)
        ]
        keys = keys_of_ranks(streams)
        assert keys == order[: len(keys)]
        assert EPOCH_SIZE <= len(keys) < EPOCH_SIZE + num_ranks * batch


def test_resuming_at_every_position_of_an_epoch_gives_the_rest_of_the_order(
    tiny_sets: dict[str, Path], order: list[str]
) -> None:
    with open_stream(tiny_sets) as stream:  # batches of 1 stop at every position
        states = [json.loads(json.dumps(stream.state_dict())) for _ in stream]
    assert [state["position"] for state in states] == [*range(1, EPOCH_SIZE), 0]
    worlds = itertools.cycle(itertools.product((1, 2, 3, 8), (1, 2, 3), (1, 2, 5)))
    for state, (num_ranks, threads, batch) in zip(states, worlds, strict=False):
        start = state["epoch"] * EPOCH_SIZE + state["position"]
        streams = [
            open_stream(tiny_sets, rank=rank, num_ranks=num_ranks, threads=threads, batch=batch)
            for rank in range(num_ranks)
        ]
        for stream in streams:
            stream.load_state_dict(state)
        keys = keys_of_ranks(streams)
        assert keys == order[start : start + len(keys)]
        assert start + len(keys) >= (state["epoch"] + 1) * EPOCH_SIZE
        assert {(stream.epoch, stream.position) for stream in streams} == {divmod(start + len(keys), EPOCH_SIZE)}


def test_resuming_gives_the_same_pixels(tiny_sets: dict[str, Path]) -> None:
    with open_stream(tiny_sets, batch=2, flip=True) as stream:
        batches = iter(stream)
        for _ in range(4):
            next(batches)
        state = stream.state_dict()
        rest = list(batches)
    with open_stream(tiny_sets, batch=2, flip=True, threads=3) as resumed:
        resumed.load_state_dict(state)
        for ours, theirs in zip(resumed, rest, strict=True):
            assert (ours.keys, ours.epoch, ours.position) == (theirs.keys, theirs.epoch, theirs.position)
            assert torch.equal(ours.frames, theirs.frames)
            assert torch.equal(ours.masks, theirs.masks)
            assert torch.equal(ours.annotated, theirs.annotated)


def test_a_loop_left_early_goes_on_where_it_was(tiny_sets: dict[str, Path], order: list[str]) -> None:
    with open_stream(tiny_sets, batch=3) as stream:
        seen = []
        for batch in stream:
            seen += batch.keys
            if len(seen) == 9:
                break
        for batch in stream:
            seen += batch.keys
        for batch in stream:  # the next epoch
            seen += batch.keys
    assert seen == order[: len(seen)]
    assert len(seen) == 3 * math.ceil(2 * EPOCH_SIZE / 3)


def test_a_batch_knows_its_place(tiny_sets: dict[str, Path]) -> None:
    with open_stream(tiny_sets, rank=1, num_ranks=2, batch=3) as stream:
        places = [(batch.epoch, batch.position) for batch in itertools.chain(stream, stream)]
    expected = [divmod(start + 3, EPOCH_SIZE) for start in range(0, 6 * len(places), 6)]
    assert places == expected


def test_each_set_stays_within_one_of_its_weight(tiny_sets: dict[str, Path]) -> None:
    stream = open_stream(tiny_sets)
    weights = {"alpha": Fraction(5, 10), "beta": Fraction(3, 10), "gamma": Fraction(2, 10)}
    counts = Counter[str]()
    for number, key in enumerate(stream.keys(range(300)), start=1):
        counts[key.split("/")[0]] += 1
        assert all(abs(counts[name] - number * weight) < 1 for name, weight in weights.items())


def test_every_pass_over_a_set_draws_each_eligible_record_once(tiny_sets: dict[str, Path]) -> None:
    stream = open_stream(tiny_sets)
    drawn: dict[str, list[str]] = {"alpha": [], "beta": [], "gamma": []}
    for position in range(10 * EPOCH_SIZE):
        snippet = stream.snippet(position)
        drawn[snippet.set_name].append(snippet.sequence)
    for name, num_eligible in (("alpha", 5), ("beta", 3), ("gamma", 3)):
        whole = len(drawn[name]) // num_eligible * num_eligible
        passes = [drawn[name][start : start + num_eligible] for start in range(0, whole, num_eligible)]
        assert len(passes) > 10
        assert {len(set(one)) for one in passes} == {num_eligible}
        assert len({tuple(one) for one in passes}) > 3  # and in another order


def test_a_list_of_sets_draws_every_record_equally_often(tiny_sets: dict[str, Path]) -> None:
    with SnippetStream(list(tiny_sets.values()), snippet=4, size=(24, 40), batch=1) as stream:
        assert stream.epoch_size == 5 + 3 + 3
        for epoch in range(3):
            positions = range(epoch * 11, (epoch + 1) * 11)
            drawn = [stream.snippet(position) for position in positions]
            assert len({(snippet.set_name, snippet.record) for snippet in drawn}) == 11


def agreement(one: list[str], other: list[str]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def test_neighbouring_seeds_and_epochs_share_no_draws(tiny_sets: dict[str, Path]) -> None:
    length, epochs = 120, 3
    orders = {
        (seed, epoch): SnippetStream(tiny_sets["alpha"], snippet=4, seed=seed, epoch_size=length).keys(
            range(epoch * length, (epoch + 1) * length)
        )
        for seed in range(4)
        for epoch in range(epochs)
    }
    # about 5 records x 5 starts x 2 objects: unrelated orders agree at 2 to 3 % of the positions
    for one, other in itertools.combinations(orders.values(), 2):
        assert agreement(one, other) < 0.15
        assert agreement(one[1:], other[:-1]) < 0.15


def test_the_seed_decides_the_order_and_nothing_else(tiny_sets: dict[str, Path], order: list[str]) -> None:
    assert open_stream(tiny_sets).keys(range(EPOCH_SIZE)) == order[:EPOCH_SIZE]
    assert open_stream(tiny_sets, seed=8).keys(range(EPOCH_SIZE)) != order[:EPOCH_SIZE]
    torch.manual_seed(3)
    assert open_stream(tiny_sets, flip=True).keys(range(EPOCH_SIZE)) == order[:EPOCH_SIZE]


def test_without_shuffling_records_come_in_stored_order(tiny_sets: dict[str, Path]) -> None:
    stream = SnippetStream(tiny_sets["alpha"], snippet=4, shuffle=False)
    shard_set = ShardSet(tiny_sets["alpha"])
    names = [shard_set.entry(record).sequence for record in range(5)]
    assert stream.keys(range(10)) == [f"alpha/{name}[3-6]#1" for name in names] * 2


# Pixels


def members(folder: Path) -> dict[str, bytes]:
    """All members of a shard set, read by tarfile alone."""
    result = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                result[member.name] = file.read()
    return result


def read_independently(tar: dict[str, bytes], snippet: Snippet) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """Frames and raw masks of a snippet through tarfile and Pillow."""
    name = next(k for k, v in tar.items() if k.endswith(".json") and json.loads(v)["sequence"] == snippet.sequence)
    key = name.removesuffix(".json")
    frames, masks = [], []
    for number in snippet.frame_numbers:
        frames.append(np.asarray(Image.open(BytesIO(tar[f"{key}.frame{number:05d}.jpg"])).convert("RGB")))
        mask = tar.get(f"{key}.mask{number:05d}.png")
        masks.append(None if mask is None else np.asarray(Image.open(BytesIO(mask))))
    return np.stack(frames), masks


@pytest.mark.parametrize("objects", ["one", "all"])
@pytest.mark.parametrize("name", ["alpha", "gamma", "beta"])
def test_the_batch_holds_what_pillow_reads_from_the_tar(tiny_sets: dict[str, Path], name: str, objects: Any) -> None:
    tar = members(tiny_sets[name])
    void = 0
    with SnippetStream(tiny_sets[name], snippet=4, batch=3, objects=objects, epoch_size=12) as stream:
        for batch in stream:
            for place, key in enumerate(batch.keys):
                snippet = stream.snippet(batch.position + place)
                assert key == snippet.key
                frames, masks = read_independently(tar, snippet)
                assert np.array_equal(batch.frames[place].permute(0, 2, 3, 1).numpy(), frames)
                for t, mask in enumerate(masks):
                    ours = batch.masks[place, t].numpy()
                    assert bool(batch.annotated[place, t]) == (mask is not None)
                    if mask is None:
                        assert np.all(ours == 255)
                        continue
                    void += int((mask == 255).sum())
                    wanted = mask
                    if objects == "one":
                        wanted = np.where(mask == 255, 255, mask == snippet.objects[0])
                    assert np.array_equal(ours, wanted)
    assert (void > 0) == (name == "alpha")


@pytest.mark.parametrize(
    "options",
    [
        {"objects": 2, "later": "void"},
        {"objects": 2, "later": "given", "gap": 2},
        {"objects": "all", "later": "void", "reverse": 1.0},
        {"objects": "all", "later": "background", "gap": (1, 2), "reverse": 0.5},
        {"objects": "one", "later": "void"},
    ],
)
def test_objects_gaps_and_directions_arrive_as_pixels(tiny_sets: dict[str, Path], options: dict[str, Any]) -> None:
    tar = members(tiny_sets["beta"])
    shown = Counter[int]()
    settings: dict[str, Any] = {"snippet": 4, "batch": 3, "epoch_size": 30, "seed": 3, "engine": "threads", **options}
    with SnippetStream(tiny_sets["beta"], **settings) as stream:
        for batch in stream:
            for place in range(len(batch)):
                snippet = stream.snippet(batch.position + place)
                frames, masks = read_independently(tar, snippet)
                assert np.array_equal(batch.frames[place].permute(0, 2, 3, 1).numpy(), frames)
                for ours, mask in zip(batch.masks[place].numpy(), masks, strict=True):
                    wanted = np.full_like(ours, 255 if mask is None else 0)
                    for number, object_id in enumerate(snippet.objects, start=1):
                        wanted[mask == object_id] = object_id if options["objects"] == "all" else number
                    for object_id in snippet.void_objects:
                        wanted[mask == object_id] = 255
                    assert np.array_equal(ours, wanted)
                shown[len(snippet.objects)] += 1
                shown[-1] += len(snippet.void_objects)
    assert (shown[-1] > 0) == (options["later"] == "void" and options.get("reverse", 0) == 0)
    assert shown[2] > 0 or options["objects"] == "one"


def test_pictures_in_a_shard_take_the_fast_decoder(tiny_sets: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(data: Any) -> None:
        raise AssertionError("decoded the slow way")

    monkeypatch.setattr("shards.codec._decode_rare_jpeg", fail)
    with SnippetStream(tiny_sets["alpha"], snippet=4, engine="threads") as stream:
        assert len(next(iter(stream)).keys) == 4


def test_frames_of_another_size_are_resized_with_their_masks(tiny_sets: dict[str, Path]) -> None:
    tar = members(tiny_sets["beta"])
    with SnippetStream(
        tiny_sets["beta"], snippet=4, size=(12, 20), batch=3, objects="all", min_object_pixels=5
    ) as stream:
        batch = next(iter(stream))
    assert batch.frames.shape == (3, 4, 3, 12, 20)
    for place in range(3):
        frames, masks = read_independently(tar, stream.snippet(place))
        for t in range(4):
            small = Image.fromarray(frames[t]).resize((20, 12), Image.Resampling.BOX)
            difference = batch.frames[place, t].permute(1, 2, 0).numpy().astype(int) - np.asarray(small)
            assert np.abs(difference).max() <= 1
            mask = masks[t]
            if mask is not None:
                wanted = Image.fromarray(mask).resize((20, 12), Image.Resampling.NEAREST)
                assert np.array_equal(batch.masks[place, t].numpy(), np.asarray(wanted))


def test_flip_mirrors_about_half_of_the_snippets_whole(tiny_sets: dict[str, Path]) -> None:
    num_flipped = 0
    with open_stream(tiny_sets, flip=True, epoch_size=60) as flipped, open_stream(tiny_sets, epoch_size=60) as plain:
        for ours, theirs in zip(flipped, plain, strict=True):
            mirrored = torch.equal(ours.frames, theirs.frames.flip(-1))
            assert mirrored or torch.equal(ours.frames, theirs.frames)
            assert torch.equal(ours.masks, theirs.masks.flip(-1) if mirrored else theirs.masks)
            num_flipped += mirrored
    assert 15 < num_flipped < 45  # 30 expected; beyond has a probability of about 1e-4


def test_augmentation_depends_on_the_position_alone(tiny_sets: dict[str, Path]) -> None:
    import os

    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    pipeline = albumentations.Affine(rotate=(-20, 20), p=1)

    def run(**options: Any) -> list[SnippetBatch]:
        with open_stream(tiny_sets, augment=pipeline, epoch_size=12, **options) as stream:
            return list(stream)

    one, other = run(batch=1, threads=1), run(batch=4, threads=3)
    frames, masks = (torch.cat([getattr(batch, name) for batch in one]) for name in ("frames", "masks"))
    assert torch.equal(frames, torch.cat([batch.frames for batch in other]))
    assert torch.equal(masks, torch.cat([batch.masks for batch in other]))
    annotated = torch.cat([batch.annotated for batch in one])
    assert torch.all(masks[~annotated] == 255)
    with open_stream(tiny_sets, epoch_size=12) as plain:
        assert not torch.equal(frames, torch.cat([batch.frames for batch in plain]))
    with pytest.raises(ValueError, match="augment"):
        open_stream(tiny_sets, epoch_size=12).load_state_dict(
            open_stream(tiny_sets, epoch_size=12, augment=pipeline).state_dict()
        )


# Memory


def test_a_batch_that_is_kept_never_changes(tiny_sets: dict[str, Path]) -> None:
    with open_stream(tiny_sets, batch=2, threads=3) as stream:
        kept, copies = [], []
        for batch in stream:
            kept.append(batch.frames[1, 2])  # a view is enough to keep the memory
            copies.append(kept[-1].clone())
            del batch
        for _ in stream:
            pass
    assert all(torch.equal(view, copy) for view, copy in zip(kept, copies, strict=True))


def test_memory_of_batches_that_were_let_go_is_used_again(tiny_sets: dict[str, Path]) -> None:
    with open_stream(tiny_sets, batch=2, prefetch=2, epoch_size=80) as stream:
        addresses = Counter(batch.frames.data_ptr() for batch in stream)
    assert sum(addresses.values()) == 40
    assert len(addresses) <= 5


def test_frames_lie_in_memory_as_they_were_decoded(tiny_sets: dict[str, Path]) -> None:
    with open_stream(tiny_sets, batch=2) as stream:
        frames = next(iter(stream)).frames
    assert frames.permute(0, 1, 3, 4, 2).is_contiguous()
    flat = frames.flatten(0, 1)
    assert flat.data_ptr() == frames.data_ptr()
    assert flat.is_contiguous(memory_format=torch.channels_last)


# Threads and errors


def decode_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("vosdata-decode")]


def wait_until_no_thread_is_left() -> None:
    deadline = time.monotonic() + 5
    while decode_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert decode_threads() == []


def test_no_thread_is_left_after_close(tiny_sets: dict[str, Path]) -> None:
    stream = open_stream(tiny_sets, threads=4, batch=2)
    next(iter(stream))
    assert len(decode_threads()) == 4
    stream.close()
    assert decode_threads() == []
    stream.close()


def test_no_thread_is_left_when_the_stream_is_dropped(tiny_sets: dict[str, Path]) -> None:
    stream = open_stream(tiny_sets, threads=2)
    next(iter(stream))
    del stream
    gc.collect()
    wait_until_no_thread_is_left()


@pytest.mark.parametrize("engine", ["threads", "process"])
def test_a_program_that_never_closes_its_stream_ends(tiny_sets: dict[str, Path], engine: str) -> None:
    """While all threads are busy in C++, which aborts the process if the interpreter ends meanwhile."""
    code = (
        "import sys; from vosdata.stream import SnippetStream\n"
        "stream = SnippetStream(sys.argv[1], snippet=4, size=(480, 864), threads=4, prefetch=16, engine=sys.argv[2])\n"
        "print(next(iter(stream)).keys[0])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tiny_sets["gamma"]), engine],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("gamma/")


@pytest.fixture
def damaged(tiny_sets: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of gamma in which one picture of one record has a flipped bit."""
    folder = shutil.copytree(tiny_sets["gamma"], tmp_path / "gamma")
    shard_set = ShardSet(folder)
    entry = shard_set.entry(1)
    path = sorted(folder.glob("*.tar"))[entry.shard]
    content = bytearray(path.read_bytes())
    content[int(entry.image_offsets[3]) + 200] ^= 4
    path.write_bytes(content)
    return folder


@pytest.mark.parametrize("engine", ["threads", "process"])
def test_damage_reaches_the_consumer_with_the_snippet_key_and_again_after_a_retry(damaged: Path, engine: Any) -> None:
    stream = SnippetStream(damaged, snippet=8, batch=1, shuffle=False, threads=3, engine=engine)
    sequence = ShardSet(damaged).entry(1).sequence
    seen = []
    for _ in range(2):
        with pytest.raises(
            DamageError, match=rf"frame00003.*CRC32C.*snippet gamma/{sequence}\[0-7\]#7 at position 1\)"
        ):
            for batch in stream:
                seen += batch.keys
        assert decode_threads() == []
    assert seen == stream.keys(range(1))  # what came before the damage was handed over, once
    assert stream.position == 1


def replacing(folder: Path, **options: Any) -> SnippetStream:
    return SnippetStream(folder, snippet=4, seed=3, on_damage="replace", **options)


def test_a_stand_in_takes_the_place_of_a_damaged_snippet_and_says_why(damaged: Path) -> None:
    intact = ShardSet(damaged).entry(1)
    found, asked = [], []
    with replacing(damaged, batch=1, engine="threads") as stream:
        for _ in range(8):
            for batch in stream:
                (key,) = stream.keys(stream.positions(batch))
                asked.append(key)
                found.append((batch.keys[0], batch.problems))
    broken = [place for place, (_, problems) in enumerate(found) if problems]
    assert broken
    for place, (key, problems) in enumerate(found):
        if place in broken:
            assert key != asked[place]
            assert f"/{intact.sequence}[" in asked[place]
            assert "CRC32C" in problems[0] and asked[place] in problems[0]
        else:
            assert key == asked[place]


@pytest.mark.parametrize("engine", ["threads", "process"])
def test_stand_ins_are_the_same_for_any_ranks_batches_and_after_resuming(damaged: Path, engine: Any) -> None:
    def snippets(streams: list[SnippetStream], epochs: int) -> dict[int, tuple[str, str, bytes]]:
        found = {}
        for stream in streams:
            with stream:
                for _ in range(epochs):
                    for batch in stream:
                        for place, position in enumerate(stream.positions(batch)):
                            why = batch.problems.get(place, "")
                            found[position] = batch.keys[place], why, batch.frames[place].numpy().tobytes()
        return found

    size = {"epoch_size": 12, "engine": engine}
    one = snippets([replacing(damaged, batch=1, threads=1, **size)], 2)
    assert any(why for _, why, _ in one.values())
    ranks = [replacing(damaged, batch=3, rank=rank, num_ranks=2, threads=2, **size) for rank in range(2)]
    assert snippets(ranks, 2) == one
    later = replacing(damaged, batch=2, **size)
    later.load_state_dict({**later.state_dict(), "position": 6})
    rest = snippets([later], 1)
    assert rest == {position: one[position] for position in rest}


def test_damage_everywhere_is_an_error_even_when_it_may_be_replaced(tiny_sets: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_sets["gamma"], tmp_path / "gamma")
    for path in folder.glob("*.tar"):
        path.write_bytes(bytes(len(path.read_bytes())))
    with replacing(folder, batch=1, engine="threads") as stream, pytest.raises(DamageError, match="position 0"):
        next(iter(stream))


class SlowFiller:
    """Takes its time, longer for even positions; fails where told; remembers what was begun."""

    def __init__(self, begun: list[int], failing: tuple[int, ...] = ()) -> None:
        self.begun = begun
        self.failing = failing

    def fill(self, position: int, frames: np.ndarray, masks: np.ndarray, annotated: np.ndarray) -> Filled:
        self.begun.append(position)
        time.sleep(0.004 if position % 2 == 0 else 0)
        if position in self.failing:
            raise KeyError(position)
        frames[:] = position
        return Filled(str(position))


def test_batches_arrive_in_order_however_long_each_takes() -> None:
    begun: list[int] = []
    schedule = Schedule(10, 3, 1, 2)
    with ThreadEngine([SlowFiller(begun) for _ in range(4)], (3, 1, 2, 2), schedule, 3) as engine:
        for step in range(8):
            batch = engine.next_batch()
            first = 10 + 6 * step + 3
            assert batch.keys == [str(first), str(first + 1), str(first + 2)]
            assert batch.frames[:, 0, 0, 0, 0].tolist() == [first, first + 1, first + 2]


@pytest.mark.parametrize("prefetch", [1, 2, 4])
def test_no_more_batches_are_begun_than_may_be(prefetch: int) -> None:
    begun: list[int] = []
    with ThreadEngine([SlowFiller(begun) for _ in range(3)], (2, 1, 1, 1), Schedule(0, 2, 0, 1), prefetch) as engine:
        for step in range(5):
            time.sleep(0.05)
            assert sorted(begun) == list(range(2 * (step + prefetch)))
            engine.next_batch()


def test_the_first_failing_place_of_a_batch_is_raised_after_the_batches_before_it() -> None:
    fillers = [SlowFiller([], failing=(4, 5)) for _ in range(3)]
    with ThreadEngine(fillers, (2, 1, 1, 1), Schedule(0, 2, 0, 1), 4) as engine:
        assert engine.next_batch().keys == ["0", "1"]
        assert engine.next_batch().keys == ["2", "3"]
        with pytest.raises(KeyError, match="4"):
            engine.next_batch()
        assert engine.next_batch().keys == ["6", "7"]
    with pytest.raises(ValueError, match="closed"):
        engine.next_batch()


def test_an_unforeseen_failure_says_which_snippet_it_was(
    tiny_sets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(ShardSet, "decode", fail)
    with open_stream(tiny_sets) as stream, pytest.raises(MemoryError) as caught:
        next(iter(stream))
    assert stream.keys([0])[0] in caught.value.__notes__[0]


# State


def test_state_is_small_json(tiny_sets: dict[str, Path]) -> None:
    state = open_stream(tiny_sets).state_dict()
    assert len(json.dumps(state)) < 1024
    assert (state["epoch"], state["position"], state["seed"]) == (0, 0, 7)


def test_state_is_the_same_on_all_ranks(tiny_sets: dict[str, Path]) -> None:
    states = []
    for rank in range(3):
        with open_stream(tiny_sets, rank=rank, num_ranks=3, batch=2) as stream:
            next(iter(stream))
            states.append(stream.state_dict())
    assert states[0] == states[1] == states[2]
    assert states[0]["position"] == 6


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"seed": 8}, "seed was 7, here it is 8"),
        ({"snippet": 5}, "snippet was 4, here it is 5"),
        ({"size": (24, 42)}, "size was"),
        ({"epoch_size": 24}, "epoch_size was 23, here it is 24"),
        ({"objects": "all"}, "objects was"),
        ({"flip": True}, "flip was False, here it is True"),
        ({"shuffle": False}, "shuffle was"),
        ({"min_object_pixels": 26}, "min_object_pixels was"),
    ],
)
def test_a_state_of_another_order_is_refused_with_the_difference(
    tiny_sets: dict[str, Path], options: dict[str, Any], named: str
) -> None:
    state = open_stream(tiny_sets).state_dict()
    with pytest.raises(ValueError, match=named):
        open_stream(tiny_sets, **options).load_state_dict(state)


def test_a_state_of_other_sets_or_weights_is_refused(tiny_sets: dict[str, Path]) -> None:
    settings: dict[str, Any] = {"snippet": 4, "size": (24, 40), "epoch_size": 10}
    alpha, beta, gamma = (tiny_sets[name] for name in ("alpha", "beta", "gamma"))
    state = SnippetStream({alpha: 0.5, beta: 0.5}, **settings).state_dict()
    SnippetStream({alpha: 3, beta: 3}, **settings).load_state_dict(state)  # the same proportion
    for other, named in (({alpha: 0.5, gamma: 0.5}, "gamma/train"), ({alpha: 0.6, beta: 0.4}, "weight 3/5")):
        with pytest.raises(ValueError, match=f"shard sets were .*beta/train .*weight 1/2.*here they are .*{named}"):
            SnippetStream(other, **settings).load_state_dict(state)


@pytest.mark.parametrize(
    "change", [{"position": EPOCH_SIZE}, {"position": -1}, {"epoch": -1}, {"epoch": "x"}, {"more": 1}]
)
def test_a_broken_state_is_refused(tiny_sets: dict[str, Path], change: dict[str, Any]) -> None:
    stream = open_stream(tiny_sets)
    with pytest.raises(ValueError, match="state belongs to another stream"):
        stream.load_state_dict({**stream.state_dict(), **change})


def test_moving_a_shard_set_keeps_its_state_valid(tiny_sets: dict[str, Path], tmp_path: Path) -> None:
    state = SnippetStream(tiny_sets["alpha"], snippet=4).state_dict()
    moved = shutil.copytree(tiny_sets["alpha"], tmp_path / "elsewhere")
    SnippetStream(moved, snippet=4).load_state_dict(state)


def test_far_positions_cost_no_more_than_near_ones(tiny_sets: dict[str, Path]) -> None:
    stream = open_stream(tiny_sets, engine="threads")
    start = time.process_time()
    stream.load_state_dict({**stream.state_dict(), "epoch": 10**9, "position": 5})
    with stream:
        batch = next(iter(stream))
    assert time.process_time() - start < 1
    assert (batch.epoch, batch.position) == (10**9, 5)


def test_streams_pickle_with_their_place(tiny_sets: dict[str, Path], order: list[str]) -> None:
    with open_stream(tiny_sets, batch=2) as stream:
        next(iter(stream))
        copy = pickle.loads(pickle.dumps(stream))
    with copy:
        assert next(iter(copy)).keys == order[2:4]


# Calls


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch must be at least 1"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"prefetch": 0}, "prefetch must be at least 1"),
        ({"rank": 2, "num_ranks": 2}, "rank must lie in"),
        ({"epoch_size": 0}, "epoch_size must be at least 1"),
        ({"seed": -1}, "seed must lie in"),
        ({"snippet": 0}, "at least 1 frame"),
        ({"size": None}, "give size"),
    ],
)
def test_wrong_calls_are_refused(tiny_sets: dict[str, Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_stream(tiny_sets, **options)


@pytest.mark.parametrize("sets", [[], {}])
def test_no_set_is_refused(sets: Any) -> None:
    with pytest.raises(ValueError, match="at least one shard set"):
        SnippetStream(sets)


def test_a_folder_that_is_no_shard_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=str(tmp_path)):
        SnippetStream(tmp_path)
    with pytest.raises(TypeError, match="named by path"):
        SnippetStream([3])  # type: ignore[list-item]


def test_a_set_too_short_for_the_snippet_is_named(tiny_sets: dict[str, Path]) -> None:
    with pytest.raises(ShardError, match="gamma has no eligible snippet: a snippet takes 9 frames"):
        open_stream(tiny_sets, snippet=9)


def test_batches_move_to_a_device_and_check_their_shapes(tiny_sets: dict[str, Path]) -> None:
    with open_stream(tiny_sets, batch=2) as stream:
        batch = next(iter(stream))
    moved = batch.to("meta")
    assert {tensor.device.type for tensor in (moved.frames, moved.masks, moved.annotated)} == {"meta"}
    assert (moved.keys, len(moved)) == (batch.keys, 2)
    assert "2 snippets of 4 frames of 24x40" in repr(batch)
    with pytest.raises(ValueError, match="masks must be"):
        SnippetBatch(batch.frames, batch.masks[:1], batch.annotated, batch.keys, 0, 0)
    with pytest.raises(ValueError, match="expected 2 keys"):
        SnippetBatch(batch.frames, batch.masks, batch.annotated, [], 0, 0)


def test_order_and_engine_need_no_torch() -> None:
    modules = ", ".join(f"vosdata.streaming.{name}" for name in ("decode", "helper_process", "mix"))
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
