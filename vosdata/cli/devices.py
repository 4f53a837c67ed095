"""How precisely networks compute on a device."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16"]


def pick_precision(name: Precision, device: str) -> "torch.dtype | None":
    """What convolutions compute in; None is the network's own float32, which ``auto`` takes on the CPU."""
    import torch

    half = name == "bfloat16" or (name == "auto" and torch.device(device).type == "cuda")
    return torch.bfloat16 if half else None
