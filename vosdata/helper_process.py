"""The process that decodes for a trainer. Imports neither torch nor anything of the trainer's own program.

It gets its fillers once, fills slots of the ring with several threads, and knows the trainer by two pipes only:

* ``permits`` (trainer to helper): 4-byte numbers of slots that may be filled. Its end means that the trainer has closed
  the stream or is gone.
* ``answers`` (helper to trainer): an :data:`ANSWER` header and a text. First, that it is ready or cannot start; then,
  for each batch in order, its slot with the snippet keys as JSON, or with the error that kept it from being made.

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
import threading
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shards.errors import VosDataError
from vosdata.engine import BatchQueue, Filler, RawBatch, Schedule, start_threads
from vosdata.ring import RingLayout, map_ring

PERMIT = struct.Struct("<I")
"""Slot number."""

ANSWER = struct.Struct("<iiI")
"""Kind, slot number, length of the text that follows."""

READY, FILLED, FAILED = 0, 1, 2
"""Kinds of answers: about to decode; the text is a JSON list of keys; the text is a pickled exception."""

_CHECK_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class HelperSettings:
    """What a helper is told when it starts, pickled once."""

    fillers: Sequence[Filler]
    """One for each decode thread."""

    layout: RingLayout
    """Of the shared batch memory."""

    schedule: Schedule
    """Which positions the batches hold."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """File descriptors that a helper inherits."""

    settings: int
    """Pickled :class:`HelperSettings`."""

    ring: int
    """Memory of the ring."""

    permits: int
    """Reading end."""

    answers: int
    """Writing end."""


class _RingMemory:
    """Makes batches out of the slots that the trainer permits to fill."""

    def __init__(self, ring: NDArray[np.uint8], layout: RingLayout) -> None:
        self._ring = ring
        self._layout = layout
        self.permitted = deque[int]()
        self.opened = deque[int]()
        """Slots of the batches that were begun and not yet answered, in order."""

    def new_batch(self, positions: range) -> RawBatch | None:
        if not self.permitted:
            return None
        slot = self.permitted.popleft()
        self.opened.append(slot)
        return RawBatch(positions, *self._layout.arrays(self._ring[slot]), [""] * len(positions))


def main(descriptors: Descriptors, trainer: int) -> None:
    """Runs a helper until its trainer is gone; never returns.

    Args:
        descriptors: what it inherited.
        trainer: process id of the trainer.
    """
    with contextlib.suppress(BrokenPipeError):  # the trainer is gone
        _run(descriptors, trainer)
    os._exit(0)  # at once: nothing here is worth tidying up, and decode threads may be at work


def _run(descriptors: Descriptors, trainer: int) -> None:
    """Decodes until the trainer is gone."""
    try:
        with os.fdopen(descriptors.settings, "rb") as file:
            settings: HelperSettings = pickle.load(file)  # from our own parent, through memory that only we share
        memory = _RingMemory(map_ring(descriptors.ring, settings.layout), settings.layout)
        os.close(descriptors.ring)
    except Exception as error:  # the trainer raises it: the settings may need what only the trainer's program has
        _answer(descriptors.answers, FAILED, 0, _pickled(error))
        return
    queue = BatchQueue(memory, settings.schedule, settings.layout.num_slots)
    gc.freeze()  # what is here now stays for good, so looking through it for garbage again and again is in vain
    _answer(descriptors.answers, READY, 0, b"")
    _keep_to_one_thread()
    start_threads(queue, settings.fillers)
    threading.Thread(target=_deliver, args=(queue, memory, descriptors.answers), daemon=True).start()
    _take_permits(queue, memory, descriptors.permits, trainer)


def _keep_to_one_thread() -> None:
    """Keeps OpenCV from starting threads of its own: there is a decode thread for each core already."""
    cv2 = sys.modules.get("cv2")
    if cv2 is not None:
        cv2.setNumThreads(1)


def _take_permits(queue: BatchQueue, memory: _RingMemory, permits: int, trainer: int) -> None:
    """Passes permits on until the trainer has closed the pipe or is gone."""
    poll = select.poll()
    poll.register(permits, select.POLLIN)
    while os.getppid() == trainer:
        if not poll.poll(_CHECK_MILLISECONDS):
            continue
        data = os.read(permits, 1024 * PERMIT.size)  # 4 bytes are always written, so always read, as a whole
        if not data:
            return
        memory.permitted.extend(slot for (slot,) in PERMIT.iter_unpack(data))
        queue.wake()


def _deliver(queue: BatchQueue, memory: _RingMemory, answers: int) -> None:
    """Answers with the batches in order; ends the process when that fails."""
    try:
        while True:
            try:
                keys = queue.next_batch().keys
            except BaseException as error:  # a snippet's error, whatever it is, belongs to the consumer
                _answer(answers, FAILED, memory.opened.popleft(), _pickled(error))
            else:
                _answer(answers, FILLED, memory.opened.popleft(), json.dumps(keys).encode())
    except BrokenPipeError:
        os._exit(0)  # the trainer is gone
    except BaseException:
        traceback.print_exc()
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
