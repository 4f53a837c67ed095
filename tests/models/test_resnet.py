"""The dilated ResNet: sizes, names, which stages are trained, and what batch norm does."""

import json
from pathlib import Path

import pytest
import torch

from vosdata.models.batch_norm import GroupedBatchNorm2d
from vosdata.models.resnet import BackboneName, ResNet


@pytest.mark.parametrize(
    ("name", "count"),  # torchvision's documented numbers of parameters
    [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032), ("resnet101", 44_549_160)],
)
def test_parameters_are_as_many_as_torchvisions(name: BackboneName, count: int) -> None:
    with torch.device("meta"):
        network = ResNet(name, keep_classifier=True)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_entries_are_named_as_torchvisions(golden: Path) -> None:
    entries = json.loads((golden / "agame_published_state_dict.json").read_text())
    prefix = "trackseg.backbone."
    published = {name.removeprefix(prefix): tuple(shape) for name, shape in entries.items() if name.startswith(prefix)}
    with torch.device("meta"):
        network = ResNet("resnet101", keep_classifier=True)
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == published


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_features_have_strides_4_8_and_16(name: BackboneName) -> None:
    network = ResNet(name, width=4).eval()
    features = network(torch.zeros(2, 3, 48, 80))
    expected = [(2, channels, 48 // s, 80 // s) for channels, s in zip(network.channels, (4, 8, 16), strict=True)]
    assert [tuple(level.shape) for level in features] == expected


@pytest.mark.parametrize("name", ["resnet18", "resnet101"])
def test_only_the_later_blocks_of_the_last_stage_are_dilated(name: BackboneName) -> None:
    with torch.device("meta"):
        network = ResNet(name)
    for path, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            dilated = path.startswith("layer4.") and not path.startswith("layer4.0.")
            assert module.dilation == ((2, 2) if dilated else (1, 1)), path


def test_frozen_stages_take_no_gradient_and_keep_their_statistics_in_training_mode() -> None:
    network = ResNet("resnet18", width=4, train_from="layer3").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    sum(level.sum() for level in network(torch.randn(2, 3, 32, 32))).backward()
    trained = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in network.named_parameters() if name.startswith(("layer3", "layer4"))}
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(("layer3", "layer4")) for name in moved)


def test_statistics_per_frame_equal_passing_the_frames_one_after_another() -> None:
    frames = torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0))  # (T, B, C, H, W)
    grouped, plain = GroupedBatchNorm2d(4), torch.nn.BatchNorm2d(4)
    together = grouped(frames.flatten(0, 1), 3)
    one_by_one = torch.cat([plain(frame) for frame in frames])
    torch.testing.assert_close(together, one_by_one)
    torch.testing.assert_close(grouped.state_dict(), plain.state_dict())
    assert not torch.allclose(together, torch.nn.BatchNorm2d(4)(frames.flatten(0, 1)))


def test_joint_statistics_are_those_of_all_frames_and_frozen_ones_never_move() -> None:
    pictures = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    joint = ResNet("resnet18", 4, "stem", "joint").train()
    assert torch.equal(joint(pictures, 3).deep, joint(pictures, 1).deep)
    frozen = ResNet("resnet18", 4, "stem", "frozen").train()
    before = {name: value.clone() for name, value in frozen.named_buffers()}
    frozen(pictures, 3).deep.sum().backward()
    torch.testing.assert_close(dict(frozen.named_buffers()), before)
    assert frozen.bn1.weight.grad is not None
