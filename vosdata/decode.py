"""Reads drawn snippets out of their shards into batch memory."""

import numpy as np
from numpy.typing import NDArray

from shards.errors import VosDataError
from shards.rng import digest_coordinates
from shards.types import VOID
from vosdata.mix import Draw, SnippetOrder
from vosdata.transforms import Augmentation, mirror, only_object, resize_frame, resize_mask


class SnippetDecoder:
    """Fills one place of a batch at a time. Belongs to one thread: it keeps its own scratch memory and pipeline."""

    def __init__(self, order: SnippetOrder, augmentation: Augmentation | None) -> None:
        """Remembers what to decode; opens nothing yet.

        Args:
            order: says what stands at a position.
            augmentation: run on every snippet; copied, because it must not be shared between threads.
        """
        self._order = order
        self._augmentation = None if augmentation is None else augmentation.copy()
        self._frame_scratch = np.empty(0, np.uint8)
        self._mask_scratch = np.empty(0, np.uint8)

    def fill(
        self, position: int, frames: NDArray[np.uint8], masks: NDArray[np.uint8], annotated: NDArray[np.bool_]
    ) -> str:
        """Decodes the snippet at a global position.

        Args:
            position: global position.
            frames: ``uint8 (T, H, W, 3)`` to fill, C-contiguous.
            masks: ``uint8 (T, H, W)`` to fill, C-contiguous; unannotated frames become 255 all over.
            annotated: ``bool (T,)`` to fill.

        Returns:
            The snippet's key.

        Raises:
            VosDataError: the snippet cannot be read; the message ends with its key and position.
        """
        draw = self._order.draw(position)
        try:
            self._read(draw, frames, masks, annotated)
            if draw.flip:
                mirror(frames, masks)
            if self._augmentation is not None:
                digest = digest_coordinates(self._order.settings.seed, draw.epoch, draw.place, "augment")
                self._augmentation.apply(frames, masks, int.from_bytes(digest[:4], "little"))
                masks[~annotated] = VOID  # what was moved in from outside is as unknown as the rest
        except VosDataError as error:
            raise type(error)(f"{error} (snippet {draw.snippet.key} at position {position})") from error
        except Exception as error:  # any failure must say which snippet it was, whatever thread it happened in
            error.add_note(f"while reading snippet {draw.snippet.key} at position {position}")
            raise
        return draw.snippet.key

    def _read(
        self, draw: Draw, frames: NDArray[np.uint8], masks: NDArray[np.uint8], annotated: NDArray[np.bool_]
    ) -> None:
        shard_set, snippet, entry = self._order.sets[draw.set_index], draw.snippet, draw.entry
        stored = (entry.height, entry.width)
        for t, frame in enumerate(snippet.frames):
            if stored == frames.shape[1:3]:
                shard_set.image(snippet.record, frame, frames[t], entry)
            else:
                resize_frame(shard_set.image(snippet.record, frame, self._frame(*stored), entry), frames[t])
            annotated[t] = entry.annotated[frame]
            if not annotated[t]:
                masks[t] = VOID
                continue
            if stored == masks.shape[1:]:
                shard_set.mask(snippet.record, frame, masks[t], entry)
            else:
                mask = self._mask(*stored)
                shard_set.mask(snippet.record, frame, mask, entry)
                resize_mask(mask, masks[t])
            if self._order.settings.rule.objects == "one":
                only_object(masks[t], snippet.objects[0])

    def _frame(self, height: int, width: int) -> NDArray[np.uint8]:
        """Scratch ``uint8 (height, width, 3)``, the same memory each time."""
        size = height * width * 3
        if len(self._frame_scratch) < size:
            self._frame_scratch = np.empty(size, np.uint8)
        return self._frame_scratch[:size].reshape(height, width, 3)

    def _mask(self, height: int, width: int) -> NDArray[np.uint8]:
        """Scratch ``uint8 (height, width)``, the same memory each time."""
        size = height * width
        if len(self._mask_scratch) < size:
            self._mask_scratch = np.empty(size, np.uint8)
        return self._mask_scratch[:size].reshape(height, width)
