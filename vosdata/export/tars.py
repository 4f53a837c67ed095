"""Exports to WebDataset tars with one sample per frame: ``jpg``, ``png`` and ``json`` in every sample.

Shard sets are WebDataset tars already, with one sample per sequence. This form is for pipelines that want single
frames, and for tools that need the same members in every sample, such as Hugging Face ``load_dataset("webdataset")`` on
sets whose sequences differ in length. One tar per shard; samples of a sequence follow each other::

    KEY/00000.jpg       the frame's bytes (``.png`` frames are ``KEY/00000.frame.png``, as ``png`` is the mask)
    KEY/00000.png       palette PNG: 0 background, 1..254 object ids, 255 void; all void when unannotated
    KEY/00000.json      sequence, frame_number, annotated, height, width, source, licence, provenance, fields

``fields`` is JSON text of the record's own fields; only the first frame of a record has it, the others an empty text.
Further files of a frame follow under their names, such as ``KEY/00000.amodal.png``.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shards.atomic import atomic_file
from shards.codec import image_suffix
from shards.errors import DatasetError, VosDataError
from shards.format import END_OF_TAR, padding, shard_name
from shards.masks import decode_mask, encode_mask
from shards.reader import ShardSet
from shards.types import VOID, Record, StoredFrame
from shards.writer import tar_header
from vosdata.export.layout import ShardFile, Tick, mask_file, records_by_shard

_OWN_MEMBERS = ("jpg", "frame.png", "png", "json")


class FrameTar(ShardFile):
    """The frames of one shard as a tar; a piece of an export."""

    __slots__ = ()

    def write(self, out: Path, workspace: Path, tick: Tick) -> None:
        """Writes the tar."""
        with atomic_file(out / self.path, workspace) as file:
            for position in self.positions:
                for name, data in frame_members(self.shard_set, position):
                    _write_member(file, name, data)
                tick()
            file.write(END_OF_TAR)


class FrameTars:
    """Tars side by side."""

    def __init__(self, sets: Sequence[ShardSet]) -> None:
        self._sets = sets

    def pieces(self) -> Iterator[FrameTar]:
        """One piece for each shard."""
        for shard_set in self._sets:
            for shard, positions in records_by_shard(shard_set).items():
                yield FrameTar(shard_set, positions, shard_name(shard_set.name, shard))

    def finish(self, out: Path) -> None:
        """Nothing more is needed."""


def frame_members(shard_set: ShardSet, position: int) -> Iterator[tuple[str, bytes]]:
    """The members of a record's frames: name and content."""
    entry = shard_set.entry(position)
    void: bytes | None = None
    for frame, number in enumerate(entry.frame_numbers.tolist()):
        sample = f"{entry.key}/{number:05d}"
        image = bytes(shard_set.image_bytes(position, frame, entry))
        mask = mask_file(shard_set, position, frame)
        if mask is None:
            void = void or encode_mask(np.full((entry.height, entry.width), VOID, np.uint8))
        suffix = image_suffix(image)
        yield f"{sample}.{'jpg' if suffix == 'jpg' else 'frame.png'}", image
        yield f"{sample}.png", mask or void or b""
        content = {
            "sequence": entry.sequence,
            "frame_number": number,
            "annotated": mask is not None,
            "height": entry.height,
            "width": entry.width,
            "source": entry.source,
            "licence": entry.licence,
            "provenance": entry.provenance,
            "fields": json.dumps(shard_set.own_fields(position)) if frame == 0 else "",
        }
        yield f"{sample}.json", json.dumps(content).encode()
        for name in entry.extra_names:
            data = shard_set.extra_bytes(position, frame, name, entry)
            if data is not None:
                yield f"{sample}.{name}", bytes(data)


def read_frame_tar(path: Path) -> Iterator[Record]:
    """Reads the records of a tar back.

    Raises:
        DatasetError: the file is damaged or holds other members.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            members = ((member.name, _content(tar, member)) for member in tar)
            for _, sequence in groupby(_samples(members), key=lambda sample: sample[0].rpartition("/")[0]):
                yield _record([parts for _, parts in sequence])
    except (OSError, tarfile.TarError, KeyError, TypeError, ValueError, VosDataError) as error:
        raise DatasetError(f"{path} cannot be read back: {' '.join(str(error).split())}") from error


def _samples(members: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Members of equal name up to the first dot, as suffix -> content."""

    def key(member: tuple[str, bytes]) -> str:
        folder, slash, file = member[0].rpartition("/")
        return folder + slash + file.partition(".")[0]

    for sample, parts in groupby(members, key=key):
        yield sample, {name[len(sample) + 1 :]: data for name, data in parts}


def _record(samples: list[dict[str, bytes]]) -> Record:
    contents: list[dict[str, Any]] = [json.loads(sample["json"]) for sample in samples]
    frames = tuple(
        StoredFrame(
            number=content["frame_number"],
            image=sample["jpg"] if "jpg" in sample else sample["frame.png"],
            mask=decode_mask(sample["png"]) if content["annotated"] else None,
            extras={name: data for name, data in sample.items() if name not in _OWN_MEMBERS},
        )
        for sample, content in zip(samples, contents, strict=True)
    )
    first = contents[0]
    return Record(
        sequence=first["sequence"],
        frames=frames,
        height=first["height"],
        width=first["width"],
        source=first["source"],
        licence=first["licence"],
        provenance=first["provenance"],
        extra=json.loads(first["fields"]),
    )


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} is no file")
    data = file.read()
    if len(data) != member.size:
        raise ValueError(f"{member.name} is cut off after {len(data)} of {member.size} bytes")
    return data


def _write_member(file: BinaryIO, name: str, data: bytes) -> None:
    file.write(tar_header(name, len(data)))
    file.write(data)
    file.write(bytes(padding(len(data))))
