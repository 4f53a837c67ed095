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

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from vosdata.batch import SnippetBatch
from vosdata.decode import SnippetDecoder
from vosdata.engine import RawBatch, Schedule, ThreadEngine
from vosdata.mix import OrderSettings, SetsArgument, SnippetOrder, open_sets
from vosdata.sampling import ObjectsMode, Snippet, SnippetRule, common_size
from vosdata.transforms import Augmentation, open_augmentation


class SnippetStream:
    """An endless, resumable stream of snippets; each iteration over it runs to the end of the epoch.

    A stream is its own cursor: it remembers where it is, and a loop that was left early goes on from there. Decode
    threads start with the first batch and go on across epochs until :meth:`close` (or the end of a ``with`` block).
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
        objects: ObjectsMode = "one",
        epoch_size: int | None = None,
        shuffle: bool = True,
        flip: bool = False,
        augment: Any = None,
        min_object_pixels: int = 25,
        prefetch: int | None = None,
    ) -> None:
        """Opens the shard sets and finds what can be drawn; decodes nothing yet.

        Args:
            sets: path of a shard set; or several paths, weighed by their numbers of eligible records, so that each
                record is drawn equally often; or a mapping from path to weight (weights need not sum to 1; they are
                kept exactly where a common denominator up to 65,536 allows).
            snippet: T, frames of a snippet.
            size: training size (height, width); frames stored at another size are resized, without keeping the aspect
                ratio. None: the size at which all records are stored.
            batch: B, snippets of a batch on this rank.
            seed: 0 <= seed < 2**64.
            rank: this trainer among ``num_ranks``.
            num_ranks: trainers that share every global batch.
            threads: decode threads.
            objects: ``"one"``: one random object is the target (1), others are background. ``"all"``: ids as stored;
                an object that appears after the first frame is in the masks from then on.
            epoch_size: positions in an epoch; None: one pass, as many as there are eligible records.
            shuffle: False takes records in stored order, first eligible frame and lowest object id, for validation.
            flip: mirror each snippet left to right with probability one half.
            augment: an albumentations transform, or the path of a file that ``albumentations.save`` wrote; run once
                for each snippet at training size, with the same draw for all of its frames.
            min_object_pixels: pixels at training size that an object must show in the first frame.
            prefetch: batches that are begun before they are asked for; None: two, and enough for every thread.

        Raises:
            ShardError: a path holds no complete shard set, or a set has no eligible snippet.
            RecipeError: the augmentation file cannot be used.
            TypeError: an argument has the wrong type.
            ValueError: an argument is out of range.
        """
        for name, value in (("batch", batch), ("num_ranks", num_ranks), ("threads", threads), ("prefetch", prefetch)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= rank < num_ranks:
            raise ValueError(f"rank must lie in [0, {num_ranks}), got {rank}")
        opened, weights = open_sets(sets)
        rule = SnippetRule(
            snippet, common_size(opened) if size is None else (size[0], size[1]), objects, min_object_pixels
        )
        self._order = SnippetOrder(opened, weights, OrderSettings(rule, seed, epoch_size, shuffle, flip))
        self._augmentation: Augmentation | None = None if augment is None else open_augmentation(augment, snippet)
        self._batch, self._rank, self._num_ranks = batch, rank, num_ranks
        self._threads = threads
        self._prefetch = prefetch or 2 + -(-threads // batch)
        self._next = 0  # global position at which the next global batch starts
        self._engine: ThreadEngine | None = None

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
                if self._engine is None:
                    self._engine = self._start_engine()
                raw = self._engine.next_batch()
            except BaseException:
                self.close()
                raise
            self._next += self._batch * self._num_ranks
            yield self._to_tensors(raw)

    def snippet(self, position: int) -> Snippet:
        """What stands at a global position (epoch x epoch_size + place), without decoding it.

        Raises:
            ValueError: the position is negative.
        """
        return self._order.draw(position).snippet

    def keys(self, positions: Iterable[int]) -> list[str]:
        """The snippet keys at global positions, without decoding anything.

        Raises:
            ValueError: a position is negative.
        """
        return [self.snippet(position).key for position in positions]

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is and what determines its order, as small JSON.

        Taken after a batch was received, it continues with the batch behind it. It fits a stream of any number of
        ranks and threads and any batch size, and is the same on all ranks.
        """
        augment = None if self._augmentation is None else self._augmentation.digest
        return {"epoch": self.epoch, "position": self.position, **self._order.description, "augment": augment}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where a state was taken.

        Args:
            state: from :meth:`state_dict`, possibly through JSON.

        Raises:
            ValueError: the state belongs to another order; the message names the difference.
        """
        difference = _difference(dict(state), self.state_dict())
        if difference:
            raise ValueError(f"the state belongs to another stream: {difference}")
        self.close()
        self._next = state["epoch"] * self.epoch_size + state["position"]

    def close(self) -> None:
        """Stops the decode threads. Received batches stay valid; iterating again goes on at the same place."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def __enter__(self) -> "SnippetStream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_engine": None}

    def __repr__(self) -> str:
        names = ", ".join(shard_set.name for shard_set in self._order.sets)
        return f"SnippetStream({names}; epoch {self.epoch}, position {self.position} of {self.epoch_size})"

    def _start_engine(self) -> ThreadEngine:
        """Starts threads at the current position."""
        shape = (self._batch, self._order.settings.rule.num_frames, *self.size)
        schedule = Schedule(self._next, self._batch, self._rank, self._num_ranks)
        fillers = [SnippetDecoder(self._order, self._augmentation) for _ in range(self._threads)]
        return ThreadEngine(fillers, shape, schedule, self._prefetch)

    def _to_tensors(self, raw: RawBatch) -> SnippetBatch:
        """Shows the arrays as tensors; copies nothing."""
        epoch, position = divmod(raw.positions[0], self.epoch_size)
        frames = torch.from_numpy(raw.frames).permute(0, 1, 4, 2, 3)  # (B, T, H, W, 3) -> (B, T, 3, H, W)
        masks, annotated = torch.from_numpy(raw.masks), torch.from_numpy(raw.annotated)
        return SnippetBatch(frames, masks, annotated, raw.keys, epoch, position)


def _difference(saved: dict[str, Any], own: dict[str, Any]) -> str:
    """What keeps a saved state from fitting a stream, in words; empty when it fits."""
    if set(saved) != set(own):
        return f"expected the keys {sorted(own)}, got {sorted(saved)}"
    for key in own.keys() - {"epoch", "position", "sets"}:
        if saved[key] != own[key]:
            return f"{key} was {saved[key]!r}, here it is {own[key]!r}"
    if saved["sets"] != own["sets"]:
        return f"shard sets were {_named(saved['sets'])}, here they are {_named(own['sets'])}"
    for key, limit in (("epoch", None), ("position", own["epoch_size"])):
        value = saved[key]
        if not isinstance(value, int) or value < 0 or (limit is not None and value >= limit):
            return f"{key} {value!r} is out of range"
    return ""


def _named(sets: list[dict[str, str]]) -> str:
    return ", ".join(f"{one['name']} (weight {one['weight']}, content {one['content']})" for one in sets)
