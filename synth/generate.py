"""SynthVOS as a plan of shards: which scenes go where, and how a scene becomes a record."""

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shards.codec import encode_jpeg
from shards.errors import BadFileError, SourceError
from shards.plan import SetDescription, Skipped
from shards.types import Record, StoredFrame
from synth.bank import PictureBank
from synth.compose import compose_scene
from synth.config import SynthConfig
from synth.pipelines import Pipelines
from synth.placement import PlacedScene
from synth.render import RenderedVideo, Renderer, single_threaded_opencv
from synth.scene import SCENE_VERSION, Scene
from synth.stored import StoredScenes, check_pictures, digest_scenes
from synth.truth import TRUTH_KINDS, TRUTH_NOTE, Truth, TruthKind, make_truth
from synth.types import BackgroundSource, ObjectSource

MAX_VIDEOS_PER_SHARD = 100
"""Videos of 8 frames at 240x432 take about 25 MB; small shards are cheap to redo after a kill."""

MIN_SHARDS = 8
"""Small sets are cut finer, so that several workers have work."""

VIDEOS_AT_ONCE = 25
"""Videos that are placed together, then rendered, then stored: calling NumPy costs more than the arithmetic of placing,
and rendering and storing drive each other's code and data out of the processor's caches. One process that stores each
video as soon as it is rendered takes 4 to 7 % longer on an AMD EPYC."""

MAX_PIXELS_AT_ONCE = 2**26
"""Pixels that the frames of these videos have at most, for large or long videos: they all wait in memory as masks."""

RENDERER_VERSION = 6
"""Raised whenever the same scene gives other pixels; part of the configuration, so that old and new never mix."""

RENDERING_KEYS = ("num_frames", "size", "frame_rate", "quality", "cutout_pipeline", "background_pipeline")
"""Keys of the configuration that say how scenes are rendered, not how they are drawn."""

OnBad = Literal["stop", "skip"]


