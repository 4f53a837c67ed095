"""SynthVOS rendered on a device: as :mod:`synth.generate`, but in batches.

Processes draw the scenes of the next batches, and threads encode the last one: to draw the scenes of a batch on one
core takes longer than a GPU takes to render them.
"""

import multiprocessing
import os
import pickle
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from shards.codec import encode_jpeg
from shards.plan import Skipped
from shards.process_engine import start_worker
from shards.types import Record, StoredFrame
from synth.bank import PictureBank
from synth.generate import SynthPlan
from synth.pipelines import Pipelines
from synth.render import single_threaded_opencv
from synth.scene import Scene

if TYPE_CHECKING:
    from synth.render_torch import TorchRenderer

VIDEOS_AT_ONCE = 64
"""Videos of a batch."""

FEW_VIDEOS = 1000
"""Fewer than these are drawn in this process: others would take longer to start."""


class DevicePlan(SynthPlan):
    """Plans a SynthVOS shard set that :class:`synth.render_torch.TorchRenderer` draws.

    Scenes are those of :class:`~synth.generate.SynthPlan`; pixels may differ in few places, also from device to device,
    so the configuration says who drew them.
    """

    renderer = "torch"

    def __init__(self, *arguments: Any, device: str, drawers: int | None = None, **options: Any) -> None:
        """Checks the call.

        Args:
            arguments: as of :class:`~synth.generate.SynthPlan`.
            device: where to render, as PyTorch names it.
            drawers: processes that draw scenes; 0: this one does. None: one for each core, or 0 for ``FEW_VIDEOS`` and
                for stored scenes, which are drawn already. Changes no byte.
            options: as of :class:`~synth.generate.SynthPlan`, but for ``truth``.

        Raises:
            ValueError: exact truth is asked for, or as :class:`~synth.generate.SynthPlan`; others likewise.
        """
        super().__init__(*arguments, **options)
        if self.truth:
            raise ValueError("exact truth is made on the CPU; leave out --truth, or use --device cpu")
        self.device = device
        cores = len(os.sched_getaffinity(0))
        worth_it = cores > 1 and self.num_records > FEW_VIDEOS and self.stored is None
        self.num_drawers = drawers if drawers is not None else cores * worth_it
        self._drawers: ProcessPoolExecutor | None = None
        self._packed = b""
        self._rendering: tuple[PictureBank, TorchRenderer] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but processes, decoded and resident pictures."""
        return {**super().__getstate__(), "_drawers": None, "_rendering": None}

    def _renderer(self, bank: PictureBank, pipelines: Pipelines) -> "TorchRenderer":
        """The renderer for a bank; pictures of earlier shards stay on the device."""
        if self._rendering is None or self._rendering[0] is not bank:
            from synth.render_torch import TorchRenderer

            changed = self.config.cutout_pipeline is not None or self.config.background_pipeline is not None
            made = TorchRenderer(bank, self.config.size, self.device, pipelines=pipelines if changed else None)
            self._rendering = bank, made
        return self._rendering[1]

    def _records(self, shard: int, bank: PictureBank) -> Iterator[Record | Skipped]:
        pipelines = Pipelines(self.config.cutout_pipeline, self.config.background_pipeline)
        renderer = self._renderer(bank, pipelines)
        reported: dict[str, Skipped] = {}
        if shard == 0:
            for source in (self.objects, self.backgrounds):
                for problem in source.problems:
                    name = f"{source.name}/{problem.name}"
                    reported[name] = Skipped(name, problem.reason)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            before: _Encoding | None = None
            known = 0
            for drawn in self._batches(shard, bank, pipelines):
                reported |= {name: one for name, one in drawn.reported.items() if name not in reported}
                yield from list(reported.values())[known:]
                known = len(reported)
                encoding = self._begin(renderer, drawn.scenes, pool)
                if before is not None:
                    yield from self._finish(before)
                before = encoding
            if before is not None:
                yield from self._finish(before)

    def _batches(self, shard: int, bank: PictureBank, pipelines: Pipelines) -> Iterator["_Drawn"]:
        """The scenes of a shard, some at a time and in order."""
        end = min((shard + 1) * self.videos_per_shard, self.num_records)
        batches = [
            range(first, min(first + VIDEOS_AT_ONCE, end))
            for first in range(shard * self.videos_per_shard, end, VIDEOS_AT_ONCE)
        ]
        if not self.num_drawers:
            yield from (self.draw(indices, bank, pipelines) for indices in batches)
            return
        if self._drawers is None:
            context = multiprocessing.get_context("spawn")
            self._drawers = ProcessPoolExecutor(self.num_drawers, mp_context=context, initializer=start_worker)
            self._packed = pickle.dumps(self)
        ahead: deque[Future[_Drawn]] = deque()
        try:
            for indices in batches:
                ahead.append(self._drawers.submit(_draw, self._packed, indices))
                if len(ahead) > 2 * self.num_drawers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        except BrokenProcessPool:
            self._drawers = None  # one was killed; whoever goes on begins with new ones
            raise
        finally:
            for future in ahead:
                future.cancel()

    def draw(self, indices: range, bank: PictureBank, pipelines: Pipelines) -> "_Drawn":
        """Draws scenes, or takes stored ones.

        Raises:
            BadFileError: a picture cannot be used and ``on_bad`` is ``"stop"``.
        """
        reported: dict[str, Skipped] = {}
        with single_threaded_opencv():
            scenes = [self._scene(index, bank, reported, pipelines) for index in indices]
        return _Drawn([scene for scene in scenes if scene is not None], reported)

    def _begin(self, renderer: "TorchRenderer", scenes: list[Scene], pool: ThreadPoolExecutor) -> "_Encoding":
        """Renders scenes and begins to encode them."""
        if not scenes:
            return _Encoding([], [], [])
        from synth.resident import fetch

        rendered = renderer.render(scenes, self.config.num_frames)
        frames, masks = fetch(rendered.frames.permute(0, 1, 3, 4, 2)), fetch(rendered.masks)
        images = [
            [pool.submit(encode_jpeg, frame, scene.jpeg_quality(self.config.quality)) for frame in video]
            for scene, video in zip(scenes, frames, strict=True)
        ]
        return _Encoding(scenes, images, list(masks))

    def _finish(self, encoding: "_Encoding") -> Iterator[Record]:
        for scene, images, masks in zip(encoding.scenes, encoding.images, encoding.masks, strict=True):
            parts = enumerate(zip(images, masks, strict=True))
            frames = tuple(StoredFrame(t, image.result(), mask) for t, (image, mask) in parts)
            yield self._record(scene, frames, None)


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """Scenes of a batch."""

    scenes: list[Scene]

    reported: dict[str, Skipped]
    """What was left out or passed over, by name."""


def _draw(packed: bytes, indices: range) -> _Drawn:
    """Draws scenes in a process of its own, for a pickled plan."""
    plan, bank, pipelines = _unpacked(packed)
    return plan.draw(indices, bank, pipelines)


@lru_cache(maxsize=1)
def _unpacked(packed: bytes) -> tuple[DevicePlan, PictureBank, Pipelines]:
    """The plan and what it draws with: one for all batches, so that decoded pictures stay."""
    plan: DevicePlan = pickle.loads(packed)
    pipelines = Pipelines(plan.config.cutout_pipeline, plan.config.background_pipeline)
    return plan, PictureBank(plan.objects, plan.backgrounds), pipelines


@dataclass(frozen=True, slots=True, eq=False)
class _Encoding:
    """Rendered videos whose frames are being encoded."""

    scenes: list[Scene]
    images: list[list[Future[bytes]]]
    masks: list[Any]
    """``uint8 (T, H, W)`` of each video."""
