"""Renders many scenes at once on a device, from cutouts and backgrounds that stay there; synth's only file with torch.

The same pictures as :class:`synth.render.Renderer` draws, pixel by pixel: :mod:`synth.layers` decides in float64 what
goes where; here every pixel looks up its place in the picture as OpenCV 5 does (:func:`_sample`), and is laid over what
is below in the same whole numbers. Nothing waits for the device, and no Python runs per frame or per video: all videos'
k-th objects from behind are drawn at once, each in nothing but its own box.

The two renderers differ where a sample lies within float rounding of a step: in at most 1 of 10,000 mask pixels, and by
at most 1 of 255 in few colours (tests/synth/test_render_torch.py).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synth.bank import SOLID, PictureBank, Sprite
from synth.layers import Layer, lay_out
from synth.pipelines import Pipelines
from synth.prepared import JobPart, JobTable, Slot
from synth.scene import Scene, SceneBackground, SceneObject

MAX_BYTES = 16 * 2**30
"""Default bound of the memory for resident pictures, unless the device has less than four times as much."""

_FIRST_BYTES = 2**24

_Name = tuple[type, str, str, str]
"""Kind, source and name of a picture, and the scene that it belongs to where pictures are changed for each."""


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

    def __init__(
        self,
        bank: PictureBank,
        device: torch.device,
        pipelines: Pipelines | None = None,
        max_bytes: int | None = None,
    ) -> None:
        """Makes room for the first pictures.

        Args:
            bank: where pictures come from; its sources must hold every picture that a scene names.
            device: where they shall lie.
            pipelines: what pictures go through first, for each scene anew; None: nothing.
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
        self._pipelines = pipelines
        self._sizes: dict[_Name, tuple[int, int]] = {}
        self._slots: dict[tuple[_Name, int], Slot] = {}
        self._num_pixels = 0
        self._sent = 0
        self._waiting: list[NDArray[np.int32]] = []

    def of(self, scene: Scene) -> "ScenePictures":
        """The pictures that a scene names."""
        return ScenePictures(self, scene)

    def find_size(self, name: "_Name", load: Callable[[], Sprite]) -> tuple[int, int]:
        """Height and width in pixels of a picture; ``load`` is called when it is not known yet."""
        if name not in self._sizes:
            self._sizes[name] = load().size
        return self._sizes[name]

    def find_slot(self, name: "_Name", level: int, load: Callable[[], Sprite]) -> Slot:
        """Where a level of a picture will lie from the next :meth:`send` on."""
        slot = self._slots.get((name, level))
        if slot is None:
            pixels = load().level(level)
            slot = self._slots[name, level] = Slot(self._num_pixels, *pixels.shape[:2])
            self._num_pixels += pixels.shape[0] * pixels.shape[1]
            self._waiting.append(np.ascontiguousarray(pixels).view(np.int32).reshape(-1))
        return slot

    def load(self, item: SceneObject | SceneBackground, scene: Scene) -> Sprite:
        """Reads a picture and sends it through its pipeline.

        Raises:
            BadFileError: its file cannot be used, or the pipeline leaves nothing of it.
            SourceError: the source does not hold it.
        """
        if isinstance(item, SceneObject):
            sprite = self.bank.scene_cutout(item)
            return (
                sprite if self._pipelines is None else self._pipelines.cutout(sprite, scene.seed, scene.index, item.id)
            )
        sprite = self.bank.scene_backdrop(item)
        return sprite if self._pipelines is None else self._pipelines.background(sprite, scene.seed, scene.index)

    def name_of(self, item: SceneObject | SceneBackground, scene: Scene) -> "_Name":
        """What a picture is known by; where there are pipelines, it is one scene's own."""
        place = item.id if isinstance(item, SceneObject) else 0
        owner = "" if self._pipelines is None else f"{scene.seed} {scene.index} {place}"
        return type(item), item.source, item.name, owner

    def make_room(self) -> None:
        """To be called before a batch: forgets all pictures if the last batch went beyond the bound."""
        if self._num_pixels > self.max_pixels:
            self._slots.clear()
            self._sizes.clear()
            self._num_pixels = self._sent = 0
            self._waiting.clear()

    @property
    def num_pixels(self) -> int:
        """Pixels that all slots take."""
        return self._num_pixels

    def send(self, num_behind: int = 0) -> Tensor:
        """Sends what is not there yet.

        Args:
            num_behind: pixels for which there has to be room behind all slots.

        Returns:
            :attr:`pixels`, which holds every slot that was asked for.
        """
        needed = self._num_pixels + num_behind
        if needed > len(self.pixels):
            room = max(needed, min(2 * len(self.pixels), self.max_pixels))
            grown = torch.zeros(room, dtype=torch.int32, device=self.device)
            grown[: self._sent] = self.pixels[: self._sent]
            self.pixels = grown
        if self._waiting:
            self.pixels[self._sent : self._num_pixels] = _send(np.concatenate(self._waiting), self.device)
            self._waiting.clear()
            self._sent = self._num_pixels
        return self.pixels


