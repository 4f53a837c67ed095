"""The ablations of the paper's Table 1: what each recipe changes, and that it changes nothing else."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import norm

from vosdata.models.agame import AGAME, AGAMEConfig, AGAMEOutput, VideoSegmenter
from vosdata.models.agame.appearance import AppearanceModule, Mixture
from vosdata.models.agame.network import pool, two_channels
from vosdata.recipe import load_recipe

Snippet = tuple[torch.Tensor, torch.Tensor]

ABLATIONS: dict[str, dict[str, object]] = {
    "no_appearance": {"appearance": "none"},
    "no_mask_propagation": {"mask_propagation": False},
    "unimodal": {"appearance": "unimodal"},
    "no_update": {"update_rate": 0.0},
    "softmax": {"appearance_output": "posteriors"},
    "no_end_to_end": {"end_to_end": False},
}
APPEARANCE = 2048 * 512 + 512 + 4 * 512
PROPAGATION = 16_257_536


def ablated(config: AGAMEConfig, name: str) -> AGAMEConfig:
    return dataclasses.replace(config, **ABLATIONS[name])  # type: ignore[arg-type]


def with_weights_of(full: AGAME, name: str) -> AGAME:
    """The ablated network with the full one's weights, cut to the places that it has."""
    model = AGAME(ablated(full.config, name))
    weights = {}
    for key, own in model.state_dict().items():
        value = full.state_dict()[key]
        if key == "fusion.join.weight":  # [scores, propagated mask]
            value = value[:, -own.shape[1] :] if name == "no_appearance" else value[:, : own.shape[1]]
        weights[key] = value[: own.shape[0]] if own.ndim else value
    model.load_state_dict(weights)
    return model


def coarse_gradients(model: AGAME, snippet: Snippet) -> dict[str, torch.Tensor | None]:
    output: AGAMEOutput = model(*snippet)
    output.coarse_log_probs[:, -1, 1].mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_recipe_changes_the_one_key_that_the_paper_says(name: str) -> None:
    full, recipe = load_recipe("agame_initial"), load_recipe(f"agame_{name}")
    changed = {key: value for key, value in recipe.model if value != getattr(full.model, key)}
    assert changed == ABLATIONS[name]
    assert recipe.model_copy(update={"name": full.name, "model": full.model}) == full
    assert recipe.model.config() == ablated(AGAMEConfig(), name)


@pytest.mark.parametrize(
    ("name", "fewer"),
    [
        ("no_appearance", APPEARANCE + 4 * 512 * 9),
        ("no_mask_propagation", PROPAGATION + 512 * 512 * 9),
        ("unimodal", 2 * 512 + 2 * 512 * 9),
        ("no_update", 0),
        ("softmax", 0),
        ("no_end_to_end", 0),
    ],
)
def test_parameters_go_with_what_is_taken_out(name: str, fewer: int) -> None:
    with torch.device("meta"):
        model = AGAME(ablated(AGAMEConfig(), name))
    assert sum(parameter.numel() for parameter in model.parameters()) == 63_468_228 - fewer
    untrained = 4 * 512 if name == "no_end_to_end" else 0  # the regulariser is learnt through the fit alone
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trained == 35_932_804 - fewer - untrained


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_trains_all_that_it_has_and_segments_videos(
    tiny_config: AGAMEConfig, snippet: Snippet, name: str
) -> None:
    model = AGAME(ablated(tiny_config, name))
    output = model(*snippet)
    (output.log_probs[:, :, 1].mean() + output.coarse_log_probs[:, :, 1].mean()).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert bool(parameter.grad.isfinite().all()), key
    frames, given = snippet
    ids = given[0] + 2 * given[1] * (given[0] == 0)
    segmenter = VideoSegmenter(model)
    masks = [segmenter.step(frame, ids if t == 0 else None) for t, frame in enumerate(frames[0])]
    assert segmenter.object_ids == (1, 2)
    assert {mask.shape for mask in masks} == {(48, 64)}


