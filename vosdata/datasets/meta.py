"""``meta.json`` of YouTube-VOS: which objects a video has, of which category, in which frames.

    {"videos": {"<sequence>": {"objects": {"<id>": {"category": "person", "frames": ["00000", "00005", ...]}}}}}

In valid and test splits the frames of an object are those in which it has to be found; only the first of them has a
mask. So a listed frame without the object in its mask is no contradiction (it may be hidden there), an object that is
visible where it is not listed is one.
"""

import json
from pathlib import Path
from typing import Any

from shards.errors import DatasetError
from shards.types import MAX_OBJECT_ID
from vosdata.datasets.types import ObjectMeta


def read_meta(path: Path) -> dict[str, tuple[ObjectMeta, ...]]:
    """Reads the objects of every video.

    Returns:
        For each sequence name its objects, ascending by id.

    Raises:
        DatasetError: the file is no JSON or not of this form.
    """
    videos = _load(path).get("videos")
    if not isinstance(videos, dict):
        raise DatasetError(f"{path}: expected an object with the key 'videos', as YouTube-VOS writes it")
    return {name: _read_objects(video, f"{path}: video {name}") for name, video in videos.items()}


def looks_like_meta(path: Path) -> bool:
    """Whether a file is there and has the form of YouTube-VOS's ``meta.json``: its objects have a category and frames.

    Raises:
        DatasetError: the file is there but is no JSON.
    """
    videos = _load(path).get("videos") if path.is_file() else None
    if not isinstance(videos, dict):
        return False
    first = next((video.get("objects") for video in videos.values() if isinstance(video, dict)), None)
    if not isinstance(first, dict):
        return False
    return all(isinstance(one, dict) and {"category", "frames"} <= one.keys() for one in first.values())


def disagreements(objects: tuple[ObjectMeta, ...], frame_numbers: list[int], shown: dict[int, list[int]]) -> list[str]:
    """Compares what ``meta.json`` says about a sequence with what its masks show.

    Args:
        objects: the objects of ``meta.json``.
        frame_numbers: the frames that are there.
        shown: for each object id in the masks the frame numbers that show it.

    Returns:
        One phrase per contradiction; empty when there is none.
    """
    listed = {one.id: one for one in objects}
    found = []
    if unknown := sorted(set(shown) - set(listed)):
        found.append(f"masks show object {_names(unknown)}, which meta.json does not list")
    if absent := sorted(set(listed) - set(shown)):
        found.append(f"meta.json lists object {_names(absent)}, which no mask shows")
    for number in sorted(set(shown) & set(listed)):
        extra = sorted(set(shown[number]) - set(listed[number].frames))
        if listed[number].frames and extra:
            found.append(f"masks show object {number} in frame {_names(extra)}, where meta.json does not list it")
    if missing := sorted({number for one in objects for number in one.frames} - set(frame_numbers)):
        found.append(f"meta.json lists frame {_names(missing)}, which is not there")
    return found


def _names(numbers: list[int], most: int = 5) -> str:
    text = ", ".join(str(number) for number in numbers[:most])
    return text if len(numbers) <= most else f"{text} and {len(numbers) - most} more"


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path} is not readable JSON: {error}. Extract it again") from None
    return content if isinstance(content, dict) else {}


def _read_objects(video: Any, where: str) -> tuple[ObjectMeta, ...]:
    objects = video.get("objects") if isinstance(video, dict) else None
    if not isinstance(objects, dict):
        raise DatasetError(f"{where}: expected an object with the key 'objects'")
    read = [_read_object(key, value, f"{where}, object {key}") for key, value in objects.items()]
    return tuple(sorted(read, key=lambda one: one.id))


def _read_object(key: str, value: Any, where: str) -> ObjectMeta:
    if not isinstance(value, dict):
        raise DatasetError(f"{where}: expected an object with the keys 'category' and 'frames'")
    frames = value.get("frames", [])
    try:
        return ObjectMeta(
            id=_object_id(key),
            category=str(value.get("category", "")),
            frames=tuple(sorted(int(frame) for frame in frames)),
        )
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{where}: {error}") from None


def _object_id(key: str) -> int:
    number = int(key)
    if not 1 <= number <= MAX_OBJECT_ID:
        raise ValueError(f"object ids lie in 1..{MAX_OBJECT_ID}, got {number}")
    return number
