"""The one place, besides the command line, that looks at the environment: data root, cache, cores and ranks."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class World:
    """What this process has been given."""

    rank: int
    """This process among the trainers, 0 <= rank < num_ranks (``torchrun`` sets RANK)."""

    num_ranks: int
    """Number of trainer processes (``torchrun`` sets WORLD_SIZE)."""

    local_rank: int
    """This process among those of its machine; picks the CUDA device."""

    num_cores: int
    """Cores this process may use."""


def detect() -> World:
    """Reads rank, world size and core count from the environment and the scheduler."""
    return World(
        rank=int(os.environ.get("RANK", "0")),
        num_ranks=int(os.environ.get("WORLD_SIZE", "1")),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        num_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


def data_root(root: Path | None = None) -> Path:
    """The data root: the given one, else ``$VOSDATA_ROOT``, else ``./data``.

    ``raw/`` below it holds source datasets, ``shards/`` the shard sets.
    """
    if root is not None:
        return root
    return Path(os.environ.get("VOSDATA_ROOT", "data"))


def cache_dir() -> Path | None:
    """Folder for what is fetched from remote shard sets: ``$VOSDATA_CACHE``; None for the usual one."""
    text = os.environ.get("VOSDATA_CACHE")
    return Path(text) if text else None
