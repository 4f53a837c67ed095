"""A training step asks for work and never waits for it; optimiser and copies are fit for that."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode

from vosdata.batch import SnippetBatch
from vosdata.checkpoint import optimiser_tensors, restore_optimiser
from vosdata.models.agame import AGAME
from vosdata.recipe import load_recipe
from vosdata.train import Run
from vosdata.training.copying import BatchCopier
from vosdata.training.ranks import Ranks

TINY = [
    "data.sets={x: 1.0}",
    "model.backbone_width=8",
    *(f"model.{part}_channels=6" for part in ("appearance", "propagation", "fusion", "encoding", "upsampling")),
]


class NoStream:
    """Stands in for a stream; the batches come from the test."""

    epoch_size = 100

    def __iter__(self) -> Iterator[SnippetBatch]:
        return iter(())

    def positions(self, batch: SnippetBatch) -> list[int]:
        return list(range(len(batch)))


def batch_of(num_snippets: int) -> SnippetBatch:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (num_snippets, 3, 3, 48, 64), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(num_snippets, 3, 48, 64, dtype=torch.uint8)
    masks[:, :, 10:30, 20:50] = 1
    annotated, targets = torch.ones(num_snippets, 3, dtype=torch.bool), (1,) * num_snippets
    return SnippetBatch(frames, masks, annotated, ["key"] * num_snippets, 0, 0, num_targets=targets)


def run_of(*overrides: str) -> Run:
    recipe = load_recipe("smoke", [*TINY, *overrides])
    network: Any = AGAME(recipe.model.config())
    stream: Any = NoStream()
    return Run(recipe, Path("unused"), Ranks(0, 1, torch.device("cpu")), stream, network, "none")


@pytest.mark.parametrize("objects", ["one", "3"])
def test_a_step_reads_no_value_that_the_device_computes(objects: str) -> None:
    """With tensors that have shapes but no values, whatever reads one raises: item, bool, nonzero, boolean indexing."""
    run = run_of(f"data.objects={objects}", "data.tensors.brightness=0.1", "train.clip_gradient=1.0")
    with FakeTensorMode(allow_non_fake_inputs=True):
        for _ in range(2):  # the first step also makes the optimiser's tensors
            outcome = run.train_on(batch_of(2))
        assert isinstance(outcome.row, FakeTensor)
        with pytest.raises(DataDependentOutputException):
            bool(outcome.row.isfinite().all())


def test_restored_optimiser_tensors_lie_in_memory_as_their_parameters_do() -> None:
    """A fused optimiser goes through all of them in order of memory; stored tensors are contiguous."""
    run, other = run_of(), run_of()
    for _ in range(2):
        run.train_on(batch_of(2))
    stored = {
        name: {key: tensor.contiguous() for key, tensor in tensors.items()}
        for name, tensors in optimiser_tensors(run.optimiser, run.network).items()
    }
    restore_optimiser(other.optimiser, other.network, stored, "here")
    strides = set()
    for parameter, same in zip(run.parameters, other.parameters, strict=True):
        for key in ("exp_avg", "exp_avg_sq"):
            restored = other.optimiser.state[same][key]
            assert torch.equal(restored, run.optimiser.state[parameter][key])
            assert restored.stride() == same.stride()
            strides.add(restored.is_contiguous())
    assert strides == {True, False}  # some are channels-last, else nothing was shown


def test_a_cpu_batch_is_not_copied_for_the_cpu() -> None:
    batch = batch_of(1)
    assert BatchCopier(torch.device("cpu"))(batch).frames.data_ptr() == batch.frames.data_ptr()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_reach_a_busy_gpu_whole() -> None:
    device = torch.device("cuda")
    copy, busy = BatchCopier(device), torch.rand(4096, 4096, device=device)
    for seed in range(8):
        batch = batch_of(8)
        batch.frames.random_(generator=torch.Generator().manual_seed(seed))
        pinned = SnippetBatch(
            batch.frames.pin_memory(), batch.masks.pin_memory(), batch.annotated.pin_memory(), batch.keys, 0, 0
        )
        for _ in range(20):
            busy = busy @ busy / 2048
        copied = copy(pinned)
        assert torch.equal(copied.frames.cpu(), batch.frames)
        assert torch.equal(copied.masks.cpu(), batch.masks)
