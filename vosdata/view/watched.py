"""A video as a network sees it: its masks over time, coarse and final, and what its appearance module thinks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.types import VOID
from vosdata.evaluate.measures import region_similarity
from vosdata.given import FirstAppearances
from vosdata.infer import FramedVideo

if TYPE_CHECKING:
    from torch import Tensor

    from vosdata.models.agame import AGAME
    from vosdata.models.agame.padding import ReflectionPadding

Picture = NDArray[np.uint8]
Map = NDArray[np.float32]
"""``float32 (H, W)``, 0..1, of the frame's size."""

COMPONENTS = ("background", "target", "residual background", "residual target")
COLOURS = np.array([(58, 66, 80), (226, 62, 48), (64, 170, 92), (240, 180, 50)], np.uint8)
"""Of the components: red for the target and green for what might be taken for it, as in the paper's figure 3."""


@dataclass(frozen=True, slots=True, eq=False)
class WatchedFrame:
    """One frame, what was found in it, and why."""

    number: int
    """Frame number."""

    rgb: Picture
    """``uint8 (H, W, 3)``."""

    mask: Picture
    """``uint8 (H, W)``, ids as found."""

    truth: Picture | None
    """``uint8 (H, W)``, or None where the frame is unannotated."""

    coarse: Map | None
    """How likely the first object is in the coarse mask; None in frames where nothing was predicted."""

    components: Sequence[Map]
    """How likely each component of the first object's appearance model is, in order of :data:`COMPONENTS`; empty where
    nothing was predicted, or where the network has no appearance module."""


@dataclass(frozen=True, slots=True, eq=False)
class WatchedVideo:
    """A video and what was seen in it."""

    name: str
    """The sequence."""

    frames: Sequence[WatchedFrame]
    """Those that were to be kept."""

    j: float | None
    """Mean J of objects over annotated frames after their first; None where there is none.

    It orders what is shown. Benchmarks have their own rules for the last frame and for objects that join late.
    """


def watch(model: "AGAME", video: FramedVideo, places: Collection[int]) -> WatchedVideo:
    """Segments a video from its annotations, each object from the first that shows it.

    Args:
        model: the network.
        video: of any length; only the frames to be kept are held in memory.
        places: of the frames to keep.
    """
    from vosdata.models.agame import VideoSegmenter
    from vosdata.models.agame.network import STRIDE
    from vosdata.models.agame.padding import ReflectionPadding
    from vosdata.models.agame.watching import watching

    segmenter, appearances = VideoSegmenter(model), FirstAppearances()
    frames: list[WatchedFrame] = []
    overlaps: list[float] = []
    with watching(model) as seen:
        for t in range(video.num_frames):
            rgb, truth = video.frame(t), video.mask(t)
            followed = segmenter.object_ids
            seen.coarse = seen.posteriors = None
            mask = segmenter.step(rgb, appearances.given(truth))
            overlaps += _overlaps(truth, mask, followed)
            if t in places:
                padding = ReflectionPadding(rgb.shape[0], rgb.shape[1], STRIDE, model.device)
                coarse = None if seen.coarse is None else _enlarged(seen.coarse[:1], padding)[0]
                components = () if seen.posteriors is None else _enlarged(seen.posteriors[0], padding)
                frames.append(WatchedFrame(video.frame_numbers[t], rgb, mask, truth, coarse, components))
    return WatchedVideo(video.name, frames, float(np.mean(overlaps)) if overlaps else None)


def _overlaps(truth: Picture | None, mask: Picture, followed: Sequence[int]) -> list[float]:
    if truth is None:
        return []
    known = truth != VOID
    return [region_similarity(truth == number, (mask == number) & known) for number in followed]


def _enlarged(maps: "Tensor", padding: "ReflectionPadding") -> list[Map]:
    """Maps (K, h, w) at stride 16 of the padded frame, brought to the size of the frame."""
    from torch.nn.functional import interpolate

    from vosdata.models.agame.network import STRIDE

    if not len(maps):
        return []
    large = interpolate(maps[None].float(), scale_factor=STRIDE, mode="bilinear", align_corners=False)[0]
    return list(padding.crop(large).cpu().numpy())


def heat(plane: Map) -> Picture:
    """A map as colours from dark to bright, ``uint8 (H, W, 3)``."""
    levels = np.round(np.clip(plane, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1])


def likeliest(components: Sequence[Map]) -> Picture:
    """The likeliest component of each pixel in its colour, ``uint8 (H, W, 3)``."""
    colours: Picture = COLOURS[np.argmax(np.stack(components), axis=0)]
    return colours
