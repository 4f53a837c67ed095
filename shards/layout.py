"""Which member of a tar is what: vosdata's own records, and those that others make for webdataset.

A record is the run of members that share a key: the path up to the first dot of the file name. What follows the dot
says what a member is::

    frame00000.jpg  mask00000.png     vosdata's own, with a json that has the format's keys
    00.jpg          00.png            a number: pictures are JPEG, masks PNG
    f00.jpg         m00.png           a short word and a number; also img, image, rgb, seg, label, gt, ... and f00.png
    jpg             png               one frame and its mask; also image.jpg, mask.png, ...
    json                              the record's own fields
    amodal00000.png                   another word and five digits or more: an extra of the frame of that number
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from shards.errors import DatasetError
from shards.tar import TarMember

_FRAME_WORDS = frozenset(("", "f", "fr", "frame", "i", "im", "img", "image", "rgb", "color", "colour"))
_MASK_WORDS = frozenset(("m", "mask", "seg", "segmentation", "ann", "anno", "annotation", "label", "labels", "gt"))
_MEMBER = re.compile(r"(?P<word>[a-z]*)[._-]?(?P<number>\d{1,8})?\.(?P<suffix>jpg|jpeg|png)")
_EXTRA = re.compile(r"(?P<word>[a-z]{1,7})(?P<number>\d{5,8})\.(?P<suffix>[a-z0-9]{1,3})")
_MAX_EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """One record's members by what they are."""

    key: str
    """Path up to the first dot of the file name."""

    frames: dict[int, TarMember]
    """Picture of each frame number, ascending."""

    masks: dict[int, TarMember]
    """Mask of each annotated frame number."""

    json: TarMember | None
    """The record's fields, if it has any."""

    extras: dict[str, dict[int, TarMember]]
    """Extras by name, such as ``amodal.png``, ascending, and frame number, ascending."""

    other: tuple[str, ...]
    """Endings of the members that are none of these."""

    members: tuple[TarMember, ...]
    """All of them, as they lie."""


@dataclass(slots=True)
class Recognised:
    """What was found in a set's tars, counted."""

    num_records: int = 0
    num_frames: int = 0
    num_masks: int = 0
    frame_names: Counter[str] = field(default_factory=Counter)
    """How pictures are named, with every digit as ``0``, to their number."""
    mask_names: Counter[str] = field(default_factory=Counter)
    """How masks are named."""
    extra_names: Counter[str] = field(default_factory=Counter)
    """How extras are named."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Endings of members that were left alone."""

    def add(self, layout: Layout) -> None:
        """Counts one record."""
        self.num_records += 1
        self.num_frames += len(layout.frames)
        self.num_masks += len(layout.masks)
        self.frame_names.update(_pattern(layout.key, member) for member in layout.frames.values())
        self.mask_names.update(_pattern(layout.key, member) for member in layout.masks.values())
        extras = (member for of_name in layout.extras.values() for member in of_name.values())
        self.extra_names.update(_pattern(layout.key, member) for member in extras)
        self.ignored.update(layout.other)

    def __str__(self) -> str:
        left = f"; left alone: {_listed(self.ignored)}" if self.ignored else ""
        masks = f"{self.num_masks} masks ({_listed(self.mask_names)})" if self.num_masks else "no masks"
        extras = f", extras ({_listed(self.extra_names)})" if self.extra_names else ""
        frames = f"{self.num_frames} frames ({_listed(self.frame_names)})"
        return f"{self.num_records} records, {frames}, {masks}{extras}{left}"


def is_pixel_word(word: str) -> bool:
    """Whether a word before a number means a frame or a mask."""
    return word in _FRAME_WORDS | _MASK_WORDS


def recognise_records(members: Iterable[TarMember], where: str) -> Iterator[Layout]:
    """Groups a tar's members into records and says what each member is.

    Args:
        members: in the order in which they lie.
        where: name of the tar, for messages.

    Raises:
        DatasetError: a record's members do not lie together, it has no frame, or what a member is cannot be told.
    """
    seen: set[str] = set()
    for key, group in groupby(members, key=lambda member: _split(member.name)[0]):
        run = tuple(group)
        if key in seen:
            raise DatasetError(f"{where}: the members of {key!r} do not lie together, again at byte {run[0].header}")
        seen.add(key)
        yield _Sorted(key, where).layout(run)


