"""Builds a shard set from a plan: independent shards, any number of workers, restartable at any moment, same bytes.

``make_shard`` is pure and idempotent: temporary name, fsync, rename, then a fragment that says the shard is done under
the plan's digest. Local processes, a job array or a cluster differ only in who calls it. Then :mod:`shards.finish` puts
the fragments together and writes dataset.json last.
"""

import hashlib
import json
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing.connection import wait as wait_for_handles
from pathlib import Path
from typing import Any

from shards.atomic import atomic_file
from shards.conflict import refuse_other_configuration
from shards.errors import ConflictError, DamageError, ShardError
from shards.finish import complete_report, write_completion
from shards.format import FORMAT_VERSION, WORKSPACE, check_set_name, shard_path
from shards.index import IndexEntry
from shards.manifest import ShardInfo, canonical_text, hex_crc, is_shard_set, read_manifest
from shards.plan import BuildReport, Progress, SetDescription, ShardPlan, Skipped
from shards.workspace import ProgressBoard, Workspace, locked
from shards.writer import ShardWriter

__all__ = [
    "BuildReport",
    "Progress",
    "SetDescription",
    "ShardPlan",
    "Skipped",
    "build_shard_set",
    "make_shard",
]

_POLL_SECONDS = 0.2

_MAX_FRUITLESS_POOLS = 3
"""How often workers may die in a row without a single shard getting done."""


def build_shard_set(plan: ShardPlan, folder: Path, workers: int = 1, progress: Progress | None = None) -> BuildReport:
    """Makes the shard set of a plan, or what is still missing of it.

    The result does not depend on the number of workers, nor on how often an earlier run was cut off.

    Args:
        plan: what to make; picklable when ``workers`` exceeds 1.
        folder: the shard set's folder; made when it does not exist.
        workers: processes that make shards, at least 1; with 1 everything happens in this process.
        progress: called with records done and records planned, about five times a second.

    Raises:
        ConflictError: the folder holds a set of another configuration or something else, or is being written.
        ShardError: no record is left, or workers keep dying.
        VosDataError: whatever the plan raises while making its records.
        ValueError: ``workers`` or the plan's name is out of range.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    check_set_name(plan.name)
    configuration = _full_configuration(plan)
    folder = Path(folder)
    done = _complete_already(folder, configuration)
    if done is not None:
        return done
    _refuse_other_content(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        done = _complete_already(folder, configuration)  # another process may have finished in the meantime
        workspace = Workspace(folder, plan.name, _digest(configuration))
        if done is None:
            _claim(workspace, configuration)
            _make_missing(plan, workspace, workers, progress)
            done = write_completion(plan, folder, workspace, configuration)
        workspace.remove()
    return done


def make_shard(
    plan: ShardPlan, shard: int, workspace: Workspace, tick: Callable[[int], None] | None = None
) -> ShardInfo:
    """Makes one shard; pure and idempotent, so it may be done again, elsewhere, or twice at once.

    Args:
        plan: what to make.
        shard: which shard, 0 <= shard < ``plan.num_shards``.
        workspace: of the shard set; must be claimed for the plan's configuration.
        tick: called after each record with the number done so far.
    """
    path = shard_path(workspace.folder, plan.name, shard)
    entries: list[IndexEntry] = []
    skipped: list[Skipped] = []
    with atomic_file(path, workspace.path) as file:
        writer = ShardWriter(file, shard)
        for count, item in enumerate(plan.records(shard), start=1):
            if isinstance(item, Skipped):
                skipped.append(item)
            else:
                entries.append(writer.add(item))
            if tick is not None:
                tick(count)
        writer.close()
    if not entries:  # an empty tar would make a reader of the first shard believe that the set is empty
        path.unlink()
    info = ShardInfo(shard, path.name, len(entries), writer.num_bytes, hex_crc(writer.crc))
    workspace.write_fragment(info, skipped, entries)
    return info


def _full_configuration(plan: ShardPlan) -> dict[str, Any]:
    """The plan's configuration and what else must be equal, as it comes back from JSON."""
    whole = {
        "format_version": FORMAT_VERSION,
        "name": plan.name,
        "split": plan.split,
        "num_shards": plan.num_shards,
        "num_records": plan.num_records,
        **plan.configuration(),
    }
    content: dict[str, Any] = json.loads(canonical_text(whole))
    return content


def _digest(configuration: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_text(configuration)).hexdigest()


