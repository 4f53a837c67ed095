"""A run's curves for TensorBoard, beside ``metrics.jsonl``, which holds everything that is written here."""

from pathlib import Path
from typing import Any

from shards.errors import RecipeError
from vosdata.training.metrics_log import StepMetrics

SCALARS = ("loss", "fine", "coarse", "J", "gradient_norm", "learning_rate", "frames_per_second", "data_wait")


class TensorBoardLog:
    """Writes event files."""

    def __init__(self, folder: Path, step: int) -> None:
        """Opens a file of events; those that an earlier process wrote behind a step are hidden by TensorBoard.

        Args:
            folder: made if need be.
            step: the step that the run goes on from.

        Raises:
            RecipeError: TensorBoard is not installed.
        """
        self._writer: Any = summary_writer()(str(folder), purge_step=step + 1)

    def write(self, metrics: StepMetrics) -> None:
        """Adds a logged step."""
        for name in SCALARS:
            value = getattr(metrics, name)
            if value is not None:
                self._writer.add_scalar(f"training/{name}", value, metrics.step)

    def validation(self, step: int, J: float) -> None:  # noqa: N803
        """Adds a validation."""
        self._writer.add_scalar("validation/J", J, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


def summary_writer() -> Any:
    """PyTorch's writer of event files.

    Raises:
        RecipeError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RecipeError(
            f"run.tensorboard needs TensorBoard ({error}): pip install 'vosdata[tensorboard]', or leave the key out; "
            "metrics.jsonl holds the same figures"
        ) from error
    return SummaryWriter
