"""What an export consists of: a layout names the pieces, each of which is there completely or not at all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from shards.masks import encode_mask
from shards.reader import ShardSet

Tick = Callable[[], None]
"""Called after each record."""


class Piece(Protocol):
    """A part of an export that is written at once."""

    @property
    def num_records(self) -> int:
        """Records in it."""

    def is_done(self, out: Path) -> bool:
        """Whether an earlier run has written it."""

    def write(self, out: Path, workspace: Path, tick: Tick) -> None:
        """Writes it under a temporary name in the workspace and moves it to its place."""


class Layout(Protocol):
    """One form of export, for given shard sets."""

    def pieces(self) -> Iterator[Piece]:
        """All pieces, in order."""

    def finish(self, out: Path) -> None:
        """Writes lists, cards and the like, after all pieces."""


@dataclass(frozen=True, slots=True)
class ShardFile:
    """The records of one shard as one file; forms of export say how it is written."""

    shard_set: ShardSet
    """Where the records lie."""

    positions: range
    """Which records."""

    path: str
    """The file, below the export."""

    @property
    def num_records(self) -> int:
        """Records in it."""
        return len(self.positions)

    def is_done(self, out: Path) -> bool:
        """Whether the file is there; it only ever appears complete."""
        return (out / self.path).is_file()


def records_by_shard(shard_set: ShardSet) -> dict[int, range]:
    """For each shard, by number, the positions of its records; they follow each other."""
    shards = np.concatenate([batch.numbers("shard") for batch in shard_set.index.batches()])
    numbers, starts = np.unique(shards, return_index=True)
    ends = [*starts[1:].tolist(), len(shards)]
    return {int(number): range(start, end) for number, start, end in zip(numbers, starts.tolist(), ends, strict=True)}


def mask_file(shard_set: ShardSet, position: int, frame: int) -> bytes | None:
    """A frame's mask as palette PNG in our own form, whatever PNG is stored; None when the frame is unannotated."""
    mask = shard_set.mask(position, frame)
    return None if mask is None else encode_mask(mask)