class SynthPlan:
    """Plans a SynthVOS shard set; a :class:`shards.plan.ShardPlan`.

    Every video is a pure function of (configuration, seed, index, sources), so any process can make any shard.
    """

    renderer = "opencv"
    """Who draws the pixels."""

    def __init__(
        self,
        config: SynthConfig,
        objects: ObjectSource,
        backgrounds: BackgroundSource,
        num_videos: int,
        seed: int = 0,
        *,
        name: str = "synthvos",
        split: str = "train",
        on_bad: OnBad = "stop",
        truth: Collection[TruthKind] = (),
        stored: StoredScenes | None = None,
    ) -> None:
        """Checks the call and fingerprints the sources, which reads every file of them once.

        Args:
            config: what the videos look like; for stored scenes only size, length, frame rate and quality matter.
            objects: where cutouts come from.
            backgrounds: where backgrounds come from.
            num_videos: number of videos, at least 1.
            seed: 0 <= seed < 2**63, so that any JSON reader takes it; another seed gives other videos.
            name: name of the shard set.
            split: split that the set is said to be.
            on_bad: ``"stop"``: a file that cannot be used ends the run with an error; ``"skip"``: another picture is
                drawn instead, and every such file is reported once per shard.
            truth: which exact ground truth is stored besides the masks (:mod:`synth.truth`).
            stored: scenes to render again, the first ``num_videos`` of them; None draws new ones. Then the seed does
                not matter, and with ``on_bad="skip"`` a scene that needs a bad file is left out.

        Raises:
            ValueError: number of videos or seed is out of range.
            SourceError: a source is empty, or does not hold a picture that a stored scene names.
            BadFileError: a source lists files that cannot be used, and ``on_bad`` is ``"stop"``.
        """
        if num_videos < 1:
            raise ValueError(f"the number of videos must be at least 1, got {num_videos}")
        if not 0 <= seed < 2**63:
            raise ValueError(f"the seed must lie in [0, 2**63), got {seed}")
        for source in (objects, backgrounds):
            if len(source) == 0:
                raise SourceError(f"{source.name}: the source holds no pictures")
            if on_bad == "stop" and source.problems:
                count = "1 file" if len(source.problems) == 1 else f"{len(source.problems)} files"
                raise BadFileError(
                    f"{source.name}: {count} cannot be used, the first: {source.problems[0]}. "
                    "Repair or remove them, or go on without them with --on-bad skip."
                )
        self.config = config
        self.objects = objects
        self.backgrounds = backgrounds
        self.num_records = num_videos
        self.seed = seed
        self.name = name
        self.split = split
        self.on_bad = on_bad
        self.truth = tuple(kind for kind in TRUTH_KINDS if kind in truth)
        self.stored = stored
        if stored is not None:
            if num_videos > len(stored):
                raise ValueError(f"the number of videos must be at most that of the scenes, {len(stored)}")
            scenes = (stored.scene(number) for number in range(num_videos))
            self._scenes_digest = digest_scenes(check_pictures(scenes, objects, backgrounds))
        self._fingerprints = (objects.fingerprint(), backgrounds.fingerprint())
        self._idle_banks: list[PictureBank] = []

    def __getstate__(self) -> dict[str, Any]:
        """Everything but decoded pictures."""
        return {**self.__dict__, "_idle_banks": []}

    @property
    def videos_per_shard(self) -> int:
        """Videos in every shard but the last, which may hold fewer."""
        return min(MAX_VIDEOS_PER_SHARD, math.ceil(self.num_records / MIN_SHARDS))

    @property
    def num_shards(self) -> int:
        """Number of shards, a function of the number of videos alone."""
        return math.ceil(self.num_records / self.videos_per_shard)

    def configuration(self) -> dict[str, Any]:
        """Everything that determines the bytes.

        What to do with bad files is not part of it: a run that stopped at one may be continued without it.
        """
        synth = self.config.model_dump(mode="json")
        drawn: dict[str, Any] = {"seed": self.seed}
        if self.stored is not None:  # how they were drawn is over; what they are is in their digest
            synth = {key: synth[key] for key in RENDERING_KEYS}
            drawn = {"scenes": {"number": self.num_records, "digest": self._scenes_digest}}
        return {
            "maker": "synthvos",
            "scene_version": SCENE_VERSION,
            "renderer": self.renderer,
            "renderer_version": RENDERER_VERSION,
            **drawn,
            "synth": synth,
            "truth": list(self.truth),
            "objects": _describe(self.objects, self._fingerprints[0]),
            "backgrounds": _describe(self.backgrounds, self._fingerprints[1]),
        }

    def description(self) -> SetDescription:
        """What dataset.json and the card say."""
        height, width = self.config.size
        text = (
            f"Synthetic videos for video object segmentation: objects cut from {self.objects.name} "
            f"move over photographs of {self.backgrounds.name}, {self.config.num_frames} frames of {height}x{width} "
            f"each, with exact masks. Every record carries its scene, from which it can be rendered again.\n\n"
            f"The idea is SynthVOS of Johnander et al., A Generative Appearance Model for End-to-End Video Object "
            f"Segmentation (CVPR 2019). Made by `vosdata synth`"
        )
        text += f", seed {self.seed}." if self.stored is None else " from stored scenes."
        if self.truth:
            text += f"\n\nBesides the masks, records hold exact truth: {', '.join(self.truth)}. {TRUTH_NOTE}"
        return SetDescription(
            frame_size=self.config.size,
            frame_rate=self.config.frame_rate,
            source_fingerprint="+".join(self._fingerprints),
            licence=self._licence(),
            title="SynthVOS",
            text=text,
        )

    def records(self, shard: int) -> Iterator[Record | Skipped]:
        """Draws, renders and encodes the videos of one shard.

        Raises:
            BadFileError: a drawn picture cannot be used and ``on_bad`` is ``"stop"``.
        """
        with self._lent_bank() as bank:
            yield from self._records(shard, bank)

    @property
    def _videos_at_once(self) -> int:
        pixels = self.config.num_frames * math.prod(self.config.size)
        return max(1, min(VIDEOS_AT_ONCE, MAX_PIXELS_AT_ONCE // pixels))

    @contextmanager
    def _lent_bank(self) -> Iterator[PictureBank]:
        """A bank of decoded pictures for one thread; those of earlier shards are used again."""
        bank = self._idle_banks.pop() if self._idle_banks else PictureBank(self.objects, self.backgrounds)
        try:
            yield bank
        finally:
            self._idle_banks.append(bank)

    def _records(self, shard: int, bank: PictureBank) -> Iterator[Record | Skipped]:
        pipelines = Pipelines(self.config.cutout_pipeline, self.config.background_pipeline)
        renderer = Renderer(bank, self.config.size, self.config.num_frames, pipelines)
        reported: dict[str, Skipped] = {}
        if shard == 0:
            for source in (self.objects, self.backgrounds):
                yield from (Skipped(f"{source.name}/{problem.name}", problem.reason) for problem in source.problems)
        indices = range(shard * self.videos_per_shard, min((shard + 1) * self.videos_per_shard, self.num_records))
        count = self._videos_at_once
        for first in range(0, len(indices), count):
            known = len(reported)
            with single_threaded_opencv():
                drawn = [self._scene(index, bank, reported, pipelines) for index in indices[first : first + count]]
                placed = renderer.place([scene for scene in drawn if scene is not None])
            yield from list(reported.values())[known:]
            placed.reverse()
            videos = []
            while placed:  # what one was drawn with goes before the next is drawn
                one = placed.pop()
                videos.append((one.scene, *self._video(one, renderer)))
            yield from (self._record(*video) for video in videos)

    def _video(self, placed: PlacedScene, renderer: Renderer) -> tuple[tuple[StoredFrame, ...], Truth | None]:
        """Renders and encodes a video."""
        scene = placed.scene
        images: list[bytes] = []
        with single_threaded_opencv():
            encode = partial(_encode, images, scene.jpeg_quality(self.config.quality))
            video = renderer.draw(placed, amodal=bool(self.truth), take=encode)
            truth = self._make_truth(scene, video, renderer.bank) if self.truth else None
        extras = truth.extras if truth else [{}] * len(images)
        parts = enumerate(zip(images, video.masks, extras, strict=True))
        return tuple(StoredFrame(t, image, mask, files) for t, (image, mask, files) in parts), truth

    def _make_truth(self, scene: Scene, video: RenderedVideo, bank: PictureBank) -> Truth:
        origins = bank.scene_origins(scene) if "sources" in self.truth else None
        return make_truth(self.truth, scene, video, best_quality=self.config.quality, origins=origins)

    def scenes(self, reported: dict[str, Skipped]) -> Iterator[Scene]:
        """The scenes alone, in order.

        Args:
            reported: takes every bad file that was passed over, by its name.

        Raises:
            BadFileError: a drawn picture cannot be used and ``on_bad`` is ``"stop"``.
        """
        pipelines = Pipelines(self.config.cutout_pipeline, self.config.background_pipeline)
        with self._lent_bank() as bank:
            for index in range(self.num_records):
                scene = self._scene(index, bank, reported, pipelines)
                if scene is not None:
                    yield scene

    def _scene(self, index: int, bank: PictureBank, reported: dict[str, Skipped], pipelines: Pipelines) -> Scene | None:
        """Draws a scene or takes the stored one; None when that one cannot be rendered and is left out."""
        if self.stored is None:
            return self._draw(index, bank, reported, pipelines)
        scene = self.stored.scene(index)
        try:
            bank.load_pictures(scene)
        except BadFileError as error:
            if self.on_bad == "stop":
                raise BadFileError(f"{error}. Repair it, or leave its scenes out with --on-bad skip.") from error
            name = f"scene {scene.index}"
            reported[name] = Skipped(name, str(error))
            return None
        return scene

    def _draw(self, index: int, bank: PictureBank, reported: dict[str, Skipped], pipelines: Pipelines) -> Scene:
        def report(name: str, error: BadFileError) -> None:
            reported.setdefault(name, Skipped(name, str(error)))

        try:
            skip = report if self.on_bad == "skip" else None
            return compose_scene(self.config, self.seed, index, bank, skip, pipelines)
        except BadFileError as error:
            raise BadFileError(f"{error}. Repair or remove it, or go on without it with --on-bad skip.") from error

    def _record(self, scene: Scene, frames: tuple[StoredFrame, ...], truth: Truth | None) -> Record:
        return Record(
            sequence=f"{scene.index:06d}",
            frames=frames,
            height=self.config.size[0],
            width=self.config.size[1],
            source=f"{self.objects.name} over {self.backgrounds.name}",
            licence=self._licence(),
            provenance=f"vosdata synth: scene {scene.index} of seed {scene.seed}",
            extra={"scene": scene.to_json(), **({"truth": truth.values} if truth else {})},
        )

    def _licence(self) -> str:
        """Licences of both sources; one that is unknown is said to be, because the other does not cover it."""
        licences = {source.name: source.licence for source in (self.objects, self.backgrounds)}
        if len(set(licences.values())) == 1:
            return self.objects.licence
        return "; ".join(f"{name}: {licence or 'unknown'}" for name, licence in licences.items())


def _encode(images: list[bytes], quality: int, frame: NDArray[np.uint8]) -> None:
    """Appends a frame as JPEG."""
    images.append(encode_jpeg(frame, quality))


def _describe(source: ObjectSource | BackgroundSource, fingerprint: str) -> dict[str, Any]:
    return {"name": source.name, "num_pictures": len(source), "fingerprint": fingerprint}
