"""What a stream yields: the snippets of one training step, as tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from shards.types import VOID


@dataclass(frozen=True, slots=True, eq=False)
class SnippetBatch:
    """B snippets of T frames. Still bytes: normalise on the device.

    The memory of a batch belongs to whoever holds it: it never changes while a tensor that looks into it is alive. Let
    batches go when they are used up, and the stream uses their memory again.
    """

    frames: Tensor
    """``uint8 (B, T, 3, H, W)``, RGB. Lies in memory as (B, T, H, W, 3): ``channels_last`` after ``flatten(0, 1)``."""

    masks: Tensor
    """``uint8 (B, T, H, W)``: 0 background, 1..254 object ids, 255 void; 255 all over where unannotated.

    Streams of one object have the drawn object as 1 and all others as 0; streams of up to N objects have 1..n. Streams
    of all objects have ids as stored. Unless the stream leaves them out, objects that first appear later are included.
    """

    annotated: Tensor
    """``bool (B, T)``: whether the frame has a mask at all."""

    keys: list[str]
    """Snippet keys, such as ``davis2017/bear[10-17]#1``."""

    epoch: int
    """Epoch of the batch's first snippet."""

    position: int
    """Place in that epoch of the batch's first snippet."""

    problems: Mapping[int, str] = field(default_factory=dict)
    """For each snippet that stands in for one which could not be read, by its place in the batch: why."""

    num_targets: tuple[int, ...] | None = None
    """For each snippet the largest object id that its masks may show, at least 1, where that is known without asking
    the device; None: look at the masks."""

    def __post_init__(self) -> None:
        if self.frames.ndim != 5 or self.frames.shape[2] != 3 or self.frames.dtype != torch.uint8:
            raise ValueError(
                f"frames must be uint8 (B, T, 3, H, W), got {self.frames.dtype} {tuple(self.frames.shape)}"
            )
        num_batch, num_frames, _, height, width = self.frames.shape
        if self.masks.shape != (num_batch, num_frames, height, width) or self.masks.dtype != torch.uint8:
            raise ValueError(f"masks must be uint8 (B, T, H, W), got {self.masks.dtype} {tuple(self.masks.shape)}")
        if self.annotated.shape != (num_batch, num_frames) or self.annotated.dtype != torch.bool:
            raise ValueError(f"annotated must be bool (B, T), got {self.annotated.dtype} {tuple(self.annotated.shape)}")
        if len(self.keys) != num_batch:
            raise ValueError(f"expected {num_batch} keys, got {len(self.keys)}")
        if self.num_targets is not None and len(self.num_targets) != num_batch:
            raise ValueError(f"expected {num_batch} numbers of targets, got {len(self.num_targets)}")

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "SnippetBatch":
        """The same batch on another device.

        Args:
            device: where to.
            non_blocking: do not wait for the copy. A stream's batches are pinned where CUDA is there, so the GPU then
                fetches them while the trainer goes on; their memory is not used again before what the CUDA stream that
                is current *when this batch is let go* was asked to do is done. If you copy on a stream of your own, let
                that one be current then, or have the current one wait for it before.
        """
        return replace(
            self,
            frames=self.frames.to(device, non_blocking=non_blocking),
            masks=self.masks.to(device, non_blocking=non_blocking),
            annotated=self.annotated.to(device, non_blocking=non_blocking),
        )

    def given_masks(self) -> Tensor:
        """What a model may see of the masks: every object in the frame in which it first appears.

        Computed on the masks' device from what they show, so it also holds after frames were cropped.

        Returns:
            ``uint8 (B, T, H, W)``: object ids, 0 elsewhere; frame 0 shows the objects that are there from the start.
        """
        ids = self.masks.flatten(2).long()  # (B, T, HW)
        num_batch, num_frames, _ = ids.shape
        seen = torch.zeros((num_batch, num_frames, 256), dtype=torch.uint8, device=ids.device)
        seen.scatter_(2, ids, 1)
        first = seen.argmax(dim=1)  # (B, 256); the first of equal ones
        first[:, [0, 255]] = num_frames  # background and void are given nowhere
        now = torch.arange(num_frames, device=ids.device)[:, None]  # (T, 1)
        is_first = first.gather(1, ids.flatten(1)).view_as(ids) == now  # (B, T, HW)
        return (self.masks * is_first.view_as(self.masks)).to(torch.uint8)

    def __len__(self) -> int:
        """Number of snippets."""
        return len(self.keys)

    def __repr__(self) -> str:
        num_batch, num_frames, _, height, width = self.frames.shape
        return (
            f"SnippetBatch({num_batch} snippets of {num_frames} frames of {height}x{width}, {self.frames.device}, "
            f"epoch {self.epoch}, position {self.position})"
        )


def target_counts(masks: Tensor) -> Tensor:
    """How many targets each snippet has, int64 (B,), at least 1: its largest id, void aside.

    Args:
        masks: uint8 (B, T, H, W), 0 background, 1 to M targets, 255 void.
    """
    return masks.where(masks != VOID, 0).flatten(1).amax(1).long().clamp(min=1)
