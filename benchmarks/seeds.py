"""What several seeds tell: mean, interval, and differences between arms, paired by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t as student


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval by Student's t."""

    values: tuple[float, ...]
    mean: float
    half_width: float
    """NaN for fewer than two values."""

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if math.isnan(self.half_width) else f" ± {self.half_width:.3f}")

    def signed(self) -> str:
        """The same, with a plus before gains."""
        return f"+{self}" if self.mean >= 0 else str(self)

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval holds no 0."""
        return abs(self.mean) > self.half_width


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and interval of independent values.

    Raises:
        ValueError: there is none.
    """
    if not values:
        raise ValueError("there is no value to average")
    count, mean = len(values), math.fsum(values) / len(values)
    if count < 2:
        return Estimate(tuple(values), mean, math.nan)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Estimate(tuple(values), mean, float(student.ppf(0.975, count - 1)) * math.sqrt(variance / count))


def difference(ours: Mapping[int, float], base: Mapping[int, float]) -> Estimate:
    """Mean of ours minus base over the seeds that both have.

    Raises:
        ValueError: they have none in common.
    """
    return estimate([ours[seed] - base[seed] for seed in sorted(ours.keys() & base.keys())])
