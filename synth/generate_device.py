"""SynthVOS rendered on a device: as :mod:`synth.generate`, but in batches, while threads encode the last one."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shards.codec import encode_jpeg
from shards.plan import Skipped
from shards.types import Record, StoredFrame
from synth.bank import PictureBank
from synth.generate import SynthPlan
from synth.pipelines import Pipelines
from synth.render import single_threaded_opencv
from synth.scene import Scene

if TYPE_CHECKING:
    from synth.render_torch import TorchRenderer

VIDEOS_AT_ONCE = 32
"""Videos of a batch."""


class DevicePlan(SynthPlan):
    """Plans a SynthVOS shard set that :class:`synth.render_torch.TorchRenderer` draws.

    Scenes are those of :class:`~synth.generate.SynthPlan`; pixels may differ in few places, also from device to device,
    so the configuration says who drew them.
    """

    renderer = "torch"

    def __init__(self, *arguments: Any, device: str, **options: Any) -> None:
        """Checks the call.

        Args:
            arguments: as of :class:`~synth.generate.SynthPlan`.
            device: where to render, as PyTorch names it.
            options: as of :class:`~synth.generate.SynthPlan`, but for ``truth``.

        Raises:
            ValueError: exact truth is asked for, or as :class:`~synth.generate.SynthPlan`; others likewise.
        """
        super().__init__(*arguments, **options)
        if self.truth:
            raise ValueError("exact truth is made on the CPU; leave out --truth, or use --device cpu")
        self.device = device
        self._drawer: tuple[PictureBank, TorchRenderer] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but decoded and resident pictures."""
        return {**super().__getstate__(), "_drawer": None}

    def _renderer(self, bank: PictureBank, pipelines: Pipelines) -> "TorchRenderer":
        """The renderer for a bank; pictures of earlier shards stay on the device."""
        if self._drawer is None or self._drawer[0] is not bank:
            from synth.render_torch import TorchRenderer

            changed = self.config.cutout_pipeline is not None or self.config.background_pipeline is not None
            made = TorchRenderer(bank, self.config.size, self.device, pipelines=pipelines if changed else None)
            self._drawer = bank, made
        return self._drawer[1]

    def _records(self, shard: int, bank: PictureBank) -> Iterator[Record | Skipped]:
        pipelines = Pipelines(self.config.cutout_pipeline, self.config.background_pipeline)
        renderer = self._renderer(bank, pipelines)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            before: _Encoding | None = None
            for skipped, scenes in self._batches(shard, bank, pipelines):
                yield from skipped
                encoding = self._begin(renderer, scenes, pool)
                if before is not None:
                    yield from self._finish(before)
                before = encoding
            if before is not None:
                yield from self._finish(before)

    def _batches(
        self, shard: int, bank: PictureBank, pipelines: Pipelines
    ) -> Iterator[tuple[list[Skipped], list[Scene]]]:
        """What was left out, and the scenes of a shard, some at a time."""
        reported: dict[str, Skipped] = {}
        if shard == 0:
            for source in (self.objects, self.backgrounds):
                for problem in source.problems:
                    name = f"{source.name}/{problem.name}"
                    reported[name] = Skipped(name, problem.reason)
        known = 0
        end = min((shard + 1) * self.videos_per_shard, self.num_records)
        for first in range(shard * self.videos_per_shard, end, VIDEOS_AT_ONCE):
            with single_threaded_opencv():
                indices = range(first, min(first + VIDEOS_AT_ONCE, end))
                drawn = [self._scene(index, bank, reported, pipelines) for index in indices]
            yield list(reported.values())[known:], [scene for scene in drawn if scene is not None]
            known = len(reported)

    def _begin(self, renderer: "TorchRenderer", scenes: list[Scene], pool: ThreadPoolExecutor) -> "_Encoding":
        """Renders scenes and begins to encode them."""
        if not scenes:
            return _Encoding([], [], [])
        rendered = renderer.render(scenes, self.config.num_frames)
        frames, masks = rendered.frames.permute(0, 1, 3, 4, 2).cpu().numpy(), rendered.masks.cpu().numpy()
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
class _Encoding:
    """Rendered videos whose frames are being encoded."""

    scenes: list[Scene]
    images: list[list[Future[bytes]]]
    masks: list[Any]
    """``uint8 (T, H, W)`` of each video."""
