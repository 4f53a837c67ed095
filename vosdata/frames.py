"""Reads frames one by one from a video file or a folder of pictures, so that memory does not grow with the length."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.codec import check_upright, decode_image
from shards.errors import BadFileError, SourceError
from vosdata.datasets.listing import PICTURE_SUFFIXES, frame_number, is_visible


class NumberedFrame(NamedTuple):
    """One frame of a video."""

    number: int
    """Frame number: the integer in the picture's file name, or the place in a video file, from 0."""

    rgb: NDArray[np.uint8]
    """``uint8 (H, W, 3)``."""


class FrameSource(Protocol):
    """A video to read from; iterating starts from its first frame."""

    @property
    def frame_rate(self) -> float | None:
        """Frames per second; None when unknown."""

    @property
    def first_number(self) -> int:
        """Number of the first frame."""

    @property
    def num_frames(self) -> int | None:
        """Number of frames as far as it is known before they are read."""

    def __iter__(self) -> Iterator[NumberedFrame]:
        """Yields the frames in order of time.

        Raises:
            BadFileError: a frame cannot be decoded.
        """


def open_frames(path: Path) -> FrameSource:
    """Opens a video file or a folder of JPEG or PNG frames.

    Raises:
        SourceError: there is nothing at the path, the folder holds no frames, or the file is no video.
    """
    if path.is_dir():
        return FrameFolder(path)
    if not path.is_file():
        raise SourceError(f"{path}: there is no such video file or folder of frames")
    return VideoFile(path)


def numbered_files(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """The files of a folder by the frame number in their name, in its order; others are passed over.

    Args:
        folder: where to look, not below it.
        suffixes: of file names, in lower case and with the dot.

    Raises:
        SourceError: two files have the same number.
    """
    found: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        number = frame_number(file.name)
        if file.suffix.lower() not in suffixes or not is_visible(file.name) or number is None:
            continue
        if number in found:
            raise SourceError(f"{folder}: {found[number].name} and {file.name} have the same frame number {number}")
        found[number] = file
    return dict(sorted(found.items()))


class FrameFolder:
    """Frames as picture files, ordered by the number in their names."""

    frame_rate: float | None = None

    def __init__(self, path: Path) -> None:
        """Lists the frames.

        Raises:
            SourceError: there are none, or two share a number.
        """
        self._files = numbered_files(path, PICTURE_SUFFIXES)
        if not self._files:
            raise SourceError(f"{path}: holds no frames; expected JPEG or PNG pictures named by number")

    @property
    def first_number(self) -> int:
        """The lowest frame number."""
        return min(self._files)

    @property
    def num_frames(self) -> int | None:
        """Number of pictures."""
        return len(self._files)

    def __iter__(self) -> Iterator[NumberedFrame]:
        """Reads the pictures in order of their numbers."""
        for number, file in self._files.items():
            try:
                data = file.read_bytes()
                check_upright(data)
                rgb = decode_image(data)
            except BadFileError as error:
                raise BadFileError(f"{file}: {error}") from error
            yield NumberedFrame(number, rgb)


class VideoFile:
    """Frames of a video file: decoded by PyAV when it is installed, else by OpenCV."""

    first_number = 0

    def __init__(self, path: Path) -> None:
        """Opens the file to see what it is.

        Raises:
            BadFileError: it holds no video that can be decoded.
        """
        self._path = path
        self._use_av = importlib.util.find_spec("av") is not None
        self._frame_rate, self._num_frames = _probe_by_av(path) if self._use_av else _probe_by_cv2(path)

    @property
    def frame_rate(self) -> float | None:
        """Average frames per second; None when the file does not say."""
        return self._frame_rate

    @property
    def num_frames(self) -> int | None:
        """Number of frames as the file states it; None when it does not."""
        return self._num_frames

    def __iter__(self) -> Iterator[NumberedFrame]:
        """Decodes the frames, turned upright where the file says that the camera was not."""
        frames = _frames_by_av(self._path) if self._use_av else _frames_by_cv2(self._path)
        number = -1
        for number, rgb in enumerate(frames):
            yield NumberedFrame(number, rgb)
        if number < 0:
            raise BadFileError(f"{self._path}: no frame of this video can be decoded")


def _probe_by_av(path: Path) -> tuple[float | None, int | None]:
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BadFileError(f"{path}: holds no video stream")
            stream = container.streams.video[0]
            return (float(stream.average_rate) if stream.average_rate else None), stream.frames or None
    except av.error.FFmpegError as error:
        raise BadFileError(f"{path}: cannot be read as a video ({error.strerror})") from error


def _frames_by_av(path: Path) -> Iterator[NDArray[np.uint8]]:
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                rgb: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
                yield np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))
    except av.error.FFmpegError as error:
        raise BadFileError(f"{path}: the video is damaged or cut off ({error.strerror})") from error


def _open_by_cv2(path: Path) -> Any:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise BadFileError(f"{path}: cannot be read as a video")
    return capture


def _probe_by_cv2(path: Path) -> tuple[float | None, int | None]:
    capture = _open_by_cv2(path)
    rate, count = float(capture.get(cv2.CAP_PROP_FPS)), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return (rate if rate > 0 else None), (count if count > 0 else None)


def _frames_by_cv2(path: Path) -> Iterator[NDArray[np.uint8]]:
    capture = _open_by_cv2(path)
    try:
        while True:
            is_read, bgr = capture.read()
            if not is_read:
                return
            yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
