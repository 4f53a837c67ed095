"""The stream under torch's loaders: the same batches, no worker, exact resume."""

import inspect
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import vosdata
from vosdata.batch import SnippetBatch
from vosdata.torch_data import SnippetDataset


def options(**more: Any) -> dict[str, Any]:
    return {"snippet": 4, "size": (24, 40), "seed": 3, "batch": 2, "epoch_size": 11, "engine": "threads", **more}


def open_dataset(tiny_sets: dict[str, Path], **more: Any) -> SnippetDataset:
    return vosdata.torch_dataset({tiny_sets["alpha"]: 0.5, tiny_sets["beta"]: 0.5}, **options(**more))


def keys(batches: Iterable[SnippetBatch]) -> list[list[str]]:
    return [batch.keys for batch in batches]


@pytest.fixture
def reference(tiny_sets: dict[str, Path]) -> list[SnippetBatch]:
    """The batches of two epochs, straight from the stream."""
    sets = {tiny_sets["alpha"]: 0.5, tiny_sets["beta"]: 0.5}
    with vosdata.SnippetStream(sets, **options()) as stream:
        return [*stream, *stream]


def test_a_data_loader_yields_the_batches_of_the_stream(
    tiny_sets: dict[str, Path], reference: list[SnippetBatch]
) -> None:
    loader = DataLoader(open_dataset(tiny_sets), batch_size=None)
    length = len(loader)
    seen = list(loader)
    assert len(seen) == length == 6
    seen += list(loader)
    assert len(seen) == len(reference)
    for ours, theirs in zip(seen, reference, strict=True):
        assert (ours.keys, ours.epoch, ours.position) == (theirs.keys, theirs.epoch, theirs.position)
        assert torch.equal(ours.frames, theirs.frames)
        assert torch.equal(ours.masks, theirs.masks)
        assert torch.equal(ours.annotated, theirs.annotated)


def test_loader_workers_are_refused_because_each_would_repeat_every_batch(tiny_sets: dict[str, Path]) -> None:
    loader = DataLoader(open_dataset(tiny_sets), batch_size=None, num_workers=2)
    with pytest.raises(ValueError, match="takes no loader workers, got num_workers=2"):
        next(iter(loader))


def test_ranks_share_the_order_without_a_sampler(tiny_sets: dict[str, Path], reference: list[SnippetBatch]) -> None:
    loaders = [
        DataLoader(open_dataset(tiny_sets, rank=rank, num_ranks=2, batch=1), batch_size=None) for rank in range(2)
    ]
    together = [[*one, *other] for one, other in zip(*map(keys, loaders), strict=True)]
    assert together == keys(reference)[: len(together)]


def test_a_stateful_data_loader_resumes_at_every_batch(
    tiny_sets: dict[str, Path], reference: list[SnippetBatch]
) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    expected = keys(reference)
    for taken in range(1, 9):
        loader = stateful.StatefulDataLoader(open_dataset(tiny_sets), batch_size=None)
        seen: list[list[str]] = []
        state: dict[str, Any] = {}
        while len(seen) < taken:
            for batch in loader:
                seen.append(batch.keys)
                if len(seen) == taken:
                    state = pickle.loads(pickle.dumps(loader.state_dict()))
                    break
        resumed = stateful.StatefulDataLoader(open_dataset(tiny_sets), batch_size=None)
        resumed.load_state_dict(state)
        while len(seen) < len(expected):
            seen += keys(resumed)
        assert seen == expected, taken


def test_the_state_is_that_of_the_stream(tiny_sets: dict[str, Path]) -> None:
    dataset = open_dataset(tiny_sets)
    next(iter(dataset))
    with vosdata.SnippetStream({tiny_sets["alpha"]: 0.5, tiny_sets["beta"]: 0.5}, **options()) as stream:
        stream.load_state_dict(dataset.state_dict())
        assert stream.position == 2
        assert next(iter(stream)).keys == next(iter(dataset)).keys
        dataset.load_state_dict(stream.state_dict())
        assert dataset.stream.position == 4


def test_settings_may_change_from_the_state_on_when_asked_for(tiny_sets: dict[str, Path]) -> None:
    dataset = open_dataset(tiny_sets)
    state = {**dataset.state_dict(), "position": 4}
    other = vosdata.torch_dataset(tiny_sets["alpha"], **options())
    with pytest.raises(ValueError, match="allow_changes=True"):
        other.load_state_dict(state)
    other.load_state_dict(state, allow_changes=True)
    assert other.stream.position == 4


def test_it_takes_the_arguments_of_the_stream(tiny_sets: dict[str, Path]) -> None:
    ours, theirs = inspect.signature(vosdata.torch_dataset), inspect.signature(vosdata.SnippetStream)
    assert list(ours.parameters) == list(theirs.parameters)
    assert "DataLoader" in (vosdata.torch_dataset.__doc__ or "")
    with pytest.raises(ValueError, match="batch must be at least 1"):
        open_dataset(tiny_sets, batch=0)