class _Sorted:
    """Sorts the members of one record."""

    def __init__(self, key: str, where: str) -> None:
        self._key = key
        self._where = f"{where}: record {key!r}"
        self._frames: dict[int, TarMember] = {}
        self._masks: dict[int, TarMember] = {}
        self._unclear: dict[int, tuple[TarMember, str]] = {}
        self._json: TarMember | None = None
        self._extras: dict[str, dict[int, TarMember]] = {}
        self._other: list[str] = []

    def layout(self, members: tuple[TarMember, ...]) -> Layout:
        for member in members:
            self._sort(member)
        for number, (member, word) in self._unclear.items():
            self._settle(number, member, word)
        if not self._frames:
            found = ", ".join(sorted({_split(member.name)[1] or member.name for member in members})[:8])
            raise DatasetError(
                f"{self._where} has no frame: expected members such as KEY.frame00000.jpg, KEY.00.jpg, KEY.f00.jpg or "
                f"KEY.jpg, found {found}"
            )
        alone = sorted(self._masks.keys() - self._frames.keys())
        if alone:
            raise DatasetError(
                f"{self._where} has a mask {self._masks[alone[0]].name!r} without a picture of that number"
            )
        frames = dict(sorted(self._frames.items()))
        return Layout(self._key, frames, self._masks, self._json, self._settled_extras(), tuple(self._other), members)

    def _settled_extras(self) -> dict[str, dict[int, TarMember]]:
        """Extras in order; those of no frame are left alone."""
        extras: dict[str, dict[int, TarMember]] = {}
        for name, members in sorted(self._extras.items()):
            for number, member in sorted(members.items()):
                if number in self._frames:
                    extras.setdefault(name, {})[number] = member
                else:
                    self._other.append(_split(member.name)[1])
        return extras

    def _sort(self, member: TarMember) -> None:
        ending = _split(member.name)[1].lower()
        found = _MEMBER.fullmatch(ending) or _MEMBER.fullmatch(f".{ending}")  # a bare jpg has no dot before it
        if ending == "json":
            self._json = member
        elif found is None or not is_pixel_word(found["word"]):
            self._put_extra(member, ending)
        else:
            self._put(member, found["word"], int(found["number"] or 0), found["suffix"] == "png")

    def _put_extra(self, member: TarMember, ending: str) -> None:
        found = _EXTRA.fullmatch(ending)
        if found is None or is_pixel_word(found["word"]) or member.size == 0:
            self._other.append(ending or member.name.rpartition("/")[2])
            return
        of_name = self._extras.setdefault(f"{found['word']}.{found['suffix']}", {})
        if int(found["number"]) in of_name:
            self._refuse_second(int(found["number"]), member)
        of_name[int(found["number"])] = member

    def _put(self, member: TarMember, word: str, number: int, is_png: bool) -> None:
        if word in _MASK_WORDS:
            if not is_png:
                raise DatasetError(f"{self._where}: {member.name!r} is a mask as JPEG, which cannot keep ids; use PNG")
            self._add(self._masks, number, member)
        elif not is_png:
            self._add(self._frames, number, member)
        elif number in self._unclear:
            self._refuse_second(number, member)
        else:
            self._unclear[number] = member, word

    def _settle(self, number: int, member: TarMember, word: str) -> None:
        """A PNG named like a frame is the mask of a JPEG of its number, or a frame where that is told by words."""
        if number in self._frames and number not in self._masks:
            self._masks[number] = member
        elif word or number in self._masks:
            self._add(self._frames, number, member)
        else:
            raise DatasetError(
                f"{self._where}: {member.name!r} may be a picture or a mask; name masks KEY.mask00000.png, "
                "or keep pictures as JPEG"
            )

    def _add(self, place: dict[int, TarMember], number: int, member: TarMember) -> None:
        if number in place:
            self._refuse_second(number, member)
        place[number] = member

    def _refuse_second(self, number: int, member: TarMember) -> None:
        raise DatasetError(f"{self._where}: {member.name!r} is a second one for frame {number}")


def _split(name: str) -> tuple[str, str]:
    """Key and ending of a member: before and after the first dot of its file name."""
    folder, slash, file = name.rpartition("/")
    stem, _, ending = file.partition(".")
    return folder + slash + stem, ending


def _pattern(key: str, member: TarMember) -> str:
    return "KEY" + re.sub(r"\d", "0", member.name[len(key) :])


def _listed(names: Counter[str]) -> str:
    common = [f"{name} x {count}" if len(names) > 1 else name for name, count in names.most_common(_MAX_EXAMPLES)]
    return ", ".join(common) + (", ..." if len(names) > _MAX_EXAMPLES else "")
