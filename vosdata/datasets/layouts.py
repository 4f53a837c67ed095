"""The layouts: what lies where, and what that makes the folder.

    <root>/JPEGImages[/<resolution>]/<sequence>/00000.jpg        DAVIS and every folder of its form
    <root>/Annotations[/<resolution>]/<sequence>/00000.png
    <root>/ImageSets/{2016,2017,2019}/{train,val,...}.txt        one DAVIS dataset per year
    <root>/ImageSets/{480p,1080p}/{train,val,trainval}.txt       DAVIS 2016 as first released: lines of file pairs
    <root>/ImageSets/<split>.txt                                 splits of any other dataset

    <root>/<split>/JPEGImages/<sequence>/00000.jpg               YouTube-VOS and its relatives
    <root>/<split>/Annotations/<sequence>/00000.png
    <root>/<split>/meta.json
    <root>/<split>_all_frames/JPEGImages, <root>/<split>/JPEGImages_all_frames     every frame of the video
    <root>/ImageSets/<split>.txt                                 further splits of the training videos

Each function looks at one of them and returns the datasets it found, none when the folder is not of that form.
"""

import re
from pathlib import Path

from shards.errors import DatasetError
from vosdata.datasets.dataset import Dataset, slug
from vosdata.datasets.listing import holds_pictures, subfolders
from vosdata.datasets.meta import looks_like_meta
from vosdata.datasets.split_lists import ListedSplits, read_split_lists
from vosdata.datasets.types import Split

IMAGES, MASKS, ALL_FRAMES = "JPEGImages", "Annotations", "JPEGImages_all_frames"
# DAVIS 2016 was released in 480p and 1080p, DAVIS 2017 in 480p and Full-Resolution.
USUAL_RESOLUTION = "480p"
DAVIS_FRAME_RATE = 24.0
DAVIS_LICENCE = "CC BY-NC 4.0"
YTVOS_VIDEO_RATE = 30.0
YTVOS_LICENCE = "annotations CC BY 4.0; videos for non-commercial research only"
# Number of sequences tells the release: valid 474 and test 508 in 2018, valid 507 and test 541 in 2019; train is equal.
YTVOS_COUNTS = {("valid", 474): 2018, ("test", 508): 2018, ("valid", 507): 2019, ("test", 541): 2019}
SPLIT_FOLDER = re.compile(r"(train|valid|validation|val|test|dev|trainval)([-_0-9].*)?", re.IGNORECASE)
SPLIT_ORDER = ("train", "trainval", "val", "valid", "test")


def resolutions(images: Path) -> dict[str | None, Path]:
    """Where sequences lie below a folder of pictures.

    Returns:
        ``{None: images}`` when sequence folders lie directly in it, ``{resolution: folder}`` when there is a folder
        per resolution in between, empty when it holds no folders (as in VOC2012, whose photographs lie there bare).
    """
    folders = subfolders(images)
    if not folders or any(holds_pictures(images / name) for name in folders):
        return {None: images} if folders else {}
    between: dict[str | None, Path] = {name: images / name for name in folders if subfolders(images / name)}
    return between or {None: images}


def davis(root: Path, resolution: str | None = None) -> list[Dataset]:
    """DAVIS: one dataset per year that ``ImageSets`` names.

    Args:
        root: folder with JPEGImages and ImageSets.
        resolution: resolution folder to read; by default 480p when it is there, else the first by name.
    """
    years = [listed for listed in read_split_lists(root) if listed.year is not None]
    if not years or not (root / IMAGES).is_dir():
        return []
    chosen, image_dir, notes = _choose_resolution(root, resolution)
    found = []
    unlisted = len(set(subfolders(image_dir)).difference(*(names for one in years for _, names in one.lists.values())))
    if unlisted:
        notes = (*notes, f"{unlisted} sequences in {image_dir.relative_to(root)} are in no list of ImageSets")
    for listed in years:
        mask_dir = _mask_folder(root, chosen, listed.year)
        splits, absent = _listed_splits(listed, image_dir, mask_dir)
        if splits:
            title = f"DAVIS {listed.year}"
            found.append(_davis_dataset(root, title, splits, chosen, (*notes, *absent)))
    if not found:
        raise DatasetError(
            f"{root}: none of the sequences that {root.name}/ImageSets names lies in {image_dir.relative_to(root)}. "
            "Extract the frames of this release"
        )
    return found


