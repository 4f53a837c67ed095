"""What a training step minimises and what it reports: cross-entropy and J, with void and unannotated left out.

Shapes: B batch, T frames, M targets of the snippet that has most, H height, W width. Channel 0 is background, channel k
the target k. Masks hold 0 background, 1 to M targets, 255 void; a frame without annotation is a flag per frame.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from shards.types import VOID
from vosdata.batch import target_counts

VoidRule = Literal["excluded", "published"]


@dataclass(frozen=True, slots=True, eq=False)
class Total:
    """A mean before it is divided, so that several ranks can add up both numbers first."""

    total: Tensor
    """float32 (), sum over what was counted."""

    count: Tensor
    """int64 (), how many were counted, possibly none."""

    def mean(self) -> Tensor:
        """float32 (); zero, with its graph intact, where nothing was counted."""
        return self.total / self.count.clamp(min=1)


def counted_pixels(masks: Tensor, annotated: Tensor, void: VoidRule = "excluded") -> Tensor:
    """Says which pixels the loss counts, bool (B, T, H, W).

    ``"excluded"``: those whose truth is known: neither void nor on an unannotated frame. ``"published"``: all of them,
    as in the published code, whose loader turns void and missing annotation into background before its loss sees them.

    Args:
        masks: uint8 (B, T, H, W), 0 background, 1 to M targets, 255 void.
        annotated: bool (B, T).
        void: which rule.
    """
    if void == "published":
        return torch.ones_like(masks, dtype=torch.bool)
    return (masks != VOID) & annotated[:, :, None, None]


def pixel_loss(log_probs: Tensor, masks: Tensor, annotated: Tensor, void: VoidRule = "excluded") -> Total:
    """Sums the negative log-likelihood of the truth over the counted pixels.

    Source: A-GAME section 3.4 (cross-entropy). The paper does not speak of void; the published code trains it as
    background.

    Args:
        log_probs: float (B, T, M + 1, H, W), log-probabilities of background and targets.
        masks: uint8 (B, T, H, W), 0 background, 1 to M targets, 255 void.
        annotated: bool (B, T), whether the frame has an annotation at all.
        void: ``"excluded"`` or ``"published"``, see :func:`counted_pixels`.

    Returns:
        The sum in nats and the number of counted pixels; the gradient at every other pixel is exactly zero.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    _check_shapes(log_probs, masks, annotated)
    counted = counted_pixels(masks, annotated, void)
    is_target = (masks < log_probs.shape[2]) & annotated[:, :, None, None]
    truth = torch.where(is_target, masks, 0).long()  # void and unannotated as background, where they count at all
    # Time-major, as the network lays them out: the gradient then needs no other layout than it is computed in.
    by_time = log_probs.transpose(0, 1).gather(2, truth.transpose(0, 1)[:, :, None])
    likelihood = by_time.squeeze(2).transpose(0, 1)  # (B, T, H, W)
    # where, not a product with 0: an infinite log-probability at a void pixel must not turn the sum into NaN.
    counted_likelihood = torch.where(counted, likelihood.float(), 0.0)
    return Total(-counted_likelihood.sum(), counted.sum())


def segmentation_loss(log_probs: Tensor, masks: Tensor, annotated: Tensor, void: VoidRule = "excluded") -> Tensor:
    """Returns the mean cross-entropy over the counted pixels, float32 (), in nats; see :func:`pixel_loss`."""
    return pixel_loss(log_probs, masks, annotated, void).mean()


def target_iou(log_probs: Tensor, masks: Tensor, annotated: Tensor) -> Total:
    """Returns J, intersection over union, summed over the targets of each annotated frame after the first.

    The first frame is given, so it says nothing about the model. Void pixels belong to neither region. Where truth and
    prediction are both empty, J is 1 (the DAVIS convention).

    Args:
        log_probs: of the frames after the first, float (B, T - 1, M + 1, H, W).
        masks: uint8 (B, T, H, W), 0 background, 1 to M targets, 255 void.
        annotated: bool (B, T).

    Returns:
        The sum of J and the number of targets in frames.
    """
    later, is_annotated = masks[:, 1:], annotated[:, 1:]
    _check_shapes(log_probs, later, is_annotated)
    ids = torch.arange(1, log_probs.shape[2], device=masks.device, dtype=masks.dtype)  # (M,)
    # max also tells where it is, the first of equals, as argmax does, which takes 20 times as long on a CPU.
    labels = log_probs.max(2, keepdim=True).indices.to(masks.dtype)  # (B, T - 1, 1, H, W)
    predicted = labels == ids[:, None, None]  # (B, T - 1, M, H, W)
    truth = later[:, :, None] == ids[:, None, None]
    known = later[:, :, None] != VOID
    intersection, union = _num_pixels(predicted & truth), _num_pixels((predicted | truth) & known)
    iou = torch.where(union > 0, intersection / union.clamp(min=1), 1.0)  # (B, T - 1, M)
    counted = is_annotated[:, :, None] & (ids <= target_counts(masks)[:, None])[:, None]
    return Total(torch.where(counted, iou, 0.0).sum(), counted.sum())


def _num_pixels(inside: Tensor) -> Tensor:
    """Pixels of regions, bool (..., H, W): float32 (...), exact below 2^24, ten times as fast as whole numbers."""
    return inside.float().sum((-2, -1))


def _check_shapes(log_probs: Tensor, masks: Tensor, annotated: Tensor) -> None:
    batch, num_frames, height, width = masks.shape
    fits = log_probs.ndim == 5 and log_probs.shape == (batch, num_frames, log_probs.shape[2], height, width)
    if not fits or log_probs.shape[2] < 2 or annotated.shape != (batch, num_frames):
        raise ValueError(
            "expected log-probabilities (B, T, M + 1, H, W), masks (B, T, H, W) and annotated (B, T), got "
            f"{tuple(log_probs.shape)}, {tuple(masks.shape)} and {tuple(annotated.shape)}"
        )
