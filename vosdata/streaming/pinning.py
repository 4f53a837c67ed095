"""Lets the GPU fetch batches straight out of batch memory, in the background, while the trainer goes on.

Memory that CUDA does not know is copied twice, and the trainer waits for it. Registered ("pinned") memory is read by
the GPU itself; ``batch.to(device, non_blocking=True)`` then returns at once. So memory may only be filled again when
what the GPU was asked to read before is done: that is what a fence is for.
"""

import weakref
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray


class CudaPinning:
    """Registers memory with CUDA and says when the GPU is done with it."""

    def register(self, memory: NDArray[np.uint8]) -> None:
        """Pins memory as long as it exists; memory that cannot be pinned stays ordinary memory, only slower.

        Args:
            memory: C-contiguous; an array whose base outlives all that look into it.
        """
        cudart = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        address = memory.ctypes.data
        if int(cudart.cudaHostRegister(address, memory.nbytes, 0)) == 0:
            owner = memory if memory.base is None else memory.base
            weakref.finalize(owner, cudart.cudaHostUnregister, address).atexit = False

    def fence(self) -> Callable[[], object]:
        """Marks what the GPU has been asked to do so far on the current stream; returns a call that waits for it."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event.synchronize


def cuda_pinning() -> CudaPinning | None:
    """Pinning where this process can use CUDA, else None."""
    # a process that was forked off one that uses CUDA cannot use it, and asking for it would raise
    if not torch.cuda.is_available() or torch.cuda._is_in_bad_fork():
        return None
    return CudaPinning()