def folder(root: Path, resolution: str | None = None) -> list[Dataset]:
    """Any folder of the JPEGImages/Annotations form, and a single split folder of YouTube-VOS or a relative."""
    if not (root / IMAGES).is_dir() or not resolutions(root / IMAGES):
        return []
    chosen, image_dir, notes = _choose_resolution(root, resolution)
    mask_dir = _mask_folder(root, chosen)
    meta = root / "meta.json" if looks_like_meta(root / "meta.json") else None
    listed = _plain_lists(root)
    splits, absent = _listed_splits(listed, image_dir, mask_dir, meta) if listed else ((), ())
    owner = root  # the folder whose name the dataset has
    if not splits:
        is_split = SPLIT_FOLDER.fullmatch(root.name) is not None
        owner = root.parent if is_split else root
        splits = (Split(root.name if is_split else "all", image_dir, mask_dir, meta_path=meta),)
    notes = (*notes, *absent)
    if meta is not None or _is_ytvos(owner):
        return [_ytvos_dataset(owner, splits, notes)]
    named = re.search(r"davis[-_ ]?(20(?:16|17|19))?", owner.name, re.IGNORECASE)
    if named:
        title = f"DAVIS {named[1]}" if named[1] else "DAVIS"
        return [_davis_dataset(root, title, splits, chosen, notes)]
    return [Dataset(slug(owner.name), owner.name, root, splits, chosen, notes=notes)]


def split_folders(root: Path) -> list[Dataset]:
    """YouTube-VOS and its relatives: a folder per split, each with JPEGImages and Annotations."""
    splits = _split_folders(root)
    if not splits:
        return []
    listed = _plain_lists(root)
    notes: tuple[str, ...] = ()
    if listed is not None:
        further, notes = _further_splits(listed, splits)
        splits = [split for split in splits if split.name not in {one.name for one in further}] + further
    ordered = tuple(sorted(splits, key=split_order))
    if _is_ytvos(root) or any(split.meta_path for split in splits):
        return [_ytvos_dataset(root, ordered, notes)]
    return [Dataset(slug(root.name), root.name, root, ordered, notes=notes)]


def split_order(split: Split) -> tuple[int, str]:
    """Sorts train before validation before test before the rest, then by name."""
    place = next((i for i, name in enumerate(SPLIT_ORDER) if split.name.lower() == name), len(SPLIT_ORDER))
    return place, split.name


def _plain_lists(root: Path) -> ListedSplits | None:
    """The split lists that lie directly in ``ImageSets``."""
    return next((listed for listed in read_split_lists(root) if listed.year is None), None)


def _choose_resolution(root: Path, wanted: str | None) -> tuple[str | None, Path, tuple[str, ...]]:
    """The resolution to read, its folder, and a note when there are others."""
    known = resolutions(root / IMAGES)
    if not known:
        raise DatasetError(f"{root / IMAGES} holds no sequence folders. Extract the frames of this release")
    if wanted is not None and wanted not in known:
        raise DatasetError(f"{root / IMAGES} has no resolution folder {wanted!r}, it has: {', '.join(map(str, known))}")
    chosen = wanted or (USUAL_RESOLUTION if USUAL_RESOLUTION in known else next(iter(known)))
    others = [str(name) for name in known if name != chosen]
    if wanted is not None or not others:
        return chosen, known[chosen], ()
    note = f"read at {chosen}; also there: {', '.join(others)} (give {root / IMAGES / others[0]} as the source)"
    return chosen, known[chosen], (note,)


def _mask_folder(root: Path, resolution: str | None, year: int | None = None) -> Path:
    """Where the masks of a resolution lie; the folder need not exist."""
    # DAVIS 2019 annotates every object anew, beside the masks of 2017.
    masks = root / "Annotations_unsupervised" if year == 2019 else root / MASKS
    masks = masks if masks.is_dir() else root / MASKS
    if resolution is None or (masks / resolution).is_dir():
        return masks if resolution is None else masks / resolution
    others = [name for name in resolutions(masks) if name is not None] if masks.is_dir() else []
    if others:
        raise DatasetError(
            f"{root}: frames lie in {IMAGES}/{resolution} but masks in {masks.name}/{others[0]}. "
            f"Extract the masks of the same resolution to {masks.name}/{resolution}"
        )
    return masks


