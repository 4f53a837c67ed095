"""The whole A-GAME: backbone, appearance, mask propagation, fusion and upsampling, unrolled over a snippet.

Only the light modules at stride 16 depend on the previous frame. So a snippet runs in three phases: the backbone and
all projections over every frame at once, the recurrence over time, the upsampling over every frame at once.
Letters: B snippets, T frames, N targets, M targets of the snippet that has most, C channels, H and W of the picture, h
and w of the stride-16 map.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vosdata.models.agame.appearance import AppearanceModule, Mixture, NoAppearance
from vosdata.models.agame.config import AGAMEConfig
from vosdata.models.agame.enlarging import enlarge_to_pixels
from vosdata.models.agame.fusion import FusionModule
from vosdata.models.agame.propagation import NoPropagation, PropagationModule
from vosdata.models.agame.targets import Targets
from vosdata.models.agame.upsampling import Laterals, UpsamplingModule
from vosdata.models.resnet import Features, ResNet, StageName

STRIDE = 16
_VOID = 255
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_LEAST_PROBABILITY = 1e-7  # the first frame's output is the log of the given mask, kept finite


class AGAMEOutput(NamedTuple):
    """Segmentation of each snippet; channel 0 is background, channel 1 the target, further ones further targets.

    The given frame stands apart from those that were predicted, so that a loss that leaves it out copies no frames.
    """

    given: Tensor
    """Float (B, 1, M + 1, H, W): the log of frame 0's given mask, kept finite."""

    fine: Tensor
    """Float (B, T - 1, M + 1, H, W): log-probabilities of the later frames."""

    coarse: Tensor
    """Float (B, T - 1, M + 1, H, W): those at stride 16, enlarged bilinearly (not normalised again)."""

    @property
    def log_probs(self) -> Tensor:
        """Float (B, T, M + 1, H, W): all frames, the given one first."""
        return torch.cat([self.given, self.fine], 1)

    @property
    def coarse_log_probs(self) -> Tensor:
        """Float (B, T, M + 1, H, W): all frames as the coarse mask has them, the given one first."""
        return torch.cat([self.given, self.coarse], 1)


class TargetState(NamedTuple):
    """What is remembered of N targets from frame to frame; its size does not grow with time."""

    mixture: Mixture
    """Appearance of each target and its background."""

    reference: Tensor
    """The mask-propagation module's term of the target's first frame, float (N, C, h, w)."""

    mask: Tensor
    """Soft mask of the previous frame, background and target, float (N, 2, h, w)."""


