"""Finds out how a folder of pictures is laid out, and pairs pictures with masks.

Recognised below the given folder, at most ``MAX_DEPTH`` levels deep, so that the folder itself, its parent, or one more
level of an archive's own folder may be given:

* flat pairs, ``name.jpg`` beside ``name.png`` (MSRA10k's ``Imgs``);
* two folders side by side, one of pictures and one of masks (DUTS: ``DUTS-TR-Image``, ``DUTS-TR-Mask``; ECSSD:
  ``images``, ``ground_truth_mask``; others by the usual names);
* Pascal VOC (``JPEGImages``, ``SegmentationObject``, ``ImageSets``): :mod:`synth.voc`;
* COCO instances (a JSON file beside or above a folder of pictures): :mod:`synth.coco`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from synth.types import Problem

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MAX_DEPTH = 3

PICTURE_FOLDER = re.compile(r"(jpeg)?(images?|imgs?|pictures?|photos?|rgb|im)(_resized)?", re.IGNORECASE)
MASK_FOLDER = re.compile(
    r"masks?|gts?|ground[-_ ]?truths?([-_ ]?masks?)?|annotations?|labels?|saliency[-_ ]?maps?|segmentations?|alphas?"
    r"|pixelwisegt.*|segmentation(class|object)",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Pairing:
    """Pictures with their masks, and what has no partner. Paths are relative to the source folder, with slashes."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def extend(self, other: "Pairing") -> None:
        """Adds another folder's findings."""
        self.pairs += other.pairs
        self.problems += other.problems


def is_picture(path: Path) -> bool:
    """Whether a file counts as a picture, by its suffix; hidden files (``._name.jpg`` of macOS archives) do not."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name; hidden ones and those that archives of macOS leave are passed over."""
    found = (path for path in folder.iterdir() if path.is_dir())
    return sorted(path for path in found if not path.name.startswith((".", "__MACOSX")))


def pictures_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, by name. Links that point nowhere count: they are bad files, not no files."""
    return sorted(path for path in folder.iterdir() if is_picture(path) and not path.is_dir())


def walk(folder: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    """The folder and the folders below it, nearest first."""
    level = [folder]
    for _ in range(depth + 1):
        yield from level
        level = [child for parent in level for child in subfolders(parent)]


def pair_flat(root: Path, folder: Path) -> Pairing | None:
    """Pairs ``name.jpg`` with ``name.png`` in one folder; None where there is no such pair."""
    pictures: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    doubles: list[Path] = []
    for path in pictures_in(folder):
        group = masks if path.suffix.lower() == ".png" else pictures
        if path.stem in group:
            doubles.append(path)
        else:
            group[path.stem] = path
    if not pictures.keys() & masks.keys():
        return None
    return _paired(root, pictures, masks, doubles)


def pair_folders(root: Path, folder: Path) -> Pairing | None:
    """Pairs the pictures of one subfolder with the masks of another by their names without suffix; None if none fit."""
    found = Pairing()
    children = subfolders(folder)
    for picture_dir, mask_dir in _picture_and_mask_folders(children):
        pictures, doubles = _by_stem(picture_dir)
        masks, double_masks = _by_stem(mask_dir)
        if pictures and masks:
            found.extend(_paired(root, pictures, masks, doubles + double_masks))
    return found if found.pairs else None


def _picture_and_mask_folders(folders: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Pairs ``X-Image`` with ``X-Mask`` and ``images`` with ``masks``, by every name that is usual for them."""
    masks: dict[str, Path] = {}
    pictures: dict[str, Path] = {}
    for folder in folders:
        prefix, word = _split_name(folder.name)
        if MASK_FOLDER.fullmatch(word):
            masks.setdefault(prefix, folder)
        elif PICTURE_FOLDER.fullmatch(word):
            pictures.setdefault(prefix, folder)
    if len(masks) == len(pictures) == 1:  # DUT-OMRON: DUT-OMRON-image, pixelwiseGT-new-PNG
        yield next(iter(pictures.values())), next(iter(masks.values()))
        return
    for prefix in sorted(pictures.keys() & masks.keys()):
        yield pictures[prefix], masks[prefix]


def _split_name(name: str) -> tuple[str, str]:
    """Splits ``DUTS-TR-Image`` into ``("duts-tr", "Image")``, and ``ground_truth_mask`` into itself with no prefix."""
    if MASK_FOLDER.fullmatch(name) or PICTURE_FOLDER.fullmatch(name):
        return "", name
    prefix, _, word = name.replace("_", "-").rpartition("-")
    return prefix.lower(), word


def _by_stem(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Pictures of a folder and the folders below it by relative path without suffix, and those whose stem is taken."""
    found: dict[str, Path] = {}
    doubles: list[Path] = []
    for path in (path for child in walk(folder) for path in pictures_in(child)):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            doubles.append(path)
        else:
            found[stem] = path
    return found, doubles


def _paired(root: Path, pictures: dict[str, Path], masks: dict[str, Path], doubles: list[Path]) -> Pairing:
    """Pairs by stem and names what is left over."""

    def relative(path: Path) -> str:
        return path.relative_to(root).as_posix()

    problems = [Problem(relative(pictures[stem]), "picture without a mask") for stem in pictures.keys() - masks.keys()]
    problems += [Problem(relative(masks[stem]), "mask without a picture") for stem in masks.keys() - pictures.keys()]
    problems += [Problem(relative(path), "another file has the same name up to the suffix") for path in doubles]
    both = sorted(pictures.keys() & masks.keys())
    pairs = [(relative(pictures[stem]), relative(masks[stem])) for stem in both]
    return Pairing(pairs, sorted(problems, key=lambda problem: problem.name))