def test_without_appearance_no_score_reaches_the_fusion(tiny: AGAME, snippet: Snippet) -> None:
    """As if the full network's weights of the scores were zero."""
    tiny.eval()
    model = with_weights_of(tiny, "no_appearance").eval()
    with torch.no_grad():
        tiny.fusion.join.weight[:, :4] = 0
        torch.testing.assert_close(model(*snippet), tiny(*snippet), atol=1e-5, rtol=1e-5)


def test_without_mask_propagation_the_previous_mask_only_updates_the_appearance(tiny: AGAME, snippet: Snippet) -> None:
    tiny.eval()
    model = with_weights_of(tiny, "no_mask_propagation").eval()
    with torch.no_grad():
        deep = model.encode(snippet[0][:, 0]).deep
        appearance, mask = model.appearance.project(deep), pool(two_channels(snippet[1], torch.float32))
        state = model.start(appearance, deep, mask)
        other = state._replace(mask=mask.flip(0))
        found, same = (model.locate(appearance, model.propagation.project(deep), one) for one in (state, other))
        torch.testing.assert_close(found, same, atol=0, rtol=0)
        tiny.fusion.join.weight[:, 4:] = 0
        torch.testing.assert_close(model(*snippet), tiny(*snippet), atol=1e-5, rtol=1e-5)


def test_a_unimodal_mixture_is_the_base_components_of_the_full_one(tiny: AGAME, snippet: Snippet) -> None:
    """And the full network gives the same where the fusion is blind to the residual components."""
    tiny.eval()
    model = with_weights_of(tiny, "unimodal").eval()
    with torch.no_grad():
        model.fusion.join.weight[:, 2:] = tiny.fusion.join.weight[:, 4:]
        tiny.fusion.join.weight[:, 2:4] = 0
        appearance = tiny.appearance.project(tiny.encode(snippet[0][:, 0]).deep)
        mask = pool(two_channels(snippet[1], torch.float32)).flatten(2)
        full, base = (one.appearance.fit(appearance, mask) for one in (tiny, model))
        assert [part.shape[1] for part in base] == [2, 2]
        torch.testing.assert_close(base, Mixture(full.means[:, :2], full.variances[:, :2]), atol=0, rtol=0)
        torch.testing.assert_close(model(*snippet), tiny(*snippet), atol=1e-5, rtol=1e-5)


def test_without_update_the_first_frames_mixture_stays(tiny: AGAME, snippet: Snippet) -> None:
    model = with_weights_of(tiny, "no_update").eval()
    tiny.eval()
    with torch.no_grad():
        deep = model.encode(snippet[0][:, 0]).deep
        appearance, mask = model.appearance.project(deep), pool(two_channels(snippet[1], torch.float32))
        state = model.start(appearance, deep, mask)
        after = model.remember(state, appearance, mask.flip(1))
        assert after.mixture is state.mixture
        assert not torch.equal(tiny.remember(state, appearance, mask.flip(1)).mixture.means, state.mixture.means)
        ours, full = model(*snippet), tiny(*snippet)
    # The second frame is segmented with the first one's mixture anyhow; the third is where an update first shows.
    torch.testing.assert_close(ours.log_probs[:, :2], full.log_probs[:, :2], atol=1e-5, rtol=1e-5)
    assert (ours.log_probs[:, 2] - full.log_probs[:, 2]).abs().max() > 1e-4


def test_softmax_gives_the_fusion_the_posteriors_of_the_scores(tiny: AGAME, snippet: Snippet) -> None:
    model = with_weights_of(tiny, "softmax").eval()
    with torch.no_grad():
        appearance = tiny.appearance.project(tiny.encode(snippet[0][:, 0]).deep)
        mixture = tiny.appearance.fit(appearance, pool(two_channels(snippet[1], torch.float32)).flatten(2))
        scores, posteriors = (one.appearance(appearance, mixture) for one in (tiny, model))
    torch.testing.assert_close(posteriors, scores.exp() / scores.exp().sum(1, keepdim=True))
    torch.testing.assert_close(posteriors.sum(1), torch.ones_like(posteriors[:, 0]))


