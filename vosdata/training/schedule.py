"""Where a step lies in the epochs, and what learning rate it has: pure functions of the step."""

from dataclasses import dataclass

from vosdata.recipe import TrainRecipe, ValidationRecipe


@dataclass(frozen=True, slots=True)
class Schedule:
    """The plan of a run. Steps count from 1; step k trains the snippets (k - 1) batch to k batch - 1 of the order."""

    train: TrainRecipe
    """Epochs, batch and learning rates."""

    epoch_size: int
    """Snippets in an epoch."""

    @property
    def last_step(self) -> int:
        """The step that reaches the end of the last epoch, or ``train.steps`` if that comes first."""
        of_epochs = -(-self.train.epochs * self.epoch_size // self.train.batch)
        return of_epochs if self.train.steps is None else min(of_epochs, self.train.steps)

    def place(self, step: int) -> tuple[int, int]:
        """Epoch of a step's first snippet, and its place in that epoch."""
        return divmod((step - 1) * self.train.batch, self.epoch_size)

    def validates(self, step: int, validation: ValidationRecipe) -> bool:
        """Whether a validation is due after a step: each so many steps or whole epochs, and at the end."""
        if step == self.last_step:
            return True
        if validation.every_steps is not None:
            return step % validation.every_steps == 0
        now, before = (self._epochs_done(one) // validation.every_epochs for one in (step, step - 1))
        return now > before

    def _epochs_done(self, step: int) -> int:
        """Whole epochs that are over after a step."""
        return step * self.train.batch // self.epoch_size

    def learning_rate(self, step: int) -> float:
        """Exponential decay by epoch: the same for all steps that begin in one epoch (paper section 3.4)."""
        return self.train.learning_rate * self.train.lr_decay ** self.place(step)[0]
