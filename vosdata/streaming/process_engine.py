"""Decode threads in a helper process of their own, which fill a ring of batches that both processes share.

A trainer whose main thread is busy in Python cannot slow such an engine: its threads and ours share no interpreter
lock. Batches are handed over by slot numbers over pipes; pixels are never copied nor pickled.

A batch that is handed over keeps its slot until the last array or tensor that looks into it is gone, and a further slot
is given to the helper for every batch that is taken. A consumer who keeps more batches than the ring has slots to lend
gets copies from then on, so a kept batch never changes and the helper never starves.
"""

import contextlib
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shards.errors import HelperError
from vosdata.streaming.engine import BatchMemory, EngineClosedError, Filled, Filler, RawBatch, Schedule, lend, unfilled
from vosdata.streaming.helper_process import ANSWER, ENDING, FAILED, LENGTH, NO_SLOT, PERMIT, SETTINGS, HelperSettings
from vosdata.streaming.ring import RingLayout, create_ring, map_ring

_NUM_LENT = 3
"""Slots beyond those in flight: one with the consumer, one on its way to the GPU, one just being let go."""

_CHECK_MILLISECONDS = 1000
"""How long to wait for an answer before looking whether the helper is still there."""

_READ_SIZE = 16384
"""Bytes to ask for at once; an answer has some hundred."""

_END_SECONDS = 5.0
"""How long a helper may take to end before it is killed."""

_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""Keeps the C library from giving the memory of an inflated mask back to the system after each: to get it again costs
some 80 fresh pages at 480x864, many times what the inflating costs."""

# -P keeps files of the current folder from being taken for modules before the trainer's own path is set
_START = """
import sys
sys.path[:] = {path!r}
try:
    from vosdata.streaming.helper_process import Descriptors, main
    from vosdata.streaming.ring import RingLayout
except Exception as error:
    import os, struct
    text = f"{{type(error).__name__}}: {{error}}".encode()
    os.write({descriptors!r}[2], struct.pack({answer!r}, {ending}, 0, len(text)) + text)
    raise
