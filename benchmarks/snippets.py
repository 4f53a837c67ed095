"""The same frames for everyone: snippets as files, and the shard set made of the very same bytes.

``<work>/folder/<key>/00000.jpg`` (baseline 4:2:0), ``00000.png`` (palette PNG as Pillow writes it) and
``00000.gray.png`` (the same indices as a gray PNG, for loaders that decode with OpenCV, which turns palettes into
colours).
"""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.build import build_shard_set
from shards.codec import encode_jpeg
from shards.masks import DAVIS_PALETTE, decode_mask
from shards.plan import SetDescription, Skipped
from shards.types import Record, StoredFrame
from vosdata.datasets import Video, open_videos, recognise
from vosdata.datasets.recognise import default_splits
from vosdata.pack import resize_frame, resize_mask

SNIPPETS_PER_SHARD = 25
QUALITY = 95

Frames = list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


@dataclass(frozen=True)
class Case:
    """What is loaded."""

    size: tuple[int, int]
    """Height, width."""

    num_frames: int
    """Frames of a snippet."""

    batch: int
    """Snippets of a batch."""

    @property
    def name(self) -> str:
        return f"{self.size[0]}x{self.size[1]}x{self.num_frames}"


@dataclass(frozen=True)
class SnippetPlan:
    """The shard set of a folder of snippets; see ``shards.plan.ShardPlan``."""

    folder: Path
    keys: tuple[str, ...]
    name: str = "bench"
    split: str = "train"

    @property
    def num_shards(self) -> int:
        return math.ceil(len(self.keys) / SNIPPETS_PER_SHARD)

    @property
    def num_records(self) -> int:
        return len(self.keys)

    def configuration(self) -> dict[str, Any]:
        return {"keys": list(self.keys)}

    def description(self) -> SetDescription:
        return SetDescription(None, None, "", "", "Benchmark", "Frames of a benchmark.")

    def records(self, shard: int) -> Iterator[Record | Skipped]:
        for key in self.keys[shard * SNIPPETS_PER_SHARD : (shard + 1) * SNIPPETS_PER_SHARD]:
            images = sorted((self.folder / key).glob("*.jpg"))
            masks = [decode_mask(path.with_suffix(".png").read_bytes()) for path in images]
            frames = [
                StoredFrame(int(path.stem), path.read_bytes(), mask) for path, mask in zip(images, masks, strict=True)
            ]
            yield Record(key, tuple(frames), *masks[0].shape)


def make_snippets(work: Path, case: Case, source: Path | None, count: int) -> dict[str, Any]:
    """Writes ``<work>/folder`` and ``<work>/shards``; returns what the frames are like.

    Args:
        work: where to write; what an earlier call made of the same source is kept.
        case: size and length.
        source: a dataset folder, repeated as often as needed; None renders SynthVOS from built-in pictures.
        count: number of snippets.
    """
    folder = work / "folder"
    made = json.dumps([case.name, str(source and source.resolve()), count, QUALITY])
    note = work / "made.json"
    if not note.is_file() or note.read_text() != made:
        shutil.rmtree(work, ignore_errors=True)
        folder.mkdir(parents=True)
        for number, frames in enumerate(islice(_endless(case, source, count), count)):
            _write(folder / f"snippet{number:05d}", frames)
        note.write_text(made)
    keys = tuple(sorted(path.name for path in folder.iterdir()))
    shutil.rmtree(work / "shards", ignore_errors=True)  # cheap, and always what this version writes
    build_shard_set(SnippetPlan(folder, keys), work / "shards")
    sizes = {suffix: [path.stat().st_size for path in folder.glob(f"*/{suffix}")] for suffix in ("*.jpg", "*[0-9].png")}
    return {
        "frames": "SynthVOS from built-in pictures" if source is None else source.resolve().name,
        "snippets": count,
        "mean_jpeg_bytes": round(float(np.mean(sizes["*.jpg"]))),
        "mean_mask_bytes": round(float(np.mean(sizes["*[0-9].png"]))),
    }


def _endless(case: Case, source: Path | None, count: int) -> Iterator[Frames]:
    """Snippets of real videos, again and again, or rendered ones."""
    if source is None:
        yield from _rendered(case, count)
        return
    windows = [
        (video, start)
        for video in _videos(source)
        for start in range(0, video.num_frames - case.num_frames + 1, case.num_frames)
    ]
    usable = False
    for video, start in cycle(windows):
        frames = [_resized(video, frame, case.size) for frame in range(start, start + case.num_frames)]
        if ((frames[0][1] > 0) & (frames[0][1] < 255)).any():
            usable = True
            yield frames
        elif (video, start) == windows[-1] and not usable:
            break
    raise SystemExit(f"{source} holds no {case.num_frames} annotated frames in a row that show an object")


def _videos(source: Path) -> list[Video]:
    return [
        video
        for dataset in recognise(source)
        for split in default_splits(dataset)[0]
        for video in open_videos(source, split.name, dataset.name)
        if all(video.annotated)
    ]


def _resized(video: Video, frame: int, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    picture, mask = video.frame(frame), video.mask(frame)
    assert mask is not None
    return (picture, mask) if picture.shape[:2] == size else (resize_frame(picture, size), resize_mask(mask, size))


def _rendered(case: Case, count: int) -> Iterator[Frames]:
    from shards.codec import decode_image
    from synth.config import SynthConfig
    from synth.generate import SynthPlan
    from synth.sources import open_backgrounds, open_objects

    config = SynthConfig(num_frames=case.num_frames, size=case.size, quality=100)
    plan = SynthPlan(config, open_objects("builtin"), open_backgrounds("builtin"), 2 * count)
    for shard in range(plan.num_shards):
        for record in plan.records(shard):
            if isinstance(record, Record):
                frames = [(decode_image(one.image), one.mask) for one in record.frames if one.mask is not None]
                if ((frames[0][1] > 0) & (frames[0][1] < 255)).any():
                    yield frames


def _write(folder: Path, frames: Frames) -> None:
    folder.mkdir()
    for number, (picture, mask) in enumerate(frames):
        (folder / f"{number:05d}.jpg").write_bytes(encode_jpeg(np.ascontiguousarray(picture), QUALITY))
        image = Image.fromarray(mask)
        image.putpalette(DAVIS_PALETTE)
        image.save(folder / f"{number:05d}.png")
        cv2.imwrite(str(folder / f"{number:05d}.gray.png"), mask)
