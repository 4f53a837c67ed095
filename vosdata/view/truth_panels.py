"""Exact truth of synthetic videos as pictures: amodal masks with what is hidden of them, and flow as colours."""

from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.truth import Flow, decode_amodal, decode_flow
from vosdata.datasets.videos import StoredVideo
from vosdata.view.overlay import bright_palette, outline, overlay

Picture = NDArray[np.uint8]

AMODAL, FORWARD, BACKWARD = "amodal.png", "fwdflow.png", "bwdflow.png"
FULL_FLOW = 0.05
"""Motion from one frame to the next that has a full colour, in frame diagonals; slower is paler."""
UNKNOWN_FLOW = 90
"""Gray of pixels whose flow is not known."""


class TruthPanels:
    """A stored video's frames, ids and exact truth, as pictures of one size."""

    def __init__(self, video: StoredVideo) -> None:
        self._video = video
        self._entry = video.shard_set.entry(video.index)

    @property
    def kinds(self) -> list[str]:
        """What there is to see besides the frames: ``"ids"`` and the truth that is stored; ids alone without any."""
        names = {AMODAL: "amodal", FORWARD: "forward flow", BACKWARD: "backward flow"}
        return ["ids"] + [kind for name, kind in names.items() if name in self._entry.extra_names]

    def panels(self, t: int) -> dict[str, Picture]:
        """The frame at place t and all :attr:`kinds`, each ``uint8 (H, W, 3)``.

        A flow that a frame does not have, such as the last frame's to the next, is gray.

        Raises:
            DamageError: stored bytes are damaged.
            BadFileError: stored truth is not of the form that it should have.
        """
        frame, mask = self._video.frame(t), self._video.mask(t)
        found = {"frame": frame}
        for kind in self.kinds:
            if kind == "ids":
                found[kind] = frame if mask is None else overlay(frame, mask)
            elif kind == "amodal":
                found[kind] = self._amodal(t, frame, mask)
            else:
                found[kind] = self._flow(t, FORWARD if kind == "forward flow" else BACKWARD, frame.shape[:2])
        return found

    def _amodal(self, t: int, frame: Picture, mask: Picture | None) -> Picture:
        data = self._bytes(t, AMODAL)
        if data is None or mask is None:
            return frame
        ids = [int(number) for number in self._entry.object_ids]
        return amodal_picture(frame, mask, decode_amodal(data, len(ids)), ids)

    def _flow(self, t: int, name: str, size: tuple[int, ...]) -> Picture:
        data = self._bytes(t, name)
        if data is None:
            return np.full((*size, 3), UNKNOWN_FLOW, np.uint8)
        return flow_picture(decode_flow(data, self._record["truth"]["flow_steps_per_pixel"]))

    def _bytes(self, t: int, name: str) -> memoryview | None:
        return self._video.shard_set.extra_bytes(self._video.index, t, name, self._entry)

    @cached_property
    def _record(self) -> dict[str, Any]:
        return self._video.shard_set.record_json(self._video.index)


def amodal_picture(frame: Picture, mask: Picture, amodal: NDArray[np.bool_], ids: list[int]) -> Picture:
    """A darkened frame with each object's whole outline, and what of it is hidden in its colour.

    Args:
        frame: ``uint8 (H, W, 3)``.
        mask: ``uint8 (H, W)``, ids that are seen.
        amodal: ``bool (N, H, W)``.
        ids: N object ids, in the order of ``amodal``.
    """
    drawn = frame // 2
    colours = bright_palette()
    for number, whole in zip(ids, amodal, strict=True):
        hidden = whole & (mask != number)
        drawn[hidden] = drawn[hidden] // 2 + colours[number] // 2
    for number, whole in zip(ids, amodal, strict=True):
        drawn[outline(whole.astype(np.uint8), width=max(1, round(min(mask.shape) / 150)))] = colours[number]
    return drawn


def flow_picture(flow: Flow) -> Picture:
    """Flow as colours, ``uint8 (H, W, 3)``: the hue is the direction (red to the right), paler is slower.

    Args:
        flow: ``float32 (H, W, 2)``, pixels; NaN where it is not known, which is drawn gray.
    """
    height, width = flow.shape[:2]
    known = ~np.isnan(flow).any(axis=2)
    x, y = np.moveaxis(np.nan_to_num(flow), -1, 0)
    speed = np.hypot(x, y) / (FULL_FLOW * np.hypot(height, width))
    hue = np.degrees(np.arctan2(y, x)) % 360 / 2  # OpenCV has 180 hues
    saturation = np.clip(speed, 0, 1) * 255
    colours = np.stack([np.round(hue) % 180, saturation, np.full_like(hue, 255)], axis=2).astype(np.uint8)
    drawn: Picture = cv2.cvtColor(colours, cv2.COLOR_HSV2RGB)
    drawn[~known] = UNKNOWN_FLOW
    return drawn
