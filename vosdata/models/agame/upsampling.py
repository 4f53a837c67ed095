"""The upsampling module: the coarse mask encoding regains detail from shallower features.

Each step doubles the size and convolves [lateral features, encoding]. The convolution is linear, so the lateral half is
a term of its own: it does not depend on the target and is computed once per frame, for all frames at once.
Letters: N targets, M frames, E encoding channels, U upsampling channels, H and W of the picture.

Source: A-GAME paper, section 3.3, after Pinheiro et al., "Learning to refine object segments".
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.functional import conv2d

from vosdata.models.agame.enlarging import enlarge
from vosdata.models.agame.precision import precisely
from vosdata.models.resnet import Features


class Laterals(NamedTuple):
    """What the shallower features add to each step, for M frames."""

    middle: Tensor
    """Float (M, U, H/8, W/8)."""

    shallow: Tensor
    """Float (M, U, H/4, W/4)."""


class UpsamplingStep(nn.Module):
    """Doubles the size of an encoding with the help of lateral features.

    Args:
        in_channels: channels of the encoding.
        lateral_channels: channels of the backbone's features at the doubled size.
        channels: channels of the result.
    """

    def __init__(self, in_channels: int, lateral_channels: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.project = nn.Conv2d(lateral_channels, channels, 1)
        self.blend = nn.Conv2d(channels + in_channels, channels, 3, padding=1)

    def lateral(self, features: Tensor) -> Tensor:
        """The lateral half of the convolution, (M, C, 2h, 2w) to (M, U, 2h, 2w)."""
        return conv2d(self.project(features).relu_(), self.blend.weight[:, : self.channels], padding=1)

    def forward(self, encoding: Tensor, lateral: Tensor) -> Tensor:
        """Doubles ``encoding`` (N, C, h, w); ``lateral`` from :meth:`lateral` has batch N, or 1 for all targets."""
        blended = conv2d(enlarge(encoding, 2), self.blend.weight[:, self.channels :], self.blend.bias, padding=1)
        return (blended + lateral).relu_()


class UpsamplingModule(nn.Module):
    """From stride 16 over 8 to 4, then to logits.

    Args:
        encoding_channels: E.
        middle_channels: channels of the backbone's stride-8 features.
        shallow_channels: channels of the backbone's stride-4 features.
        channels: U.
    """

    def __init__(self, encoding_channels: int, middle_channels: int, shallow_channels: int, channels: int) -> None:
        super().__init__()
        self.to_stride8 = UpsamplingStep(encoding_channels, middle_channels, channels)
        self.to_stride4 = UpsamplingStep(channels, shallow_channels, channels)
        self.predict = nn.Conv2d(channels, 2, 3, padding=1)

    def laterals(self, features: Features) -> Laterals:
        """What the backbone's features of M frames add to each step."""
        return Laterals(self.to_stride8.lateral(features.middle), self.to_stride4.lateral(features.shallow))

    def forward(self, encoding: Tensor, laterals: Laterals) -> Tensor:
        """Turns the coarse mask encoding (N, E, H/16, W/16) into logits (N, 2, H/4, W/4), float32 or wider."""
        encoding = self.to_stride8(encoding, laterals.middle)
        return precisely(self.predict, self.to_stride4(encoding, laterals.shallow))
