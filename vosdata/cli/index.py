"""``vosdata index``: makes index.arrow and dataset.json anew from the tars of a shard set."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from shards.rebuild import RebuildReport


def command(
    folders: Annotated[list[Path], typer.Argument(help="Folders of tars, one shard set each.")],
    name: Annotated[str | None, typer.Option(help="Name of the set; by default as before, or as the tars say.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the set; by default as before, or train.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Make the index and dataset.json of a folder of tars, from the tars alone; no tar is changed or unpacked.

    Takes vosdata's own shards, and tars that others made for webdataset when each record has frames such as
    KEY.frame00000.jpg, KEY.00.jpg, KEY.f00.jpg or KEY.jpg and masks such as KEY.mask00000.png, KEY.00.png, KEY.m00.png
    or KEY.png. Says what it recognised, and refuses what it does not.

    \b
    Example:
      vosdata index data/shards/from-a-friend --split val
    """
    from shards.rebuild import rebuild
    from vosdata.cli.progress import show_progress

    if name is not None and len(folders) > 1:
        raise typer.BadParameter("--name names one set, but several folders are given")
    reports = []
    for folder in folders:
        with show_progress("MB") as show:
            report = rebuild(folder, name, split, lambda done, total: show(done // 1_000_000, total // 1_000_000))
        reports.append(report)
        if not as_json:
            _print_report(report)
    if as_json:
        print(json.dumps([_report_json(report) for report in reports], indent=2))


def _print_report(report: "RebuildReport") -> None:
    kind = "webdataset tars of others" if report.is_foreign else "shards of vosdata"
    print(f"{report.folder}: {report.num_shards} {kind}: {report.recognised}")
    for note in report.notes:
        print(f"  note: {note}")
    written = (
        f"{' and '.join(report.changed)} written" if report.changed else "nothing changed: all was as it should be"
    )
    print(f"  {written}")


def _report_json(report: "RebuildReport") -> dict[str, Any]:
    return {**asdict(report), "folder": str(report.folder)}
