"""The training loop: stream, forward, loss, step; metrics and checkpoints; and going on exactly where a run was cut.

Everything that a step does follows from the recipe, the data and the number of the step; a checkpoint holds weights,
batch statistics, Adam's state and the stream's position. So on a CPU, with the same number of PyTorch threads, a run
that was cut anywhere ends with the same bits as one that was not; and ranks only share out the work of a step.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from shards.errors import ConflictError, TrainingError
from vosdata.augment import augment
from vosdata.batch import SnippetBatch
from vosdata.checkpoint import (
    Checkpoint,
    checkpoint_path,
    load_checkpoint,
    load_weights,
    open_checkpoint,
    optimiser_tensors,
    remove_old_checkpoints,
    restore_optimiser,
    save_checkpoint,
)
from vosdata.models.agame import AGAME
from vosdata.models.weights import load_backbone
from vosdata.recipe import LossRecipe, Recipe
from vosdata.stream import SnippetStream
from vosdata.training.data import TrainingData, find_data, with_data
from vosdata.training.interruption import Interruption, noticing_interruption
from vosdata.training.losses import counted_pixels, pixel_loss, target_counts, target_iou
from vosdata.training.metrics_log import MetricsLog, StepMetrics, Stopwatch
from vosdata.training.ranks import Ranks, join_ranks
from vosdata.training.run_folder import METRICS_FILE, begin_run, last_state, locked_run
from vosdata.training.schedule import Schedule
from vosdata.world import data_root, detect


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training left behind."""

    out: Path
    """The run folder."""

    checkpoint: Path
    """The last checkpoint."""

    step: int
    """Optimiser steps taken in all."""

    is_main: bool
    """Whether this is rank 0, the one that speaks."""


def train(
    recipe: Recipe,
    data: Sequence[Path] | None = None,
    out: Path | None = None,
    resume: bool = False,
    *,
    root: Path | None = None,
    device: str = "auto",
    weights_dir: Path | None = None,
    on_step: Callable[[StepMetrics, int], None] | None = None,
    on_message: Callable[[str], None] = print,
) -> TrainResult:
    """Trains A-GAME as a recipe says; a run that was cut goes on.

    Under ``torchrun`` the ranks share every batch; rank 0 writes files and speaks.

    Args:
        recipe: what to train, from :func:`vosdata.load_recipe`.
        data: folders of shard sets that replace the recipe's, each drawn with equal probability.
        out: run folder; None for ``runs/<recipe's name>``.
        resume: fail unless there is a run to go on with.
        root: data root in which the recipe's set names are looked for; None for ``$VOSDATA_ROOT`` or ``data``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        weights_dir: folder in which ImageNet weights are looked for before the hub.
        on_step: is given the metrics of each logged step, and the number of the last step.
        on_message: is given lines for people: what is left out, where the run goes on.

    Raises:
        VosDataError: something is wrong with data, recipe or checkpoint, or the run folder belongs to another recipe.
        TrainingError: a loss or gradient is not finite; the message names step and snippets.
        KeyboardInterrupt: interrupted; the state was saved, and the same call goes on from there.
        ValueError: an argument is out of range.
    """
    out = out or Path("runs") / recipe.name
    if data:
        recipe = with_data(recipe, data)
    training_data = find_data(recipe.data, data_root(root))
    with ExitStack() as stack:
        ranks = stack.enter_context(join_ranks(detect(), device))
        tell = on_message if ranks.is_main else _say_nothing
        stream = stack.enter_context(_open_stream(recipe, training_data, ranks))
        if ranks.is_main:
            stack.enter_context(locked_run(out, must_exist=resume))
        checkpoint = _last_state(out, recipe, ranks, tell)
        network = AGAME(recipe.model.config(), seed=recipe.train.seed)
        backbone = _first_weights(network, recipe, weights_dir, tell) if checkpoint is None else ""
        run = Run(recipe, out, ranks, stream, network, backbone)
        if checkpoint is not None:
            run.go_on_from(checkpoint)
            tell(f"{out}: going on after step {run.step} of {run.schedule.last_step}")
        log = stack.enter_context(_open_log(run, training_data, tell)) if ranks.is_main else None
        interruption = stack.enter_context(noticing_interruption())
        return run.to_the_end(log, interruption, on_step, tell)


