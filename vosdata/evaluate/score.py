"""Scores predictions against the truth, frame by frame: memory does not grow with the length of a video."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shards.errors import ScoreError
from vosdata.evaluate.measures import boundary_radius, common_box, measure_object
from vosdata.evaluate.predictions import Predictions, SequenceMasks
from vosdata.evaluate.protocols import EvaluationProtocol, find_protocol, mask_ids
from vosdata.evaluate.report import ObjectScore, Score
from vosdata.evaluate.statistics import summarise
from vosdata.evaluate.truth import AnnotatedVideo

Mask = NDArray[np.uint8]

MIN_ANNOTATED_FRAMES = 3
"""The first and the last annotated frame are not scored, so two leave nothing."""


def score_videos(
    videos: Iterable[AnnotatedVideo],
    predictions: Predictions,
    protocol: str = "davis2017",
    progress: Callable[[int], None] | None = None,
) -> Score:
    """Scores predictions of several sequences.

    Sequences that the protocol cannot score (fewer than three annotated frames, no object in the first one) are left
    out and named in the warnings.

    Args:
        videos: the truth.
        predictions: where the predicted masks come from, e.g. a :class:`PredictionFolder`.
        protocol: ``"davis2016"`` or ``"davis2017"``.
        progress: called with the number of sequences done, after each.

    Raises:
        ScoreError: a prediction is missing, has another size or unknown ids, or nothing can be scored.
        ValueError: there is no such protocol.
    """
    rule = find_protocol(protocol)
    objects: list[ObjectScore] = []
    warnings: list[str] = []
    all_identical = True
    for done, video in enumerate(videos, start=1):
        result = score_sequence(video, predictions, rule)
        objects.extend(result.objects)
        warnings.extend(result.warnings)
        all_identical = all_identical and result.identical
        if progress is not None:
            progress(done)
    if not objects:
        raise ScoreError(f"{rule.name}: no sequence can be scored" + "".join(f"; {text}" for text in warnings[:3]))
    if all_identical:
        warnings.append("every prediction equals the truth pixel for pixel: is this the truth itself?")
    return Score(protocol=rule.name, objects=tuple(objects), warnings=tuple(warnings))


@dataclass(frozen=True, slots=True)
class SequenceResult:
    """What scoring one sequence gave."""

    objects: tuple[ObjectScore, ...] = ()
    """One score per object; none when the protocol cannot score the sequence."""

    identical: bool = True
    """Whether each scored frame's prediction equals its truth."""

    warnings: tuple[str, ...] = ()
    """What the reader of the score should know, one line each."""


def score_sequence(video: AnnotatedVideo, predictions: Predictions, protocol: EvaluationProtocol) -> SequenceResult:
    """Scores one sequence.

    Raises:
        ScoreError: a prediction is missing, has another size or unknown ids.
    """
    annotated = _annotated_frames(video, protocol)
    first = next(annotated, None)
    if first is None:
        return SequenceResult(warnings=(f"{video.name}: not scored, no frame is annotated",))
    tally = _Tally(video, protocol, first[1])
    if not tally.object_ids:
        return SequenceResult(warnings=(f"{video.name}: not scored, its first annotated frame shows no object",))
    masks: SequenceMasks | None = None
    pending: tuple[int, Mask] | None = None  # one frame behind, because the last annotated frame is not scored
    for t, truth in annotated:
        if pending is not None:
            masks = masks or predictions.open(video)
            tally.add(*pending, masks(pending[0]))
        tally.see_truth(truth)
        pending = t, truth
    return tally.result()


def _annotated_frames(video: AnnotatedVideo, protocol: EvaluationProtocol) -> Iterator[tuple[int, Mask]]:
    """Yields place and annotation of each annotated frame, as the protocol sees them."""
    for t in range(video.num_frames):
        mask = video.mask(t)
        if mask is not None:
            yield t, protocol.prepare_truth(mask)


@dataclass(slots=True)
class _Tally:
    """Collects the values of one sequence while its frames pass by."""

    video: AnnotatedVideo
    protocol: EvaluationProtocol
    first_truth: Mask
    object_ids: range = field(init=False)
    values: dict[int, list[tuple[float, float]]] = field(init=False)
    truth_ids: set[int] = field(init=False)
    unscored_ids: dict[int, int] = field(init=False, default_factory=dict)
    identical: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        self.object_ids = self.protocol.object_ids(self.first_truth)
        self.values = {object_id: [] for object_id in self.object_ids}
        self.truth_ids = set(mask_ids(self.first_truth))

    def see_truth(self, truth: Mask) -> None:
        """Notes which objects the truth has, scored or not."""
        self.truth_ids.update(mask_ids(truth))

    def add(self, t: int, truth: Mask, predicted: Mask) -> None:
        """Measures the objects of one frame."""
        prediction = self._checked(t, truth, predicted)
        self.identical = self.identical and np.array_equal(truth, prediction)
        radius = boundary_radius(truth.shape[0], truth.shape[1])
        box = common_box(truth, prediction)
        if box is not None:
            truth, prediction = truth[box], prediction[box]
        predicted_ids = set(mask_ids(prediction))
        for object_id in predicted_ids.difference(self.object_ids):
            self.unscored_ids.setdefault(object_id, self.video.frame_numbers[t])
        shown = predicted_ids.union(mask_ids(truth))
        for object_id, values in self.values.items():
            if object_id in shown:
                values.append(measure_object(truth == object_id, prediction == object_id, tolerance=radius))
            else:
                values.append((1.0, 1.0))  # absent from both: two empty regions agree

    def _checked(self, t: int, truth: Mask, predicted: Mask) -> Mask:
        place = f"{self.protocol.name}: prediction of {self.video.name} frame {self.video.frame_numbers[t]:05d}"
        if predicted.shape != truth.shape:
            found, expected = ("x".join(str(side) for side in mask.shape) for mask in (predicted, truth))
            raise ScoreError(
                f"{place} is {found}, its truth is {expected}. Nothing is resized: predict at the resolution of the "
                "annotations."
            )
        try:
            return self.protocol.prepare_prediction(predicted)
        except ScoreError as error:
            raise ScoreError(f"{place} {error}") from error

    def result(self) -> SequenceResult:
        """Sums up the sequence once all frames have passed.

        Raises:
            ScoreError: a frame predicts an id that the truth does not have anywhere.
        """
        name = self.video.name
        if not self.values[self.object_ids[0]]:
            return SequenceResult(
                warnings=(f"{name}: not scored, it has fewer than {MIN_ANNOTATED_FRAMES} annotated frames",)
            )
        for object_id, number in sorted(self.unscored_ids.items()):
            if object_id not in self.truth_ids:
                raise ScoreError(
                    f"{self.protocol.name}: prediction of {name} frame {number:05d} has the id {object_id}, but the "
                    f"truth has {len(self.object_ids)} object(s), ids 1 to {self.object_ids[-1]}. Write object ids as "
                    "palette indices, not as colours."
                )
        late = ", ".join(str(object_id) for object_id in sorted(self.unscored_ids))
        warnings = (
            (f"{name}: object {late} joins after the first frame, so its prediction is not scored",) if late else ()
        )
        return SequenceResult(tuple(self._object_score(i) for i in self.object_ids), self.identical, warnings)

    def _object_score(self, object_id: int) -> ObjectScore:
        values = np.array(self.values[object_id])  # (T, 2): J and F
        return ObjectScore(
            sequence=self.video.name,
            object_id=object_id,
            num_frames=len(values),
            j=summarise(values[:, 0]),
            f=summarise(values[:, 1]),
        )