class ScenePictures:
    """The pictures of one scene among the resident ones; a :class:`synth.prepared.Pictures`."""

    def __init__(self, resident: ResidentPictures, scene: Scene) -> None:
        self._resident = resident
        self._scene = scene
        self._loaded: dict[_Name, Sprite] = {}

    def size_of(self, item: SceneObject | SceneBackground) -> tuple[int, int]:
        """Height and width in pixels of the picture that an object or background names.

        Raises:
            BadFileError: its file cannot be used.
            SourceError: the source does not hold it.
        """
        name = self._resident.name_of(item, self._scene)
        return self._resident.find_size(name, lambda: self._load(name, item))

    def slot_of(self, item: SceneObject | SceneBackground, level: int) -> Slot:
        """Where a level of that picture lies; errors as :meth:`size_of`."""
        name = self._resident.name_of(item, self._scene)
        return self._resident.find_slot(name, level, lambda: self._load(name, item))

    def _load(self, name: "_Name", item: SceneObject | SceneBackground) -> Sprite:
        if name not in self._loaded:
            self._loaded[name] = self._resident.load(item, self._scene)
        return self._loaded[name]


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
            compiled: let ``torch.compile`` make one kernel of all that is done to a pixel that motion does not blur.
                The first batches then wait for the compiler; needs one (Triton on CUDA, C++ on CPUs).
        """
        self.size = size
        self.device = torch.device(device)
        self.pictures = ResidentPictures(bank, self.device, pipelines, max_bytes)
        self._paint: Callable[..., Painted] = torch.compile(_paint, dynamic=True) if compiled else _paint

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
        self.pictures.make_room()
        frames = [range(num_frames)] * len(scenes) if chosen is None else chosen
        layout = lay_out(scenes, num_frames, frames, self.size, self.pictures)
        pixels = self.pictures.send(layout.jobs.num_pixels)
        _make_pictures(pixels, layout.jobs)
        shape = (layout.num_videos, layout.num_frames, *self.size)
        drawing = _Drawing(self.size, pixels, math.prod(shape), self._paint)
        drawing.lay(layout.ground, is_ground=True)
        for rank in layout.ranks:
            drawing.lay(rank.shadows)
            drawing.lay(rank.objects)
            drawing.own(rank.outlines)
        colours = drawing.lit(layout.light).view(*shape, 3).permute(0, 1, 4, 2, 3)
        return RenderedBatch(colours, drawing.masks.view(shape))


class _Places:
    """The pixels of E boxes in a row: to which box each belongs, and where it is in there."""

    def __init__(self, boxes: Tensor, box: Tensor) -> None:
        """Finds the places of pixels; nothing but tensors, so that it can be compiled. See :func:`_places`.

        Args:
            boxes: ``int64 (E, 6)``: frame, x0, y0, width, height, number of the first pixel.
            box: ``int64 (P,)``, ascending: number of the box.
        """
        self._boxes = boxes
        self.box = box
        self._frame, self._x0, self._y0, width, _, first = boxes[box].unbind(-1)
        place = torch.arange(len(box), device=box.device) - first
        self.y = torch.div(place, width, rounding_mode="floor")
        """``int64 (P,)``: row in the box."""
        self.x = place - self.y * width
        """``int64 (P,)``: column in the box."""

    def in_frames(self, size: tuple[int, int]) -> Tensor:
        """Their numbers among the pixels of all frames: ``int64 (P,)``."""
        return (self._frame * size[0] + self._y0 + self.y) * size[1] + self._x0 + self.x

    def number(self, box: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Numbers of the pixels at column x and row y of boxes, or at the edge nearest to there: ``int64 (Q,)``."""
        _, _, _, width, height, first = self._boxes[box].unbind(-1)
        return first + torch.minimum(y.clamp(min=0), height - 1) * width + torch.minimum(x.clamp(min=0), width - 1)


