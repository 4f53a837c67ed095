"""Measures how fast A-GAME trains from shards and segments, beside a straightforward implementation in the same run.

All take turns, so that whatever else the machine does meets all. Ours is what ``vosdata train`` runs (the same step,
fed by the same stream); the other is benchmarks/plain_agame.py with the same weights, in float32. Frames are SynthVOS
made from built-in pictures. Results go to benchmarks/results/train_speed.{json,md}.

    python benchmarks/train_speed.py                    # everything; ResNet-101 on a GPU, ResNet-18 on a CPU
    python benchmarks/train_speed.py --quick            # a tiny network on tiny frames: does it run?
    python benchmarks/train_speed.py --cases 4x8@240x432 --rounds 3 --set train.compile=heads
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from flops import count_flops
from numpy.typing import NDArray
from plain_agame import PlainAGAME
from speed_report import write_report
from time_shares import time_shares
from torch import Tensor
from torch.nn.functional import conv2d

from shards.build import build_shard_set
from shards.memory import keeping_freed_memory
from shards.reader import ShardSet
from synth.config import SynthConfig
from synth.generate import SynthPlan
from synth.sources import open_backgrounds, open_objects
from vosdata.ahead import ahead
from vosdata.batch import SnippetBatch
from vosdata.frames import NumberedFrame, open_frames
from vosdata.infer import segment_frames
from vosdata.models.agame import AGAME, VideoSegmenter
from vosdata.models.agame.compiled import compile_heads
from vosdata.recipe import Recipe, load_recipe
from vosdata.stream import SnippetStream
from vosdata.train import Run
from vosdata.training.losses import segmentation_loss
from vosdata.training.metrics_log import Stopwatch
from vosdata.training.ranks import Ranks, choose_device

QUICK = [
    "model.backbone_width=8",
    *(f"model.{part}_channels=8" for part in ("appearance", "propagation", "fusion", "encoding", "upsampling")),
]
NUM_VIDEOS = 24
GAIN = 1.03
"""A doubled batch helps when it makes at least so many times the frames per second."""


@dataclass(frozen=True)
class Case:
    """What is trained on, such as ``4x8@240x432``."""

    batch: int
    num_frames: int
    size: tuple[int, int]

    @classmethod
    def read(cls, text: str) -> "Case":
        counts, size = text.split("@")
        (batch, num_frames), (height, width) = (map(int, one.split("x")) for one in (counts, size))
        return cls(batch, num_frames, (height, width))

    def __str__(self) -> str:
        return f"{self.batch}x{self.num_frames}@{self.size[0]}x{self.size[1]}"


@dataclass
class Result:
    """Rates of one case, one entry per round."""

    task: str
    """``train``; ``segment`` with the number of objects, frames in memory; ``video``, from JPEG files."""

    case: str
    precision: str
    """Ours: of the convolutions."""

    flops_per_frame: float
    ours: list[float] = field(default_factory=list)
    """Frames/s."""

    plain: list[float] = field(default_factory=list)
    """Frames/s of the straightforward implementation; empty where it was not measured."""

    waited: list[float] = field(default_factory=list)
    """Share of our time spent waiting for data."""

    shares: dict[str, float] = field(default_factory=dict)
    """What our time goes to, by kind of operation."""


@dataclass(frozen=True)
class Bench:
    """How everything is measured."""

    options: argparse.Namespace
    device: torch.device
    work: Path

    @property
    def precisions(self) -> list[str]:
        """Of ours: as asked for, else what pays on this device."""
        if self.options.precision:
            return list(self.options.precision)
        if self.device.type == "cuda":
            return ["bfloat16"]
        has_bfloat16 = "avx512_bf16" in Path("/proc/cpuinfo").read_text()
        return ["float32", "bfloat16"] if has_bfloat16 else ["float32"]

    def seconds(self, work: Callable[[], object]) -> float:
        """Time that some work takes, on the device too."""
        self._settle()
        before = time.perf_counter()
        work()
        self._settle()
        return time.perf_counter() - before

    def _settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def recipe(self, case: Case, precision: str) -> Recipe:
        sets = {str(self._shards(case)): 1.0}
        backbone = self.options.backbone or ("resnet101" if self.device.type == "cuda" else "resnet18")
        overrides = [f"model.backbone={backbone}", "model.weights=none", *(QUICK if self.options.quick else [])]
        return load_recipe(
            "agame_initial",
            [
                *overrides,
                f"data.sets={sets}",
                f"data.frames={case.num_frames}",
                f"data.size={case.size[0]}x{case.size[1]}",
                f"train.batch={case.batch}",
                f"train.precision={precision}",
                f"run.threads={self.options.threads}",
                *self.options.set,
            ],
        )

    def _shards(self, case: Case) -> Path:
        """The shard set of a case; made when it is not there."""
        folder = self.work / f"{case.num_frames}x{case.size[0]}x{case.size[1]}"
        config, count = SynthConfig(num_frames=case.num_frames, size=case.size), 4 if self.options.quick else NUM_VIDEOS
        build_shard_set(SynthPlan(config, open_objects("builtin"), open_backgrounds("builtin"), count), folder)
        return folder

    def trainers(self, case: Case, precisions: list[str]) -> list[Run]:
        """What ``vosdata train`` steps through, in each precision; they share a stream: close it."""
        recipes = [self.recipe(case, precision) for precision in precisions]
        stream = SnippetStream(
            recipes[0].data.sets,  # type: ignore[arg-type]
            snippet=case.num_frames,
            size=case.size,
            batch=case.batch,
            threads=self.options.threads,
            flip=True,
        )
        ranks = Ranks(0, 1, self.device)
        return [Run(one, self.work, ranks, stream, AGAME(one.model.config()), "none") for one in recipes]

    def training(self, case: Case, precisions: list[str], with_plain: bool = True) -> list[Result]:
        """Measures training, all in turns; every trainer takes its batches from the same stream."""
        runs = self.trainers(case, precisions)
        first, steps = runs[0], self.options.steps
        plain = plain_trainer(PlainAGAME(first.network), first) if with_plain else None
        flops = count_flops(first.network, case.size).training
        results = [Result("train", str(case), precision, flops) for precision in precisions]
        watch = Stopwatch()

        def ours(run: Run) -> None:
            for _ in range(steps):
                with watch.waiting():
                    batch = next(first.batches)
                run.train_on(batch)

        def rate(work: Callable[[], object]) -> float:
            return steps * case.batch * case.num_frames / self.seconds(work)

        with first.stream:
            for run in runs:
                run.train_on(next(first.batches))  # warms up
            if plain is not None:
                next(plain)
            for _ in range(self.options.rounds):
                for run, result in zip(runs, results, strict=True):
                    watch.lap()
                    result.ours.append(rate(partial(ours, run)))
                    result.waited.append(watch.lap()[1])
                if plain is not None:
                    results[0].plain.append(rate(lambda: [next(plain) for _ in range(steps)]))
            for run, result in zip(runs, results, strict=True):
                batch, result.plain = next(first.batches), results[0].plain
                result.shares = time_shares(partial(run.train_on, batch), self.device)
        return results

    def largest_batch(self, case: Case, precision: str) -> Result:
        """Doubles the batch as long as that makes more frames per second and fits into memory."""
        (best,) = self.training(case, [precision], with_plain=False)
        while True:
            case = Case(2 * case.batch, case.num_frames, case.size)
            try:
                (found,) = self.training(case, [precision], with_plain=False)
            except torch.OutOfMemoryError:
                return best
            if median(found.ours) < GAIN * median(best.ours):
                return best
            best = found

    def segmenters(self, model: AGAME) -> list[VideoSegmenter]:
        """One in each precision."""
        return [
            VideoSegmenter(model, autocast=torch.bfloat16 if precision == "bfloat16" else None)
            for precision in self.precisions
        ]

    def segmentation(self, case: Case, num_objects: int) -> list[Result]:
        """Measures inference of several objects in a video that is already decoded."""
        recipe = self.recipe(case, "float32")
        model = AGAME(recipe.model.config()).to(self.device)
        plain = PlainAGAME(model).eval()
        generator = torch.Generator().manual_seed(0)
        frames = torch.randint(0, 256, (case.num_frames, 3, *case.size), generator=generator, dtype=torch.uint8)
        frames, given = frames.to(self.device), torch.from_numpy(given_mask(case.size, num_objects)).to(self.device)
        if recipe.train.compile == "heads":
            compile_heads(model)

        def ours(segmenter: VideoSegmenter) -> None:
            segmenter.reset()
            for step, frame in enumerate(frames):
                segmenter.advance(frame, given if step == 0 else None)

        flops = count_flops(model, case.size).inference(num_objects)
        what = f"{case.num_frames} frames of {case.size[0]}x{case.size[1]}"
        results = [Result(f"segment {num_objects}", what, precision, flops) for precision in self.precisions]
        works = [partial(ours, segmenter) for segmenter in self.segmenters(model)]
        for number in range(self.options.rounds + 1):
            rates = [case.num_frames / self.seconds(work) for work in works]
            if number:  # the first warms up
                for result, rate in zip(results, rates, strict=True):
                    result.ours.append(rate)
            seconds = self.seconds(lambda: plain.segment(frames, given, num_objects))
            if number:
                results[0].plain.append(case.num_frames / seconds)
        for result, work in zip(results, works, strict=True):
            result.plain, result.shares = results[0].plain, time_shares(work, self.device)
        return results

    def video(self, case: Case) -> list[Result]:
        """Measures inference of one object in a video of JPEG files, which the other decodes before it begins."""
        model = AGAME(self.recipe(case, "float32").model.config()).to(self.device)
        plain, frames = PlainAGAME(model).eval(), self._pictures(case)
        given = given_mask(case.size, 1)
        flops = count_flops(model, case.size).inference(1)
        what = f"{case.num_frames} JPEG files of {case.size[0]}x{case.size[1]}"
        results = [Result("video 1", what, precision, flops) for precision in self.precisions]
        watch = Stopwatch()

        def ours(segmenter: VideoSegmenter) -> None:
            segmenter.reset()
            read = ahead(open_frames(frames))
            for _ in segment_frames(segmenter, timed(watch, read), lambda number: None if number else given):
                pass

        def other() -> Tensor:
            pictures = np.stack([frame.rgb for frame in open_frames(frames)])
            decoded = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(self.device)
            return plain.segment(decoded, torch.from_numpy(given).to(self.device), 1).cpu()

        for number in range(self.options.rounds + 1):
            for segmenter, result in zip(self.segmenters(model), results, strict=True):
                watch.lap()
                seconds = self.seconds(partial(ours, segmenter))
                if number:  # the first warms up
                    result.ours.append(case.num_frames / seconds)
                    result.waited.append(watch.lap()[1])
            seconds = self.seconds(other)
            if number:
                results[0].plain.append(case.num_frames / seconds)
        for result in results:
            result.plain = results[0].plain
        return results

    def _pictures(self, case: Case) -> Path:
        """A folder with the frames of one video as JPEG files."""
        folder = self.work / f"video-{case}"
        folder.mkdir()
        shards = ShardSet(self._shards(case))
        for number in range(case.num_frames):
            (folder / f"{number:05d}.jpg").write_bytes(shards.image_bytes(0, number))
        return folder

    def peak(self, precision: str) -> float:
        """FLOP/s of the better of a matrix product and a 3x3 convolution, the latter as wide as the network's.

        CPUs have two libraries for these, of which either may be the slower by half.
        """
        side, images = (8192, 64) if self.device.type == "cuda" else (1024, 4)
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        one, other = torch.randn(2, side, side, device=self.device).to(dtype)
        maps, kernels = torch.randn(images, 512, 32, 32), torch.randn(512, 512, 3, 3)
        maps, kernels = (x.to(self.device, dtype, memory_format=torch.channels_last) for x in (maps, kernels))
        repeats = 20 if self.device.type == "cuda" else 2
        ways: list[tuple[float, Callable[[], object]]] = [
            (2 * side**3, lambda: [one @ other for _ in range(repeats)]),
            (2 * kernels.numel() * images * 30 * 30, lambda: [conv2d(maps, kernels) for _ in range(repeats)]),
        ]
        return max(repeats * flops / min(self.seconds(work) for _ in range(6)) for flops, work in ways)


def timed(watch: Stopwatch, frames: Iterator[NumberedFrame]) -> Iterator[NumberedFrame]:
    """The same frames; the time that each is waited for is counted."""
    while True:
        with watch.waiting():
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def given_mask(size: tuple[int, int], num_objects: int) -> NDArray[np.uint8]:
    """Boxes side by side, uint8 (H, W)."""
    height, width = size
    given = np.zeros(size, np.uint8)
    for number in range(1, num_objects + 1):
        left = (number - 1) * width // num_objects
        given[height // 4 : height // 2, left : left + width // (2 * num_objects)] = number
    return given


def plain_trainer(plain: PlainAGAME, run: Run) -> Iterator[None]:
    """Trains the straightforward implementation in float32, a step each time, with batches from the same stream."""
    plain.to(run.ranks.device).train()
    trained = [parameter for parameter in plain.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=1e-4, weight_decay=1e-5)
    while True:
        batch: SnippetBatch = next(run.batches).to(run.ranks.device)
        output = plain(batch.frames, batch.masks[:, 0])
        optimiser.zero_grad()
        fine, coarse = (segmentation_loss(one, batch.masks, batch.annotated) for one in output)
        torch.autograd.backward(fine + coarse)
        optimiser.step()
        yield


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny network at a tiny size")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--backbone", help="default: resnet101 on a GPU, resnet18 on a CPU")
    parser.add_argument("--cases", nargs="+", default=["4x8@240x432", "2x14@480x864"], help="BATCHxFRAMES@HEIGHTxWIDTH")
    parser.add_argument("--largest", action="store_true", help="also find the largest batch that helps (GPU: always)")
    parser.add_argument("--objects", nargs="*", type=int, default=[5, 1], help="objects in the segmented videos")
    parser.add_argument("--video", help="1xFRAMES@HEIGHTxWIDTH, decoded too [default: 480x864, 64 frames; CPU: 8]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", nargs="+", choices=["float32", "bfloat16"], help="default: what pays here")
    parser.add_argument("--set", nargs="+", default=[], help="further KEY=VALUE of the recipe")
    parser.add_argument("--steps", type=int, help="our training steps in a round; default 20 on a GPU, 1 on a CPU")
    parser.add_argument("--threads", type=int, default=2, help="decode threads")
    parser.add_argument("--peak", type=float, help="the device's peak in TFLOP/s; default: measured in each precision")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if options.quick:
        options.cases, options.rounds, options.video = ["2x3@48x64"], 2, "1x3@48x64"
    return options


def main() -> None:
    options = arguments()
    device = choose_device(options.device)
    options.steps = options.steps or (20 if device.type == "cuda" else 1)
    options.video = options.video or ("1x64@480x864" if device.type == "cuda" else "1x8@480x864")
    torch.backends.cudnn.benchmark = True
    with ExitStack() as stack:
        work = stack.enter_context(tempfile.TemporaryDirectory(prefix="vosdata-bench-"))
        if device.type == "cpu":  # as in `vosdata train`; the straightforward one gains by it too
            stack.enter_context(keeping_freed_memory())
        bench = Bench(options, device, Path(work))
        peaks = {one: (options.peak or bench.peak(one) / 1e12) for one in bench.precisions}
        results: list[Result] = []
        for case in map(Case.read, options.cases):
            results += bench.training(case, bench.precisions)
            if options.largest or device.type == "cuda":
                largest = bench.largest_batch(case, bench.precisions[-1])
                results.append(replace(largest, task="train, largest batch that helps"))
            for count in options.objects:
                results += bench.segmentation(case, count)
        results += bench.video(Case.read(options.video))
    write_report(options.out, [asdict(result) for result in results], peaks, options.peak is None, device)
    print((options.out / "train_speed.md").read_text())


if __name__ == "__main__":
    main()
