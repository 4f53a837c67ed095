"""Everything that shapes an A-GAME network, with the published values as defaults."""

from dataclasses import dataclass
from typing import Literal, get_args

from vosdata.models.resnet import BackboneName, BatchNormMode, StageName

RegulariserMode = Literal["published", "paper"]


@dataclass(frozen=True, slots=True)
class AGAMEConfig:
    """Architecture and training semantics of an A-GAME network; the defaults are the published network.

    Raises:
        ValueError: a value is out of its range.
    """

    backbone: BackboneName = "resnet101"
    """Backbone architecture."""

    backbone_width: int = 64
    """Channels of the backbone's stem, >= 1; pretrained weights need 64, training from scratch on a CPU less."""

    train_from: StageName = "layer4"
    """First backbone stage that is trained; shallower ones are frozen. Paper: layer4, with ImageNet weights. "stem"
    trains everything (from scratch), "none" nothing."""

    batch_norm: BatchNormMode = "per_frame"
    """Batch statistics of trained backbone stages: of one time-step at a time (published), of the whole batch at once
    ("joint"), or the running ones ("frozen")."""

    keep_classifier: bool = False
    """Keeps the backbone's unused classifier (ResNet-101: 2,049,000 frozen parameters), as the published weights do."""

    appearance_channels: int = 512
    """Channels D in which the appearance module models target and background, >= 1."""

    propagation_channels: int = 512
    """Channels of every layer of the mask-propagation module, >= 1."""

    fusion_channels: int = 512
    """Channels between the two layers of the fusion module, >= 1."""

    encoding_channels: int = 128
    """Channels of the coarse mask encoding, >= 1."""

    upsampling_channels: int = 128
    """Channels of the lateral connections and outputs of the upsampling module, >= 1."""

    regulariser: RegulariserMode = "published"
    """How equation 3 is regularised. "paper": r inside the weighted mean, as printed. "published": r outside of it, and
    one pixel of pseudo-count in every denominator, so that a component that almost no pixel belongs to tends to mean 0
    and variance r instead of following single pixels. The default is "published" because residual components often have
    next to no mass, where the printed form is undefined."""

    update_rate: float = 0.1
    """Learning rate lambda of equation 4, 0 <= lambda <= 1; 0 keeps the first frame's model."""

    def __post_init__(self) -> None:
        for key, kind in (
            ("backbone", BackboneName),
            ("train_from", StageName),
            ("batch_norm", BatchNormMode),
            ("regulariser", RegulariserMode),
        ):
            if getattr(self, key) not in get_args(kind):
                raise ValueError(f"{key} must be one of {', '.join(get_args(kind))}, got {getattr(self, key)!r}")
        for key in ("backbone_width", *(f"{module}_channels" for module in _MODULES)):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, got {getattr(self, key)}")
        if not 0 <= self.update_rate <= 1:
            raise ValueError(f"update_rate must lie in [0, 1], got {self.update_rate}")


_MODULES = ("appearance", "propagation", "fusion", "encoding", "upsampling")
