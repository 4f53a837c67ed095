"""Measures how fast the renderer for devices draws synthetic videos, and what part of an A-GAME training step that is.

Everything is measured in turns, round by round, after a round that warms up; figures are medians. Built-in pictures;
the network is that of ``agame_initial``. Stages, in frames per second and in microseconds per frame:

``render``     scenes that are there already, with their pictures on the device, until their frames are there too
``device``     the part of it that the device is at work (CUDA events; only there)
``ask``        the part of it until the processor is free again, which on CUDA is before the device is done
``lay_out``    the part of that before the device is asked for anything
``draw``       drawing scenes, on one core, which a stream does in its helper process, as the next two:
``estimate``   estimating what they show
``write``      writing them down for the trainer
``read``       reading that, in the trainer's process

``operations`` counts what the device is asked to compute for a batch: each is a kernel on CUDA.

    python benchmarks/render_speed.py                       # on the GPU if there is one
    python benchmarks/render_speed.py --videos 256 --step   # and beside a training step
    python benchmarks/render_speed.py --quick               # tiny: does it run?
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import machine
from torch.utils._python_dispatch import TorchDispatchMode

from synth.bank import PictureBank
from synth.builtin import BuiltinBackgrounds, BuiltinObjects
from synth.compose import compose_scene
from synth.config import make_config
from synth.estimate import estimate_areas
from synth.presets import PRESETS
from synth.render import Renderer, single_threaded_opencv
from synth.render_torch import TorchRenderer
from synth.scene import Scene
from vosdata.cli.options import parse_size
from vosdata.models.agame import AGAME
from vosdata.recipe import load_recipe
from vosdata.stream import SnippetStream
from vosdata.train import Run
from vosdata.training.ranks import Ranks, choose_device

QUICK = [
    "model.backbone=resnet18",
    "model.backbone_width=8",
    *(f"model.{part}_channels=8" for part in ("appearance", "propagation", "fusion", "encoding", "upsampling")),
]


Stage = tuple[int, Callable[[Callable[[], object]], float], Callable[[], object]]
"""Number of videos, a stopwatch, and what it stops."""


class Operations(TorchDispatchMode):
    """Counts what a device is asked to compute; views of tensors are no work."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, operation: torch._ops.OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += not operation.is_view
        return operation(*args, **(kwargs or {}))


