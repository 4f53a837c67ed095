"""Scoring a network on held-out sequences while it is trained.

Nothing here touches what training goes on with: the network's batch statistics are only read, and nothing is drawn.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from vosdata.datasets.sized import SizedVideo
from vosdata.datasets.videos import StoredVideo
from vosdata.evaluate.predictions import SequenceMasks, read_forward
from vosdata.evaluate.protocols import find_protocol
from vosdata.evaluate.score import score_sequence
from vosdata.evaluate.truth import AnnotatedVideo
from vosdata.frames import NumberedFrame
from vosdata.infer import Segmenter, segment_frames
from vosdata.models.agame import AGAME, VideoSegmenter
from vosdata.opening import open_shard_set
from vosdata.recipe import Recipe
from vosdata.training.held_out import HeldOut
from vosdata.training.interruption import InterruptedWorkError, Interruption
from vosdata.training.ranks import Ranks

PROTOCOL = "davis2017"

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class HeldOutVideo:
    """A held-out sequence."""

    folder: str
    """The shard set that holds it, as it may be shown."""

    video: SizedVideo
    """The sequence, at the size and with the frames that are scored."""


@dataclass(frozen=True, slots=True)
class SequenceJ:
    """How well the objects of one sequence were segmented."""

    set: str
    """Folder of the shard set."""

    sequence: str
    """Name of the sequence."""

    num_frames: int
    """Number of scored frames."""

    objects: dict[str, float]
    """Object id, as text, to its J: the mean over the scored frames."""

    @property
    def J(self) -> float:  # noqa: N802  (the name of the measure)
        """Mean over the objects."""
        return sum(self.objects.values()) / len(self.objects)


@dataclass(frozen=True, slots=True)
class Validation:
    """What one validation found."""

    sequences: tuple[SequenceJ, ...]
    """One for each scored sequence, in the order of the sets."""

    seconds: float
    """How long it took."""

    @property
    def num_objects(self) -> int:
        """Scored objects."""
        return sum(len(one.objects) for one in self.sequences)

    @property
    def J(self) -> float:  # noqa: N802
        """Mean over all objects, as the benchmarks count it."""
        return sum(value for one in self.sequences for value in one.objects.values()) / self.num_objects


class Predicting:
    """A network's predictions, made while they are scored; a :class:`vosdata.evaluate.predictions.Predictions`."""

    def __init__(self, make_segmenter: Callable[[], Segmenter], interruption: Interruption) -> None:
        """Takes a function that makes a fresh segmenter for each sequence, and what is asked after each frame."""
        self.make_segmenter, self.interruption = make_segmenter, interruption

    def open(self, video: AnnotatedVideo) -> SequenceMasks:
        """Segments one sequence frame by frame, as far as masks are asked for, in rising order."""
        if not isinstance(video, SizedVideo):
            raise TypeError(f"expected a held-out video with frames, got {type(video).__name__}")
        return read_forward(self._segment(video))

    def _segment(self, video: SizedVideo) -> Iterator[tuple[int, Picture]]:
        """Yields place and mask of each frame."""
        prepare = find_protocol(PROTOCOL).prepare_truth
        places = {number: t for t, number in enumerate(video.frame_numbers)}

        def annotation(number: int) -> Picture | None:
            mask = video.mask(places[number])
            return None if mask is None else prepare(mask)

        frames = (NumberedFrame(number, video.frame(t)) for number, t in places.items())
        for t, segmented in enumerate(segment_frames(self.make_segmenter(), frames, annotation)):
            yield t, segmented.mask
            self.interruption.check()


def open_held_out(held_out: Sequence[HeldOut], recipe: Recipe) -> tuple[HeldOutVideo, ...]:
    """The held-out sequences, ready to be scored."""
    size = recipe.data.size if recipe.validation.size == "training" else None
    return tuple(
        HeldOutVideo(
            str(stored.path), SizedVideo(StoredVideo(stored, record, None), size, recipe.validation.max_frames)
        )
        for one in held_out
        for stored in (open_shard_set(one.folder),)
        for record in one.records
    )


def validate(
    network: AGAME, videos: Sequence[HeldOutVideo], ranks: Ranks, half: bool, interruption: Interruption
) -> Validation | None:
    """Scores a network in training; ranks share the sequences, and all of them get the whole result.

    The result is the same on any number of ranks: each has rank 0's weights and batch statistics.

    Args:
        network: in training mode, in which it is left.
        videos: the sequences, the same on every rank.
        ranks: the trainers.
        half: whether convolutions run in bfloat16.
        interruption: asked after each frame.

    Returns:
        What was found; None where a rank was interrupted.
    """
    started = time.perf_counter()
    ranks.share_buffers(network)
    segmenter = partial(VideoSegmenter, network, autocast=torch.bfloat16 if half else None)
    predictions = Predicting(segmenter, interruption)
    own: list[SequenceJ] | None = None
    network.eval()
    try:
        own = [_score(video, predictions) for video in videos[ranks.rank :: ranks.num_ranks]]
    except InterruptedWorkError:
        pass  # the other ranks hear of it below
    finally:
        network.train()
    shares = ranks.gather(own)
    if None in shares:
        return None
    scored = [shares[i % ranks.num_ranks][i // ranks.num_ranks] for i in range(len(videos))]
    return Validation(tuple(one for one in scored if one.objects), time.perf_counter() - started)


def _score(held_out: HeldOutVideo, predictions: Predicting) -> SequenceJ:
    """Scores one sequence; without objects where, at its size, its first mask shows none."""
    scores = score_sequence(held_out.video, predictions, find_protocol(PROTOCOL)).objects
    objects = {str(score.object_id): score.j.mean for score in scores}
    return SequenceJ(held_out.folder, held_out.video.name, scores[0].num_frames if scores else 0, objects)
