"""Reads drawn snippets out of their shards into batch memory."""

import numpy as np
from numpy.typing import NDArray

from shards.errors import DamageError, VosDataError
from shards.rng import digest_coordinates
from shards.types import VOID
from vosdata.streaming.engine import Filled, Schedule
from vosdata.streaming.mix import Draw, SnippetOrder
from vosdata.streaming.sampling import new_labels
from vosdata.streaming.shards_ahead import ShardsAhead
from vosdata.streaming.transforms import Augmentation, mirror, relabel, resize_frame, resize_mask

_DRAWN_TOGETHER = 16
"""Snippets that are drawn at a time: the first costs three times as much as the others, while the caches are cold."""


class ReadAhead:
    """Draws snippets some places before they are decoded, so that the system can fetch their bytes meanwhile.

    One for all threads of an engine.
    """

    def __init__(self, order: SnippetOrder, schedule: Schedule, num_snippets: int) -> None:
        """Remembers what to read.

        Args:
            order: says what stands at a position.
            schedule: which positions come.
            num_snippets: how far ahead to read.
        """
        self.order = order
        self._shards = ShardsAhead(order, schedule)
        self._schedule = schedule
        self._num_snippets = num_snippets
        self._drawn: dict[int, Draw] = {}  # setting and popping an item are atomic

    def draw(self, position: int) -> Draw:
        """What stands at a global position of the schedule; also begins to fetch a later one."""
        self._shards.look(position)
        if self._schedule.number(position) % _DRAWN_TOGETHER == 0:
            for number in range(_DRAWN_TOGETHER):
                self._fetch(self._schedule.later(position, self._num_snippets + number))
        draw = self._drawn.pop(position, None)
        return self.order.draw(position) if draw is None else draw

    def _fetch(self, position: int) -> None:
        try:
            draw = self.order.draw(position)
        except VosDataError:
            return  # raised when its turn comes
        shard_set, frames = self.order.sets[draw.set_index], draw.snippet.frames
        shard_set.read_ahead(draw.entry, min(frames), max(frames))
        self._drawn[position] = draw


class SnippetDecoder:
    """Fills one place of a batch at a time. Belongs to one thread: it keeps its own scratch memory and pipeline."""

    def __init__(self, ahead: ReadAhead, augmentation: Augmentation | None, max_stand_ins: int = 0) -> None:
        """Remembers what to decode; opens nothing yet.

        Args:
            ahead: says what stands at a position; shared by the threads of an engine.
            augmentation: run on every snippet; copied, because it must not be shared between threads.
            max_stand_ins: how many other snippets to try where one is damaged.
        """
        self._max_stand_ins = max_stand_ins
        self._ahead = ahead
        self._order = ahead.order
        self._augmentation = None if augmentation is None else augmentation.copy()
        self._frame_scratch = np.empty(0, np.uint8)
        self._mask_scratch = np.empty(0, np.uint8)

    def fill(
        self, position: int, frames: NDArray[np.uint8], masks: NDArray[np.uint8], annotated: NDArray[np.bool_]
    ) -> Filled:
        """Decodes the snippet at a global position, or one that stands in for it where that is damaged.

        Args:
            position: global position.
            frames: ``uint8 (T, H, W, 3)`` to fill, C-contiguous.
            masks: ``uint8 (T, H, W)`` to fill, C-contiguous; unannotated frames become 255 all over.
            annotated: ``bool (T,)`` to fill.

        Raises:
            VosDataError: the snippet cannot be read; the message ends with its key and position.
        """
        draw, problem = self._ahead.draw(position), ""
        for attempt in range(1, self._max_stand_ins + 1):
            try:
                return Filled(self._fill(draw, frames, masks, annotated), problem)
            except DamageError as error:  # nothing else is replaced: a store out of reach is no property of the data
                problem = problem or str(error)
                draw = self._order.stand_in(position, attempt)
        return Filled(self._fill(draw, frames, masks, annotated), problem)

    def _fill(
        self, draw: Draw, frames: NDArray[np.uint8], masks: NDArray[np.uint8], annotated: NDArray[np.bool_]
    ) -> str:
        """Decodes a snippet and returns its key; raises as :meth:`fill`."""
        position = draw.position
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
        shard_set, snippet, entry = self._order.stored_set(draw), draw.snippet, draw.entry
        stored = (entry.height, entry.width)
        same_size = stored == frames.shape[1:3]
        rule = self._order.settings.rule
        only = snippet.objects[0] if rule.objects == "one" and not snippet.void_objects else None
        labels = new_labels(snippet, rule) if only is None else None
        if only == 1 and len(entry.object_ids) == 1:
            only = None  # the stored masks are what is wanted
        annotated[:] = entry.annotated[list(snippet.frames)]
        masks[~annotated] = VOID
        if same_size:
            shard_set.decode(entry, snippet.frames, frames, masks, only)
        else:
            self._read_resized(draw, frames, masks, only)
        if labels is not None:
            for t in np.flatnonzero(annotated):
                relabel(masks[t], labels)

    def _read_resized(self, draw: Draw, frames: NDArray[np.uint8], masks: NDArray[np.uint8], only: int | None) -> None:
        """Reads frames one by one through scratch memory of their stored size."""
        shard_set, record, entry = self._order.stored_set(draw), draw.snippet.record, draw.entry
        stored = (entry.height, entry.width)
        for t, frame in enumerate(draw.snippet.frames):
            resize_frame(shard_set.image(record, frame, self._frame(*stored), entry), frames[t])
            mask = shard_set.mask(record, frame, self._mask(*stored), entry, only)
            if mask is not None:
                resize_mask(mask, masks[t])

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
