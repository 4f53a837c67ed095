"""Names of the published A-GAME checkpoint, and how they map onto ours.

=============================================  ==========================================
published                                      ours
=============================================  ==========================================
``backbone.*`` (torchvision names)             ``backbone.*``, unchanged
``appmod.conv_in.*``                           ``appearance.projection.*``
``appmod.cov_reg`` (4, 1, D, 1, 1)             ``appearance.regulariser`` (4, D)
``dynmod.layers.layer00.conv.*``               ``propagation.gather.*``
``dynmod.layers.layer01.conv{0,1,2}.*``        ``propagation.pyramid.{0,1,2}.*``
``dynmod.layers.layer02.conv.*``               ``propagation.mix.*``
``fusmod.layers.layer00.conv.*``               ``fusion.join.*``
``fusmod.layers.layer01.conv.*``               ``fusion.encode.*``
``fusmod.predictor.layer00.conv.*``            ``fusion.predict.*``
``segmod.project_s8.conv.*``                   ``upsampling.to_stride8.project.*``
``segmod.blend_s8.conv.*``                     ``upsampling.to_stride8.blend.*``
``segmod.project_s4.conv.*``                   ``upsampling.to_stride4.project.*``
``segmod.blend_s4.conv.*``                     ``upsampling.to_stride4.blend.*``
``segmod.predictor.conv.*``                    ``upsampling.predict.*``
=============================================  ==========================================

Every published name may carry the prefix ``trackseg.``.
"""

from collections.abc import Mapping

from torch import Tensor

from shards.errors import CheckpointError
from vosdata.models.agame.network import AGAME

_PREFIX = "trackseg."
_MODULES = (
    ("backbone", "backbone"),
    ("appmod.conv_in", "appearance.projection"),
    ("dynmod.layers.layer00.conv", "propagation.gather"),
    ("dynmod.layers.layer01.conv0", "propagation.pyramid.0"),
    ("dynmod.layers.layer01.conv1", "propagation.pyramid.1"),
    ("dynmod.layers.layer01.conv2", "propagation.pyramid.2"),
    ("dynmod.layers.layer02.conv", "propagation.mix"),
    ("fusmod.layers.layer00.conv", "fusion.join"),
    ("fusmod.layers.layer01.conv", "fusion.encode"),
    ("fusmod.predictor.layer00.conv", "fusion.predict"),
    ("segmod.project_s8.conv", "upsampling.to_stride8.project"),
    ("segmod.blend_s8.conv", "upsampling.to_stride8.blend"),
    ("segmod.project_s4.conv", "upsampling.to_stride4.project"),
    ("segmod.blend_s4.conv", "upsampling.to_stride4.blend"),
    ("segmod.predictor.conv", "upsampling.predict"),
)
_REGULARISER = ("appmod.cov_reg", "appearance.regulariser")


def our_name(published: str) -> str:
    """Our name of a published entry, with or without its prefix.

    Raises:
        CheckpointError: the published network has no such entry.
    """
    name = published.removeprefix(_PREFIX)
    if name == _REGULARISER[0]:
        return _REGULARISER[1]
    for theirs, ours in _MODULES:
        if name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    raise CheckpointError(f"{published!r} is not an entry of the published A-GAME; see vosdata.models.agame.published")


def load_published(model: AGAME, state_dict: Mapping[str, Tensor]) -> None:
    """Loads a checkpoint of the published layout into a network of the published configuration.

    The unused classifier is left out when the model has none. Nothing else may be missing or left over.

    Raises:
        CheckpointError: an entry is unknown, missing or of another shape; the model is then unchanged.
    """
    expected = model.state_dict()
    renamed = {our_name(name): value for name, value in state_dict.items()}
    if "backbone.fc.weight" not in expected:
        renamed = {name: value for name, value in renamed.items() if not name.startswith("backbone.fc.")}
    if _REGULARISER[1] in renamed:
        renamed[_REGULARISER[1]] = renamed[_REGULARISER[1]].flatten(1)  # (4, 1, D, 1, 1) to (4, D)
    for name in expected.keys() ^ renamed.keys():
        place = "the checkpoint lacks" if name in expected else "the model has no place for"
        raise CheckpointError(f"published A-GAME checkpoint does not fit the model: {place} {name}")
    for name, value in renamed.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"published A-GAME checkpoint does not fit the model: {name} is {tuple(value.shape)}, "
                f"expected {tuple(expected[name].shape)}; use the configuration it was trained with"
            )
    model.load_state_dict(renamed)