def _list_pixels(box: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor]:
    """The pixels of boxes ``(E, 5)``, frame, x0, y0, width and height: what :class:`_Places` takes."""
    counts = box[:, 3] * box[:, 4]
    boxes = _send(np.concatenate([box, (np.cumsum(counts) - counts)[:, None]], axis=1), device)
    numbers = torch.arange(len(box), device=device)
    return boxes, torch.repeat_interleave(numbers, _send(counts, device), output_size=int(counts.sum()))


def _places(box: NDArray[np.int64], device: torch.device) -> _Places:
    return _Places(*_list_pixels(box, device))


Painted = tuple[Tensor, Tensor, Tensor]
"""Numbers of pixels, what becomes of their colours, and of their ids."""


class _Drawing:
    """Frames while they are drawn, from far to near."""

    def __init__(self, size: tuple[int, int], pixels: Tensor, num_pixels: int, paint: Callable[..., Painted]) -> None:
        """Empty frames of ``num_pixels`` pixels in all, to be drawn from resident ``pixels`` by :func:`_paint`."""
        self._size = size
        self._paint = paint
        self._pixels = pixels
        self._canvas = torch.empty((num_pixels, 4), dtype=torch.uint8, device=pixels.device)
        self.masks = torch.zeros(num_pixels, dtype=torch.uint8, device=pixels.device)
        """``uint8 (P,)``: ids."""

    def lay(self, layer: Layer | None, is_ground: bool = False) -> None:
        """Draws a layer over what is there, or under everything, and lets it own the pixels where it is solid."""
        if layer is None:
            return
        smeared: NDArray[np.bool_] = (layer.steps != 0).reshape(len(layer.ids), -1).max(axis=1)
        if not smeared.all():
            self._lay_plain(layer.take(~smeared), is_ground)
        if smeared.any():
            self._lay_smeared(layer.take(smeared), is_ground)

    def _lay_plain(self, layer: Layer, is_ground: bool) -> None:
        """Draws what motion does not blur: all that is done to a pixel is done at once."""
        boxes, box = _list_pixels(layer.outer, self._pixels.device)
        tables = _tables(layer, self._pixels.device)
        place, colours, ids = self._paint(
            self._canvas, self.masks, self._pixels, boxes, box, tables, is_ground, self._size
        )
        self._canvas[place] = colours
        self.masks[place] = ids

    def _lay_smeared(self, layer: Layer, is_ground: bool) -> None:
        device = self._pixels.device
        outer, inner, tables = _places(layer.outer, device), _places(layer.inner, device), _tables(layer, device)
        sharp = _look_up(self._pixels, tables, outer, is_ground)
        corner = _send(layer.inner[:, 1:3] - layer.outer[:, 1:3], device)[inner.box]
        lag = _send(layer.lag, device)[inner.box]
        x, y = inner.x + corner[:, 0], inner.y + corner[:, 1]
        above = _smear(sharp, outer, layer)[outer.number(inner.box, x - lag[:, 0], y - lag[:, 1])]
        place = inner.in_frames(self._size)
        if is_ground:
            self._canvas[place] = above.to(torch.uint8)
            return
        self._canvas[place] = _blend(self._canvas[place], above, tables.gain[inner.box])
        ids = tables.ids[inner.box]
        self.masks[place] = _own(self.masks[place], sharp[outer.number(inner.box, x, y)], ids)

    def own(self, layer: Layer | None) -> None:
        """Lets a layer own the pixels where it is solid, without drawing it."""
        if layer is not None:
            places, tables = _places(layer.outer, self._pixels.device), _tables(layer, self._pixels.device)
            place = places.in_frames(self._size)
            sharp = _look_up(self._pixels, tables, places, mirrored=False)
            self.masks[place] = _own(self.masks[place], sharp, tables.ids[places.box])

    def lit(self, light: NDArray[np.float64] | None) -> Tensor:
        """The colours under the light, ``uint8 (F, H W, 3)``; light as in :attr:`synth.layers.Layout.light`."""
        colours = self._canvas[:, :3].contiguous().view(-1, self._size[0] * self._size[1], 3)
        if light is None:
            return colours
        gains = _send(light.astype(np.float32), colours.device)[:, None]
        return torch.round(colours * gains).clamp_(max=255).to(torch.uint8)


