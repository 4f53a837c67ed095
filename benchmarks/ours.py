"""Our stream under test, and two limits: of JPEG decoding, and of all decoding; runs in vosdata's environment.

``ours.py ENGINE WORK ...`` answers the driver; ENGINE is ``process``, ``threads``, ``limit`` or ``needed``.
"""

import argparse
import gc
import itertools
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import simplejpeg
from contender import serve
from zlib_ng import zlib_ng

from shards.codec import decode_image
from shards.reader import ShardSet


class OurLoader:
    """``SnippetStream``; see ``contender.Loader``."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.folder = options.work / "shards"
        self._options = options
        self._stream: Any = None
        self._home: str | None = None

    def epoch(self) -> Iterator[tuple[list[str], Any, Any]]:
        if self._stream is None:
            self._stream = self._open()
        for batch in self._stream:
            yield [key.partition("/")[2].partition("[")[0] for key in batch.keys], batch.frames, batch.masks

    def stop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        gc.collect()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)

    def pixels(self, frames: Any, masks: Any) -> tuple[Any, Any]:
        return frames.permute(0, 1, 3, 4, 2).contiguous().numpy(), masks.numpy()

    def _open(self) -> Any:
        import vosdata

        options, source = self._options, str(self.folder)
        if options.remote:
            self._home = tempfile.mkdtemp(prefix="our-cache-", dir=options.work)
            os.environ["HOME"] = self._home  # the cache of remote sets lies below it: empty each time
            source = f"{options.remote}/shards"
        return vosdata.SnippetStream(
            source,
            snippet=options.frames,
            batch=options.batch,
            threads=options.workers,
            objects="all",
            min_object_pixels=1,
            engine=options.engine,
        )


@dataclass(frozen=True)
class Count:
    """Stands for pictures that were decoded and thrown away."""

    shape: tuple[int, int]


class Limit:
    """Decodes the same JPEGs from memory into memory that is used again, with as many threads; nothing else."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.folder = options.work / "shards"
        self._threads = options.workers
        shard_set = ShardSet(self.folder)
        self._images = [
            bytes(shard_set.image_bytes(record, frame))
            for record in range(len(shard_set))
            for frame in range(shard_set.entry(record).num_frames)
        ]

    def epoch(self) -> Iterator[tuple[list[str], Any, Any]]:
        counts, stop = [0] * self._threads, threading.Event()

        def work(number: int) -> None:
            for done in self._work(number):
                counts[number] += done
                if stop.is_set():
                    return

        workers = [threading.Thread(target=work, args=(number,)) for number in range(self._threads)]
        for worker in workers:
            worker.start()
        try:
            before = 0
            while True:
                time.sleep(0.02)
                now = sum(counts)
                yield [], Count((now - before, 1)), None
                before = now
        finally:
            stop.set()
            for worker in workers:
                worker.join()

    def _work(self, number: int) -> Iterator[int]:
        """What a thread does, without end: frames that were done since it last said so."""
        out = np.empty_like(decode_image(self._images[0]))
        for data in itertools.cycle(self._images[number :: self._threads]):
            decode_image(data, out)
            yield 1

    def stop(self) -> None:
        """Its threads end with the epoch."""
        gc.collect()

    def pixels(self, frames: Any, masks: Any) -> tuple[Any, Any]:
        raise NotImplementedError("the limit keeps no pixels")


class Needed(Limit):
    """The library calls that no stream of these files can leave out: checksums, JPEGs, inflating and copying masks.

    From memory into as many batches as are in flight, snippet by snippet, with as many threads; what a stream adds is
    the order, finding the bytes, handing batches over, and a trainer that takes them.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        shard_set, length = ShardSet(self.folder), options.frames
        found = [
            shard_set.mask_bytes(record, frame)
            for record in range(len(shard_set))
            for frame in range(shard_set.entry(record).num_frames)
        ]
        masks = [bytes(data) for data in found if data is not None]
        if len(masks) != len(self._images):
            raise ValueError("a frame of the benchmark has no mask")
        self._snippets = [
            (self._images[first : first + length], [_pixel_stream(data) for data in masks[first : first + length]])
            for first in range(0, len(masks) - length + 1, length)
        ]
        picture = decode_image(self._images[0])
        # two batches for each thread and those that the trainer may hold: about as much memory as the stream's
        self._batches = np.zeros((options.workers, 3 * options.batch, length, *picture.shape), np.uint8)
        self._masks = np.zeros(self._batches.shape[:-1], np.uint8)

    def _work(self, number: int) -> Iterator[int]:
        height, width = self._masks.shape[-2:]
        row = np.dtype(f"V{width}")
        filtered = np.dtype({"names": ["row"], "formats": [row], "offsets": [1], "itemsize": width + 1})
        places = itertools.cycle(zip(self._batches[number], self._masks[number], strict=True))
        snippets = itertools.cycle(self._snippets[number :: self._threads])
        for (images, streams), (frames, masks) in zip(snippets, places, strict=False):
            for data, frame in zip(images, frames, strict=True):
                google_crc32c.value(data)
                simplejpeg.decode_jpeg(data, "RGB", False, False, 0, 0, 1.0, frame)
            for data, mask in zip(streams, masks, strict=True):
                google_crc32c.value(data)
                raw = zlib_ng.decompress(data, 15, height * (width + 1) + 1)
                mask.view(row)[:, 0] = np.frombuffer(raw, filtered)["row"]
            yield len(images)


def _pixel_stream(png: bytes) -> bytes:
    """What is deflated in a PNG with one IDAT chunk."""
    start = png.index(b"IDAT") + 4
    return png[start : start + int.from_bytes(png[start - 8 : start - 4], "big")]


LIMITS: dict[str, Any] = {"limit": Limit, "needed": Needed}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=("process", "threads", *LIMITS))
    parser.add_argument("work", type=Path)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--remote", help="URL under which WORK is served")
    options = parser.parse_args()
    serve(LIMITS.get(options.engine, OurLoader)(options))


if __name__ == "__main__":
    main()
