"""``vosdata export``: shard sets in other tools' forms, and back."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vosdata.cli.progress import show_progress

if TYPE_CHECKING:
    from shards.plan import BuildReport
    from vosdata.export.job import Form


def command(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SHARDS", help="Shard sets (folders or URLs), or folders of them; with --format shards an export."
        ),
    ],
    form: Annotated[
        str,
        typer.Option("--format", help="parquet, hf, davis, youtube-vos, webdataset, or shards to read one back."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the export; with shards it receives one folder per set.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write shard sets in the form of other tools: frames keep their bytes and masks their indices, void included.

    parquet: one row per sequence. hf: the same with a dataset card, ready for load_dataset and the Hub. davis and
    youtube-vos: folders as published, which vosdata shard reads back. webdataset: tars with one sample per frame (shard
    sets themselves have one per sequence). shards: reads parquet, hf and webdataset back, to the same tars byte for
    byte. Running the command again continues what was cut off.

    \b
    Example:
      vosdata export data/shards/davis2017-train data/shards/davis2017-val --format hf --out davis2017-hf
    """
    from vosdata.export.job import FORMS

    if form == "shards":
        reports: list[dict[str, Any]] = _rebuild(sources, out, as_json)
    elif form in FORMS:
        reports = [_export(sources, form, out, as_json)]
    else:
        raise typer.BadParameter(f"--format must be one of {', '.join(FORMS)} or shards, got {form!r}")
    if as_json:
        print(json.dumps(reports, indent=2))


def _export(sources: list[Path], form: "Form", out: Path, quiet: bool) -> dict[str, Any]:
    from dataclasses import asdict

    from vosdata.export.job import export

    with show_progress("sequences") as progress:
        report = export(sources, form, out, progress)
    if not quiet:
        _say(
            report.already_complete, " ".join(report.sets), report.num_records, report.num_frames, report.num_bytes, out
        )
    return {**asdict(report), "folder": str(report.folder)}


def _rebuild(sources: list[Path], out: Path, quiet: bool) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from shards.build import build_shard_set
    from vosdata.export.rebuild import plan_rebuild
    from vosdata.world import detect

    reports = []
    for plan in [plan for source in sources for plan in plan_rebuild(source)]:
        with show_progress(f"sequences of {plan.name}") as progress:
            workers = min(detect().num_cores, len(plan.exported.shards))
            report: BuildReport = build_shard_set(plan, out / plan.name, workers, progress)
        if not quiet:
            counts = (report.num_records, report.num_frames, report.num_bytes)
            _say(report.already_complete, plan.name, *counts, report.folder)
        reports.append({**asdict(report), "folder": str(report.folder)})
    return reports


def _say(already: bool, name: str, num_records: int, num_frames: int, num_bytes: int, folder: Path) -> None:
    state = "already complete, " if already else ""
    print(
        f"{name}: {state}{num_records} sequences, {num_frames} frames, {num_bytes / 1e6:.1f} MB -> {folder}", flush=True
    )
