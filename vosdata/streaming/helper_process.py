"""The process that decodes for a trainer. Imports neither torch nor anything of the trainer's own program.

It fills slots of a ring with several threads, and knows the trainer by two pipes only:

* ``orders`` (trainer to helper): first settings, that is fillers and a schedule, which start the decoding; then 4-byte
  numbers of slots that may be filled. New settings start it anew, somewhere else. The pipe's end means that the trainer
  has closed the stream or is gone.
* ``answers`` (helper to trainer): an :data:`ANSWER` header and a text. For settings, that it is ready or cannot start;
  then, for each batch in order, its slot with what its places were filled with as JSON, or with the error that kept it
  from being made.

A trainer that is killed takes its end of the pipe with it, and the helper ends. Copies of that end may live on in
processes that the trainer forked, so the helper also looks once a second whether its parent is still the trainer.
(A signal at the parent's death would not do: Linux sends it when the *thread* that started the helper ends.)
"""

import contextlib
import gc
import json
import os
import pickle
import select
import struct
import sys
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from shards.errors import VosDataError
from vosdata.streaming.engine import BatchQueue, Filler, RawBatch, Schedule, start_threads, unfilled
from vosdata.streaming.ring import RingLayout, map_ring

PERMIT = struct.Struct("<I")
"""Slot number, or :data:`SETTINGS`."""

SETTINGS = 2**32 - 1
"""Stands where a slot number could; the length of pickled :class:`HelperSettings` and they themselves follow."""

LENGTH = struct.Struct("<Q")
"""Length of settings in bytes."""

ANSWER = struct.Struct("<iiI")
"""Kind, slot number, length of the text that follows."""

READY, FILLED, FAILED, ENDING = 0, 1, 2, 3
"""Kinds of answers: about to decode; the text is JSON of what places were filled with, an exception, or a last word."""

NO_SLOT = -1
"""Slot number of an answer to settings."""

_CHECK_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class HelperSettings:
    """What a helper is told when it starts and whenever the stream jumps; pickled."""

    fillers: Sequence[Filler]
    """One for each decode thread."""

    schedule: Schedule
    """Which positions the batches hold."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """File descriptors that a helper inherits."""

    ring: int
    """Memory of the ring."""

    orders: int
    """Reading end."""

    answers: int
    """Writing end."""


class _RingMemory:
    """Makes batches out of the slots that the trainer permits to fill."""

    def __init__(self, ring: NDArray[np.uint8], layout: RingLayout) -> None:
        self._ring = ring
        self._layout = layout
        self.num_slots = layout.num_slots
        self.permitted = deque[int]()
        self.opened = deque[int]()
        """Slots of the batches that were begun and not yet answered, in order."""

    def new_batch(self, positions: range) -> RawBatch | None:
        if not self.permitted:
            return None
        slot = self.permitted.popleft()
        self.opened.append(slot)
        return RawBatch(positions, *self._layout.arrays(self._ring[slot]), unfilled(positions))


class _Orders:
    """Reads what the trainer sends."""

    def __init__(self, descriptor: int, trainer: int) -> None:
        self._descriptor = descriptor
        self._trainer = trainer
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def next_order(self) -> int | bytes | None:
        """A slot number, pickled settings, or None when the trainer has closed the pipe or is gone."""
        data = self._read(PERMIT.size)
        if data is None:
            return None
        (slot,) = PERMIT.unpack(data)
        if slot != SETTINGS:
            return int(slot)
        length = self._read(LENGTH.size)
        return None if length is None else self._read(*LENGTH.unpack(length))

    def _read(self, size: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            if os.getppid() != self._trainer:
                return None
            if self._poll.poll(_CHECK_MILLISECONDS):
                part = os.read(self._descriptor, size - len(parts))
                if not part:
                    return None
                parts += part
        return bytes(parts)


def main(descriptors: Descriptors, layout: RingLayout, trainer: int) -> None:
    """Runs a helper until its trainer is gone; never returns.

    Args:
        descriptors: what it inherited.
        layout: of the ring.
        trainer: process id of the trainer.
    """
    try:
        ring = map_ring(descriptors.ring, layout)
        os.close(descriptors.ring)
        orders = _Orders(descriptors.orders, trainer)
        order = orders.next_order()
        while isinstance(order, bytes):
            order = _decode(order, orders, _RingMemory(ring, layout), descriptors.answers)
    except BrokenPipeError:
        pass  # the trainer is gone
    except BaseException as error:
        end_with(error, descriptors.answers)
    os._exit(0)  # at once: nothing here is worth tidying up, and decode threads may be at work


def _decode(pickled: bytes, orders: _Orders, memory: _RingMemory, answers: int) -> int | bytes | None:
    """Decodes by some settings; returns the first order that is no permit."""
    try:
        settings: HelperSettings = pickle.loads(pickled)  # from our own parent
    except Exception as error:  # the trainer raises it: the settings may need what only the trainer's program has
        _answer(answers, FAILED, NO_SLOT, _pickled(error))
        return orders.next_order()
    del pickled
    gc.freeze()  # what is here now stays for good, so looking through it for garbage again and again is in vain
    _keep_to_one_thread()
    deliver = partial(_deliver, memory=memory, answers=answers)
    queue = BatchQueue(memory, settings.schedule, memory.num_slots, deliver)
    _answer(answers, READY, NO_SLOT, b"")
    threads = start_threads(queue, settings.fillers)
    while isinstance(order := orders.next_order(), int):
        memory.permitted.append(order)
        queue.wake()
    if order is not None:
        queue.close()
        for thread in threads:
            thread.join()
    return order


def _keep_to_one_thread() -> None:
    """Keeps OpenCV from starting threads of its own: there is a decode thread for each core already."""
    cv2 = sys.modules.get("cv2")
    if cv2 is not None:
        cv2.setNumThreads(1)


def _deliver(batch: RawBatch, error: BaseException | None, memory: _RingMemory, answers: int) -> None:
    """Answers with a batch; ends the process when that fails."""
    try:
        slot = memory.opened.popleft()
        if error is None:
            _answer(answers, FILLED, slot, json.dumps(batch.filled).encode())
        else:  # a snippet's error, whatever it is, belongs to the consumer
            _answer(answers, FAILED, slot, _pickled(error))
    except BrokenPipeError:
        os._exit(0)  # the trainer is gone
    except BaseException as problem:
        end_with(problem, answers)


def end_with(error: BaseException, answers: int) -> NoReturn:
    """Ends the process, and says why."""
    traceback.print_exception(error)
    with contextlib.suppress(OSError):
        _answer(answers, ENDING, NO_SLOT, traceback.format_exception_only(error)[-1].strip().encode())
    os._exit(1)


def _answer(descriptor: int, kind: int, slot: int, text: bytes) -> None:
    data = memoryview(ANSWER.pack(kind, slot, len(text)) + text)
    while data:
        data = data[os.write(descriptor, data) :]


def _pickled(error: BaseException) -> bytes:
    """An exception as bytes, with its traceback as a note unless it speaks for itself; surely one that can be read."""
    if not isinstance(error, VosDataError):
        error.add_note("in the helper process:\n" + "".join(traceback.format_exception(error)))
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # anything may be wrong with an exception class of somebody else
        stand_in = RuntimeError(f"{type(error).__name__}: {error}")
        for note in error.__notes__:
            stand_in.add_note(note)
        return pickle.dumps(stand_in)
    return data
