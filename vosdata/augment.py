"""Flips, crops, scale and colour on the tensors of a batch, on whatever device it lies.

    augmentation = TensorAugmentation(flip=0.5, scale=(0.8, 1.25), crop=(240, 432), brightness=0.2)
    batch = augment(batch.to("cuda"), augmentation, seed=0, positions=stream.positions(batch))

A pure function of the batch, the seed and the positions: what happens to a snippet depends on its position alone, not
on the ranks, the batch size or what came before. Everything is done to a snippet as a whole: all of its frames and
masks share one draw. Geometry and colour are computed in integers, so a CPU and a GPU give the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shards.rng import generator
from shards.types import VOID
from vosdata.batch import SnippetBatch

PADDING = (124, 116, 104)
"""RGB outside of the picture: ImageNet's mean colour, which normalisation turns into about zero."""

_NUM_WINDOWS = 8
"""Crop windows that are tried for one that shows enough of the objects."""

_ONE = 1 << 16
"""One pixel in the fixed-point coordinates of windows."""

_WEIGHT_BITS = 11
"""Bits of a bilinear weight; two of them and 8 bits of colour fit 31."""

_COLOUR_BITS = 12
"""Bits behind the point of a colour matrix."""

_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
"""NTSC luma and chroma of RGB."""


