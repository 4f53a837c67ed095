"""Measures how fast a shard set streams, against what decoding its pictures alone allows on this machine.

Both are measured in turns in one run, on the same pictures, with the same number of threads, into batches of the same
size: the ratio then says how much the stream adds to decoding, whatever the machine is doing besides.
"""

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shards.codec import decode_image
from shards.reader import ShardSet
from vosdata.batch import SnippetBatch
from vosdata.bench_costs import Costs, measure_costs, take_sample
from vosdata.opening import open_shard_set
from vosdata.stream import EngineName, SnippetStream
from vosdata.streaming.process_usage import Usage, read_usage
from vosdata.world import cache_dir

_NUM_ROUNDS = 5
_BUSY_PART = 0.9
"""How long a busy trainer works on a batch, as a part of the time in which an idle one receives one."""


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What a run of the bench found."""

    shards: str
    """The shard set."""

    snippet: int
    """Frames in a snippet."""

    size: tuple[int, int]
    """Training size: height, width."""

    batch: int
    """Snippets in a batch."""

    threads: int
    """Decode threads."""

    engine: Literal["process", "threads"]
    """Where they ran."""

    frames_per_second: float
    """Through the stream: read, checked, decoded, put into batches. Median of the rounds."""

    limit_frames_per_second: float
    """Pictures of the same snippets decoded from memory, nothing else. Median of the rounds."""

    ratio: float
    """Stream over limit; median of the rounds' own ratios."""

    busy_ratio: float | None
    """Stream of a trainer that works in pure Python between batches, over that of an idle one; None: not asked for."""

    rounds: int
    """Alternated rounds."""

    cpu_microseconds_per_frame: float | None
    """Processor time of the decoding process; None where the system does not tell."""

    limit_cpu_microseconds_per_frame: float
    """The same for decoding alone."""

    page_faults_per_frame: float | None
    """Fresh pages that the decoding process met."""

    waiting: float | None
    """Part of the decode threads' time, 0 to 1, in which they did not run."""

    costs: Costs
    """Where the time goes: each step timed on its own."""

    verdict: str
    """What bounds the stream, in words."""


@dataclass(frozen=True, slots=True)
class _Round:
    """One measurement of the stream."""

    num_frames: int
    seconds: float
    usage: Usage | None

    @property
    def rate(self) -> float:
        return self.num_frames / self.seconds


def measure(
    path: str | Path,
    *,
    snippet: int,
    size: tuple[int, int] | None,
    batch: int,
    threads: int,
    seconds: float,
    engine: EngineName = "auto",
    busy: bool = False,
) -> BenchReport:
    """Runs the bench.

    Args:
        path: the shard set's folder or URL.
        snippet: frames in a snippet.
        size: training size (height, width), or None for the stored one.
        batch: snippets in a batch.
        threads: decode threads.
        seconds: about how long to measure.
        engine: as of :class:`vosdata.SnippetStream`.
        busy: also measure what a trainer that is busy in Python receives.

    Raises:
        ShardError: there is no complete shard set, or nothing in it can be drawn.
        ValueError: a setting is out of range.
    """
    if seconds <= 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    shard_set = open_shard_set(path)
    with SnippetStream(shard_set, snippet=snippet, size=size, batch=batch, threads=threads, engine=engine) as stream:
        sample = take_sample(shard_set, stream)
        out = np.zeros((threads, batch * snippet, *stream.size, 3), np.uint8)
        share = 0.8 * seconds / (_NUM_ROUNDS * (3 if busy else 2))
        num_unmeasured = _num_in_flight(threads)
        batches = _endless(stream)
        rounds, limits, busy_ratios = [], [], []
        for _ in range(_NUM_ROUNDS):
            rounds.append(_run(stream, batches, num_unmeasured, share))
            if busy:
                work = _BUSY_PART * batch * snippet / rounds[-1].rate
                busy_ratios.append(_run(stream, batches, num_unmeasured, share, work).rate / rounds[-1].rate)
            _wait_until_idle(stream)
            limits.append(_decode_rate(sample.images, out, share))
        helped = stream.helper_pid is not None
        stream.close()
        unchecked = ShardSet(path, check=False, cache_dir=cache_dir())
        costs = measure_costs(stream, unchecked, sample, 0.2 * seconds)
    usage = _total_usage(rounds)
    num_frames, elapsed = sum(one.num_frames for one in rounds), sum(one.seconds for one in rounds)
    report = BenchReport(
        shards=str(path),
        snippet=snippet,
        size=stream.size,
        batch=batch,
        threads=threads,
        engine="process" if helped else "threads",
        frames_per_second=statistics.median(one.rate for one in rounds),
        limit_frames_per_second=statistics.median(rate for rate, _ in limits),
        ratio=statistics.median(one.rate / rate for one, (rate, _) in zip(rounds, limits, strict=True)),
        busy_ratio=statistics.median(busy_ratios) if busy else None,
        rounds=_NUM_ROUNDS,
        cpu_microseconds_per_frame=None if usage is None else 1e6 * usage.cpu_seconds / num_frames,
        limit_cpu_microseconds_per_frame=statistics.median(cost for _, cost in limits),
        page_faults_per_frame=None if usage is None else usage.page_faults / num_frames,
        waiting=None if usage is None else max(0.0, 1 - usage.cpu_seconds / (threads * elapsed)),
        costs=costs,
        verdict="",
    )
    return replace(report, verdict=explain(report))


