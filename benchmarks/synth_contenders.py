"""Ways from pictures to stored videos, as worker processes that take turns.

``encode``  encodes frames and masks that lie ready in memory, and keeps nothing
``floor``   encodes the same, and stores it as ours does, to the same bytes: what is left when making frames is free
``ours``    draws, renders, encodes and stores: ``make_shard`` as ``vosdata synth`` does, checksums and fsync included
``paste``   what one writes first with OpenCV: every object warped over the whole frame and blended in floating point
``pillow``  what STCN and XMem do with still pictures: every picture and its mask warped anew for every frame by Pillow.
            Their thin-plate splines, on every third frame, are left out, which makes it faster

``paste`` gets scenes and maps for nothing and leaves out all light, shadow and blur; ``pillow`` draws its own motion.
Both write JPEG of the scene's quality and palette PNG into a tar, without index, checksums and fsync.
"""

import io
import json
import multiprocessing
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from shutil import rmtree
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from shards.build import make_shard
from shards.codec import encode_jpeg
from shards.manifest import ShardInfo
from shards.masks import DAVIS_PALETTE, encode_mask
from shards.memory import keep_freed_memory
from shards.types import Record
from shards.workspace import Workspace
from synth.bank import PictureBank
from synth.config import make_config
from synth.generate import SynthPlan
from synth.geometry import between_pixel_centres
from synth.presets import PresetName
from synth.render import RenderedVideo, Renderer, single_threaded_opencv
from synth.scene import Scene
from synth.sources import join_backgrounds, join_objects, open_backgrounds, open_objects

NAMES = ("encode", "floor", "ours", "paste", "pillow")
NUM_SHARDS = 8
MEAN_COLOUR = (124, 116, 104)


@dataclass(frozen=True)
class Case:
    """What videos to make."""

    preset: PresetName
    size: tuple[int, int]
    num_frames: int
    videos: int
    """Videos per worker, made over and over."""

    @property
    def name(self) -> str:
        return f"{self.preset}, {self.size[0]}x{self.size[1]}, {self.num_frames} frames"


@dataclass(frozen=True)
class Sources:
    """Where pictures come from."""

    objects: tuple[str, ...]
    backgrounds: tuple[str, ...]

    def plan(self, case: Case, num_videos: int) -> SynthPlan:
        config = make_config({"size": case.size, "num_frames": case.num_frames}, (), case.preset)
        objects = join_objects([open_objects(spec) for spec in self.objects])
        backgrounds = join_backgrounds([open_backgrounds(spec) for spec in self.backgrounds])
        return SynthPlan(config, objects, backgrounds, num_videos)


@dataclass(frozen=True)
class Ready:
    """A video with all that any contender needs in memory."""

    record: Record
    """As ours stores it."""

    scene: Scene
    video: RenderedVideo
    quality: int
    cutouts: tuple[NDArray[np.uint8], ...]
    """Straight RGBA."""

    background: NDArray[np.uint8]
    """RGB."""

    def encoded(self) -> Record:
        """The record, its frames encoded anew."""
        frames = zip(self.record.frames, self.video.frames, self.video.masks, strict=True)
        stored = [replace(one, image=encode_jpeg(frame, self.quality), mask=mask) for one, frame, mask in frames]
        return replace(self.record, frames=tuple(stored))


@dataclass(frozen=True)
class ReadyPlan:
    """A plan whose frames only need to be encoded. Only its records are asked for."""

    ready: list[Ready]
    name: str = "synthvos"

    def records(self, shard: int) -> Iterator[Record]:
        return (one.encoded() for one in self.ready)


