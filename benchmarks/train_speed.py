"""Measures how fast A-GAME trains from shards and segments, beside a straightforward implementation in the same run.

Both take turns, so that whatever else the machine does meets both. Ours is what ``vosdata train`` runs (the same step,
fed by the same stream); the other is benchmarks/plain_agame.py with the same weights. Frames are SynthVOS made from
built-in pictures. Results go to benchmarks/results/train_speed.{json,md}.

    python benchmarks/train_speed.py                    # everything; ResNet-101 on a GPU, ResNet-18 on a CPU
    python benchmarks/train_speed.py --quick            # a tiny network on tiny frames: does it run?
    python benchmarks/train_speed.py --cases 4x8@240x432 --rounds 3
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import torch
from flops import count_flops
from plain_agame import PlainAGAME
from speed_report import write_report
from torch.nn.functional import conv2d

from shards.build import build_shard_set
from synth.config import SynthConfig
from synth.generate import SynthPlan
from synth.sources import open_backgrounds, open_objects
from vosdata.batch import SnippetBatch
from vosdata.models.agame import AGAME, VideoSegmenter
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
    """``train``, or ``segment`` with the number of objects."""

    case: str
    flops_per_frame: float
    ours: list[float] = field(default_factory=list)
    """Frames/s."""

    plain: list[float] = field(default_factory=list)
    """Frames/s of the straightforward implementation; empty where it was not measured."""

    waited: list[float] = field(default_factory=list)
    """Share of our time spent waiting for data."""


@dataclass(frozen=True)
class Bench:
    """How everything is measured."""

    options: argparse.Namespace
    device: torch.device
    work: Path

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

    def recipe(self, case: Case) -> Recipe:
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
                f"run.threads={self.options.threads}",
            ],
        )

    def _shards(self, case: Case) -> Path:
        """The shard set of a case; made when it is not there."""
        folder = self.work / f"{case.num_frames}x{case.size[0]}x{case.size[1]}"
        config = SynthConfig(num_frames=case.num_frames, size=case.size)
        build_shard_set(SynthPlan(config, open_objects("builtin"), open_backgrounds("builtin"), NUM_VIDEOS), folder)
        return folder

    def trainer(self, case: Case) -> Run:
        """What ``vosdata train`` steps through; close its stream."""
        recipe = self.recipe(case)
        stream = SnippetStream(
            recipe.data.sets,  # type: ignore[arg-type]
            snippet=case.num_frames,
            size=case.size,
            batch=case.batch,
            threads=recipe.run.threads,
            flip=True,
        )
        network = AGAME(recipe.model.config())
        return Run(recipe, self.work, Ranks(0, 1, self.device), stream, network, "none")

    def training(self, case: Case, with_plain: bool = True) -> Result:
        """Measures training, both in turns."""
        run = self.trainer(case)
        result = Result("train", str(case), count_flops(run.network, case.size).training)
        steps, watch = self.options.steps, Stopwatch()

        def ours() -> None:
            for _ in range(steps):
                with watch.waiting():
                    batch = next(run.batches)
                run.train_on(batch)

        with run.stream:
            plain = plain_trainer(PlainAGAME(run.network), run) if with_plain else None
            run.train_on(next(run.batches))  # warms up
            if plain is not None:
                next(plain)
            for _ in range(self.options.rounds):
                watch.waited = 0.0
                seconds = self.seconds(ours)
                result.ours.append(steps * case.batch * case.num_frames / seconds)
                result.waited.append(watch.waited / seconds)
                if plain is not None:
                    seconds = self.seconds(lambda: [next(plain) for _ in range(steps)])
                    result.plain.append(steps * case.batch * case.num_frames / seconds)
        return result

    def largest_batch(self, case: Case) -> Case:
        """Doubles the batch as long as that makes more frames per second and fits into memory."""
        best, rate = case, median(self.training(case, with_plain=False).ours)
        while True:
            larger = Case(2 * best.batch, case.num_frames, case.size)
            try:
                found = median(self.training(larger, with_plain=False).ours)
            except torch.OutOfMemoryError:
                return best
            if found < GAIN * rate:
                return best
            best, rate = larger, found

    def segmentation(self, case: Case, num_objects: int) -> Result:
        """Measures inference of several objects in a video that is already decoded."""
        model = AGAME(self.recipe(case).model.config()).to(self.device)
        height, width = case.size
        generator = torch.Generator().manual_seed(0)
        frames = torch.randint(0, 256, (case.num_frames, 3, height, width), generator=generator, dtype=torch.uint8)
        given = torch.zeros(height, width, dtype=torch.uint8)
        for number in range(1, num_objects + 1):
            left = (number - 1) * width // num_objects
            given[height // 4 : height // 2, left : left + width // (2 * num_objects)] = number
        frames, given = frames.to(self.device), given.to(self.device)
        half = torch.bfloat16 if self.device.type == "cuda" else None
        segmenter, plain = VideoSegmenter(model, autocast=half), PlainAGAME(model).eval()

        def ours() -> None:
            segmenter.reset()
            for step, frame in enumerate(frames):
                segmenter.advance(frame, given if step == 0 else None)

        flops = count_flops(model, case.size).inference(num_objects)
        result = Result(f"segment {num_objects}", f"{case.num_frames} frames of {height}x{width}", flops)
        for number in range(self.options.rounds + 1):
            rates = [
                case.num_frames / self.seconds(work)
                for work in (ours, lambda: plain.segment(frames, given, num_objects))
            ]
            if number:  # the first warms up
                result.ours.append(rates[0])
                result.plain.append(rates[1])
        return result

    def peak(self) -> float:
        """FLOP/s of the better of a matrix product and a 3x3 convolution: bfloat16 on a GPU, float32 on a CPU.

        CPUs have two libraries for these, of which either may be the slower by half.
        """
        side, images, dtype = (8192, 64, torch.bfloat16) if self.device.type == "cuda" else (1024, 4, torch.float32)
        one, other = torch.randn(2, side, side, device=self.device).to(dtype)
        maps, kernels = torch.randn(images, 512, 32, 32), torch.randn(512, 512, 3, 3)
        maps, kernels = (x.to(self.device, dtype, memory_format=torch.channels_last) for x in (maps, kernels))
        repeats = 20 if self.device.type == "cuda" else 2
        ways: list[tuple[float, Callable[[], object]]] = [
            (2 * side**3, lambda: [one @ other for _ in range(repeats)]),
            (2 * kernels.numel() * images * 30 * 30, lambda: [conv2d(maps, kernels) for _ in range(repeats)]),
        ]
        return max(repeats * flops / min(self.seconds(work) for _ in range(6)) for flops, work in ways)


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
    parser.add_argument("--objects", nargs="+", type=int, default=[5, 1], help="objects in the segmented videos")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="our training steps in a round; default 20 on a GPU, 1 on a CPU")
    parser.add_argument("--threads", type=int, default=2, help="decode threads")
    parser.add_argument(
        "--peak", type=float, help="the device's peak in TFLOP/s; default: measured by a matrix product"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if options.quick:
        options.cases, options.rounds = ["2x3@48x64"], 2
    return options


def main() -> None:
    options = arguments()
    device = choose_device(options.device)
    options.steps = options.steps or (20 if device.type == "cuda" else 1)
    torch.backends.cudnn.benchmark = True
    with tempfile.TemporaryDirectory(prefix="vosdata-bench-") as work:
        bench = Bench(options, device, Path(work))
        peak = bench.peak() if options.peak is None else options.peak * 1e12
        cases, results = [Case.read(text) for text in options.cases], []
        for case in cases:
            results.append(bench.training(case))
            if options.largest or device.type == "cuda":
                best = bench.largest_batch(case)
                results.append(bench.training(best, with_plain=False))
            results += [bench.segmentation(case, count) for count in options.objects]
    write_report(options.out, [asdict(result) for result in results], peak, options.peak is None, device)
    print((options.out / "train_speed.md").read_text())


if __name__ == "__main__":
    main()
