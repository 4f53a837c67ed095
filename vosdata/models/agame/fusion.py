"""The fusion module: appearance scores and propagated mask become a coarse mask encoding and a coarse mask.

Letters: N targets, C channels, h and w of the stride-16 map. Source: A-GAME paper, section 3.3.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from vosdata.models.agame.precision import precisely


class FusionModule(nn.Module):
    """Two 3x3 convolutions to the coarse mask encoding, and a 1x1 convolution to the coarse mask.

    Args:
        num_scores: K, channels that come from the appearance module; 0 without one.
        propagation_channels: channels that come from the mask-propagation module; 0 without one.
        channels: channels between the two layers.
        encoding_channels: channels of the coarse mask encoding.
        score_scale: factor on what comes from the appearance module.
    """

    def __init__(
        self,
        num_scores: int,
        propagation_channels: int,
        channels: int,
        encoding_channels: int,
        score_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_scores = num_scores
        self.score_scale = score_scale
        self.join = nn.Conv2d(num_scores + propagation_channels, channels, 3, padding=1)
        self.encode = nn.Conv2d(channels, encoding_channels, 3, padding=1)
        self.predict = nn.Conv2d(encoding_channels, 2, 1)

    def forward(self, scores: Tensor, propagated: Tensor) -> tuple[Tensor, Tensor]:
        """Joins what the two modules say.

        Args:
            scores: of the appearance module, float32 or wider (N, K, h, w).
            propagated: of the mask-propagation module, float (N, C, h, w).

        Returns:
            the coarse mask encoding (N, E, h, w) and the coarse mask's logits (N, 2, h, w) in float32 or wider.
        """
        encoding: Tensor = self.encode(self._join(scores, propagated).relu_()).relu_()
        return encoding, precisely(self.predict, encoding)

    def _join(self, scores: Tensor, propagated: Tensor) -> Tensor:
        """The first layer, as the sum of its terms: that of the scores is precise, that of the mask is not."""
        if not self.num_scores:
            unscored: Tensor = self.join(propagated)
            return unscored
        of_scores, of_propagated = torch.split(self.join.weight, [self.num_scores, propagated.shape[1]], 1)
        # Scores are in the hundreds and their differences count: bfloat16 has no digits left for them.
        with torch.autocast(scores.device.type, enabled=False):
            joined = conv2d(scores, of_scores * self.score_scale, self.join.bias, padding=1)
        return joined + conv2d(propagated, of_propagated, padding=1) if propagated.shape[1] else joined
