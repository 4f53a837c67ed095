"""Exports to folders of pictures, as DAVIS and YouTube-VOS are published; ``vosdata shard`` reads both back.

    DAVIS         JPEGImages/<height>p/<sequence>/00000.jpg, Annotations/<height>p/<sequence>/00000.png,
                  ImageSets/2017/<split>.txt; the resolution is called Full-Resolution when heights differ
    YouTube-VOS   <split>/JPEGImages/<sequence>/00000.jpg, <split>/Annotations/<sequence>/00000.png, <split>/meta.json

Frames keep their bytes; masks are palette PNGs with the same indices; an unannotated frame has no mask file. What these
layouts have no place for (scene, source and licence of each record, further files of frames) is left behind.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.atomic import naming, write_atomically
from shards.codec import image_suffix
from shards.errors import DatasetError
from shards.index import IndexEntry
from shards.reader import ShardSet
from shards.writer import key_of
from vosdata.datasets.layouts import IMAGES, MASKS, SPLIT_FOLDER
from vosdata.datasets.listing import PICTURE_SUFFIXES, is_visible
from vosdata.export.layout import Tick, mask_file


@dataclass(frozen=True, slots=True)
class SequenceFolders:
    """One record as a folder of frames and a folder of masks; a piece of an export."""

    shard_set: ShardSet
    """Where the record lies."""

    position: int
    """Which record."""

    image_dir: str
    """Folder of the frames, below the export."""

    mask_dir: str
    """Folder of the masks, below the export; not made when no frame is annotated."""

    num_records: int = 1

    def is_done(self, out: Path) -> bool:
        """Whether every frame and mask is there with its full size (a power cut may leave files short)."""
        entry = self.shard_set.entry(self.position)
        numbers = entry.frame_numbers.tolist()
        if _sizes(out / self.image_dir) != dict(zip(numbers, entry.image_sizes.tolist(), strict=True)):
            return False
        masks = _sizes(out / self.mask_dir)
        annotated = {number for number, flag in zip(numbers, entry.annotated.tolist(), strict=True) if flag}
        return masks.keys() == annotated and all(masks.values())

    def write(self, out: Path, workspace: Path, tick: Tick) -> None:
        """Writes both folders in the workspace, then moves the masks and, last, the frames to their place."""
        entry = self.shard_set.entry(self.position)
        images, masks = _fresh(workspace / "images"), _fresh(workspace / "masks")
        for frame, number in enumerate(entry.frame_numbers.tolist()):
            image = self.shard_set.image_bytes(self.position, frame, entry)
            mask = mask_file(self.shard_set, self.position, frame)
            with naming(out):
                (images / f"{number:05d}.{image_suffix(image)}").write_bytes(image)
                if mask is not None:
                    (masks / f"{number:05d}.png").write_bytes(mask)
        if entry.annotated.any():
            _move(masks, out / self.mask_dir)
        _move(images, out / self.image_dir)
        tick()


class DavisFolder:
    """DAVIS 2017: all sequences side by side, and a list of names for each split."""

    def __init__(self, sets: Sequence[ShardSet]) -> None:
        """Names the folders.

        Raises:
            DatasetError: two records would have the same folder.
        """
        self._sets = sets
        heights = np.unique(np.concatenate([one.index.heights for one in sets]))
        self._resolution = f"{heights[0]}p" if len(heights) == 1 else "Full-Resolution"
        self._names = _sequence_folders(sets, [""] * len(sets))

    def pieces(self) -> Iterator[SequenceFolders]:
        """One piece for each record."""
        for shard_set, names in zip(self._sets, self._names, strict=True):
            for position, name in enumerate(names):
                images, masks = (f"{top}/{self._resolution}/{name}" for top in (IMAGES, MASKS))
                yield SequenceFolders(shard_set, position, images, masks)

    def finish(self, out: Path) -> None:
        """Writes the lists of the splits."""
        lists: dict[str, list[str]] = {}
        for shard_set, names in zip(self._sets, self._names, strict=True):
            lists.setdefault(shard_set.split, []).extend(names)
        folder = out / "ImageSets" / "2017"
        folder.mkdir(parents=True, exist_ok=True)
        for split, names in lists.items():
            write_atomically(folder / f"{split}.txt", "".join(f"{name}\n" for name in names).encode())
        os.sync()  # once for thousands of small files, before the note that says they are there


class YouTubeVOSFolder:
    """YouTube-VOS: a folder for each split, with a ``meta.json`` of its objects."""

    def __init__(self, sets: Sequence[ShardSet]) -> None:
        """Names the folders.

        Raises:
            DatasetError: two records would have the same folder.
        """
        self._sets = sets
        self._splits = [split_folder(one.split) for one in sets]
        self._names = _sequence_folders(sets, self._splits)

    def pieces(self) -> Iterator[SequenceFolders]:
        """One piece for each record."""
        for shard_set, split, names in zip(self._sets, self._splits, self._names, strict=True):
            for position, name in enumerate(names):
                yield SequenceFolders(shard_set, position, f"{split}/{IMAGES}/{name}", f"{split}/{MASKS}/{name}")

    def finish(self, out: Path) -> None:
        """Writes ``meta.json`` of each split."""
        videos: dict[str, dict[str, Any]] = {}
        for shard_set, split, names in zip(self._sets, self._splits, self._names, strict=True):
            for position, name in enumerate(names):
                videos.setdefault(split, {})[name] = {"objects": _objects(shard_set, position)}
        for split, content in videos.items():
            (out / split / MASKS).mkdir(exist_ok=True)  # tools expect it even where nothing is annotated
            write_atomically(out / split / "meta.json", (json.dumps({"videos": content}, indent=1) + "\n").encode())
        os.sync()  # as for DAVIS


def split_folder(split: str) -> str:
    """Folder of a split as YouTube-VOS calls it: ``valid`` for ``val``, and ``train`` for names that it has not."""
    if split == "val":
        return "valid"
    return split if SPLIT_FOLDER.fullmatch(split) else "train"


def folder_name(sequence: str) -> str:
    """Folder of a sequence: its name, or its key where the name cannot be a folder or a line of a list."""
    first, *rest = sequence.split() or [""]
    plain = (
        sequence == " ".join([first, *rest])
        and is_visible(sequence)
        and not re.search(r"[/\\\x00-\x1f\x7f]", sequence)
        and not first.startswith("#")
        and not first.lower().endswith(PICTURE_SUFFIXES)
        and len(sequence.encode()) <= 255
    )
    return sequence if plain else key_of(sequence)


def _sequence_folders(sets: Sequence[ShardSet], parents: Sequence[str]) -> list[list[str]]:
    """For each set the folder of each of its records.

    Args:
        sets: what is exported.
        parents: for each set what tells its folders from those of the others, such as the split.
    """
    taken: dict[tuple[str, str], str] = {}
    names = []
    for shard_set, parent in zip(sets, parents, strict=True):
        names.append([folder_name(shard_set.entry(position).sequence) for position in range(len(shard_set))])
        for name in names[-1]:
            if (parent, name) in taken:
                raise DatasetError(
                    f"sequence {name} is in {taken[parent, name]} and in {shard_set.name}, "
                    "but this layout has one folder for it. Export the sets into different folders"
                )
            taken[parent, name] = shard_set.name
    return names


def _objects(shard_set: ShardSet, position: int) -> dict[str, dict[str, Any]]:
    """The objects of a record as ``meta.json`` lists them: as the set's source said, else where masks show them."""
    entry = shard_set.entry(position)
    said = shard_set.record_json(position).get("objects")
    if isinstance(said, list) and all(
        isinstance(one, dict) and {"id", "category", "frames"} <= one.keys() for one in said
    ):
        return {str(one["id"]): _object(one["category"], one["frames"]) for one in said}
    return {str(number): _object("", shown) for number, shown in _shown(entry)}


def _shown(entry: IndexEntry) -> Iterator[tuple[int, list[int]]]:
    for column, number in enumerate(entry.object_ids.tolist()):
        yield number, entry.frame_numbers[entry.areas[:, column] > 0].tolist()


def _object(category: str, frames: Sequence[int]) -> dict[str, Any]:
    return {"category": category, "frames": [f"{number:05d}" for number in frames]}


def _sizes(folder: Path) -> dict[int, int]:
    """Size in bytes of each file of a folder, by the number in its name; empty when there is no such folder."""
    if not folder.is_dir():
        return {}
    return {int(path.stem): path.stat().st_size for path in folder.iterdir() if path.stem.isdecimal()}


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _move(folder: Path, target: Path) -> None:
    """Moves a finished folder to its place; an unfinished one that is there makes room."""
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.replace(target)
