"""Looks over a network's shoulder: what its modules say of each frame while it segments."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from vosdata.models.agame.appearance import component_posteriors
from vosdata.models.agame.network import AGAME


@dataclass(slots=True, eq=False)
class Seen:
    """Of the frame that was segmented last, per target; None until a frame was predicted.

    Maps are of the padded frame at stride 16. A frame whose objects were all given in it predicts nothing.
    """

    posteriors: Tensor | None = None
    """Float (N, K, h, w): how likely each component of the appearance model is (equation 7); K is 0 without one."""

    coarse: Tensor | None = None
    """Float (N, h, w): probability of the target in the coarse mask."""


@contextmanager
def watching(model: AGAME) -> Iterator[Seen]:
    """Keeps what the fusion module was told and said last, as long as the context is open."""
    seen = Seen()
    are_logs = model.config.appearance_output != "posteriors"  # up to what all components share

    def note(_: nn.Module, told: tuple[Tensor, Tensor], said: tuple[Tensor, Tensor]) -> None:
        seen.posteriors = (component_posteriors(told[0]) if are_logs else told[0]).detach()
        seen.coarse = said[1].softmax(1)[:, 1].detach()

    hook = model.fusion.register_forward_hook(note)
    try:
        yield seen
    finally:
        hook.remove()