class Work:
    """The contenders on the videos of one shard. Each is a generator that yields numbers of videos made."""

    def __init__(self, case: Case, sources: Sources, worker: int, folder: Path) -> None:
        cv2.setNumThreads(1)
        self.plan = sources.plan(case, NUM_SHARDS * case.videos)
        self.worker = worker
        self.folder = folder / f"worker{worker}"
        self.case = case
        self.ready = list(self._prepare())
        if self._store(ReadyPlan(self.ready)).crc32c != self._store(self.plan).crc32c:
            raise SystemExit(f"{case.name}: frames encoded alone give other shards")

    def _prepare(self) -> Iterator[Ready]:
        plan = self.plan
        renderer = Renderer(PictureBank(plan.objects, plan.backgrounds), self.case.size, self.case.num_frames)
        for record in plan.records(self.worker):
            if not isinstance(record, Record):
                continue
            scene = Scene.from_json(record.extra["scene"])
            with single_threaded_opencv():
                video = renderer.render(scene)
            cutouts = tuple(plan.objects.load(item.number).rgba for item in scene.objects)
            background = plan.backgrounds.load(scene.background.number).rgb
            yield Ready(record, scene, video, scene.jpeg_quality(plan.config.quality), cutouts, background)

    def _store(self, plan: Any) -> ShardInfo:
        """Makes the shard in an empty folder."""
        rmtree(self.folder, ignore_errors=True)
        workspace = Workspace(self.folder, plan.name, "none")
        workspace.path.mkdir(parents=True)
        return make_shard(plan, self.worker, workspace)

    def encode(self) -> Iterator[int]:
        while True:
            for one in self.ready:
                for frame, mask in zip(one.video.frames, one.video.masks, strict=True):
                    encode_jpeg(frame, one.quality)
                    encode_mask(mask)
                yield 1

    def floor(self) -> Iterator[int]:
        while True:
            yield self._store(ReadyPlan(self.ready)).num_records

    def ours(self) -> Iterator[int]:
        while True:
            yield self._store(self.plan).num_records

    def paste(self) -> Iterator[int]:
        yield from self._written(paste_frames)

    def pillow(self) -> Iterator[int]:
        yield from self._written(pillow_frames)

    def _written(self, make: Any) -> Iterator[int]:
        while True:
            rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            with tarfile.open(self.folder / "plain.tar", "w") as tar:
                for one in self.ready:
                    key = f"{one.scene.index:06d}"
                    add_member(tar, f"{key}.json", json.dumps({"key": key}).encode())
                    for t, (jpeg, png) in enumerate(make(one, self.case.size)):
                        add_member(tar, f"{key}.frame{t:05d}.jpg", jpeg)
                        add_member(tar, f"{key}.mask{t:05d}.png", png)
                    yield 1

    def timed(self, name: str, seconds: float) -> tuple[int, float]:
        """Runs a contender for about so long: videos and seconds."""
        made, stream = 0, getattr(self, name)()
        start = time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds:
            made += next(stream)
        stream.close()
        return made, passed


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def encode_palette(mask: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(mask)
    image.putpalette(DAVIS_PALETTE)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def paste_frames(one: Ready, size: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """Full-frame OpenCV: the same maps and order as in ours, one warp and one float blend of the frame per object."""
    shape = size[::-1]
    ids = [item.id for item in one.scene.objects]
    background_maps = between_pixel_centres(one.video.background_maps)
    object_maps = between_pixel_centres(one.video.object_maps)
    for t in range(len(background_maps)):
        frame = cv2.warpAffine(one.background, background_maps[t], shape, borderMode=cv2.BORDER_REFLECT_101)
        mask = np.zeros(size, np.uint8)
        for number in one.video.order[t, ::-1].tolist():
            warped = cv2.warpAffine(one.cutouts[number], object_maps[number, t], shape)
            alpha = warped[:, :, 3:].astype(np.float32) / 255
            frame = (warped[:, :, :3] * alpha + frame * (1 - alpha)).astype(np.uint8)
            mask[warped[:, :, 3] >= 128] = ids[number]
        _, jpeg = cv2.imencode(".jpg", frame[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, one.quality])
        yield jpeg.tobytes(), encode_palette(mask)


def pillow_frames(one: Ready, size: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """Per-frame affine of still pictures: rotation of 20 degrees, scale of 0.9 to 1.1, shear of 10 degrees, bicubic for
    picture and mask, brightness, contrast and saturation of 10 %; pictures after the first pasted by their masks."""
    rng = np.random.default_rng(one.scene.index)
    height, width = size
    whole = Image.fromarray(one.background).resize((width, height), Image.Resampling.BICUBIC)
    stills: list[tuple[Image.Image, Image.Image | None]] = [(whole, None)]
    for cutout in one.cutouts:
        whole = Image.fromarray(cutout).resize((width, height), Image.Resampling.BICUBIC)
        flat = Image.new("RGB", (width, height), MEAN_COLOUR)
        flat.paste(whole, mask=whole.getchannel("A"))
        stills.append((flat, whole.getchannel("A")))
    for _ in range(len(one.video.frames)):
        frame, ids = np.empty((height, width, 3), np.uint8), np.zeros(size, np.uint8)
        for number, (still, mask) in enumerate(stills):
            place = random_affine(rng, size)
            warped = still.transform(
                (width, height), Image.Transform.AFFINE, place, Image.Resampling.BICUBIC, fillcolor=MEAN_COLOUR
            )
            for jitter in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                warped = jitter(warped).enhance(rng.uniform(0.9, 1.1))
            if mask is None:
                frame[:] = np.asarray(warped)
                continue
            moved = mask.transform((width, height), Image.Transform.AFFINE, place, Image.Resampling.BICUBIC)
            inside = np.asarray(moved) >= 128
            frame = np.where(inside[:, :, None], np.asarray(warped), frame)
            ids[inside] = number
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=one.quality)
        yield file.getvalue(), encode_palette(ids)


def random_affine(rng: np.random.Generator, size: tuple[int, int]) -> tuple[float, ...]:
    """Output to input pixels about the middle, as Pillow wants it."""
    angle, shear = np.radians(rng.uniform(-20, 20)), np.radians(rng.uniform(-10, 10))
    scale = rng.uniform(0.9, 1.1)
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    matrix = np.array([[cosine, sine], [-sine, cosine]]) @ np.array([[1, np.tan(shear)], [0, 1]])
    middle = np.array([size[1] / 2, size[0] / 2])
    shift = middle - matrix @ middle
    return (*matrix[0].tolist(), float(shift[0]), *matrix[1].tolist(), float(shift[1]))


class Workers:
    """Processes that run the same contender at the same time."""

    def __init__(self, case: Case, sources: Sources, count: int, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes = []
        self._ends: list[Connection] = []
        for worker in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, case, sources, worker, folder), daemon=True)
            process.start()
            there.close()
            self._processes.append(process)
            self._ends.append(here)
        self._answers()

    def rate(self, name: str, seconds: float) -> float:
        """Videos per second of all of them together."""
        for end in self._ends:
            end.send((name, seconds))
        return float(sum(made / passed for made, passed in self._answers()))

    def close(self) -> None:
        for end, process in zip(self._ends, self._processes, strict=True):
            end.close()
            process.join()

    def _answers(self) -> list[tuple[int, float]]:
        try:
            return [end.recv() for end in self._ends]
        except EOFError:
            raise SystemExit("a worker ended; what it said stands above") from None


def _serve(end: Connection, case: Case, sources: Sources, worker: int, folder: Path) -> None:
    keep_freed_memory()  # as in the processes of the command; it speeds all contenders up
    work = Work(case, sources, worker, folder)
    end.send((0, 0.0))
    while True:
        try:
            name, seconds = end.recv()
        except EOFError:
            return
        end.send(work.timed(name, seconds))
