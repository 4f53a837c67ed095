"""Reads ``ImageSets``: text files that name the sequences of a split, one per line.

DAVIS groups them by year (``ImageSets/2017/val.txt``). DAVIS 2016 as first released groups them by resolution and
writes a pair of files per line (``/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png``); the sequence is
then the folder of the frame. Other datasets put the lists directly into ``ImageSets``.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shards.errors import DatasetError
from vosdata.datasets.listing import PICTURE_SUFFIXES, is_visible, subfolders

FIRST_RELEASE_YEAR = 2016


@dataclass(frozen=True, slots=True)
class ListedSplits:
    """The lists of one group."""

    year: int | None
    """Year of the DAVIS release, or None for lists that lie directly in ``ImageSets``."""

    lists: dict[str, tuple[Path, tuple[str, ...]]]
    """For each split its file and the sequences it names, in the file's order, each once."""


def read_split_lists(root: Path) -> list[ListedSplits]:
    """Reads every split list below ``ImageSets``, years first in ascending order.

    Raises:
        DatasetError: a list is not text or names something that is no folder name.
    """
    folder = root / "ImageSets"
    groups: dict[int | None, dict[str, tuple[Path, tuple[str, ...]]]] = {}
    for group in subfolders(folder):
        if re.fullmatch(r"20[0-9]{2}", group):
            groups.setdefault(int(group), {}).update(_read_folder(folder / group))
        elif group == "480p" or group == "1080p":
            # Both resolutions name the same sequences; the year folder, when there is one too, is the newer word.
            first_release = groups.setdefault(FIRST_RELEASE_YEAR, {})
            groups[FIRST_RELEASE_YEAR] = {**_read_folder(folder / group), **first_release}
    if folder.is_dir():
        groups[None] = _read_folder(folder)
    filled = [ListedSplits(year, lists) for year, lists in groups.items() if lists]
    return sorted(filled, key=lambda listed: (listed.year is None, listed.year or 0))


def _read_folder(folder: Path) -> dict[str, tuple[Path, tuple[str, ...]]]:
    paths = sorted(path for path in folder.glob("*.txt") if is_visible(path.name) and path.is_file())
    return {path.stem: (path, read_names(path)) for path in paths}


def read_names(path: Path) -> tuple[str, ...]:
    """Sequences that a list names, in its order, each once.

    Raises:
        DatasetError: it is not text, or a line names no sequence.
        OSError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is not a text file in UTF-8; it should name one sequence per line") from None
    names = [_sequence_name(line.strip(), path) for line in lines if line.strip() and not line.startswith("#")]
    return tuple(dict.fromkeys(names))


def _sequence_name(line: str, path: Path) -> str:
    first = line.split()[0]
    name = PurePosixPath(first).parent.name if first.lower().endswith(PICTURE_SUFFIXES) else line.rstrip("/")
    if not name or "/" in name or "\\" in name or name in {".", ".."}:
        raise DatasetError(f"{path}: the line {line!r} names no sequence; write one folder name per line")
    return name
