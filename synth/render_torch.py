"""Renders many scenes at once on a device, from cutouts and backgrounds that stay there; synth's only file with torch.

The same pictures as :class:`synth.render.Renderer` draws, pixel by pixel: :mod:`synth.layers` decides in float64 what
goes where; here every pixel looks up its place in the picture as OpenCV 5 does (:func:`_sample`), and is laid over what
is below in the same whole numbers. Nothing waits for the device, and no Python runs per frame or per video: all videos'
k-th objects from behind are drawn at once, each in nothing but its own box.

The two renderers differ where a sample lies within float rounding of a step: in at most 1 of 10,000 mask pixels, and by
at most 1 of 255 in few colours (tests/synth/test_render_torch.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synth.bank import SOLID, PictureBank, Sprite
from synth.layers import Ground, Layer, Slot, lay_out
from synth.motion import Moments, frame_moments
from synth.scene import Scene, SceneBackground, SceneObject

MAX_BYTES = 16 * 2**30
"""Default bound of the memory for resident pictures, unless the device has less than four times as much."""

_FIRST_BYTES = 2**24


@dataclass(frozen=True, slots=True, eq=False)
class RenderedBatch:
    """Pixels of B synthetic videos, on the renderer's device."""

    frames: Tensor
    """``uint8 (B, T, 3, H, W)``, RGB; lies in memory as (B, T, H, W, 3)."""

    masks: Tensor
    """``uint8 (B, T, H, W)``: 0 background, 1..254 object ids."""

    def __repr__(self) -> str:
        num_videos, num_frames, height, width = self.masks.shape
        return f"RenderedBatch({num_videos} videos of {num_frames} frames of {height}x{width}, {self.masks.device})"


