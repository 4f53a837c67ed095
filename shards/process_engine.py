"""Shards made by processes of this machine."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for_handles

from shards.engine import Job
from shards.errors import ShardError
from shards.making import make_shard
from shards.memory import keep_freed_memory
from shards.plan import ShardPlan, unpacked
from shards.workspace import Workspace

_POLL_SECONDS = 0.2

_MAX_FRUITLESS_POOLS = 3
"""How often workers may die in a row without a single shard getting done."""


class ProcessEngine:
    """A pool of processes; an :class:`shards.engine.Engine`.

    Args:
        workers: processes that make shards, at least 1; with 1 everything happens in this process.

    Raises:
        ValueError: ``workers`` is out of range.
    """

    def __init__(self, workers: int = 1) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self._workers = workers

    def make(self, job: Job) -> None:
        """Makes the shards, with new workers when some were killed; raises as the interface says."""
        fruitless, missing = 0, list(job.shards)
        while missing:
            try:
                self._run(job, missing)
                return
            except BrokenProcessPool as error:
                left = [shard for shard in missing if job.workspace.read_fragment(shard) is None]
                fruitless = fruitless + 1 if len(left) == len(missing) else 0
                if fruitless >= _MAX_FRUITLESS_POOLS:
                    raise ShardError(
                        f"{job.workspace.folder}: worker processes keep being killed while making shard {left[0]} "
                        "(out of memory?); run again with fewer workers"
                    ) from error
                missing = left

    def _run(self, job: Job, shards: list[int]) -> None:
        """Makes shards with one set of workers; on the first error stops all of them and raises it."""
        # Pickled once here, not once per shard in the pool's thread.
        packed = pickle.dumps(job.plan) if self._workers > 1 else job.plan
        executor = self._executor(len(shards))
        try:
            with _interrupts_held():
                waiting = {
                    executor.submit(_work, packed, shard, job.workspace, job.plan.num_shards) for shard in shards
                }
            while waiting:
                job.report()
                done, waiting = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        except BaseException:
            job.board.ask_to_stop()
            raise
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
            job.board.allow()

    def _executor(self, num_shards: int) -> Executor:
        """A thread of this process for one worker, else fresh processes: no fork, so no lock or thread is inherited.

        Even a last single shard goes to a process when several workers were asked for: what killed a worker must not
        kill this process.
        """
        if self._workers == 1:
            return ThreadPoolExecutor(1, thread_name_prefix="make-shard")
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(min(self._workers, num_shards), mp_context=context, initializer=start_worker)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Lets Ctrl-C wait while workers are started: it would end those in which :func:`start_worker` has not run yet."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # what is started here starts with the same mask
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def start_worker() -> None:
    """Leaves Ctrl-C to the parent, and dies with it: a pool's workers would otherwise wait for work forever."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, name="die-with-parent", daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_handles([parent.sentinel])
        os._exit(1)


class _Stopped(Exception):  # noqa: N818 - no error: the parent asked for it and throws it away
    """Ends a worker's shard early."""


def _work(packed: bytes | ShardPlan, shard: int, workspace: Workspace, num_shards: int) -> None:
    """Makes one shard in a worker."""
    plan = unpacked(packed) if isinstance(packed, bytes) else packed
    board = workspace.progress(num_shards)

    def tick(count: int) -> None:
        board.put(shard, count)
        if board.must_stop:
            raise _Stopped

    make_shard(plan, shard, workspace, tick)
