"""Streams batches of snippets out of shard sets, in an order that nothing but its settings determines.

    stream = SnippetStream({"data/shards/davis2017": 0.5, "data/shards/synthvos": 0.5}, size=(240, 432))
    for epoch in range(80):
        for batch in stream:
            ...

Number of ranks, threads and batch size only cut the one order into pieces; they never change which snippets are drawn.
Global batch k holds the positions k R B to (k + 1) R B - 1 for R ranks of batch B, counted from where the stream was
started or resumed; rank r takes its r-th run of B. Batches are always full and may straddle two epochs; iterating ends
with the batch that reaches the end of the epoch, after the same number of batches on every rank, and the next
iteration goes on behind it.
"""

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from shards.errors import HelperError
from shards.remote.location import locate, shown
from vosdata.batch import SnippetBatch
from vosdata.scene_set import SceneSet
from vosdata.streaming.curriculum import Value
from vosdata.streaming.decode import ReadAhead, SnippetDecoder
from vosdata.streaming.eligibility import common_size
from vosdata.streaming.engine import Engine, Filler, RawBatch, Schedule, ThreadEngine
from vosdata.streaming.mix import AnySet, OrderSettings, SetsArgument, SnippetOrder, WindowMode, open_sets
from vosdata.streaming.pinning import cuda_pinning
from vosdata.streaming.process_engine import ProcessEngine
from vosdata.streaming.snippet import GapUnit, LaterObjects, ObjectsMode, Snippet, SnippetRule, read_gap, read_objects
from vosdata.streaming.state import describe_state, go_on
from vosdata.streaming.tickets import TicketWriter
from vosdata.streaming.transforms import Augmentation, open_augmentation
from vosdata.synth_stream import Painter

EngineName = Literal["auto", "process", "threads"]
OnDamage = Literal["stop", "replace"]

MAX_STAND_INS = 10
"""Snippets tried in place of a damaged one; a set in which so many are damaged is not to be trained on."""


