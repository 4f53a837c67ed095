"""Checkpoints: written whole or not at all, damage found at every byte, readable by plain safetensors."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from shards.errors import CheckpointError
from vosdata.checkpoint import (
    Checkpoint,
    checkpoint_path,
    list_checkpoints,
    load_checkpoint,
    load_weights,
    newest_checkpoint,
    open_checkpoint,
    optimiser_tensors,
    remove_old_checkpoints,
    restore_optimiser,
    save_checkpoint,
)
from vosdata.recipe import load_recipe
from vosdata.training.tensor_file import read_tensors, write_tensors


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def trained(network: nn.Module, optimiser: torch.optim.Optimizer, steps: int, first: int = 0) -> list[float]:
    losses = []
    for step in range(first, first + steps):
        loss = network(torch.randn(5, 3, generator=torch.Generator().manual_seed(step))).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.fixture
def checkpoint() -> Checkpoint:
    network = small_network()
    optimiser = torch.optim.Adam(network.parameters())
    trained(network, optimiser, 2)
    return Checkpoint(
        step=2,
        recipe=load_recipe("smoke"),
        stream={"epoch": 0, "position": 8},
        model=network.state_dict(),
        optimiser=optimiser_tensors(optimiser, network),
        counters={"snippets": 8},
        backbone="none",
    )


def test_a_checkpoint_reads_back_equal(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "c.safetensors", checkpoint)
    back = load_checkpoint(tmp_path / "c.safetensors")
    assert (back.step, back.recipe, back.stream, back.counters, back.backbone) == (
        checkpoint.step,
        checkpoint.recipe,
        checkpoint.stream,
        checkpoint.counters,
        checkpoint.backbone,
    )
    assert back.model.keys() == checkpoint.model.keys()
    assert all(torch.equal(back.model[name], tensor) for name, tensor in checkpoint.model.items())
    assert back.optimiser.keys() == checkpoint.optimiser.keys()
    for name, states in checkpoint.optimiser.items():
        assert all(torch.equal(back.optimiser[name][key], tensor) for key, tensor in states.items())


def test_plain_safetensors_reads_the_file(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "c.safetensors", checkpoint)
    tensors = load_file(tmp_path / "c.safetensors")
    assert torch.equal(tensors["model.0.weight"], checkpoint.model["0.weight"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool])
def test_every_dtype_and_shape_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {f"t{len(shape)}": torch.ones(shape, dtype=dtype) for shape in [(), (3,), (2, 0), (2, 3, 5)]}
    tensors["transposed"] = torch.arange(6).reshape(2, 3).to(dtype).T
    write_tensors(tmp_path / "t", tensors, "Ünicode")
    back, metadata = read_tensors(tmp_path / "t")
    assert metadata == "Ünicode"
    assert all(torch.equal(back[name], tensor) and back[name].dtype == dtype for name, tensor in tensors.items())


def test_a_flipped_bit_or_a_cut_at_any_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "c"
    write_tensors(path, {"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.uint8)}, "{}")
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        for content in (damaged, whole[:place]):
            path.write_bytes(content)
            with pytest.raises(CheckpointError, match=str(path)):
                read_tensors(path)
    path.write_bytes(whole)
    assert read_tensors(path)[0].keys() == {"a", "b"}


def test_equal_content_gives_equal_bytes(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "a", checkpoint)
    save_checkpoint(tmp_path / "b", checkpoint)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c"
    write_tensors(path, {"a": torch.zeros(3)}, "old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_tensors(path, {"a": torch.ones(3)}, "new")
    assert read_tensors(path)[1] == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path, checkpoint: Checkpoint) -> None:
    assert newest_checkpoint(tmp_path) == (None, [])
    for step in (5, 20, 100_000_000):
        save_checkpoint(checkpoint_path(tmp_path, step), replace(checkpoint, step=step))
    (tmp_path / "checkpoints" / "step-99999999.safetensors.123.tmp").write_bytes(b"half")
    found, problems = newest_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, problems) == (100_000_000, [])
    newest = list_checkpoints(tmp_path)[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    found, problems = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 20
    assert [str(newest) in problem for problem in problems] == [True]
    with pytest.warns(UserWarning, match="damaged"):
        assert open_checkpoint(tmp_path).step == 20


def test_a_run_of_damaged_checkpoints_is_an_error(tmp_path: Path, checkpoint: Checkpoint) -> None:
    path = checkpoint_path(tmp_path, 3)
    save_checkpoint(path, checkpoint)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="every checkpoint is unusable"):
        newest_checkpoint(tmp_path)


def test_only_old_checkpoints_are_removed(tmp_path: Path, checkpoint: Checkpoint) -> None:
    for step in (1, 2, 3):
        save_checkpoint(checkpoint_path(tmp_path, step), checkpoint)
    remove_old_checkpoints(tmp_path, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "step-00000003.safetensors",
        "step-00000002.safetensors",
    ]


def test_what_is_not_a_checkpoint_is_told_in_one_line(tmp_path: Path) -> None:
    pickled, text, empty = tmp_path / "model.pth", tmp_path / "notes.txt", tmp_path / "run"
    torch.save({"a": torch.zeros(2)}, pickled)
    text.write_text("hello, this is no checkpoint")
    empty.mkdir()
    for path, said in [
        (pickled, "pickle"),
        (text, "not a checkpoint"),
        (empty, "no checkpoint in"),
        (tmp_path / "nosuch", "no checkpoint at"),
    ]:
        with pytest.raises(CheckpointError, match=said) as caught:
            open_checkpoint(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_another_format_version_and_a_garbled_description_are_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    path = tmp_path / "c"
    save_checkpoint(path, checkpoint)
    tensors, metadata = read_tensors(path)
    facts = json.loads(metadata)
    write_tensors(path, tensors, json.dumps({**facts, "version": 2}))
    with pytest.raises(CheckpointError, match="version 1, got vosdata checkpoint 2"):
        load_checkpoint(path)
    del facts["stream"]
    write_tensors(path, tensors, json.dumps(facts))
    with pytest.raises(CheckpointError, match="stream"):
        load_checkpoint(path)


def test_training_goes_on_from_restored_tensors_as_if_never_cut(tmp_path: Path) -> None:
    network = small_network()
    optimiser = torch.optim.Adam(network.parameters(), weight_decay=0.1)
    uncut = trained(network, optimiser, 7)
    first = small_network()
    earlier = torch.optim.Adam(first.parameters(), weight_decay=0.1)
    trained(first, earlier, 3)
    save_checkpoint(
        tmp_path / "c", Checkpoint(3, load_recipe("smoke"), {}, first.state_dict(), optimiser_tensors(earlier, first))
    )
    stored = load_checkpoint(tmp_path / "c")
    second = small_network()
    later = torch.optim.Adam(second.parameters(), weight_decay=0.1)
    load_weights(second, stored.model, "c")
    restore_optimiser(later, second, stored.optimiser, "c")
    assert trained(second, later, 4, first=3) == uncut[3:]
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), second.parameters(), strict=True))


def test_weights_that_do_not_fit_are_named(checkpoint: Checkpoint) -> None:
    other = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1))
    with pytest.raises(CheckpointError, match=r"1\.weight is unknown") as caught:
        load_weights(other, checkpoint.model, "run")
    assert "and 5 more" in str(caught.value)
    restricted = torch.optim.Adam([small_network()[0].weight])  # type: ignore[union-attr, list-item]
    with pytest.raises(CheckpointError, match="not trained here"):
        restore_optimiser(restricted, small_network(), checkpoint.optimiser, "run")
