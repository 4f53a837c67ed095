"""Reflection padding against NumPy's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vosdata.models.agame.padding import ReflectionPadding


@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_padding_is_numpys_reflection_with_the_odd_pixel_first_and_cropping_undoes_it(height: int, width: int) -> None:
    picture = np.random.default_rng([height, width]).integers(0, 256, (3, height, width), dtype=np.uint8)
    padding = ReflectionPadding(height, width, 16, torch.device("cpu"))
    padded = padding.pad(torch.from_numpy(picture))
    amounts = [((-length % 16 + 1) // 2, -length % 16 // 2) for length in (height, width)]
    np.testing.assert_array_equal(padded, np.pad(picture, [(0, 0), *amounts], mode="reflect"))
    np.testing.assert_array_equal(padding.crop(padded), picture)


def test_a_frame_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        ReflectionPadding(0, 5, 16, torch.device("cpu"))
