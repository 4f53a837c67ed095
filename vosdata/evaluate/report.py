"""A score as values, as JSON and as a table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from vosdata.evaluate.statistics import Statistics, average


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """The score of one object in one sequence."""

    sequence: str
    """Name of the sequence."""

    object_id: int
    """Id in the truth's masks (1 where all objects are scored as one)."""

    num_frames: int
    """Number of scored frames."""

    j: Statistics
    """Region similarity."""

    f: Statistics
    """Boundary measure."""

    @property
    def j_and_f(self) -> float:
        """J&F: mean of the two means."""
        return (self.j.mean + self.f.mean) / 2


@dataclass(frozen=True, slots=True)
class Score:
    """The score of a set of predictions. Everything is a fraction, 0..1."""

    protocol: str
    """Whose rules: ``"davis2016"`` or ``"davis2017"``."""

    objects: tuple[ObjectScore, ...]
    """One score per object, sequence by sequence."""

    warnings: tuple[str, ...] = ()
    """What the reader of the score should know, one line each."""

    @property
    def j(self) -> Statistics:
        """Region similarity, averaged over objects."""
        return average([item.j for item in self.objects])

    @property
    def f(self) -> Statistics:
        """Boundary measure, averaged over objects."""
        return average([item.f for item in self.objects])

    @property
    def j_and_f(self) -> float:
        """J&F: mean of the two means."""
        return (self.j.mean + self.f.mean) / 2

    def sequences(self) -> tuple["Score", ...]:
        """The score of each sequence on its own, averaged over its objects."""
        grouped = groupby(self.objects, key=lambda item: item.sequence)
        return tuple(Score(self.protocol, tuple(items)) for _, items in grouped)

    def to_json(self) -> dict[str, Any]:
        """The score as JSON-serialisable values, in full precision."""
        sequences = self.sequences()
        return {
            "protocol": self.protocol,
            "num_sequences": len(sequences),
            "num_objects": len(self.objects),
            **_measures(self),
            "sequences": [{"sequence": item.objects[0].sequence, **_measures(item)} for item in sequences],
            "objects": [
                {"sequence": item.sequence, "object": item.object_id, "frames": item.num_frames, **_measures(item)}
                for item in self.objects
            ],
            "warnings": list(self.warnings),
        }


def _measures(item: Score | ObjectScore) -> dict[str, Any]:
    return {"J&F": item.j_and_f, "J": asdict(item.j), "F": asdict(item.f)}


HEADER = ("sequence", "object", "J&F", "J mean", "J recall", "J decay", "F mean", "F recall", "F decay")


def score_rows(score: Score) -> list[tuple[str, ...]]:
    """The score as rows of text under :data:`HEADER`: each object, each sequence of several objects, the whole."""
    rows: list[tuple[str, ...]] = []
    for sequence in score.sequences():
        rows.extend(_row(item.sequence, str(item.object_id), item) for item in sequence.objects)
        if len(sequence.objects) > 1:
            rows.append(_row(sequence.objects[0].sequence, "mean", sequence))
    rows.append(_row(f"{score.protocol}", f"all {len(score.objects)}", score))
    return rows


def _row(sequence: str, label: str, item: Score | ObjectScore) -> tuple[str, ...]:
    values = (item.j_and_f, item.j.mean, item.j.recall, item.j.decay, item.f.mean, item.f.recall, item.f.decay)
    return (sequence, label, *(f"{value:.3f}" for value in values))


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligns rows of text in columns: the first one to the left, the others to the right."""
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (header, *rows)
    )
