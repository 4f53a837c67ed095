"""Lists the files of sequences: frame numbers out of file names, masks matched to frames, sizes and digests.

Files that systems leave behind (hidden files, ``Thumbs.db``, ``desktop.ini``) and files that are no pictures are
passed over. Anything that would make a frame or a mask ambiguous is an error, never a guess.
"""

import hashlib
import os
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from shards.errors import DatasetError
from shards.format import MAX_FRAME_NUMBER
from vosdata.datasets.types import ObjectMeta, Sequence, Split

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
# Pictures that other tools write but that no dataset of this form ships; seeing one means that frames would be missed.
UNSUPPORTED_SUFFIXES = (".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")
SYSTEM_FILES = ("thumbs.db", "desktop.ini")


def is_visible(name: str) -> bool:
    """Whether a file or folder name is meant to be seen: not hidden and not left by the system."""
    return not name.startswith(".") and name.lower() not in SYSTEM_FILES


def subfolders(folder: Path) -> list[str]:
    """Names of the visible folders in a folder, sorted; empty when the folder is not there."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if is_visible(entry.name) and entry.is_dir())


def holds_pictures(folder: Path) -> bool:
    """Whether a folder holds at least one picture file itself."""
    with os.scandir(folder) as entries:
        return any(is_visible(entry.name) and entry.name.lower().endswith(PICTURE_SUFFIXES) for entry in entries)


def frame_number(name: str) -> int | None:
    """The frame number in a file name: its last run of digits (``"07_frame00012.jpg"`` is 12); None without digits."""
    runs = re.findall(r"[0-9]+", Path(name).stem)
    return int(runs[-1]) if runs else None


def sequence_names(split: Split) -> tuple[str, ...]:
    """Names of a split's sequences: its list, or every visible folder."""
    return tuple(subfolders(split.image_dir)) if split.names is None else split.names


def list_sequence(
    split: Split, name: str, title: str, root: Path, union: bool, objects: tuple[ObjectMeta, ...] | None = None
) -> Sequence:
    """Lists the files of one sequence.

    Args:
        split: where it lies.
        name: its name.
        title: title of the dataset, for messages.
        root: folder of the dataset, for messages.
        union: whether any non-zero value of a mask is the object.
        objects: what ``meta.json`` says about it.

    Raises:
        DatasetError: the folder is missing, or its files contradict each other.
    """
    image_dir, mask_dir = split.image_dir / name, split.mask_dir / name
    where = f"{title}: sequence {name}"
    if not image_dir.is_dir():
        listed = f", which {_below(split.list_path, root)} names," if split.list_path else ""
        raise DatasetError(
            f"{where}{listed} has no folder {_below(image_dir, root)} in {root}. "
            "Extract the rest of the archive, or take the name off the list"
        )
    images = _numbered_files(image_dir, PICTURE_SUFFIXES, where)
    masks = _numbered_files(mask_dir, (".png",), where) if mask_dir.is_dir() else {}
    orphans = sorted(set(masks) - set(images))
    if orphans:
        raise DatasetError(
            f"{where} has a mask {masks[orphans[0]][0]} but no frame of that number in {_below(image_dir, root)} "
            f"({len(orphans)} such masks). Extract the frames again, or remove the masks"
        )
    numbers = tuple(sorted(images))
    entries = sorted([("image", *entry) for entry in images.values()] + [("mask", *entry) for entry in masks.values()])
    return Sequence(
        name=name,
        dataset=title,
        image_dir=image_dir,
        mask_dir=mask_dir,
        frame_numbers=numbers,
        image_names=tuple(images[number][0] for number in numbers),
        mask_names=tuple(masks[number][0] if number in masks else None for number in numbers),
        union=union,
        num_bytes=sum(size for _, _, size in entries),
        digest=hashlib.blake2b(repr((name, entries)).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest(),
        objects=objects,
    )


def _numbered_files(folder: Path, suffixes: tuple[str, ...], where: str) -> dict[int, tuple[str, int]]:
    """Files of a folder by frame number: name and size in bytes.

    Raises:
        DatasetError: a file is of an unsupported kind, has no usable number, shares its number, or is a broken link.
    """
    files: dict[int, tuple[str, int]] = {}
    with os.scandir(folder) as scanned:
        entries = sorted((entry for entry in scanned if is_visible(entry.name)), key=lambda entry: entry.name)
    for entry in entries:
        suffix = Path(entry.name).suffix.lower()
        if suffix not in suffixes:
            _refuse_other_pictures(entry.name, suffix, suffixes, where)
            continue
        number = frame_number(entry.name)
        if number is None or number > MAX_FRAME_NUMBER:
            raise DatasetError(
                f"{where}: file {entry.name} has no frame number from 0 to {MAX_FRAME_NUMBER} in its name. "
                "Name frames and masks by number, as 00012.jpg and 00012.png"
            )
        if number in files:
            raise DatasetError(f"{where}: {files[number][0]} and {entry.name} have the same frame number {number}")
        try:
            files[number] = (entry.name, entry.stat().st_size)
        except FileNotFoundError:
            raise DatasetError(f"{where}: {entry.name} is a link to a file that is not there") from None
    return files


def _refuse_other_pictures(name: str, suffix: str, suffixes: tuple[str, ...], where: str) -> None:
    if suffix in UNSUPPORTED_SUFFIXES:
        raise DatasetError(f"{where}: {name} is neither JPEG nor PNG. Convert the frames to one of them")
    if suffix in PICTURE_SUFFIXES:
        raise DatasetError(
            f"{where}: mask {name} is a JPEG, which cannot hold object ids exactly. Take the original palette PNG masks"
        )


def usual_gap(sequences: list[Sequence]) -> int:
    """The commonest gap between frame numbers, the smaller one on a tie; 1 where no sequence has two frames."""
    gaps: Counter[int] = Counter()
    for sequence in sequences:
        numbers = sequence.frame_numbers
        gaps.update(later - earlier for earlier, later in pairwise(numbers))
    return min(gaps, key=lambda gap: (-gaps[gap], gap)) if gaps else 1


def _below(path: Path | None, root: Path) -> str:
    """A path as seen from the dataset's root, for messages."""
    if path is None:
        return ""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
