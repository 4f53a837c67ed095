"""ResNet 18, 34, 50 and 101 with torchvision's parameter names, dilated so that the deepest features have stride 16.

Letters: N images, C channels, H and W of the picture. Source: He et al., "Deep residual learning for image
recognition", with the last stage's stride traded for dilation as in section 3.3 of the A-GAME paper.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from vosdata.models.batch_norm import GroupedBatchNorm2d

BackboneName = Literal["resnet18", "resnet34", "resnet50", "resnet101"]
StageName = Literal["stem", "layer1", "layer2", "layer3", "layer4", "none"]
BatchNormMode = Literal["per_frame", "joint", "frozen"]

STAGES: tuple[StageName, ...] = ("stem", "layer1", "layer2", "layer3", "layer4")
_USED: tuple[StageName, ...] = ("layer1", "layer2", "layer4")  # those whose outputs are features
_NUM_CLASSES = 1000


class Features(NamedTuple):
    """What the backbone knows about N pictures of H x W pixels; a tuple, so that compilers see through it."""

    shallow: Tensor
    """Output of layer1, float (N, C4, H/4, W/4)."""

    middle: Tensor
    """Output of layer2, float (N, C8, H/8, W/8)."""

    deep: Tensor
    """Output of layer4, float (N, C16, H/16, W/16)."""


def _conv3x3(in_channels: int, out_channels: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, bias=False)


class Downsample(nn.Sequential):
    """The shortcut of a block that changes size or width: 1x1 convolution ("0") and batch norm ("1").

    A strided 1x1 convolution only looks at every stride-th pixel, so those are picked first. The same result, and no
    strided 1x1 convolution: on CPUs the gradient of a narrow one with channels innermost writes outside its memory
    when the batch does not divide among the threads (seen with torch 2.13).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(nn.Conv2d(in_channels, out_channels, 1, bias=False), GroupedBatchNorm2d(out_channels))
        self.stride = stride

    def forward(self, x: Tensor, num_groups: int = 1) -> Tensor:
        """Maps the block's input ``(N, C, H, W)`` to the shape of its output."""
        picked = x[:, :, :: self.stride, :: self.stride]
        shortcut: Tensor = self[1](self[0](picked), num_groups)
        return shortcut


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet 18 and 34)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride, dilation)
        self.bn1 = GroupedBatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, 1, dilation)
        self.bn2 = GroupedBatchNorm2d(channels)
        changes = stride != 1 or in_channels != channels
        self.downsample = Downsample(in_channels, channels, stride) if changes else None

    def forward(self, x: Tensor, num_groups: int = 1) -> Tensor:
        """Maps ``(N, C, H, W)`` to ``(N, channels, H/stride, W/stride)``."""
        shortcut = x if self.downsample is None else self.downsample(x, num_groups)
        x = self.bn1(self.conv1(x), num_groups).relu_()
        x = self.bn2(self.conv2(x), num_groups)
        return x.add_(shortcut).relu_()


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut (ResNet 50 and 101)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = GroupedBatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, stride, dilation)
        self.bn2 = GroupedBatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = GroupedBatchNorm2d(channels * self.expansion)
        changes = stride != 1 or in_channels != channels * self.expansion
        self.downsample = Downsample(in_channels, channels * self.expansion, stride) if changes else None

    def forward(self, x: Tensor, num_groups: int = 1) -> Tensor:
        """Maps ``(N, C, H, W)`` to ``(N, 4 * channels, H/stride, W/stride)``."""
        shortcut = x if self.downsample is None else self.downsample(x, num_groups)
        x = self.bn1(self.conv1(x), num_groups).relu_()
        x = self.bn2(self.conv2(x), num_groups).relu_()
        x = self.bn3(self.conv3(x), num_groups)
        return x.add_(shortcut).relu_()


