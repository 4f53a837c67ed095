"""Enlargement to pixels is PyTorch's bilinear interpolation, and so is its gradient."""

import pytest
import torch
from torch.nn.functional import interpolate

from vosdata.models.agame.enlarging import enlarge_to_pixels


@pytest.mark.parametrize("factor", [1, 2, 4, 16])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (12, 20)])
def test_values_and_gradients_are_those_of_interpolate(size: tuple[int, int], factor: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(3, 2, *size, generator=generator, dtype=torch.float64).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    enlarged = enlarge_to_pixels(ours, factor)
    expected = interpolate(theirs, scale_factor=factor, mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarged, expected)
    gradient = torch.randn(enlarged.shape, generator=generator, dtype=torch.float64)
    enlarged.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_gradient_agrees_with_finite_differences() -> None:
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda map_: enlarge_to_pixels(map_, 4), (x,))
