"""Given masks: what a model may see of the truth, namely each object once, in the frame where it first appears."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.errors import BadFileError, SourceError
from shards.masks import decode_mask, mask_size
from shards.types import BACKGROUND, VOID
from vosdata.datasets.annotation import COLOUR_TYPE_OFFSET, GRAY
from vosdata.datasets.listing import frame_number
from vosdata.frames import numbered_files

Mask = NDArray[np.uint8]


class FirstAppearances:
    """Reduces the annotations of one sequence, shown in order of time, to given masks."""

    def __init__(self) -> None:
        self._is_new = np.ones(256, dtype=np.bool_)
        self._is_new[[BACKGROUND, VOID]] = False

    def given(self, annotation: Mask | None) -> Mask | None:
        """The objects that no earlier frame had.

        Args:
            annotation: ``uint8 (H, W)``, or None where the frame is unannotated.

        Returns:
            ``uint8 (H, W)`` with the new object ids and background elsewhere, or None where nothing is new. Void is
            background here, since it names no object to follow.
        """
        if annotation is None:
            return None
        given = np.where(self._is_new[annotation], annotation, np.uint8(BACKGROUND))
        if not given.any():
            return None
        self._is_new[given] = False
        return given


class GivenMaskFiles:
    """Mask files that somebody drew for frames of a video."""

    def __init__(self, paths: Iterable[Path], first_number: int) -> None:
        """Finds out which file belongs to which frame.

        Args:
            paths: PNG files, or folders of PNG files. A file that comes first is the first frame's, whatever its name;
                the frame of any other file is the number in its name.
            first_number: frame number of the first frame.

        Raises:
            SourceError: a path is missing, a folder is empty, a name has no number, or two masks are of one frame.
            BadFileError: a file is damaged or a colour picture, or no mask shows any object.
        """
        self._files: dict[int, Path] = {}
        for place, path in enumerate(paths):
            numbered = _numbered(path, first_number if place == 0 else None)
            for number in sorted(self._files.keys() & numbered.keys()):
                raise SourceError(f"{self._files[number]} and {numbered[number]} are both masks of frame {number}")
            self._files |= numbered
        self._unread = set(self._files)
        if not any(_shows_object(read_drawn_mask(file)) for file in self._files.values()):
            named = ", ".join(str(file) for file in list(self._files.values())[:3])
            raise BadFileError(f"{named}: shows no object; paint object ids 1, 2, ... or white on black")

    def check_size(self, height: int, width: int) -> None:
        """Makes sure that all masks fit the frames, before any work is done.

        Raises:
            BadFileError: a mask is of another size.
        """
        for file in self._files.values():
            size = mask_size(file.read_bytes())
            if size != (height, width):
                raise BadFileError(
                    f"{file}: the mask is {size[0]}x{size[1]}, the frames are {height}x{width}. Draw it at their size"
                )

    def read(self, number: int) -> Mask | None:
        """The mask of a frame, ``uint8 (H, W)``, or None where there is none.

        Raises:
            BadFileError: the file is damaged or a colour picture.
        """
        self._unread.discard(number)
        return read_drawn_mask(self._files[number]) if number in self._files else None

    def check_all_read(self) -> None:
        """Makes sure that no mask was for a frame that never came.

        Raises:
            SourceError: one was.
        """
        if self._unread:
            number = min(self._unread)
            raise SourceError(f"{self._files[number]}: the video has no frame {number}, so this mask was not used")

    def digests(self) -> dict[str, str]:
        """Hash of each file by frame number."""
        return {
            str(number): hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
            for number, file in sorted(self._files.items())
        }


def _numbered(path: Path, number: int | None) -> dict[int, Path]:
    if path.is_dir():
        files = numbered_files(path, (".png",))
        if not files:
            raise SourceError(f"{path}: holds no mask; expected PNG files named by frame number")
        return files
    if not path.is_file():
        raise SourceError(f"{path}: there is no such mask")
    number = frame_number(path.name) if number is None else number
    if number is None:
        raise SourceError(f"{path}: its name has no frame number, so it is unclear which frame it belongs to")
    return {number: path}


def _shows_object(mask: Mask) -> bool:
    return bool(np.any((mask != BACKGROUND) & (mask != VOID)))


def read_drawn_mask(path: Path) -> Mask:
    """Reads a single mask: palette or gray ids, or a gray 0/255 picture, whose 255 is object 1.

    Returns:
        ``uint8 (H, W)``: 0 background, 1..254 object ids, 255 void.

    Raises:
        BadFileError: the file is damaged or a colour picture.
    """
    try:
        data = path.read_bytes()
        mask = decode_mask(data)
    except BadFileError as error:
        raise BadFileError(f"{path}: {error}") from error
    if data[COLOUR_TYPE_OFFSET] == GRAY and not _shows_object(mask):
        return np.where(mask == VOID, np.uint8(1), mask)
    return mask
