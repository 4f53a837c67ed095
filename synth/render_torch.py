"""Renders many scenes at once on a device, from cutouts and backgrounds that stay there.

The same pictures as :class:`synth.render.Renderer` draws, pixel by pixel: :mod:`synth.layers` decides in float64 what
goes where; here every pixel looks up its place in the picture as OpenCV 5 does (:func:`_sample`), and is laid over what
is below in the same whole numbers. Nothing waits for the device, and no Python runs per frame or per video: all warped
pictures of a batch are looked up at once, each in nothing but its own box; then all frames' k-th objects from behind
are laid over what is there, for one k after the other.

The two renderers differ where a sample lies within float rounding of a step: in at most 1 of 10,000 mask pixels, and by
at most 1 of 255 in few colours; and in shadows, which the other draws at half the size and enlarges: by up to 5 of 255
at 240x432, and more in frames so small that a shadow's edge takes few pixels (tests/synth/test_render_torch.py).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synth.bank import SOLID, PictureBank
from synth.layers import Layout, Part, Sheet, lay_out
from synth.pipelines import Pipelines
from synth.prepared import Jobs
from synth.resident import ResidentPictures, send_together
from synth.scene import Scene

PIXELS_AT_ONCE = {"cuda": 2**25, "cpu": 2**22}
"""Pixels of the frames that are drawn together, on a device of that type; looking up takes some 300 bytes for each."""


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


class TorchRenderer:
    """Renders batches of scenes at one size. For one thread."""

    def __init__(
        self,
        bank: PictureBank,
        size: tuple[int, int],
        device: torch.device | str,
        *,
        pipelines: Pipelines | None = None,
        max_bytes: int | None = None,
        compiled: bool = False,
    ) -> None:
        """Readies the device.

        Args:
            bank: where pictures come from; its sources must hold every picture that a scene names.
            size: height and width of the frames in pixels.
            device: where to render, ``"cuda"`` or ``"cpu"``.
            pipelines: what pictures go through first. Every scene's pictures then are its own, and are sent for it.
            max_bytes: bound of the memory for resident pictures, see :class:`ResidentPictures`.
            compiled: let ``torch.compile`` make one kernel of each thing that is done to pixels: looking them up, a
                pass of motion blur, laying them over others. The first batches then wait for the compiler; needs one
                (Triton on CUDA, C++ on CPUs).
        """
        self.size = size
        self.device = torch.device(device)
        self.pictures = ResidentPictures(bank, self.device, pipelines, max_bytes)
        self._kernels = _compiled() if compiled else _Kernels(_look_up, _paint, _smear, _lay_over)

    def render(
        self, scenes: Sequence[Scene], num_frames: int, chosen: Sequence[Sequence[int]] | None = None
    ) -> RenderedBatch:
        """Renders B scenes; a pure function of them and their pictures. Does not wait for the device.

        Args:
            scenes: B of them, at least one.
            num_frames: frames of a whole video.
            chosen: for each scene which T of these frames are rendered; None: all of them.

        Raises:
            BadFileError: a picture cannot be read.
            SourceError: the sources do not hold a picture that a scene names.
        """
        frames = [range(num_frames)] * len(scenes) if chosen is None else chosen
        height, width = self.size
        at_once = max(1, PIXELS_AT_ONCE.get(self.device.type, 2**22) // (len(frames[0]) * height * width))
        shape = (len(scenes), len(frames[0]), height, width)
        colours = torch.empty((*shape, 3), dtype=torch.uint8, device=self.device)
        masks = torch.empty(shape, dtype=torch.uint8, device=self.device)
        for first in range(0, len(scenes), at_once):
            some = slice(first, first + at_once)
            self.pictures.make_room()
            layout = self.lay_out(scenes[some], num_frames, frames[some])
            self._draw(layout, colours[some], masks[some])
        return RenderedBatch(colours.permute(0, 1, 4, 2, 3), masks)

    def lay_out(self, scenes: Sequence[Scene], num_frames: int, chosen: Sequence[Sequence[int]]) -> Layout:
        """All of :meth:`render` that is done before the device is asked for anything; arguments and errors as there."""
        return lay_out(scenes, num_frames, chosen, self.size, self.pictures)

    def _draw(self, layout: Layout, colours: Tensor, masks: Tensor) -> None:
        """Draws what is laid out.

        Args:
            layout: of B videos.
            colours: ``uint8 (B, T, H, W, 3)``, filled with their colours.
            masks: ``uint8 (B, T, H, W)``, filled with their ids.
        """
        pixels = self.pictures.send(sum(jobs.num_pixels for jobs in layout.jobs))
        sent = _Sent(layout, self.device)
        for jobs in sent.jobs:
            _make_pictures(pixels, jobs)
        canvas = torch.empty((masks.numel(), 4), dtype=torch.uint8, device=self.device)
        for sheet in sent.grounds:
            painted = self._paint(pixels, sheet, mirrored=True)
            canvas[painted.place] = painted.colours.to(torch.uint8)  # which have no gain
        owners = masks.zero_().view(-1)
        sheets = [self._paint(pixels, sheet, mirrored=False) for sheet in sent.sheets]
        for part in layout.parts:
            self._compose(canvas, owners, sheets[part.sheet], part)
        drawn = canvas.view(*masks.shape, 4)[..., :3]
        if sent.light is not None:
            drawn = torch.round(drawn * sent.light.view(*masks.shape[:2], 1, 1, 3)).clamp_(max=255)
        colours.copy_(drawn)

    def _paint(self, pixels: Tensor, sheet: Sheet[Tensor], mirrored: bool) -> "_Painted":
        """Warps the pictures of a sheet into their boxes, and blurs them; mirrored beyond their edges or not."""
        outer = _list_boxes(sheet.outer, sheet.num_outer)
        where = pixels, sheet.outer, outer, sheet.slot, sheet.back, sheet.waves
        if not sheet.steps.shape[0]:
            return _Painted(*self._kernels.paint(*where, sheet.gain, sheet.ids, mirrored, self.size))
        sharp = self._kernels.look_up(*where, mirrored)
        blurred = sharp
        for steps in sheet.steps:
            blurred = self._kernels.smear(blurred, sheet.outer, outer, steps)
        inner = _list_boxes(sheet.inner, sheet.num_inner)
        x, y = _columns_and_rows(sheet.inner, inner)
        into = (sheet.inner[:, 1:3] - sheet.outer[:, 1:3])[inner]
        x, y = x + into[:, 0], y + into[:, 1]
        lag = sheet.lag[inner]
        return _Painted(
            _in_frames(sheet.inner, inner, self.size),
            *_ready(
                blurred[_nearest(sheet.outer, inner, x - lag[:, 0], y - lag[:, 1])],
                sheet.gain[inner],
                sharp[_nearest(sheet.outer, inner, x, y), 3],
                sheet.ids[inner],
            ),
        )

    def _compose(self, canvas: Tensor, owners: Tensor, painted: "_Painted", part: Part) -> None:
        """Lays a part over what has been drawn, and gives pixels to whom they belong."""
        some = slice(part.first, part.end)
        place, ids = painted.place[some], painted.ids[some]
        if part.drawn:
            through, colours = painted.through[some], painted.colours[some]
            canvas[place], owners[place] = self._kernels.lay_over(canvas, owners, place, through, colours, ids)
        else:
            owners[place] = _own(owners[place], ids)


@dataclass(frozen=True, slots=True, eq=False)
class _Painted:
    """Q pixels of the pictures on a sheet as they look in the frames."""

    place: Tensor
    """``int64 (Q,)``: number among the pixels of all frames."""

    through: Tensor
    """``float32 (Q, 1)``: share of what is below that shines through."""

    colours: Tensor
    """``float32 (Q, 4)``: what is added to that."""

    ids: Tensor
    """``uint8 (Q,)``: whom the pixel belongs to from then on; 0: to whom it did."""


class _Kernels(NamedTuple):
    """What is done to many pixels at once; nothing but tensors, so that it can be compiled."""

    look_up: Callable[..., Tensor]
    paint: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]
    smear: Callable[..., Tensor]
    lay_over: Callable[..., tuple[Tensor, Tensor]]


class _Sent:
    """A layout on a device, sent there in one go."""

    def __init__(self, layout: Layout, device: torch.device) -> None:
        light = [] if layout.light is None else [layout.light]
        sheets, jobs = (*layout.grounds, *layout.sheets), layout.jobs
        arrays = [
            *(array for one in sheets for array in _arrays(one)),
            *(array for one in jobs for array in _arrays(one)),
        ]
        tensors = iter(send_together([*arrays, *light], device))
        self.grounds = [_replaced(sheet, tensors) for sheet in layout.grounds]
        self.sheets = [_replaced(sheet, tensors) for sheet in layout.sheets]
        self.jobs = [_replaced(one, tensors) for one in jobs]
        self.light = next(tensors, None)


def _arrays(group: Sheet[NDArray[Any]] | Jobs[NDArray[Any]]) -> list[NDArray[Any]]:
    values = (getattr(group, one.name) for one in fields(group))
    return [value for value in values if isinstance(value, np.ndarray)]


@overload
def _replaced(group: Sheet[NDArray[Any]], tensors: Iterator[Tensor]) -> Sheet[Tensor]: ...
@overload
def _replaced(group: Jobs[NDArray[Any]], tensors: Iterator[Tensor]) -> Jobs[Tensor]: ...
def _replaced(group: Any, tensors: Iterator[Tensor]) -> Any:
    """The same with tensors in place of its arrays."""
    values = (getattr(group, one.name) for one in fields(group))
    return type(group)(*(next(tensors) if isinstance(value, np.ndarray) else value for value in values))


def _compiled() -> _Kernels:
    """The same, each as one kernel or few."""
    return _Kernels(
        torch.compile(_look_up, dynamic=True),
        torch.compile(_paint, dynamic=True),
        torch.compile(_smear, dynamic=True),
        torch.compile(_lay_over, dynamic=True),
    )


def _list_boxes(boxes: Tensor, num_pixels: int) -> Tensor:
    """To which of the boxes ``int64 (E, 6)`` each of their pixels belongs: ``int64 (P,)``, ascending."""
    numbers = torch.arange(len(boxes), device=boxes.device)
    return torch.repeat_interleave(numbers, boxes[:, 3] * boxes[:, 4], output_size=num_pixels)


def _columns_and_rows(boxes: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    """Where in their boxes the pixels of all boxes are: ``int64 (P,)`` each; ``box`` as :func:`_list_boxes` has it."""
    place = torch.arange(len(box), device=box.device) - boxes[:, 5][box]
    width = boxes[:, 3][box]
    row = torch.div(place, width, rounding_mode="floor")
    return place - row * width, row


def _in_frames(boxes: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """Numbers of the boxes' pixels among the pixels of all frames: ``int64 (P,)``."""
    x, y = _columns_and_rows(boxes, box)
    corner = (boxes[:, 0] * size[0] + boxes[:, 2]) * size[1] + boxes[:, 1]
    return corner[box] + y * size[1] + x