class _Tables(NamedTuple):
    """A layer's arrays on the device; see :class:`synth.layers.Layer`."""

    slot: Tensor
    back: Tensor
    waves: Tensor
    gain: Tensor
    ids: Tensor


def _tables(layer: Layer, device: torch.device) -> _Tables:
    floats = (layer.back, layer.waves, layer.gain)
    back, waves, gain = (_send(array.astype(np.float32), device) for array in floats)
    return _Tables(_send(layer.slot, device), back, waves, gain, _send(layer.ids.astype(np.uint8), device))


def _paint(
    canvas: Tensor,
    masks: Tensor,
    pixels: Tensor,
    boxes: Tensor,
    box: Tensor,
    tables: _Tables,
    is_ground: bool,
    size: tuple[int, int],
) -> Painted:
    """Draws a layer that motion does not blur; nothing but tensors, so that it can be compiled into one kernel.

    Args:
        canvas: ``uint8 (F H W, 4)``, what has been drawn so far.
        masks: ``uint8 (F H W,)``.
        pixels: ``int32 (N,)``, resident pictures.
        boxes: ``int64 (E, 6)``, as :class:`_Places` takes them.
        box: ``int64 (P,)``, likewise.
        tables: the layer.
        is_ground: whether it lies under everything, and goes on mirrored beyond its edges.
        size: height and width of the frames.

    Returns:
        ``int64 (P,)``, ``uint8 (P, 4)``, ``uint8 (P,)``.
    """
    places = _Places(boxes, box)
    place = places.in_frames(size)
    above = _look_up(pixels, tables, places, is_ground)
    if is_ground:
        return place, above.to(torch.uint8), masks[place]
    ids = _own(masks[place], above, tables.ids[box])
    return place, _blend(canvas[place], above, tables.gain[box]), ids


def _blend(below: Tensor, above: Tensor, gain: Tensor) -> Tensor:
    """Lays premultiplied colours ``float32 (P, 4)`` of some brightness ``(P,)`` over others ``uint8 (P, 4)``.

    What shines through is rounded before the object is added, as the other renderer does. No product of two bytes comes
    near a half of a 255th, so float32 rounds it right.
    """
    through = torch.round(below * (255 - above[:, 3:]) * (1 / 255))
    return torch.round(through + above * gain[:, None]).clamp(max=255).to(torch.uint8)


def _own(masks: Tensor, above: Tensor, ids: Tensor) -> Tensor:
    """Gives the pixels where an object is solid to it, if it has an id: ``uint8 (P,)``."""
    return torch.where((above[:, 3] >= SOLID) & (ids > 0), ids, masks)


def _smear(picture: Tensor, places: _Places, layer: Layer) -> Tensor:
    """Motion blur: each pass is the mean of the picture and itself some pixels on, rounded to even.

    Args:
        picture: ``float32 (P, 4)``, whole numbers.
        places: where its pixels are.
        layer: says how far each pass goes.
    """
    for number in np.flatnonzero(layer.steps.any(axis=(0, 2))).tolist():
        step = _send(layer.steps[:, number], picture.device)[places.box]
        further = picture[places.number(places.box, places.x + step[:, 0], places.y + step[:, 1])]
        picture = torch.round((picture + further) * 0.5)
    return picture


