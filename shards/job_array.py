"""A shard set made by the tasks of a job array, with nothing between them but the folder that they share.

Task I of N makes the shards I, I + N, I + 2 N ... Tasks may run at the same time, one after the other, or twice; the
one that finds everything made writes index and dataset.json. That is decided by what lies in the folder and never by a
count, so a task that was killed is simply run again. Once the tasks are over, a plain
:func:`shards.build.build_shard_set` of the same plan makes whatever is still missing and completes the set.

All tasks share the folder's lock, so that neither a plain build nor a task of another configuration gets between them.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.build import claim, complete_already, digest, full_configuration, make_missing, open_folder
from shards.conflict import refuse_other_configuration
from shards.finish import write_completion
from shards.manifest import is_shard_set
from shards.plan import BuildReport, Progress, ShardPlan
from shards.process_engine import ProcessEngine
from shards.workspace import FolderBusyError, Workspace, locked

_PATIENCE_SECONDS = 60.0
"""How long a task waits for another one that claims or completes the set, before it says that the folder is in use."""

_RETRY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a job array.

    Raises:
        ValueError: the numbers do not fit together.
    """

    task_id: int
    """Which one, 0 <= ``task_id`` < ``num_tasks``."""

    num_tasks: int
    """How many tasks there are, at least 1."""

    def __post_init__(self) -> None:
        if self.num_tasks < 1:
            raise ValueError(f"the number of tasks must be at least 1, got {self.num_tasks}")
        if not 0 <= self.task_id < self.num_tasks:
            raise ValueError(f"the task's id must be 0 to {self.num_tasks - 1}, got {self.task_id}")

    def shards(self, num_shards: int) -> range:
        """The shards that this task makes."""
        return range(self.task_id, num_shards, self.num_tasks)


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What there is when a task has made its share."""

    num_shards: int
    """Shards of the share, all made."""

    num_missing: int
    """Shards of the whole set that were not made yet when the task looked; 0 with ``whole`` None: others are at it."""

    whole: BuildReport | None
    """The complete set; None while other tasks have to do something."""


def build_share(
    plan: ShardPlan, folder: Path, task: Task, workers: int = 1, progress: Progress | None = None
) -> TaskReport:
    """Makes a task's share of a shard set, and completes the set if nothing is missing then.

    Args:
        plan: what to make, the same for all tasks; picklable when ``workers`` exceeds 1.
        folder: the shard set's folder, on a file system that all tasks share.
        task: which share.
        workers: processes that make shards, as for :func:`shards.build.build_shard_set`.
        progress: called with records done and, about, records planned of this share.

    Raises:
        ConflictError, ShardError, VosDataError, ValueError: as :func:`shards.build.build_shard_set`.
    """
    engine = ProcessEngine(workers)
    configuration, folder = full_configuration(plan), Path(folder)
    share = task.shards(plan.num_shards)
    done = complete_already(folder, configuration)
    if done is not None:
        return TaskReport(len(share), 0, done)
    open_folder(folder)
    workspace = Workspace(folder, plan.name, digest(configuration), board=f"progress-{secrets.token_hex(6)}")
    with _joined(workspace, configuration):
        if not is_shard_set(folder):
            make_missing(workspace, plan, share, engine, progress)
    num_missing, whole = _complete_if_last(plan, workspace, configuration)
    return TaskReport(len(share), num_missing, whole)


@contextmanager
def _joined(workspace: Workspace, configuration: dict[str, Any]) -> Iterator[None]:
    """Shares the folder, which is claimed for the configuration, with the other tasks; or it is complete.

    The first task claims it alone. The others see its claim or wait for it.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        with locked(workspace.folder, shared=True, patience_seconds=_PATIENCE_SECONDS):
            stored = workspace.stored_configuration()
            if stored == configuration or is_shard_set(workspace.folder):
                yield
                return
        try:
            with locked(workspace.folder):
                if not is_shard_set(workspace.folder):
                    claim(workspace, configuration)
        except FolderBusyError:
            if stored is not None:
                refuse_other_configuration(workspace.folder, stored, configuration)  # its tasks are at work
            if time.monotonic() >= until:
                raise
            time.sleep(_RETRY_SECONDS)


def _complete_if_last(
    plan: ShardPlan, workspace: Workspace, configuration: dict[str, Any]
) -> tuple[int, BuildReport | None]:
    """Completes the set when every shard is made and nobody works on it; returns how many are missing otherwise.

    Each task tries after it has let go of the folder, so the last one to let go meets nobody: either it completes the
    set, or one that came before it is doing so.
    """
    try:
        with locked(workspace.folder):
            whole = complete_already(workspace.folder, configuration)
            missing = _num_missing(plan, workspace) if whole is None else 0
            if whole is None and missing == 0:
                whole = write_completion(plan, workspace.folder, workspace, configuration)
            if whole is not None:
                workspace.remove()
            return missing, whole
    except FolderBusyError:
        missing = _num_missing(plan, workspace)
        whole = complete_already(workspace.folder, configuration)  # if so, the count may have met an emptied workspace
        return (missing, None) if whole is None else (0, whole)


def _num_missing(plan: ShardPlan, workspace: Workspace) -> int:
    return sum(workspace.read_fragment(shard) is None for shard in range(plan.num_shards))