class Run:
    """A model in training: weights, optimiser and place in the stream after some step."""

    def __init__(
        self, recipe: Recipe, out: Path, ranks: Ranks, stream: SnippetStream, network: AGAME, backbone: str
    ) -> None:
        """Readies a run for its first step.

        Args:
            recipe: the resolved recipe.
            out: the run folder.
            ranks: the trainers.
            stream: the data, at its beginning.
            network: the network with its first weights.
            backbone: where those came from.
        """
        self.recipe, self.out, self.ranks, self.stream = recipe, out, ranks, stream
        self.schedule = Schedule(recipe.train, stream.epoch_size)
        self.augmentation = recipe.data.tensors.augmentation()
        self.backbone = backbone
        self.step = 0
        self.batches = _without_end(stream)
        self.uncounted_snippets = torch.zeros((), dtype=torch.int64, device=ranks.device)
        self.network = network.to(ranks.device).train()
        self.model = ranks.parallel(self.network)
        self.parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(
            self.parameters, lr=recipe.train.learning_rate, weight_decay=recipe.train.weight_decay
        )

    def go_on_from(self, checkpoint: Checkpoint) -> None:
        """Brings the run to where a checkpoint stands.

        Raises:
            CheckpointError: the checkpoint does not fit the network.
            ConflictError: the data are not those that the checkpoint's run was trained on.
        """
        where = str(checkpoint_path(self.out, checkpoint.step))
        load_weights(self.network, checkpoint.model, where)
        restore_optimiser(self.optimiser, self.network, checkpoint.optimiser, where)
        try:
            self.stream.load_state_dict(checkpoint.stream)
        except ValueError as error:
            raise ConflictError(f"{self.out} was trained on other data: {error}; choose another --out") from error
        self.step, self.backbone = checkpoint.step, checkpoint.backbone
        self.uncounted_snippets.fill_(checkpoint.counters["uncounted_snippets"])

    def to_the_end(
        self,
        log: MetricsLog | None,
        interruption: Interruption,
        on_step: Callable[[StepMetrics, int], None] | None,
        tell: Callable[[str], None],
    ) -> TrainResult:
        """Trains until the schedule's last step, or until it is interrupted."""
        options, last = self.recipe.run, self.schedule.last_step
        watch = Stopwatch()
        pending: list[StepOutcome] = []
        while self.step < last:
            with watch.waiting():
                batch = next(self.batches)
            pending.append(self.train_on(batch))
            watch.num_frames += batch.annotated.numel() * self.ranks.num_ranks
            at_log = self.step % options.log_every == 0 or self.step == last
            # Asking the other ranks waits for them, so it happens only where they are waited for anyhow.
            stop = (self.ranks.num_ranks == 1 or at_log) and self.ranks.agree(interruption.asked)
            at_checkpoint = self.step % options.checkpoint_every == 0 or self.step == last or stop
            if at_log or at_checkpoint:
                metrics = self._measure(pending, watch)
                pending.clear()
                if at_log and log is not None:
                    log.write(metrics)
                if at_log and on_step is not None and self.ranks.is_main:
                    on_step(metrics, last)
            if at_checkpoint:
                self._save(log)
            if stop:
                self.ranks.agree(True)  # no rank leaves, and has the others ended, before the checkpoint is written
                tell(f"interrupted after step {self.step} of {last}; the same call goes on from there")
                raise KeyboardInterrupt
        return TrainResult(self.out, checkpoint_path(self.out, self.step), self.step, self.ranks.is_main)

    def train_on(self, batch: SnippetBatch) -> "StepOutcome":
        """Takes one optimiser step on a batch, without waiting for the device."""
        self.step += 1
        counts = None if self.recipe.data.objects == "one" else target_counts(batch.masks).tolist()  # on the CPU still
        positions = self.stream.positions(batch)
        batch = batch.to(self.ranks.device, non_blocking=True)
        if self.augmentation is not None:
            batch = augment(batch, self.augmentation, self.recipe.train.seed, positions)
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.learning_rate(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        num_pixels = self.ranks.add_up(num_counted(batch, self.recipe.loss))
        size = len(batch) // self.recipe.train.accumulate
        row = torch.zeros(5, dtype=torch.float64, device=self.ranks.device)
        for first in range(0, len(batch), size):
            part = slice(first, first + size)
            with self.ranks.keeping_gradients(self.model, part.stop < len(batch)):
                sums = self._learn(part_of(batch, part), None if counts is None else counts[part], num_pixels)
            row += torch.stack(sums.as_row())
            self.uncounted_snippets += self.ranks.add_up(sums.uncounted_snippets)
        largest = self.recipe.train.clip_gradient or math.inf  # infinity measures and leaves the gradient as it is
        gradient_norm = nn.utils.clip_grad_norm_(self.parameters, largest)
        self.optimiser.step()
        return StepOutcome(self.step, batch.keys, torch.cat([gradient_norm.double()[None], row]))

    def _learn(self, part: SnippetBatch, counts: list[int] | None, num_pixels: Tensor) -> "LossSums":
        """Adds the gradient of a part of the batch; ``num_pixels`` is what the whole step counts, over all ranks."""
        precision = self.recipe.train.precision
        half = precision == "bfloat16" or (precision == "auto" and self.ranks.device.type == "cuda")
        with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=half):
            output = self.model(part.frames, part.masks[:, 0], counts)
        loss, sums = training_loss(
            output.log_probs, output.coarse_log_probs, part, self.recipe.loss, self.ranks, num_pixels
        )
        torch.autograd.backward(loss)
        return sums

    def _measure(self, outcomes: "list[StepOutcome]", watch: Stopwatch) -> StepMetrics:
        """Fetches what the steps since the last call gave, and checks it; the only place that waits for the device.

        Returns:
            The metrics of the last of these steps.

        Raises:
            TrainingError: a loss or a gradient is not finite.
        """
        rows = self.ranks.add_up(torch.stack([outcome.row for outcome in outcomes])).tolist()
        for outcome, row in zip(outcomes, rows, strict=True):
            if not all(map(math.isfinite, row)):
                raise TrainingError(
                    f"step {outcome.step}: loss or gradient is not finite (loss sums {row[1]} fine, {row[2]} coarse, "
                    f"gradient norm {row[0]}) for the snippets {', '.join(outcome.keys)}; look at them or lower "
                    "train.learning_rate. Checkpoints of earlier steps are whole"
                )
        norm, fine, coarse, num_pixels, iou, num_frames = rows[-1]
        fine, coarse = fine / max(num_pixels, 1), coarse / max(num_pixels, 1)
        epoch, position = self.schedule.place(self.step)
        frames_per_second, data_wait = watch.lap()
        return StepMetrics(
            step=self.step,
            epoch=epoch,
            position=position,
            loss=self.recipe.loss.fine_weight * fine + self.recipe.loss.coarse_weight * coarse,
            fine=fine,
            coarse=coarse,
            J=iou / num_frames if num_frames else None,
            gradient_norm=norm / self.ranks.num_ranks,
            learning_rate=self.schedule.learning_rate(self.step),
            num_pixels=int(num_pixels),
            uncounted_snippets=int(self.uncounted_snippets),
            frames_per_second=frames_per_second,
            data_wait=data_wait,
        )

    def _save(self, log: MetricsLog | None) -> None:
        """Writes a checkpoint on rank 0, after the lines that it stands for, and then removes old ones."""
        if log is None:
            return
        log.sync()
        checkpoint = Checkpoint(
            step=self.step,
            recipe=self.recipe,
            stream=self.stream.state_dict(),
            model=self.network.state_dict(),
            optimiser=optimiser_tensors(self.optimiser, self.network),
            counters={"uncounted_snippets": int(self.uncounted_snippets)},
            backbone=self.backbone,
        )
        save_checkpoint(checkpoint_path(self.out, self.step), checkpoint)
        remove_old_checkpoints(self.out, self.recipe.run.keep)


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

    uncounted_snippets: Tensor
    """Snippets without a counted pixel, ()."""

    def as_row(self) -> list[Tensor]:
        """The sums that make up a line of metrics."""
        return [one.double() for one in (self.fine, self.coarse, self.num_pixels, self.iou, self.num_frames)]


