"""A straightforward A-GAME to compare with: the published structure, frame by frame and object by object, in float32.

It takes the weights of ours and gives the same outputs, but computes them as the published code does: the backbone is
run for every frame, and once more for every object that starts; the features are projected three times per frame and
object (to score, to update, and for the update's posteriors); inputs of a layer are concatenated, with the first
frame's features again in every frame; the lateral features are convolved for every object; every frame updates the
model, the last one too; objects are a loop. What that code does besides and nobody needs in training (masks of
aggregated probabilities in every frame) is left out. It knows the published configuration alone.
Letters: B snippets, T frames, K components, D channels, P positions, H and W of the picture, h and w at stride 16.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, softplus

from vosdata.models.agame import AGAME
from vosdata.models.resnet import Features


@dataclass
class PlainState:
    """What is remembered of one object."""

    means: Tensor
    variances: Tensor
    first_deep: Tensor
    first_mask: Tensor
    mask: Tensor


class PlainAGAME(nn.Module):
    """The layers of an A-GAME, with the plain way to use them."""

    def __init__(self, model: AGAME) -> None:
        super().__init__()
        config = model.config
        if (config.appearance, config.appearance_output, config.mask_propagation) != ("mixture", "scores", True):
            raise ValueError("the plain A-GAME has no ablations")
        self.layers = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.rate = config.update_rate

    def encode(self, frame: Tensor) -> Features:
        mean, std = (torch.tensor(x, device=frame.device).view(3, 1, 1) for x in (_MEAN, _STD))
        features: Features = self.layers.backbone(((frame.contiguous().float() / 255) - mean) / std)
        return features

    def fit(self, deep: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances (B, 4, D) of deep features (B, C, h, w) under a mask (B, 2, h, w)."""
        alpha = mask.flatten(2)
        regulariser = softplus(self.layers.get_parameter("appearance.regulariser"))
        features = self._project(deep)
        base = _estimate(features, alpha, regulariser[:2])
        posteriors = _score(self._project(deep), *base).softmax(1)
        residual = _estimate(features, (posteriors - alpha).relu(), regulariser[2:])
        return torch.cat([base[0], residual[0]], 1), torch.cat([base[1], residual[1]], 1)

    def start(self, frame: Tensor, mask: Tensor) -> PlainState:
        deep = self.encode(frame).deep
        return PlainState(*self.fit(deep, mask), deep, mask, mask)

    def locate(self, deep: Tensor, state: PlainState) -> tuple[Tensor, Tensor]:
        """Mask encoding and coarse logits."""
        propagation, fusion = self.layers.propagation, self.layers.fusion
        scores = _score(self._project(deep), state.means, state.variances).view(len(deep), -1, *deep.shape[2:])
        x = propagation.gather(torch.cat([deep, state.first_deep, state.mask, state.first_mask], 1)).relu()
        x = torch.cat([level(x) for level in propagation.pyramid], 1).relu()
        x = fusion.join(torch.cat([scores, propagation.mix(x).relu()], 1)).relu()
        encoding = fusion.encode(x).relu()
        return encoding, fusion.predict(encoding)

    def refine(self, encoding: Tensor, features: Features) -> Tensor:
        """Logits (B, 2, H, W)."""
        upsampling = self.layers.upsampling
        for step, lateral in ((upsampling.to_stride8, features.middle), (upsampling.to_stride4, features.shallow)):
            encoding = step.blend(torch.cat([step.project(lateral).relu(), _enlarge(encoding, 2)], 1)).relu()
        return _enlarge(upsampling.predict(encoding), 4)

    def remember(self, state: PlainState, deep: Tensor, mask: Tensor) -> None:
        means, variances = self.fit(deep, mask)
        state.means = (1 - self.rate) * state.means + self.rate * means
        state.variances = (1 - self.rate) * state.variances + self.rate * variances
        state.mask = mask

    def forward(self, frames: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Final and coarse log-probabilities (B, T, 2, H, W) of one target, as AGAME's output has them."""
        mask = torch.stack([given != 1, given == 1], 1).float()
        echo = mask.clamp(1e-7, 1 - 1e-7).log()
        fine, coarse = [echo], [echo]
        state = self.start(frames[:, 0], avg_pool2d(mask, 16))
        for frame in frames.unbind(1)[1:]:
            features = self.encode(frame)
            encoding, logits = self.locate(features.deep, state)
            self.remember(state, features.deep, logits.softmax(1))
            fine.append(self.refine(encoding, features).log_softmax(1))
            coarse.append(_enlarge(logits.log_softmax(1), 16))
        return torch.stack(fine, 1), torch.stack(coarse, 1)

    @torch.no_grad()
    def segment(self, frames: Tensor, given: Tensor, num_objects: int) -> Tensor:
        """Segments a video (T, 3, H, W) of several objects, given (H, W) in its first frame: ids uint8 (T, H, W)."""
        states, found = [], [given]
        for number in range(1, num_objects + 1):
            mask = torch.stack([given != number, given == number])[None].float()
            states.append(self.start(frames[:1], avg_pool2d(mask, 16)))
        for frame in frames[1:]:
            features = self.encode(frame[None])
            inside = []
            for state in states:
                encoding, _ = self.locate(features.deep, state)
                inside.append(self.refine(encoding, features).softmax(1)[0, 1])
            joint = _aggregate(torch.stack(inside))
            found.append(joint.argmax(0).to(torch.uint8))
            for state, one in zip(states, joint[1:], strict=True):
                self.remember(state, features.deep, avg_pool2d(torch.stack([1 - one, one])[None], 16))
        return torch.stack(found)

    def _project(self, deep: Tensor) -> Tensor:
        projected: Tensor = self.layers.appearance.projection(deep)
        return projected.flatten(2)[:, None]  # (B, 1, D, P)


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _estimate(x: Tensor, alpha: Tensor, regulariser: Tensor) -> tuple[Tensor, Tensor]:
    weights = alpha[:, :, None]  # (B, K, 1, P)
    count = 1 + weights.sum(-1)
    means = (weights * x).sum(-1) / count
    return means, regulariser + (weights * (x - means[..., None]) ** 2).sum(-1) / count


def _score(x: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    return -0.5 * (variances.log()[..., None] + (x - means[..., None]) ** 2 / variances[..., None]).sum(2)


def _aggregate(inside: Tensor) -> Tensor:
    probabilities = torch.cat([(1 - inside).amin(0, keepdim=True), inside]).clamp(1e-7, 1 - 1e-7)
    odds = probabilities / (1 - probabilities)
    return odds / odds.sum(0)


def _enlarge(x: Tensor, factor: int) -> Tensor:
    return interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