main(Descriptors{descriptors!r}, {layout!r}, {trainer})
"""


class Pinning(Protocol):
    """Lets a device read batch memory in the background; see :mod:`vosdata.streaming.pinning`."""

    def register(self, memory: NDArray[np.uint8]) -> None:
        """Prepares memory, as long as it exists."""

    def fence(self) -> Callable[[], object]:
        """Marks what the device has been asked to read so far; returns a call that waits for it."""


def _no_wait() -> None:
    """The fence where no device reads."""


class _Helper:
    """A running helper process and the trainer's ends of its pipes."""

    def __init__(self, ring: int, layout: RingLayout) -> None:
        self.owner = os.getpid()
        self.closed = False
        self._sending = threading.RLock()
        self._receiving = threading.Lock()
        self._received = bytearray()
        self._last_words = ""
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        os.set_blocking(self._answers, False)
        given = (ring, orders, answers)
        try:
            code = _START.format(
                path=sys.path,
                descriptors=given,
                layout=layout,
                trainer=self.owner,
                answer=ANSWER.format,
                ending=ENDING,
            )
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=given,
                env={**_ALLOCATOR, **os.environ},
                process_group=0,  # Ctrl-C is for the trainer alone
            )
        except BaseException:
            os.close(self._orders)
            os.close(self._answers)
            raise
        finally:
            os.close(orders)
            os.close(answers)
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)

    def permit(self, slot: int) -> None:
        """Lets the helper fill a slot."""
        self._send(PERMIT.pack(slot))

    def configure(self, pickled: bytes) -> None:
        """Lets the helper start with settings, or start anew with other ones."""
        self._send(PERMIT.pack(SETTINGS) + LENGTH.pack(len(pickled)) + pickled)

    def _send(self, data: bytes) -> None:
        """Writes to the helper. Nothing happens when it is gone or closed; the next answer says so."""
        rest = memoryview(data)
        with self._sending, contextlib.suppress(BrokenPipeError):
            while rest and not self.closed:
                rest = rest[os.write(self._orders, rest) :]

    def answer(self) -> tuple[int, int, bytes]:
        """Waits for the helper's next answer: kind, slot, text. Remembers why it ends, if it says so.

        Raises:
            HelperError: the helper has died.
            EngineClosedError: it was closed.
        """
        with self._receiving:
            while not self.closed:
                if len(self._received) >= ANSWER.size:
                    kind, slot, length = ANSWER.unpack_from(self._received)
                    end = ANSWER.size + length
                    if len(self._received) >= end:
                        text = bytes(self._received[ANSWER.size : end])
                        del self._received[:end]
                        if kind != ENDING:
                            return kind, slot, text
                        self._last_words = f" ({text.decode(errors='replace')})"
                self._receive()
            raise EngineClosedError("the engine is closed")

    def _receive(self) -> None:
        """Waits for more of the helper's answers.

        Reads before it looks whether there is anything to read: where another thread of the trainer is busy, every
        call to the system can cost a turn at the interpreter lock.
        """
        while not self.closed:
            try:
                part = os.read(self._answers, _READ_SIZE)
            except BlockingIOError:
                # a process forked off the helper might hold the pipe open, so the pipe's end alone is not enough
                if not self._poll.poll(_CHECK_MILLISECONDS) and self.process.poll() is not None:
                    raise HelperError(self._obituary()) from None
                continue
            if part:
                self._received += part
                return
            if not self.closed:
                raise HelperError(self._obituary())

    def _obituary(self) -> str:
        """How the helper ended, in words."""
        try:
            code = self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return f"the process that decodes for the stream (pid {self.process.pid}) does not answer any more"
        how = f"ended with status {code}{self._last_words}"
        if code < 0:
            how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
            if -code == signal.SIGKILL:
                how += ", as the system does when memory runs out"
        return (
            f"the process that decodes for the stream (pid {self.process.pid}) {how}; no batch that was handed over is "
            "affected, and iterating again starts a new one at the same place"
        )

    def close(self) -> None:
        """Ends the helper and waits until it is gone. In a forked copy of the trainer, only lets go of the pipes."""
        if os.getpid() != self.owner:  # locks may be held here for ever
            if not self.closed:
                self.closed = True
                os.close(self._orders)
                os.close(self._answers)
            return
        with self._sending:
            if self.closed:
                return
            self.closed = True
            os.close(self._orders)
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with self._receiving:  # who is waiting for an answer now gets the end of the pipe
            os.close(self._answers)


