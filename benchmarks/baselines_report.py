"""A-GAME beside its baselines on held-out synthetic videos, as JSON, Markdown and a picture."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ablation_report import BASELINES, FULL
from dot_plot import Plot, Row, svg
from experiment import Exam, failures, values
from experiment_facts import facts_lines, place, shown, without_paths
from seeds import Estimate, difference, estimate

ARMS = {FULL: "A-GAME"} | BASELINES


def write_report(out: Path, results: Sequence[dict[str, Any]], exams: Sequence[Exam], facts: dict[str, Any]) -> None:
    """Writes ``agame_baselines.{json,md,svg}``."""
    out.mkdir(parents=True, exist_ok=True)
    content = {"machine": place(), "facts": without_paths(facts), "results": shown(results)}
    (out / "agame_baselines.json").write_text(json.dumps(content, indent=1) + "\n")
    (out / "agame_baselines.md").write_text("\n".join(_markdown(results, exams, facts)) + "\n")
    plots = [Plot(f"J, {exam.name}", [_row(results, arm, exam.name) for arm in ARMS]) for exam in exams]
    note = "Dots are seeds, bars their mean and its 95 % interval (Student's t), cut where the plot ends."
    (out / "agame_baselines.svg").write_text(svg("A-GAME beside its baselines on held-out SynthVOS", plots, note))


def _row(results: Sequence[dict[str, Any]], arm: str, exam: str) -> Row:
    found = _mean(results, arm, exam)
    return Row(ARMS[arm], found.values, found.mean, found.half_width)


def _mean(results: Sequence[dict[str, Any]], arm: str, exam: str) -> Estimate:
    return estimate(list(values(results, arm, exam, "J").values()))


def _lead(results: Sequence[dict[str, Any]], arm: str, exam: str) -> Estimate:
    """By how much the model is above a baseline, paired by seed; the copied first mask has none."""
    model, base = values(results, FULL, exam, "J"), values(results, arm, exam, "J")
    return difference(model, dict.fromkeys(model, base[0]) if arm == "copy" else base)


def _markdown(results: Sequence[dict[str, Any]], exams: Sequence[Exam], facts: dict[str, Any]) -> Iterable[str]:
    yield "# A-GAME beside baselines, on held-out synthetic videos"
    yield ""
    yield from facts_lines(results, facts)
    shares = " and ".join(f"{100 * share:g} % {preset}" for preset, share in facts["presets"].items())
    last = facts["recipes"][-1]
    yield f"Trained on {facts['synthetic_videos']} SynthVOS videos alone: {shares}. Examined at {last['data']['size']}."
    told = last["model"]["appearance_output"]
    if told != "scores":
        yield f"The fusion module is told {told.replace('_', '-')} where the paper has scores (equation 8)."
    for exam in exams:
        yield ""
        yield f"## {exam.name}"
        yield ""
        yield "| | J | of each seed | A-GAME's lead |"
        yield "|---|---|---|---|"
        for arm, label in ARMS.items():
            found = _mean(results, arm, exam.name)
            lead = "" if arm == FULL else _lead(results, arm, exam.name).signed()
            yield f"| {label} | {found} | {' '.join(f'{value:.3f}' for value in found.values)} | {lead} |"
        yield ""
        yield _verdict(results, exam.name)
    yield ""
    yield (
        "J is a fraction, the mean over objects (protocol davis2017). ± is the 95 % interval of the mean over seeds "
        "(Student's t); leads are paired by seed. Nearest neighbours: each pixel takes the label of the first frame's "
        "most similar one, in features of this very model's backbone (last level, stride 16, which is what its "
        "appearance module sees; all levels, stride 4) or of all levels of an untrained one. All see the same frames "
        "and the same first mask. The intervals say nothing of other videos."
    )
    for line in failures(results):
        yield f"* failed: {line}"


def _verdict(results: Sequence[dict[str, Any]], exam: str) -> str:
    strongest = max(BASELINES, key=lambda arm: _mean(results, arm, exam).mean)
    lead = _lead(results, strongest, exam)
    if not lead.excludes_zero:
        place = "is not told apart from that of"
    else:
        place = "lies above that of" if lead.mean > 0 else "lies below that of"
    return f"A-GAME's J {place} the strongest baseline ({BASELINES[strongest].lower()}): {lead.signed()}."
