"""One dataset found on disk: what it is called, which splits it has, and how its sequences are listed."""

import re
from dataclasses import dataclass
from pathlib import Path

from shards.errors import DatasetError
from vosdata.datasets.listing import list_sequence, sequence_names, usual_gap
from vosdata.datasets.meta import read_meta
from vosdata.datasets.types import Sequence, Split


def slug(name: str) -> str:
    """A name made fit for files and snippet keys: ASCII letters, digits, ``-`` and ``_``, a letter or digit first."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-_") or "dataset"


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset found on disk."""

    name: str
    """Short name without blanks: ``"davis2016"``, ``"davis2017"``, ``"ytvos2019"``, ``"ytvos"``, else the folder's."""

    title: str
    """Name for people, e.g. ``"DAVIS 2017"``."""

    root: Path
    """Folder that was recognised."""

    splits: tuple[Split, ...]
    """Its parts: train first, then validation, test and the rest by name."""

    resolution: str | None = None
    """Name of the resolution folder, e.g. ``"480p"``; None when sequences lie directly in ``JPEGImages``."""

    union: bool = False
    """Whether any non-zero value of a mask is the object (DAVIS 2016). Else see :mod:`vosdata.datasets.annotation`."""

    licence: str = ""
    """Licence as the publisher states it; empty when unknown."""

    video_rate: float | None = None
    """Frames per second of the videos themselves; None when unknown."""

    numbers_follow_video: bool = False
    """Whether frame numbers count the frames of the video, so that numbers 0, 5, 10 mean a fifth of ``video_rate``."""

    notes: tuple[str, ...] = ()
    """What the user should know about the folder, one line each, e.g. a split list whose sequences are not there."""

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits, in order."""
        return tuple(split.name for split in self.splits)

    def set_name(self, split: str) -> str:
        """Name of the shard set of one split, e.g. ``"davis2017-train"`` or ``"davis2016-240p-val"``.

        The resolution is named unless it is DAVIS's usual 480p, so that two resolutions of one dataset can lie side
        by side.
        """
        usual = self.resolution is None or self.resolution == "480p"
        parts = [self.name, "" if usual else str(self.resolution).lower(), "" if split == "all" else split]
        return slug("-".join(part for part in parts if part))

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
            DatasetError: there is none; the message names those there are.
        """
        for split in self.splits:
            if split.name == name:
                return split
        notes = "".join(f" ({note})" for note in self.notes if note.startswith(f"split {name} "))
        raise DatasetError(
            f"{self.title} in {self.root} has no split {name!r}, it has: {', '.join(self.split_names)}{notes}"
        )

    def sequences(self, split: str, skipped: list[tuple[str, str]] | None = None) -> list[Sequence]:
        """Lists the sequences of a split and their files, without reading any pixel.

        Args:
            split: name of the split.
            skipped: where to put the name of each sequence that cannot be listed and the reason; by default the first
                such sequence is an error.

        Raises:
            DatasetError: no such split, a listed sequence has no folder, or a folder contradicts itself.
        """
        part = self.split(split)
        meta = None if part.meta_path is None else read_meta(part.meta_path)
        listed = []
        for name in sequence_names(part):
            try:
                objects = None if meta is None else meta.get(name, ())
                listed.append(list_sequence(part, name, self.title, self.root, self.union, objects))
            except DatasetError as error:
                if skipped is None:
                    raise
                skipped.append((name, str(error)))
        return listed

    def frame_rate(self, sequences: list[Sequence]) -> float | None:
        """Frames per second as stored, which the commonest gap of frame numbers tells; None when unknown."""
        if self.video_rate is None or not self.numbers_follow_video:
            return self.video_rate
        return self.video_rate / usual_gap(sequences)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {self.resolution or 'one resolution'}, splits {', '.join(self.split_names)})"
