"""Opens sources of cutouts and backgrounds: a folder whose layout is recognised, or ``builtin``.

    open_objects("data/raw/msra10k")        MSRA10k, DUTS, ECSSD and the like, VOC2012, COCO
    open_backgrounds("data/raw/voc2012")    the same, or any folder of pictures
    open_objects("builtin")                 procedural, nothing to download

Listing a folder opens few files. What the listing finds wrong, such as a picture without a mask, is in the source's
``problems``; a file that cannot be read shows when it is loaded (``BadFileError``), or in :func:`check_source`.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from shards.errors import BadFileError, SourceError
from synth import coco, pairs, voc
from synth.builtin import BuiltinBackgrounds, BuiltinObjects
from synth.folders import FolderBackgrounds, FolderObjects
from synth.joined import JoinedBackgrounds, JoinedObjects
from synth.layouts import (
    MAX_DEPTH,
    PICTURE_FOLDER,
    BackgroundListing,
    ObjectListing,
    below,
    is_mask_folder,
    subfolders,
    walk,
)
from synth.types import BackgroundSource, ObjectSource, Problem

BUILTIN = "builtin"


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
    listings = [listing for folder in walk(root) for listing in _object_listings(root, folder)]
    entries = {entry.label: entry for listing in reversed(listings) for entry in listing.entries}
    if not entries:
        raise SourceError(_no_objects(spec, root, listings))
    return FolderObjects(
        root=root,
        name=_name_of(root),
        licence=_joined_licences(listing.licence for listing in listings),
        entries=tuple(entries[label] for label in sorted(entries)),
        problems=_sorted_problems(listing.problems for listing in listings),
        num_left_out=sum(listing.num_left_out for listing in listings),
    )


def open_backgrounds(spec: str | Path) -> BackgroundSource:
    """Opens a source of backgrounds.

    Args:
        spec: a folder (a dataset's own, its parent, or one above, or any folder of pictures), or ``"builtin"``. Masks
            are passed over: folders with a mask folder's name, and ``name.png`` beside ``name.jpg``.

    Raises:
        SourceError: there is no such folder, or no pictures are in it.
    """
    if str(spec) == BUILTIN:
        return BuiltinBackgrounds()
    root = _folder(spec)
    listings = list(_background_listings(root, root, MAX_DEPTH))
    pictures = sorted({picture for listing in listings for picture in listing.pictures})
    if not pictures:
        raise SourceError(f"{spec}: no pictures found at most {MAX_DEPTH} folders deep; give a folder of photographs")
    return FolderBackgrounds(
        root=root,
        name=_name_of(root),
        licence=_joined_licences(listing.licence for listing in listings),
        pictures=tuple(pictures),
        problems=_sorted_problems(listing.problems for listing in listings),
        num_left_out=sum(listing.num_left_out for listing in listings),
    )


def join_objects(sources: Iterable[ObjectSource]) -> ObjectSource:
    """Makes one source of several, one after the other; a single one is returned as it is.

    Raises:
        ValueError: there are none.
    """
    members = tuple(sources)
    if not members:
        raise ValueError("join_objects needs at least one source")
    return members[0] if len(members) == 1 else JoinedObjects(members)


def join_backgrounds(sources: Iterable[BackgroundSource]) -> BackgroundSource:
    """Makes one source of several, one after the other; a single one is returned as it is.

    Raises:
        ValueError: there are none.
    """
    members = tuple(sources)
    if not members:
        raise ValueError("join_backgrounds needs at least one source")
    return members[0] if len(members) == 1 else JoinedBackgrounds(members)


def check_source(
    source: ObjectSource | BackgroundSource, progress: Callable[[int, int], None] | None = None
) -> tuple[Problem, ...]:
    """Loads everything once and names what cannot be used, the problems of the listing first.

    Args:
        source: any source.
        progress: called with the numbers of items done and of all items.
    """
    found = list(source.problems)
    for index, label in enumerate(source.labels):
        try:
            source.load(index)
        except BadFileError as error:
            found.append(Problem(label, str(error)))
        if progress is not None:
            progress(index + 1, len(source))
    return tuple(found)


def _folder(spec: str | Path) -> Path:
    path = Path(spec)
    if not path.exists():
        raise SourceError(f"{spec}: no such folder")
    if not path.is_dir():
        raise SourceError(f"{spec}: is a file; give the folder that holds the pictures, or {BUILTIN!r}")
    return path.resolve()


def _name_of(root: Path) -> str:
    """The folder's name, or its parent's where it is called ``Imgs`` or the like."""
    named = root.parent if PICTURE_FOLDER.fullmatch(root.name) else root
    return named.name or "pictures"


def _object_listings(root: Path, folder: Path) -> Iterable[ObjectListing]:
    """What every layout finds in one folder. A VOC folder's masks are for VOC's own reader only."""
    if voc.is_voc(folder):
        return [voc.list_objects(root, folder)]
    found = [pairs.list_flat(root, folder), *pairs.list_folders(root, folder), coco.list_objects(root, folder)]
    return [listing for listing in found if listing is not None]


def _background_listings(root: Path, folder: Path, depth: int) -> Iterable[BackgroundListing]:
    """Pictures of a folder and the folders below it."""
    if voc.is_voc(folder):
        yield voc.list_backgrounds(root, folder)
        return
    pictures, pngs, doubles = pairs.split_flat(folder)
    lone_pngs = [pngs[stem] for stem in pngs.keys() - pictures.keys()]
    paths = [*pictures.values(), *lone_pngs, *doubles]
    yield BackgroundListing([below(root, path) for path in paths])
    for child in subfolders(folder) if depth else ():
        if not is_mask_folder(child.name):
            yield from _background_listings(root, child, depth - 1)


def _no_objects(spec: str | Path, root: Path, listings: list[ObjectListing]) -> str:
    """Says why a folder gives no objects."""
    problems = [problem for listing in listings for problem in listing.problems]
    if problems:
        return f"{spec}: none of the objects can be used; {len(problems)} problems, the first: {problems[0]}"
    if any(voc.is_voc(folder) for folder in walk(root)):
        return f"{spec}: a VOC folder without SegmentationObject, which objects are cut by; use it for backgrounds"
    return (
        f"{spec}: no objects found at most {MAX_DEPTH} folders deep; looked for name.jpg beside name.png (MSRA10k),"
        " a folder of pictures beside one of masks (DUTS, ECSSD), VOCdevkit with SegmentationObject,"
        " COCO instances with their pictures"
    )


def _joined_licences(licences: Iterable[str]) -> str:
    return "; ".join(sorted({licence for licence in licences if licence}))


def _sorted_problems(groups: Iterable[list[Problem]]) -> tuple[Problem, ...]:
    """All problems by name, each once."""
    return tuple(
        sorted({problem for group in groups for problem in group}, key=lambda problem: (problem.name, problem.reason))
    )
