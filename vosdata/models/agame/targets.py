"""Several targets per snippet as one batch: which target belongs to which snippet, and back to one distribution each.

Snippets need not have equally many targets: those that there are lie one after another in the batch dimension N, and a
place that a snippet does not fill has next to no odds. Letters: B snippets, N targets of all of them together, M
targets of the snippet that has most, H and W of a picture or a map.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vosdata.models.agame.aggregation import join

_NO_ODDS = -1e4
"""Log-odds where a snippet has no target: its probability is exactly 0 in float32, and so is its gradient."""


class Targets:
    """The targets of B snippets, numbered 1, 2, ... in each.

    Args:
        counts: targets of each snippet, B numbers of at least 1.
        device: where the network is.

    Raises:
        ValueError: a snippet has no target.
    """

    def __init__(self, counts: Sequence[int], device: torch.device) -> None:
        if not counts or min(counts) < 1:
            raise ValueError(f"every snippet needs at least one target, got {list(counts)}")
        self.most = max(counts)
        """M."""
        self._num_snippets = len(counts)
        pairs = [(snippet, slot) for snippet, count in enumerate(counts) for slot in range(count)]
        snippets, slots = torch.tensor(pairs).to(device, non_blocking=True).unbind(1)
        self._snippets = snippets
        """Snippet of each target, int64 (N,)."""
        self._places = snippets * self.most + slots
        """Place of each target among B * M, int64 (N,)."""
        self._labels = (slots + 1).to(torch.uint8)
        self._is_single = torch.tensor(counts).to(device, non_blocking=True)[:, None, None, None] == 1

    def of(self, per_snippet: Tensor) -> Tensor:
        """Gives each target what its snippet has, (B, ...) to (N, ...)."""
        return per_snippet[self._snippets]

    def given(self, ids: Tensor) -> Tensor:
        """Each target's own mask, bool (N, H, W), of index masks uint8 (B, H, W)."""
        return self.of(ids) == self._labels[:, None, None]

    def aggregate(self, log_odds: Tensor) -> Tensor:
        """Joins the targets of each snippet.

        Args:
            log_odds: of each target against the rest of the picture, float (N, H, W).

        Returns:
            logits float (B, M + 1, H, W), background first. A target that is alone keeps its own probability.
        """
        size = log_odds.shape[1:]
        empty = log_odds.new_full((self._num_snippets * self.most, *size), _NO_ODDS)
        placed = empty.index_copy(0, self._places, log_odds).view(-1, self.most, *size)
        return join(placed, self._is_single)

    def separate(self, probabilities: Tensor) -> Tensor:
        """Each target's own background and target (N, 2, h, w), of the joint probabilities (B, M + 1, h, w)."""
        inside = probabilities[:, 1:].flatten(0, 1)[self._places]
        return torch.stack([1 - inside, inside], 1)
