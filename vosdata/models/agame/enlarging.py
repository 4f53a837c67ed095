"""Bilinear enlargement of maps to whole pictures, with a gradient that does not take longer than all else.

Letters: N pictures, C channels, h and w of a map, H and W of the picture.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import interpolate


def enlarge(x: Tensor, factor: int) -> Tensor:
    """Bilinear enlargement of (N, C, h, w) by a whole factor; pixel centres keep their place."""
    return interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def enlarge_to_pixels(x: Tensor, factor: int) -> Tensor:
    """The same for a few channels and a large factor, where the gradient sums many pixels into each cell.

    Bilinear weights are a product of one matrix for rows and one for columns, so the gradient is two matrix products.
    PyTorch's own walks over the pixels one by one on a CPU, 5 to 14 times as long at 192x320; on CUDA it adds them up
    in an order that varies.
    """
    return _Enlarged.apply(x, factor) if x.requires_grad else enlarge(x, factor)  # type: ignore[no-untyped-call]


class _Enlarged(torch.autograd.Function):
    """:func:`enlarge`, with matrix products as its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: int) -> Tensor:
        ctx.size, ctx.factor = x.shape[-2:], factor
        return enlarge(x, factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rows, columns = (_weights(size, ctx.factor, gradient) for size in ctx.size)
        return rows.T @ (gradient @ columns), None


def _weights(size: int, factor: int, like: Tensor) -> Tensor:
    """Share of each of ``size`` cells in each of ``size * factor`` pixels, (size * factor, size): a triangle's."""
    pixels, cells = (torch.arange(n, dtype=like.dtype, device=like.device) for n in (size * factor, size))
    places = ((pixels + 0.5) / factor - 0.5).clamp(0, size - 1)
    return (1 - (places[:, None] - cells).abs()).clamp(min=0)
