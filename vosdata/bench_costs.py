"""Times on one core what a stream does for a frame, step by step, on real pictures and masks of the shard set."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.codec import crc32c, decode_image
from shards.index import IndexEntry
from shards.masks import decode_mask
from shards.reader import ShardSet
from vosdata.stream import SnippetStream
from vosdata.streaming.snippet import Snippet
from vosdata.streaming.transforms import resize_frame, resize_mask

_MAX_SAMPLE_BYTES = 256 * 2**20
_MIN_SNIPPETS = 200
"""More than the caches hold, so that decoding alone has to fetch its bytes from memory as a stream does."""

_NUM_STEPS = 6


@dataclass(frozen=True, slots=True)
class Costs:
    """Time of each step on one thread, in microseconds per frame."""

    decode_picture: float
    decode_mask: float
    checksum: float
    read: float
    """Finding the bytes in the mapped shard and copying them from there."""
    resize: float
    draw: float

    @property
    def total(self) -> float:
        """All steps together."""
        return float(sum(asdict(self).values()))


@dataclass(frozen=True, slots=True)
class Sample:
    """Frames of some snippets, with their files in memory."""

    places: list[tuple[int, int, IndexEntry]]
    """Record, frame and index entry of each picture."""

    images: list[bytes]
    """Picture files."""

    masks: list[bytes]
    """Mask files of those frames that are annotated."""

    sizes: list[tuple[int, int]]
    """Stored height and width of each picture."""


def take_sample(shard_set: ShardSet, stream: SnippetStream) -> Sample:
    """Reads the bytes of the stream's first snippets: an epoch, at least ``_MIN_SNIPPETS``, at most 256 MiB."""
    sample, num_bytes = Sample([], [], [], []), 0
    for position in range(max(stream.epoch_size, _MIN_SNIPPETS)):
        drawn: Snippet = stream.snippet(position)
        entry = shard_set.entry(drawn.record)
        for frame in drawn.frames:
            sample.places.append((drawn.record, frame, entry))
            sample.images.append(bytes(shard_set.image_bytes(drawn.record, frame, entry)))
            sample.sizes.append((entry.height, entry.width))
            mask = shard_set.mask_bytes(drawn.record, frame, entry)
            if mask is not None:
                sample.masks.append(bytes(mask))
        num_bytes += sum(map(len, sample.images[-len(drawn.frames) :]))
        if num_bytes > _MAX_SAMPLE_BYTES:
            break
    return sample


def measure_costs(stream: SnippetStream, unchecked: ShardSet, sample: Sample, seconds: float) -> Costs:
    """Times each step on its own, on one thread.

    Args:
        stream: whose snippets are drawn.
        unchecked: whose bytes are read, opened so that no checksum is computed.
        sample: what to work on.
        seconds: about how long to measure.
    """
    share = seconds / _NUM_STEPS
    pictures = {size: np.empty((*size, 3), np.uint8) for size in sample.sizes}
    masks = sample.masks
    num_masks = len(masks) / len(sample.images)
    mask = np.empty(sample.sizes[0], np.uint8) if len(pictures) == 1 else None

    def read(number: int) -> None:
        record, frame, entry = sample.places[number]
        bytes(unchecked.image_bytes(record, frame, entry))
        found = unchecked.mask_bytes(record, frame, entry)
        bytes(found if found is not None else b"")

    def checksum(number: int) -> None:
        crc32c(sample.images[number])
        if masks:
            crc32c(masks[number % len(masks)])

    def decode_picture(number: int) -> None:
        decode_image(sample.images[number], pictures[sample.sizes[number]])

    def cost(step: Callable[[int], Any]) -> float:
        return _time(lambda number: step(number % len(sample.images)), share)

    return Costs(
        decode_picture=cost(decode_picture),
        decode_mask=num_masks * cost(lambda number: decode_mask(masks[number % len(masks)], mask)) if masks else 0.0,
        checksum=cost(checksum),
        read=cost(read),
        resize=_resize_cost(stream, sample, pictures, share),
        draw=_time(stream.snippet, share) / len(stream.snippet(0).frames),
    )


def _resize_cost(
    stream: SnippetStream, sample: Sample, pictures: dict[tuple[int, int], NDArray[np.uint8]], seconds: float
) -> float:
    others = [picture for size, picture in pictures.items() if size != stream.size]
    if not others:
        return 0.0
    frame, mask = np.empty((*stream.size, 3), np.uint8), np.empty(stream.size, np.uint8)

    def resize(number: int) -> None:
        picture = others[number % len(others)]
        resize_frame(picture, frame)
        resize_mask(picture.reshape(-1)[: picture.size // 3].reshape(picture.shape[:2]), mask)

    return _time(resize, seconds) * sum(size != stream.size for size in sample.sizes) / len(sample.sizes)


def _time(step: Callable[[int], Any], seconds: float) -> float:
    """Microseconds of one call."""
    step(0)
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        step(count)
        count += 1
    return elapsed / max(count, 1) * 1e6
