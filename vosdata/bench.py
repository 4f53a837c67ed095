"""Measures how fast a shard set streams, against what decoding its pictures alone allows on this machine.

Both are measured in turns in one run, on the same pictures, with the same number of threads: the ratio then says how
much the stream adds to decoding, whatever the machine is doing besides.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.codec import crc32c, decode_image
from shards.masks import decode_mask
from shards.reader import ShardSet
from vosdata.batch import SnippetBatch
from vosdata.snippet import Snippet
from vosdata.stream import SnippetStream
from vosdata.transforms import resize_frame, resize_mask

_NUM_ROUNDS = 5
_MAX_SAMPLE_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Costs:
    """Time of each step on one thread, in microseconds per frame."""

    decode_picture: float
    decode_mask: float
    checksum: float
    resize: float
    draw: float

    @property
    def total(self) -> float:
        """All steps together."""
        return float(sum(asdict(self).values()))


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

    frames_per_second: float
    """Through the stream: read, checked, decoded, put into batches. Median of the rounds."""

    limit_frames_per_second: float
    """Pictures of the same snippets decoded from memory, nothing else. Median of the rounds."""

    ratio: float
    """Stream over limit; median of the rounds' own ratios."""

    rounds: int
    """Alternated rounds."""

    costs: Costs
    """Where the time goes."""

    verdict: str
    """What bounds the stream, in words."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """Pictures and masks of some snippets as bytes in memory, with the size at which each is stored."""

    images: list[bytes]
    masks: list[bytes]
    sizes: list[tuple[int, int]]


def measure(
    path: Path, *, snippet: int, size: tuple[int, int] | None, batch: int, threads: int, seconds: float
) -> BenchReport:
    """Runs the bench.

    Args:
        path: the shard set.
        snippet: frames in a snippet.
        size: training size (height, width), or None for the stored one.
        batch: snippets in a batch.
        threads: decode threads.
        seconds: about how long to measure.

    Raises:
        ShardError: there is no complete shard set, or nothing in it can be drawn.
        ValueError: a setting is out of range.
    """
    if seconds <= 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    with SnippetStream(path, snippet=snippet, size=size, batch=batch, threads=threads, seed=0) as stream:
        sample = _take_sample(ShardSet(path), stream)
        share = 0.8 * seconds / (2 * _NUM_ROUNDS)
        rounds = []
        for _ in range(_NUM_ROUNDS):
            rounds.append((_stream_rate(stream, threads, share), _decode_rate(sample.images, threads, share)))
            stream.close()  # so that nothing is decoded ahead while the limit is measured
        costs = _costs(stream, sample, 0.2 * seconds / 5)
    ratio = statistics.median(ours / limit for ours, limit in rounds)
    report = BenchReport(
        shards=str(path),
        snippet=snippet,
        size=stream.size,
        batch=batch,
        threads=threads,
        frames_per_second=statistics.median(ours for ours, _ in rounds),
        limit_frames_per_second=statistics.median(limit for _, limit in rounds),
        ratio=ratio,
        rounds=_NUM_ROUNDS,
        costs=costs,
        verdict="",
    )
    return replace(report, verdict=explain(report))


def _take_sample(shard_set: ShardSet, stream: SnippetStream) -> _Sample:
    """Reads the bytes of the stream's first snippets, up to an epoch or a quarter of a gigabyte."""
    sample, num_bytes = _Sample([], [], []), 0
    for position in range(stream.epoch_size):
        drawn: Snippet = stream.snippet(position)
        entry = shard_set.entry(drawn.record)
        for frame in drawn.frames:
            sample.images.append(bytes(shard_set.image_bytes(drawn.record, frame)))
            sample.sizes.append((entry.height, entry.width))
            mask = shard_set.mask_bytes(drawn.record, frame)
            if mask is not None:
                sample.masks.append(bytes(mask))
        num_bytes += sum(map(len, sample.images[-len(drawn.frames) :]))
        if num_bytes > _MAX_SAMPLE_BYTES:
            break
    return sample


