"""``vosdata score``: predictions against the truth."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vosdata.evaluate.report import Score
    from vosdata.evaluate.truth import AnnotatedVideo


def command(
    truth: Annotated[
        Path, typer.Option(help="Dataset folder, shard set, or folder of sequence folders (Annotations/480p).")
    ],
    pred: Annotated[Path, typer.Option(help="Predictions: <sequence>/00000.png, palette PNG of object ids.")],
    protocol: Annotated[str, typer.Option(help="Whose rules: davis2016 or davis2017.")] = "davis2017",
    split: Annotated[str | None, typer.Option(help="List of sequences [default: val where there is one].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON, in full precision.")] = False,
) -> None:
    """Score predicted masks against the truth, as the official tools do.

    J (region), F (boundary) and J&F of each object, with recall (share of frames above 0.5) and decay (first quarter
    of the frames minus the last). The first and last annotated frame of a sequence are not scored; void counts as
    background; objects weigh equally.

    \b
    Example:
      vosdata score --protocol davis2017 --truth data/raw/DAVIS --pred predictions
    """
    from vosdata.evaluate.protocols import find_protocol
    from vosdata.evaluate.truth import open_truth

    rule = find_protocol(protocol)
    print_score(score_with_progress(open_truth(truth, split, rule.name), pred, rule.name), as_json)


def score_with_progress(videos: "Sequence[AnnotatedVideo]", predictions: Path, protocol: str) -> "Score":
    """Scores a folder of predictions while showing how far it is."""
    from vosdata.cli.progress import show_progress
    from vosdata.evaluate.predictions import PredictionFolder
    from vosdata.evaluate.score import score_videos

    with show_progress("sequences scored") as update:
        folder = PredictionFolder(predictions)
        return score_videos(videos, folder, protocol, progress=lambda done: update(done, len(videos)))


def print_score(score: "Score", as_json: bool) -> None:
    """Prints a score: JSON alone, or a table; warnings go to standard error as well."""
    from vosdata.evaluate.report import HEADER, format_table, score_rows

    print(json.dumps(score.to_json(), indent=1) if as_json else format_table(HEADER, score_rows(score)))
    for warning in score.warnings:
        print(f"vosdata: warning: {warning}", file=sys.stderr)
