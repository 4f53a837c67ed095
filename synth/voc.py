"""Pascal VOC folders (``VOCdevkit/VOC2012``): photographs as backgrounds, instances of SegmentationObject as objects.

VOC2012/JPEGImages/2007_000032.jpg          photographs
VOC2012/SegmentationObject/2007_000032.png  palette PNG: 0 background, 1.. instances, 255 void border
VOC2012/ImageSets/Main/trainval.txt         which photographs to use as backgrounds
VOC2012/ImageSets/Segmentation/trainval.txt which photographs have segmented instances
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.errors import BadFileError
from synth.cutouts import MIN_AREA
from synth.folders import ObjectEntry
from synth.layouts import BackgroundListing, ObjectListing, below, pictures_in
from synth.pictures import Picture, decode_indices, fit_mask, read_file
from synth.types import Problem

LICENCE = "Flickr terms of use (PASCAL VOC)"
VOID = 255
LISTING_THREADS = 4


@dataclass(frozen=True, slots=True)
class VocMask:
    """One instance of a SegmentationObject file."""

    path: str
    """Path of the file below the source folder."""

    instance: int
    """Index of the instance in the file, 1..254."""

    @property
    def files(self) -> tuple[str, ...]:
        """The SegmentationObject file."""
        return (self.path,)

    def describe(self) -> bytes:
        """The instance."""
        return str(self.instance).encode()

    def read(self, root: Path, picture: Picture, name: Callable[[str], str]) -> NDArray[np.uint8]:
        """Reads the file and keeps one instance; void, which borders every instance, is left out."""
        indices = decode_indices(read_file(root / self.path, name(self.path)), name(self.path))
        return fit_mask(np.where(indices == self.instance, 255, 0).astype(np.uint8), picture, name(self.path))


def is_voc(folder: Path) -> bool:
    """Whether a folder has the VOC form: pictures in JPEGImages, and ImageSets or segmentations beside it.

    DAVIS and YouTube-VOS have JPEGImages too, but sequences in it and no pictures.
    """
    beside = ("ImageSets", "SegmentationObject", "SegmentationClass")
    images = folder / "JPEGImages"
    return images.is_dir() and any((folder / name).is_dir() for name in beside) and bool(pictures_in(images))


def list_backgrounds(root: Path, folder: Path) -> BackgroundListing:
    """Lists the photographs that ImageSets/Main names, else ImageSets/Segmentation, else all of them."""
    pictures = {path.stem: below(root, path) for path in pictures_in(folder / "JPEGImages")}
    names, list_path = _image_set(folder, ("Main", "Segmentation"))
    if list_path is None:
        return BackgroundListing(sorted(pictures.values()), licence=LICENCE)
    missing = [name for name in names if name not in pictures]
    where = f"listed in {below(root, list_path)}"
    return BackgroundListing(
        pictures=sorted(pictures[name] for name in names if name in pictures),
        problems=[
            Problem(f"{below(root, folder / 'JPEGImages')}/{name}", f"{where}, but not there") for name in missing
        ],
        num_left_out=len(pictures.keys() - set(names)),
        licence=LICENCE,
    )


def list_objects(root: Path, folder: Path) -> ObjectListing:
    """Lists every instance of the SegmentationObject files that ImageSets/Segmentation names, else of all of them.

    Opens each file once to see which instances it holds. Instances below ``MIN_AREA`` pixels are left out.
    """
    masks = {path.stem: path for path in _pictures_if_any(folder / "SegmentationObject")}
    pictures = {path.stem: path for path in pictures_in(folder / "JPEGImages")}
    listing = ObjectListing(licence=LICENCE)
    if not masks:
        return listing
    names, list_path = _image_set(folder, ("Segmentation",))
    names = sorted(masks) if list_path is None else names
    for name in names:
        if name not in masks:
            listing.problems.append(Problem(f"{below(root, folder)}/{name}", "listed, but not in SegmentationObject"))
        elif name not in pictures:
            listing.problems.append(Problem(below(root, masks[name]), "mask without a picture"))
    usable = [name for name in names if name in masks and name in pictures]
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        for name, found in zip(usable, pool.map(lambda name: _areas(root, masks[name]), usable), strict=True):
            _add_instances(listing, below(root, pictures[name]), below(root, masks[name]), found)
    return listing


def _add_instances(listing: ObjectListing, picture: str, mask: str, found: NDArray[np.int64] | BadFileError) -> None:
    """Adds an entry per instance of one file."""
    if isinstance(found, BadFileError):
        listing.problems.append(Problem(mask, str(found).removeprefix(f"{mask}: ")))
        return
    for instance in np.flatnonzero(found).tolist():
        if found[instance] < MIN_AREA:
            listing.num_left_out += 1
        else:
            listing.entries.append(ObjectEntry(f"{picture}#{instance}", picture, VocMask(mask, instance)))


def _areas(root: Path, path: Path) -> NDArray[np.int64] | BadFileError:
    """Pixels of every index of a mask file, background and void set to 0; the error where it cannot be read."""
    name = below(root, path)
    try:
        areas = np.bincount(decode_indices(read_file(path, name), name).ravel(), minlength=256)
    except BadFileError as error:
        return error
    areas[[0, VOID]] = 0
    return areas


def _pictures_if_any(folder: Path) -> list[Path]:
    return pictures_in(folder) if folder.is_dir() else []


def _image_set(folder: Path, kinds: tuple[str, ...]) -> tuple[list[str], Path | None]:
    """Names of trainval.txt, else of train.txt and val.txt, of the first kind of list that is there."""
    for kind in kinds:
        lists = folder / "ImageSets" / kind
        for files in (("trainval.txt",), ("train.txt", "val.txt")):
            paths = [lists / file for file in files if (lists / file).is_file()]
            if paths:
                # Lines of VOC's per-class lists end in a flag, "name  1"; the name is the first word.
                lines = [line.split() for path in paths for line in path.read_text("utf-8").splitlines()]
                return sorted({words[0] for words in lines if words}), paths[0]
    return [], None