def _stream_rate(stream: SnippetStream, threads: int, seconds: float) -> float:
    """Frames per second of the stream at steady state: batch memory is warm and as much is in flight at the end."""
    batches = _endless(stream)
    for _ in range(3 + 2 + threads):
        next(batches)
    num_frames, start = 0, time.perf_counter()
    while True:
        num_frames += next(batches).annotated.numel()
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return num_frames / elapsed


def _endless(stream: SnippetStream) -> Iterator[SnippetBatch]:
    while True:
        yield from stream


def _decode_rate(images: list[bytes], threads: int, seconds: float) -> float:
    """Frames per second of nothing but decoding pictures from memory into memory that is used again."""
    counts = [0] * threads
    ready = threading.Barrier(threads + 1)
    stop = threading.Event()

    def decode(number: int) -> None:
        mine = images[number::threads] or images
        out = [decode_image(data) for data in mine[:1]]
        ready.wait()
        while not stop.is_set():
            for data in mine:
                out[0] = _decode_again(data, out[0])
                counts[number] += 1
                if stop.is_set():
                    break

    workers = [threading.Thread(target=decode, args=(number,), daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    before, start = sum(counts), time.perf_counter()
    time.sleep(seconds)
    num_frames, elapsed = sum(counts) - before, time.perf_counter() - start
    stop.set()
    for worker in workers:
        worker.join()
    return num_frames / elapsed


def _decode_again(data: bytes, out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    try:
        return decode_image(data, out)
    except ValueError:  # a picture of another size
        return decode_image(data)


def _costs(stream: SnippetStream, sample: _Sample, seconds: float) -> Costs:
    """Times each step on its own, on one thread."""
    height, width = stream.size
    frame, mask = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.uint8)
    stored = [(np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)) for size in set(sample.sizes) - {stream.size}]
    weight = sum(size != stream.size for size in sample.sizes) / len(sample.sizes)
    num_masks = len(sample.masks) / len(sample.images)

    def resize(number: int) -> None:
        picture, ids = stored[number % len(stored)]
        resize_frame(picture, frame)
        resize_mask(ids, mask)

    def checksum(number: int) -> None:
        crc32c(sample.images[number % len(sample.images)])
        if sample.masks:
            crc32c(sample.masks[number % len(sample.masks)])

    return Costs(
        decode_picture=_time(lambda number: decode_image(sample.images[number % len(sample.images)]), seconds),
        decode_mask=num_masks * _time(lambda number: decode_mask(sample.masks[number % len(sample.masks)]), seconds)
        if sample.masks
        else 0.0,
        checksum=_time(checksum, seconds),
        resize=weight * _time(resize, seconds) if stored else 0.0,
        draw=_time(stream.snippet, seconds) / len(stream.snippet(0).frames),
    )


def _time(step: Callable[[int], Any], seconds: float) -> float:
    """Microseconds of one call."""
    step(0)
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        step(count)
        count += 1
    return elapsed / max(count, 1) * 1e6


def explain(report: BenchReport) -> str:
    """Says in words what bounds the stream."""
    costs = report.costs
    others = {
        "decoding masks": costs.decode_mask,
        "checksums": costs.checksum,
        f"resizing to {report.size[0]}x{report.size[1]}": costs.resize,
        "drawing snippets": costs.draw,
    }
    name, largest = max(others.items(), key=lambda item: item[1])
    percent = round(100 * report.ratio)
    if report.ratio >= 0.9:
        return (
            f"Decoding pictures bounds the stream: it runs at {percent} % of what decoding alone reaches on "
            f"{report.threads} threads. Only more cores, or smaller pictures, would make it faster."
        )
    explained = costs.decode_picture / costs.total
    advice = "; pack the set at this size (vosdata shard --size) to save it" if largest == costs.resize else ""
    text = (
        f"The stream runs at {percent} % of what decoding pictures alone reaches on {report.threads} threads. After "
        f"that, {name} costs most: {largest:.0f} of {costs.total:.0f} us per frame{advice}."
    )
    if report.ratio < explained - 0.1:
        text += (
            f" These steps explain {round(100 * explained)} %; the rest is memory traffic, and threads that wait for "
            "each other or for the machine's other work."
        )
    return text