def _complete_already(folder: Path, configuration: dict[str, Any]) -> BuildReport | None:
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


def _refuse_other_content(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConflictError(f"{folder} is a file; choose a folder for the shard set")
    if folder.is_dir() and not (folder / WORKSPACE).is_dir():
        other = next(folder.iterdir(), None)
        if other is not None:
            raise ConflictError(
                f"{folder} is not empty and holds no shard set (found {other.name}); choose another folder"
            )


def _claim(workspace: Workspace, configuration: dict[str, Any]) -> None:
    """Writes the configuration into a fresh workspace, or checks it against the one that work was done under."""
    stored = workspace.stored_configuration()
    if stored is None or workspace.is_untouched():
        workspace.store_configuration(configuration)
    else:
        refuse_other_configuration(workspace.folder, stored, configuration)


def _make_missing(plan: ShardPlan, workspace: Workspace, workers: int, progress: Progress | None) -> None:
    """Makes all shards that are not done, with new workers when some were killed."""
    board = workspace.progress(plan.num_shards)
    board.clear()
    fruitless = 0
    missing = _missing(plan, workspace, board)
    while missing:
        report = _Reporter(board, plan.num_records, progress)
        try:
            _run(plan, workspace, board, missing, workers, report)
        except BrokenProcessPool as error:
            left = _missing(plan, workspace, board)
            fruitless = fruitless + 1 if len(left) == len(missing) else 0
            if fruitless >= _MAX_FRUITLESS_POOLS:
                raise ShardError(
                    f"{workspace.folder}: worker processes keep being killed while making shard {left[0]} "
                    "(out of memory?); run again with fewer workers"
                ) from error
            missing = left
        else:
            missing = []
        report()


def _missing(plan: ShardPlan, workspace: Workspace, board: ProgressBoard) -> list[int]:
    """Shards that are not done; puts the others on the board."""
    missing = []
    for shard in range(plan.num_shards):
        fragment = workspace.read_fragment(shard)
        if fragment is None:
            missing.append(shard)
        board.put(shard, 0 if fragment is None else fragment.info.num_records + len(fragment.skipped))
    return missing


class _Reporter:
    """Calls the user's progress function with what the board says."""

    def __init__(self, board: ProgressBoard, num_planned: int, progress: Progress | None) -> None:
        self._board = board
        self._num_planned = num_planned
        self._progress = progress

    def __call__(self) -> None:
        if self._progress is not None:
            self._progress(self._board.total(), self._num_planned)


def _run(
    plan: ShardPlan, workspace: Workspace, board: ProgressBoard, shards: list[int], workers: int, report: _Reporter
) -> None:
    """Makes shards with one set of workers; on the first error stops all of them and raises it."""
    packed = pickle.dumps(plan) if workers > 1 else plan  # once here, not once per shard in the pool's thread
    executor = _executor(workers, len(shards))
    try:
        waiting = {executor.submit(_work, packed, shard, workspace, plan.num_shards) for shard in shards}
        while waiting:
            report()
            done, waiting = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
    except BaseException:
        board.ask_to_stop()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        board.allow()


def _executor(workers: int, num_shards: int) -> Executor:
    """A thread of this process for one worker, else fresh processes: no fork, so no lock or thread is inherited.

    Even a last single shard goes to a process when several workers were asked for: what killed a worker must not kill
    this process.
    """
    if workers == 1:
        return ThreadPoolExecutor(1, thread_name_prefix="make-shard")
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(min(workers, num_shards), mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    """Leaves Ctrl-C to the parent, and dies with it: a pool's workers would otherwise wait for work forever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, name="die-with-parent", daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_handles([parent.sentinel])
        os._exit(1)


class _Stopped(Exception):  # noqa: N818 - no error: the parent asked for it and throws it away
    """Ends a worker's shard early."""


@lru_cache(maxsize=1)
def _unpacked(packed: bytes) -> ShardPlan:
    """The plan in a worker process: one object for all its shards, so that what the plan has cached stays."""
    plan: ShardPlan = pickle.loads(packed)
    return plan


def _work(packed: bytes | ShardPlan, shard: int, workspace: Workspace, num_shards: int) -> None:
    """Makes one shard in a worker."""
    plan = _unpacked(packed) if isinstance(packed, bytes) else packed
    board = workspace.progress(num_shards)

    def tick(count: int) -> None:
        board.put(shard, count)
        if board.must_stop:
            raise _Stopped

    make_shard(plan, shard, workspace, tick)
