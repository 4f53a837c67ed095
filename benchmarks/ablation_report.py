"""Our ablation table beside the paper's Table 1, as JSON, Markdown and a picture."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dot_plot import Plot, Row, svg
from experiment import Exam, failures, values
from experiment_facts import facts_lines, place, shown, without_paths
from scipy.stats import spearmanr
from seeds import Estimate, difference, estimate

FULL = "full"
PAPER = {
    "full": ("Ours", 66.0, 66.9, 61.2),
    "no_appearance": ("No appearance module", 50.0, 57.8, 40.6),
    "no_mask_propagation": ("No mask-prop module", 64.0, 65.5, 59.5),
    "unimodal": ("Unimodal appearance", 64.4, 65.8, 58.8),
    "no_update": ("No update", 64.9, 66.0, 59.8),
    "softmax": ("Appearance SoftMax", 55.8, 59.3, 50.7),
    "no_end_to_end": ("No end-to-end", 58.8, 62.5, 53.1),
}
"""Table 1 of the A-GAME paper: version, G, J seen, J unseen on YouTube-VOS, in percent."""
BASELINES = {
    "nearest_deep": "Nearest neighbour, last level",
    "nearest": "Nearest neighbour, all levels",
    "nearest_untrained": "Nearest neighbour, untrained",
    "copy": "First mask copied",
}


def write_report(out: Path, results: Sequence[dict[str, Any]], exams: Sequence[Exam], facts: dict[str, Any]) -> None:
    """Writes ``agame_ablation.{json,md,svg}``."""
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": place(),
        "facts": without_paths(facts),
        "paper": PAPER,
        "results": shown(results),
    }
    (out / "agame_ablation.json").write_text(json.dumps(content, indent=1) + "\n")
    (out / "agame_ablation.md").write_text("\n".join(_markdown(results, exams, facts)) + "\n")
    names = {arm: label for arm, (label, *_) in PAPER.items()} | BASELINES
    plots = [
        Plot(
            f"J, {exam.name}",
            [_row(results, arm, names[arm], exam.name) for arm in names if values(results, arm, exam.name, "J")],
        )
        for exam in exams
    ]
    note = "Dots are seeds, bars their mean and its 95 % interval (Student's t), cut where the plot ends."
    (out / "agame_ablation.svg").write_text(svg("A-GAME and its ablations at a small size", plots, note))


def _row(results: Sequence[dict[str, Any]], arm: str, label: str, exam: str) -> Row:
    found = estimate(list(values(results, arm, exam, "J").values()))
    return Row(label, found.values, found.mean, found.half_width)


def _markdown(results: Sequence[dict[str, Any]], exams: Sequence[Exam], facts: dict[str, Any]) -> Iterable[str]:
    yield "# A-GAME's ablations beside the paper's Table 1"
    yield ""
    yield from facts_lines(results, facts)
    yield ""
    header = "| version | paper: G | change |"
    for exam in exams:
        header += f" ours: J, {exam.name} | change |"
    yield header
    yield "|---" * (3 + 2 * len(exams)) + "|"
    for arm, (label, score, *_) in PAPER.items():
        change = "" if arm == FULL else f"{score - PAPER[FULL][1]:+.1f}"
        yield f"| {label} | {score:.1f} | {change} |" + "".join(_cells(results, arm, exam.name) for exam in exams)
    for arm, label in BASELINES.items():
        yield f"| {label} | | |" + "".join(_cells(results, arm, exam.name) for exam in exams)
    yield ""
    yield (
        "J is a fraction; the paper's G is a percentage, the mean of J and F over seen and unseen classes of "
        "YouTube-VOS. ± is the 95 % interval of the mean over seeds (Student's t); changes are paired by seed "
        "(the copied first mask has none and is the same for all). Nearest neighbours: each pixel takes the label of "
        "the first frame's most similar one, in features of the full model's backbone (last level, stride 16; all "
        "levels, stride 4) or of all levels of an untrained one. The intervals say nothing of other videos."
    )
    yield ""
    if facts["scale"] != "full":
        height, width = map(int, facts["recipes"][0]["data"]["size"].split("x"))
        yield (
            "What differs from the paper: a narrow network from random weights instead of a ResNet-101 that knows "
            "ImageNet; minutes of training; frames so small that the appearance model has "
            f"{height // 16 * (width // 16)} cells to learn from, of which each has seen most of the frame; other "
            "videos. A disagreement speaks of this size, not against the paper."
        )
        yield ""
    for exam in exams:
        yield f"* {_agreement(results, exam.name)}"
    for line in failures(results):
        yield f"* failed: {line}"


def _cells(results: Sequence[dict[str, Any]], arm: str, exam: str) -> str:
    found = values(results, arm, exam, "J")
    if not found:
        return " failed | |"
    change = "" if arm == FULL else _change(results, arm, exam).signed()
    return f" {estimate(list(found.values()))} | {change} |"


def _change(results: Sequence[dict[str, Any]], arm: str, exam: str) -> Estimate:
    ours, full = values(results, arm, exam, "J"), values(results, FULL, exam, "J")
    return difference(dict.fromkeys(full, ours[0]) if arm == "copy" else ours, full)


def _agreement(results: Sequence[dict[str, Any]], exam: str) -> str:
    """What agrees with the paper and what does not, in words that follow from the numbers."""
    arms = [arm for arm in PAPER if arm != FULL and values(results, arm, exam, "J")]
    found = {arm: _change(results, arm, exam) for arm in arms}
    worse = [PAPER[arm][0] for arm in arms if found[arm].excludes_zero and found[arm].mean < 0]
    better = [PAPER[arm][0] for arm in arms if found[arm].excludes_zero and found[arm].mean > 0]
    open_ones = [PAPER[arm][0] for arm in arms if not found[arm].excludes_zero]
    text = (
        f"{exam}: worse than the full model, as in the paper: {_listed(worse)}. Not told apart: {_listed(open_ones)}."
    )
    text += f" Better, against the paper: {_listed(better)}."
    means = [found[arm].mean for arm in arms]
    if len(set(means)) > 2:
        rank = spearmanr([PAPER[arm][1] for arm in arms], means).statistic
        text += f" Rank correlation of the changes with the paper's: {rank:+.2f}."
    return text


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
