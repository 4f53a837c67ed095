"""What stays in float32 or wider when autocast runs the convolutions in half precision."""

from torch import Tensor, autocast, bfloat16, float16, nn


def widen(x: Tensor) -> Tensor:
    """Half-precision tensors become float32; wider ones stay as they are."""
    return x.float() if x.dtype in (bfloat16, float16) else x


def precisely(layer: nn.Module, x: Tensor) -> Tensor:
    """Runs a layer in float32 or wider: a predictor's logits, of which bfloat16 would keep only two or three digits."""
    with autocast(x.device.type, enabled=False):
        logits: Tensor = layer(widen(x))
        return logits
