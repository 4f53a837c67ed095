"""What the experiments train and examine on, and at what size: shard sets made by the ordinary plans."""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from experiment import Exam

from shards.build import build_shard_set
from synth.config import make_config
from synth.generate import SynthPlan
from synth.presets import PresetName
from synth.sources import BUILTIN, join_backgrounds, join_objects, open_backgrounds, open_objects
from synth.types import BackgroundSource, ObjectSource, Problem
from vosdata.datasets.recognise import recognise
from vosdata.pack import plan_pack
from vosdata.recipe import Recipe, load_recipe

HELD_OUT_SEED = 2**32
HELD_OUT_EVERY = 4


@dataclass(frozen=True)
class Stage:
    """A training that goes on from the one before."""

    overrides: tuple[str, ...]
    steps: int
    final_rate: float = 0.05
    """The learning rate at its end, as a share of that at its start, whatever the steps (paper: 0.017)."""


@dataclass(frozen=True)
class Scale:
    """How large an experiment is."""

    base: str
    """Recipe that everything is a change of."""

    overrides: tuple[str, ...]
    stages: tuple[Stage, ...]
    epoch_size: int
    """Snippets."""

    num_synthetic: int
    """Synthetic videos of each set that is trained on."""

    num_held_out: int
    """Held-out synthetic videos."""

    synth: Mapping[str, Any] = field(default_factory=dict)
    """Values of :class:`synth.config.SynthConfig` that win over a preset's."""


_ONE_BY_ONE = ("data.objects=one", "data.gap=1")
_TINY = ("data.size=48x80", "data.min_object_pixels=10", "train.batch=2", "run.threads=1", *_ONE_BY_ONE)
_OFTEN = ("run.checkpoint_every=250", "run.keep=1", "run.log_every=25")
_AT_192 = ("data.size=192x320", "data.min_object_pixels=400")
_PAIRS = ("data.frames=2", "data.gap=[1, 5]")
_FOURS = ("data.frames=4", "data.gap=[1, 2]")
_LARGE_OBJECTS = {"objects_per_video": (1, 3), "scene": {"area": (0.06, 0.35)}}  # for few cells
SCALES = {
    "quick": Scale(
        "smoke",
        _TINY,
        (Stage(("data.frames=2",), 4), Stage(("data.frames=3",), 2)),
        epoch_size=4,
        num_synthetic=8,
        num_held_out=2,
    ),
    "small": Scale(
        "smoke",
        # 240 cells for the appearance model. Of the 60 that 96x160 has, most hold object and background at once, and a
        # network learns to keep to the object's last place. Widths of 16 and more fill a CPU's vectors; 8 does not.
        # In bfloat16, which CPUs that have it compute half as fast again. A run took 6 to 8 minutes of one core of two:
        # twelve of them are three quarters of an hour.
        (
            *_AT_192,
            "model.backbone_width=16",
            "model.appearance_channels=16",
            "model.appearance_output=scores",
            "model.score_scale=0.05",
            *_ONE_BY_ONE,
            "train.precision=bfloat16",
            "run.threads=1",
            *_OFTEN,
        ),
        # Pairs of frames first: from scratch, more is learned from more snippets than from longer ones. They lie far
        # apart, so that the object's place does not tell what its looks have to.
        (
            Stage((*_PAIRS, "train.batch=4", "train.learning_rate=1.0e-3"), 1600, 0.3),
            Stage(("data.frames=6", "train.batch=2", "train.learning_rate=7.0e-4"), 560),
        ),
        epoch_size=400,
        num_synthetic=1000,
        num_held_out=40,
        synth=_LARGE_OBJECTS,
    ),
    "medium": Scale(
        "smoke",
        # As small, with twice the width in bfloat16, which CPUs with AVX512-BF16 compute faster; with up to three
        # objects of a snippet as targets, which teaches more for little more work; with log-posteriors instead of
        # scores, which train faster. At last larger frames, as in the paper. A run takes an hour of one core.
        (
            "data.size=288x480",
            "data.min_object_pixels=900",
            "data.objects=3",
            "model.backbone_width=32",
            "model.appearance_channels=32",
            "model.appearance_output=log_posteriors",
            "model.score_scale=0.1",
            "train.precision=bfloat16",
            "run.threads=1",
            *_OFTEN,
        ),
        (
            Stage((*_AT_192, *_PAIRS, "train.batch=6", "train.learning_rate=2.0e-3"), 2400, 0.5),
            Stage((*_AT_192, *_FOURS, "train.batch=4", "train.learning_rate=1.0e-3"), 2800, 0.4),
            Stage((*_FOURS, "train.batch=3", "train.learning_rate=4.0e-4"), 1800, 0.03),
        ),
        epoch_size=400,
        num_synthetic=2000,
        num_held_out=40,
        synth=_LARGE_OBJECTS,
    ),
    "full": Scale(
        "agame_initial",
        ("data.gap=[1, 2]", "data.min_object_pixels=500", *_OFTEN),
        (Stage((), 20_000),),
        epoch_size=2000,
        num_synthetic=10_000,
        num_held_out=200,
    ),
}


