"""Pictures that stay on a device, and how arrays get there without anybody waiting."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synth.bank import PictureBank, Sprite
from synth.pipelines import Pipelines
from synth.prepared import NUM_LEVELS
from synth.scene import Scene, SceneBackground, SceneObject

MAX_BYTES = 16 * 2**30
"""Default bound of the memory for resident pictures, unless the device has less than four times as much."""

_FIRST_BYTES = 2**24

_FIRST_PICTURES = 64

Ints = NDArray[np.int64]

_Item = SceneObject | SceneBackground


class ResidentPictures:
    """Levels of pictures as one row of pixels on a device; each is sent there when it is first needed, and stays.

    When the memory is used up, all are forgotten and those that are needed are sent anew. For one thread. It is a
    :class:`synth.prepared.Library`.
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
        self._forget()

    def _forget(self) -> None:
        self._numbers: dict[tuple[type, str, str, str], int] = {}
        """Of pictures, by kind, source, name, and the scene that they belong to where each has its own."""
        self._named: list[tuple[_Item, Scene]] = []
        """What first named each picture."""
        self._sizes = np.zeros((_FIRST_PICTURES, 2), np.int64)  # 0: not known yet
        self._slots = np.full((_FIRST_PICTURES, NUM_LEVELS, 3), -1, np.int64)  # -1: not there yet
        self._loaded: dict[int, Sprite] = {}
        self._waiting: list[NDArray[np.int32]] = []
        self._num_pixels = self._sent = 0

    def make_room(self) -> None:
        """To be called before a batch: forgets all pictures if the last batch went beyond the bound."""
        if self._num_pixels > self.max_pixels:
            self._forget()

    def find(self, scenes: Sequence[Scene]) -> tuple[Ints, Ints]:
        """Numbers of the pictures that scenes name: their backgrounds', and their objects' scene by scene."""
        backgrounds = [self._number(scene.background, scene, 0) for scene in scenes]
        cutouts = [self._number(item, scene, item.id) for scene in scenes for item in scene.objects]
        while len(self._sizes) < len(self._named):
            self._sizes = np.concatenate([self._sizes, np.zeros_like(self._sizes)])
            self._slots = np.concatenate([self._slots, np.full_like(self._slots, -1)])
        return np.array(backgrounds), np.array(cutouts)

    def _number(self, item: _Item, scene: Scene, place: int) -> int:
        owner = "" if self._pipelines is None else f"{scene.seed} {scene.index} {place}"
        name = type(item), item.source, item.name, owner
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._named)
            self._named.append((item, scene))
        return number

    def sizes(self, numbers: Ints) -> Ints:
        """Heights and widths of pictures in pixels: ``int64 (n, 2)``.

        Raises:
            BadFileError: a file cannot be used, or a pipeline leaves nothing of it.
            SourceError: a source does not hold a picture.
        """
        found = self._sizes[numbers]
        for row in np.flatnonzero(found[:, 0] == 0).tolist():
            found[row] = self._sizes[numbers[row]] = self._load(int(numbers[row])).size
        return found

    def slots(self, numbers: Ints, levels: Ints) -> Ints:
        """Where levels of pictures will lie from the next :meth:`send` on; errors as :meth:`sizes`.

        Returns:
            ``int64 (n, 3)``: number of the first pixel, height and width.
        """
        found = self._slots[numbers, levels]
        for row in np.flatnonzero(found[:, 0] < 0).tolist():
            found[row] = self._slot(int(numbers[row]), int(levels[row]))
        return found

    def _slot(self, number: int, level: int) -> Ints:
        slot: Ints = self._slots[number, level]
        if slot[0] < 0:
            pixels = self._load(number).level(level)
            slot[:] = self._num_pixels, *pixels.shape[:2]
            self._num_pixels += pixels.shape[0] * pixels.shape[1]
            self._waiting.append(np.ascontiguousarray(pixels).view(np.int32).reshape(-1))
        return slot

    def _load(self, number: int) -> Sprite:
        """Reads a picture and sends it through its pipeline."""
        if number not in self._loaded:
            item, scene = self._named[number]
            if isinstance(item, SceneObject):
                sprite = self.bank.scene_cutout(item)
                if self._pipelines is not None:
                    sprite = self._pipelines.cutout(sprite, scene.seed, scene.index, item.id)
            else:
                sprite = self.bank.scene_backdrop(item)
                if self._pipelines is not None:
                    sprite = self._pipelines.background(sprite, scene.seed, scene.index)
            self._loaded[number] = sprite
        return self._loaded[number]

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
            [waiting] = send_together([np.concatenate(self._waiting)], self.device)
            self.pixels[self._sent : self._num_pixels] = waiting
            self._waiting.clear()
            self._sent = self._num_pixels
        self._loaded.clear()
        return self.pixels


def send_together(arrays: Iterable[NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Arrays as tensors on a device, sent in one go, and from pinned memory, so that nobody waits for it.

    On the CPU, tensors share the arrays' memory.
    """
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    if device.type == "cpu":
        return tensors
    return unpack(pack(tensors, pinned=device.type == "cuda").to(device, non_blocking=True), tensors)


def fetch(pixels: Tensor) -> NDArray[np.uint8]:
    """Pixels from a device; from CUDA into pinned memory, which is fast and, once let go, is used again."""
    if pixels.device.type != "cuda":
        return pixels.numpy()
    return torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True).copy_(pixels).numpy()


def pack(tensors: Sequence[Tensor], pinned: bool) -> Tensor:
    """The bytes of tensors one behind the other, ``uint8 (n,)``."""
    packed = torch.empty(sum(map(_num_bytes, tensors)), dtype=torch.uint8, pin_memory=pinned)
    for tensor, place in zip(tensors, unpack(packed, tensors), strict=True):
        place.copy_(tensor)
    return packed


def unpack(packed: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """What was packed, in the shapes and types of ``like``; shares the memory."""
    found, first = [], 0
    for one in like:
        found.append(packed[first : first + one.nbytes].view(one.dtype).view(one.shape))
        first += _num_bytes(one)
    return found


def _num_bytes(tensor: Tensor) -> int:
    """Room of a tensor: its bytes, and some more, so that the next begins where numbers of any type may."""
    return -(-tensor.nbytes // 16) * 16
