"""How much an A-GAME computes, counted from its layers: what a device's throughput is measured against.

Counted are the convolutions of the published network, once each (1 multiply-add = 2 FLOP), whatever an implementation
computes besides; the Gaussians and the normalisation are below 2 % of it and are left out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vosdata.models.agame import AGAME

_STRIDES = {"appearance": 16, "propagation": 16, "fusion": 16, "to_stride8": 8, "to_stride4": 4, "upsampling": 4}


@dataclass(frozen=True)
class FrameFlops:
    """FLOP of one frame with one object, forward."""

    frozen: float
    """Backbone stages that are not trained."""

    backbone: float
    """Backbone stages that are trained."""

    heads: float
    """Everything else, once for each object."""

    @property
    def training(self) -> float:
        """Of a training step, per frame: the backward pass of what is trained is two forward passes more."""
        return self.frozen + 3 * (self.backbone + self.heads)

    def inference(self, num_objects: int) -> float:
        return self.frozen + self.backbone + num_objects * self.heads


def count_flops(model: AGAME, size: tuple[int, int]) -> FrameFlops:
    """Counts for frames of (height, width)."""
    heads = sum(
        2 * layer.weight.numel() * size[0] * size[1] / _stride(name) ** 2
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d) and not name.startswith("backbone.")
    )
    counted = {True: 0.0, False: 0.0}

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.get_parameter("weight")
        counted[weight.requires_grad] += 2 * weight.numel() * output.shape[2] * output.shape[3]

    with torch.device("meta"):
        backbone = AGAME(model.config).backbone
        for layer in backbone.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(count)
        backbone(torch.empty(1, 3, *size))
    return FrameFlops(counted[False], counted[True], heads)


def _stride(name: str) -> int:
    parts = name.split(".")
    return next(_STRIDES[part] for part in reversed(parts) if part in _STRIDES)
