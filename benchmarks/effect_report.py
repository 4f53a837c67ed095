"""What training on SynthVOS changed, as JSON, Markdown and a picture."""

import json
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from dot_plot import Plot, Row, svg
from experiment import MEASURES, Exam, failures, values
from experiment_facts import facts_lines, place, shown, without_paths
from seeds import Estimate, difference, estimate

ARMS = {
    "real": "real videos alone",
    "real_and_paper": "real videos and SynthVOS, paper",
    "real_and_rich": "real videos and SynthVOS, rich",
    "rich": "SynthVOS, rich, alone",
}


def write_report(out: Path, results: Sequence[dict[str, Any]], exam: Exam, facts: dict[str, Any]) -> None:
    """Writes ``synth_effect.{json,md,svg}``."""
    out.mkdir(parents=True, exist_ok=True)
    content = {"machine": place(), "facts": without_paths(facts), "results": shown(results)}
    (out / "synth_effect.json").write_text(json.dumps(content, indent=1) + "\n")
    (out / "synth_effect.md").write_text("\n".join(_markdown(results, exam, facts)) + "\n")
    plots = [
        Plot(f"{measure}, {exam.name} val", [_row(results, arm, exam, measure) for arm in _arms(results, exam)])
        for measure in ("J&F", "J", "F")
    ]
    note = "Dots are seeds, bars their mean and its 95 % interval (Student's t), cut where the plot ends."
    (out / "synth_effect.svg").write_text(svg("The effect of SynthVOS on held-out real videos", plots, note))


def _row(results: Sequence[dict[str, Any]], arm: str, exam: Exam, measure: str) -> Row:
    found = estimate(list(values(results, arm, exam.name, measure).values()))
    return Row(ARMS[arm], found.values, found.mean, found.half_width)


def _markdown(results: Sequence[dict[str, Any]], exam: Exam, facts: dict[str, Any]) -> Iterable[str]:
    yield "# The effect of SynthVOS"
    yield ""
    yield from facts_lines(results, facts)
    yield (
        f"SynthVOS: {facts['synthetic_videos']} videos per preset, of {facts['cutouts']} cutouts over "
        f"{facts['photographs']} photographs."
    )
    yield ""
    yield "| trained on | " + " | ".join(MEASURES) + " |"
    yield "|---" * (1 + len(MEASURES)) + "|"
    arms = _arms(results, exam)
    for arm in arms:
        cells = (estimate(list(values(results, arm, exam.name, measure).values())) for measure in MEASURES)
        yield f"| {ARMS[arm]} | " + " | ".join(map(str, cells)) + " |"
    yield ""
    yield "| difference, paired by seed | " + " | ".join(MEASURES) + " |"
    yield "|---" * (1 + len(MEASURES)) + "|"
    for base, arm in combinations(arms, 2):
        cells = (_difference(results, arm, base, exam, measure).signed() for measure in MEASURES)
        yield f"| {ARMS[arm]} − {ARMS[base]} | " + " | ".join(cells) + " |"
    yield ""
    yield (
        f"Scores are fractions on those {exam.name} validation videos that are at hand; no arm was trained on them. "
        "± is the 95 % interval of the mean over seeds (Student's t): how training varies, not how other videos would. "
        "All arms take the same number of steps, so those with half SynthVOS see half as many real snippets; none is "
        "trained to its end."
    )
    yield ""
    for arm in arms[1:] if "real" in arms else []:
        yield f"* {_verdict(ARMS[arm], _difference(results, arm, 'real', exam, 'J&F'))}"
    for line in failures(results):
        yield f"* failed: {line}"


def _arms(results: Sequence[dict[str, Any]], exam: Exam) -> list[str]:
    """Arms of which at least one training did not fail."""
    return [arm for arm in ARMS if values(results, arm, exam.name, MEASURES[0])]


def _difference(results: Sequence[dict[str, Any]], arm: str, base: str, exam: Exam, measure: str) -> Estimate:
    return difference(*(values(results, one, exam.name, measure) for one in (arm, base)))


def _verdict(label: str, change: Estimate) -> str:
    """What a difference from real videos alone says, in words that follow from its interval."""
    if not change.excludes_zero:
        return f"{label}: J&F is not told apart from that of real videos alone ({change.signed()})."
    return (
        f"{label}: J&F is {'higher' if change.mean > 0 else 'lower'} than with real videos alone ({change.signed()})."
    )
