"""How objects fill, cross and hide in videos, measured alike on real shard sets and on scenes that are yet to be made.

Everything follows from areas and boxes of the objects' visible pixels, which the index of a shard set holds, so none of
its pixels is read. Videos are cut into windows of equal length, because how far an object comes depends on how long one
looks; a frame is one that is stored. Each of the five statistics is a sample of numbers:

    objects     objects that the first frame of a window shows; windows that begin without one are left out
    area        of each object and frame: natural logarithm of its share of the frame
    speed       of each object and two frames in a row: way of its box's centre, in frame diagonals per frame
    scale       of each object in the first and last frame of a window: by what factor its size (square root of the
                area) grows or shrinks, as the natural logarithm without sign
    occlusion   of each object in a window's first frame: the largest share of it that goes missing in a frame, compared
                with the even growth (a line through the logarithms of its areas) that fits the window best; 1 where it
                is gone. Whether another object, the border or something without a mask hides it makes no difference.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shards.errors import DatasetError
from shards.index import IndexEntry
from shards.masks import object_stats
from shards.reader import ShardSet

NAMES = ("objects", "area", "speed", "scale", "occlusion")


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """The five samples, each ``float64 (n,)`` and ascending."""

    objects: NDArray[np.float64]
    """Objects at the start of each window."""

    area: NDArray[np.float64]
    """Logarithms of shares of the frame."""

    speed: NDArray[np.float64]
    """Frame diagonals per frame."""

    scale: NDArray[np.float64]
    """Logarithms of factors, without sign."""

    occlusion: NDArray[np.float64]
    """Largest shares that go missing, 0..1."""

    def sample(self, name: str) -> NDArray[np.float64]:
        """One of them, by its name in ``NAMES``."""
        values: NDArray[np.float64] = getattr(self, name)
        return values


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Where the N objects of T frames in a row are."""

    areas: NDArray[np.int64]
    """``int64 (T, N)``: visible pixels, 0 where an object cannot be seen."""

    boxes: NDArray[np.int64]
    """``int64 (T, N, 4)``: x0, y0, x1, y1 in pixels, end-exclusive."""

    size: tuple[int, int]
    """Height and width of the frame in pixels."""


def measure_set(shard_set: ShardSet, num_frames: int) -> Statistics:
    """Statistics of a shard set in windows of ``num_frames`` frames.

    Raises:
        DatasetError: no window of annotated frames shows an object.
    """
    windows = (window for number in range(len(shard_set)) for window in _windows(shard_set.entry(number), num_frames))
    statistics = summarise(windows)
    if statistics is None:
        raise DatasetError(
            f"{shard_set.path}: no {num_frames} annotated frames in a row begin with an object; "
            "statistics need such videos"
        )
    return statistics


def track_masks(masks: NDArray[np.uint8]) -> Track:
    """Areas and boxes of the objects in masks ``uint8 (T, H, W)``."""
    ids = np.setdiff1d(np.unique(masks), [0, 255])
    areas = np.zeros((len(masks), len(ids)), np.int64)
    boxes = np.zeros((len(masks), len(ids), 4), np.int64)
    for t, mask in enumerate(masks):
        stats = object_stats(mask)
        places = np.searchsorted(ids, stats.ids)
        areas[t, places], boxes[t, places] = stats.areas, stats.boxes
    return Track(areas, boxes, (masks.shape[1], masks.shape[2]))


def summarise(windows: Iterable[Track]) -> Statistics | None:
    """The statistics of windows; None when none of them begins with an object."""
    samples: dict[str, list[NDArray[np.float64]]] = {name: [] for name in NAMES}
    for window in windows:
        if window.areas[0].any():
            for name, values in zip(NAMES, _measure(window), strict=True):
                samples[name].append(values)
    if not samples["objects"]:
        return None
    return Statistics(**{name: np.sort(np.concatenate(values)) for name, values in samples.items()})


def distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Wasserstein distance of order 1 between two ascending samples, in their unit.

    It is the area between their distribution functions; infinite when one sample is empty and the other is not.
    """
    if not len(one) or not len(other):
        return 0.0 if len(one) == len(other) else float("inf")
    values = np.sort(np.concatenate([one, other]))
    below = [np.searchsorted(sample, values[:-1], side="right") / len(sample) for sample in (one, other)]
    return float(np.abs(below[0] - below[1]) @ np.diff(values))


def _windows(entry: IndexEntry, num_frames: int) -> Iterator[Track]:
    """Windows of annotated frames, one after the other; a shorter video is one window, of at least two frames."""
    annotated = np.flatnonzero(entry.annotated)
    length = min(num_frames, len(entry.annotated))
    for begin in range(0, len(entry.annotated) - length + 1, length):
        if length >= min(2, num_frames) and np.isin(np.arange(begin, begin + length), annotated).all():
            frames = slice(begin, begin + length)
            areas, boxes = entry.areas[frames].astype(np.int64), entry.boxes[frames].astype(np.int64)
            yield Track(areas, boxes, (entry.height, entry.width))


def _measure(window: Track) -> tuple[NDArray[np.float64], ...]:
    """One window's share of each sample, in the order of ``NAMES``."""
    seen = window.areas > 0
    height, width = window.size
    logs = np.log(np.maximum(window.areas, 1) / (height * width))
    centres = (window.boxes[..., :2] + window.boxes[..., 2:]) / 2
    ways = np.linalg.norm(np.diff(centres, axis=0), axis=2) / np.hypot(height, width)
    return (
        np.array([float(seen[0].sum())]),
        logs[seen],
        ways[seen[1:] & seen[:-1]],
        np.abs(logs[-1] - logs[0])[seen[0] & seen[-1]] / 2 if len(seen) > 1 else np.empty(0),
        np.array([_largest_drop(logs[:, number], seen[:, number]) for number in np.flatnonzero(seen[0])]),
    )


def _largest_drop(logs: NDArray[np.float64], seen: NDArray[np.bool_]) -> float:
    """Largest share that goes missing, in [0, 1]: see the module."""
    if not seen.all():
        return 1.0
    times = np.arange(len(logs)) - (len(logs) - 1) / 2
    slope = float(times @ logs) / max(float(times @ times), 1.0)
    return float(1.0 - np.exp((logs - logs.mean() - slope * times).min()))
