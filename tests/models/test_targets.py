"""Several targets per snippet as one batch, against a loop over objects and odds in plain form."""

import pytest
import torch

from vosdata.models.agame import AGAME
from vosdata.models.agame.enlarging import enlarge
from vosdata.models.agame.network import pool, two_channels
from vosdata.models.agame.targets import Targets

COUNTS = [3, 1]
Snippet = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture
def several(snippet: Snippet) -> Snippet:
    """Frames uint8 (2, 4, 3, 48, 64) and index masks uint8 (2, 48, 64): three targets with void, and one."""
    frames, given = snippet
    given = given.clone()
    given[0] = 0
    given[0, 2:20, 3:30], given[0, 24:44, 8:28], given[0, 10:40, 34:60], given[0, :2] = 1, 2, 3, 255
    return frames, given


def odds_normalised(inside: torch.Tensor) -> torch.Tensor:
    """The distribution (N + 1, H, W) of targets (N, H, W): normalised odds, as published; background is the least."""
    if len(inside) == 1:
        return torch.cat([1 - inside, inside])
    probabilities = torch.cat([(1 - inside).amin(0, keepdim=True), inside])
    odds = probabilities / (1 - probabilities)
    return odds / odds.sum(0)


def one_object_after_another(model: AGAME, frames: torch.Tensor, given: torch.Tensor, count: int) -> torch.Tensor:
    """Joint probabilities (T - 1, count + 1, H, W) of one snippet (T, 3, H, W), in loops over frames and objects."""
    features = [model.encode(frame[None]) for frame in frames]
    projected = [model.appearance.project(one.deep) for one in features]
    states = []
    for number in range(1, count + 1):
        mask = pool(two_channels((given == number)[None], frames_dtype(model)))
        states.append(model.start(projected[0], features[0].deep, mask))
    found = []
    for step in range(1, len(frames)):
        fine, coarse = [], []
        for state in states:
            encoding, logits = model.locate(projected[step], model.propagation.project(features[step].deep), state)
            detailed = model.upsampling(encoding, model.upsampling.laterals(features[step]))
            fine.append(enlarge(detailed, 4).softmax(1)[0, 1])
            coarse.append(logits.softmax(1)[0, 1])
        found.append(odds_normalised(torch.stack(fine)))
        joint = odds_normalised(torch.stack(coarse))[1:]
        for number, state in enumerate(states):
            mask = torch.stack([1 - joint[number], joint[number]])[None]
            states[number] = model.remember(state, projected[step], mask)
    return torch.stack(found)


def frames_dtype(model: AGAME) -> torch.dtype:
    return model.get_buffer("_scale").dtype


def test_several_targets_at_once_equal_one_object_after_another(tiny: AGAME, several: Snippet) -> None:
    model, (frames, given) = tiny.double().eval(), several
    with torch.no_grad():
        for predict in (model.fusion.predict, model.upsampling.predict):
            predict.weight *= 1e-3  # logits of a few units, for probabilities that do not round to 1
        together = model(frames, given, COUNTS).log_probs.exp()
        for snippet, count in enumerate(COUNTS):
            expected = one_object_after_another(model, frames[snippet], given[snippet], count)
            torch.testing.assert_close(together[snippet, 1:, : count + 1], expected, atol=1e-7, rtol=1e-6)
    assert bool((together[1, 1:, 2:] == 0).all()), "places without a target"
    torch.testing.assert_close(together[:, 1:].sum(2), torch.ones(2, 3, 48, 64, dtype=torch.float64))


def test_one_target_each_gives_outputs_and_gradients_of_the_plain_network(tiny: AGAME, snippet: Snippet) -> None:
    model = tiny.double()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    results = []
    for counts in (None, [1, 1]):
        model.load_state_dict(state)
        output = model.train()(*snippet, counts)
        gradients = torch.autograd.grad(output.log_probs[:, :, 1].mean(), list(model.parameters()), allow_unused=True)
        results.append((tuple(output), gradients))
    torch.testing.assert_close(*results)


def test_the_first_frame_is_the_log_of_the_given_ids_and_void_is_background(tiny: AGAME, several: Snippet) -> None:
    frames, given = several
    output = tiny(frames, given, COUNTS)
    assert output.log_probs.shape == output.coarse_log_probs.shape == (2, 4, 4, 48, 64)
    truth = given.masked_fill(given == 255, 0).long()
    assert torch.equal(output.log_probs[:, 0].argmax(1), truth)
    assert torch.equal(output.log_probs[:, 0], output.coarse_log_probs[:, 0])
    assert output.log_probs[:, 0].exp().amax(1).min() > 0.999


def test_targets_of_a_snippet_compete_for_the_gradient(tiny: AGAME, several: Snippet) -> None:
    """What is wanted of one target moves how the others are seen, and an absent one adds nothing that is not finite."""
    tiny(*several, COUNTS).log_probs[0, 1:, 3].mean().backward()
    gradients = [p.grad for p in tiny.parameters() if p.requires_grad]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
    log_odds = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = Targets(COUNTS, torch.device("cpu"))
    assert torch.autograd.gradcheck(
        lambda odds: targets.aggregate(odds).log_softmax(1)[:, :2], log_odds.requires_grad_()
    )
    (gradient,) = torch.autograd.grad(targets.aggregate(log_odds).log_softmax(1)[0, 3].sum(), log_odds)
    assert bool((gradient[:3] != 0).all())
    assert bool((gradient[2] > 0).all())
    assert bool((gradient[3] == 0).all()), "of the other snippet"


def test_numbers_of_targets_that_do_not_fit_are_refused(tiny: AGAME, several: Snippet) -> None:
    with pytest.raises(ValueError, match="of each of 2 snippets, got 3"):
        tiny(*several, [1, 1, 1])
    with pytest.raises(ValueError, match="at least one target"):
        tiny(*several, [1, 0])