@dataclass(frozen=True)
class Setting:
    """An experiment's scale, data and folder."""

    scale: Scale
    budget: float
    """Share of the scale's steps that is taken."""
    weights: str | None
    """The backbone's first weights, as in recipes; None keeps the base recipe's."""

    work: Path
    davis: Path
    objects: Path
    backgrounds: Path
    workers: int = 1
    """Processes that make videos."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of all videos; a stage may train at another."""
        return load_recipe(self.scale.base, self.scale.overrides).data.size

    def recipes(self, sets: dict[Path, float], seed: int, changes: Sequence[str] = ()) -> tuple[Recipe, ...]:
        """The recipes of a contender, one for each stage.

        Args:
            sets: shard sets and their weights.
            seed: of first weights and order.
            changes: further overrides.
        """
        common = [f"data.sets={json.dumps({str(folder): weight for folder, weight in sets.items()})}"]
        common += [f"data.epoch_size={self.scale.epoch_size}", f"train.seed={seed}", *changes]
        if self.weights is not None:
            common += [f"model.weights={self.weights}"] + (["model.train_from=stem"] if self.weights == "none" else [])
        return tuple(self._recipe(stage, common) for stage in self.scale.stages)

    def _recipe(self, stage: Stage, common: list[str]) -> Recipe:
        overrides = [*self.scale.overrides, *stage.overrides]
        steps = max(1, round(stage.steps * self.budget))
        num_epochs = -(-steps * load_recipe(self.scale.base, overrides).train.batch // self.scale.epoch_size)
        lasting = [
            f"train.steps={steps}",
            f"train.epochs={num_epochs}",
            f"train.lr_decay={stage.final_rate ** (1 / num_epochs):.6f}",
        ]
        return load_recipe(self.scale.base, [*overrides, *common, *lasting])

    def davis_set(self, split: str) -> Path:
        """DAVIS-2016 at the size trained at."""
        (dataset,) = (one for one in recognise(self.davis) if one.name == "davis2016")
        folder = self.work / "data" / f"davis2016-{split}"
        build_shard_set(plan_pack(dataset, split, self.size), folder, self.workers)
        return folder

    def synthetic_set(self, preset: PresetName, pool: "Pool", name: str = "synthvos") -> Path:
        """SynthVOS to train on."""
        folder = self.work / "data" / f"{name}-{preset}"
        plan = SynthPlan(self._config(preset), pool.objects, pool.backgrounds, self.scale.num_synthetic)
        build_shard_set(plan, folder, self.workers)
        return folder

    def held_out_set(self, preset: PresetName, pool: "Pool") -> Path:
        """SynthVOS to be examined on, of another seed."""
        folder = self.work / "data" / f"held_out-{preset}"
        plan = SynthPlan(
            self._config(preset), pool.objects, pool.backgrounds, self.scale.num_held_out, HELD_OUT_SEED, split="val"
        )
        build_shard_set(plan, folder, self.workers)
        return folder

    def _config(self, preset: PresetName) -> Any:
        return make_config({"size": self.size, **self.scale.synth}, preset=preset)

    def davis_exam(self) -> Exam:
        return Exam("davis2016", self.davis_set("val"), "davis2016")


Source = TypeVar("Source", ObjectSource, BackgroundSource)


@dataclass(frozen=True)
class Some(Generic[Source]):
    """Some pictures of a source; a source itself."""

    whole: Source
    places: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def licence(self) -> str:
        return self.whole.licence

    @property
    def problems(self) -> Sequence[Problem]:
        return self.whole.problems

    @property
    def num_left_out(self) -> int:
        return self.whole.num_left_out

    @property
    def labels(self) -> Sequence[str]:
        labels = self.whole.labels
        return [labels[place] for place in self.places]

    def __len__(self) -> int:
        return len(self.places)

    def load(self, index: int) -> Any:
        return self.whole.load(self.places[index])

    def fingerprint(self) -> str:
        return hashlib.blake2b(f"{self.whole.fingerprint()} {self.places}".encode(), digest_size=16).hexdigest()


def spread(source: Source, count: int) -> Source:
    """So many pictures of a source, evenly spread."""
    chosen: Source = Some(source, _spread_places(source, count))
    return chosen


def rest(source: Source, count: int) -> Source:
    """The pictures of a source that :func:`spread` leaves out."""
    taken = set(_spread_places(source, count))
    left: Source = Some(source, tuple(place for place in range(len(source)) if place not in taken))
    return left


def _spread_places(source: Source, count: int) -> tuple[int, ...]:
    return tuple(index * len(source) // count for index in range(count))


def part(source: Source, is_held_out: bool) -> Source:
    """Every fourth picture of a source, or all the others."""
    places = range(len(source))
    return Some(
        source, tuple(place for place in places if (place % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == is_held_out)
    )


@dataclass(frozen=True)
class Pool:
    """Pictures that synthetic videos are made of."""

    objects: ObjectSource
    backgrounds: BackgroundSource

    @classmethod
    def of(cls, setting: Setting, num_builtin: int = 0) -> "Pool":
        """The setting's pictures, and so many built-in ones."""
        objects, backgrounds = [open_objects(setting.objects)], [open_backgrounds(setting.backgrounds)]
        if num_builtin:
            objects.append(spread(open_objects(BUILTIN), num_builtin))
            backgrounds.append(spread(open_backgrounds(BUILTIN), num_builtin))
        return cls(join_objects(objects), join_backgrounds(backgrounds))

    @classmethod
    def further(cls, num_builtin: int) -> "Pool":
        """The built-in pictures that :meth:`of` with as many leaves out."""
        return cls(rest(open_objects(BUILTIN), num_builtin), rest(open_backgrounds(BUILTIN), num_builtin))

    def part(self, is_held_out: bool) -> "Pool":
        """The pictures that are held out, or the others."""
        return Pool(part(self.objects, is_held_out), part(self.backgrounds, is_held_out))


def add_options(parser: argparse.ArgumentParser, name: str, seeds: int, scale: str = "small") -> None:
    """Options that all experiments share, and defaults of some."""
    real = Path(__file__).resolve().parents[2] / "shared" / "real"
    parser.set_defaults(name=name)
    parser.add_argument("--scale", choices=list(SCALES), default=scale)
    parser.add_argument("--budget", type=float, default=1.0, help="share of the scale's steps that each training takes")
    parser.add_argument("--seeds", type=int, default=seeds, help="runs of every arm")
    parser.add_argument(
        "--weights", help="the backbone's first weights: none, imagenet or a file; default: the recipe's"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each with one PyTorch thread")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--davis", type=Path, default=real / "davis2016", help="folder of DAVIS-2016")
    parser.add_argument("--objects", type=Path, default=real / "msra10k", help="folder of cutouts")
    parser.add_argument("--backgrounds", type=Path, default=real / "voc2012", help="folder of photographs")
    parser.add_argument("--work", type=Path, default=Path("runs") / name, help="data sets and run folders")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")


def setting_of(options: argparse.Namespace) -> Setting:
    return Setting(
        SCALES[options.scale],
        options.budget,
        options.weights,
        options.work.resolve(),
        options.davis,
        options.objects,
        options.backgrounds,
        options.jobs,
    )


def facts_of(options: argparse.Namespace, setting: Setting, recipes: Sequence[Recipe]) -> dict[str, Any]:
    """What every report says of how its experiment was made, as JSON."""
    weights = "" if setting.weights is None else f" --weights {setting.weights}"
    return {
        "command": f"python benchmarks/{options.name}.py --scale {options.scale} --budget {setting.budget:g} "
        f"--seeds {options.seeds}{weights}",
        "scale": options.scale,
        "recipes": [recipe.configuration() for recipe in recipes],
        "synth": dict(setting.scale.synth),
    }
