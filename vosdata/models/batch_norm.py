"""Batch normalisation over groups of a batch, and over all processes that share a batch.

Letters: N pictures, C channels, G groups.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn


class GroupedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that can treat a batch as several consecutive groups, each with statistics of its own.

    With the frames of B snippets stacked time-major and ``num_groups`` = T, every time-step is normalised by the
    statistics of its own B pictures and the running statistics move T times, as if they had been passed one by one.
    """

    synchronised: bool = False
    """Whether a group is the same group of all ranks together, as one process would have it; each rank holds as many
    pictures. Only while training in a process group."""

    def forward(self, x: Tensor, num_groups: int = 1) -> Tensor:
        """Normalises ``(N, C, H, W)``; in evaluation mode neither groups nor ranks make a difference."""
        if self.training and self.synchronised:
            return self._over_ranks(x, num_groups)
        if num_groups == 1 or not self.training:
            return super().forward(x)
        return torch.cat([super(GroupedBatchNorm2d, self).forward(group) for group in x.chunk(num_groups)])

    def _over_ranks(self, x: Tensor, num_groups: int) -> Tensor:
        """The same in the weights' precision; mean and variance of each group are added up over the ranks: two sums."""
        groups = x.to(self.weight.dtype).reshape(num_groups, -1, *x.shape[1:])  # (G, N / G, C, H, W)
        count = distributed.get_world_size() * groups.numel() // (num_groups * self.num_features)
        mean = _sum_over_ranks(groups.sum((1, 3, 4))) / count
        centred = groups - mean[:, None, :, None, None]
        variance = _sum_over_ranks(centred.square().sum((1, 3, 4))) / count
        self._move_running(mean.detach(), variance.detach() * (count / (count - 1)))
        scale = self.weight * (variance + self.eps).rsqrt()
        normalised = centred * scale[:, None, :, None, None] + self.bias[:, None, None]
        return normalised.reshape(x.shape).to(x.dtype)

    @torch.no_grad()
    def _move_running(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the running statistics once for each group, in order: mean and unbiased variance ``(G, C)``."""
        assert self.momentum is not None and self.running_mean is not None and self.running_var is not None
        stay, later = 1 - self.momentum, torch.arange(len(mean) - 1, -1, -1, device=mean.device)
        parts = (self.momentum * stay**later)[:, None]
        self.running_mean.mul_(stay ** len(mean)).add_((parts * mean).sum(0))
        self.running_var.mul_(stay ** len(mean)).add_((parts * variance).sum(0))
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(len(mean))


class _SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over all ranks; and so its gradient, as every rank's loss depends on every rank's part."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _SumOverRanks.forward(ctx, gradient)


def _sum_over_ranks(part: Tensor) -> Tensor:
    total: Tensor = _SumOverRanks.apply(part)  # type: ignore[no-untyped-call]
    return total


def synchronise_batch_norm(model: nn.Module) -> None:
    """Has every batch normalisation of a model use the pictures of all ranks in training mode.

    As ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` does, which knows neither groups nor CPUs.
    """
    for module in model.modules():
        if isinstance(module, GroupedBatchNorm2d):
            module.synchronised = True
