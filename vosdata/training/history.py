"""How the validations of a run went, and what follows: which checkpoint is the best, and whether to stop early."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class History:
    """All validations of a run so far; a checkpoint holds it, so that best and patience follow from it alone."""

    validations: tuple[tuple[int, float], ...] = ()
    """Step and J of each, in order."""

    @property
    def newest(self) -> tuple[int, float] | None:
        """Step and J of the last one."""
        return self.validations[-1] if self.validations else None

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and J of the best one; the earliest, where several are equal."""
        return max(self.validations, key=lambda one: (one[1], -one[0]), default=None)

    @property
    def num_since_best(self) -> int:
        """Validations in a row that brought nothing better."""
        best = self.best
        return 0 if best is None else sum(step > best[0] for step, _ in self.validations)

    def until(self, step: int) -> "History":
        """What was known after a step."""
        return History(tuple(one for one in self.validations if one[0] <= step))

    def then(self, step: int, J: float) -> "History":  # noqa: N803
        """With one more."""
        return History((*self.validations, (step, J)))

    def is_exhausted(self, patience: int | None) -> bool:
        """Whether training should stop early."""
        return patience is not None and self.num_since_best >= patience
