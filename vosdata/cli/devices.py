"""Where networks run, and how precisely."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16"]


def pick_device(name: str) -> str:
    """The device for ``auto``: the GPU where there is one.

    Raises:
        ValueError: there is no such device here.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: there is no CUDA device here; use cpu")
    try:
        return str(torch.device(name))
    except RuntimeError as error:
        raise ValueError(f"--device {name}: {error}") from error


def pick_precision(name: Precision, device: str) -> "torch.dtype | None":
    """What convolutions compute in; None is the network's own float32, which ``auto`` takes on the CPU."""
    import torch

    half = name == "bfloat16" or (name == "auto" and torch.device(device).type == "cuda")
    return torch.bfloat16 if half else None
