"""A network small enough for a test, and what it reads."""

import pytest
import torch

from vosdata.models.agame import AGAME, AGAMEConfig


@pytest.fixture
def tiny_config() -> AGAMEConfig:
    """ResNet-18 with 8 channels in its stem and heads of 4 to 6 channels, everything trained."""
    return AGAMEConfig(
        backbone="resnet18",
        backbone_width=8,
        train_from="stem",
        appearance_channels=6,
        propagation_channels=4,
        fusion_channels=5,
        encoding_channels=4,
        upsampling_channels=5,
    )


@pytest.fixture
def tiny(tiny_config: AGAMEConfig) -> AGAME:
    return AGAME(tiny_config)


@pytest.fixture
def snippet() -> tuple[torch.Tensor, torch.Tensor]:
    """Frames uint8 (2, 4, 3, 48, 64) and the target in the first of them, uint8 (2, 48, 64)."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (2, 4, 3, 48, 64), generator=generator, dtype=torch.uint8)
    given = torch.zeros(2, 48, 64, dtype=torch.uint8)
    given[0, 10:30, 20:50] = 1
    given[1, 5:20, 0:33] = 1
    return frames, given
