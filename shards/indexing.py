"""Turns one record's tar members into its row of the index, checking what the format promises."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.codec import crc32c, image_size, image_suffix
from shards.errors import BadFileError, DamageError, DatasetError
from shards.format import (
    BLOCK,
    END_OF_TAR,
    RECORD_KEYS,
    extra_member,
    image_member,
    json_member,
    mask_member,
    padding,
)
from shards.index import IndexEntry
from shards.layout import Layout
from shards.masks import PNG_SIGNATURE, MaskStats, decode_mask, object_stats, png_chunks
from shards.objects import ObjectTable
from shards.tar import TarMember
from shards.types import VOID
from shards.writer import key_of, tar_header


class MaskCensus:
    """Which values the masks of a set hold, to tell ids from black and white."""

    def __init__(self) -> None:
        self._objects = 0
        self._void_only = 0

    def add(self, mask: NDArray[np.uint8], stats: MaskStats) -> None:
        """Counts one mask."""
        self._objects += len(stats.ids)
        self._void_only += len(stats.ids) == 0 and bool((mask == VOID).any())

    def check(self, where: object) -> None:
        """Refuses masks that hold nothing but 0 and 255.

        Raises:
            DatasetError: they do.
        """
        if self._void_only and not self._objects:
            raise DatasetError(
                f"{where}: the masks hold no values but 0 and 255, and 255 means void (truth unknown), not an object. "
                "Write object ids from 1, or unpack the tars and pack the folders with vosdata shard"
            )


class RecordIndexer:
    """Makes the rows of one shard, record by record as they lie.

    Args:
        data: the whole shard.
        shard: its number.
        where: its name, for messages.
        is_foreign: others made it, so that names and headers need not be vosdata's own.
        census: counts the masks' values.
    """

    def __init__(self, data: memoryview, shard: int, where: str, is_foreign: bool, census: MaskCensus) -> None:
        self._data = data
        self._shard = shard
        self._where = where
        self._is_foreign = is_foreign
        self._census = census
        self._end = 0
        self.num_sealed = 0
        """Pictures, masks and extras so far that carry checksums of their own, which were right: PNG files."""
        self.num_unsealed = 0
        """Members so far that carry none, such as JPEG files: damage inside them may go unseen."""

    def looks_own(self, layout: Layout) -> bool:
        """Whether a record's JSON has the keys that vosdata writes."""
        fields = self._fields(layout)
        return all(key in fields for key in RECORD_KEYS)

    def entry(self, layout: Layout) -> IndexEntry:
        """The row of the record that comes next.

        Raises:
            DamageError: a record of vosdata's own is not as the format says.
            DatasetError: pictures or masks of others cannot be used.
        """
        fields = self._fields(layout)
        size, objects = self._pixels(layout)
        self._check_seals(layout)
        if not self._is_foreign:
            self._check_own(layout, fields, size, objects)
        annotated = [number in layout.masks for number in layout.frames]
        images = self._spans(list(layout.frames.values()))
        masks = self._spans([layout.masks.get(number) for number in layout.frames])
        described = layout.json if fields else None
        text = {key: fields[key] if isinstance(fields.get(key), str) else "" for key in RECORD_KEYS}
        json_span = self._spans([described])
        of_frames = [[members.get(number) for number in layout.frames] for members in layout.extras.values()]
        extras = self._spans([member for row in of_frames for member in row])
        extras = extras.reshape(3, len(of_frames), len(layout.frames) if of_frames else 0)
        return IndexEntry(
            key=layout.key,
            sequence=self._sequence(text["sequence"], layout.key),
            shard=self._shard,
            height=size[0],
            width=size[1],
            source=text["source"],
            licence=text["licence"],
            provenance=text["provenance"],
            json_offset=int(json_span[0, 0]),
            json_size=int(json_span[1, 0]),
            json_crc=int(json_span[2, 0]),
            frame_numbers=np.array(list(layout.frames), np.int64),
            annotated=np.array(annotated),
            image_offsets=images[0],
            image_sizes=images[1].astype(np.int32),
            image_crcs=images[2].astype(np.uint32),
            mask_offsets=masks[0],
            mask_sizes=masks[1].astype(np.int32),
            mask_crcs=masks[2].astype(np.uint32),
            object_ids=objects.ids,
            areas=objects.areas,
            boxes=objects.boxes,
            extra_names=tuple(layout.extras),
            extra_offsets=extras[0],
            extra_sizes=extras[1].astype(np.int32),
            extra_crcs=extras[2].astype(np.uint32),
        )

    def _sequence(self, stated: str, key: str) -> str:
        """The sequence's name; that in the JSON of others only when it can stand in a path without harm."""
        harmless = stated.isprintable() and not stated.startswith("/") and ".." not in stated and "\\" not in stated
        return stated if stated and (harmless or not self._is_foreign) else key

    def finish(self) -> None:
        """Checks what lies behind the last record.

        Raises:
            DamageError: it is not the end that vosdata writes.
        """
        if not self._is_foreign and bytes(self._data[self._end :]) != END_OF_TAR:
            raise DamageError(f"{self._where} at byte {self._end}: expected two blocks of zeros that end the tar")

    def _bytes(self, member: TarMember) -> memoryview:
        return self._data[member.offset : member.offset + member.size]

    def _fields(self, layout: Layout) -> dict[str, Any]:
        """The record's JSON; nothing when it has none, or one that is no object."""
        if layout.json is None:
            return {}
        try:
            content = json.loads(bytes(self._bytes(layout.json)))
        except (ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def _spans(self, members: Sequence[TarMember | None]) -> NDArray[np.int64]:
        """Offset, size and CRC32C of members, ``int64 (3, n)``; zeros where there is none."""
        spans = np.zeros((3, len(members)), np.int64)
        for column, member in enumerate(members):
            if member is not None:
                spans[:, column] = member.offset, member.size, crc32c(self._bytes(member))
        return spans

    def _pixels(self, layout: Layout) -> tuple[tuple[int, int], ObjectTable]:
        """Height and width of the record, and its objects."""
        size: tuple[int, int] | None = None
        stats: list[MaskStats | None] = []
        for number, member in layout.frames.items():
            found = self._image_size(layout, member)
            size = found if size is None else size
            mask = layout.masks.get(number)
            shape = None if mask is None else self._mask(layout, mask, stats)
            if mask is None:
                stats.append(None)
            for one, its_size in ((member, found), (mask, shape)):
                if one is not None and its_size != size:
                    raise self._wrong(layout, one, f"is {its_size[0]}x{its_size[1]}, its record {size[0]}x{size[1]}")  # type: ignore[index]
        if size is None:
            raise DatasetError(f"{self._where}: record {layout.key!r} has no frame")
        return size, ObjectTable(stats)

    def _image_size(self, layout: Layout, member: TarMember) -> tuple[int, int]:
        try:
            return image_size(self._bytes(member))
        except BadFileError as error:
            raise self._wrong(layout, member, str(error)) from error

    def _mask(self, layout: Layout, member: TarMember, stats: list[MaskStats | None]) -> tuple[int, int]:
        try:
            mask = decode_mask(self._bytes(member))
        except BadFileError as error:
            raise self._wrong(layout, member, str(error)) from error
        found = object_stats(mask)
        self._census.add(mask, found)
        stats.append(found)
        return int(mask.shape[0]), int(mask.shape[1])

    def _check_seals(self, layout: Layout) -> None:
        """Checks the checksums that PNG members carry themselves, and counts those that do and those that do not."""
        self.num_unsealed += len(layout.members)
        extras = (member for of_name in layout.extras.values() for member in of_name.values())
        for member in (*layout.frames.values(), *layout.masks.values(), *extras):
            data = self._bytes(member)
            if bytes(data[: len(PNG_SIGNATURE)]) == PNG_SIGNATURE:
                self._check_png(layout, member, data)
                self.num_sealed += 1
                self.num_unsealed -= 1

    def _check_png(self, layout: Layout, member: TarMember, data: memoryview) -> None:
        try:
            for _ in png_chunks(data):
                pass
        except BadFileError as error:
            raise self._wrong(layout, member, str(error)) from error

    def _wrong(self, layout: Layout, member: TarMember, what: str) -> DatasetError | DamageError:
        kind = DatasetError if self._is_foreign else DamageError
        return kind(f"{self._where}: record {layout.key!r}, member {member.name!r} at byte {member.offset}: {what}")

    def _check_own(self, layout: Layout, fields: dict[str, Any], size: tuple[int, int], objects: ObjectTable) -> None:
        """Checks that a record is exactly what the writer would have written."""
        expected = {
            "key": layout.key,
            "height": size[0],
            "width": size[1],
            "frame_numbers": list(layout.frames),
            "annotated": [number in layout.masks for number in layout.frames],
            "object_ids": objects.ids.tolist(),
        }
        place = f"{self._where}: record {layout.key!r} at byte {layout.members[0].header}"
        for name, value in expected.items():
            if fields.get(name) != value:
                raise DamageError(f"{place}: its JSON has {name} {fields.get(name)!r}, its members say {value!r}")
        for name in ("sequence", "source", "licence", "provenance"):
            if not isinstance(fields.get(name), str):
                raise DamageError(f"{place}: its JSON has {name} {fields.get(name)!r}, expected text")
        if key_of(fields["sequence"]) != layout.key:
            raise DamageError(f"{place}: its key does not stand for its sequence {fields['sequence']!r}")
        names = self._own_names(layout)
        for name, member in zip(names, layout.members, strict=False):
            self._check_own_member(name, member)
        if len(names) != len(layout.members):
            raise DamageError(f"{place} has {len(layout.members)} members, expected {len(names)}")

    def _own_names(self, layout: Layout) -> list[str]:
        names = [json_member(layout.key)]
        for number, member in layout.frames.items():
            names.append(image_member(layout.key, number, image_suffix(self._bytes(member))))
            if number in layout.masks:
                names.append(mask_member(layout.key, number))
        return names + [
            extra_member(layout.key, number, name) for name in layout.extras for number in layout.extras[name]
        ]

    def _check_own_member(self, name: str, member: TarMember) -> None:
        place = f"{self._where}: member {member.name!r} at byte {member.header}"
        if member.name != name:
            raise DamageError(f"{place}: expected {name!r} there")
        header = bytes(self._data[member.header : member.offset])
        if member.header != self._end or len(header) != BLOCK or header != tar_header(name, member.size):
            raise DamageError(f"{place}: its header is not the one that vosdata writes")
        self._end = member.offset + member.size + padding(member.size)
        if any(self._data[member.offset + member.size : self._end]):
            raise DamageError(f"{place}: the padding behind it is not zero")