def _look_up(pixels: Tensor, tables: _Tables, places: _Places, mirrored: bool) -> Tensor:
    """What warped pictures show: ``float32 (P, 4)``, whole numbers.

    Positions are rounded as OpenCV 5.0 rounds them in cv2.warpAffine: the map to float32, a row's part of the sum
    (b y, then + c) to float32, and a x is added in one rounding (a fused multiply-add; here in float64).
    """
    box, x, y = places.box, places.x, places.y
    a, b, c, d, e, f = tables.back[box].unbind(-1)
    u = torch.addcmul((b * y + c).double(), a.double(), x.double()).float()
    v = torch.addcmul((e * y + f).double(), d.double(), x.double()).float()
    for wave in tables.waves.unbind(1):
        along_x, along_y, start, sway_x, sway_y = wave[box].unbind(-1)
        bend = torch.sin(2 * math.pi * (along_x * x + along_y * y + start))
        u, v = u + sway_x * bend, v + sway_y * bend
    return _sample(pixels, tables.slot[box], u, v, mirrored)


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
    column, row = left.long(), top.long()
    upper, lower = _fetch(pixels, slot, column, row, mirrored), _fetch(pixels, slot, column, row + 1, mirrored)
    upper = upper + right_share * (_fetch(pixels, slot, column + 1, row, mirrored) - upper)
    lower = lower + right_share * (_fetch(pixels, slot, column + 1, row + 1, mirrored) - lower)
    return torch.round(upper + low_share * (lower - upper))


def _fetch(pixels: Tensor, slot: Tensor, column: Tensor, row: Tensor, mirrored: bool) -> Tensor:
    """Pixels of pictures, ``float32 (P, 4)``; arguments as of :func:`_sample`, but for whole columns and rows."""
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


def _make_pictures(pixels: Tensor, jobs: JobTable) -> None:
    """Recolours and blurs pictures, and puts what is made behind the resident ones, in ``pixels``."""
    for part in jobs.parts:
        device = pixels.device
        places = _places(part.boxes(), device)
        source, pad = _send(part.source, device)[places.box], _send(part.pad, device)[places.box]
        made = _fetch(pixels, source, places.x - pad, places.y - pad, mirrored=False)
        gains = _send(part.gains, device)[places.box]
        colours = torch.minimum(torch.round(made[:, :3] * gains), made[:, 3:])
        made = torch.cat([colours, made[:, 3:]], dim=1)
        if part.taps.shape[1] > 1:
            made = torch.round(_blur(_blur(made, places, part, 1), places, part, 0))
            made = torch.round(made * _send(part.strength, device)[places.box][:, None])
        first = int(part.made[0, 0])
        pixels[first : first + len(made)] = _pack(made)


def _blur(picture: Tensor, places: _Places, jobs: JobPart, axis: int) -> Tensor:
    """Blurs pictures along x (axis 1) or y (axis 0), mirrored at their edges."""
    taps = _send(jobs.taps, picture.device)
    length = _send(jobs.made[:, 1 + axis], picture.device)[places.box]
    farthest = jobs.taps.shape[1] // 2
    total = torch.zeros_like(picture)
    for number in range(-farthest, farthest + 1):
        x, y = (
            (_reflected(places.x + number, length), places.y)
            if axis
            else (places.x, _reflected(places.y + number, length))
        )
        total += picture[places.number(places.box, x, y)] * taps[:, number + farthest][places.box][:, None]
    return total


def _pack(colours: Tensor) -> Tensor:
    """Four bytes in one number: ``float32 (P, 4)``, whole numbers, to ``int32 (P,)``."""
    return colours.clamp(0, 255).to(torch.uint8).contiguous().view(torch.int32).view(-1)


def _unpack(found: Tensor) -> Tensor:
    """The bytes of ``int32 (P,)``: ``float32 (P, 4)``. By shifts, which a compiler can join to what is around them."""
    return (found[:, None] >> torch.arange(0, 32, 8, device=found.device) & 255).float()


def _send(array: NDArray[Any], device: torch.device) -> Tensor:
    """Sends an array; from pinned memory, so that nobody waits for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
