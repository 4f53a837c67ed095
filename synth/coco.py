"""COCO instance annotations: a JSON file of polygons and run lengths beside or above folders of pictures.

coco/annotations/instances_train2017.json   "images", "annotations" (polygons, or run lengths for crowds)
coco/train2017/000000000009.jpg             or images/, images/train2017/, or beside the JSON file
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from shards.errors import BadFileError
from synth.folders import ObjectEntry
from synth.layouts import ObjectListing, below
from synth.pictures import Picture, fit_mask
from synth.types import Problem

MIN_COCO_AREA = 32 * 32
"""Smallest object in pixels; below it lies what COCO itself calls small."""

MAX_COCO_SHARE = 0.98
"""Largest share of its picture that an object may fill; what fills all of it, like a table seen from above, has no
outline."""

OTHER_TASKS = ("captions_", "image_info_", "panoptic_", "person_keypoints_", "stuff_")
"""COCO's files for other tasks, which repeat or lack the instances."""


@dataclass(frozen=True, slots=True)
class CocoMask:
    """One annotation of a COCO file."""

    segmentation: str
    """JSON text of the annotation's segmentation: polygons or run lengths."""

    height: int
    """Height in pixels of the picture as the file states it."""

    width: int
    """Width in pixels of the picture as the file states it."""

    @property
    def files(self) -> tuple[str, ...]:
        """None: the annotation is held here."""
        return ()

    def describe(self) -> bytes:
        """The whole annotation."""
        return f"{self.height}x{self.width} {self.segmentation}".encode()

    def read(self, root: Path, picture: Picture, name: Callable[[str], str]) -> NDArray[np.uint8]:
        """Draws the mask at the size that the file states and brings it to the picture's size."""
        label = name("segmentation")
        return fit_mask(
            draw_segmentation(json.loads(self.segmentation), self.height, self.width, label), picture, label
        )


def draw_segmentation(segmentation: Any, height: int, width: int, name: str) -> NDArray[np.uint8]:
    """Draws a COCO segmentation.

    Everything is checked before pycocotools sees it, which reads past its buffers for run lengths that fall short of
    the picture and fills the memory for coordinates that are no numbers.

    Args:
        segmentation: a list of polygons ``[x0, y0, x1, y1, ...]``, or ``{"size": [h, w], "counts": ...}`` with run
            lengths as a list or as COCO's compressed text.
        height: of the picture in pixels.
        width: of the picture in pixels.
        name: what messages call the object.

    Returns:
        ``uint8 (height, width)``, 0 or 255.

    Raises:
        BadFileError: the segmentation is malformed.
    """
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, Mapping):
        runs = _run_lengths(segmentation.get("counts"), name)
        size = segmentation.get("size")
        if size != [height, width] or sum(runs) != height * width:
            raise BadFileError(f"{name}: run lengths cover {sum(runs)} pixels of {size}, not {height}x{width}")
        encoded = coco_mask.frPyObjects({"size": size, "counts": runs}, height, width)
    else:
        polygons = _polygons(segmentation, height, width, name)
        encoded = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return np.asarray(coco_mask.decode(encoded), np.uint8) * np.uint8(255)