class ProcessEngine:
    """Decode threads in a helper process. Use as a context manager, or call :meth:`close`."""

    def __init__(
        self,
        fillers: Sequence[Filler],
        shape: tuple[int, int, int, int],
        schedule: Schedule,
        prefetch: int,
        pinning: Pinning | None = None,
    ) -> None:
        """Starts the helper and waits until it is about to decode.

        Args:
            fillers: one for each thread; picklable, of classes that a fresh interpreter can import.
            shape: (B, T, H, W) of a batch.
            schedule: which positions the batches hold.
            prefetch: batches that may be begun before they are asked for, 1 or more.
            pinning: for a device that reads batches straight from batch memory.

        Raises:
            HelperError: this system cannot run a helper, or it could not be given the fillers.
            ValueError: there is no filler, or no batch may be begun.
            VosDataError: a shard set cannot be opened any more.
        """
        if not fillers or prefetch < 1:
            raise ValueError(f"an engine needs at least 1 thread and 1 batch, got {len(fillers)} and {prefetch}")
        self._layout = RingLayout(shape, prefetch + _NUM_LENT)
        self._prefetch = prefetch
        self._pinning = pinning
        self._taking = threading.RLock()
        self._copies = BatchMemory(shape, _NUM_LENT)
        # free slots, with a call that waits until no device reads them any more; append and popleft are atomic
        self._free = deque[tuple[int, Callable[[], object]]]((slot, _no_wait) for slot in range(self._layout.num_slots))
        self._permitted = set[int]()
        settings = _pickled(HelperSettings(fillers, schedule))
        self._ring, self._helper = _start(self._layout)
        self._stop = weakref.finalize(self, self._helper.close)
        if pinning is not None:
            pinning.register(self._ring)
        try:
            self._configure(settings, schedule)
        except BaseException:
            self.close()
            raise

    def restart(self, fillers: Sequence[Filler], schedule: Schedule) -> None:
        """Goes on elsewhere, in the helper that is there already. Batches handed over before stay valid.

        Args:
            fillers: as for a new engine.
            schedule: which positions the batches hold from now on.

        Raises:
            As a new engine does.
        """
        self._configure(_pickled(HelperSettings(fillers, schedule)), schedule)

    def _configure(self, settings: bytes, schedule: Schedule) -> None:
        with self._taking:
            self._helper.configure(settings)
            kind, slot, text = self._helper.answer()
            while slot != NO_SLOT:
                kind, slot, text = self._helper.answer()  # a batch from before, which nobody wants any more
            if kind == FAILED:
                problem: BaseException = pickle.loads(text)
                if isinstance(problem, AttributeError | ImportError):
                    raise HelperError(
                        f"the helper process cannot read the settings of the stream: {problem}"
                    ) from problem
                raise problem
            self._schedule, self._step = schedule, 0
            self._free.extend((slot, _no_wait) for slot in self._permitted)
            self._permitted.clear()
            for _ in range(self._prefetch):
                self._permit(*self._free.popleft())

    def _permit(self, slot: int, wait: Callable[[], object]) -> None:
        wait()
        self._permitted.add(slot)
        self._helper.permit(slot)

    @property
    def mine(self) -> bool:
        """False in a process that was forked off the one that started the engine; the engine is of no use there."""
        return os.getpid() == self._helper.owner

    @property
    def pid(self) -> int:
        """Process id of the helper."""
        return self._helper.process.pid

    def next_batch(self) -> RawBatch:
        """The next batch in order, waiting for it if need be.

        Raises:
            EngineClosedError: the engine is closed.
            HelperError: the helper has died.
            VosDataError: a snippet of the batch could not be read; the message names it. Other errors of a decode
                thread arrive as they were raised.
        """
        with self._taking:
            kind, slot, text = self._helper.answer()
            self._permitted.remove(slot)
            positions = self._schedule.positions(self._step)
            self._step += 1
            if kind == FAILED:
                self._permit(slot, _no_wait)
                raise pickle.loads(text)
            try:
                free = self._free.popleft()
            except IndexError:
                batch, free = self._copy(slot, positions), (slot, _no_wait)
            else:
                batch = self._lend(slot, positions)
            self._permit(*free)
        batch.filled[:] = (Filled(*one) for one in json.loads(text))
        return batch

    def close(self) -> None:
        """Ends the helper and waits until it is gone. Batches handed over before stay valid."""
        self._stop()

    def __enter__(self) -> "ProcessEngine":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _lend(self, slot: int, positions: range) -> RawBatch:
        memory = lend(self._ring[slot], partial(_give_back, self._free, slot, self._pinning))
        frames, masks, annotated = self._layout.arrays(memory)
        # flags are copied: someone who keeps them alone shall not keep the whole batch
        return RawBatch(positions, frames, masks, annotated.copy(), unfilled(positions))

    def _copy(self, slot: int, positions: range) -> RawBatch:
        batch = self._copies.new_batch(positions)
        for ours, theirs in zip(
            (batch.frames, batch.masks, batch.annotated), self._layout.arrays(self._ring[slot]), strict=True
        ):
            ours[:] = theirs
        return batch


def _give_back(free: deque[tuple[int, Callable[[], object]]], slot: int, pinning: Pinning | None) -> None:
    """Called when the last one who looked at a slot is gone."""
    free.append((slot, _no_wait if pinning is None else pinning.fence()))


def _pickled(settings: HelperSettings) -> bytes:
    try:
        return pickle.dumps(settings, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise HelperError(f"the settings of the stream cannot be sent to a helper process: {error}") from error


def _start(layout: RingLayout) -> tuple[NDArray[np.uint8], _Helper]:
    """Makes the ring and starts a helper."""
    if not (hasattr(os, "memfd_create") and sys.executable):
        raise HelperError("a helper process needs Linux and a Python that can be started again")
    try:
        descriptor = create_ring(layout)
        try:
            return map_ring(descriptor, layout), _Helper(descriptor, layout)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HelperError(f"a helper process cannot be started: {error}") from error