def part_of(batch: SnippetBatch, part: slice) -> SnippetBatch:
    """Some snippets of a batch; they share its memory."""
    frames, masks, annotated = batch.frames[part], batch.masks[part], batch.annotated[part]
    return replace(batch, frames=frames, masks=masks, annotated=annotated, keys=batch.keys[part])


def num_counted(batch: SnippetBatch, recipe: LossRecipe) -> Tensor:
    """How many pixels of a batch the losses count, int64 ()."""
    first = _first_counted_frame(recipe)
    return counted_pixels(batch.masks[:, first:], batch.annotated[:, first:], recipe.void).sum()


def _first_counted_frame(recipe: LossRecipe) -> int:
    return 0 if recipe.void == "published" else 1  # frame 0 is given, and echoed: there is nothing to learn from it


def training_loss(
    log_probs: Tensor,
    coarse_log_probs: Tensor,
    batch: SnippetBatch,
    recipe: LossRecipe,
    ranks: Ranks,
    num_pixels: Tensor | None = None,
) -> tuple[Tensor, LossSums]:
    """The loss of a step, or a part of it: weighted sum of the final and the coarse segmentation's cross-entropy.

    The mean runs over the counted pixels of all ranks. Gradients are averaged over ranks afterwards, hence the factor.

    Args:
        log_probs: float (B, T, M + 1, H, W), final segmentation.
        coarse_log_probs: float (B, T, M + 1, H, W), coarse segmentation.
        batch: the batch, on the same device.
        recipe: weights, and what counts.
        ranks: the trainers.
        num_pixels: counted pixels of the whole step over all ranks, (); None where this batch is all of a rank's step.

    Returns:
        The loss (), with its graph, and this rank's sums.
    """
    first = _first_counted_frame(recipe)
    masks, annotated = batch.masks[:, first:], batch.annotated[:, first:]
    fine = pixel_loss(log_probs[:, first:], masks, annotated, recipe.void)
    coarse = pixel_loss(coarse_log_probs[:, first:], masks, annotated, recipe.void)
    weighted = recipe.fine_weight * fine.total + recipe.coarse_weight * coarse.total
    total = ranks.add_up(fine.count) if num_pixels is None else num_pixels
    loss = weighted * ranks.num_ranks / total.clamp(min=1)
    with torch.no_grad():
        iou = target_iou(log_probs, batch.masks, batch.annotated)
        counted = counted_pixels(masks, annotated, recipe.void)
        uncounted = (~counted.flatten(1).any(1)).sum()
    return loss, LossSums(fine.total.detach(), coarse.total.detach(), fine.count, iou.total, iou.count, uncounted)


