"""The network can learn: one snippet, from scratch, until its masks are nearly right."""

from collections.abc import Iterator

import pytest
import torch

from vosdata.models.agame import AGAME, AGAMEConfig
from vosdata.training.losses import segmentation_loss, target_iou


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For so small a network, handing work to further threads takes longer than doing it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def moving_disc(num_frames: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames uint8 (1, T, 3, H, W) of a disc with a texture of its own that crosses another texture, and its masks."""
    generator = torch.Generator().manual_seed(3)
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
    background = torch.randint(0, 160, (3, *size), generator=generator)
    texture = torch.randint(90, 256, (3, *size), generator=generator)
    frames, masks = [], []
    for step in range(num_frames):
        inside = (rows - 30 - step) ** 2 + (columns - 24 - 6 * step) ** 2 < 14**2
        frames.append(torch.where(inside, texture.roll(6 * step, 2), background))
        masks.append(inside)
    return torch.stack(frames)[None].to(torch.uint8), torch.stack(masks)[None].to(torch.uint8)


def region_similarity(model: AGAME, frames: torch.Tensor, masks: torch.Tensor) -> float:
    with torch.no_grad():
        log_probs = model.eval()(frames, masks[:, 0]).fine
    return target_iou(log_probs, masks, torch.ones(masks.shape[:2], dtype=torch.bool)).mean().item()


def test_one_snippet_is_learnt_to_a_region_similarity_above_095() -> None:
    frames, masks = moving_disc(4, (64, 96))
    config = AGAMEConfig(
        backbone="resnet18",
        backbone_width=8,
        train_from="stem",
        batch_norm="joint",
        appearance_channels=8,
        propagation_channels=24,
        fusion_channels=24,
        encoding_channels=16,
        upsampling_channels=16,
    )
    model = AGAME(config)
    assert region_similarity(model, frames, masks) < 0.5
    optimiser = torch.optim.Adam(model.train().parameters(), lr=4e-3)
    annotated = torch.ones(1, 3, dtype=torch.bool)
    for _ in range(80):
        output = model(frames, masks[:, 0])
        fine, coarse = (segmentation_loss(one, masks[:, 1:], annotated) for one in (output.fine, output.coarse))
        optimiser.zero_grad()
        torch.autograd.backward(fine + coarse)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    copied = torch.stack([masks[:, 0] == 0, masks[:, 0] == 1], 1)[:, None].expand(-1, 3, -1, -1, -1).float()
    assert target_iou(copied, masks, torch.ones(1, 4, dtype=torch.bool)).mean().item() < 0.5  # the disc moves
    assert region_similarity(model, frames, masks) > 0.95
