"""Batch memory that two processes share: a ring of equal slots in one piece of memory without a name.

Nothing of it can be left behind: the memory is gone when the last process that has it open or mapped is gone, however
it ended. It is not subject to the size of ``/dev/shm``. All pages are there from the start, so that writing a batch
meets no fresh page.
"""

import math
import mmap
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 4096
"""Slots start at a page, in bytes."""


@dataclass(frozen=True, slots=True)
class RingLayout:
    """Where things lie in the ring."""

    shape: tuple[int, int, int, int]
    """(B, T, H, W) of a batch."""

    num_slots: int
    """Batches in the ring."""

    @property
    def slot_size(self) -> int:
        """Bytes from one slot to the next: frames, masks and annotated flags of a batch."""
        size = 4 * math.prod(self.shape) + math.prod(self.shape[:2])
        return -(-size // _ALIGNMENT) * _ALIGNMENT

    @property
    def size(self) -> int:
        """Bytes of the whole ring."""
        return self.num_slots * self.slot_size

    def arrays(self, slot: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
        """Views on a slot: frames ``uint8 (B, T, H, W, 3)``, masks ``uint8 (B, T, H, W)``, flags ``bool (B, T)``."""
        num_pixels, num_frames = math.prod(self.shape), math.prod(self.shape[:2])
        frames, masks = slot[: 3 * num_pixels], slot[3 * num_pixels : 4 * num_pixels]
        annotated = slot[4 * num_pixels : 4 * num_pixels + num_frames].view(np.bool_)
        return frames.reshape(*self.shape, 3), masks.reshape(self.shape), annotated.reshape(self.shape[:2])


class _Mapping:
    """Keeps a mapping open for the arrays that look into it, and can be told when the last one is gone."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return np.frombuffer(self._memory, np.uint8).__array_interface__


def create_ring(layout: RingLayout) -> int:
    """Makes the memory of a ring.

    Returns:
        A file descriptor, which the caller closes; the memory lives on as long as it is mapped.

    Raises:
        OSError: the system has not that much memory, or cannot make memory without a name.
    """
    descriptor = os.memfd_create("vosdata-ring")
    try:
        os.posix_fallocate(descriptor, 0, layout.size)  # an error now, instead of a bus error when memory runs out
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def map_ring(descriptor: int, layout: RingLayout) -> NDArray[np.uint8]:
    """Maps a ring with all its pages: ``uint8 (num_slots, slot_size)``. It is unmapped when no array looks into it."""
    memory = mmap.mmap(descriptor, layout.size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
    return np.asarray(_Mapping(memory)).reshape(layout.num_slots, layout.slot_size)
