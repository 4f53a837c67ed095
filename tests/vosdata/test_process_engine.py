"""The helper process gives the batches of the threads, whatever the trainer does, and leaves nothing behind."""

import gc
import mmap
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shards.codec import encode_jpeg
from shards.errors import HelperError
from shards.types import Record, StoredFrame
from vosdata.stream import SnippetStream
from vosdata.streaming import process_engine
from vosdata.streaming.engine import Filler, Schedule, ThreadEngine
from vosdata.streaming.process_engine import ProcessEngine

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="helper processes need Linux")

FILLER = """
import mmap, os, sys, time
from vosdata.streaming.engine import Filled

class Filler:
    '''Writes the position; does what its words say at one position.'''
    def __init__(self, at=-1, what=''):
        self.at, self.what = at, what
    def fill(self, position, frames, masks, annotated):
        if self.at in (position, None):
            exec(self.what)
        frames[:] = position % 256
        masks[:] = (position + 1) % 256
        annotated[:] = position % 2
        return Filled(f'key "{position}"')

class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one + two)
"""


@pytest.fixture
def make_filler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Filler]]:
    """Makes fillers of a module that lies in a folder of its own."""
    (tmp_path / "toy_filler.py").write_text(FILLER)
    monkeypatch.syspath_prepend(tmp_path)
    import toy_filler  # type: ignore[import-not-found]

    yield toy_filler.Filler
    del sys.modules["toy_filler"]