def _num_in_flight(threads: int) -> int:
    """Batches to take before measuring: by then all memory is warm, and as much is in flight as at the end."""
    return 8 + threads


def _endless(stream: SnippetStream) -> Iterator[SnippetBatch]:
    while True:
        yield from stream


def _run(
    stream: SnippetStream, batches: Iterator[SnippetBatch], num_unmeasured: int, seconds: float, work: float = 0.0
) -> _Round:
    """Takes batches for some time; between them, works in pure Python for ``work`` seconds."""
    for _ in range(num_unmeasured):
        next(batches)
        _work(work)
    pid = stream.helper_pid or os.getpid()
    before, num_frames, start = read_usage(pid), 0, time.perf_counter()
    while True:
        num_frames += next(batches).annotated.numel()
        _work(work)
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            after = read_usage(pid)
            return _Round(num_frames, elapsed, None if before is None or after is None else after - before)


def _work(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def _wait_until_idle(stream: SnippetStream) -> None:
    """Waits until everything that may be decoded ahead is decoded, so that it takes nothing from the limit."""
    pid, last = stream.helper_pid or os.getpid(), None
    for _ in range(100):
        time.sleep(0.05)
        usage = read_usage(pid)
        if usage is None or (last is not None and usage.cpu_seconds - last.cpu_seconds < 0.02):
            return
        last = usage


def _decode_rate(images: list[bytes], out: NDArray[np.uint8], seconds: float) -> tuple[float, float]:
    """Frames per second, and microseconds of processor time per frame, of nothing but decoding.

    Args:
        images: picture files.
        out: for each thread the frames of a batch, which are filled over and over.
        seconds: how long to measure.
    """
    threads = len(out)
    counts = [0] * threads
    ready = threading.Barrier(threads + 1)
    stop = threading.Event()

    def decode(number: int) -> None:
        decode_next = _decoder(images[number::threads] or images, out[number])
        decode_next(0)
        ready.wait()
        while not stop.is_set():
            decode_next(counts[number])
            counts[number] += 1

    workers = [threading.Thread(target=decode, args=(number,), daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    before, start, cpu = sum(counts), time.perf_counter(), time.process_time()
    time.sleep(seconds)
    while sum(counts) == before and workers[0].is_alive():  # a loaded machine may not come to a frame in that time
        time.sleep(0.01)
    num_frames, elapsed, cpu = sum(counts) - before, time.perf_counter() - start, time.process_time() - cpu
    stop.set()
    for worker in workers:
        worker.join()
    return num_frames / elapsed, 1e6 * cpu / max(num_frames, 1)


def _decoder(images: list[bytes], frames: NDArray[np.uint8]) -> Callable[[int], object]:
    """A function that decodes picture number n into its place; those of another size into memory of that size."""
    others: dict[int, NDArray[np.uint8]] = {}
    for number, data in enumerate(images):
        picture = decode_image(data)
        if picture.shape != frames.shape[1:]:
            others[number] = picture

    def decode_next(count: int) -> None:
        number = count % len(images)
        decode_image(images[number], others.get(number, frames[count % len(frames)]))

    return decode_next


def _total_usage(rounds: list[_Round]) -> Usage | None:
    total = Usage(0.0, 0)
    for one in rounds:
        if one.usage is None:
            return None
        total += one.usage
    return total


def explain(report: BenchReport) -> str:
    """Says in words what bounds the stream."""
    costs = report.costs
    percent = round(100 * report.ratio)
    if report.ratio >= 0.9:
        return (
            f"Decoding pictures bounds the stream: it runs at {percent} % of what decoding alone reaches on "
            f"{report.threads} threads. Only more cores, or smaller pictures, would make it faster."
        )
    others = {
        "decoding masks": costs.decode_mask,
        "checksums": costs.checksum,
        "reading": costs.read,
        f"resizing to {report.size[0]}x{report.size[1]}": costs.resize,
        "drawing snippets": costs.draw,
    }
    name, largest = max(others.items(), key=lambda item: item[1])
    explained = costs.decode_picture / costs.total
    advice = "; pack the set at this size (vosdata shard --size) to save it" if largest == costs.resize else ""
    text = (
        f"The stream runs at {percent} % of what decoding pictures alone reaches on {report.threads} threads. After "
        f"that, {name} costs most: {largest:.0f} of {costs.total:.0f} us per frame{advice}."
    )
    if report.waiting is not None and report.waiting > 0.15:
        text += (
            f" Decode threads did not run for {round(100 * report.waiting)} % of the time: they waited for the "
            "storage, for a trainer that takes batches slowly, or for cores that something else uses."
        )
    elif report.ratio < explained - 0.1:
        text += (
            f" These steps explain {round(100 * explained)} %; the rest is memory traffic, and threads that wait for "
            "each other or for the machine's other work."
        )
    return text
