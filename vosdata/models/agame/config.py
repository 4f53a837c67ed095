"""Everything that shapes an A-GAME network, with the published values as defaults."""

from dataclasses import dataclass
from typing import Literal, get_args

from vosdata.models.resnet import BackboneName, BatchNormMode, StageName

RegulariserMode = Literal["published", "paper"]
AppearanceMode = Literal["mixture", "unimodal", "none"]
AppearanceOutput = Literal["scores", "log_posteriors", "posteriors"]


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

    appearance: AppearanceMode = "mixture"
    """What the appearance module models background and target with: two Gaussians each, "unimodal" the base one of each
    (without the residual components of equation 6), "none" no module at all. Ablations of the paper's Table 1."""

    appearance_output: AppearanceOutput = "scores"
    """What the fusion module is given: the scores of equation 8, the "posteriors" of equation 7, their softmax
    (Table 1, "Appearance SoftMax"), or the "log_posteriors" (ours): the scores less what all components have in common,
    which is most of them. From random weights that trains faster, and unlike posteriors they do not saturate."""

    score_scale: float = 1.0
    """Factor on scores and log-posteriors where the fusion module takes them in, > 0; posteriors stay as they are. What
    the network can compute is the same for every value, how it learns is not: scores lie in the tens and hundreds, and
    Adam's steps on their weights, at learning rates that suit training from scratch, kill most of the heads' ReLUs."""

    end_to_end: bool = True
    """Whether gradients flow through the fit of equation 3. If not (Table 1, "No end-to-end"), the mixture is a
    constant to what is learnt: features learn by being scored alone, and the regulariser keeps its first value."""

    mask_propagation: bool = True
    """Whether there is a mask-propagation module; without it (Table 1) the fusion module sees the appearance alone."""

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
    """Learning rate lambda of equation 4, 0 <= lambda <= 1; 0 keeps the first frame's model (Table 1, "No update")."""

    def __post_init__(self) -> None:
        for key, kind in (
            ("backbone", BackboneName),
            ("train_from", StageName),
            ("batch_norm", BatchNormMode),
            ("regulariser", RegulariserMode),
            ("appearance", AppearanceMode),
            ("appearance_output", AppearanceOutput),
        ):
            if getattr(self, key) not in get_args(kind):
                raise ValueError(f"{key} must be one of {', '.join(get_args(kind))}, got {getattr(self, key)!r}")
        for key in ("backbone_width", *(f"{module}_channels" for module in _MODULES)):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, got {getattr(self, key)}")
        if not 0 <= self.update_rate <= 1:
            raise ValueError(f"update_rate must lie in [0, 1], got {self.update_rate}")
        if not self.score_scale > 0:
            raise ValueError(f"score_scale must be above 0, got {self.score_scale}")
        if self.appearance == "none" and not self.mask_propagation:
            raise ValueError('appearance must not be "none" without mask_propagation: nothing would tell the target')

    @property
    def num_components(self) -> int:
        """K, components of the mixture, and channels that the appearance module gives to the fusion module."""
        return {"mixture": 4, "unimodal": 2, "none": 0}[self.appearance]


_MODULES = ("appearance", "propagation", "fusion", "encoding", "upsampling")