def _listed_splits(
    listed: ListedSplits, image_dir: Path, mask_dir: Path, meta: Path | None = None
) -> tuple[tuple[Split, ...], tuple[str, ...]]:
    """Splits whose lists name at least one sequence that is there, and a note for each of the others."""
    here = set(subfolders(image_dir))
    splits, notes = [], []
    for name, (path, names) in listed.lists.items():
        if here.isdisjoint(names):
            notes.append(f"split {name} left out: none of its {len(names)} sequences is here")
        else:
            splits.append(Split(name, image_dir, mask_dir, names, path, meta))
    return tuple(sorted(splits, key=split_order)), tuple(notes)


def _davis_dataset(
    root: Path, title: str, splits: tuple[Split, ...], resolution: str | None, notes: tuple[str, ...]
) -> Dataset:
    return Dataset(
        name=title.lower().replace(" ", ""),
        title=title,
        root=root,
        splits=splits,
        resolution=resolution,
        union=title.endswith("2016"),
        licence=DAVIS_LICENCE,
        video_rate=DAVIS_FRAME_RATE,
        notes=notes,
    )


def _ytvos_dataset(root: Path, splits: tuple[Split, ...], notes: tuple[str, ...]) -> Dataset:
    year = _ytvos_year(root, splits)
    return Dataset(
        name=f"ytvos{year or ''}",
        title=f"YouTube-VOS {year or ''}".strip(),
        root=root,
        splits=splits,
        licence=YTVOS_LICENCE,
        video_rate=YTVOS_VIDEO_RATE,
        numbers_follow_video=True,
        notes=notes,
    )


def _ytvos_year(root: Path, splits: tuple[Split, ...]) -> int | None:
    """The release, from the number of sequences in valid or test, else from a year in the folder's name or parent's."""
    for split in splits:
        if split.names is None and split.name in {"valid", "test"}:
            year = YTVOS_COUNTS.get((split.name, len(subfolders(split.image_dir))))
            if year is not None:
                return year
    for name in (root.name, root.parent.name):
        if found := re.search(r"20(?:18|19)(?![0-9])", name):
            return int(found[0])
    return None


def _is_ytvos(root: Path) -> bool:
    """Whether a folder, or the one above a folder of a year, is called YouTube-VOS in one of the usual spellings."""
    name = root.parent.name if re.fullmatch(r"20(18|19)", root.name) else root.name
    return re.search(r"(you[-_ ]?tube|yt)[-_ ]?vos|^you[-_ ]?tube$", name, re.IGNORECASE) is not None


def _split_folders(root: Path) -> list[Split]:
    """One split per folder of pictures; ``all_frames`` folders become splits of their own."""
    parents = [above / name for above in (root, root / "all_frames") for name in subfolders(above)]
    splits = []
    for parent in parents:
        # DAVIS/2017/trainval with ImageSets of its own is a dataset, not a split of "2017".
        if not SPLIT_FOLDER.fullmatch(parent.name) or (parent / "ImageSets").is_dir():
            continue
        for images, suffix in ((IMAGES, ""), (ALL_FRAMES, "_all_frames")):
            for image_dir in resolutions(parent / images).values() if (parent / images).is_dir() else ():
                splits.append(_split_folder(root, parent, image_dir, suffix))
                break  # several resolutions inside a split folder are not published by anyone; take the first
    return splits


def _split_folder(root: Path, parent: Path, image_dir: Path, suffix: str) -> Split:
    sparse = root / parent.name.removesuffix("_all_frames")  # holds the masks when only frames were extracted twice
    masks = next((one / MASKS for one in (parent, sparse) if (one / MASKS).is_dir()), parent / MASKS)
    metas = (one / "meta.json" for one in (parent, sparse))
    meta = next((path for path in metas if path.is_file() and looks_like_meta(path)), None)
    return Split(parent.name + suffix, image_dir, masks, meta_path=meta)


def _further_splits(listed: ListedSplits, splits: list[Split]) -> tuple[list[Split], tuple[str, ...]]:
    """Lists beside the split folders, such as A-GAME's train_joakim: each names sequences of one of the folders."""
    further, notes = [], []
    for name, (path, names) in listed.lists.items():
        home = next((one for one in splits if not set(subfolders(one.image_dir)).isdisjoint(names)), None)
        if home is None:
            notes.append(f"split {name} left out: none of its {len(names)} sequences is here")
        else:
            further.append(Split(name, home.image_dir, home.mask_dir, names, path, home.meta_path))
    return further, tuple(notes)
