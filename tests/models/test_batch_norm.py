"""Batch normalisation over several processes is batch normalisation over all that they hold."""

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed

from vosdata.models.batch_norm import GroupedBatchNorm2d, synchronise_batch_norm

NUM_RANKS = 2


def whole_batch(num_groups: int) -> tuple[Tensor, Tensor]:
    """Pictures ``(G x 4, 3, 2, 5)`` with statistics far from 0 and 1, and weights of a loss over what comes out."""
    generator = torch.Generator().manual_seed(7)
    shape = (num_groups * 4, 3, 2, 5)
    pictures = 5 + 3 * torch.rand(shape, dtype=torch.float64, generator=generator)
    return pictures, torch.rand(shape, dtype=torch.float64, generator=generator)


def new_layer() -> GroupedBatchNorm2d:
    layer = GroupedBatchNorm2d(3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.5, -2.0]))
        layer.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    return layer


def normalise(layer: GroupedBatchNorm2d, pictures: Tensor, weights: Tensor, num_groups: int) -> dict[str, Tensor]:
    """Output, gradients of the weighted sum of it, and what the layer remembers."""
    pictures = pictures.clone().requires_grad_()
    out = layer(pictures, num_groups)
    (out * weights).sum().backward()
    assert pictures.grad is not None and layer.weight.grad is not None and layer.bias.grad is not None
    found = {"out": out.detach(), "pictures": pictures.grad, "weight": layer.weight.grad, "bias": layer.bias.grad}
    return {**found, **{name: buffer.clone() for name, buffer in layer.named_buffers()}}


def share(whole: Tensor, rank: int, num_groups: int) -> Tensor:
    """A rank's part of each group."""
    return whole.reshape(num_groups, -1, *whole.shape[1:]).chunk(NUM_RANKS, dim=1)[rank].flatten(0, 1)


def normalise_share(rank: int, meeting: Path, num_groups: int, answers: Connection) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=NUM_RANKS)
    layer = new_layer()
    synchronise_batch_norm(layer)
    pictures, weights = (share(whole, rank, num_groups) for whole in whole_batch(num_groups))
    found = normalise(layer, pictures, weights, num_groups)
    answers.send({name: tensor.tolist() for name, tensor in found.items()})
    distributed.destroy_process_group()


@pytest.mark.parametrize("num_groups", [1, 3])
def test_two_processes_normalise_as_one_does(num_groups: int, tmp_path: Path) -> None:
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vosdata.models.batch_norm"])
    pipes = [context.Pipe(duplex=False) for _ in range(NUM_RANKS)]
    processes = [
        context.Process(target=normalise_share, args=(rank, tmp_path / "meeting", num_groups, pipes[rank][1]))
        for rank in range(NUM_RANKS)
    ]
    for process in processes:
        process.start()
    found = []
    for receiver, _ in pipes:
        assert receiver.poll(60)
        found.append({name: torch.tensor(values, dtype=torch.float64) for name, values in receiver.recv().items()})
    for process in processes:
        process.join(60)
    expected = normalise(new_layer(), *whole_batch(num_groups), num_groups)  # PyTorch's own, group by group
    for rank, one in enumerate(found):
        for name in ("out", "pictures"):
            torch.testing.assert_close(one[name], share(expected[name], rank, num_groups))
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(one[name], expected[name].double())
    for name in ("weight", "bias"):
        torch.testing.assert_close(sum(one[name] for one in found), expected[name])
