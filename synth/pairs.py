"""Pictures paired with mask files: in one folder by suffix, or in two folders by name.

MSRA10K_Imgs_GT/Imgs/100.jpg                 100.png beside it
DUTS-TR/DUTS-TR-Image/ILSVRC2012_1.jpg       DUTS-TR/DUTS-TR-Mask/ILSVRC2012_1.png
ECSSD/images/0001.jpg                        ECSSD/ground_truth_mask/0001.png
"""

from collections.abc import Iterator
from pathlib import Path

from synth.folders import MaskFile, ObjectEntry
from synth.layouts import MASK_FOLDER, PICTURE_FOLDER, ObjectListing, below, pictures_in, split_name, subfolders, walk
from synth.types import Problem

Stems = dict[str, Path]
"""Files by name without suffix."""


def list_flat(root: Path, folder: Path) -> ObjectListing | None:
    """Pairs ``name.jpg`` with ``name.png`` in one folder; None where there is no such pair."""
    pictures, masks, doubles = split_flat(folder)
    return _paired(root, pictures, masks, doubles) if pictures.keys() & masks.keys() else None


def split_flat(folder: Path) -> tuple[Stems, Stems, list[Path]]:
    """Splits the pictures of a folder into those that are no PNG, those that are, and those whose name is taken."""
    pictures: Stems = {}
    masks: Stems = {}
    doubles: list[Path] = []
    for path in pictures_in(folder):
        group = masks if path.suffix.lower() == ".png" else pictures
        if path.stem in group:
            doubles.append(path)
        else:
            group[path.stem] = path
    return pictures, masks, doubles


def list_folders(root: Path, folder: Path) -> Iterator[ObjectListing]:
    """Pairs the pictures of one subfolder with the masks of another, for every such two that have a name in common."""
    for picture_dir, mask_dir in _picture_and_mask_folders(subfolders(folder)):
        pictures, doubles = _by_stem(picture_dir)
        masks, double_masks = _by_stem(mask_dir)
        if pictures.keys() & masks.keys():
            yield _paired(root, pictures, masks, doubles + double_masks)


def _picture_and_mask_folders(folders: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Pairs ``X-Image`` with ``X-Mask`` and ``images`` with ``masks``, by every name that is usual for them."""
    masks: dict[str, Path] = {}
    pictures: dict[str, Path] = {}
    for folder in folders:
        prefix, word = split_name(folder.name)
        if MASK_FOLDER.fullmatch(word):
            masks.setdefault(prefix, folder)
        elif PICTURE_FOLDER.fullmatch(word):
            pictures.setdefault(prefix, folder)
    if len(masks) == len(pictures) == 1:  # DUT-OMRON: DUT-OMRON-image, pixelwiseGT-new-PNG
        yield next(iter(pictures.values())), next(iter(masks.values()))
        return
    for prefix in sorted(pictures.keys() & masks.keys()):
        yield pictures[prefix], masks[prefix]


def _by_stem(folder: Path) -> tuple[Stems, list[Path]]:
    """Pictures of a folder and the folders below it by relative path without suffix, and those whose stem is taken."""
    found: Stems = {}
    doubles: list[Path] = []
    for path in (path for child in walk(folder) for path in pictures_in(child)):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            doubles.append(path)
        else:
            found[stem] = path
    return found, doubles


def _paired(root: Path, pictures: Stems, masks: Stems, doubles: list[Path]) -> ObjectListing:
    """Pairs by stem and names what is left over."""
    problems = [Problem(below(root, pictures[stem]), "picture without a mask") for stem in pictures.keys() - masks]
    problems += [Problem(below(root, masks[stem]), "mask without a picture") for stem in masks.keys() - pictures]
    problems += [Problem(below(root, path), "another file has the same name up to the suffix") for path in doubles]
    listing = ObjectListing(problems=problems)
    for stem in sorted(pictures.keys() & masks):
        picture = below(root, pictures[stem])
        listing.entries.append(ObjectEntry(picture, picture, MaskFile(below(root, masks[stem]))))
    return listing
