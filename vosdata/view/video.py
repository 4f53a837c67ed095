"""Writes videos that browsers play: H.264 through PyAV when it is installed, else animated WebP."""

import importlib.util
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]

QUALITY_CRF = "20"
"""Constant rate factor of x264: 18 looks like the source, 23 is its default."""

MAX_WEBP_FRAMES = 240
"""An animated WebP is held in memory until it is whole, so that longer videos are thinned out to this many frames."""

MAX_WEBP_HEIGHT = 360


def write_video(path: Path, frames: Iterable[Picture], fps: float = 24.0) -> Path:
    """Writes pictures of one size as a video; memory does not grow with its length.

    Args:
        path: wanted file; ``.mp4`` becomes ``.webp`` where H.264 cannot be written, and ``.webp`` is always honoured.
        frames: ``uint8 (H, W, 3)`` each.
        fps: frames per second, above 0.

    Returns:
        The file that was written.

    Raises:
        ValueError: there is no frame, frames differ in size, or fps is not above 0.
    """
    if fps <= 0:
        raise ValueError(f"a video needs more than 0 frames per second, got {fps}")
    checked = _of_one_size(frames)
    first = next(checked, None)
    if first is None:
        raise ValueError("a video needs at least one frame")
    use_h264 = path.suffix != ".webp" and importlib.util.find_spec("av") is not None
    target = path.with_suffix(".mp4" if use_h264 else ".webp")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        part.touch()  # what is wrong with the folder is said with its path, which the encoder leaves out
        (_write_h264 if use_h264 else _write_webp)(part, chain([first], checked), fps)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _of_one_size(frames: Iterable[Picture]) -> Iterator[Picture]:
    shape: tuple[int, ...] | None = None
    for frame in frames:
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ValueError(f"a frame must be uint8 (H, W, 3), got {frame.dtype} {frame.shape}")
        if shape not in (None, frame.shape):
            raise ValueError(f"frames of a video must have one size, got {shape} and {frame.shape}")
        shape = frame.shape
        yield frame


def _write_h264(path: Path, frames: Iterator[Picture], fps: float) -> None:
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = None
        for frame in frames:
            even = _even(frame)
            if stream is None:
                rate = Fraction(fps).limit_denominator(1001)
                stream = container.add_stream("libx264", rate=rate, options={"crf": QUALITY_CRF})
                stream.height, stream.width = even.shape[:2]
                stream.pix_fmt = "yuv420p"  # the only layout that every browser plays
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode(None))


def _even(frame: Picture) -> Picture:
    """Repeats the last row and column where a side is odd: 4:2:0 colour needs even sides."""
    height, width = frame.shape[:2]
    return np.ascontiguousarray(np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))


def _write_webp(path: Path, frames: Iterator[Picture], fps: float) -> None:
    kept: list[Image.Image] = []
    stride = 1
    for t, frame in enumerate(frames):
        if t % stride:
            continue
        if len(kept) == MAX_WEBP_FRAMES:
            kept, stride = kept[::2], 2 * stride
            if t % stride:
                continue
        image = Image.fromarray(frame)
        image.thumbnail((image.width, MAX_WEBP_HEIGHT))
        kept.append(image)
    milliseconds = max(1, round(1000 * stride / fps))
    kept[0].save(
        path, format="WEBP", save_all=True, append_images=kept[1:], duration=milliseconds, loop=0, quality=80, method=2
    )
