"""Builds a shard set from a plan: independent shards, any number of workers, restartable at any moment, same bytes.

Each shard is made by :func:`shards.making.make_shard`: temporary name, fsync, rename, then a fragment that says the
shard is done under the plan's digest. Which processes or machines do it is up to an :class:`shards.engine.Engine`; the
tasks of a job array each make a share (:mod:`shards.job_array`). Then :mod:`shards.finish` puts the fragments together
and writes dataset.json last.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shards.conflict import refuse_other_configuration
from shards.engine import Engine, Job
from shards.errors import ConflictError, DamageError
from shards.finish import complete_report, write_completion
from shards.format import FORMAT_VERSION, WORKSPACE, check_set_name
from shards.making import make_shard
from shards.manifest import canonical_text, is_shard_set, read_manifest
from shards.plan import BuildReport, Progress, SetDescription, ShardPlan, Skipped
from shards.process_engine import ProcessEngine
from shards.workspace import Workspace, locked

__all__ = [
    "BuildReport",
    "Progress",
    "SetDescription",
    "ShardPlan",
    "Skipped",
    "build_shard_set",
    "make_shard",
]


def build_shard_set(
    plan: ShardPlan, folder: Path, workers: int = 1, progress: Progress | None = None, engine: Engine | None = None
) -> BuildReport:
    """Makes the shard set of a plan, or what is still missing of it.

    The result does not depend on engine and workers, nor on how often an earlier run was cut off.

    Args:
        plan: what to make; picklable when ``workers`` exceeds 1 or an engine is given.
        folder: the shard set's folder; made when it does not exist.
        workers: processes that make shards, at least 1; with 1 everything happens in this process.
        progress: called with records done and records planned, about five times a second.
        engine: what makes the shards, instead of ``workers`` processes here.

    Raises:
        ConflictError: the folder holds a set of another configuration or something else, or is being written.
        ShardError: no record is left, or workers keep dying.
        VosDataError: whatever the plan raises while making its records.
        ValueError: ``workers`` or the plan's name is out of range.
    """
    engine = engine or ProcessEngine(workers)
    configuration, folder = full_configuration(plan), Path(folder)
    done = complete_already(folder, configuration)
    if done is not None:
        return done
    open_folder(folder)
    with locked(folder):
        done = complete_already(folder, configuration)  # another process may have finished in the meantime
        workspace = Workspace(folder, plan.name, digest(configuration))
        if done is None:
            claim(workspace, configuration)
            make_missing(workspace, plan, range(plan.num_shards), engine, progress)
            done = write_completion(plan, folder, workspace, configuration)
        workspace.remove()
    return done


def full_configuration(plan: ShardPlan) -> dict[str, Any]:
    """The plan's configuration and what else must be equal, as it comes back from JSON.

    Raises:
        ValueError: the plan's name cannot stand in file names.
    """
    whole = {
        "format_version": FORMAT_VERSION,
        "name": check_set_name(plan.name),
        "split": plan.split,
        "num_shards": plan.num_shards,
        "num_records": plan.num_records,
        **plan.configuration(),
    }
    content: dict[str, Any] = json.loads(canonical_text(whole))
    return content


def digest(configuration: dict[str, Any]) -> str:
    """What fragments are marked with."""
    return hashlib.sha256(canonical_text(configuration)).hexdigest()


def complete_already(folder: Path, configuration: dict[str, Any]) -> BuildReport | None:
    """The report on a folder that holds the whole set; None when there is none yet.

    Raises:
        ConflictError: it holds one of another configuration.
        DamageError: a shard of it is gone or was cut off.
    """
    if not is_shard_set(folder):
        return None
    manifest = read_manifest(folder)
    refuse_other_configuration(folder, manifest["configuration"], configuration)
    for info in manifest["shards"]:
        path = folder / info["file"]
        size = path.stat().st_size if path.is_file() else None
        if size != info["size"]:
            found = "is missing" if size is None else f"has {size} bytes"
            raise DamageError(f"{path} {found}, expected {info['size']} bytes; delete {folder} and run again")
    return complete_report(folder, manifest, already_complete=True)


def open_folder(folder: Path) -> None:
    """Makes the folder, or takes an empty one or one that is being built.

    Raises:
        ConflictError: something else is there.
    """
    if folder.exists() and not folder.is_dir():
        raise ConflictError(f"{folder} is a file; choose a folder for the shard set")
    folder.mkdir(parents=True, exist_ok=True)
    other = next((path for path in folder.iterdir() if path.name != WORKSPACE), None)
    # In this order: a builder that finishes at this moment writes dataset.json before its workspace goes.
    if other is not None and not (folder / WORKSPACE).is_dir() and not is_shard_set(folder):
        raise ConflictError(f"{folder} is not empty and holds no shard set (found {other.name}); choose another folder")


def claim(workspace: Workspace, configuration: dict[str, Any]) -> None:
    """Writes the configuration into a fresh workspace, or checks it against the one that work was done under.

    Raises:
        ConflictError: they differ.
    """
    stored = workspace.stored_configuration()
    if stored is None or workspace.is_untouched():
        workspace.store_configuration(configuration)
    else:
        refuse_other_configuration(workspace.folder, stored, configuration)


def make_missing(
    workspace: Workspace, plan: ShardPlan, shards: Iterable[int], engine: Engine, progress: Progress | None
) -> None:
    """Makes those of some shards that are not done.

    Progress is told in records of these shards; of a share of all shards, the number planned is taken to be that share
    of all records.
    """
    board = workspace.progress(plan.num_shards)
    board.clear()
    missing, num_shards = [], 0
    for shard in shards:
        num_shards += 1
        fragment = workspace.read_fragment(shard)
        if fragment is None:
            missing.append(shard)
        board.put(shard, 0 if fragment is None else fragment.info.num_records + len(fragment.skipped))
    num_planned = round(plan.num_records * num_shards / plan.num_shards)

    def report() -> None:
        if progress is not None:
            progress(board.total(), num_planned)

    if missing:
        engine.make(Job(plan, workspace, tuple(missing), board, report))
    report()
