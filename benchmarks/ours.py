"""Our stream under test, and the limit that JPEG decoding sets; runs in vosdata's environment.

``ours.py ENGINE WORK ...`` answers the driver; ENGINE is ``process``, ``threads`` or ``limit``.
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

import numpy as np
from contender import serve

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

        def decode(number: int) -> None:
            out = np.empty_like(decode_image(self._images[0]))
            for data in itertools.cycle(self._images[number :: self._threads]):
                decode_image(data, out)
                counts[number] += 1
                if stop.is_set():
                    return

        workers = [threading.Thread(target=decode, args=(number,)) for number in range(self._threads)]
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

    def stop(self) -> None:
        """Its threads end with the epoch."""
        gc.collect()

    def pixels(self, frames: Any, masks: Any) -> tuple[Any, Any]:
        raise NotImplementedError("the limit keeps no pixels")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=("process", "threads", "limit"))
    parser.add_argument("work", type=Path)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--remote", help="URL under which WORK is served")
    options = parser.parse_args()
    serve(Limit(options) if options.engine == "limit" else OurLoader(options))


if __name__ == "__main__":
    main()