def _nearest(boxes: Tensor, box: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Numbers of the pixels at column x and row y of boxes, or at the edge nearest to there: ``int64 (Q,)``."""
    _, _, _, width, height, first = boxes[box].unbind(-1)
    return first + torch.minimum(y.clamp(min=0), height - 1) * width + torch.minimum(x.clamp(min=0), width - 1)


def _lay_over(
    canvas: Tensor, owners: Tensor, place: Tensor, through: Tensor, colours: Tensor, ids: Tensor
) -> tuple[Tensor, Tensor]:
    """What becomes of pixels over which others are laid: of their colours ``uint8 (P, 4)`` and owners ``uint8 (P,)``.

    What shines through is rounded before the object is added, as the other renderer does. No product of two bytes,
    divided by 255, comes nearer to a half than 1 / 510, so float32 rounds it right.

    Args:
        canvas: ``uint8 (Q, 4)``, all pixels of the frames.
        owners: ``uint8 (Q,)``, theirs.
        place: ``int64 (P,)``, which of them; it and the others as of :class:`_Painted`.
        through: ``float32 (P, 1)``.
        colours: ``float32 (P, 4)``.
        ids: ``uint8 (P,)``.
    """
    laid = torch.round(torch.round(canvas[place] * through) + colours).clamp(max=255)
    return laid.to(torch.uint8), _own(owners[place], ids)


def _own(owners: Tensor, ids: Tensor) -> Tensor:
    """Gives pixels to whom they belong from now on, if to anybody: ``uint8 (P,)``."""
    return torch.where(ids > 0, ids, owners)


def _smear(picture: Tensor, boxes: Tensor, box: Tensor, steps: Tensor) -> Tensor:
    """A pass of motion blur: the mean of pictures and themselves some pixels on, rounded to even.

    Args:
        picture: ``float32 (P, 4)``, whole numbers.
        boxes: where its pixels are, ``int64 (E, 6)``.
        box: ``int64 (P,)``, as :func:`_list_boxes` has it.
        steps: ``int64 (2, E)``, pixels along x and y.
    """
    x, y = _columns_and_rows(boxes, box)
    further = picture[_nearest(boxes, box, x + steps[0][box], y + steps[1][box])]
    return torch.round((picture + further) * 0.5)


def _look_up(
    pixels: Tensor, boxes: Tensor, box: Tensor, slot: Tensor, back: Tensor, waves: Tensor, mirrored: bool
) -> Tensor:
    """What warped pictures show: ``float32 (P, 4)``, whole numbers.

    Positions are rounded as OpenCV 5.0 rounds them in cv2.warpAffine: the map to float32, a row's part of the sum
    (b y, then + c) to float32, and a x is added in one rounding (a fused multiply-add; here in float64).

    Args:
        pixels: ``int32 (N,)``, resident pictures.
        boxes: ``int64 (E, 6)``, and of which of them each pixel is: ``box``, ``int64 (P,)``.
        box: as :func:`_list_boxes` has it.
        slot: of each box, as :class:`synth.layers.Sheet` has it; ``back`` and ``waves`` likewise.
        back: ``float32 (E, 6)``.
        waves: ``float32 (E, K, 5)``.
        mirrored: whether pictures go on mirrored beyond their edges, or are transparent there.
    """
    x, y = _columns_and_rows(boxes, box)
    a, b, c, d, e, f = back[box].unbind(-1)
    u = torch.addcmul((b * y + c).double(), a.double(), x.double()).float()
    v = torch.addcmul((e * y + f).double(), d.double(), x.double()).float()
    for wave in waves.unbind(1):
        along_x, along_y, start, sway_x, sway_y = wave[box].unbind(-1)
        bend = torch.sin(2 * math.pi * (along_x * x + along_y * y + start))
        u, v = u + sway_x * bend, v + sway_y * bend
    return _sample(pixels, slot[box], u, v, mirrored)


def _paint(
    pixels: Tensor,
    boxes: Tensor,
    box: Tensor,
    slot: Tensor,
    back: Tensor,
    waves: Tensor,
    gain: Tensor,
    ids: Tensor,
    mirrored: bool,
    size: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Warps pictures that motion does not blur; what :class:`_Painted` holds.

    Args:
        pixels: as of :func:`_look_up`, like the others up to ``waves``, and ``mirrored``.
        boxes: likewise.
        box: likewise.
        slot: likewise.
        back: likewise.
        waves: likewise.
        gain: ``float32 (E,)``, of each box's picture.
        ids: ``uint8 (E,)``, who owns the pixels where it is solid.
        mirrored: likewise.
        size: height and width of the frames.
    """
    sharp = _look_up(pixels, boxes, box, slot, back, waves, mirrored)
    return _in_frames(boxes, box, size), *_ready(sharp, gain[box], sharp[:, 3], ids[box])


def _ready(colours: Tensor, gain: Tensor, alpha: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Readies Q pixels to be laid over others; all of :class:`_Painted` but their places.

    Args:
        colours: ``float32 (Q, 4)``, premultiplied, whole numbers.
        gain: ``float32 (Q,)``, of the colours.
        alpha: ``float32 (Q,)``, before motion blurred it: where it is solid, the pixel is owned.
        ids: ``uint8 (Q,)``, by whom; 0: by nobody.
    """
    return (255 - colours[:, 3:]) * (1 / 255), colours * gain[:, None], ids * (alpha >= SOLID)


def _sample(pixels: Tensor, slot: Tensor, u: Tensor, v: Tensor, mirrored: bool) -> Tensor:
    """What pictures show at given positions: cv2.remap and cv2.warpAffine with INTER_LINEAR, as OpenCV 5.0 does it.

    Found by experiment (x86-64, four channels of uint8): positions are not rounded to 1/32 of a pixel, as they were
    before OpenCV 4.11, but kept in float32. Of the four neighbours the upper and the lower pair are mixed, then the
    two, in float32; the result is rounded to even.

    Args:
        pixels: ``int32 (N,)``, resident pictures.
        slot: ``int64 (P, 3)``: offset, height and width of the picture.
        u: ``float32 (P,)``, column; whole numbers are pixel centres.
        v: ``float32 (P,)``, row.
        mirrored: whether a picture goes on mirrored beyond its edge (BORDER_REFLECT_101), or is transparent there.

    Returns:
        ``float32 (P, 4)``: whole numbers from 0 to 255.
    """
    left, top = u.floor(), v.floor()
    right_share, low_share = (u - left)[:, None], (v - top)[:, None]
    next_door = torch.arange(2, device=u.device)[:, None]
    columns, rows = left.long() + next_door, (top.long() + next_door)[:, None]  # (2, P), (2, 1, P)
    found = _fetch(pixels, slot, columns, rows, mirrored)  # (2, 2, P, 4)
    upper, lower = found[:, 0] + right_share * (found[:, 1] - found[:, 0])
    return torch.round(upper + low_share * (lower - upper))


def _fetch(pixels: Tensor, slot: Tensor, column: Tensor, row: Tensor, mirrored: bool) -> Tensor:
    """Pixels of pictures, ``float32 (..., P, 4)``; columns and rows ``(..., P)``, the rest as of :func:`_sample`."""
    offset, height, width = slot.unbind(-1)
    if mirrored:
        return _unpack(pixels[offset + _reflected(row, height) * width + _reflected(column, width)])
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    found = pixels[torch.where(inside, offset + row * width + column, 0)]
    return _unpack(torch.where(inside, found, 0))


def _reflected(index: Tensor, length: Tensor) -> Tensor:
    """Indices that run back and forth between 0 and length - 1, without repeating the ends."""
    period = (2 * length - 2).clamp(min=1)
    index = torch.remainder(index, period)
    return torch.minimum(torch.minimum(index, period - index), length - 1)


def _make_pictures(pixels: Tensor, jobs: Jobs[Tensor]) -> None:
    """Recolours and blurs pictures, and puts what is made behind the resident ones, in ``pixels``."""
    box = _list_boxes(jobs.boxes, jobs.num_pixels)
    x, y = _columns_and_rows(jobs.boxes, box)
    pad = jobs.pad[box]
    made = _fetch(pixels, jobs.source[box], x - pad, y - pad, mirrored=False)
    colours = torch.minimum(torch.round(made[:, :3] * jobs.gains[box]), made[:, 3:])
    made = torch.cat([colours, made[:, 3:]], dim=1)
    if jobs.taps.shape[1] > 1:
        width, height = jobs.boxes[:, 3][box], jobs.boxes[:, 4][box]
        first = jobs.boxes[:, 5][box]
        away = torch.arange(jobs.taps.shape[1], device=box.device) - jobs.taps.shape[1] // 2  # (taps,)
        taps = jobs.taps[box][..., None]  # (P, taps, 1)
        across = _reflected(x[:, None] + away, width[:, None])
        made = (made[(first + y * width)[:, None] + across] * taps).sum(dim=1)
        down = _reflected(y[:, None] + away, height[:, None])
        made = (made[(first + x)[:, None] + down * width[:, None]] * taps).sum(dim=1)
        made = torch.round(torch.round(made) * jobs.strength[box][:, None])
    pixels[jobs.first : jobs.first + jobs.num_pixels] = _pack(made)


def _pack(colours: Tensor) -> Tensor:
    """Four bytes in one number: ``float32 (P, 4)``, whole numbers, to ``int32 (P,)``."""
    return colours.clamp(0, 255).to(torch.uint8).contiguous().view(torch.int32).view(-1)


def _unpack(found: Tensor) -> Tensor:
    """The bytes of ``int32 (...)``: ``float32 (..., 4)``. By shifts, which a compiler can join to what is around."""
    return (found[..., None] >> torch.arange(0, 32, 8, device=found.device) & 255).float()
