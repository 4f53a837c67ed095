"""The appearance module against the paper's equations in NumPy and SciPy, and against finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal

from vosdata.models.agame import appearance as module
from vosdata.models.agame.appearance import AppearanceModule, Mixture
from vosdata.models.agame.config import AGAMEConfig, RegulariserMode

Array = NDArray[np.float64]
BOTH: tuple[RegulariserMode, ...] = ("published", "paper")


def _example(seed: int = 0, targets: int = 2, channels: int = 3, positions: int = 12) -> tuple[Array, Array, Array]:
    """Features (N, D, P), assignments (N, 2, P) adding up to 1, regulariser (4, D) after softplus."""
    rng = np.random.default_rng([seed, 1])
    inside = rng.random((targets, positions))
    features = rng.normal(size=(targets, channels, positions)) + 2 * inside[:, None]
    return features, np.stack([1 - inside, inside], 1), rng.uniform(0.1, 0.5, (4, channels))


def _fit_one(x: Array, alpha: Array, r: Array, mode: RegulariserMode) -> tuple[Array, Array]:
    """Equations 3a and 3b for one component, pixel by pixel. x (D, P), alpha (P,), r (D,)."""
    count = alpha.sum() + (1 if mode == "published" else 0)
    mean = sum(alpha[p] * x[:, p] for p in range(x.shape[1])) / count
    if mode == "paper":
        return mean, sum(alpha[p] * ((x[:, p] - mean) ** 2 + r) for p in range(x.shape[1])) / count
    return mean, r + sum(alpha[p] * (x[:, p] - mean) ** 2 for p in range(x.shape[1])) / count


def _log_density(x: Array, mean: Array, variance: Array) -> Array:
    density: Array = multivariate_normal(mean, np.diag(variance)).logpdf(x.T)
    return density


def _algorithm_1(x: Array, alpha: Array, r: Array, mode: RegulariserMode) -> tuple[Array, Array]:
    """Lines 5 to 10 for one target: means and variances (4, D). x (D, P), alpha (2, P), r (4, D)."""
    base = [_fit_one(x, alpha[k], r[k], mode) for k in range(2)]
    density = np.stack([_log_density(x, *component) for component in base])
    posterior = np.exp(density - logsumexp(density, axis=0))
    rest = [_fit_one(x, np.maximum(posterior[k] - alpha[k], 0), r[2 + k], mode) for k in range(2)]
    means, variances = zip(*base, *rest, strict=True)
    return np.stack(means), np.stack(variances)


def _tensors(*arrays: Array) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def _module(r: Array, mode: RegulariserMode = "published", rate: float = 0.1) -> AppearanceModule:
    """A float64 module whose softplus-ed regulariser is r, and whose projection is never used."""
    config = AGAMEConfig(appearance_channels=r.shape[1], regulariser=mode, update_rate=rate)
    appearance = AppearanceModule(5, config).double()
    with torch.no_grad():
        appearance.regulariser.copy_(torch.from_numpy(np.log(np.expm1(r))))
    return appearance


def test_equations_3_in_paper_form_are_weighted_mean_and_variance_with_r_inside() -> None:
    features, assignments, r = _example()
    mixture, _ = module.estimate(*_tensors(features, assignments, r[:2]), "paper")
    for n in range(2):
        for k in range(2):
            weights = assignments[n, k]
            mean = np.average(features[n], axis=1, weights=weights)
            inside = (features[n] - mean[:, None]) ** 2 + r[k][:, None]
            np.testing.assert_allclose(mixture.means[n, k], mean, rtol=1e-12)
            np.testing.assert_allclose(mixture.variances[n, k], np.average(inside, axis=1, weights=weights), rtol=1e-12)


def test_equations_3_in_published_form_count_one_pixel_more_and_add_r_outside() -> None:
    features, assignments, r = _example()
    mixture, _ = module.estimate(*_tensors(features, assignments, r[:2]), "published")
    for n in range(2):
        for k in range(2):
            mean, variance = _fit_one(features[n], assignments[n, k], r[k], "published")
            np.testing.assert_allclose(mixture.means[n, k], mean, rtol=1e-12)
            np.testing.assert_allclose(mixture.variances[n, k], variance, rtol=1e-12)


def test_equation_4_moves_by_the_update_rate() -> None:
    old, new = (Mixture(torch.full((1, 4, 2), a), torch.full((1, 4, 2), b)) for a, b in ((1.0, 2.0), (3.0, 10.0)))
    blended = module.blend(old, new, 0.1)
    np.testing.assert_allclose(blended.means, 0.9 * 1 + 0.1 * 3)
    np.testing.assert_allclose(blended.variances, 0.9 * 2 + 0.1 * 10)


def test_equation_6_keeps_only_what_the_base_components_claim_too_much() -> None:
    posteriors = torch.tensor([[[0.9, 0.2, 0.5], [0.1, 0.8, 0.5]]])
    assignments = torch.tensor([[[0.3, 0.6, 0.5], [0.7, 0.4, 0.5]]])
    residual = module.residual_assignments(posteriors, assignments)
    np.testing.assert_allclose(residual[0], [[0.6, 0, 0], [0, 0.4, 0]], atol=1e-7)


def test_equation_7_is_the_posterior_of_the_gaussians_under_a_uniform_prior() -> None:
    features, assignments, r = _example()
    means, variances = _algorithm_1(features[0], assignments[0], r, "published")
    density = np.stack([_log_density(features[0], means[k], variances[k]) for k in range(4)])
    mixture = Mixture(*_tensors(means[None], variances[None]))
    posteriors = module.component_posteriors(module.component_scores(torch.from_numpy(features[:1]), mixture))
    np.testing.assert_allclose(posteriors[0], softmax(density, axis=0), rtol=1e-10)


def test_equation_8_is_the_log_density_without_its_constant() -> None:
    features, assignments, r = _example(channels=5)
    means, variances = _algorithm_1(features[0], assignments[0], r, "published")
    mixture = Mixture(*_tensors(means[None], variances[None]))
    scores = module.component_scores(torch.from_numpy(features[:1]), mixture)
    for k in range(4):
        expected = _log_density(features[0], means[k], variances[k]) + 5 / 2 * np.log(2 * np.pi)
        np.testing.assert_allclose(scores[0, k], expected, rtol=1e-10)


@pytest.mark.parametrize("mode", BOTH)
def test_algorithm_1_over_three_frames(mode: RegulariserMode) -> None:
    rate = 0.3
    frames = [_example(seed) for seed in range(3)]
    r = frames[0][2]
    appearance = _module(r, mode, rate)
    mixture = appearance.fit(*_tensors(*frames[0][:2]))
    expected = [_algorithm_1(frames[0][0][n], frames[0][1][n], r, mode) for n in range(2)]
    for features, assignments, _ in frames[1:]:
        mixture = appearance.update(mixture, *_tensors(features, assignments))
        for n in range(2):
            new = _algorithm_1(features[n], assignments[n], r, mode)
            expected[n] = tuple((1 - rate) * a + rate * b for a, b in zip(expected[n], new, strict=True))
    for n in range(2):
        np.testing.assert_allclose(mixture.means[n].detach(), expected[n][0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(mixture.variances[n].detach(), expected[n][1], rtol=1e-9, atol=1e-12)


class _FitUpdateScore(torch.nn.Module):
    """Everything the module does, as one function of features, masks and (through functional_call) its regulariser."""

    def __init__(self, appearance: AppearanceModule) -> None:
        super().__init__()
        self.appearance = appearance

    def forward(self, first: torch.Tensor, inside: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        mask = torch.stack([1 - inside, inside], 1)
        mixture = self.appearance.update(self.appearance.fit(first, mask), second, mask)
        scores: torch.Tensor = self.appearance(second, mixture)
        return scores


@pytest.mark.parametrize("mode", BOTH)
def test_gradients_of_fit_update_and_scores_are_the_finite_differences(mode: RegulariserMode) -> None:
    (first, assignments, r), (second, _, _) = _example(3), _example(4)
    whole = _FitUpdateScore(_module(r, mode))

    def scores(regulariser: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.func.functional_call(whole, {"appearance.regulariser": regulariser}, inputs)
        return result

    inputs = _tensors(np.log(np.expm1(r)), first, assignments[:, 1], second)
    assert torch.autograd.gradcheck(scores, tuple(value.requires_grad_() for value in inputs))


@pytest.mark.parametrize("mode", BOTH)
def test_a_mask_without_target_gives_finite_components_and_gradients(mode: RegulariserMode) -> None:
    features, assignments, r = _example()
    x = torch.from_numpy(features).requires_grad_()
    mask = torch.from_numpy(np.stack([np.ones_like(assignments[:, 0]), np.zeros_like(assignments[:, 0])], 1))
    appearance = _module(r, mode)
    mixture = appearance.fit(x, mask)
    np.testing.assert_allclose(mixture.means[:, 1].detach(), 0)
    assert bool((mixture.variances > 0).all())
    appearance(x, mixture).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_an_empty_component_of_the_published_form_is_the_regulariser() -> None:
    features, assignments, r = _example()
    mixture, _ = module.estimate(*_tensors(features, 0 * assignments, r[:2]), "published")
    np.testing.assert_array_equal(mixture.variances, np.stack([r[:2], r[:2]]))


@given(seed=st.integers(0, 1000), copies=st.integers(2, 4))
@settings(max_examples=20)
def test_showing_every_pixel_several_times_changes_nothing_in_paper_form(seed: int, copies: int) -> None:
    features, assignments, r = _example(seed)
    once = _module(r, "paper").fit(*_tensors(features, assignments))
    often = _module(r, "paper").fit(*_tensors(np.tile(features, copies), np.tile(assignments, copies)))
    np.testing.assert_allclose(once.means.detach(), often.means.detach(), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(once.variances.detach(), often.variances.detach(), rtol=1e-7)


def test_several_targets_in_one_frame_are_fitted_as_if_alone() -> None:
    features, assignments, r = _example()
    appearance = _module(r)
    shared = torch.from_numpy(features[:1])
    together = appearance.fit(shared, torch.from_numpy(assignments))
    scores = appearance(shared, together)
    for n in range(2):
        alone = appearance.fit(shared, torch.from_numpy(assignments[n : n + 1]))
        torch.testing.assert_close(together.means[n : n + 1], alone.means)
        torch.testing.assert_close(scores[n : n + 1], appearance(shared, alone))


def test_statistics_stay_in_float32_under_bfloat16_autocast() -> None:
    features, assignments, r = _example(channels=64, positions=40)
    x, mask = torch.from_numpy(features).float(), torch.from_numpy(assignments).float()
    appearance = _module(r).float()
    exact = appearance(x, appearance.fit(x, mask))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = appearance(x, appearance.fit(x, mask))
    assert scores.dtype == torch.float32
    assert torch.equal(scores, exact)
