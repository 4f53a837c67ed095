"""The training loss against NumPy, and that void and unannotated pixels have no part in it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vosdata.batch import target_counts
from vosdata.training.losses import counted_pixels, pixel_loss, segmentation_loss, target_iou


def random_case(seed: int, batch: int = 2, num_frames: int = 3, size: tuple[int, int] = (5, 7)) -> list[Tensor]:
    """Log-probabilities (B, T, 2, H, W) that require a gradient, masks with void, and annotated flags."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(batch, num_frames, 2, *size)))
    masks = torch.from_numpy(rng.choice(np.array([0, 1, 255], np.uint8), size=(batch, num_frames, *size)))
    annotated = torch.from_numpy(rng.random((batch, num_frames)) < 0.6)
    return [logits.log_softmax(2).requires_grad_(), masks, annotated]


def numpy_mean_loss(log_probs: Tensor, masks: Tensor, annotated: Tensor) -> float:
    """The mean over known pixels, one pixel at a time."""
    values = log_probs.detach().numpy()
    losses = [
        -values[b, t, int(masks[b, t, y, x]), y, x]
        for b, t, y, x in np.ndindex(*masks.shape)
        if annotated[b, t] and masks[b, t, y, x] != 255
    ]
    return float(np.mean(losses)) if losses else 0.0


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_loss_is_the_mean_over_pixels_of_known_truth(seed: int) -> None:
    log_probs, masks, annotated = random_case(seed)
    expected = numpy_mean_loss(log_probs, masks, annotated)
    assert segmentation_loss(log_probs, masks, annotated).item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_void_and_unannotated_pixels_get_no_gradient() -> None:
    log_probs, masks, annotated = random_case(1)
    annotated[0, 1], annotated[1, 2] = False, True
    segmentation_loss(log_probs, masks, annotated).backward()
    assert log_probs.grad is not None
    counted = counted_pixels(masks, annotated)
    touched = (log_probs.grad != 0).any(2)
    assert torch.equal(touched, counted)
    assert torch.count_nonzero(log_probs.grad[0, 1]) == 0


def test_infinite_log_probabilities_at_void_pixels_do_no_harm() -> None:
    log_probs, masks, annotated = random_case(2)
    annotated[:] = True
    poisoned = log_probs.detach().clone()
    poisoned.permute(0, 1, 3, 4, 2)[masks == 255] = torch.tensor([float("-inf"), float("nan")], dtype=torch.float64)
    poisoned.requires_grad_()
    loss = segmentation_loss(poisoned, masks, annotated)
    loss.backward()
    assert loss.item() == pytest.approx(numpy_mean_loss(log_probs, masks, annotated), rel=1e-5)
    assert poisoned.grad is not None
    assert torch.isfinite(poisoned.grad).all()


def test_published_rule_trains_void_and_unannotated_as_background() -> None:
    log_probs, masks, annotated = random_case(3)
    as_background = torch.where((masks == 255) | ~annotated[:, :, None, None], 0, masks)
    everywhere = torch.ones_like(annotated)
    expected = numpy_mean_loss(log_probs, as_background, everywhere)
    assert segmentation_loss(log_probs, masks, annotated, void="published").item() == pytest.approx(expected, rel=1e-5)


def test_nothing_counted_gives_zero_loss_with_its_graph_intact() -> None:
    log_probs, masks, annotated = random_case(4)
    loss = segmentation_loss(log_probs, masks, torch.zeros_like(annotated))
    loss.backward()
    assert loss.item() == 0
    assert log_probs.grad is not None
    assert torch.count_nonzero(log_probs.grad) == 0


def test_parts_of_a_batch_add_up_to_its_mean() -> None:
    log_probs, masks, annotated = random_case(5, batch=4)
    parts = [pixel_loss(log_probs[i : i + 1], masks[i : i + 1], annotated[i : i + 1]) for i in range(4)]
    total = sum(part.total.item() for part in parts) / sum(part.count.item() for part in parts)
    assert segmentation_loss(log_probs, masks, annotated).item() == pytest.approx(total, rel=1e-6)


