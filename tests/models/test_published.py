"""Checkpoints of the published layout."""

import pytest
import torch

from shards.errors import CheckpointError
from vosdata.models.agame import AGAME, AGAMEConfig
from vosdata.models.agame.published import load_published, our_name

NAMES = {  # ours to published, spelt out once more
    "appearance.projection": "appmod.conv_in",
    "propagation.gather": "dynmod.layers.layer00.conv",
    "propagation.pyramid.0": "dynmod.layers.layer01.conv0",
    "propagation.pyramid.1": "dynmod.layers.layer01.conv1",
    "propagation.pyramid.2": "dynmod.layers.layer01.conv2",
    "propagation.mix": "dynmod.layers.layer02.conv",
    "fusion.join": "fusmod.layers.layer00.conv",
    "fusion.encode": "fusmod.layers.layer01.conv",
    "fusion.predict": "fusmod.predictor.layer00.conv",
    "upsampling.to_stride8.project": "segmod.project_s8.conv",
    "upsampling.to_stride8.blend": "segmod.blend_s8.conv",
    "upsampling.to_stride4.project": "segmod.project_s4.conv",
    "upsampling.to_stride4.blend": "segmod.blend_s4.conv",
    "upsampling.predict": "segmod.predictor.conv",
}


def _published(model: AGAME, prefix: str = "trackseg.") -> dict[str, torch.Tensor]:
    """The model's weights in the published layout, with the classifier that it may lack."""
    entries = {f"{prefix}backbone.fc.weight": torch.zeros(1000, 1), f"{prefix}backbone.fc.bias": torch.zeros(1000)}
    for name, value in model.state_dict().items():
        module, _, kind = name.rpartition(".")
        if name == "appearance.regulariser":
            entries[f"{prefix}appmod.cov_reg"] = value[:, None, :, None, None].clone()
        else:
            entries[f"{prefix}{NAMES.get(module, module)}.{kind}"] = value.clone()
    return entries


@pytest.mark.parametrize("prefix", ["trackseg.", ""])
def test_a_checkpoint_of_the_published_layout_loads_with_and_without_prefix(
    tiny_config: AGAMEConfig, prefix: str
) -> None:
    source, target = AGAME(tiny_config, seed=1), AGAME(tiny_config, seed=2)
    load_published(target, _published(source, prefix))
    expected = source.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in target.state_dict().items())


def test_unknown_missing_and_misshapen_entries_are_named_and_leave_the_model_alone(tiny_config: AGAMEConfig) -> None:
    source, target = AGAME(tiny_config, seed=1), AGAME(tiny_config, seed=2)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    good = _published(source)
    with pytest.raises(CheckpointError, match=r"trackseg\.other\.weight"):
        load_published(target, good | {"trackseg.other.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"lacks fusion\.join\.bias"):
        load_published(target, {n: v for n, v in good.items() if n != "trackseg.fusmod.layers.layer00.conv.bias"})
    with pytest.raises(CheckpointError, match=r"fusion\.join\.bias is \(3,\), expected \(5,\)"):
        load_published(target, good | {"trackseg.fusmod.layers.layer00.conv.bias": torch.zeros(3)})
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_a_name_that_only_begins_like_a_published_one_is_unknown() -> None:
    with pytest.raises(CheckpointError):
        our_name("trackseg.appmod.conv_inner.weight")
