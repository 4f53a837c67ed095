"""``vosdata verify``: checks every byte of shard sets."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shards.errors import DamageError
from shards.format import INDEX_FILE

if TYPE_CHECKING:
    from shards.verify import VerifyReport

MAX_SHOWN = 20  # of one set; --json has them all


def command(
    shards: Annotated[list[Path], typer.Argument(help="Shard sets, folders that hold shard sets, or URLs.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check every byte of shard sets against their checksums, and say where something is wrong.

    Tar headers, padding, pictures, masks, the index and dataset.json are all covered: one flipped bit or a file cut at
    any byte is found, and named down to the record and member. Exit status 0 means that all sets are intact.

    \b
    Example:
      vosdata verify data/shards/davis2017-train
    """
    from shards.manifest import find_shard_sets

    folders = [folder for path in shards for folder in find_shard_sets(path)]
    reports = []
    for folder in folders:
        start = time.monotonic()
        report = _verify(folder)
        reports.append((folder, report))
        if not as_json:
            _print_report(folder, report, time.monotonic() - start)
    if as_json:
        print(json.dumps([_report_json(folder, report) for folder, report in reports], indent=2))
    _raise_on_damage(reports)


def _verify(folder: Path) -> "VerifyReport":
    from shards.verify import verify
    from vosdata.cli.progress import show_progress

    with show_progress("MB") as show:
        return verify(folder, lambda done, total: show(done // 1_000_000, total // 1_000_000))


def _print_report(folder: Path, report: "VerifyReport", seconds: float) -> None:
    what = f"{report.num_records} records, {report.num_members} members, {report.num_bytes / 1e6:.1f} MB"
    state = "intact" if not report.problems else f"{len(report.problems)} problems"
    print(f"{folder}: {state} ({what}, {seconds:.1f} s)")
    for problem in report.problems[:MAX_SHOWN]:
        print(f"  {problem}")
    if len(report.problems) > MAX_SHOWN:
        print(f"  ... and {len(report.problems) - MAX_SHOWN} more (--json has them all)")


def _report_json(folder: Path, report: "VerifyReport") -> dict[str, Any]:
    from dataclasses import asdict

    return {"path": str(folder), "intact": not report.problems, **asdict(report)}


def _raise_on_damage(reports: "list[tuple[Path, VerifyReport]]") -> None:
    from shards.remote.location import is_url

    damaged = [(folder, report) for folder, report in reports if report.problems]
    if damaged:
        folder, report = damaged[0]
        more = f" (and {len(damaged) - 1} more sets)" if len(damaged) > 1 else ""
        # Only while dataset.json is whole: its checksums are all that tells whether the tars are.
        index_alone = not is_url(folder) and all(problem.file == INDEX_FILE for problem in report.problems)
        remedy = "vosdata index makes it anew" if index_alone else "copy or make the damaged files again"
        raise DamageError(f"{folder} is damaged{more}: {report.problems[0]}; {remedy}")
