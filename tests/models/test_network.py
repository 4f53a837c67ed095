"""The unrolled network: sizes, agreement with a plain frame-by-frame loop, given masks, precision."""

import pytest
import torch

from vosdata.models.agame import AGAME, AGAMEConfig
from vosdata.models.agame.enlarging import enlarge
from vosdata.models.agame.network import pool, two_channels

Snippet = tuple[torch.Tensor, torch.Tensor]


@pytest.mark.parametrize(("keep_classifier", "count"), [(True, 65_517_228), (False, 63_468_228)])
def test_the_published_network_has_the_published_number_of_parameters(keep_classifier: bool, count: int) -> None:
    with torch.device("meta"):
        model = AGAME(AGAMEConfig(keep_classifier=keep_classifier))
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == 35_932_804


@pytest.mark.parametrize("training", [False, True])
def test_a_snippet_at_once_equals_frame_after_frame(tiny: AGAME, snippet: Snippet, training: bool) -> None:
    frames, given = snippet
    tiny.train(training)
    start = {name: value.clone() for name, value in tiny.state_dict().items()}
    together = tiny(frames, given)
    statistics = {name: value.clone() for name, value in tiny.named_buffers()}
    tiny.load_state_dict(start)

    mask = pool(two_channels(given, torch.float32))
    state, fine, coarse = None, [], []
    for frame in frames.unbind(1):
        features = tiny.encode(frame)
        appearance = tiny.appearance.project(features.deep)
        if state is None:
            state = tiny.start(appearance, features.deep, mask)
            continue
        encoding, logits = tiny.locate(appearance, tiny.propagation.project(features.deep), state)
        state = tiny.remember(state, appearance, logits.softmax(1))
        fine.append(enlarge(tiny.upsampling(encoding, tiny.upsampling.laterals(features)), 4).log_softmax(1))
        coarse.append(enlarge(logits.log_softmax(1), 16))
    torch.testing.assert_close(together.log_probs[:, 1:], torch.stack(fine, 1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.coarse_log_probs[:, 1:], torch.stack(coarse, 1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(dict(tiny.named_buffers()), statistics, atol=1e-5, rtol=1e-5)


def test_the_first_frame_is_the_log_of_the_given_mask(tiny: AGAME, snippet: Snippet) -> None:
    frames, given = snippet
    output = tiny(frames, given)
    probabilities = output.log_probs[:, 0].exp()
    torch.testing.assert_close(probabilities[:, 1], given.float(), atol=2e-7, rtol=0)
    torch.testing.assert_close(probabilities[:, 0], 1 - given.float(), atol=2e-7, rtol=0)
    assert torch.equal(output.log_probs[:, 0], output.coarse_log_probs[:, 0])


def test_a_snippet_of_one_frame_is_its_given_mask(tiny: AGAME, snippet: Snippet) -> None:
    frames, given = snippet
    assert torch.equal(tiny(frames[:, :1], given).log_probs, tiny(frames, given).log_probs[:, :1])


def test_probabilities_of_background_and_target_add_up_to_one(tiny: AGAME, snippet: Snippet) -> None:
    total = tiny(*snippet).log_probs.exp().sum(2)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_void_in_the_given_mask_counts_as_background_and_bool_masks_do(tiny: AGAME, snippet: Snippet) -> None:
    frames, given = snippet
    tiny.eval()
    expected = tiny(frames, given).log_probs
    assert torch.equal(tiny(frames, given == 1).log_probs, expected)
    with_void = given.masked_fill(given == 0, 255)
    assert torch.equal(tiny(frames, with_void).log_probs, expected)


def test_every_trained_parameter_gets_a_finite_gradient(tiny: AGAME, snippet: Snippet) -> None:
    output = tiny(*snippet)
    (output.log_probs[:, :, 1].mean() + output.coarse_log_probs[:, :, 1].mean()).backward()
    for name, parameter in tiny.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name


def test_a_snippet_whose_target_never_shows_gives_finite_gradients(tiny: AGAME, snippet: Snippet) -> None:
    frames, given = snippet
    tiny(frames, torch.zeros_like(given)).log_probs[:, :, 0].mean().backward()
    assert all(bool(p.grad.isfinite().all()) for p in tiny.parameters() if p.grad is not None)


def test_bfloat16_autocast_stays_near_float32(tiny: AGAME, snippet: Snippet) -> None:
    tiny.eval()
    with torch.no_grad():
        exact = tiny(*snippet).log_probs
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = tiny(*snippet).log_probs
    assert rough.dtype == torch.float32
    assert (rough.exp() - exact.exp()).abs().mean() < 0.02


def test_initial_weights_depend_on_the_seed_alone(tiny_config: AGAMEConfig) -> None:
    torch.manual_seed(1)
    first = AGAME(tiny_config, seed=3).state_dict()
    torch.manual_seed(2)
    again, other = AGAME(tiny_config, seed=3).state_dict(), AGAME(tiny_config, seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fusion.join.weight"], other["fusion.join.weight"])
    assert not torch.equal(first["backbone.conv1.weight"], other["backbone.conv1.weight"])


@pytest.mark.parametrize(("frames", "given"), [((2, 3, 48, 64), (2, 48, 64)), ((2, 4, 3, 48, 64), (2, 48, 63))])
def test_shapes_that_do_not_fit_are_named(tiny: AGAME, frames: tuple[int, ...], given: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected frames"):
        tiny(torch.zeros(frames, dtype=torch.uint8), torch.zeros(given, dtype=torch.uint8))


def test_sizes_that_the_stride_does_not_divide_are_refused(tiny: AGAME) -> None:
    with pytest.raises(ValueError, match="multiples of 16, got 50x64"):
        tiny(torch.zeros(1, 2, 3, 50, 64, dtype=torch.uint8), torch.zeros(1, 50, 64, dtype=torch.uint8))


@pytest.mark.parametrize(
    "wrong", [{"backbone": "vgg"}, {"update_rate": 1.5}, {"fusion_channels": 0}, {"train_from": "x"}]
)
def test_a_configuration_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AGAMEConfig(**wrong)  # type: ignore[arg-type]