def test_log_posteriors_are_finite_where_posteriors_vanish() -> None:
    config = AGAMEConfig(backbone="resnet18", backbone_width=4, appearance_channels=3)
    told = {
        output: AppearanceModule(8, dataclasses.replace(config, appearance_output=output))
        for output in ("log_posteriors", "posteriors")
    }
    mixture = Mixture(torch.tensor([[[0.0] * 3, [9.0] * 3, [1.0] * 3, [20.0] * 3]]), torch.full((1, 4, 3), 0.5))
    features = torch.tensor([[[0.2, 8.0], [0.1, 9.5], [-0.3, 9.0]]])  # (1, D, P)
    log_posteriors, posteriors = (module(features, mixture) for module in told.values())
    densities = norm(mixture.means[0, :, :, None], 0.5**0.5).logpdf(features[0]).sum(1)  # (K, P)
    np.testing.assert_allclose(log_posteriors[0], log_softmax(densities, 0), rtol=1e-4, atol=1e-5)
    assert (posteriors == 0).any()
    assert log_posteriors.isfinite().all()


def test_without_end_to_end_outputs_are_equal_and_no_gradient_passes_the_fit(tiny: AGAME, snippet: Snippet) -> None:
    model = with_weights_of(tiny, "no_end_to_end").eval()
    tiny.eval()
    torch.testing.assert_close(model(*snippet), tiny(*snippet), atol=0, rtol=0)
    deep = tiny.encode(snippet[0][:, 0]).deep.detach()
    mask = pool(two_channels(snippet[1], torch.float32)).flatten(2)
    for one, passes in ((tiny, True), (model, False)):
        projected = one.appearance.project(deep)
        mixture = one.appearance.fit(projected, mask.clone().requires_grad_())
        assert mixture.means.requires_grad is passes
        assert mixture.variances.requires_grad is passes
        assert one.appearance(projected, mixture).requires_grad  # features still learn by being scored
    cut, full = coarse_gradients(model, snippet), coarse_gradients(tiny, snippet)
    assert cut["appearance.regulariser"] is None
    assert full["appearance.regulariser"] is not None
    for name in ("appearance.projection.weight", "backbone.layer4.0.conv1.weight"):
        mine, theirs = cut[name], full[name]
        assert mine is not None
        assert theirs is not None
        assert not torch.allclose(mine, theirs, rtol=1e-3, atol=0)
        assert bool((mine != 0).any())


def test_what_the_published_code_does_otherwise_is_in_two_recipes() -> None:
    """Facts of the published code; the network's own (regulariser, batch norm) are its defaults already."""
    initial, finetune = load_recipe("agame_initial"), load_recipe("agame_finetune")
    published = [load_recipe(f"{name}_published") for name in ("agame_initial", "agame_finetune")]
    assert [(one.loss.void, one.loss.coarse_weight) for one in published] == [("published", 1), ("published", 0)]
    assert [(one.loss.void, one.loss.coarse_weight) for one in (initial, finetune)] == [("excluded", 1)] * 2
    assert (published[0].train.epochs, published[0].train.lr_decay) == (160, 0.975)
    assert published[0].data.sets == {"davis2017": "size", "ytvos": "size"}
    assert published[1].data.sets == {"davis2017": 0.36, "ytvos": 0.64}
    ends = [one.train.lr_decay**one.train.epochs for one in (initial, published[0])]
    assert ends[0] == pytest.approx(ends[1], rel=0.06)
    assert [one.model for one in published] == [initial.model, finetune.model]
    assert (initial.model.regulariser, initial.model.batch_norm) == ("published", "per_frame")


def test_a_network_without_both_modules_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing would tell the target"):
        AGAMEConfig(appearance="none", mask_propagation=False)
