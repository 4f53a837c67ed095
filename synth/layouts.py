"""What a listing of a folder holds, and how folders are walked.

Layouts are recognised at most ``MAX_DEPTH`` levels below the given folder, so that a dataset's own folder, its parent,
or one more level of an archive's own folder may be given. One module per layout: :mod:`synth.pairs`,
:mod:`synth.voc`, :mod:`synth.coco`.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from synth.folders import ObjectEntry
from synth.types import Problem

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MAX_DEPTH = 3

PICTURE_FOLDER = re.compile(r"(jpeg)?(images?|imgs?|pictures?|photos?|rgb|im)", re.IGNORECASE)
MASK_FOLDER = re.compile(
    r"masks?|gts?|ground[-_ ]?truths?([-_ ]?masks?)?|annotations?|labels?|saliency[-_ ]?maps?|segmentations?|alphas?"
    r"|pixelwisegt.*|segmentation(class|object)",
    re.IGNORECASE,
)


@dataclass(slots=True)
class ObjectListing:
    """Objects that were found in a folder."""

    entries: list[ObjectEntry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    num_left_out: int = 0
    """Objects left out by rule, which are nothing wrong."""
    licence: str = ""


@dataclass(slots=True)
class BackgroundListing:
    """Backgrounds that were found in a folder."""

    pictures: list[str] = field(default_factory=list)
    """Paths below the source folder, with slashes."""
    problems: list[Problem] = field(default_factory=list)
    num_left_out: int = 0
    """Pictures left out by rule, which are nothing wrong."""
    licence: str = ""


def below(root: Path, path: Path) -> str:
    """The path below the source folder, with slashes on every system."""
    return path.relative_to(root).as_posix()


def is_mask_folder(name: str) -> bool:
    """Whether a folder's name, or its last word, says that it holds masks: ``masks``, ``DUTS-TR-Mask``, ``GT``."""
    return MASK_FOLDER.fullmatch(split_name(name)[1]) is not None


def split_name(name: str) -> tuple[str, str]:
    """Splits ``DUTS-TR-Image`` into ``("duts-tr", "Image")``, and ``ground_truth_mask`` into itself with no prefix."""
    if MASK_FOLDER.fullmatch(name) or PICTURE_FOLDER.fullmatch(name):
        return "", name
    prefix, _, word = name.replace("_", "-").rpartition("-")
    return prefix.lower(), word


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name; hidden ones and those that archives of macOS leave are passed over."""
    with os.scandir(folder) as children:
        names = sorted(child.name for child in children if child.is_dir())
    return [folder / name for name in names if not name.startswith((".", "__MACOSX"))]


def pictures_in(folder: Path) -> list[Path]:
    """The files directly in a folder that count as pictures, by name.

    The suffix decides. Hidden files (``._name.jpg`` of macOS archives) do not count. Links that point nowhere do: they
    are bad files, not no files.
    """
    with os.scandir(folder) as children:
        names = sorted(
            child.name for child in children if child.name.lower().endswith(PICTURE_SUFFIXES) and not child.is_dir()
        )
    return [folder / name for name in names if not name.startswith(".")]


def walk(folder: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    """The folder and the folders below it, nearest first."""
    level = [folder]
    for _ in range(depth + 1):
        yield from level
        level = [child for parent in level for child in subfolders(parent)]