@dataclass(frozen=True, slots=True)
class TensorAugmentation:
    """What is drawn for each snippet. The defaults change nothing."""

    flip: float = 0.0
    """Probability of mirroring left to right."""

    flip_vertical: float = 0.0
    """Probability of mirroring top to bottom."""

    scale: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest magnification, within [0.5, 4]; drawn evenly on a logarithmic scale."""

    crop: tuple[int, int] | None = None
    """Height and width of the result in pixels; None keeps the size.

    The window is placed evenly at random within the magnified picture; a smaller picture evenly within the window, with
    :data:`PADDING` around it in the frames and void in the masks.
    """

    min_object_pixels: int = 25
    """Pixels of objects that the window is to show in the first frame.

    Eight windows are tried, then one around a random pixel of an object; where none shows enough, the best is taken.
    """

    brightness: float = 0.0
    """Colours are multiplied by a factor from [1 - x, 1 + x], 0 <= x <= 1."""

    contrast: float = 0.0
    """Differences from middle gray are multiplied by a factor from [1 - x, 1 + x], 0 <= x <= 1."""

    saturation: float = 0.0
    """Differences from gray are multiplied by a factor from [1 - x, 1 + x], 0 <= x <= 1."""

    hue_degrees: float = 0.0
    """Hues are turned by an angle from [-x, x] degrees, 0 <= x <= 180."""

    later: Literal["given", "void"] = "given"
    """``"void"``: objects that the resulting first frame does not show become void, as in a stream of that setting."""

    def __post_init__(self) -> None:
        for name, largest in (("flip", 1), ("flip_vertical", 1), ("brightness", 1), ("contrast", 1), ("saturation", 1)):
            if not 0 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} must lie in [0, {largest}], got {getattr(self, name)}")
        if not 0 <= self.hue_degrees <= 180:
            raise ValueError(f"hue_degrees must lie in [0, 180], got {self.hue_degrees}")
        if len(self.scale) != 2 or not 0.5 <= self.scale[0] <= self.scale[1] <= 4:
            raise ValueError(f"scale must be (smallest, largest) within [0.5, 4], got {self.scale}")
        if self.crop is not None and (len(self.crop) != 2 or min(self.crop) < 1):
            raise ValueError(f"crop must be (height, width) in pixels, got {self.crop}")
        if self.min_object_pixels < 0:
            raise ValueError(f"min_object_pixels must not be negative, got {self.min_object_pixels}")
        if self.later not in ("given", "void"):
            raise ValueError(f'later must be "given" or "void", got {self.later!r}')

    @property
    def changes_colour(self) -> bool:
        """Whether it does anything to colours."""
        return any((self.brightness, self.contrast, self.saturation, self.hue_degrees))

    @property
    def changes_place(self) -> bool:
        """Whether it crops or scales."""
        return self.crop is not None or self.scale != (1.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """What was drawn for the B snippets of a batch, as 32-bit fractions; all of it, whether it is used or not."""

    flips: NDArray[np.bool_]
    """``bool (B, 2)``: top to bottom, left to right."""

    steps: NDArray[np.int64]
    """``int64 (B,)``: pixels of the picture per pixel of the result, times 2**16."""

    windows: NDArray[np.int64]
    """``int64 (B, _NUM_WINDOWS, 2)``: place of each window along height and width, times 2**32."""

    anchors: NDArray[np.int64]
    """``int64 (B,)``: which pixel of the objects, as a part of them times 2**32."""

    matrices: NDArray[np.int32]
    """``int32 (B, 3, 4)``: colour matrix and offset, times 2**_COLOUR_BITS."""


def augment(batch: SnippetBatch, augmentation: TensorAugmentation, seed: int, positions: Sequence[int]) -> SnippetBatch:
    """Augments a batch on its device.

    Args:
        batch: stays as it is.
        augmentation: what to draw.
        seed: 0 <= seed < 2**64; the stream's will do, the draws are others.
        positions: global position of each snippet (``SnippetStream.positions``).

    Returns:
        A new batch, or the same one where nothing is to be done. Frames lie in memory as (B, T, H, W, 3).

    Raises:
        ValueError: there is not one position for each snippet, or a number does not fit.
    """
    if len(positions) != len(batch):
        raise ValueError(f"expected {len(batch)} positions, got {len(positions)}")
    drawn = _draw(augmentation, seed, positions)
    frames, masks = batch.frames, batch.masks
    if augmentation.changes_colour:
        frames = _recolour(frames, drawn.matrices)
    if augmentation.changes_place:
        frames, masks = _crop(frames, masks, augmentation, drawn)
    if augmentation.flip or augmentation.flip_vertical:
        frames, masks = _flip(frames, drawn.flips), _flip(masks, drawn.flips)
    if augmentation.later == "void":
        masks = void_later_objects(masks)
    return (
        replace(batch, frames=frames, masks=masks) if frames is not batch.frames or masks is not batch.masks else batch
    )


def _draw(augmentation: TensorAugmentation, seed: int, positions: Sequence[int]) -> _Drawn:
    numbers = np.stack(
        [
            generator(seed, 0, position, "tensors").integers(0, 2**32, 8 + 2 * _NUM_WINDOWS, np.int64)
            for position in positions
        ]
    )
    parts = numbers / 2**32
    low, high = augmentation.scale
    scales = low * (high / low) ** parts[:, 2]
    return _Drawn(
        flips=parts[:, :2] < (augmentation.flip_vertical, augmentation.flip),
        steps=np.rint(_ONE / scales).astype(np.int64),
        windows=numbers[:, 8:].reshape(-1, _NUM_WINDOWS, 2),
        anchors=numbers[:, 3],
        matrices=_colour_matrices(augmentation, 2 * parts[:, 4:8] - 1),
    )


def _colour_matrices(augmentation: TensorAugmentation, parts: NDArray[np.float64]) -> NDArray[np.int32]:
    """Colour matrices of B snippets from numbers within [-1, 1), ``(B, 4)``: ``int32 (B, 3, 4)``, offset last."""
    matrices = np.zeros((len(parts), 3, 4))
    for matrix, part in zip(matrices, parts, strict=True):
        brightness = 1 + augmentation.brightness * part[0]
        contrast = 1 + augmentation.contrast * part[1]
        saturation = 1 + augmentation.saturation * part[2]
        angle = np.deg2rad(augmentation.hue_degrees * part[3])
        turn = np.eye(3)
        turn[1:, 1:] = saturation * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        # grays stay gray: turning chroma leaves the offset of the contrast as it is
        matrix[:, :3] = brightness * contrast * (np.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ)
        matrix[:, 3] = 127.5 * (1 - contrast)
    result: NDArray[np.int32] = np.rint(matrices * 2**_COLOUR_BITS).astype(np.int32)
    return result


def _recolour(frames: Tensor, matrices: NDArray[np.int32]) -> Tensor:
    """Applies a colour matrix to each snippet of ``uint8 (B, T, 3, H, W)``."""
    result = torch.empty_like(frames)
    half = 1 << (_COLOUR_BITS - 1)
    for snippet, out, matrix in zip(frames, result, matrices.tolist(), strict=True):
        channels = snippet.to(torch.int32).unbind(1)  # 3 x (T, H, W)
        for channel, (red, green, blue, offset) in enumerate(matrix):
            value = channels[0] * red + channels[1] * green + channels[2] * blue + (offset + half)
            out[:, channel] = (value >> _COLOUR_BITS).clamp_(0, 255)
    return result


def _flip(pixels: Tensor, flips: NDArray[np.bool_]) -> Tensor:
    """Mirrors the snippets of ``(B, ..., H, W)`` that are to be, along height and width."""
    result = pixels.clone()
    for number, (vertical, horizontal) in enumerate(flips.tolist()):
        dims = [dim for dim, mirrored in ((-2, vertical), (-1, horizontal)) if mirrored]
        if dims:
            result[number] = pixels[number].flip(dims)
    return result


def _crop(frames: Tensor, masks: Tensor, augmentation: TensorAugmentation, drawn: _Drawn) -> tuple[Tensor, Tensor]:
    """Scales and crops: frames by bilinear interpolation, masks to the nearest pixel."""
    (num_batch, num_frames, height, width), device = masks.shape, masks.device
    size = augmentation.crop or (height, width)
    steps = torch.from_numpy(drawn.steps).to(device)
    starts = _place_windows(masks[:, 0], size, steps, drawn, augmentation.min_object_pixels)  # (B, 2)
    rows, columns = (
        starts[:, axis, None] + ((2 * torch.arange(size[axis], device=device) + 1) * steps[:, None] - _ONE) // 2
        for axis in (0, 1)
    )  # (B, H'), (B, W'): centres of the result's pixels in the picture
    new_masks = masks.new_empty((num_batch, num_frames, *size))
    new_frames = frames.new_empty((num_batch, num_frames, *size, 3))
    plain = augmentation.scale == (1.0, 1.0)
    padding = torch.tensor(PADDING, dtype=torch.uint8, device=device)
    for number, step in enumerate(drawn.steps.tolist()):
        row, column = _Line.at(rows[number], height), _Line.at(columns[number], width)
        mask = masks[number].index_select(1, row.nearest).index_select(2, column.nearest)
        picture = frames[number].permute(0, 2, 3, 1)  # (T, H, W, 3)
        if plain:
            picture = picture.index_select(1, row.nearest).index_select(2, column.nearest)
        else:
            picture = _interpolate(picture, row, column)
        if step * size[0] > height * _ONE or step * size[1] > width * _ONE:  # the window is larger than the picture
            outside = ~(row.inside[:, None] & column.inside)  # (H', W')
            mask.masked_fill_(outside, VOID)
            picture = torch.where(outside[..., None], padding, picture)
        new_masks[number], new_frames[number] = mask, picture
    return new_frames.permute(0, 1, 4, 2, 3), new_masks


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """Where the pixels of one row or column of the result come from; each ``(n,)``."""

    inside: Tensor
    """``bool``: whether the picture reaches there."""

    nearest: Tensor
    """``int64``: the nearest pixel."""

    first: Tensor
    """``int64``: the pixel before, or at, the place."""

    second: Tensor
    """``int64``: the pixel behind it."""

    weight: Tensor
    """``int32``: how much of the second, times 2**_WEIGHT_BITS."""

    @classmethod
    def at(cls, places: Tensor, length: int) -> "_Line":
        """For places times 2**16 along a side of ``length`` pixels, 0 being the centre of the first one."""
        nearest = (places + _ONE // 2) >> 16
        first = places >> 16
        return cls(
            (nearest >= 0) & (nearest < length),
            nearest.clamp(0, length - 1),
            first.clamp(0, length - 1),
            (first + 1).clamp(0, length - 1),
            ((places & (_ONE - 1)) >> (16 - _WEIGHT_BITS)).to(torch.int32),
        )


def _interpolate(picture: Tensor, row: _Line, column: _Line) -> Tensor:
    """Bilinear interpolation of ``uint8 (T, H, W, 3)`` in integers, rounded to the nearest."""
    one = 1 << _WEIGHT_BITS
    weight = row.weight[:, None, None]
    above, below = (picture.index_select(1, line).to(torch.int32) for line in (row.first, row.second))
    lines = above * (one - weight) + below * weight  # (T, H', W, 3)
    weight = column.weight[:, None]
    left, right = (lines.index_select(2, line) for line in (column.first, column.second))
    return ((left * (one - weight) + right * weight + one * one // 2) >> (2 * _WEIGHT_BITS)).to(torch.uint8)


def _place_windows(
    first_masks: Tensor, size: tuple[int, int], steps: Tensor, drawn: _Drawn, min_object_pixels: int
) -> Tensor:
    """Where the window of each snippet starts along height and width, times 2**16: ``int64 (B, 2)``.

    Args:
        first_masks: ``uint8 (B, H, W)``, masks of the first frames.
        size: height and width of the window in pixels of the result.
        steps: ``int64 (B,)``, pixels of the picture per pixel of the result, times 2**16.
        drawn: random places.
        min_object_pixels: pixels of objects that the window is to show.
    """
    device = first_masks.device
    sides = torch.tensor(first_masks.shape[1:], device=device)  # (2,)
    extents = steps[:, None] * torch.tensor(size, device=device)  # (B, 2)
    spare = sides * _ONE - extents  # negative where the picture is smaller than the window
    least, most = spare.clamp(max=0), spare.clamp(min=0)
    shown = (first_masks != 0) & (first_masks != VOID)
    unscaled = (steps == _ONE)[:, None]  # then windows start at whole pixels, so that nothing is interpolated
    choice = spare.abs() + unscaled * _ONE
    tried = least[:, None] + (choice[:, None] * torch.from_numpy(drawn.windows).to(device) >> 32)  # (B, J, 2)
    anchor = _pick_pixel(shown, torch.from_numpy(drawn.anchors).to(device)) * _ONE + _ONE // 2  # (B, 2)
    around = torch.minimum(torch.maximum(anchor - extents // 2, least), most)
    starts = torch.cat([tried, around[:, None]], 1)  # (B, J + 1, 2)
    starts = torch.where(unscaled[:, None], starts >> 16 << 16, starts)
    counts = _count_shown(shown, starts, starts + extents[:, None])  # (B, J + 1)
    enough = counts * _ONE * _ONE >= min_object_pixels * steps[:, None] ** 2
    order = torch.arange(starts.shape[1], 0, -1, device=device)
    best = torch.where(enough, (1 << 40) + order, counts).argmax(1)  # the first with enough, else the one with most
    return starts[torch.arange(len(starts), device=device), best]


def _pick_pixel(shown: Tensor, parts: Tensor) -> Tensor:
    """Row and column of one pixel of each ``bool (B, H, W)``, ``int64 (B, 2)``; any where there is none."""
    ranks = shown.flatten(1).cumsum(1)  # (B, HW)
    wanted = ((ranks[:, -1] * parts) >> 32) + 1
    place = torch.searchsorted(ranks, wanted[:, None])[:, 0].clamp(max=ranks.shape[1] - 1)
    return torch.stack([place // shown.shape[2], place % shown.shape[2]], 1)


def _count_shown(shown: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Pixels of each ``bool (B, H, W)`` within windows ``(B, J, 2)`` given times 2**16; ``int64 (B, J)``."""
    num_batch, height, width = shown.shape
    sums = torch.zeros((num_batch, height + 1, width + 1), dtype=torch.int64, device=shown.device)
    sums[:, 1:, 1:] = shown.cumsum(1).cumsum(2)
    sides = torch.tensor([height, width], device=shown.device)
    begin, end = (torch.minimum((place + _ONE // 2 >> 16).clamp(min=0), sides) for place in (starts, ends))
    which = torch.arange(num_batch, device=shown.device)[:, None]

    def upto(row: Tensor, column: Tensor) -> Tensor:
        return sums[which, row, column]

    (top, left), (bottom, right) = begin.unbind(2), end.unbind(2)
    return upto(bottom, right) - upto(top, right) - upto(bottom, left) + upto(top, left)


def void_later_objects(masks: Tensor) -> Tensor:
    """Masks ``uint8 (B, T, H, W)`` in which objects that the first frame does not show are void."""
    ids = masks.flatten(1).long()
    known = torch.zeros((len(masks), 256), dtype=torch.bool, device=masks.device)
    known.scatter_(1, masks[:, 0].flatten(1).long(), True)
    known[:, [0, VOID]] = True
    return torch.where(known.gather(1, ids).view_as(masks), masks, VOID)
