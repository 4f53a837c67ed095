"""Mask propagation, fusion and upsampling: sums of terms equal the plain concatenations, gradients the differences."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import conv2d, interpolate

from vosdata.models.agame import AGAME, AGAMEConfig
from vosdata.models.agame.config import AppearanceOutput
from vosdata.models.agame.fusion import FusionModule
from vosdata.models.agame.propagation import PropagationModule
from vosdata.models.agame.upsampling import Laterals, UpsamplingModule
from vosdata.models.resnet import Features


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_mask_propagation_is_three_layers_of_the_concatenated_inputs() -> None:
    propagation = PropagationModule(5, 3).double()
    deep, first = _random(2, 5, 4, 6), _random(2, 5, 4, 6, seed=1)
    previous, first_mask = _random(2, 2, 4, 6, seed=2), _random(2, 2, 4, 6, seed=3)
    x = torch.cat([deep, first, previous, first_mask], 1)
    x = conv2d(x, propagation.gather.weight, propagation.gather.bias).relu()
    levels = [
        conv2d(x, conv.weight, conv.bias, padding=dilation, dilation=dilation)
        for conv, dilation in zip(propagation.pyramid, (1, 3, 6), strict=True)
    ]
    expected = conv2d(torch.cat(levels, 1).relu(), propagation.mix.weight, propagation.mix.bias, padding=1).relu()
    found = propagation(propagation.project(deep), propagation.refer(first, first_mask), previous)
    torch.testing.assert_close(found, expected)


def test_fusion_is_two_layers_of_scores_and_propagated_mask_and_a_predictor() -> None:
    fusion = FusionModule(4, 3, 6, 4).double()
    scores, propagated = _random(2, 4, 5, 6), _random(2, 3, 5, 6, seed=1)
    x = conv2d(torch.cat([scores, propagated], 1), fusion.join.weight, fusion.join.bias, padding=1).relu()
    x = conv2d(x, fusion.encode.weight, fusion.encode.bias, padding=1).relu()
    encoding, logits = fusion(scores, propagated)
    torch.testing.assert_close(encoding, x)
    torch.testing.assert_close(logits, conv2d(x, fusion.predict.weight, fusion.predict.bias))


def test_scaling_the_scores_is_scaling_their_weights() -> None:
    """So the factor changes how the network learns, and nothing that it can compute."""
    scaled, plain = FusionModule(4, 3, 6, 4, score_scale=0.05).double(), FusionModule(4, 3, 6, 4).double()
    plain.load_state_dict(scaled.state_dict())
    with torch.no_grad():
        plain.join.weight[:, :4] *= 0.05
    scores, propagated = _random(2, 4, 5, 6), _random(2, 3, 5, 6, seed=1)
    torch.testing.assert_close(scaled(scores, propagated), plain(scores, propagated))


@pytest.mark.parametrize(("output", "scale"), [("scores", 0.05), ("log_posteriors", 0.05), ("posteriors", 1.0)])
def test_posteriors_are_not_scaled_and_their_logarithms_are(
    tiny_config: AGAMEConfig, output: AppearanceOutput, scale: float
) -> None:
    assert AGAME(replace(tiny_config, score_scale=0.05, appearance_output=output)).fusion.score_scale == scale


def test_upsampling_convolves_lateral_features_and_the_doubled_encoding() -> None:
    upsampling = UpsamplingModule(4, 3, 2, 5).double()
    encoding, middle, shallow = _random(2, 4, 2, 3), _random(2, 3, 4, 6, seed=1), _random(2, 2, 8, 12, seed=2)
    x = encoding
    for step, features in ((upsampling.to_stride8, middle), (upsampling.to_stride4, shallow)):
        lateral = conv2d(features, step.project.weight, step.project.bias).relu()
        doubled = interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = conv2d(torch.cat([lateral, doubled], 1), step.blend.weight, step.blend.bias, padding=1).relu()
    expected = conv2d(x, upsampling.predict.weight, upsampling.predict.bias, padding=1)
    laterals = upsampling.laterals(Features(shallow, middle, torch.empty(0)))
    torch.testing.assert_close(upsampling(encoding, laterals), expected)


def test_gradients_of_each_head_are_the_finite_differences() -> None:
    propagation, fusion = PropagationModule(2, 2).double(), FusionModule(4, 2, 3, 2).double()
    upsampling = UpsamplingModule(2, 2, 2, 2).double()

    def propagate(deep: torch.Tensor, first: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = propagation(propagation.project(deep), propagation.refer(first, mask), mask)
        return result

    inputs = [_random(1, 2, 3, 2, seed=seed).requires_grad_() for seed in range(3)]
    assert torch.autograd.gradcheck(propagate, tuple(inputs))
    scores = _random(1, 4, 3, 2, seed=4).requires_grad_()
    assert torch.autograd.gradcheck(fusion, (scores, inputs[0]))
    middle, shallow = (_random(1, 2, size, size, seed=size).requires_grad_() for size in (4, 8))
    encoding = _random(1, 2, 2, 2, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(lambda e, m, s: upsampling(e, Laterals(m, s)), (encoding, middle, shallow))


def test_gradients_through_time_are_the_finite_differences(tiny_config: AGAMEConfig) -> None:
    """Four frames from deep features to coarse logits; a detached fit, update or mask would break it."""
    model = AGAME(tiny_config).double()
    mask = torch.rand(1, 1, 2, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mask = torch.cat([1 - mask, mask], 1)
    deep = _random(4, 64, 2, 2) * 0.5
    direction = _random(4, 64, 2, 2, seed=9)

    def last_logits(along: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        _, logits = model._recur(deep + along.reshape(4, 1, 1, 1) * direction, mask * scale, 4)
        return logits[-1:]

    along = torch.zeros(4, dtype=torch.float64, requires_grad=True)  # one direction per frame
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(last_logits, (along, scale))
    (gradient,) = torch.autograd.grad(last_logits(along, scale).sum(), along)
    assert bool((gradient != 0).all())  # the last frame depends on every frame


def test_logits_are_float32_under_autocast() -> None:
    fusion, upsampling = FusionModule(4, 3, 6, 4), UpsamplingModule(4, 3, 2, 5)
    laterals = Laterals(torch.zeros(1, 5, 4, 4), torch.zeros(1, 5, 8, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoding, coarse = fusion(torch.zeros(1, 4, 2, 2), torch.zeros(1, 3, 2, 2))
        fine = upsampling(encoding, laterals)
    assert encoding.dtype == torch.bfloat16
    assert coarse.dtype == fine.dtype == torch.float32


def test_differences_of_large_scores_survive_bfloat16_autocast() -> None:
    """Near -300 neighbouring bfloat16 numbers are 2 apart; the scores here differ by about 1."""
    fusion = FusionModule(4, 3, 16, 8)
    with torch.no_grad():  # blind to what all components have in common
        fusion.join.weight[:, :4] -= fusion.join.weight[:, :4].mean(1, keepdim=True)
    scores = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0)) - 300
    propagated = torch.zeros(2, 3, 6, 6)
    exact, _ = fusion(scores, propagated)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, _ = fusion(scores, propagated)
    assert (exact - rough).norm() < 0.02 * exact.norm()
