"""The training loop: stream, forward, loss, step; metrics and checkpoints; and going on exactly where a run was cut.

Everything that a step does follows from the recipe, the data and the number of the step; a checkpoint holds weights,
batch statistics, Adam's state, the stream's position and how the validations went. So on a CPU, with the same number of
PyTorch threads and of ranks, a run that was cut anywhere ends with the same bits as one that was not; and ranks only
share out the work of a step.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from shards.errors import ConflictError, TrainingError
from shards.memory import keeping_freed_memory
from vosdata.augment import augment
from vosdata.batch import SnippetBatch
from vosdata.checkpoint import (
    Checkpoint,
    checkpoint_path,
    load_weights,
    optimiser_tensors,
    remove_old_checkpoints,
    restore_optimiser,
    save_checkpoint,
)
from vosdata.models.agame import AGAME
from vosdata.models.agame.compiled import compile_heads
from vosdata.recipe import Recipe
from vosdata.stream import SnippetStream
from vosdata.training.beginning import first_weights, shared_state
from vosdata.training.computing import computing_as
from vosdata.training.copying import BatchCopier
from vosdata.training.data import find_data, open_stream, with_data
from vosdata.training.frozen_features import FrozenFeatures, open_frozen_features
from vosdata.training.history import History
from vosdata.training.interruption import Interruption, noticing_interruption
from vosdata.training.metrics_log import StepMetrics, Stopwatch
from vosdata.training.ranks import Ranks, join_ranks
from vosdata.training.run_folder import locked_run
from vosdata.training.run_log import RunLog, opened_log
from vosdata.training.schedule import Schedule
from vosdata.training.step import COUNTERS, LossSums, StepOutcome, num_counted, num_targets, part_of, training_loss
from vosdata.training.tensorboard import summary_writer
from vosdata.training.validation import HeldOutVideo, open_held_out, validate
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

    history: History = field(default_factory=History)
    """How the validations went."""

    stopped_early: bool = False
    """Whether training ended because validation brought nothing better any more."""

    counters: Mapping[str, int] = field(default_factory=dict)
    """Snippets of the whole run from which little or nothing could be learnt, by kind."""

    @property
    def best(self) -> Path:
        """The checkpoint to use: the best that was validated, or without validation the last."""
        return self.checkpoint if self.history.best is None else checkpoint_path(self.out, self.history.best[0])


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
    with ExitStack() as stack:
        if recipe.run.tensorboard:
            summary_writer()  # refuses at once where it is not installed
        stack.enter_context(computing_as(recipe.run))
        ranks = stack.enter_context(join_ranks(detect(), device))
        if ranks.device.type == "cpu":
            stack.enter_context(keeping_freed_memory())
        tell = on_message if ranks.is_main else _say_nothing
        if data:
            recipe = with_data(recipe, data, tell)
        training_data = find_data(recipe, data_root(root), tell)
        stream = stack.enter_context(open_stream(recipe, training_data, ranks))
        if ranks.is_main:
            stack.enter_context(locked_run(out, must_exist=resume))
        checkpoint = shared_state(out, recipe, ranks, tell)
        network = AGAME(recipe.model.config(), seed=recipe.train.seed)
        backbone = first_weights(network, recipe, weights_dir, tell) if checkpoint is None else ""
        run = Run(recipe, out, ranks, stream, network, backbone, open_held_out(training_data.held_out, recipe))
        if checkpoint is not None:
            run.go_on_from(checkpoint)
            tell(f"{out}: going on after step {run.step} of {run.schedule.last_step}")
        run.frozen = open_frozen_features(recipe, network, training_data.weights, ranks.device, tell)
        log = (
            stack.enter_context(opened_log(out, recipe, run.step, ranks, training_data, tell))
            if ranks.is_main
            else None
        )
        interruption = stack.enter_context(noticing_interruption())
        return run.to_the_end(log, interruption, on_step, tell)


class Run:
    """A model in training: weights, optimiser and place in the stream after some step."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        ranks: Ranks,
        stream: SnippetStream,
        network: AGAME,
        backbone: str,
        held_out: Sequence[HeldOutVideo] = (),
    ) -> None:
        """Readies a run for its first step.

        Args:
            recipe: the resolved recipe.
            out: the run folder.
            ranks: the trainers.
            stream: the data, at its beginning.
            network: the network with its first weights.
            backbone: where those came from.
            held_out: the sequences of validation.
        """
        self.recipe, self.out, self.ranks, self.stream = recipe, out, ranks, stream
        self.schedule = Schedule(recipe.train, stream.epoch_size)
        self.augmentation = recipe.data.tensors.augmentation()
        self.backbone, self.held_out = backbone, held_out
        self.frozen: FrozenFeatures | None = None
        self.step, self.history = 0, History()
        self.batches = _without_end(stream)
        self.counts = torch.zeros(len(COUNTERS), dtype=torch.int64, device=ranks.device)
        self.copy = BatchCopier(ranks.device)
        self.network = network.to(ranks.device).train()
        if recipe.train.compile == "heads":
            compile_heads(self.network)
        self.model = ranks.parallel(self.network, recipe.train.sync_batch_norm)
        self.parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(  # fused: one pass over all parameters
            self.parameters, lr=recipe.train.learning_rate, weight_decay=recipe.train.weight_decay, fused=True
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
        self.step, self.backbone, self.history = checkpoint.step, checkpoint.backbone, checkpoint.history
        self.counts.copy_(torch.tensor([checkpoint.counters.get(name, 0) for name in COUNTERS]))

    @property
    def stopped_early(self) -> bool:
        """Whether validation brought nothing better for so long that training is over."""
        return self.history.is_exhausted(self.recipe.validation.patience)

    @property
    def counters(self) -> dict[str, int]:
        """Snippets of the whole run from which little or nothing could be learnt; waits for the device."""
        return dict(zip(COUNTERS, self.counts.tolist(), strict=True))

    def to_the_end(
        self,
        log: RunLog | None,
        interruption: Interruption,
        on_step: Callable[[StepMetrics, int], None] | None,
        tell: Callable[[str], None],
    ) -> TrainResult:
        """Trains until the schedule's last step, until validation stops it, or until it is interrupted."""
        options, last = self.recipe.run, self.schedule.last_step
        if self.step and self._validation_is_due:  # the run was interrupted in it
            if not self._validate(log, interruption, tell):
                self._leave(tell)
            self._save(log)
        watch = Stopwatch()
        pending: list[StepOutcome] = []
        while self.step < last and not self.stopped_early:
            with watch.waiting():
                batch = next(self.batches)
            self._note_replaced(batch, log, tell)
            pending.append(self.train_on(batch))
            watch.num_frames += batch.annotated.numel() * self.ranks.num_ranks
            at_log = self.step % options.log_every == 0 or self.step == last
            at_validation = self._validation_is_due
            # Asking the other ranks waits for them, so it happens only where they are waited for anyhow.
            stop = (self.ranks.num_ranks == 1 or at_log) and self.ranks.agree(interruption.asked)
            at_checkpoint = self.step % options.checkpoint_every == 0 or self.step == last or at_validation or stop
            if at_log or at_checkpoint:
                metrics = self._measure(pending, watch, log)
                pending.clear()
                if at_log and log is not None:
                    log.write(metrics)
                if at_log and on_step is not None and self.ranks.is_main:
                    on_step(metrics, last)
            if at_validation and not stop:
                stop = not self._validate(log, interruption, tell)
            if at_checkpoint:
                self._save(log)
            if stop:
                self._leave(tell)
            if at_validation:
                watch.lap()  # what comes next is the speed of training alone
        return TrainResult(
            self.out,
            checkpoint_path(self.out, self.step),
            self.step,
            self.ranks.is_main,
            self.history,
            self.stopped_early,
            self.counters,
        )

    @property
    def _validation_is_due(self) -> bool:
        """Whether the held-out sequences are to be scored after this step, and were not yet."""
        is_done = self.history.newest is not None and self.history.newest[0] == self.step
        return bool(self.held_out) and not is_done and self.schedule.validates(self.step, self.recipe.validation)

    def _leave(self, tell: Callable[[str], None]) -> NoReturn:
        """Ends an interrupted run whose state is saved."""
        self.ranks.agree(True)  # no rank leaves, and has the others ended, before the checkpoint is written
        tell(f"interrupted after step {self.step} of {self.schedule.last_step}; the same call goes on from there")
        raise KeyboardInterrupt

    def _note_replaced(self, batch: SnippetBatch, log: RunLog | None, tell: Callable[[str], None]) -> None:
        """Says which snippets of this rank could not be read; those of other ranks are counted."""
        for place, problem in batch.problems.items():
            if log is not None:
                log.event(self.step + 1, "replaced", problem=problem, by=batch.keys[place])
            tell(f"warning: {problem}; {batch.keys[place]} stands in for it")

    def train_on(self, batch: SnippetBatch) -> StepOutcome:
        """Takes one optimiser step on a batch, without waiting for the device."""
        self.step += 1
        counts = None if self.recipe.data.objects == "one" else num_targets(batch)
        positions = self.stream.positions(batch)
        batch = self.copy(batch)
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
            self.counts += self.ranks.add_up(sums.counts)
        largest = self.recipe.train.clip_gradient or math.inf  # infinity measures and leaves the gradient as it is
        gradient_norm = nn.utils.clip_grad_norm_(self.parameters, largest)
        self.optimiser.step()
        return StepOutcome(self.step, batch.keys, torch.cat([gradient_norm.double()[None], row]))

    def _learn(self, part: SnippetBatch, counts: list[int] | None, num_pixels: Tensor) -> LossSums:
        """Adds the gradient of a part of the batch; ``num_pixels`` is what the whole step counts, over all ranks."""
        begun = None if self.frozen is None else self.frozen(part.frames)
        with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=self._half):
            output = self.model(part.frames, part.masks[:, 0], counts, begun)
        loss, sums = training_loss(output, part, self.recipe.loss, self.ranks, num_pixels)
        torch.autograd.backward(loss)
        return sums

    @property
    def _half(self) -> bool:
        """Whether convolutions compute in bfloat16."""
        precision = self.recipe.train.precision
        return precision == "bfloat16" or (precision == "auto" and self.ranks.device.type == "cuda")

    def _measure(self, outcomes: list[StepOutcome], watch: Stopwatch, log: RunLog | None) -> StepMetrics:
        """Fetches what the steps since the last call gave, and checks it; the only place that waits for the device.

        Returns:
            The metrics of the last of these steps.

        Raises:
            TrainingError: a loss or a gradient is not finite.
        """
        rows = self.ranks.add_up(torch.stack([outcome.row for outcome in outcomes])).tolist()
        for outcome, row in zip(outcomes, rows, strict=True):
            if not all(map(math.isfinite, row)):
                self._refuse(outcome, row, log)
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
            **self.counters,
            frames_per_second=frames_per_second,
            data_wait=data_wait,
            validation_J=self.history.newest[1] if self.history.newest else None,
        )

    def _refuse(self, outcome: StepOutcome, row: list[float], log: RunLog | None) -> NoReturn:
        """Ends a training whose numbers are not finite; all ranks come here together."""
        keys = [key for share in self.ranks.gather(outcome.keys) for key in share]
        if log is not None:
            log.event(outcome.step, "not_finite", loss=str(row[1] + row[2]), gradient_norm=str(row[0]), keys=keys)
        raise TrainingError(
            f"step {outcome.step}: loss or gradient is not finite (loss sums {row[1]} fine, {row[2]} coarse, "
            f"gradient norm {row[0]}) for the snippets {', '.join(keys)}; look at them or lower "
            "train.learning_rate. Checkpoints of earlier steps are whole"
        )

    def _validate(self, log: RunLog | None, interruption: Interruption, tell: Callable[[str], None]) -> bool:
        """Scores the held-out sequences, and notes what that says of this step; False where it was interrupted."""
        found = validate(self.network, self.held_out, self.ranks, self._half, interruption)
        if found is None:
            return False
        self.history = self.history.then(self.step, found.J)
        if log is not None:
            log.validation(self.step, found, self.history)
        if self.stopped_early and self.history.best is not None:
            num_worse, (step, best) = self.history.num_since_best, self.history.best
            tell(f"stopping early after step {self.step}: {num_worse} validations below J {best:.4f} of step {step}")
            if log is not None:
                log.event(self.step, "stopped_early", best_step=step, best_J=best, num_validations=num_worse)
        return True

    def _save(self, log: RunLog | None) -> None:
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
            counters=self.counters,
            backbone=self.backbone,
            history=self.history,
        )
        save_checkpoint(checkpoint_path(self.out, self.step), checkpoint)
        remove_old_checkpoints(self.out, self.recipe.run.keep, self.history)


def _without_end(stream: SnippetStream) -> Iterator[SnippetBatch]:
    """All batches: iterating over a stream ends with its epoch, training does not."""
    while True:
        yield from stream


def _say_nothing(line: str) -> None:
    """What ranks other than 0 tell."""