@dataclass(frozen=True, slots=True, eq=False)
class StepOutcome:
    """A step whose measures may still be under way on the device."""

    step: int
    """Number of the step."""

    keys: list[str]
    """Snippets of this rank."""

    row: Tensor
    """float64 (6): gradient norm, then :meth:`LossSums.as_row`."""


def _last_state(out: Path, recipe: Recipe, ranks: Ranks, tell: Callable[[str], None]) -> Checkpoint | None:
    """Finds on rank 0 where the run stands, and gives every rank that checkpoint, if any."""
    checkpoint = last_state(out, recipe, tell) if ranks.is_main else None
    step = ranks.from_main(-1 if checkpoint is None else checkpoint.step)
    if step < 0:
        return None
    return checkpoint or load_checkpoint(checkpoint_path(out, step))


def _open_stream(recipe: Recipe, data: TrainingData, ranks: Ranks) -> SnippetStream:
    if recipe.train.batch % (ranks.num_ranks * recipe.train.accumulate):
        raise ValueError(
            f"train.batch {recipe.train.batch} cannot be shared out evenly among {ranks.num_ranks} ranks with "
            f"train.accumulate {recipe.train.accumulate}"
        )
    return SnippetStream(
        data.weights,
        snippet=recipe.data.frames,
        size=recipe.data.size,
        batch=recipe.train.batch // ranks.num_ranks,
        seed=recipe.train.seed,
        rank=ranks.rank,
        num_ranks=ranks.num_ranks,
        threads=recipe.run.threads,
        epoch_size=recipe.data.epoch_size,
        flip=recipe.data.flip,
        objects=recipe.data.objects,
        later="background",
        min_object_pixels=recipe.data.min_object_pixels,
        gap=recipe.data.gap,
        gap_unit=recipe.data.gap_unit,
        reverse=recipe.data.reverse,
        augment=recipe.data.augment,
    )


@contextmanager
def _open_log(run: Run, data: TrainingData, tell: Callable[[str], None]) -> Iterator[MetricsLog]:
    """Claims the run folder, opens metrics.jsonl where the run stands, and notes how it starts."""
    begin_run(run.out, run.recipe, run.step)
    log = MetricsLog(run.out / METRICS_FILE, run.step)
    try:
        log.event(run.step, "start", device=str(run.ranks.device), num_ranks=run.ranks.num_ranks, sets=data.weights)
        for folder, reason in data.left_out.items():
            log.event(run.step, "left_out", set=folder, reason=reason)
            tell(f"warning: {folder} is left out: {reason}")
        yield log
    finally:
        log.close()


def _without_end(stream: SnippetStream) -> Iterator[SnippetBatch]:
    """All batches: iterating over a stream ends with its epoch, training does not."""
    while True:
        yield from stream


def _first_weights(network: AGAME, recipe: Recipe, weights_dir: Path | None, tell: Callable[[str], None]) -> str:
    """Gives a network the weights that the recipe starts from, and says where they came from."""
    if recipe.train.init_from is None:
        origin = load_backbone(network, recipe.model.weights, weights_dir, tell)
        return f"{origin.source} {origin.sha256}".strip()
    checkpoint = open_checkpoint(Path(recipe.train.init_from))
    load_weights(network, checkpoint.model, recipe.train.init_from)
    return f"{recipe.train.init_from} after step {checkpoint.step}; {checkpoint.backbone}"


def _say_nothing(line: str) -> None:
    """What ranks other than 0 tell."""