def is_instances(content: Any) -> bool:
    """Whether parsed JSON is a COCO dataset with instances, and not captions, results or something else."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("images"), list)
        and isinstance(content.get("annotations"), list)
        and any(isinstance(note, dict) and "segmentation" in note for note in content["annotations"][:100])
    )


def list_objects(root: Path, folder: Path) -> ObjectListing | None:
    """Lists the objects of every COCO file directly in a folder; None where there is no such file.

    Crowds, objects below ``MIN_COCO_AREA`` pixels and those that fill the picture are left out and counted.
    """
    listing = ObjectListing()
    for path in sorted(folder.glob("*.json")):
        if path.name.startswith((".", *OTHER_TASKS)):
            continue
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            if path.name.startswith("instances"):
                listing.problems.append(Problem(below(root, path), f"is no readable JSON ({error})"))
            continue
        if is_instances(content):
            _add_file(listing, root, path, content)
    return listing if listing.entries or listing.problems else None


def _add_file(listing: ObjectListing, root: Path, path: Path, content: dict[str, Any]) -> None:
    """Adds the objects of one COCO file."""
    images = {_key(image["id"]): image for image in content["images"] if _is_image(image)}
    picture_dir, there = _find_pictures(root, path, [image["file_name"] for image in images.values()])
    if picture_dir is None:
        listing.problems.append(Problem(below(root, path), "none of its pictures lies in a folder near it"))
        return
    for image in images.values():
        if image["file_name"] not in there:
            listing.problems.append(Problem(below(root, picture_dir / image["file_name"]), "picture is not there"))
    for note in content["annotations"]:
        if not isinstance(note, dict) or _key(note.get("image_id")) not in images:
            listing.problems.append(Problem(below(root, path), f"annotation of an unknown image: {str(note)[:80]}"))
            continue
        image = images[_key(note["image_id"])]
        if image["file_name"] in there:
            _add_annotation(listing, below(root, picture_dir / image["file_name"]), image, note)
    listing.licence = "; ".join(_licences(content))


def _add_annotation(listing: ObjectListing, picture: str, image: dict[str, Any], note: dict[str, Any]) -> None:
    least, most = MIN_COCO_AREA, MAX_COCO_SHARE * image["height"] * image["width"]
    if note.get("iscrowd") or not least <= _area(note, default=least) <= most:
        listing.num_left_out += 1
        return
    mask = CocoMask(json.dumps(note.get("segmentation")), image["height"], image["width"])
    listing.entries.append(ObjectEntry(f"{picture}#{note.get('id', len(listing.entries))}", picture, mask))


def _area(note: dict[str, Any], default: float) -> float:
    """Pixels of an annotation as it states them, else those of its box, else the default."""
    area, box = note.get("area"), note.get("bbox")
    if _is_number(area):
        return float(area)
    if isinstance(box, list) and len(box) == 4 and all(_is_number(value) for value in box):
        return float(box[2] * box[3])
    return default


def _is_image(image: Any) -> bool:
    if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
        return False
    return all(isinstance(image.get(key), int) and image[key] > 0 for key in ("height", "width")) and "id" in image


def _key(identifier: Any) -> str:
    """An identifier as text; COCO's are numbers, others' may be text."""
    return str(identifier)


def _find_pictures(root: Path, path: Path, names: list[str]) -> tuple[Path | None, set[str]]:
    """The folder near a COCO file, inside the root, that holds most of its pictures, and which of them it holds."""
    split = path.stem.removeprefix("instances_")
    near = [
        base / tail for base in (path.parent, path.parent.parent) for tail in ("", "images", split, f"images/{split}")
    ]
    best: Path | None = None
    most: set[str] = set()
    for folder in near:
        if folder.is_relative_to(root) and folder.is_dir():
            there = {name for name in names if (folder / name).exists()}
            if len(there) > len(most):
                best, most = folder, there
        if len(most) == len(set(names)):
            break
    return best, most


def _licences(content: dict[str, Any]) -> list[str]:
    """Names of the licences that a COCO file states for its pictures."""
    stated = content.get("licenses")
    entries = stated if isinstance(stated, list) else []
    return sorted({str(entry["name"]) for entry in entries if isinstance(entry, dict) and entry.get("name")})


def _polygons(polygons: Any, height: int, width: int, name: str) -> list[list[float]]:
    """Checks polygons and clips them to the picture; those of less than three points are dropped."""
    if not isinstance(polygons, list):
        raise BadFileError(f"{name}: is neither polygons nor run lengths")
    limits = (width, height)
    kept: list[list[float]] = []
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2 or not all(_is_number(value) for value in polygon):
            raise BadFileError(f"{name}: a polygon is not a list of x, y pairs")
        if len(polygon) >= 6:
            kept.append([min(max(float(value), 0.0), limits[place % 2]) for place, value in enumerate(polygon)])
    if not kept:
        raise BadFileError(f"{name}: has no polygon of three or more points")
    return kept


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _run_lengths(counts: Any, name: str) -> list[int]:
    """Run lengths from COCO's list or compressed text, whose five-bit groups hold differences to two runs before."""
    if isinstance(counts, list) and all(isinstance(run, int) and run >= 0 for run in counts):
        return counts
    if not isinstance(counts, str) or not counts.isascii():
        raise BadFileError(f"{name}: run lengths are neither a list nor COCO's compressed text")
    runs: list[int] = []
    value = shift = 0
    for code in counts.encode():
        group = code - 48
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift or any(run < 0 for run in runs):
        raise BadFileError(f"{name}: compressed run lengths are cut off or damaged")
    return runs