def test_shapes_that_do_not_fit_are_refused() -> None:
    log_probs, masks, annotated = random_case(6)
    with pytest.raises(ValueError, match="expected log-probabilities"):
        segmentation_loss(log_probs[:, 1:], masks, annotated)


def test_iou_leaves_out_the_given_frame_void_and_unannotated_frames() -> None:
    masks = torch.zeros((1, 4, 2, 4), dtype=torch.uint8)
    masks[0, :, :, :2] = 1  # 4 target pixels in each frame
    masks[0, 1, 0, 3] = 255
    log_probs = torch.full((1, 4, 2, 2, 4), -5.0)
    predicted = torch.zeros((1, 4, 2, 4), dtype=torch.bool)
    predicted[0, 1, :, 0] = True  # 2 of 4 right, and one pixel of void that counts for nothing
    predicted[0, 1, 0, 3] = True
    predicted[0, 2] = True  # unannotated: would be 4 of 8
    predicted[0, 3, :, :3] = True  # 4 of 6
    log_probs[:, :, 1][predicted] = -0.1
    log_probs[:, :, 0][~predicted] = -0.1
    annotated = torch.tensor([[True, True, False, True]])
    assert target_iou(log_probs[:, 1:], masks, annotated).mean().item() == pytest.approx((2 / 4 + 4 / 6) / 2)


def test_iou_of_two_empty_masks_is_one_and_unannotated_frames_do_not_count() -> None:
    masks = torch.zeros((1, 2, 3, 3), dtype=torch.uint8)
    log_probs = torch.zeros((1, 2, 2, 3, 3))
    log_probs[:, :, 1] = -1.0
    both = target_iou(log_probs[:, 1:], masks, torch.tensor([[True, True]]))
    assert (both.total.item(), both.count.item()) == (1.0, 1)
    assert target_iou(log_probs[:, 1:], masks, torch.tensor([[True, False]])).count.item() == 0


def test_loss_of_several_targets_is_that_of_their_joint_distribution() -> None:
    rng = np.random.default_rng(7)
    log_probs = torch.from_numpy(rng.normal(size=(2, 3, 4, 5, 6))).log_softmax(2)
    masks = torch.from_numpy(rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), size=(2, 3, 5, 6)))
    annotated = torch.tensor([[True, True, False], [True, True, True]])
    expected = numpy_mean_loss(log_probs, masks, annotated)
    assert segmentation_loss(log_probs, masks, annotated).item() == pytest.approx(expected, rel=1e-5)


def test_iou_of_several_targets_counts_each_in_each_frame_but_none_that_a_snippet_lacks() -> None:
    masks = torch.zeros((2, 2, 2, 4), dtype=torch.uint8)
    masks[0, :, 0], masks[0, :, 1, :2], masks[0, 1, 1, 3] = 1, 2, 255
    masks[1, :, :, 0] = 1
    assert target_counts(masks).tolist() == [2, 1]
    predicted = masks[:, 1].clone()
    predicted[0, 0, 3] = 2  # the first target: 3 of 4; the second: 2 of 3
    predicted[0, 1, 3] = 2  # void
    predicted[1] = 2  # 0 of 2
    log_probs = torch.full((2, 2, 3, 2, 4), -5.0)
    log_probs[:, 1].scatter_(1, predicted[:, None].long(), -0.1)
    found = target_iou(log_probs[:, 1:], masks, torch.ones(2, 2, dtype=torch.bool))
    assert found.count.item() == 3
    assert found.total.item() == pytest.approx(3 / 4 + 2 / 3)


def test_a_snippet_of_void_and_background_still_has_one_target() -> None:
    masks = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 2, 3, 2)
    assert target_counts(masks).tolist() == [1]
