"""``vosdata shard``: packs datasets into shard sets."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shards.errors import DatasetError
from vosdata.cli.building import EngineOption, NumTasksOption, TaskIdOption, parse_building, report_json
from vosdata.cli.options import parse_size
from vosdata.world import data_root

if TYPE_CHECKING:
    from shards.plan import BuildReport
    from vosdata.datasets.dataset import Dataset
    from vosdata.pack import OnBad, PackPlan

MAX_LISTED = 20


def command(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SOURCE", help="Folders of datasets; by default all found in the data root's raw/."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder that receives one folder per shard set [default: shards/ in the data root]."),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="Split to pack; may be repeated [default: every split, except those that repeat others]."),
    ] = None,
    size: Annotated[
        str, typer.Option(help="'native' keeps the original frame files, HEIGHTxWIDTH resizes.")
    ] = "native",
    on_bad: Annotated[
        Literal["stop", "skip"],
        typer.Option(help="At a sequence that cannot be used: stop, or leave it out and list it."),
    ] = "stop",
    workers: Annotated[str, typer.Option(help="Number of processes, or 'auto' for one per core.")] = "auto",
    engine: EngineOption = "local",
    num_tasks: NumTasksOption = None,
    task_id: TaskIdOption = None,
    root: Annotated[Path | None, typer.Option(help="Data root [default: $VOSDATA_ROOT, else ./data].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reports as JSON.")] = False,
) -> None:
    """Pack DAVIS, YouTube-VOS and look-alike folders into shards, one shard set per dataset and split.

    The layout of each SOURCE is found, not asked for. Frames keep their original bytes unless --size is given; masks
    keep their indices (0 background, 1..254 objects, 255 void). Frames with an EXIF orientation are refused, because
    nobody can tell which way their masks lie. Running the command again continues what was cut off.

    \b
    Example:
      vosdata shard data/raw/DAVIS --split train --out data/shards
    """
    from vosdata.pack import oddities

    checked_size = None if size == "native" else parse_size(size)
    building = parse_building(engine, workers, num_tasks, task_id)
    base = data_root(root)
    plans = _plan_all(sources, base / "raw", split or [], checked_size, on_bad)
    folder = base / "shards" if out is None else out
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"--out {folder} is a file, expected a folder to put shard sets into")
    reports = []
    for plan in plans:
        report = building.build(plan, folder / plan.name, f"sequences of {plan.name}")
        if report is None:  # other tasks have to do something
            continue
        remarks = [f"left out {one.name}: {one.reason}" for one in report.skipped] + oddities(plan, report.folder)
        reports.append(_report_json(plan, report, remarks))
        if not as_json:
            print(_summary(plan, report), flush=True)
            _say_all(plan.name, remarks)
    if as_json:
        print(json.dumps(reports, indent=2))


def _plan_all(
    sources: list[Path] | None, raw: Path, wanted: list[str], size: tuple[int, int] | None, on_bad: "OnBad"
) -> list["PackPlan"]:
    """Lists everything that will be packed, so that a wrong source is found before the first byte is written."""
    from vosdata.datasets.recognise import recognise
    from vosdata.pack import plan_pack

    if not sources and not raw.is_dir():
        raise DatasetError(f"no SOURCE was given and there is no folder {raw} with datasets. Name a dataset's folder")
    found = [(source, dataset) for source in sources or [raw] for dataset in recognise(source)]
    known = {name for _, dataset in found for name in dataset.split_names}
    if missing := [name for name in wanted if name not in known]:
        here = ", ".join(f"{dataset.name} with {', '.join(dataset.split_names)}" for _, dataset in found)
        raise DatasetError(f"no dataset has a split {missing[0]!r}; found {here}")
    plans: dict[str, tuple[Path, PackPlan]] = {}
    for source, dataset in found:
        for note in dataset.notes:
            _say(f"{dataset.title}: {note}")
        for name in _chosen_splits(dataset, wanted):
            if _is_new(dataset, name, source, plans):
                plans[dataset.set_name(name)] = (source, plan_pack(dataset, name, size, on_bad))
    return [plan for _, plan in plans.values()]


def _is_new(dataset: "Dataset", split: str, source: Path, plans: dict[str, tuple[Path, "PackPlan"]]) -> bool:
    """Whether no shard set of that name is planned yet.

    Below one folder the same split may be there twice, as DAVIS 2016 beside the 2016 lists of DAVIS 2017: the first is
    taken and the other one named. Two sources that were asked for by name must not stand in for each other.
    """
    name = dataset.set_name(split)
    if name not in plans:
        return True
    first_source, first = plans[name]
    if first.dataset.root == dataset.root:
        return False
    if first_source != source:
        raise DatasetError(
            f"{first.dataset.root} and {dataset.root} would both become the shard set {name}; "
            "pack them by two calls with different --out"
        )
    _say(f"{name}: packed from {first.dataset.root}; {dataset.root}, which has the same split, is left out")
    return False


def _chosen_splits(dataset: "Dataset", wanted: list[str]) -> list[str]:
    from vosdata.datasets.recognise import default_splits

    if wanted:
        chosen = [name for name in dataset.split_names if name in wanted]
        if not chosen:
            _say(f"{dataset.title} in {dataset.root}: has no split {' or '.join(wanted)}, nothing packed")
        return chosen
    taken, left = default_splits(dataset)
    for split in left:
        _say(f"{dataset.title}: split {split.name} only repeats sequences of the others; --split {split.name} packs it")
    return [split.name for split in taken]


def _summary(plan: "PackPlan", report: "BuildReport") -> str:
    state = "already complete, " if report.already_complete else ""
    left_out = f", {len(report.skipped)} left out" if report.skipped else ""
    return (
        f"{plan.name}: {state}{report.num_records} sequences, {report.num_frames} frames, "
        f"{report.num_bytes / 1e6:.1f} MB{left_out} -> {report.folder}"
    )


def _say_all(name: str, remarks: list[str]) -> None:
    for remark in remarks[:MAX_LISTED]:
        _say(f"{name}: {remark}")
    if len(remarks) > MAX_LISTED:
        _say(f"{name}: and {len(remarks) - MAX_LISTED} more remarks; --json prints all of them")


def _report_json(plan: "PackPlan", report: "BuildReport", remarks: list[str]) -> dict[str, object]:
    return {
        "name": plan.name,
        "dataset": plan.dataset.name,
        "split": plan.split,
        **report_json(report),
        "remarks": remarks,
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
