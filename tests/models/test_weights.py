"""Where backbone weights come from, and what is refused."""

import hashlib
import os
import pickle
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from shards.errors import CheckpointError
from vosdata.models.agame import AGAME, AGAMEConfig
from vosdata.models.weights import WeightsOrigin, load_backbone

Entries = dict[str, torch.Tensor]


@pytest.fixture
def entries(tiny_config: AGAMEConfig) -> Entries:
    """Other weights of the tiny backbone, with a classifier as torchvision's files have it."""
    weights = {name: value.contiguous() for name, value in AGAME(tiny_config, seed=5).backbone.state_dict().items()}
    return weights | {"fc.weight": torch.zeros(1000, 64), "fc.bias": torch.zeros(1000)}


def _holds(model: AGAME, entries: Entries) -> bool:
    return all(torch.equal(value, entries[name]) for name, value in model.backbone.state_dict().items())


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_is_loaded_without_its_classifier_and_its_digest_returned(
    tiny: AGAME, entries: Entries, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"weights.{suffix}"
    save_file(entries, path) if suffix == "safetensors" else torch.save(entries, path)
    origin = load_backbone(tiny, path)
    assert _holds(tiny, entries)
    assert origin == WeightsOrigin(path.name, hashlib.sha256(path.read_bytes()).hexdigest())


def test_only_batch_counters_may_be_missing(tiny: AGAME, entries: Entries, tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({name: value for name, value in entries.items() if not name.endswith("num_batches_tracked")}, path)
    load_backbone(tiny, path)
    assert _holds(tiny, entries)
    torch.save({name: value for name, value in entries.items() if name != "layer1.0.bn1.running_var"}, path)
    with pytest.raises(CheckpointError, match=r"lacks layer1\.0\.bn1\.running_var"):
        load_backbone(tiny, path)


def test_unknown_and_misshapen_entries_are_named(tiny: AGAME, entries: Entries, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(entries | {"layer5.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"unknown entry layer5\.weight"):
        load_backbone(tiny, path)
    save_file(entries | {"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(
        CheckpointError, match=r"conv1\.weight is \(64, 3, 7, 7\), expected \(8, 3, 7, 7\).*backbone_width"
    ):
        load_backbone(tiny, path)


class _Exploit:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


def test_a_pickle_is_not_executed(tiny: AGAME, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"conv1.weight": _Exploit()}, protocol=2))
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        load_backbone(tiny, tmp_path / "evil.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pth", "notes.txt"])
def test_files_that_are_no_weights_are_refused(tiny: AGAME, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=name):
        load_backbone(tiny, tmp_path / name)


def test_a_missing_file_is_refused_and_random_weights_come_only_when_asked_for(tiny: AGAME, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in tiny.backbone.state_dict().items()}
    with pytest.raises(CheckpointError, match="no backbone weights at"):
        load_backbone(tiny, tmp_path / "resnet18.pth")
    assert load_backbone(tiny, "none") == WeightsOrigin("none", "")
    assert _holds(tiny, before)


def test_the_given_folder_comes_before_the_hub(
    tiny: AGAME, entries: Entries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: pytest.fail("looked into the cache"))
    torch.save(entries, tmp_path / "resnet18-f37072fd.pth")
    (tmp_path / "resnet181.pth").touch()  # another network's name that begins alike
    assert load_backbone(tiny, "imagenet", tmp_path).source == "resnet18-f37072fd.pth"
    save_file(entries, tmp_path / "resnet18.safetensors")
    assert load_backbone(tiny, "imagenet", tmp_path).source == "resnet18.safetensors"
    with pytest.raises(CheckpointError, match="does not exist"):
        load_backbone(tiny, "imagenet", tmp_path / "nowhere")


def test_the_hubs_cache_comes_before_a_download(
    tiny: AGAME, entries: Entries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(entries, tmp_path / "model.safetensors")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(tmp_path / "model.safetensors"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("downloaded"))
    origin = load_backbone(tiny, "imagenet", tmp_path, announce=lambda line: pytest.fail(line))
    assert origin.source == "timm/resnet18.tv_in1k/model.safetensors"
    assert _holds(tiny, entries)


def test_without_a_network_the_message_says_at_once_what_to_do(tiny: AGAME, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # read once, when another test imported it
    monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda *_: "http://127.0.0.1:1/nobody-listens-there")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("tries again for half a minute"))
    told: list[str] = []
    with pytest.raises(CheckpointError, match=r"refused.*VOSDATA_WEIGHTS_DIR") as error:
        load_backbone(tiny, "imagenet", announce=told.append)
    assert "\n" not in str(error.value)
    assert told == ["downloading ImageNet weights of resnet18 from https://huggingface.co/timm/resnet18.tv_in1k"]


def test_a_download_that_breaks_off_is_said(tiny: AGAME, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: str) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("connection lost\nmore lines")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    with pytest.raises(CheckpointError, match=r"connection lost\).*VOSDATA_WEIGHTS_DIR") as error:
        load_backbone(tiny, "imagenet", announce=lambda line: None)
    assert "\n" not in str(error.value)