class ResidentPictures:
    """Levels of pictures as one row of pixels on a device; each is sent there when it is first needed, and stays.

    When the memory is used up, all are forgotten and those that are needed are sent anew. For one thread.
    """

    def __init__(self, bank: PictureBank, device: torch.device, max_bytes: int | None = None) -> None:
        """Makes room for the first pictures.

        Args:
            bank: where pictures come from; its sources must hold every picture that a scene names.
            device: where they shall lie.
            max_bytes: bound of their memory; the pictures of one batch are kept even when they are larger. None takes
                ``MAX_BYTES``, or a quarter of the device's memory if that is less.
        """
        if max_bytes is None:
            on_cuda = device.type == "cuda"
            total = torch.cuda.get_device_properties(device).total_memory if on_cuda else 4 * MAX_BYTES
            max_bytes = min(MAX_BYTES, total // 4)
        self.bank = bank
        self.device = device
        self.max_pixels = max_bytes // 4
        self.pixels: Tensor = torch.zeros(min(_FIRST_BYTES // 4, self.max_pixels), dtype=torch.int32, device=device)
        """``int32 (P,)``: the bytes of each pixel are red, green and blue, premultiplied by alpha, and alpha."""
        self._sizes: dict[tuple[type, str, str], tuple[int, int]] = {}
        self._slots: dict[tuple[type, str, str, int], Slot] = {}
        self._num_pixels = 0
        self._sent = 0
        self._waiting: list[np.ndarray] = []

    def size_of(self, item: SceneObject | SceneBackground) -> tuple[int, int]:
        """Height and width in pixels of the picture that an object or background names.

        Raises:
            BadFileError: its file cannot be used.
            SourceError: the source does not hold it.
        """
        key = (type(item), item.source, item.name)
        if key not in self._sizes:
            self._sizes[key] = self._sprite(item).size
        return self._sizes[key]

    def slot_of(self, item: SceneObject | SceneBackground, level: int) -> Slot:
        """Where a level of that picture will lie from the next :meth:`send` on; errors as :meth:`size_of`."""
        key = (type(item), item.source, item.name, level)
        slot = self._slots.get(key)
        if slot is None:
            pixels = self._sprite(item).level(level)
            slot = self._slots[key] = Slot(self._num_pixels, *pixels.shape[:2])
            self._num_pixels += pixels.shape[0] * pixels.shape[1]
            self._waiting.append(np.ascontiguousarray(pixels).view(np.int32).reshape(-1))
        return slot

    def make_room(self) -> None:
        """To be called before a batch: forgets all pictures if the last batch went beyond the bound."""
        if self._num_pixels > self.max_pixels:
            self._slots.clear()
            self._num_pixels = self._sent = 0
            self._waiting.clear()

    def send(self) -> Tensor:
        """Sends what is not there yet; returns :attr:`pixels`, which holds every slot that was asked for."""
        if self._num_pixels > len(self.pixels):
            room = max(self._num_pixels, min(2 * len(self.pixels), self.max_pixels))
            grown = torch.zeros(room, dtype=torch.int32, device=self.device)
            grown[: self._sent] = self.pixels[: self._sent]
            self.pixels = grown
        if self._waiting:
            self.pixels[self._sent : self._num_pixels] = _to_device(np.concatenate(self._waiting), self.device)
            self._waiting.clear()
            self._sent = self._num_pixels
        return self.pixels

    def _sprite(self, item: SceneObject | SceneBackground) -> Sprite:
        return self.bank.scene_cutout(item) if isinstance(item, SceneObject) else self.bank.scene_backdrop(item)


class TorchRenderer:
    """Renders batches of scenes at one size. For one thread."""

    def __init__(
        self, bank: PictureBank, size: tuple[int, int], device: torch.device | str, max_bytes: int | None = None
    ) -> None:
        """Readies the device.

        Args:
            bank: where pictures come from; its sources must hold every picture that a scene names.
            size: height and width of the frames in pixels.
            device: where to render, ``"cuda"`` or ``"cpu"``.
            max_bytes: bound of the memory for resident pictures, see :class:`ResidentPictures`.
        """
        self.size = size
        self.device = torch.device(device)
        self.pictures = ResidentPictures(bank, self.device, max_bytes)

    def render(self, scenes: Sequence[Scene], num_frames: int) -> RenderedBatch:
        """Renders whole videos; as :meth:`render_frames`."""
        return self.render_frames(scenes, [frame_moments(num_frames)] * len(scenes))

    def render_frames(self, scenes: Sequence[Scene], moments: Sequence[Moments]) -> RenderedBatch:
        """Renders the frames of B scenes; a pure function of them and their pictures. Does not wait for the device.

        Args:
            scenes: B of them, at least one.
            moments: for each the T times at which it is shown.

        Raises:
            BadFileError: a picture cannot be read.
            SourceError: the sources do not hold a picture that a scene names.
        """
        self.pictures.make_room()
        layout = lay_out(scenes, moments, self.size, self.pictures)
        pixels = self.pictures.send()
        canvas = _draw_ground(pixels, layout.ground, self.size)
        masks = torch.zeros(len(canvas), dtype=torch.uint8, device=self.device)
        for layer in layout.layers:
            _lay_over(canvas, masks, pixels, layer, self.size)
        shape = (layout.num_videos, layout.num_frames, *self.size)
        frames = canvas[:, :3].contiguous().view(*shape, 3).permute(0, 1, 4, 2, 3)
        return RenderedBatch(frames, masks.view(shape))


def _draw_ground(pixels: Tensor, ground: Ground, size: tuple[int, int]) -> Tensor:
    """The backgrounds of F frames: ``uint8 (F H W, 4)``."""
    device = pixels.device
    back = _to_device(ground.back, device)[:, None, None, :]  # (F, 1, 1, 6)
    slot = _to_device(ground.slot, device)[:, None, None, :]
    y = torch.arange(size[0], device=device)[:, None]
    x = torch.arange(size[1], device=device)
    return _sample(pixels, back, slot, x, y, mirrored=True).view(-1, 4).to(torch.uint8)


def _lay_over(canvas: Tensor, masks: Tensor, pixels: Tensor, layer: Layer, size: tuple[int, int]) -> None:
    """Draws a layer of objects into ``canvas`` ``uint8 (F H W, 4)`` and ``masks`` ``uint8 (F H W,)``, in place."""
    device = pixels.device
    num_boxes, num_pixels = len(layer.ids), int(layer.num_pixels.sum())
    box = torch.repeat_interleave(
        torch.arange(num_boxes, device=device), _to_device(layer.num_pixels, device), output_size=num_pixels
    )  # (P,): the box that each pixel belongs to
    start = _to_device(np.cumsum(layer.num_pixels) - layer.num_pixels, device)
    frame, x0, y0, width = _to_device(layer.box, device)[box].unbind(-1)
    place = torch.arange(num_pixels, device=device) - start[box]
    y = torch.div(place, width, rounding_mode="floor")
    x = place - y * width
    above = _sample(pixels, _to_device(layer.back, device)[box], _to_device(layer.slot, device)[box], x, y)
    at = (frame * size[0] + y0 + y) * size[1] + x0 + x
    # What shines through is rounded, then the object is added, as the other renderer does. No product of two bytes is
    # within float rounding of half of a 255th, and whole numbers are exact.
    below = torch.round(canvas[at] * (255 - above[:, 3:]) * (1 / 255))
    canvas[at] = (below + above).clamp_(max=255).to(torch.uint8)
    ids = _to_device(layer.ids.astype(np.uint8), device)[box]
    masks[at] = torch.where(above[:, 3] >= SOLID, ids, masks[at])


def _sample(pixels: Tensor, back: Tensor, slot: Tensor, x: Tensor, y: Tensor, mirrored: bool = False) -> Tensor:
    """What pictures show at places of a frame or box: cv2.warpAffine with INTER_LINEAR, as OpenCV 5.0 does it.

    Found by experiment (x86-64, four channels of uint8): positions are not rounded to 1/32 of a pixel as in OpenCV
    before 4.11, but kept in float32. The map is inverted in float64 and rounded to float32; a row's part of the sum is
    rounded (b y, then + c), and a x is added in one rounding (fused multiply-add; here in float64). Of the four
    neighbours the upper and the lower pair are mixed, then the two; the result is rounded to even. ``cv2.remap`` with
    float32 maps does the same from the position on.

    Args:
        pixels: ``int32 (P,)``, resident pictures.
        back: ``float32 (..., 6)``: rows of the map from here to the picture.
        slot: ``int64 (..., 3)``: offset, height and width of the picture.
        x: whole numbers, of a shape that broadcasts with the others.
        y: likewise.
        mirrored: whether a picture goes on mirrored beyond its edge (BORDER_REFLECT_101), or is transparent there.

    Returns:
        ``float32 (..., 4)``: whole numbers from 0 to 255.
    """
    a, b, c, d, e, f = back.unbind(-1)
    u = torch.addcmul((b * y + c).double(), a.double(), x.double()).float()
    v = torch.addcmul((e * y + f).double(), d.double(), x.double()).float()
    left, top = u.floor(), v.floor()
    right_share, low_share = (u - left)[..., None], (v - top)[..., None]
    column, row = left.long(), top.long()
    offset, height, width = slot.unbind(-1)

    def corner(dx: int, dy: int) -> Tensor:
        i, j = column + dx, row + dy
        if mirrored:
            found = pixels[offset + _reflected(j, height) * width + _reflected(i, width)]
        else:
            inside = (i >= 0) & (j >= 0) & (i < width) & (j < height)
            found = pixels[torch.where(inside, offset + j * width + i, 0)]
            found = torch.where(inside, found, 0)
        return found[..., None].view(torch.uint8).float()

    upper, lower = corner(0, 0), corner(0, 1)
    upper = upper + right_share * (corner(1, 0) - upper)
    lower = lower + right_share * (corner(1, 1) - lower)
    return torch.round(upper + low_share * (lower - upper))


def _reflected(index: Tensor, length: Tensor) -> Tensor:
    """Indices that run back and forth between 0 and length - 1, without repeating the ends."""
    period = (2 * length - 2).clamp(min=1)
    index = torch.remainder(index, period)
    return torch.minimum(index, period - index).clamp(max=length - 1)


def _to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Sends an array; pinned first, so that nobody waits for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
