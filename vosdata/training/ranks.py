"""The trainers of one run: a single process, or those that ``torchrun`` started, which hold equal weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from vosdata.models.batch_norm import synchronise_batch_norm
from vosdata.world import World


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among the trainers."""

    rank: int
    """0 <= rank < num_ranks; rank 0 writes all files."""

    num_ranks: int
    """Number of trainers."""

    device: torch.device
    """Where this rank computes."""

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and speaks."""
        return self.rank == 0

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, on every rank, without gradient."""
        total = tensor.detach()
        if self.num_ranks > 1:
            total = total.clone()
            distributed.all_reduce(total)
        return total

    def agree(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; every rank must ask."""
        if self.num_ranks == 1:
            return flag
        return bool(self.add_up(torch.tensor(int(flag), device=self.device)).item())

    def from_main(self, number: int) -> int:
        """Rank 0's number, on every rank."""
        return int(self.add_up(torch.tensor(number if self.is_main else 0, device=self.device)).item())

    def gather(self, share: Any) -> list[Any]:
        """What every rank has to say, by rank, on every rank; any picklable value."""
        if self.num_ranks == 1:
            return [share]
        shares: list[Any] = [None] * self.num_ranks
        distributed.all_gather_object(shares, share)
        return shares

    def share_buffers(self, model: nn.Module) -> None:
        """Gives every rank rank 0's batch statistics, those that a checkpoint holds; gradients keep weights equal."""
        if self.num_ranks > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def parallel(self, model: nn.Module, sync_batch_norm: bool) -> nn.Module:
        """Wraps a model so that gradients are averaged over the ranks; batch statistics are those of all, or each's."""
        if self.num_ranks == 1:
            return model
        if sync_batch_norm:
            synchronise_batch_norm(model)
        devices = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)

    @contextmanager
    def keeping_gradients(self, model: nn.Module, keep: bool) -> Iterator[None]:
        """Lets ranks keep their gradients in the ``with`` block, where ``keep``; they are averaged with later ones."""
        if keep and isinstance(model, nn.parallel.DistributedDataParallel):
            with model.no_sync():
                yield
        else:
            yield


@contextmanager
def join_ranks(world: World, device: str = "auto") -> Iterator[Ranks]:
    """Joins the other trainers, if there are any, until the end of the ``with`` block.

    Args:
        world: what :func:`vosdata.world.detect` found.
        device: ``"auto"`` (CUDA where there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        ValueError: there is no such device.
    """
    place = choose_device(device, world.local_rank)
    if world.num_ranks == 1:
        yield Ranks(0, 1, place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    distributed.init_process_group(
        "nccl" if place.type == "cuda" else "gloo", rank=world.rank, world_size=world.num_ranks
    )
    try:
        yield Ranks(world.rank, world.num_ranks, place)
    finally:
        distributed.destroy_process_group()


def choose_device(device: str, local_rank: int = 0) -> torch.device:
    """Finds the device that a rank computes on.

    Raises:
        ValueError: it is not a device, or not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu or cuda, got '{device}'") from error
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"device '{device}' is not there: PyTorch sees no CUDA device; use --device cpu")
        index = local_rank if chosen.index is None else chosen.index
        if index >= torch.cuda.device_count():
            raise ValueError(f"device cuda:{index} is not there: PyTorch sees {torch.cuda.device_count()} CUDA devices")
        return torch.device("cuda", index)
    return chosen
