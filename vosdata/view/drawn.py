"""Videos with their masks drawn in, whether they lie in a shard set, a dataset folder or a folder of predictions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.errors import DatasetError
from shards.remote.location import is_url
from vosdata.datasets.recognise import find_datasets
from vosdata.datasets.videos import StoredVideo, Video, looks_like_shard_set, open_videos
from vosdata.evaluate.truth import AnnotatedVideo, MaskFolder, open_mask_folders
from vosdata.frames import numbered_files
from vosdata.view.overlay import mask_picture, overlay
from vosdata.view.sheet import captioned, contact_sheet, resized

if TYPE_CHECKING:
    from vosdata.view.truth_panels import TruthPanels

Picture = NDArray[np.uint8]

USUAL_FRAME_RATE = 12.0


@dataclass(frozen=True, slots=True)
class DrawnVideo:
    """A sequence ready to be looked at."""

    masks: AnnotatedVideo
    """Where the masks come from: truth or predictions."""

    frames: Video | None
    """Where the frames come from; None shows the masks alone."""

    @property
    def name(self) -> str:
        """Name of the sequence."""
        return self.masks.name

    @property
    def num_frames(self) -> int:
        """Number of pictures."""
        return self.masks.num_frames

    @property
    def frame_rate(self) -> float:
        """Pictures per second to play it at."""
        return (self.frames.frame_rate if self.frames else None) or USUAL_FRAME_RATE

    def number(self, t: int) -> int:
        """Frame number at place t."""
        return self.masks.frame_numbers[t]

    def picture(self, t: int) -> Picture:
        """The frame at place t with its mask drawn in, ``uint8 (H, W, 3)``.

        Raises:
            DatasetError: the sequence with the frames does not have this one, or in another size.
        """
        mask = self.masks.mask(t)
        if self.frames is None:
            if mask is None:
                raise DatasetError(f"{self.name}: frame {self.number(t)} has neither picture nor mask")
            return mask_picture(mask)
        numbers = self.frames.frame_numbers
        if self.number(t) not in numbers:
            raise DatasetError(f"{self.name}: there is no frame {self.number(t)} to draw the mask over")
        frame = self.frames.frame(numbers.index(self.number(t)))
        if mask is None:
            return frame
        if mask.shape != frame.shape[:2]:
            mask_size, frame_size = ("x".join(str(side) for side in one.shape[:2]) for one in (mask, frame))
            raise DatasetError(f"{self.name}: mask of frame {self.number(t)} is {mask_size}, the frame is {frame_size}")
        return overlay(frame, mask)

    def panels(self, t: int) -> dict[str, Picture]:
        """What there is to see of the frame at place t, by name: :meth:`picture`, or all that exact truth shows."""
        truth = self._truth()
        return {"": self.picture(t)} if truth is None else truth.panels(t)

    def _truth(self) -> "TruthPanels | None":
        from vosdata.view.truth_panels import TruthPanels

        found = TruthPanels(self.frames) if isinstance(self.frames, StoredVideo) else None
        return found if found is not None and found.kinds != ["ids"] else None


def open_drawn(path: Path, split: str | None = None, frames_from: Path | None = None) -> list[DrawnVideo]:
    """Opens whatever can be looked at.

    Args:
        path: a shard set, a dataset folder, a folder of predictions, or a folder of PNG masks of one sequence.
        split: of a dataset folder; None takes the one to evaluate on.
        frames_from: shard set or dataset folder with the frames to draw predictions over; None shows masks alone.

    Raises:
        DatasetError: nothing is recognised.
        ShardError: the shard set is incomplete or damaged.
        ValueError: frames were named although the path holds its own.
    """
    if not path.is_dir() and not is_url(path):
        raise DatasetError(f"{path}: {'is a file, expected a folder' if path.exists() else 'there is no such folder'}")
    if looks_like_shard_set(path) or find_datasets(path):
        if frames_from is not None:
            raise ValueError(f"{path} holds its own frames; take others only for a folder of predictions")
        return [DrawnVideo(video, video) for video in open_videos(path, split)]
    if inside := [child.name for child in sorted(path.iterdir()) if looks_like_shard_set(child)]:
        raise DatasetError(f"{path} holds {len(inside)} shard sets; look at one of them, such as {path / inside[0]}")
    masks = [MaskFolder(path)] if numbered_files(path, (".png",)) else open_mask_folders(path, split)
    if frames_from is None:
        return [DrawnVideo(folder, None) for folder in masks]
    frames = {video.name: video for video in open_videos(frames_from, split)}
    missing = [folder.name for folder in masks if folder.name not in frames]
    if missing:
        raise DatasetError(f"{frames_from}: has no sequence {missing[0]} to draw the masks over")
    return [DrawnVideo(folder, frames[folder.name]) for folder in masks]


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` places out of 0..count-1, evenly spread, first and last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, wanted))})


def sheet(videos: Sequence[DrawnVideo], columns: int, tile_height: int) -> Picture:
    """A contact sheet: some frames of each sequence, evenly spread, with their numbers; a row per kind of truth."""
    rows: list[tuple[str, list[Picture]]] = []
    for video in videos:
        places = spread(video.num_frames, columns)
        panels = [video.panels(t) for t in places]
        title = f"{video.name}, {video.num_frames} frames"
        for kind in panels[0]:
            tiles = [_tile(one[kind], video.number(t), tile_height) for t, one in zip(places, panels, strict=True)]
            rows.append((f"{title}: {kind}" if kind else title, tiles))
    return contact_sheet(rows, tile_height)


def _tile(picture: Picture, number: int, height: int) -> Picture:
    return captioned(resized(picture, height), str(number))


def play(videos: Sequence[DrawnVideo]) -> Iterator[Picture]:
    """All frames of the videos one after another, fitted into the size of the first one, with names and numbers.

    What there is to see of a frame besides its mask stands beside it.
    """
    size: tuple[int, int] | None = None
    for video in videos:
        for t in range(video.num_frames):
            drawn = np.hstack(list(video.panels(t).values()))
            size = size or (drawn.shape[0], drawn.shape[1])
            yield captioned(fitted(drawn, *size), f"{video.name} {video.number(t)}")


def fitted(picture: Picture, height: int, width: int) -> Picture:
    """The whole picture, in its proportions, in the middle of black ``uint8 (height, width, 3)``."""
    if picture.shape[:2] == (height, width):
        return picture
    scale = min(height / picture.shape[0], width / picture.shape[1])
    inside = resized(picture, max(1, round(picture.shape[0] * scale)))
    top, left = (height - inside.shape[0]) // 2, max(0, (width - inside.shape[1]) // 2)
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    canvas[top : top + inside.shape[0], left : left + inside.shape[1]] = inside[:, :width]
    return canvas


def write_picture(path: Path, rgb: Picture) -> None:
    """Writes a JPEG or PNG, by the suffix.

    Raises:
        ValueError: the suffix is neither.
    """
    from shards.atomic import write_atomically
    from shards.codec import encode_jpeg

    if path.suffix in (".jpg", ".jpeg"):
        data = encode_jpeg(rgb, quality=92)
    elif path.suffix == ".png":
        data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()
    else:
        raise ValueError(f"{path}: pictures are written as .jpg or .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
