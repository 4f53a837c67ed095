"""What is stored: a record is one sequence as bytes and masks.

Shapes: T frames, H height, W width, N objects. A mask is ``uint8 (H, W)``: 0 background, 1..254 object ids, 255 void
(truth unknown). A frame that has no annotation at all carries no mask; that is a flag per frame, never a pixel value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BACKGROUND = 0
VOID = 255
MAX_OBJECT_ID = 254


@dataclass(frozen=True, slots=True, eq=False)
class StoredFrame:
    """One frame of a record."""

    number: int
    """Frame number: the integer in the frame's file name, 0 <= number < 100_000_000; gaps are allowed."""

    image: bytes
    """The encoded picture, a JPEG or PNG file as bytes; original bytes where the source was packed at native size."""

    mask: NDArray[np.uint8] | None
    """Index mask ``uint8 (H, W)``, or None when the frame is unannotated."""

    extras: Mapping[str, bytes] = field(default_factory=dict)
    """Further files of this frame, such as ``{"amodal.png": ...}``: a word of 1 to 7 letters and a suffix of 1 to 3."""

    def __repr__(self) -> str:
        mask = "unannotated" if self.mask is None else f"mask {self.mask.shape[0]}x{self.mask.shape[1]}"
        extras = "".join(f", {name}" for name in self.extras)
        return f"StoredFrame({self.number}, {len(self.image)} image bytes, {mask}{extras})"


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One sequence as it goes into a shard."""

    sequence: str
    """Name of the sequence as its dataset published it; any printable text."""

    frames: tuple[StoredFrame, ...]
    """Frames in order of time; frame numbers strictly increase."""

    height: int
    """Height of every frame and mask in pixels."""

    width: int
    """Width of every frame and mask in pixels."""

    source: str = ""
    """Where the pixels came from, e.g. ``"DAVIS 2017"`` or the source names of a synthetic video."""

    licence: str = ""
    """Licence of the pixels as the source states it; empty when unknown."""

    provenance: str = ""
    """How the record was made, in one line."""

    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the record's JSON, e.g. ``{"scene": {...}}``: JSON values, equal keys and types in a set."""

    def __repr__(self) -> str:
        return f"Record({self.sequence!r}, {len(self.frames)} frames of {self.height}x{self.width})"
