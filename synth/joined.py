"""Several sources as one."""

import bisect
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from synth.types import Background, BackgroundSource, Cutout, ObjectSource, Origin, Problem

Source = TypeVar("Source", ObjectSource, BackgroundSource)


@dataclass(frozen=True, eq=False)
class _Joined(Generic[Source]):
    """Items of several sources, one source after the other. Names are made unique by their source's name."""

    members: tuple[Source, ...]

    @cached_property
    def name(self) -> str:
        """Names of the sources."""
        return "+".join(self._names)

    @cached_property
    def licence(self) -> str:
        """Licences of the sources, each once."""
        return "; ".join(sorted({member.licence for member in self.members if member.licence}))

    @cached_property
    def labels(self) -> Sequence[str]:
        """Name of every item, in index order."""
        members = zip(self._names, self.members, strict=True)
        return tuple(f"{name}/{label}" for name, member in members for label in member.labels)

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """Problems of all sources."""
        members = zip(self._names, self.members, strict=True)
        return tuple(
            Problem(f"{name}/{item.name}", item.reason) for name, member in members for item in member.problems
        )

    @cached_property
    def num_left_out(self) -> int:
        """Items that all sources leave out by rule."""
        return sum(member.num_left_out for member in self.members)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """Names of the sources, numbered where two are equal."""
        names = [member.name for member in self.members]
        return tuple(
            name if names.count(name) == 1 else f"{name}-{names[: place + 1].count(name)}"
            for place, name in enumerate(names)
        )

    @cached_property
    def _ends(self) -> list[int]:
        return list(itertools.accumulate(len(member) for member in self.members))

    def __len__(self) -> int:
        return self._ends[-1]

    def fingerprint(self) -> str:
        """Hash of the sources' fingerprints, in order."""
        joined = "\n".join(member.fingerprint() for member in self.members)
        return hashlib.blake2b(joined.encode(), digest_size=16).hexdigest()

    def origin(self, index: int) -> Origin:
        """As the source that holds the item says."""
        member, place, _ = self._find(index)
        return member.origin(place)

    def _find(self, index: int) -> tuple[Source, int, str]:
        """The source of an item, its index there, and its name here."""
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside 0..{len(self) - 1}")
        place = bisect.bisect_right(self._ends, index)
        start = self._ends[place - 1] if place else 0
        return self.members[place], index - start, self.labels[index]


class JoinedObjects(_Joined[ObjectSource]):
    """Cutouts of several sources; an :class:`~synth.types.ObjectSource`."""

    def load(self, index: int) -> Cutout:
        """Reads one cutout of the source that holds it.

        Raises:
            BadFileError: the file cannot be used.
            IndexError: there is no such cutout.
        """
        member, place, label = self._find(index)
        return Cutout(member.load(place).rgba, label)


class JoinedBackgrounds(_Joined[BackgroundSource]):
    """Backgrounds of several sources; a :class:`~synth.types.BackgroundSource`."""

    def load(self, index: int) -> Background:
        """Reads one background of the source that holds it.

        Raises:
            BadFileError: the file cannot be used.
            IndexError: there is no such background.
        """
        member, place, label = self._find(index)
        return Background(member.load(place).rgb, label)