class SnippetStream:
    """An endless, resumable stream of snippets; each iteration over it runs to the end of the epoch.

    A stream is its own cursor: it remembers where it is, and a loop that was left early goes on from there. Decoding
    starts with the first batch, in a helper process with several threads, and goes on across epochs until :meth:`close`
    (or the end of a ``with`` block).
    """

    def __init__(
        self,
        sets: SetsArgument,
        *,
        snippet: int = 8,
        size: tuple[int, int] | None = None,
        batch: int = 4,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        threads: int = 2,
        objects: ObjectsMode | Value = "one",
        epoch_size: int | None = None,
        shuffle: bool = True,
        flip: bool = False,
        augment: Any = None,
        min_object_pixels: int = 25,
        prefetch: int | None = None,
        engine: EngineName = "auto",
        gap: Value | tuple[Value, Value] = 1,
        gap_unit: GapUnit = "frames",
        reverse: float = 0.0,
        later: LaterObjects = "given",
        shuffle_window: int | WindowMode = "auto",
        on_damage: OnDamage = "stop",
        exclude: Mapping[str, Collection[str]] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Opens the shard sets and finds what can be drawn; decodes nothing yet.

        Weights, ``objects`` and ``gap`` may change over the global positions: see
        :mod:`vosdata.streaming.curriculum`. The length of snippets shapes the batches and stays; to change it, go on
        with another stream (:meth:`load_state_dict` with ``allow_changes``).

        Args:
            sets: path or URL of a shard set, or ``synth:...`` for synthetic videos without end that are rendered on the
                fly (:mod:`vosdata.scene_set` says how they are named), or a set that is open already (with a cache of
                its own, for one); or several of these, weighed by their numbers of eligible records, so that each
                record is drawn equally often; or a mapping from them to weights (which need not sum to 1; they are kept
                exactly where a common denominator up to 65,536 allows; one that changes may be 0 for a while).
            snippet: T, frames of a snippet.
            size: training size (height, width); frames stored at another size are resized, without keeping the aspect
                ratio. None: the size at which all records are stored.
            batch: B, snippets of a batch on this rank.
            seed: 0 <= seed < 2**64.
            rank: this trainer among ``num_ranks``.
            num_ranks: trainers that share every global batch.
            threads: decode threads.
            objects: ``"one"``: one random object is the target (1), others are background. ``"all"``: ids as stored.
                N: up to N random objects are the targets (1, 2, ... in the order of their ids), others are background.
            epoch_size: positions in an epoch; None: one pass, as many as there are eligible records.
            shuffle: False takes records in stored order, first eligible frame and lowest object id, for validation.
            flip: mirror each snippet left to right with probability one half.
            augment: an albumentations transform, or the path of a file that ``albumentations.save`` wrote; run once
                for each snippet at training size, with the same draw for all of its frames.
            min_object_pixels: pixels at training size that an object must show in the first frame.
            prefetch: batches that are begun before they are asked for; None: two, and enough for every thread.
            engine: where the decode threads run; the batches are the same. ``"process"``: in a helper process, so that
                a busy trainer cannot slow them. ``"threads"``: in this process. ``"auto"``: in a helper process, or
                here, with a warning that says why, where that is impossible.
            gap: from each frame of a snippet to the next; a pair is the smallest and largest, drawn evenly for each
                snippet. A record has to have room for the smallest gap ever asked for; one that is too short for a
                larger gap is drawn with the largest that it has room for.
            gap_unit: ``"frames"`` of the record, or ``"seconds"`` by each set's frame rate.
            reverse: probability with which a snippet runs backwards. A record in which none can start so runs forwards.
            later: what becomes of objects that the snippet's first frame does not show: ``"given"``: they are in the
                masks from where they appear, and :meth:`SnippetBatch.given_masks` shows them there; ``"void"`` or
                ``"background"``: their pixels become that. With ``"one"`` and with N, ``"given"`` and ``"background"``
                both leave objects that were not drawn in the background.
            shuffle_window: shuffle the records of this many shards at a time, so that few are open or cached; or of
                ``"all"`` shards. ``"auto"``: of all, but of 8 at a time in a set whose shards are fetched into a cache.
            on_damage: what happens where a snippet's bytes are not what was written. ``"stop"``: the error is raised.
                ``"replace"``: another snippet of the same set stands in for it, the same one on any number of ranks and
                threads, and :attr:`SnippetBatch.problems` says why; ten damaged ones in a row are an error.
            exclude: path of a set, as in ``sets``, to names of sequences that are never drawn from it, such as those
                that are held out for validation. Names that the set does not have are passed over.
            device: where batches are, and where synthetic videos are rendered; None leaves batches in the memory that
                they were decoded into (pinned where CUDA is there) and renders there.

        Raises:
            ShardError: a path holds no complete shard set, a set has no eligible snippet, or its frame rate is needed
                and unknown.
            RecipeError: the augmentation file cannot be used.
            TypeError: an argument has the wrong type.
            SourceError: synthetic videos have no source of pictures.
            ValueError: an argument is out of range, or ``augment`` is asked for of synthetic videos.
        """
        for name, value in (("batch", batch), ("num_ranks", num_ranks), ("threads", threads), ("prefetch", prefetch)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= rank < num_ranks:
            raise ValueError(f"rank must lie in [0, {num_ranks}), got {rank}")
        if on_damage not in ("stop", "replace"):
            raise ValueError(f'on_damage must be "stop" or "replace", got {on_damage!r}')
        if engine not in ("auto", "process", "threads"):
            raise ValueError(f'engine must be "auto", "process" or "threads", got {engine!r}')
        opened, weights = open_sets(sets)
        rule = SnippetRule(
            snippet,
            common_size(opened) if size is None else (size[0], size[1]),
            read_objects(objects),
            min_object_pixels,
            read_gap(gap),
            gap_unit,
            reverse,
            later,
        )
        order_settings = OrderSettings(rule, seed, epoch_size, shuffle, flip, shuffle_window)
        self._order = SnippetOrder(opened, weights, order_settings, _excluded(opened, exclude or {}))
        self._augmentation: Augmentation | None = None if augment is None else open_augmentation(augment, snippet)
        if self._augmentation is not None and self._synthetic:
            raise ValueError("augment works on decoded pictures, and those of synth: are rendered; leave it out")
        self._device = None if device is None else torch.device(device)
        self._painter: Painter | None = None
        self._batch, self._rank, self._num_ranks = batch, rank, num_ranks
        self._threads = threads
        self._max_stand_ins = MAX_STAND_INS if on_damage == "replace" else 0
        self._prefetch = prefetch or 2 + -(-threads // batch)
        self._next = 0  # global position at which the next global batch starts
        self._engine_name = engine
        self._engine: Engine | None = None
        self._jumped = False  # since the engine was started

    @property
    def size(self) -> tuple[int, int]:
        """Training size: height, width."""
        return self._order.settings.rule.size

    @property
    def epoch_size(self) -> int:
        """Positions in an epoch, over all ranks."""
        return self._order.epoch_size

    @property
    def epoch(self) -> int:
        """Epoch of the next global batch."""
        return self._next // self.epoch_size

    @property
    def position(self) -> int:
        """Place in that epoch at which the next global batch starts."""
        return self._next % self.epoch_size

    def __len__(self) -> int:
        """Number of batches that the next iteration yields."""
        return -(-(self.epoch_size - self.position) // (self._batch * self._num_ranks))

    def __iter__(self) -> Iterator[SnippetBatch]:
        """Yields the batches up to the end of the epoch."""
        end = (self.epoch + 1) * self.epoch_size
        while self._next < end:
            try:
                raw = self._running_engine().next_batch()
            except BaseException:
                self.close()
                raise
            self._next += self._batch * self._num_ranks
            yield self._to_tensors(raw)

    def positions(self, batch: SnippetBatch) -> range:
        """The global positions (epoch x epoch_size + place) of a batch's snippets."""
        first = batch.epoch * self.epoch_size + batch.position
        return range(first, first + len(batch))

    def snippet(self, position: int) -> Snippet:
        """What stands at a global position, without decoding it.

        Raises:
            ValueError: the position is negative, or was drawn under settings that were changed since.
        """
        return self._order.draw(position).snippet

    def keys(self, positions: Iterable[int]) -> list[str]:
        """The snippet keys at global positions, without decoding anything.

        Raises:
            ValueError: a position is negative, or was drawn under settings that were changed since.
        """
        return [self.snippet(position).key for position in positions]

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is and what determines its order, as small JSON.

        Taken after a batch was received, it continues with the batch behind it. It fits a stream of any number of
        ranks and threads and any batch size, and is the same on all ranks.
        """
        return describe_state(self._order, self._next, self._augment_digest)

    def load_state_dict(self, state: Mapping[str, Any], *, allow_changes: bool = False) -> None:
        """Continues where a state was taken.

        Args:
            state: from :meth:`state_dict`, possibly through JSON.
            allow_changes: let this stream's own settings (sets, weights, curricula, snippet and the rest) hold from the
                state's position on where they differ. What was drawn before stays drawn: passes over the sets go on
                where they were, unless other records have become eligible; then the next pass begins. Seed and epoch
                size stay those of the state; an ``epoch_size`` of None takes the state's.

        Raises:
            ValueError: the state belongs to another order; the message names the difference.
        """
        order = go_on(self._order, state, self._augment_digest, allow_changes)
        self._order = order
        self._next = state["epoch"] * self.epoch_size + state["position"]
        self._jumped = True

    @property
    def _augment_digest(self) -> str | None:
        return None if self._augmentation is None else self._augmentation.digest

    @property
    def helper_pid(self) -> int | None:
        """Id of the process that decodes; None while there is none."""
        return self._engine.pid if isinstance(self._engine, ProcessEngine) else None

    def close(self) -> None:
        """Stops decoding. Received batches stay valid; iterating again goes on at the same place."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def __enter__(self) -> "SnippetStream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_engine": None, "_painter": None}

    def __repr__(self) -> str:
        names = ", ".join(shard_set.name for shard_set in self._order.sets)
        return f"SnippetStream({names}; epoch {self.epoch}, position {self.position} of {self.epoch_size})"

    @property
    def _synthetic(self) -> bool:
        """Whether some of the sets are rendered."""
        return any(isinstance(one, SceneSet) for one in self._order.sets)

    def _running_engine(self) -> Engine:
        """The engine, at work at the current position."""
        engine, jumped, self._jumped = self._engine, self._jumped, False
        if engine is not None and engine.mine and not jumped:
            return engine
        schedule = Schedule(self._next, self._batch, self._rank, self._num_ranks)
        num_ahead = max(2 * self._threads, *(shard_set.num_ahead for shard_set in self._order.sets))
        ahead = ReadAhead(self._order, schedule, num_ahead)
        decoders: list[Filler] = [
            SnippetDecoder(ahead, self._augmentation, self._max_stand_ins) for _ in range(self._threads)
        ]
        if self._synthetic:
            decoders = [TicketWriter(ahead, decoder) for decoder in decoders]
        if isinstance(engine, ProcessEngine) and engine.mine:
            engine.restart(decoders, schedule)  # a new process would take longer
        else:
            self.close()
            self._engine = engine = self._start_engine(decoders, schedule)
        return engine

    def _start_engine(self, decoders: list[Filler], schedule: Schedule) -> Engine:
        """Starts decoding."""
        shape = (self._batch, self._order.settings.rule.num_frames, *self.size)
        if self._engine_name != "threads":
            try:
                return ProcessEngine(decoders, shape, schedule, self._prefetch, cuda_pinning())
            except HelperError as error:
                if self._engine_name == "process":
                    raise
                warnings.warn(f"decoding in threads of this process instead: {error}", RuntimeWarning, stacklevel=3)
        return ThreadEngine(decoders, shape, schedule, self._prefetch)

    def _to_tensors(self, raw: RawBatch) -> SnippetBatch:
        """Shows the arrays as tensors, which copies nothing; brings them to the device and renders what is missing."""
        epoch, position = divmod(raw.positions[0], self.epoch_size)
        frames = torch.from_numpy(raw.frames).permute(0, 1, 4, 2, 3)  # (B, T, H, W, 3) -> (B, T, 3, H, W)
        masks, annotated = torch.from_numpy(raw.masks), torch.from_numpy(raw.annotated)
        problems = {place: one.problem for place, one in enumerate(raw.filled) if one.problem}
        batch = SnippetBatch(frames, masks, annotated, raw.keys, epoch, position, problems)
        if self._synthetic:
            if self._painter is None:
                self._painter = Painter(self._order.sets, self.size, self._device or torch.device("cpu"))
            return self._painter.paint(batch)
        return batch if self._device is None else batch.to(self._device, non_blocking=True)


def _excluded(sets: Sequence[AnySet], exclude: Mapping[str, Collection[str]]) -> list[Collection[str]]:
    """The excluded sequences of each set.

    Raises:
        ValueError: something is excluded from a set that is not there.
    """
    places = {path: locate(path) for path in exclude}
    named = {str(place) if isinstance(place, Path) else shown(place): exclude[path] for path, place in places.items()}
    strangers = sorted(named.keys() - {str(shard_set.path) for shard_set in sets})
    if strangers:
        raise ValueError(f"exclude names sets that are not drawn from: {', '.join(strangers)}")
    return [named.get(str(shard_set.path), ()) for shard_set in sets]
