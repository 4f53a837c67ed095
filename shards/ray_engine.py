"""Shards made by a Ray cluster: every shard one task, which writes into the shared folder and returns a small record.

The folder of the set and the sources that the plan reads must lie at the same paths on all nodes, on a file system that
they share, and every node must have the same vosdata installed. A node or worker that is lost costs the shards that it
was at: they are made again elsewhere, and nothing else is.
"""

import logging
import os
import pickle
import platform
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.engine import Job
from shards.errors import ShardError
from shards.making import make_shard
from shards.plan import unpacked
from shards.workspace import Workspace

_POLL_SECONDS = 0.2

_MAX_LOSSES = 3
"""How often one shard may lose its worker; a shard that kills every worker would otherwise be made forever."""

_CONNECT_SECONDS = 10.0
"""How long the cluster may take to answer at all."""

_PATIENCE_SECONDS = 60.0
"""How long a shard that another machine has made may take to be seen here: network file systems remember what was not
there."""


class RayEngine:
    """The cluster that ``$RAY_ADDRESS`` names or that runs on this machine, else one of this machine alone.

    An :class:`shards.engine.Engine`. In a process that has called ``ray.init`` already, its cluster is used.

    Args:
        workers: most shards that are made at once; None for as many as the cluster has cores.

    Raises:
        ShardError: Ray is not installed.
        ValueError: ``workers`` is out of range.
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self._workers = workers
        self._ray = _import_ray()

    def make(self, job: Job) -> None:
        """Makes the shards; raises as the interface says, and ShardError when the cluster cannot be reached."""
        folder = job.workspace.folder.absolute()
        workspace = Workspace(folder, job.workspace.name, job.workspace.digest)
        with _connected(self._ray) as running:
            task = self._ray.remote(max_retries=0, num_cpus=1)(_work)
            packed = self._ray.put(pickle.dumps(job.plan))
            waiting, losses = deque(job.shards), Counter[int]()
            while waiting or running:
                while waiting and (self._workers is None or len(running) < self._workers):
                    shard = waiting.popleft()
                    running[task.remote(packed, shard, workspace, Path.cwd())] = shard
                job.report()
                done, _ = self._ray.wait(list(running), num_returns=len(running), timeout=_POLL_SECONDS)
                for reference in done:
                    shard = running.pop(reference)
                    if not self._has_made(reference, shard, job, losses):
                        waiting.append(shard)

    def _has_made(self, reference: Any, shard: int, job: Job, losses: Counter[int]) -> bool:
        """Takes the record of a task that is over; False when its worker was lost and the shard must be made again."""
        try:
            made: _Made = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # the plan's own error: made again, it would come again
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            losses[shard] += 1
            if losses[shard] > _MAX_LOSSES:
                reason = str(error).strip().split("\n")[0] or type(error).__name__
                raise ShardError(
                    f"{job.workspace.folder}: shard {shard} lost its worker {losses[shard]} times (out of memory?); "
                    f"the last time: {reason}"
                ) from error
            return False
        _wait_until_seen(made, shard, job)
        job.board.put(shard, made.num_records)
        return True


@dataclass(frozen=True, slots=True)
class _Made:
    """What a task returns."""

    num_records: int
    """Records made, and those left out on request."""

    node: str
    """Name of the machine."""


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when ray is imported
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ShardError("the engine ray needs Ray, which is not installed: pip install vosdata[ray]") from error
    return ray


@contextmanager
def _connected(ray: Any) -> Iterator[dict[Any, int]]:
    """A connection to the cluster, and a place for the running tasks: those still in it at the end are stopped.

    The end of our own connection stops them. ``ray.cancel`` is kept for connections of others: when a task ends at
    the moment in which it is cancelled, Ray may abort the process (ray-project/ray#54738; seen with 2.60).
    """
    running: dict[Any, int] = {}
    if ray.is_initialized():
        try:
            yield running
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
        return
    _check_reachable(os.environ.get("RAY_ADDRESS", ""))
    with redirect_stdout(sys.stderr):  # Ray tells about lost nodes there, in the middle of anybody's JSON
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # what Ray itself raises when a node does not start
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise ShardError(f"the Ray cluster cannot be reached: {reason}") from error
        try:
            yield running
        finally:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raises ShardError when nobody listens there; Ray itself would try for a quarter of an hour.

    Args:
        address: HOST:PORT or ray://HOST:PORT; anything else is left to Ray.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ShardError(f"the Ray cluster at RAY_ADDRESS={address} cannot be reached: {error}") from error


def _wait_until_seen(made: _Made, shard: int, job: Job) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while job.workspace.read_fragment(shard) is None:
        if time.monotonic() >= until:
            raise ShardError(
                f"{job.workspace.folder}: machine {made.node} has made shard {shard}, but it cannot be seen here; "
                "the folder must lie on a file system that all nodes share"
            )
        job.report()
        time.sleep(_POLL_SECONDS)


def _work(packed: bytes, shard: int, workspace: Workspace, current_folder: Path) -> _Made:
    """Makes one shard on a node, unless a task that was thought lost has made it."""
    node = platform.node()
    for folder in (current_folder, workspace.path):
        if not folder.is_dir():
            raise ShardError(
                f"machine {node} does not see {folder}; it must lie on a file system that all nodes share, "
                "at the same path"
            )
    os.chdir(current_folder)  # relative paths in the plan mean what they mean where it was made
    fragment = workspace.read_fragment(shard)
    if fragment is None:
        make_shard(unpacked(packed), shard, workspace)
        fragment = workspace.read_fragment(shard)
    if fragment is None:
        raise ShardError(f"{workspace.folder}: shard {shard} vanished on machine {node} when it had just been made")
    return _Made(fragment.info.num_records + len(fragment.skipped), node)
