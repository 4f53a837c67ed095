"""What is to be drawn and what was drawn, before any pixel is touched: the rule and the snippet."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from shards.errors import ShardError
from vosdata.streaming.curriculum import Curriculum, Value, nearest_whole, read_curriculum

ObjectsMode = Literal["one", "all"]
GapUnit = Literal["frames", "seconds"]
LaterObjects = Literal["given", "void", "background"]

_ONE = Curriculum("steps", ((0, Fraction(1)),))


@dataclass(frozen=True, slots=True)
class SnippetRule:
    """What counts as a snippet."""

    num_frames: int
    """Frames in a snippet, 1 or more."""

    size: tuple[int, int]
    """Training size in pixels: height, width."""

    objects: ObjectsMode | Curriculum = "one"
    """``"one"``: one object is drawn and becomes 1. ``"all"``: ids stay as they are stored.

    A number N: up to N objects are drawn and become 1, 2, ... in the order of their ids. Objects that the first frame
    shows and that are not drawn become background.
    """

    min_object_pixels: int = 25
    """Pixels at training size that an object must show in the first frame, 1 or more."""

    gap: tuple[Curriculum, Curriculum] = (_ONE, _ONE)
    """Smallest and largest distance from each frame of a snippet to the next; drawn evenly, one for the snippet."""

    gap_unit: GapUnit = "frames"
    """What the gap counts: the record's frames, or seconds by the set's frame rate (rounded, at least one frame)."""

    reverse: float = 0.0
    """Probability with which a snippet runs backwards in time."""

    later: LaterObjects = "given"
    """What becomes of objects that the first frame does not show.

    ``"given"``: they belong to ``"all"``, and may be among the N that are drawn; the model is to be given their mask
    where they first appear (``SnippetBatch.given_masks``). Otherwise they are never drawn, and their pixels become
    ``"void"`` or ``"background"``. With ``"one"``, objects that are not drawn are background, or void if asked for.
    """

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"a snippet needs at least 1 frame, got {self.num_frames}")
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size must be (height, width) in pixels, got {self.size}")
        if isinstance(self.objects, str) and self.objects not in ("one", "all"):
            raise ValueError(f'objects must be "one", "all" or a number, got {self.objects!r}')
        if isinstance(self.objects, Curriculum) and self.objects.smallest < 1:
            raise ValueError(f"objects must be at least 1, got {self.objects.plain()}")
        if self.min_object_pixels < 1:
            raise ValueError(f"min_object_pixels must be at least 1, got {self.min_object_pixels}")
        self._check_time()

    def _check_time(self) -> None:
        if self.gap_unit not in ("frames", "seconds"):
            raise ValueError(f'gap_unit must be "frames" or "seconds", got {self.gap_unit!r}')
        low, high = self.gap
        least = 1 if self.gap_unit == "frames" else 0
        if low.smallest < least or (self.gap_unit == "seconds" and not low.smallest):
            raise ValueError(f"gap must be at least 1 frame, or more than 0 seconds, got {low.plain()}")
        if any(high.at(position) < low.at(position) for one in self.gap for position, _ in one.points):
            raise ValueError(f"gap must be (smallest, largest), got ({low.plain()}, {high.plain()})")
        if not 0 <= self.reverse <= 1:
            raise ValueError(f"reverse must be a probability, got {self.reverse}")
        if self.later not in ("given", "void", "background"):
            raise ValueError(f'later must be "given", "void" or "background", got {self.later!r}')

    def gaps_at(self, position: int, frame_rate: float | None) -> tuple[int, int]:
        """Smallest and largest gap in frames at a global position.

        Args:
            position: global position.
            frame_rate: of the shard set, frames/s; needed where gaps are in seconds.
        """
        low, high = (self._in_frames(one.at(position), frame_rate) for one in self.gap)
        return low, max(low, high)

    def lowest_gap(self, frame_rate: float | None) -> int:
        """The smallest gap in frames that is ever asked for. A record with room for it is eligible everywhere.

        Where a larger gap is asked for than a record has room for, it is lowered for that record.
        """
        return self._in_frames(self.gap[0].smallest, frame_rate)

    def _in_frames(self, gap: Fraction, frame_rate: float | None) -> int:
        if self.gap_unit == "seconds":
            if frame_rate is None:
                raise ValueError("a gap in seconds needs a frame rate")
            gap *= Fraction(frame_rate)
        return max(1, nearest_whole(gap))

    def require_frame_rate(self, name: str, frame_rate: float | None) -> None:
        """Makes sure that gaps can be counted in a shard set.

        Raises:
            ShardError: gaps are in seconds and the set's frame rate is unknown.
        """
        if self.gap_unit == "seconds" and frame_rate is None:
            raise ShardError(
                f"{name} says nothing of its frame rate, so a gap of {self.gap[0].plain()} seconds has no meaning in "
                'it; give the gap in frames (gap_unit="frames")'
            )


def read_gap(gap: Value | tuple[Value, Value]) -> tuple[Curriculum, Curriculum]:
    """Reads a gap as users write it: one value, or a pair of the smallest and the largest.

    Raises:
        TypeError: it is neither.
        ValueError: a value is no number and no curriculum (see :func:`vosdata.streaming.curriculum.read_curriculum`).
    """
    if isinstance(gap, list | tuple):
        if len(gap) != 2:
            raise ValueError(f"gap must be one value or (smallest, largest), got {gap!r}")
        return read_curriculum(gap[0], "gap"), read_curriculum(gap[1], "gap")
    one = read_curriculum(gap, "gap")
    return one, one


def read_objects(objects: ObjectsMode | Value) -> ObjectsMode | Curriculum:
    """Reads what to draw as users write it: ``"one"``, ``"all"``, or how many at most, which may change.

    Raises:
        TypeError: it is neither.
        ValueError: a value is no number and no curriculum.
    """
    return objects if isinstance(objects, str) else read_curriculum(objects, "objects")


@dataclass(frozen=True, slots=True)
class Snippet:
    """What to read, before any pixel is touched."""

    set_name: str
    """Name of the shard set."""

    record: int
    """Index of the record in its shard set."""

    sequence: str
    """Name of the sequence."""

    frames: tuple[int, ...]
    """Which frames of the record, counted from 0."""

    frame_numbers: tuple[int, ...]
    """The numbers of these frames, as the dataset published them."""

    objects: tuple[int, ...]
    """Object ids: those that were drawn, or all that the snippet's frames show (``"all"``)."""

    void_objects: tuple[int, ...] = ()
    """Ids of objects that the first frame does not show and whose pixels become void."""

    @property
    def key(self) -> str:
        """Printable name: ``davis2017/bear[10-17]#1``; ``[0-35:5]`` steps by 5, ``[0,5,15]`` steps unevenly.

        A snippet that runs backwards counts down: ``[17-10]``, ``[35-0:5]``.
        """
        ids = ",".join(map(str, self.objects))
        return f"{self.set_name}/{self.sequence}[{_span(self.frame_numbers)}]#{ids}"

    def __str__(self) -> str:
        return self.key


def _span(numbers: tuple[int, ...]) -> str:
    steps = {later - earlier for earlier, later in pairwise(numbers)}
    if len(steps) > 1:
        return ",".join(map(str, numbers))
    if not steps:
        return str(numbers[0])
    step = abs(steps.pop())
    return f"{numbers[0]}-{numbers[-1]}" + (f":{step}" if step > 1 else "")
