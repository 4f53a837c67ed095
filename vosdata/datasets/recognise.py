"""Finds out what a folder holds, so that nobody has to say it."""

import os
from pathlib import Path

from shards.errors import DatasetError
from vosdata.datasets import layouts
from vosdata.datasets.dataset import Dataset
from vosdata.datasets.exported import restore
from vosdata.datasets.listing import sequence_names, subfolders
from vosdata.datasets.types import Split

# raw/davis/DAVIS and raw/youtube-vos/2019/train are the deepest layouts that archives unpack to.
MAX_DEPTH = 3


def recognise(path: str | Path) -> list[Dataset]:
    """Finds the datasets in a folder: the folder itself, else those that lie up to three levels below it.

    DAVIS is recognised by the years in ``ImageSets`` (one dataset per year), YouTube-VOS by its ``meta.json`` or folder
    name, and any other folder with ``JPEGImages/<sequence>/`` or ``<split>/JPEGImages/<sequence>/`` is taken under its
    own name. A resolution folder such as ``DAVIS/JPEGImages/Full-Resolution`` may be given to choose it.

    Returns:
        At least one dataset, in a fixed order.

    Raises:
        DatasetError: no such folder, or nothing in it is recognised; the message says what was looked for.
    """
    root = Path(path)
    if not root.is_dir():
        raise DatasetError(f"{path}: no such folder" if not root.exists() else f"{path} is a file, expected a folder")
    if (root / "dataset.json").is_file() and (root / "index.arrow").is_file():
        raise DatasetError(f"{path} is a shard set already, expected the folder of a dataset as published")
    found = find_datasets(Path(os.path.abspath(root)))  # noqa: PTH100  keeps the name of a linked folder
    if not found:
        raise DatasetError(
            f"{path}: no dataset recognised. Looked for JPEGImages/[<resolution>/]<sequence>/ (DAVIS and alike) and "
            "<split>/JPEGImages/<sequence>/ (YouTube-VOS and alike), here and three levels below"
        )
    return found


def find_datasets(root: Path) -> list[Dataset]:
    """Finds every dataset in a folder and up to three levels below it; none is an empty list.

    Raises:
        DatasetError: a folder is recognised but contradicts itself.
    """
    return _search(root, MAX_DEPTH) if root.is_dir() else []


def default_splits(dataset: Dataset) -> tuple[list[Split], list[Split]]:
    """The splits that are packed when none is asked for: all but those that only repeat sequences of the others.

    So ``trainval`` beside ``train`` and ``val``, sub-lists of ``train``, and ``train_all_frames`` beside ``train`` are
    left out.

    Returns:
        The splits taken and the splits left out, both in the dataset's order.
    """
    taken: list[Split] = []
    left: list[Split] = []
    covered: set[str] = set()
    # An overlapping union such as trainval is looked at last, so that its parts are taken instead of it.
    for split in sorted(dataset.splits, key=lambda one: one.name == "trainval"):
        names = set(sequence_names(split))
        repeats = bool(names) and names <= covered
        (left if repeats else taken).append(split)
        covered |= names
    return sorted(taken, key=dataset.splits.index), sorted(left, key=dataset.splits.index)


def _search(folder: Path, depth: int) -> list[Dataset]:
    found = _recognise_here(folder)
    if found or depth == 0:
        return found
    return [dataset for name in subfolders(folder) for dataset in _search(folder / name, depth - 1)]


def _recognise_here(folder: Path) -> list[Dataset]:
    root, resolution = folder, None
    if folder.name == layouts.IMAGES:
        root = folder.parent
    elif folder.parent.name == layouts.IMAGES and None not in layouts.resolutions(folder.parent):
        root, resolution = folder.parent.parent, folder.name
    found = layouts.davis(root, resolution) or layouts.folder(root, resolution) or layouts.split_folders(root)
    return [restore(dataset, root) for dataset in found]
