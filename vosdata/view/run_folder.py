"""What a run folder tells of a training: its recipe, its curves, how well it did on which sequence."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from vosdata.recipe import Recipe, load_recipe
from vosdata.training.metrics_log import read_lines, read_metrics
from vosdata.training.run_folder import METRICS_FILE, RECIPE_FILE, VALIDATION_FILE
from vosdata.view.curves import Chart, Curve


@dataclass(frozen=True, slots=True)
class SequenceScore:
    """J of one sequence in a validation."""

    shard_set: Path
    """Shard set that holds it."""

    name: str
    """The sequence."""

    j: float
    """Mean J of its objects."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run, as its folder tells it."""

    recipe: Recipe
    """What it was told to do."""

    steps: Sequence[dict[str, Any]]
    """Lines of logged steps, see :class:`vosdata.training.metrics_log.StepMetrics`."""

    events: Sequence[dict[str, Any]]
    """Lines of events, see :mod:`vosdata.training.run_folder`."""

    validated: Sequence[SequenceScore]
    """The best validation, whose checkpoint stands for the run, the best sequence first; empty where there was none."""

    def shard_sets(self) -> list[Path]:
        """Shard sets that the run was trained on, the one drawn most often first."""
        starts = [event for event in self.events if event["event"] == "start"]
        weights = starts[-1]["sets"] if starts else {}
        numbers = {name: weight if isinstance(weight, int | float) else 0.0 for name, weight in weights.items()}
        return [Path(name) for name in sorted(numbers, key=lambda name: -numbers[name])]

    def facts(self) -> list[tuple[str, str]]:
        """What one wants to know first, as pairs of words."""
        model, data, train = self.recipe.model, self.recipe.data, self.recipe.train
        facts = [
            ("network", f"{model.backbone}, weights {model.weights}"),
            ("snippets", f"{train.batch} x {data.frames} frames of {data.size[0]}x{data.size[1]}"),
            ("trained on", ", ".join(path.name for path in self.shard_sets()) or "nothing yet"),
        ]
        facts += [("left out", f"{event['set']}: {event['reason']}") for event in self._events("left_out")]
        if self.steps:
            facts += _numbers(self.steps)
        for event in self._events("validation")[-1:]:
            facts.append(("best validation", f"J {event['best_J']:.3f} after step {event['best_step']}"))
        facts += [
            ("stopped early", f"{event['num_validations']} validations brought nothing better")
            for event in self._events("stopped_early")
        ]
        facts += [
            ("not finite", f"step {event['step']}: {', '.join(event['keys'])}") for event in self._events("not_finite")
        ]
        return facts

    def charts(self) -> list[Chart]:
        """Everything that was measured at the logged steps."""
        validations = [(event["step"], event["J"]) for event in self._events("validation")]
        return [
            Chart("Loss, nats per pixel", [self._curve("fine", "final mask"), self._curve("coarse", "coarse mask")]),
            Chart("J", [self._curve("J", "training batch"), Curve("validation", validations)]),
            Chart("Learning rate", [self._curve("learning_rate")], is_logarithmic=True),
            Chart("Gradient norm", [self._curve("gradient_norm", is_positive=True)], is_logarithmic=True),
            Chart("Frames per second", [self._curve("frames_per_second")]),
            Chart("Share of the time waiting for data", [self._curve("data_wait")]),
        ]

    def _curve(self, key: str, label: str = "", is_positive: bool = False) -> Curve:
        known = [(line["step"], line[key]) for line in self.steps if line.get(key) is not None]
        return Curve(label or key, [(step, value) for step, value in known if value > 0 or not is_positive])

    def _events(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]


def _numbers(steps: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    last = steps[-1]
    late = steps[-max(1, len(steps) // 10) :]
    overlaps = [line["J"] for line in late if line["J"] is not None]
    facts = [
        ("steps", f"{last['step']}, epoch {last['epoch']}"),
        ("loss, last tenth", f"{median(line['loss'] for line in late):.3f}"),
        ("J of training batches, last tenth", f"{median(overlaps):.3f}" if overlaps else "no object shown"),
        ("frames per second", f"{median(line['frames_per_second'] for line in steps):.0f}"),
        ("waiting for data", f"{median(line['data_wait'] for line in steps):.1%} of the time"),
    ]
    counts = {key: value for key, value in last.items() if key.endswith("_snippets") and value}
    return facts + [(key.replace("_", " "), str(value)) for key, value in counts.items()]


def open_run(path: Path) -> RunFolder:
    """Reads what a run folder tells, besides its weights.

    Raises:
        RecipeError: its recipe cannot be read.
    """
    lines = read_metrics(path / METRICS_FILE)
    scores = read_lines(path / VALIDATION_FILE)
    best = [line["best_step"] for line in lines if line.get("event") == "validation"][-1:]
    chosen = [line for line in scores if line["step"] in best]
    validated = [SequenceScore(Path(line["set"]), line["sequence"], line["J"]) for line in chosen]
    return RunFolder(
        recipe=load_recipe(path / RECIPE_FILE),
        steps=[line for line in lines if "event" not in line],
        events=[line for line in lines if "event" in line],
        validated=sorted(validated, key=lambda score: -score.j),
    )
