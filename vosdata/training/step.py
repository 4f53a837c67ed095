"""What one training step is made of: its loss, in parts and over ranks, and the sums and counts that it reports."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from shards.types import VOID
from vosdata.batch import SnippetBatch, target_counts
from vosdata.models.agame import AGAMEOutput
from vosdata.recipe import LossRecipe
from vosdata.training.losses import counted_pixels, pixel_loss, target_iou
from vosdata.training.ranks import Ranks

COUNTERS = ("uncounted_snippets", "empty_snippets", "vanished_snippets", "replaced_snippets")
"""Running totals of snippets that are not what they should be; :class:`StepMetrics` says what each is."""


@dataclass(frozen=True, slots=True, eq=False)
class LossSums:
    """What this rank's share of a batch adds to the step's measures; all without gradient."""

    fine: Tensor
    """Sum of the final segmentation's cross-entropy, ()."""

    coarse: Tensor
    """Sum of the coarse segmentation's cross-entropy, ()."""

    num_pixels: Tensor
    """Pixels that both sums count, ()."""

    iou: Tensor
    """Sum of J over the targets of annotated frames after the first, ()."""

    num_frames: Tensor
    """How many such targets in frames, ()."""

    counts: Tensor
    """int64 (4): snippets of each kind in ``COUNTERS``."""

    def as_row(self) -> list[Tensor]:
        """The sums that make up a line of metrics."""
        return [one.double() for one in (self.fine, self.coarse, self.num_pixels, self.iou, self.num_frames)]


@dataclass(frozen=True, slots=True, eq=False)
class StepOutcome:
    """A step whose measures may still be under way on the device."""

    step: int
    """Number of the step."""

    keys: list[str]
    """Snippets of this rank."""

    row: Tensor
    """float64 (6): gradient norm, then :meth:`LossSums.as_row`."""


def part_of(batch: SnippetBatch, part: slice) -> SnippetBatch:
    """Some snippets of a batch; they share its memory."""
    frames, masks, annotated = batch.frames[part], batch.masks[part], batch.annotated[part]
    places = range(len(batch))[part]
    problems = {place - places.start: why for place, why in batch.problems.items() if place in places}
    targets = None if batch.num_targets is None else batch.num_targets[part]
    return replace(
        batch,
        frames=frames,
        masks=masks,
        annotated=annotated,
        keys=batch.keys[part],
        problems=problems,
        num_targets=targets,
    )


def num_targets(batch: SnippetBatch) -> list[int]:
    """How many targets each snippet has, at least 1; waits for the device only where the batch does not know."""
    return list(batch.num_targets) if batch.num_targets is not None else target_counts(batch.masks).tolist()


def num_counted(batch: SnippetBatch, recipe: LossRecipe) -> Tensor:
    """How many pixels of a batch the losses count, int64 ()."""
    first = _first_counted_frame(recipe)
    return counted_pixels(batch.masks[:, first:], batch.annotated[:, first:], recipe.void).sum()


def _first_counted_frame(recipe: LossRecipe) -> int:
    return 0 if recipe.void == "published" else 1  # frame 0 is given, and echoed: there is nothing to learn from it


def training_loss(
    output: AGAMEOutput,
    batch: SnippetBatch,
    recipe: LossRecipe,
    ranks: Ranks,
    num_pixels: Tensor | None = None,
) -> tuple[Tensor, LossSums]:
    """The loss of a step, or a part of it: weighted sum of the final and the coarse segmentation's cross-entropy.

    The mean runs over the counted pixels of all ranks. Gradients are averaged over ranks afterwards, hence the factor.

    Args:
        output: what the network says of the batch.
        batch: the batch, on the same device.
        recipe: weights, and what counts.
        ranks: the trainers.
        num_pixels: counted pixels of the whole step over all ranks, (); None where this batch is all of a rank's step.

    Returns:
        The loss (), with its graph, and this rank's sums.
    """
    first = _first_counted_frame(recipe)
    masks, annotated = batch.masks[:, first:], batch.annotated[:, first:]
    fine_log_probs, coarse_log_probs = (
        (output.fine, output.coarse) if first else (output.log_probs, output.coarse_log_probs)
    )
    fine = pixel_loss(fine_log_probs, masks, annotated, recipe.void)
    coarse = pixel_loss(coarse_log_probs, masks, annotated, recipe.void)
    weighted = recipe.fine_weight * fine.total + recipe.coarse_weight * coarse.total
    total = ranks.add_up(fine.count) if num_pixels is None else num_pixels
    loss = weighted * ranks.num_ranks / total.clamp(min=1)
    with torch.no_grad():
        iou = target_iou(output.fine, batch.masks, batch.annotated)
        uncounted = ~counted_pixels(masks, annotated, recipe.void).flatten(1).any(1)
        replaced = torch.full_like(uncounted[0], len(batch.problems), dtype=torch.int64)  # waits for no device
        counts = torch.stack([uncounted.sum(), *(kind.sum() for kind in targetless(batch)), replaced])
    return loss, LossSums(fine.total.detach(), coarse.total.detach(), fine.count, iou.total, iou.count, counts)


def targetless(batch: SnippetBatch) -> tuple[Tensor, Tensor]:
    """Which snippets' targets are nowhere to be seen, two of bool (B,).

    Returns:
        Whether the given mask is empty, which a crop can bring about; and whether no annotated frame after the first
        shows a target, so that only its absence can be learnt.
    """
    shows = ((batch.masks > 0) & (batch.masks != VOID)).flatten(2).any(2)  # (B, T)
    return ~shows[:, 0], ~(shows & batch.annotated)[:, 1:].any(1)
