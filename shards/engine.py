"""What makes the shards of a set at once: the one interface of local processes and clusters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from shards.plan import ShardPlan
from shards.workspace import ProgressBoard, Workspace


@dataclass(frozen=True, slots=True)
class Job:
    """Shards to make."""

    plan: ShardPlan
    """What to make."""

    workspace: Workspace
    """Of the shard set, claimed for the plan's configuration."""

    shards: tuple[int, ...]
    """Those to make; none is done yet."""

    board: ProgressBoard
    """Takes the number of records done per shard; in this process, or shared by the processes of this machine."""

    report: Callable[[], None]
    """Tells the user what the board says; to be called about five times a second."""


class Engine(Protocol):
    """Makes many shards, each by :func:`shards.making.make_shard`."""

    def make(self, job: Job) -> None:
        """Makes all shards of the job, in any order; what is done stays done when this raises.

        The loss of a worker costs the shards that it was at and nothing else.

        Raises:
            ShardError: workers keep dying.
            VosDataError: whatever the plan raises while making its records.
        """
