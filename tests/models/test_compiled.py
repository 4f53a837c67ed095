"""Compiled heads compute what the others do."""

import copy

import pytest
import torch

from vosdata.models.agame import AGAME, VideoSegmenter
from vosdata.models.agame.compiled import compile_heads

Snippet = tuple[torch.Tensor, torch.Tensor]


@pytest.mark.slow
def test_compiled_heads_give_the_same_outputs_gradients_and_names(tiny: AGAME, snippet: Snippet) -> None:
    compiled = copy.deepcopy(tiny)
    compile_heads(compiled)
    assert compiled.state_dict().keys() == tiny.state_dict().keys()
    for network in (tiny, compiled):
        output = network.train()(*snippet)
        (output.log_probs.mean() + output.coarse_log_probs.mean()).backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2, "nothing was compiled"
    compared = 0
    for plain, other in zip(tiny.parameters(), compiled.parameters(), strict=True):
        assert (plain.grad is None) == (other.grad is None)
        if plain.grad is not None and other.grad is not None:
            scale = plain.grad.abs().max().item()
            torch.testing.assert_close(other.grad, plain.grad, atol=1e-4 * scale + 1e-9, rtol=0)
            compared += 1
    assert compared > 50
    frames, given = snippet[0][0], snippet[1][0]
    ours, theirs = (
        torch.stack([segmenter.advance(frame, given if t == 0 else None) for t, frame in enumerate(frames)])
        for segmenter in (VideoSegmenter(tiny), VideoSegmenter(compiled))
    )
    assert (ours != theirs).float().mean() < 0.002  # ties of probabilities that round
