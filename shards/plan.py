"""What a producer gives to :func:`shards.build.build_shard_set`: a plan that can make any of its shards on its own."""

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from shards.types import Record

Progress = Callable[[int, int], None]
"""Called with the number of records done and the number planned, at least about twice a second."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was left out on request."""

    name: str
    """What: the sequence, picture or index."""

    reason: str
    """Why, in one line."""


@dataclass(frozen=True, slots=True)
class SetDescription:
    """What dataset.json and the dataset card say about a set."""

    frame_size: tuple[int, int] | None
    """Height and width in pixels when every frame has them, None when they vary."""

    frame_rate: float | None
    """Frames per second as the frames are stored, None when unknown."""

    source_fingerprint: str
    """Hash of what the set was made from; equal for equal content, whatever the folder is called."""

    licence: str
    """Licence of the pixels as the sources state it; empty when unknown."""

    title: str
    """Heading of the card, such as ``"SynthVOS"``."""

    text: str
    """What it is and how it was made: Markdown for the card."""


class ShardPlan(Protocol):
    """Everything that determines the bytes of a shard set. Picklable; its class is importable in a fresh process."""

    @property
    def name(self) -> str:
        """Name of the set: ASCII letters, digits, ``-`` and ``_``; shard files start with it."""

    @property
    def split(self) -> str:
        """Split of the dataset, such as ``"train"``."""

    @property
    def num_shards(self) -> int:
        """Number of shards, at least 1."""

    @property
    def num_records(self) -> int:
        """Number of records over all shards, skipped ones included; for progress."""

    def configuration(self) -> dict[str, Any]:
        """JSON of everything that determines the bytes; no worker counts, no absolute paths.

        A rerun into the same folder is refused when it differs.
        """

    def records(self, shard: int) -> Iterator[Record | Skipped]:
        """Makes the records of one shard in order: a pure function of the plan and the shard's number."""

    def description(self) -> SetDescription:
        """What to say about the set."""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What :func:`shards.build.build_shard_set` made."""

    folder: Path
    """The shard set."""

    num_records: int
    """Records in it."""

    num_frames: int
    """Frames in it."""

    num_bytes: int
    """Bytes of its shards."""

    skipped: tuple[Skipped, ...]
    """What was left out on request."""

    already_complete: bool
    """True when the folder held the same set already and nothing was done."""


@lru_cache(maxsize=1)
def unpacked(packed: bytes) -> ShardPlan:
    """A pickled plan in a worker process: one object for all its shards, so that what the plan has cached stays."""
    plan: ShardPlan = pickle.loads(packed)
    return plan