_ARCHITECTURES: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(nn.Module):
    """Residual network whose deepest features keep stride 16.

    ``layer4`` has stride 1; its first block is not dilated and the further ones have dilation 2 in their 3x3
    convolutions, as in the published A-GAME (ResNet 18 and 34, which it does not offer, follow the same rule).

    Args:
        name: which architecture.
        width: channels of the stem; the stages have 1, 2, 4 and 8 times as many (Bottleneck: 4, 8, 16, 32 times). 64 is
            what pretrained weights need.
        train_from: first trained stage; it and all deeper ones are trained, shallower ones are frozen: their parameters
            take no gradient and their batch norm always uses the running statistics. "stem" trains all, "none" nothing.
        batch_norm: statistics of the trained stages in training mode. "per_frame": those of one time-step of the batch,
            running statistics moved at every time-step (published); "joint": those of all pictures at once; "frozen":
            the running ones (the affine part is still trained).
        keep_classifier: keeps the unused, frozen ``fc`` layer, so that parameters can be counted as published.
    """

    def __init__(
        self,
        name: BackboneName = "resnet101",
        width: int = 64,
        train_from: StageName = "layer4",
        batch_norm: BatchNormMode = "per_frame",
        keep_classifier: bool = False,
    ) -> None:
        super().__init__()
        block, depths = _ARCHITECTURES[name]
        expansion = block.expansion
        self.name = name
        self.batch_norm = batch_norm
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = GroupedBatchNorm2d(width)
        self.layer1 = _stage(block, depths[0], width, width, stride=1, dilation=1)
        self.layer2 = _stage(block, depths[1], width * expansion, 2 * width, stride=2, dilation=1)
        self.layer3 = _stage(block, depths[2], 2 * width * expansion, 4 * width, stride=2, dilation=1)
        self.layer4 = _stage(block, depths[3], 4 * width * expansion, 8 * width, stride=1, dilation=2)
        if keep_classifier:
            self.fc = nn.Linear(8 * width * expansion, _NUM_CLASSES).requires_grad_(False)
        self.channels = (width * expansion, 2 * width * expansion, 8 * width * expansion)
        """Channels of the shallow, middle and deep features."""

        trained = len(STAGES) if train_from == "none" else STAGES.index(train_from)
        self.frozen_stages = STAGES[:trained]
        for stage in self.frozen_stages:
            for module in self._modules_of(stage):
                module.requires_grad_(False)
        self.train(self.training)

    def _modules_of(self, stage: StageName) -> tuple[nn.Module, ...]:
        return (self.conv1, self.bn1) if stage == "stem" else (self.get_submodule(stage),)

    def initialise(self, generator: torch.Generator) -> None:
        """Draws all weights anew as torchvision does: Kaiming-normal by fan-out; batch norm is the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)

    def train(self, mode: bool = True) -> "ResNet":
        """Sets the mode of the trained stages; frozen stages and frozen batch norm stay in evaluation mode."""
        super().train(mode)
        for stage in self.frozen_stages:
            for module in self._modules_of(stage):
                module.eval()
        if self.batch_norm == "frozen":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(
        self, pictures: Tensor, num_steps: int = 1, begun: Mapping[StageName, Tensor] | None = None
    ) -> Features:
        """Extracts features.

        Args:
            pictures: float (N, 3, H, W), normalised; H and W multiples of 16.
            num_steps: how many consecutive time-steps the batch consists of; only matters for batch norm "per_frame".
            begun: what :meth:`begin` gave for the pictures, which are then not looked at.
        """
        outputs = dict(begun or {})
        num_run = len(self.frozen_stages) if begun else 0
        x = outputs[STAGES[num_run - 1]] if begun else pictures
        for stage in STAGES[num_run:]:
            x = self._run(stage, x, num_steps if self.batch_norm == "per_frame" else 1)
            if stage in _USED:  # the others' memory is free for what follows
                outputs[stage] = x
        return Features(outputs["layer1"], outputs["layer2"], outputs["layer4"])

    def begin(self, pictures: Tensor) -> dict[StageName, Tensor]:
        """Runs the frozen stages alone, and gives those of their outputs that the rest needs, in order."""
        outputs: dict[StageName, Tensor] = {}
        for stage in self.frozen_stages:
            pictures = self._run(stage, pictures, 1)
            if stage in (*_USED, self.frozen_stages[-1]):
                outputs[stage] = pictures
        return outputs

    def frozen_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and buffers of the frozen stages, with names."""
        for stage in self.frozen_stages:
            for number, module in enumerate(self._modules_of(stage)):
                for name, tensor in module.state_dict().items():
                    yield f"{stage}.{number}.{name}", tensor

    def _run(self, stage: StageName, x: Tensor, num_groups: int) -> Tensor:
        if stage == "stem":
            return nn.functional.max_pool2d(self.bn1(self.conv1(x), num_groups).relu_(), 3, 2, padding=1)
        for block in self.get_submodule(stage).children():
            x = block(x, num_groups)
        return x


def _stage(
    block: type[BasicBlock] | type[Bottleneck], depth: int, in_channels: int, channels: int, stride: int, dilation: int
) -> nn.Sequential:
    """Stacks ``depth`` blocks; the first one changes stride and width and is never dilated."""
    first = block(in_channels, channels, stride, 1)
    rest = [block(channels * block.expansion, channels, 1, dilation) for _ in range(depth - 1)]
    return nn.Sequential(first, *rest)