class AGAME(nn.Module):
    """A-GAME (Johnander et al., CVPR 2019).

    Args:
        config: architecture; the default is the published network.
        seed: of the initial weights, which depend on nothing else.
    """

    def __init__(self, config: AGAMEConfig | None = None, seed: int = 0) -> None:
        super().__init__()
        config = config or AGAMEConfig()
        self.config = config
        self.backbone = ResNet(
            config.backbone, config.backbone_width, config.train_from, config.batch_norm, config.keep_classifier
        )
        shallow, middle, deep = self.backbone.channels
        has_mask = config.mask_propagation
        self.appearance = NoAppearance() if config.appearance == "none" else AppearanceModule(deep, config)
        self.propagation = PropagationModule(deep, config.propagation_channels) if has_mask else NoPropagation()
        propagated = config.propagation_channels if has_mask else 0
        self.fusion = FusionModule(
            config.num_components,
            propagated,
            config.fusion_channels,
            config.encoding_channels,
            1.0 if config.appearance_output == "posteriors" else config.score_scale,
        )
        self.upsampling = UpsamplingModule(config.encoding_channels, middle, shallow, config.upsampling_channels)
        std = torch.tensor(_IMAGENET_STD).reshape(3, 1, 1)
        self.register_buffer("_scale", 1 / (255 * std), persistent=False)
        self.register_buffer("_shift", -torch.tensor(_IMAGENET_MEAN).reshape(3, 1, 1) / std, persistent=False)
        self.initialise(torch.Generator().manual_seed(seed))
        # Convolutions run fastest, on CPU and CUDA alike, with channels innermost; activations follow the weights.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.get_buffer("_scale").device

    def initialise(self, generator: torch.Generator) -> None:
        """Draws all weights anew: heads Kaiming-uniform with bias 0 as published; the backbone as torchvision does."""
        self.backbone.initialise(generator)
        for head in (self.propagation, self.fusion, self.upsampling):
            for module in head.modules():
                if isinstance(module, nn.Conv2d) and module.bias is not None:
                    nn.init.kaiming_uniform_(module.weight, generator=generator)
                    nn.init.zeros_(module.bias)
        self.appearance.initialise(generator)

    def encode(self, frames: Tensor, num_steps: int = 1, begun: Mapping[StageName, Tensor] | None = None) -> Features:
        """Runs the backbone on frames uint8 (N, 3, H, W), normalising them with ImageNet's mean and deviation.

        Args:
            frames: RGB; N = num_steps * B, time-major.
            num_steps: number of time-steps, for batch norm "per_frame".
            begun: what :meth:`begin` gave for the frames, whose pixels are then not looked at.

        Raises:
            ValueError: H or W is not a multiple of 16.
        """
        height, width = frames.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise ValueError(f"frame height and width must be multiples of {STRIDE}, got {height}x{width}")
        features: Features = self.backbone(frames if begun else self._normalised(frames), num_steps, begun)
        return features

    def begin(self, frames: Tensor) -> dict[StageName, Tensor]:
        """Runs the frozen stages of the backbone alone on frames uint8 (N, 3, H, W)."""
        return self.backbone.begin(self._normalised(frames))

    def _normalised(self, frames: Tensor) -> Tensor:
        scale, shift = self.get_buffer("_scale"), self.get_buffer("_shift")
        return torch.addcmul(shift, frames.to(scale.dtype), scale)

    def start(self, appearance: Tensor, deep: Tensor, mask: Tensor) -> TargetState:
        """Begins with N targets from their first frame.

        Args:
            appearance: projected features from ``appearance.project``, float (N or 1, D, h*w).
            deep: the backbone's deep features, float (N or 1, C16, h, w).
            mask: background and target at stride 16, float (N, 2, h, w), adding up to 1.
        """
        return TargetState(self.appearance.fit(appearance, mask.flatten(2)), self.propagation.refer(deep, mask), mask)

    def locate(self, appearance: Tensor, propagation: Tensor, state: TargetState) -> tuple[Tensor, Tensor]:
        """Finds the N targets in a frame.

        Args:
            appearance: projected features from ``appearance.project``, float (N or 1, D, h*w).
            propagation: projected features from ``propagation.project``, float (N or 1, C, h, w).
            state: what is known of the targets.

        Returns:
            the coarse mask encoding (N, E, h, w) and the coarse mask's logits (N, 2, h, w).
        """
        scores: Tensor = self.appearance(appearance, state.mixture)
        propagated = self.propagation(propagation, state.reference, state.mask)
        encoding, logits = self.fusion(scores.reshape(*scores.shape[:2], *propagated.shape[-2:]), propagated)
        return encoding, logits

    def remember(self, state: TargetState, appearance: Tensor, mask: Tensor) -> TargetState:
        """Takes a frame's soft mask, float (N, 2, h, w), into the state."""
        mixture = self.appearance.update(state.mixture, appearance, mask.flatten(2))
        return TargetState(mixture, state.reference, mask)

    def forward(
        self,
        frames: Tensor,
        given: Tensor,
        counts: Sequence[int] | None = None,
        begun: Mapping[StageName, Tensor] | None = None,
    ) -> AGAMEOutput:
        """Segments one or several targets in each of B snippets from their masks in the first frame.

        The mask that is fed back is the coarse softmax, aggregated over the targets of a snippet, in training and
        evaluation alike, and nothing is detached: gradients flow through all frames, the updates and the first frame's
        fit. For videos see :class:`~vosdata.models.agame.segmenter.VideoSegmenter`.

        Args:
            frames: uint8 (B, T, 3, H, W) RGB, T >= 1, H and W multiples of 16.
            given: the targets in the first frame, (B, H, W): bool, or uint8 where void (255) counts as background. One
                target is all that is not background; several are 1, 2, ...
            counts: how many targets each snippet has, B numbers; None for one each.
            begun: what :meth:`begin` gave for the frames as (T*B, 3, H, W), time-major.

        Raises:
            ValueError: shapes do not fit.
        """
        if frames.ndim != 5 or given.shape != (frames.shape[0], *frames.shape[3:]):
            found = f"{tuple(frames.shape)} and {tuple(given.shape)}"
            raise ValueError(f"expected frames (B, T, 3, H, W) and given (B, H, W), got {found}")
        if counts is not None and len(counts) != len(frames):
            raise ValueError(f"expected the number of targets of each of {len(frames)} snippets, got {len(counts)}")
        num_snippets, num_frames = frames.shape[:2]
        targets = None if counts is None else Targets(counts, frames.device)
        echo = self._echo(given, targets)
        if num_frames == 1:
            return AGAMEOutput(echo, echo[:, :0], echo[:, :0])
        mask = two_channels(given if targets is None else targets.given(given), echo.dtype)  # (N, 2, H, W)
        features = self.encode(frames.transpose(0, 1).flatten(0, 1), num_frames, begun)
        encodings, logits = self._recur(features.deep, pool(mask), num_frames, targets)
        # Frame 0 is given, so only the later ones need laterals. (T-1)*B pictures, time-major.
        laterals = self.upsampling.laterals(Features(*(level[num_snippets:] for level in features)))
        if targets is None:
            fine = enlarge_to_pixels(self.upsampling(encodings, laterals), 4).log_softmax(1)
        else:
            fine = self._fine_of_several(encodings, laterals, targets, num_frames - 1).log_softmax(1)
        coarse = enlarge_to_pixels(logits.log_softmax(1), STRIDE)
        later = (num_frames - 1, num_snippets, *echo.shape[2:])
        return AGAMEOutput(echo, fine.view(later).transpose(0, 1), coarse.view(later).transpose(0, 1))

    def _echo(self, given: Tensor, targets: Targets | None) -> Tensor:
        """What is told of the first frame: the log of its given mask, float (B, 1, M + 1, H, W)."""
        dtype = self.get_buffer("_scale").dtype
        if targets is None:
            mask = two_channels(given, dtype)
        else:
            ids = torch.arange(targets.most + 1, device=given.device, dtype=torch.uint8)[:, None, None]
            mask = (given.where(given <= targets.most, 0)[:, None] == ids).to(dtype)
        return mask.clamp(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY).log()[:, None]

    def _fine_of_several(self, encodings: Tensor, laterals: Laterals, targets: Targets, num_steps: int) -> Tensor:
        """Fine logits float (num_steps * B, M + 1, H, W) of the mask encodings (num_steps * N, E, h, w), time-major."""
        terms = [targets.of(term.view(num_steps, -1, *term.shape[1:]).transpose(0, 1)) for term in laterals]
        per_target = Laterals(*(term.transpose(0, 1).flatten(0, 1) for term in terms))
        logits = self.upsampling(encodings, per_target)
        # Enlarging is linear, so the difference of the two channels is enlarged instead of both.
        log_odds = enlarge_to_pixels(logits[:, 1:] - logits[:, :1], 4).squeeze(1)  # (num_steps * N, H, W)
        return torch.cat([targets.aggregate(step) for step in log_odds.chunk(num_steps)])

    def _recur(
        self, deep: Tensor, mask: Tensor, num_frames: int, targets: Targets | None = None
    ) -> tuple[Tensor, Tensor]:
        """The part that depends on the previous frame.

        Args:
            deep: deep features, float (T*B, C16, h, w), time-major, T >= 2.
            mask: of the first frame at stride 16, float (N, 2, h, w).
            num_frames: T.
            targets: which target belongs to which snippet; None for one each.

        Returns:
            of frames 1 to T-1, time-major: mask encodings ((T-1)*N, E, h, w) and coarse logits, ((T-1)*B, M+1, h, w).
        """
        num_snippets = len(deep) // num_frames
        first = deep[:num_snippets]
        appearance = self.appearance.project(deep).chunk(num_frames)
        propagation = self.propagation.project(deep[num_snippets:]).chunk(num_frames - 1)
        if targets is not None:
            first = targets.of(first)
            appearance = tuple(targets.of(step) for step in appearance)
            propagation = tuple(targets.of(step) for step in propagation)
        state = self.start(appearance[0], first, mask)
        encodings, logits = [], []
        for step in range(1, num_frames):
            encoding, own = self.locate(appearance[step], propagation[step - 1], state)
            joint = own if targets is None else targets.aggregate(own[:, 1] - own[:, 0])
            encodings.append(encoding)
            logits.append(joint)
            if step + 1 < num_frames:
                previous = joint.softmax(1)
                previous = previous if targets is None else targets.separate(previous)
                state = self.remember(state, appearance[step], previous)
        return torch.cat(encodings), torch.cat(logits)


def two_channels(target: Tensor, dtype: torch.dtype) -> Tensor:
    """Background and target as two channels of 0 and 1.

    Args:
        target: bool (N, H, W), or uint8 where 0 and void (255) are background.
        dtype: floating type of the result.

    Returns:
        float (N, 2, H, W).
    """
    inside = target if target.dtype == torch.bool else (target != 0) & (target != _VOID)
    return torch.stack([~inside, inside], 1).to(dtype)


def pool(mask: Tensor) -> Tensor:
    """Averages a soft mask (N, C, H, W) over cells of 16 x 16 pixels."""
    return nn.functional.avg_pool2d(mask, STRIDE)