class Bench:
    """What is measured, and on what."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.size: tuple[int, int] = options.size
        self.device = choose_device(options.device)
        self.bank = PictureBank(BuiltinObjects(), BuiltinBackgrounds())
        self.config = make_config({"size": self.size, "num_frames": options.frames}, preset=options.preset)

    def seconds(self, work: Callable[[], object]) -> float:
        """Time that some work takes, on the device too."""
        self._settle()
        before = time.perf_counter()
        work()
        self._settle()
        return time.perf_counter() - before

    def host_seconds(self, work: Callable[[], object]) -> float:
        """Time until this process is free again, whether or not the device is done."""
        self._settle()
        before = time.perf_counter()
        work()
        return time.perf_counter() - before

    def device_seconds(self, work: Callable[[], object]) -> float:
        """Time that a CUDA device is at work, or waits for what this process asks next."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._settle()
        begin.record()  # type: ignore[no-untyped-call]
        work()
        end.record()  # type: ignore[no-untyped-call]
        self._settle()
        return float(begin.elapsed_time(end)) / 1000  # type: ignore[no-untyped-call]

    def _settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def scenes(self, first: int, count: int) -> list[Scene]:
        with single_threaded_opencv():
            return [compose_scene(self.config, 0, index, self.bank) for index in range(first, first + count)]

    def rendering(self) -> dict[str, Any]:
        """Frames per second and microseconds per frame of each stage."""
        videos, frames = self.options.videos, self.options.frames
        scenes = self.scenes(0, videos)
        renderer = TorchRenderer(self.bank, self.size, self.device, compiled=self.options.compile)
        stages = self._stages(scenes, renderer)
        rounds: dict[str, list[float]] = {name: [] for name in stages}
        for number in range(self.options.rounds + 1):
            for name, (num_videos, measure, work) in stages.items():
                seconds = measure(work)
                if number:  # the first round warms up, and sends the pictures
                    rounds[name].append(num_videos * frames / seconds)
        rates = {f"{name}_frames_per_second": median(values) for name, values in rounds.items()}
        times = {f"{name}_microseconds_per_frame": 1e6 / median(values) for name, values in rounds.items()}
        with Operations() as operations:
            renderer.render(scenes, frames)
        resident = renderer.pictures.num_pixels * 4 / 2**20
        return {**rates, **times, "operations": operations.count, "resident_mib": resident, "rounds": rounds}

    def _stages(self, scenes: list[Scene], renderer: TorchRenderer) -> dict[str, "Stage"]:
        """What is measured: of how many videos, how, and what."""
        videos, frames = len(scenes), self.options.frames
        some = scenes[: max(1, videos // 8)]
        few, chosen = len(some), [range(frames)] * videos
        one_core = Renderer(self.bank, self.size, frames)
        firsts = count(videos, few)
        written = [json.dumps(scene.to_json()) for scene in some]

        def opencv() -> None:
            with single_threaded_opencv():
                for scene in some:
                    one_core.render(scene)

        stages: dict[str, Stage] = {
            "render": (videos, self.seconds, lambda: renderer.render(scenes, frames)),
            "ask": (videos, self.host_seconds, lambda: renderer.render(scenes, frames)),
            "lay_out": (videos, self.host_seconds, lambda: renderer.lay_out(scenes, frames, chosen)),
            "draw": (few, self.host_seconds, lambda: self.scenes(next(firsts), few)),
            "estimate": (
                few,
                self.host_seconds,
                lambda: [estimate_areas(scene, self.bank, self.size, frames) for scene in some],
            ),
            "write": (few, self.host_seconds, lambda: [json.dumps(scene.to_json()) for scene in some]),
            "read": (few, self.host_seconds, lambda: [Scene.from_json(json.loads(text)) for text in written]),
            "opencv_on_one_core": (few, self.host_seconds, opencv),
        }
        if self.device.type == "cuda":
            stages["device"] = (videos, self.device_seconds, lambda: renderer.render(scenes, frames))
        return stages

    def step(self, work: Path) -> dict[str, Any]:
        """Seconds of a training step of the recipe's batch, and of rendering such a batch."""
        name = f"synth:{self.options.preset}?objects=builtin&backgrounds=builtin&frames={self.options.frames}"
        size = "x".join(map(str, self.size))
        settings = [f"data.frames={self.options.frames}", f"data.size={size}", "model.weights=none"]
        recipe = load_recipe("agame_initial", [*settings, *(QUICK if self.options.quick else [])])
        batch, frames = recipe.train.batch, recipe.data.frames
        stream = SnippetStream(
            name,
            snippet=frames,
            size=self.size,
            batch=batch,
            device=self.device,
            min_object_pixels=1,
            epoch_size=10_000,
        )
        scenes = self.scenes(0, batch)
        renderer = TorchRenderer(self.bank, self.size, self.device, compiled=self.options.compile)
        renderer.render(scenes, frames)
        with stream:
            run = Run(recipe, work, Ranks(0, 1, self.device), stream, AGAME(recipe.model.config()), "none")
            ready = next(run.batches)
            run.train_on(ready)  # warms up
            training, rendering, asking = [], [], []
            for _ in range(self.options.rounds):
                training.append(self.seconds(lambda: run.train_on(ready)))
                rendering.append(self.seconds(lambda: renderer.render(scenes, frames)))
                asking.append(self.host_seconds(lambda: renderer.render(scenes, frames)))
        step, render = median(training), median(rendering)
        return {
            "batch": batch,
            "step_seconds": step,
            "render_seconds": render,
            "render_share": render / step,
            "ask_seconds": median(asking),
        }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--size", type=parse_size, default=(240, 432))
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--videos", type=int, default=64, help="in a batch")
    parser.add_argument("--preset", choices=list(PRESETS), default="rich")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="let torch.compile make a kernel of the looking up")
    parser.add_argument("--step", action="store_true", help="also measure a training step")
    parser.add_argument("--quick", action="store_true", help="a tiny network, few tiny videos, one round")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "render_speed.json")
    options = parser.parse_args()
    if options.quick:
        options.size, options.frames, options.videos, options.rounds = (48, 80), 3, 4, 1
    return options


def main() -> None:
    bench = Bench(arguments())
    options, facts = bench.options, machine(None)
    facts["device"] = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "cpu"
    facts["torch_threads"] = torch.get_num_threads()
    del facts["peers"]
    asked = {"size": list(bench.size), "frames": options.frames, "videos": options.videos, "preset": options.preset}
    asked["compiled"] = options.compile
    results: dict[str, Any] = {"machine": facts, "asked": asked, "rendering": bench.rendering()}
    if options.step:
        with tempfile.TemporaryDirectory(prefix="vosdata-bench-") as work:
            results["step"] = bench.step(Path(work))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    for name, value in results["rendering"].items():
        if name != "rounds":
            print(f"{name:36} {value:12,.1f}")
    for name, value in results.get("step", {}).items():
        print(f"{name:36} {value:12.4f}")


if __name__ == "__main__":
    main()
