"""Opens sources of cutouts and backgrounds: a folder whose layout is recognised, or ``builtin``.

    open_objects("data/raw/msra10k")        MSRA10k, DUTS, ECSSD, VOC2012, COCO: see synth.layouts
    open_backgrounds("data/raw/voc2012")    the same, or any folder of pictures
    open_objects("builtin")                 procedural, nothing to download: see synth.builtin

Listing a folder opens few files; a file that cannot be used shows when it is loaded (``BadFileError``), and what the
listing itself finds, such as a picture without a mask, is in the source's ``problems``.
"""

from pathlib import Path
from typing import TypeVar

from shards.errors import SourceError
from synth.builtin import BuiltinBackgrounds, BuiltinObjects
from synth.folders import FolderBackgrounds, FolderObjects, MaskFile, ObjectEntry
from synth.layouts import MAX_DEPTH, Pairing, pair_flat, pair_folders, pictures_in, walk
from synth.types import Background, BackgroundSource, Cutout, ObjectSource

BUILTIN = "builtin"

Item = TypeVar("Item", Cutout, Background)
Source = TypeVar("Source", ObjectSource, BackgroundSource)


def open_objects(spec: str | Path) -> ObjectSource:
    """Opens a source of cutouts.

    Args:
        spec: a folder (a dataset's own, its parent, or one above), or ``"builtin"``.

    Raises:
        SourceError: there is no such folder, or no layout is recognised in it; the message says what was looked for.
    """
    if str(spec) == BUILTIN:
        return BuiltinObjects()
    root = _folder(spec)
    pairing = _find_pairs(root)
    if not pairing.pairs:
        raise SourceError(
            f"{spec}: no objects found at most {MAX_DEPTH} folders deep; looked for name.jpg beside name.png (MSRA10k),"
            " a folder of pictures beside one of masks (DUTS, ECSSD), VOCdevkit with SegmentationObject, COCO instances"
        )
    entries = tuple(ObjectEntry(picture, picture, MaskFile(mask)) for picture, mask in sorted(pairing.pairs))
    return FolderObjects(root, _name_of(root), "", entries, tuple(pairing.problems))


def open_backgrounds(spec: str | Path) -> BackgroundSource:
    """Opens a source of backgrounds.

    Args:
        spec: a folder (a dataset's own, its parent, or one above, or any folder of pictures), or ``"builtin"``.

    Raises:
        SourceError: there is no such folder, or no pictures are in it.
    """
    if str(spec) == BUILTIN:
        return BuiltinBackgrounds()
    root = _folder(spec)
    pictures = [path.relative_to(root).as_posix() for folder in walk(root) for path in pictures_in(folder)]
    if not pictures:
        raise SourceError(f"{spec}: no pictures found at most {MAX_DEPTH} folders deep")
    return FolderBackgrounds(root, _name_of(root), "", tuple(sorted(pictures)))


def _folder(spec: str | Path) -> Path:
    path = Path(spec)
    if not path.exists():
        raise SourceError(f"{spec}: no such folder")
    if not path.is_dir():
        raise SourceError(f"{spec}: is a file; give the folder that holds the pictures, or {BUILTIN!r}")
    return path.resolve()


def _name_of(root: Path) -> str:
    return root.name or "pictures"


def _find_pairs(root: Path) -> Pairing:
    """Pairs of all folders in reach."""
    found = Pairing()
    for folder in walk(root):
        for pairing in (pair_flat(root, folder), pair_folders(root, folder)):
            if pairing is not None:
                found.extend(pairing)
    return found
