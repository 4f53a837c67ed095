"""What a reader needs of a set's shards, wherever they lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shards.index import IndexEntry
from shards.manifest import ShardInfo


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``start`` to ``end`` of a shard."""

    info: ShardInfo
    start: int
    end: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.end - self.start


class Shards(Protocol):
    """The bytes of a set's shards. Thread-safe."""

    @property
    def fetches_whole_shards(self) -> bool:
        """Whether reading anything of a shard fetches all of it, so that it should be asked for long before."""

    @property
    def num_ahead(self) -> int:
        """How many snippets before it is read one should be asked for by :meth:`read_ahead`, at least."""

    @property
    def num_attempts(self) -> int:
        """How often bytes with a wrong checksum are worth reading, 1 or more."""

    def view(self, info: ShardInfo, entry: IndexEntry, offset: int, size: int) -> memoryview:
        """Bytes of a shard, a member of the record of ``entry``; fewer when the shard ends before.

        Raises:
            ShardError: the shard cannot be read.
        """

    def read_ahead(self, spans: Sequence[Span]) -> None:
        """Begins to fetch what will be read soon, behind what was asked for before; returns at once.

        Only a hint: what does not fit is not begun, and what fails fails again when it is read.
        """

    def discard(self, info: ShardInfo, offset: int) -> None:
        """Forgets bytes at an offset that turned out to be wrong, so that the next read fetches them again."""
