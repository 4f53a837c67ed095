"""The generative appearance module: a Gaussian mixture of target and background that is fitted in closed form.

Letters: N targets, K components, D feature channels, P positions (h * w of the feature map). The components are, in
order, background, target, residual background, residual target; a unimodal module has the first two. Wherever features
and targets meet, the features' batch is N, or 1 for several targets in the same frame. Everything here is computed in
float32 or wider, also under autocast: scores are sums over hundreds of channels whose differences decide.

Source: A-GAME paper, section 3.2; symbols: x features, alpha assignments, mu means, Sigma (diagonal) variances, r
regulariser, lambda update rate, s scores.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vosdata.models.agame.config import AGAMEConfig, RegulariserMode
from vosdata.models.agame.precision import widen

_NUM_BASE = 2
_PSEUDO_COUNT = 1.0  # pixels; "published" mode
_LEAST_MASS = 1e-3  # pixels; "paper" mode, where equation 3 divides by the mass: keeps an empty component finite
_INITIAL_REGULARISER = -2.0  # softplus(-2) = 0.127


class Mixture(NamedTuple):
    """A diagonal Gaussian mixture per target; a tuple, so that compilers see through it."""

    means: Tensor
    """Float (N, K, D)."""

    variances: Tensor
    """Float (N, K, D), positive."""


def estimate(
    features: Tensor, assignments: Tensor, regulariser: Tensor, mode: RegulariserMode
) -> tuple[Mixture, Tensor]:
    """Means and variances of softly assigned features (equations 3a and 3b).

    Args:
        features: x, float (N or 1, D, P).
        assignments: alpha, float (N, K, P), 0..1.
        regulariser: r, float (K, D), positive.
        mode: "paper" or "published", see :class:`~vosdata.models.agame.config.AGAMEConfig`.

    Returns:
        the mixture and the squared distances (x - mu)^2, float (N, K, D, P), which scoring needs again.
    """
    mass = assignments.sum(-1)[..., None]  # (N, K, 1)
    count = mass + _PSEUDO_COUNT if mode == "published" else mass.clamp_min(_LEAST_MASS)
    means = assignments @ features.transpose(1, 2) / count  # (N, K, D)
    distances = squared_distances(features, means)
    spread = (distances @ assignments[..., None]).squeeze(-1)  # (N, K, D)
    # In "paper" mode r stands inside the weighted mean; the weights sum to one there, so it equals r outside.
    return Mixture(means, regulariser + spread / count), distances


def squared_distances(features: Tensor, means: Tensor) -> Tensor:
    """(x - mu)^2 of x float (N or 1, D, P) and mu float (N, K, D): float (N, K, D, P), the largest tensor of all."""
    differences = features[:, None] - means[..., None]
    return differences.square() if differences.requires_grad else differences.square_()  # in place where nobody asks


def scores_of(distances: Tensor, variances: Tensor) -> Tensor:
    """Component scores from squared distances (equation 8).

    Args:
        distances: (x - mu)^2, float (N, K, D, P).
        variances: float (N, K, D).

    Returns:
        s, float (N, K, P): log-density of each component without the constant that all share.
    """
    mahalanobis = (variances.reciprocal()[:, :, None] @ distances).squeeze(2)  # (N, K, P)
    return -0.5 * (variances.log().sum(-1, keepdim=True) + mahalanobis)


def component_scores(features: Tensor, mixture: Mixture) -> Tensor:
    """Scores float (N, K, P) of features float (N or 1, D, P) under a mixture (equation 8)."""
    return scores_of(squared_distances(features, mixture.means), mixture.variances)


def component_posteriors(scores: Tensor) -> Tensor:
    """Posteriors float (N, K, P) of scores float (N, K, P) under a uniform prior (equation 7)."""
    return scores.softmax(1)


def residual_assignments(posteriors: Tensor, assignments: Tensor) -> Tensor:
    """Assignments of the residual components: where the base components claim too much (equation 6).

    Args:
        posteriors: of the two base components alone, float (N, 2, P).
        assignments: of the two base components, float (N, 2, P).

    Returns:
        float (N, 2, P): wrongly claimed as background, wrongly claimed as target.
    """
    return (posteriors - assignments).relu()


def blend(old: Mixture, new: Mixture, rate: float) -> Mixture:
    """Moves a mixture towards a newer one (equation 4): (1 - rate) * old + rate * new."""
    return Mixture(torch.lerp(old.means, new.means, rate), torch.lerp(old.variances, new.variances, rate))


class AppearanceModule(nn.Module):
    """Learns what target and background look like from a mask, and scores new frames (Algorithm 1).

    Args:
        in_channels: channels of the deep features.
        config: the network's; its ``appearance`` is not "none".
    """

    def __init__(self, in_channels: int, config: AGAMEConfig) -> None:
        super().__init__()
        self.config = config
        self.mode: RegulariserMode = config.regulariser
        self.projection = nn.Conv2d(in_channels, config.appearance_channels, 1)
        first = torch.full((config.num_components, config.appearance_channels), _INITIAL_REGULARISER)
        self.regulariser = nn.Parameter(first, requires_grad=config.end_to_end)
        """Before softplus, float (K, D). The paper leaves open how r stays positive; softplus is the published way."""

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the weights anew: Kaiming-uniform; the bias is uniform in +-1/sqrt(fan-in) as published."""
        nn.init.kaiming_uniform_(self.projection.weight, generator=generator)
        if self.projection.bias is not None:
            bound = self.projection.in_channels**-0.5
            nn.init.uniform_(self.projection.bias, -bound, bound, generator=generator)
        nn.init.constant_(self.regulariser, _INITIAL_REGULARISER)

    def project(self, deep: Tensor) -> Tensor:
        """Turns deep features (N, C16, h, w) into the modelled features x, float (N, D, P)."""
        features: Tensor = self.projection(deep)
        return widen(features).flatten(2)

    def fit(self, features: Tensor, mask: Tensor) -> Mixture:
        """Fits all components to one frame (Algorithm 1, lines 5 to 10).

        Args:
            features: x, float (N or 1, D, P).
            mask: alpha of background and target (equation 5), float (N, 2, P), adding up to 1.
        """
        learns = self.config.end_to_end and torch.is_grad_enabled()
        with torch.autocast(features.device.type, enabled=False), torch.set_grad_enabled(learns):
            mask = widen(mask)
            regulariser = nn.functional.softplus(widen(self.regulariser))
            base, distances = estimate(features, mask, regulariser[:_NUM_BASE], self.mode)
            if self.config.appearance == "unimodal":
                return base
            posteriors = component_posteriors(scores_of(distances, base.variances))
            residual, _ = estimate(features, residual_assignments(posteriors, mask), regulariser[_NUM_BASE:], self.mode)
            return Mixture(
                torch.cat([base.means, residual.means], 1), torch.cat([base.variances, residual.variances], 1)
            )

    def update(self, mixture: Mixture, features: Tensor, mask: Tensor) -> Mixture:
        """Moves the mixture towards what this frame shows (Algorithm 1, line 11); arguments as :meth:`fit`."""
        rate = self.config.update_rate
        return blend(mixture, self.fit(features, mask), rate) if rate else mixture

    def forward(self, features: Tensor, mixture: Mixture) -> Tensor:
        """Scores features (N or 1, D, P): float (N, K, P) (Algorithm 1, lines 1 to 3), or (log-)posteriors."""
        with torch.autocast(features.device.type, enabled=False):
            scores = component_scores(features, mixture)
            match self.config.appearance_output:
                case "scores":
                    return scores
                case "log_posteriors":
                    return scores.log_softmax(1)
                case "posteriors":
                    return component_posteriors(scores)


class NoAppearance(nn.Module):
    """Stands where the appearance module was taken out (Table 1, "No appearance module"): no component, no score."""

    def initialise(self, generator: torch.Generator) -> None:
        """Has no weights to draw."""

    def project(self, deep: Tensor) -> Tensor:
        """No channel of the deep features (N, C16, h, w): float (N, 0, P)."""
        return deep[:, :0].flatten(2)

    def fit(self, features: Tensor, mask: Tensor) -> Mixture:
        """No component of N targets: float (N, 0, 0)."""
        nothing = features.new_empty(len(mask), 0, 0)
        return Mixture(nothing, nothing)

    def update(self, mixture: Mixture, features: Tensor, mask: Tensor) -> Mixture:
        """The mixture as it was."""
        return mixture

    def forward(self, features: Tensor, mixture: Mixture) -> Tensor:
        """No score: float (N, 0, P)."""
        return features.expand(len(mixture.means), -1, -1)