def start(fillers: Sequence[Filler], prefetch: int = 2, pinning: Any = None) -> ProcessEngine:
    return ProcessEngine(fillers, (2, 1, 2, 2), Schedule(10, 2, 0, 1), prefetch, pinning)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def wait_until_gone(pid: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(pid)


def num_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def rings() -> int:
    gc.collect()
    return Path("/proc/self/maps").read_text().count("vosdata-ring")


# Batches


def test_process_and_threads_give_the_same_batches_bit_for_bit(tiny_sets: dict[str, Path]) -> None:
    def open_stream(engine: Any, threads: int) -> SnippetStream:
        weights = {tiny_sets["alpha"]: 0.5, tiny_sets["beta"]: 0.3, tiny_sets["gamma"]: 0.2}
        return SnippetStream(
            weights, snippet=4, size=(24, 40), seed=7, epoch_size=23, batch=3, flip=True, engine=engine, threads=threads
        )

    with open_stream("process", 3) as ours, open_stream("threads", 1) as theirs:
        for _ in range(3):  # epochs
            for our, their in zip(ours, theirs, strict=True):
                assert (our.keys, our.epoch, our.position) == (their.keys, their.epoch, their.position)
                assert torch.equal(our.frames, their.frames)
                assert torch.equal(our.masks, their.masks)
                assert torch.equal(our.annotated, their.annotated)
        assert ours.helper_pid is not None
        assert theirs.helper_pid is None


def test_augmentation_runs_in_the_helper_as_it_does_here(tiny_sets: dict[str, Path]) -> None:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    def run(engine: Any) -> list[torch.Tensor]:
        pipeline = albumentations.Affine(rotate=(-20, 20), p=1)
        with SnippetStream(tiny_sets["alpha"], snippet=4, augment=pipeline, epoch_size=8, engine=engine) as stream:
            return [batch.frames for batch in stream]

    assert all(torch.equal(*pair) for pair in zip(run("process"), run("threads"), strict=True))


def test_a_stream_resumes_in_the_helper_that_is_there(tiny_sets: dict[str, Path]) -> None:
    with SnippetStream(tiny_sets["alpha"], snippet=4, batch=2, epoch_size=9, engine="process") as stream:
        batches = iter(stream)
        next(batches)
        state = stream.state_dict()
        rest = [(batch.keys, batch.frames.clone()) for batch in batches]
        kept = next(iter(stream)).frames[0]
        copy, pid = kept.clone(), stream.helper_pid
        stream.load_state_dict(state)
        for batch, (keys, frames) in zip(stream, rest, strict=True):
            assert batch.keys == keys
            assert torch.equal(batch.frames, frames)
        assert torch.equal(kept, copy)
        assert stream.helper_pid == pid


def test_jumping_about_takes_no_new_process_and_loses_no_slot(make_filler: Callable[..., Filler]) -> None:
    with start([make_filler()] * 3) as engine:
        for first in (5, 10**9, 7):
            for _ in range(9):
                engine.next_batch()
            engine.restart([make_filler(first + 3, "raise KeyError(position)")], Schedule(first, 2, 0, 1))
            assert engine.next_batch().masks[:, 0, 0, 0].tolist() == [(first + 1) % 256, (first + 2) % 256]
            with pytest.raises(KeyError):
                engine.next_batch()
        assert len({engine.next_batch().frames.ctypes.data for _ in range(60)}) <= 5


def test_frames_are_channels_last_in_shared_memory(tiny_sets: dict[str, Path]) -> None:
    with SnippetStream(tiny_sets["gamma"], snippet=4, batch=2, engine="process") as stream:
        frames = next(iter(stream)).frames
    flat = frames.flatten(0, 1)
    assert flat.data_ptr() == frames.data_ptr()
    assert flat.is_contiguous(memory_format=torch.channels_last)


def test_slots_are_lent_and_kept_batches_never_change(make_filler: Callable[..., Filler]) -> None:
    with start([make_filler(), make_filler()]) as engine:
        kept = [engine.next_batch() for _ in range(12)]  # the ring has 5 slots, 3 of them to lend
        addresses = [batch.frames.ctypes.data for batch in kept]
        assert len(set(addresses)) == 12
        for step, batch in enumerate(kept):
            first = 10 + 2 * step
            assert batch.positions == range(first, first + 2)
            assert batch.keys == [f'key "{first}"', f'key "{first + 1}"']
            assert batch.frames[:, 0, 0, 0, 0].tolist() == [first, first + 1]
            assert batch.masks[:, 0, 1, 1].tolist() == [first + 1, first + 2]
            assert batch.annotated[:, 0].tolist() == [False, True]
        view = kept[0].frames[1, 0, 0]  # enough to keep a slot
        del kept, batch
        for _ in range(20):
            engine.next_batch()
        assert np.all(view == 11)


def test_batches_that_are_let_go_use_no_other_memory(make_filler: Callable[..., Filler]) -> None:
    with start([make_filler()]) as engine:
        addresses = Counter(engine.next_batch().frames.ctypes.data for _ in range(60))
    assert len(addresses) <= 5


def test_batches_outlive_their_engine(make_filler: Callable[..., Filler]) -> None:
    before = rings()
    with start([make_filler()]) as engine:
        batch = engine.next_batch()
    assert batch.frames[:, 0, 0, 0, 0].tolist() == [10, 11]
    assert rings() == before + 1
    del engine, batch
    gc.collect()
    assert rings() == before


class Fences:
    """Pins nothing; writes down what it is asked."""

    def __init__(self) -> None:
        self.registered: list[int] = []
        self.log: list[str] = []

    def register(self, memory: np.ndarray) -> None:
        self.registered.append(memory.nbytes)

    def fence(self) -> Callable[[], object]:
        self.log.append("let go")
        return lambda: self.log.append("waited")


def test_a_slot_is_filled_again_only_after_the_device_has_read_it(make_filler: Callable[..., Filler]) -> None:
    fences = Fences()
    with start([make_filler()], pinning=fences) as engine:
        assert fences.registered == [5 * 4096]
        for _ in range(3):  # the three slots that were never lent need no fence
            engine.next_batch()
        assert fences.log == ["let go"] * 3
        engine.next_batch()
        assert fences.log == ["let go"] * 3 + ["waited", "let go"]


# Speed


@pytest.fixture(scope="module")
def large_set(
    tmp_path_factory: pytest.TempPathFactory, build_tiny_set: Callable[[Path, str, Sequence[Record]], Path]
) -> Path:
    """Two records of 8 frames of 240x432."""
    rng = np.random.default_rng(0)
    mask = np.zeros((240, 432), np.uint8)
    mask[50:150, 100:300] = 1
    records = []
    for name in ("one", "two"):
        coarse = rng.integers(0, 256, (8, 60, 108, 3), np.uint8).repeat(4, 1).repeat(4, 2)
        frames = tuple(StoredFrame(number, encode_jpeg(rgb), mask) for number, rgb in enumerate(coarse))
        records.append(Record(name, frames, 240, 432, source="noise"))
    return build_tiny_set(tmp_path_factory.mktemp("large"), "large", records)


WAIT_AND_MARK = """
with open({path!r}, "r+b") as file, mmap.mmap(file.fileno(), 0) as marks:
    while not marks[GATE]:
        time.sleep(0.001)
    marks[position - 10] = 1
"""
GATE = 4
"""Behind the marks of two batches of two."""


def num_filled_meanwhile(marks: mmap.mmap, seconds: float) -> int:
    """How many places are filled, of two batches, during Python work that never gives up the interpreter lock."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)
    time.sleep(0.05)  # who waits for the lock by now waits by the old interval
    try:
        marks[GATE] = 1
        end = time.perf_counter() + seconds
        while sum(marks[:GATE]) < GATE and time.perf_counter() < end:
            pass
        return sum(marks[:GATE])
    finally:
        sys.setswitchinterval(interval)


def test_a_busy_main_thread_does_not_hold_up_the_helper(make_filler: Callable[..., Filler], tmp_path: Path) -> None:
    path = tmp_path / "marks"
    filler = make_filler(None, WAIT_AND_MARK.replace("GATE", str(GATE)).format(path=str(path)))
    path.write_bytes(bytes(GATE + 1))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as marks:
        with start([filler]):
            assert num_filled_meanwhile(marks, 30) == GATE
        marks[:] = bytes(GATE + 1)
        with ThreadEngine([filler], (2, 1, 2, 2), Schedule(10, 2, 0, 1), 2):
            assert num_filled_meanwhile(marks, 0.3) == 0


def test_no_page_is_fresh_at_steady_state_and_memory_is_bounded(large_set: Path) -> None:
    def faults(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[7])

    def kilobytes(pid: int, field: str) -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(field + ":")).split()[1])

    with SnippetStream(large_set, threads=2, epoch_size=10**6, engine="process") as stream:
        batches = iter(stream)
        for _ in range(10):
            next(batches)
        pid = stream.helper_pid
        assert pid is not None
        before = faults(pid), faults(os.getpid())
        for _ in range(10):
            next(batches)
        ours, trainers = faults(pid) - before[0], faults(os.getpid()) - before[1]
        assert ours < 10 * 4 * 8
        assert trainers < 10 * 4 * 8
        # Its own memory; how many pages of shared libraries are mapped (RssFile, 75 MB here) is the kernel's choice.
        assert kilobytes(pid, "RssAnon") < 100_000


# Errors


def test_errors_arrive_as_themselves_and_the_engine_goes_on(make_filler: Callable[..., Filler]) -> None:
    with start([make_filler(13, "raise KeyError(position)")] * 2) as engine:
        assert engine.next_batch().positions == range(10, 12)
        with pytest.raises(KeyError, match="13") as caught:
            engine.next_batch()
        assert "toy_filler.py" in caught.value.__notes__[0]
        assert engine.next_batch().positions == range(14, 16)
    with pytest.raises(ValueError, match="closed"):
        engine.next_batch()


def test_an_exception_that_cannot_be_sent_arrives_in_words(make_filler: Callable[..., Filler]) -> None:
    with start([make_filler(10, "raise Odd('ab', 'cd')")]) as engine, pytest.raises(RuntimeError, match="Odd: abcd"):
        engine.next_batch()


def test_what_cannot_be_sent_is_refused(make_filler: Callable[..., Filler]) -> None:
    class Local:
        def fill(self, position: int, frames: Any, masks: Any, annotated: Any) -> str:
            return ""

    with pytest.raises(HelperError, match="cannot be sent"):
        start([Local()])
    with pytest.raises(ValueError, match="at least 1 thread"):
        start([])


def test_what_the_helper_cannot_import_is_refused(make_filler: Callable[..., Filler], tmp_path: Path) -> None:
    filler = make_filler()
    (tmp_path / "toy_filler.py").unlink()
    before = num_descriptors()
    with pytest.raises(HelperError, match="No module named 'toy_filler'"):
        start([filler])
    assert num_descriptors() == before


def test_threads_stand_in_where_there_can_be_no_helper(
    tiny_sets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with SnippetStream(tiny_sets["gamma"], snippet=4, engine="process") as stream, pytest.raises(HelperError):
        next(iter(stream))
    with SnippetStream(tiny_sets["gamma"], snippet=4) as stream:
        with pytest.warns(RuntimeWarning, match="in threads of this process instead: a helper process needs Linux"):
            batch = next(iter(stream))
        assert batch.keys == stream.keys(range(4))
    with pytest.raises(ValueError, match="engine must be"):
        SnippetStream(tiny_sets["gamma"], snippet=4, engine="fork")  # type: ignore[arg-type]


# Ends


def test_a_killed_helper_is_an_error_that_says_so(make_filler: Callable[..., Filler]) -> None:
    with start([make_filler(20, "time.sleep(60)")]) as engine:
        for _ in range(5):
            engine.next_batch()
        os.kill(engine.pid, signal.SIGKILL)
        begin = time.monotonic()
        with pytest.raises(HelperError, match=r"pid \d+\) was killed by signal 9 \(SIGKILL\)"):
            engine.next_batch()
        assert time.monotonic() - begin < 5


def test_a_crashed_helper_is_an_error_that_says_so(make_filler: Callable[..., Filler]) -> None:
    with (
        start([make_filler(10, "os._exit(7)")]) as engine,
        pytest.raises(HelperError, match="ended with status 7"),
    ):
        engine.next_batch()


def test_a_helper_that_fails_says_why(make_filler: Callable[..., Filler], monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        start([make_filler(10, "import json; json.dumps = lambda *given: 1 / 0")]) as engine,
        pytest.raises(HelperError, match=r"ended with status 1 \(ZeroDivisionError: division by zero\)"),
    ):
        engine.next_batch()
    broken = process_engine._START.replace("vosdata.streaming.ring", "vosdata.streaming.absent")
    monkeypatch.setattr(process_engine, "_START", broken)
    with pytest.raises(HelperError, match=r"status 1 \(ModuleNotFoundError: No module named 'vosdata.streaming.absent"):
        start([make_filler()])


def test_a_stream_goes_on_after_its_helper_was_killed(tiny_sets: dict[str, Path]) -> None:
    with SnippetStream(tiny_sets["alpha"], snippet=4, batch=1, epoch_size=50, engine="process") as stream:
        batches = iter(stream)
        seen = next(batches).keys
        assert stream.helper_pid is not None
        os.kill(stream.helper_pid, signal.SIGKILL)
        with pytest.raises(HelperError, match="SIGKILL"):
            for batch in batches:
                seen += batch.keys
        for batch in stream:
            seen += batch.keys
        assert seen == stream.keys(range(50))


def test_closing_wakes_whoever_waits_and_ends_the_helper(make_filler: Callable[..., Filler]) -> None:
    engine = start([make_filler(10, "time.sleep(60)")])
    errors: list[BaseException] = []

    def take() -> None:
        try:
            engine.next_batch()
        except ValueError as error:
            errors.append(error)

    waiting = threading.Thread(target=take)
    waiting.start()
    time.sleep(0.1)
    engine.close()
    waiting.join(5)
    assert "closed" in str(errors[0])
    assert not is_running(engine.pid)
    engine.close()


def test_nothing_is_left_when_a_stream_is_dropped(tiny_sets: dict[str, Path]) -> None:
    before = rings()
    stream = SnippetStream(tiny_sets["gamma"], snippet=4, engine="process")
    next(iter(stream))
    pid = stream.helper_pid
    assert pid is not None
    assert is_running(pid)
    del stream
    gc.collect()
    assert not is_running(pid)
    assert rings() == before


def test_opening_and_closing_leaks_neither_descriptors_nor_mappings(make_filler: Callable[..., Filler]) -> None:
    def run() -> None:
        with start([make_filler()]) as engine:
            engine.next_batch()

    def resources() -> tuple[int, int, int]:
        return num_descriptors(), rings(), threading.active_count()

    run()
    before = resources()
    for _ in range(20):
        run()
    assert resources() == before


TRAINER = """
import os, sys, time
from vosdata.streaming.engine import Filled
from vosdata.stream import SnippetStream
stream = SnippetStream(sys.argv[1], snippet=4, engine="process", epoch_size=10**6)
batches = iter(stream)
next(batches)
print(stream.helper_pid, flush=True)
"""


def run_trainer(path: Path, program: str, folder: Path, **options: Any) -> tuple[subprocess.Popen[str], int]:
    """Starts a program without a main guard, as users write them; returns it and the id of its helper."""
    script = folder / "trainer.py"
    script.write_text(TRAINER + textwrap.dedent(program))
    trainer = subprocess.Popen(
        [sys.executable, str(script), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )
    assert trainer.stdout is not None
    return trainer, int(trainer.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_trainer_leaves_nothing_behind(tiny_sets: dict[str, Path], tmp_path: Path, number: int) -> None:
    segments = set(Path("/dev/shm").iterdir())
    trainer, helper = run_trainer(tiny_sets["gamma"], "while True: next(batches)", tmp_path)
    with trainer:
        assert is_running(helper)
        trainer.send_signal(number)
    wait_until_gone(helper, 5)
    assert set(Path("/dev/shm").iterdir()) <= segments


def test_a_killed_trainer_whose_forked_child_lives_on_leaves_no_helper(
    tiny_sets: dict[str, Path], tmp_path: Path
) -> None:
    program = """
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        print(child, flush=True)
        time.sleep(60)
    """
    trainer, helper = run_trainer(tiny_sets["gamma"], program, tmp_path)
    assert trainer.stdout is not None
    child = int(trainer.stdout.readline())
    trainer.kill()
    trainer.wait()
    wait_until_gone(helper, 5)
    assert is_running(child)
    os.kill(child, signal.SIGKILL)
    trainer.stdout.close()


def test_interrupting_the_terminal_reaches_the_trainer_alone(tiny_sets: dict[str, Path], tmp_path: Path) -> None:
    program = """
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(0.2)
            first = stream.helper_pid
            for _ in range(10):
                next(batches)
            print("same" if stream.helper_pid == first else "other", flush=True)
    """
    trainer, _ = run_trainer(tiny_sets["gamma"], program, tmp_path, start_new_session=True)
    time.sleep(0.2)
    os.killpg(trainer.pid, signal.SIGINT)
    output, _ = trainer.communicate(timeout=30)
    assert output == "same\n"
    assert trainer.returncode == 0


def test_a_forked_copy_of_the_trainer_goes_on_by_itself(tiny_sets: dict[str, Path], tmp_path: Path) -> None:
    program = """
        second = iter(stream)
        reading, writing = os.pipe()
        child = os.fork()
        keys = [key for _ in range(5) for key in next(second).keys]
        if child == 0:
            os.write(writing, repr((keys, stream.helper_pid)).encode())
            stream.close()
            os._exit(0)
        os.waitpid(child, 0)
        others, pid = eval(os.read(reading, 10**6))
        print(keys == others == stream.keys(range(4, 24)), pid != stream.helper_pid, flush=True)
    """
    trainer, _ = run_trainer(tiny_sets["gamma"], program, tmp_path)
    output, _ = trainer.communicate(timeout=60)
    assert output == "True True\n"
    assert trainer.returncode == 0


def test_the_helper_imports_no_torch(make_filler: Callable[..., Filler]) -> None:
    what = "raise KeyError(sorted({'torch', 'pydantic', 'typer'} & set(sys.modules)), str(sys.modules['__main__']))"
    with start([make_filler(10, what)]) as engine, pytest.raises(KeyError) as caught:
        engine.next_batch()
    assert caught.value.args == ([], "<module '__main__' (built-in)>")


@pytest.mark.parametrize(("batch", "rank", "num_ranks"), [(1, 0, 1), (3, 0, 1), (4, 1, 3), (2, 4, 5)])
def test_a_schedule_knows_what_a_rank_comes_to_later(batch: int, rank: int, num_ranks: int) -> None:
    schedule = Schedule(17, batch, rank, num_ranks)
    positions = [position for step in range(6) for position in schedule.positions(step)]
    assert [schedule.number(position) for position in positions] == list(range(len(positions)))
    for number, position in enumerate(positions[:-5]):
        assert [schedule.later(position, more) for more in range(6)] == positions[number : number + 6]
