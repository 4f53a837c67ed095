"""Segments a video of any length frame by frame, several objects at once, in constant memory.

All objects share the backbone's work and are a batch dimension of the rest. Letters: N objects, H and W of the frames,
H' and W' of the padded frames, h and w of the stride-16 map.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vosdata.models.agame.aggregation import LOG_ODDS_LIMIT, aggregate, alone
from vosdata.models.agame.appearance import Mixture
from vosdata.models.agame.enlarging import enlarge
from vosdata.models.agame.network import AGAME, STRIDE, TargetState, pool, two_channels
from vosdata.models.agame.padding import ReflectionPadding
from vosdata.models.resnet import Features

_BACKGROUND, _VOID = 0, 255

Joining = Literal["given", "predicted"]
Aggregation = Literal["several", "always"]


class VideoSegmenter:
    """Streams one video through an A-GAME network.

    The mask that is fed back is the fine one, averaged over 16 x 16 pixels: aggregated when there are several objects
    (the published test-time rule; in training the coarse mask is fed back).

    Args:
        model: the network; it is put into evaluation mode. Frames may come from any device.
        joining: what holds in the frame in which an object is given. "given": its given pixels are its segmentation and
            nobody else's, and the object starts from them. "predicted": as published, only the video's first frame
            echoes the given mask; objects that join later are predicted in the frame in which they are given.
        aggregation: "several": a single object keeps its own probability, as published for single-object datasets;
            "always": it is aggregated with the background too, as published for multi-object datasets (same masks in
            this frame, but a sharper mask is fed back).
        autocast: lower precision for the convolutions, such as ``torch.bfloat16``; None computes in the model's own.

    Example:
        segmenter = VideoSegmenter(model)
        for t, frame in enumerate(video):                       # uint8 (H, W, 3)
            ids = segmenter.step(frame, first_mask if t == 0 else None)  # uint8 (H, W)
    """

    def __init__(
        self,
        model: AGAME,
        *,
        joining: Joining = "given",
        aggregation: Aggregation = "several",
        autocast: torch.dtype | None = None,
    ) -> None:
        if joining not in ("given", "predicted"):
            raise ValueError(f'joining must be "given" or "predicted", got {joining!r}')
        if aggregation not in ("several", "always"):
            raise ValueError(f'aggregation must be "several" or "always", got {aggregation!r}')
        self.model = model.eval()
        self.joining = joining
        self.aggregation = aggregation
        self.autocast = autocast
        self.reset()

    def reset(self) -> None:
        """Forgets everything, ready for another video."""
        self._object_ids: tuple[int, ...] = ()
        self._lookup = torch.empty(0, dtype=torch.uint8)  # from channel to id, on the model's device
        self._state: TargetState | None = None
        self._padding: ReflectionPadding | None = None
        self._probabilities: Tensor | None = None
        self._is_first = True

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects that are being followed, in the order in which they were given."""
        return self._object_ids

    @property
    def probabilities(self) -> Tensor | None:
        """Of the last frame, float (N + 1, H, W) adding up to 1: background, then the objects as in ``object_ids``.

        None as long as no object was given.
        """
        if self._probabilities is None or self._padding is None:
            return None
        return self._padding.crop(self._probabilities)

    def step(
        self, frame: NDArray[np.uint8] | Tensor, given: NDArray[np.uint8] | Tensor | None = None
    ) -> NDArray[np.uint8]:
        """Segments the next frame.

        Args:
            frame: RGB, uint8 (H, W, 3) array or uint8 (3, H, W) tensor; all frames of a video have the same size.
            given: index mask uint8 (H, W) with the objects that appear here; its new ids are followed from now on. Ids
                that are followed already are ignored, and so is void (255): it counts as background.

        Returns:
            index mask uint8 (H, W) with the ids as given; all 0 until the first object is given.

        Raises:
            ValueError: a size or type is not as described, or the model was put into training mode.
        """
        device = self.model.device
        picture = _to_device(frame, device)
        picture = picture.permute(2, 0, 1) if isinstance(frame, np.ndarray) and frame.ndim == 3 else picture
        mask = None if given is None else _to_device(given, device)
        labels: NDArray[np.uint8] = self.advance(picture, mask).cpu().numpy()
        return labels

    @torch.inference_mode()
    def advance(self, frame: Tensor, given: Tensor | None = None) -> Tensor:
        """As :meth:`step`, with everything on the model's device; waits for the device only when a mask is given.

        Args:
            frame: uint8 (3, H, W).
            given: uint8 (H, W) or None.

        Returns:
            uint8 (H, W).
        """
        self._check(frame, given)
        new_ids = () if given is None else self._ids_to_add(given)
        if not new_ids and not self._object_ids:
            self._is_first = False
            return torch.zeros(frame.shape[1:], dtype=torch.uint8, device=frame.device)
        if new_ids:
            self._object_ids += new_ids
            self._lookup = torch.tensor((_BACKGROUND, *self._object_ids), dtype=torch.uint8, device=frame.device)
        if self._padding is None:
            height, width = frame.shape[1:]
            self._padding = ReflectionPadding(height, width, STRIDE, frame.device)
        with torch.autocast(frame.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            logits = self._segment(frame, given, len(new_ids), self._padding)
        self._is_first = False
        # max also tells where it is, the first of equals, as argmax does, which takes many times as long on a CPU.
        return self._lookup[self._padding.crop(logits).max(0).indices]

    def _check(self, frame: Tensor, given: Tensor | None) -> None:
        if self.model.training:
            raise ValueError("the model was put into training mode; call model.eval() before segmenting")
        if frame.ndim != 3 or frame.shape[0] != 3 or frame.dtype != torch.uint8:
            raise ValueError(f"a frame must be uint8 (H, W, 3) or (3, H, W), got {frame.dtype} {tuple(frame.shape)}")
        size = tuple(frame.shape[1:])
        if self._padding is not None and self._padding.size != size:
            raise ValueError(f"all frames of a video must have one size; expected {self._padding.size}, got {size}")
        if given is not None and (tuple(given.shape) != size or given.dtype != torch.uint8):
            raise ValueError(f"a given mask must be uint8 {size} as its frame, got {given.dtype} {tuple(given.shape)}")

    def _ids_to_add(self, given: Tensor) -> tuple[int, ...]:
        known = {_BACKGROUND, _VOID, *self._object_ids}
        return tuple(number for number in torch.unique(given).tolist() if number not in known)

    def _segment(self, frame: Tensor, given: Tensor | None, num_new: int, padding: ReflectionPadding) -> Tensor:
        """Segments one frame and takes it into the state; returns logits float (N + 1, H', W')."""
        features = self.model.encode(padding.pad(frame)[None])
        appearance = self.model.appearance.project(features.deep)
        followed, joined = self._state, None  # predicted in this frame; started from it, echoing what is given
        log_odds: list[Tensor] = []
        is_inside = None
        if given is not None and num_new:
            is_inside = padding.pad(given) == self._lookup[-num_new:, None, None]  # (N, H', W'), of the new objects
            joined = self.model.start(appearance, features.deep, pool(two_channels(is_inside, features.deep.dtype)))
            if self.joining == "predicted" and not self._is_first:
                followed, joined, is_inside = _stack(followed, joined), None, None
        if followed is not None:
            log_odds.append(self._log_odds(features, appearance, followed))
        if is_inside is not None:
            log_odds = [odds.masked_fill(is_inside.any(0), -LOG_ODDS_LIMIT) for odds in log_odds]
            log_odds.append(torch.where(is_inside, LOG_ODDS_LIMIT, -LOG_ODDS_LIMIT))
        logits = self._join(torch.cat(log_odds))
        self._probabilities = logits.softmax(0)
        if followed is not None:
            inside = pool(self._probabilities[1 : 1 + len(followed.mask), None])  # (N, 1, h, w)
            followed = self.model.remember(followed, appearance, torch.cat([1 - inside, inside], 1))
        self._state = _stack(followed, joined)
        return logits

    def _log_odds(self, features: Features, appearance: Tensor, state: TargetState) -> Tensor:
        """Log-odds of N objects in a frame, each on its own, float (N, H', W')."""
        encoding, _ = self.model.locate(appearance, self.model.propagation.project(features.deep), state)
        logits = self.model.upsampling(encoding, self.model.upsampling.laterals(features))
        # Enlarging is linear, so the difference of the two channels is enlarged instead of both.
        return enlarge(logits[:, 1:] - logits[:, :1], 4).squeeze(1)

    def _join(self, log_odds: Tensor) -> Tensor:
        return alone(log_odds) if len(log_odds) == 1 and self.aggregation == "several" else aggregate(log_odds)


def _to_device(array: NDArray[np.uint8] | Tensor, device: torch.device) -> Tensor:
    if isinstance(array, np.ndarray):
        array = torch.from_numpy(array if array.flags.writeable else array.copy())
    return array.to(device, non_blocking=True)


def _stack(*states: TargetState | None) -> TargetState | None:
    """Several states as one, one after another along the batch; None stands for no objects."""
    present = [state for state in states if state is not None]
    if len(present) < 2:
        return present[0] if present else None
    means, variances = (torch.cat([getattr(state.mixture, name) for state in present]) for name in Mixture._fields)
    return TargetState(
        Mixture(means, variances),
        torch.cat([state.reference for state in present]),
        torch.cat([state.mask for state in present]),
    )
