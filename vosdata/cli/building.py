"""What the commands that build shard sets share: where shards are made, and by whom."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vosdata.cli.options import parse_workers
from vosdata.cli.progress import show_progress

if TYPE_CHECKING:
    from shards.engine import Engine
    from shards.job_array import Task, TaskReport
    from shards.plan import BuildReport, ShardPlan

EngineOption = Annotated[
    Literal["local", "ray"],
    typer.Option(
        help="What makes the shards: processes here, or the Ray cluster of $RAY_ADDRESS or of this machine (needs "
        "vosdata[ray]). All nodes must see the folders at the same paths. Changes no byte."
    ),
]

NumTasksOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Share the work between so many calls, such as the tasks of a job array, which write into one shared "
        "folder. The last one to finish completes it, or the same command without this option.",
        show_default=False,
    ),
]

TaskIdOption = Annotated[
    int | None, typer.Option(help="With --num-tasks N: which of them this is, 0 to N-1.", show_default=False)
]


@dataclass(frozen=True, slots=True)
class Building:
    """Where shards are made, and by whom."""

    workers: int
    """Processes here."""

    engine: "Engine | None"
    """What makes the shards instead of processes here."""

    task: "Task | None"
    """The share to make; None for all."""

    def build(self, plan: "ShardPlan", folder: Path, unit: str) -> "BuildReport | None":
        """Builds a shard set or the task's share of it; ``unit`` is what progress is counted in.

        Returns:
            The report on the complete set; None, and a line that says so, while other tasks have to do something.
        """
        from shards.build import build_shard_set
        from shards.job_array import build_share

        workers = min(self.workers, plan.num_shards)
        with show_progress(unit) as progress:
            if self.task is None:
                return build_shard_set(plan, folder, workers, progress, self.engine)
            share = build_share(plan, folder, self.task, workers, progress)
        if share.whole is None:
            print(_not_whole(self.task, folder, share), file=sys.stderr, flush=True)
        return share.whole


def report_json(report: "BuildReport") -> dict[str, Any]:
    """A report as ``--json`` prints it."""
    skipped = {one.name: one.reason for one in report.skipped}
    return {
        "folder": str(report.folder),
        "num_records": report.num_records,
        "num_frames": report.num_frames,
        "num_bytes": report.num_bytes,
        "already_complete": report.already_complete,
        "skipped": [{"name": name, "reason": reason} for name, reason in skipped.items()],
    }


def parse_building(engine: str, workers: str, num_tasks: int | None, task_id: int | None) -> Building:
    """What the four options say together.

    Raises:
        typer.BadParameter: they contradict each other.
        ShardError: Ray is asked for and not installed.
    """
    num_workers = parse_workers(workers)
    if (num_tasks is None) != (task_id is None):
        raise typer.BadParameter("--num-tasks and --task-id go together")
    if engine == "local":
        return Building(num_workers, None, _parse_task(num_tasks, task_id))
    if num_tasks is not None:
        raise typer.BadParameter("--num-tasks is for machines without an engine; leave it out with --engine ray")
    from shards.ray_engine import RayEngine

    return Building(num_workers, RayEngine(None if workers == "auto" else num_workers), None)


def _parse_task(num_tasks: int | None, task_id: int | None) -> "Task | None":
    from shards.job_array import Task

    if num_tasks is None or task_id is None:
        return None
    if not 0 <= task_id < num_tasks:
        raise typer.BadParameter(f"--task-id must be 0 to {num_tasks - 1} with --num-tasks {num_tasks}, got {task_id}")
    return Task(task_id, num_tasks)


def _not_whole(task: "Task", folder: Path, share: "TaskReport") -> str:
    others = f"{share.num_missing} of other tasks are missing" if share.num_missing else "another task is still at it"
    return (
        f"{folder}: task {task.task_id} of {task.num_tasks} has made its {share.num_shards} shards; {others}. The last "
        "task to finish completes the set, or the same command without --num-tasks"
    )
