"""A video at another size than its own: that at which a network works, or is scored."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vosdata.datasets.videos import Video
from vosdata.streaming.transforms import resize_frame, resize_mask

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SizedVideo:
    """A video brought to a size as snippets are for training; a :class:`vosdata.infer.FramedVideo`."""

    video: Video
    """As it is stored."""

    size: tuple[int, int] | None
    """Height and width that frames are brought to; None keeps them."""

    max_frames: int | None = None
    """Frames that are there, from the first; None for all."""

    @property
    def name(self) -> str:
        """Name of the sequence."""
        return self.video.name

    @property
    def frame_numbers(self) -> list[int]:
        """Frame numbers, rising."""
        return self.video.frame_numbers[: self.max_frames]

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.frame_numbers)

    def frame(self, t: int) -> Picture:
        """Frame ``t``, ``uint8 (H, W, 3)``."""
        stored = self.video.frame(t)
        if self.size is None or stored.shape[:2] == self.size:
            return stored
        frame = np.empty((*self.size, 3), np.uint8)
        resize_frame(stored, frame)
        return frame

    def mask(self, t: int) -> Picture | None:
        """Mask of frame ``t``, ``uint8 (H, W)``; None where it is unannotated."""
        stored = self.video.mask(t)
        if stored is None or self.size is None or stored.shape == self.size:
            return stored
        mask = np.empty(self.size, np.uint8)
        resize_mask(stored, mask)
        return mask
