"""Brings batches to the training device while it is still busy with the batch before."""

import torch

from vosdata.batch import SnippetBatch


class BatchCopier:
    """Copies batches to a device.

    A GPU is asked to copy on a CUDA stream of its own. A step never waits for the GPU, so the trainer asks for the next
    batch's copy while the GPU still computes; the stream lets both go on at once. What is asked for later on the stream
    that was current waits for the copy, so the batch can be used, and let go, as if it had been copied there.

    Args:
        device: where to.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __call__(self, batch: SnippetBatch) -> SnippetBatch:
        """The same batch on the device."""
        if self._stream is None:
            return batch.to(self._device, non_blocking=True)
        current = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            copied = batch.to(self._device, non_blocking=True)
        current.wait_stream(self._stream)
        for tensor in (copied.frames, copied.masks, copied.annotated):
            tensor.record_stream(current)  # its memory is the copying stream's, but the current one uses it
        return copied
