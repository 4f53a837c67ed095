"""The mask-propagation module: where was the target in the previous frame, and what did it look like in the first?

Its first layer is a 1x1 convolution of [this frame's features, first frame's features, previous mask, first mask].
Being linear, it is computed as a sum of terms: that of the features for all frames at once, that of the first frame
once per target, that of the previous mask (two channels) at each step. Letters: N targets, C channels, h and w of the
stride-16 map.

Source: A-GAME paper, section 3.3, after RGMP (Oh et al.); layer sizes of the published code.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

MASK_CHANNELS = 2
_DILATIONS = (1, 3, 6)


class PropagationModule(nn.Module):
    """Three layers, the middle one a pyramid of dilated convolutions.

    Args:
        in_channels: channels of the deep features.
        channels: channels of every layer.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.gather = nn.Conv2d(2 * in_channels + 2 * MASK_CHANNELS, channels, 1)
        self.pyramid = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation) for dilation in _DILATIONS
        )
        self.mix = nn.Conv2d(len(_DILATIONS) * channels, channels, 3, padding=1)

    def _gather_weights(self) -> tuple[Tensor, ...]:
        """The first layer's weights for features, first features, previous mask and first mask."""
        return torch.split(self.gather.weight, [self.in_channels, self.in_channels, MASK_CHANNELS, MASK_CHANNELS], 1)

    def project(self, deep: Tensor) -> Tensor:
        """First layer's term of this frame's features: (N, C16, h, w) to (N, C, h, w)."""
        return conv2d(deep, self._gather_weights()[0])

    def refer(self, first_deep: Tensor, first_mask: Tensor) -> Tensor:
        """First layer's constant term (N, C, h, w), of a target's first features (N or 1, C16, h, w) and mask."""
        _, of_features, _, of_mask = self._gather_weights()
        return conv2d(first_deep, of_features, self.gather.bias) + conv2d(first_mask, of_mask)

    def forward(self, projected: Tensor, reference: Tensor, previous_mask: Tensor) -> Tensor:
        """Encodes where the target is likely to be.

        Args:
            projected: from :meth:`project`, float (N or 1, C, h, w).
            reference: from :meth:`refer`, float (N, C, h, w).
            previous_mask: background and target, float (N, 2, h, w), 0..1.

        Returns:
            float (N, C, h, w), not negative.
        """
        gathered = (projected + reference + conv2d(previous_mask, self._gather_weights()[2])).relu()
        pyramid = torch.cat([level(gathered) for level in self.pyramid], 1).relu_()
        mixed: Tensor = self.mix(pyramid)
        return mixed.relu_()


class NoPropagation(nn.Module):
    """Stands where the mask-propagation module was taken out (Table 1, "No mask-prop module"): no channel."""

    def project(self, deep: Tensor) -> Tensor:
        """No channel of this frame's features: (N, C16, h, w) to (N, 0, h, w)."""
        return deep[:, :0]

    def refer(self, first_deep: Tensor, first_mask: Tensor) -> Tensor:
        """No channel of N targets, (N, 0, h, w)."""
        return first_mask[:, :0]

    def forward(self, projected: Tensor, reference: Tensor, previous_mask: Tensor) -> Tensor:
        """No channel of N targets, (N, 0, h, w)."""
        return reference
