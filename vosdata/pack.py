"""Packs one split of a dataset into a shard set: which sequences go into which shard, and each one's record.

At native size a frame's file goes into the shard byte for byte; it is decoded once here, only to find damage now
rather than in the middle of a training. Masks are always written anew in the stored form, with identical indices.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shards.codec import encode_jpeg
from shards.errors import DatasetError, VosDataError
from shards.plan import SetDescription, Skipped
from shards.reader import ShardSet
from shards.types import Record, StoredFrame
from vosdata.datasets.annotation import MaskReading, decode_frame, mask_reading, read_frame, read_mask
from vosdata.datasets.dataset import Dataset
from vosdata.datasets.meta import disagreements, read_meta
from vosdata.datasets.types import Sequence

Size = tuple[int, int]
OnBad = Literal["stop", "skip"]

# A shard is one read for remote storage and one unit of work for a process: big enough to be read at full speed, small
# enough that processes finish together. Few sequences per shard also keep a shuffle by shards good.
MAX_SHARD_BYTES = 256 * 2**20
MAX_SHARD_SEQUENCES = 64
RESIZED_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class PackPlan:
    """How one split becomes a shard set; a ``ShardPlan`` that pickles. Made by :func:`plan_pack`."""

    dataset: Dataset
    """Where the files are."""

    split: str
    """Name of the split."""

    size: Size | None
    """Height and width of stored frames; None keeps the native size and the original bytes."""

    on_bad: OnBad
    """Whether a sequence that cannot be used stops the packing or is left out and listed."""

    sequences: tuple[Sequence, ...]
    """What is packed, in order."""

    skipped: tuple[Skipped, ...]
    """What was left out already when the files were listed; reported with the first shard."""

    shards: tuple[tuple[int, int], ...]
    """For each shard the first sequence and the one after its last."""

    @property
    def name(self) -> str:
        """Name of the shard set, e.g. ``"davis2017-train"``."""
        return self.dataset.set_name(self.split)

    @property
    def num_shards(self) -> int:
        """Number of shards, at least 1."""
        return len(self.shards)

    @property
    def num_records(self) -> int:
        """Number of sequences, those left out included."""
        return len(self.sequences) + len(self.skipped)

    def configuration(self) -> dict[str, Any]:
        """Everything that the bytes depend on.

        ``on_bad`` is no part of it: shards that were finished without a bad file are the same either way, so a run
        that stopped at one goes on with ``--on-bad skip``.
        """
        return {
            "made_by": "pack",
            "dataset": self.dataset.name,
            "resolution": self.dataset.resolution or "",
            "split": self.split,
            "size": size_text(self.size),
            "jpeg_quality": "original files" if self.size is None else RESIZED_JPEG_QUALITY,
            "masks": MaskReading.UNION.value if self.dataset.union else "by sequence",
            "shard_limits": [MAX_SHARD_BYTES, MAX_SHARD_SEQUENCES],
            "num_sequences": len(self.sequences),
            "source_fingerprint": self._fingerprint(),
        }

    def description(self) -> SetDescription:
        """What dataset.json and the dataset card say about the set."""
        resolution = f" ({self.dataset.resolution})" if self.dataset.resolution else ""
        return SetDescription(
            frame_size=self.size,
            frame_rate=self.dataset.frame_rate(list(self.sequences)),
            source_fingerprint=self._fingerprint(),
            licence=self.dataset.licence,
            title=f"{self.dataset.title}, split {self.split}",
            text=f"Sequences of {self.dataset.title}{resolution}, split {self.split}, {_made_how(self.size)}.",
        )

    def records(self, shard: int) -> Iterator[Record | Skipped]:
        """Reads the sequences of one shard.

        Raises:
            DatasetError, BadFileError: a sequence cannot be used and ``on_bad`` is ``"stop"``.
        """
        if shard == 0:
            yield from self.skipped
        for sequence in self.sequences[slice(*self.shards[shard])]:
            if sequence.num_frames == 0:
                yield Skipped(sequence.name, "the sequence has no frames")  # nothing is lost, so nothing stops
                continue
            try:
                yield pack_sequence(sequence, self.size, self.dataset.licence)
            except VosDataError as error:
                if self.on_bad == "stop":
                    raise
                yield Skipped(sequence.name, str(error))

    def _fingerprint(self) -> str:
        """Hash of names and sizes of all files, in the split's order; equal wherever the folder lies.

        Contents are not read for it: that would cost as much as packing, and once packed they are guarded by checksums.
        """
        digests = "\n".join(sequence.digest for sequence in self.sequences)
        return hashlib.blake2b(digests.encode(), digest_size=16).hexdigest()


def plan_pack(dataset: Dataset, split: str, size: Size | None = None, on_bad: OnBad = "stop") -> PackPlan:
    """Lists the files of a split and divides its sequences among shards.

    Args:
        dataset: what :func:`vosdata.datasets.recognise` found.
        split: name of one of its splits.
        size: height and width of stored frames in pixels; None keeps the native size and the original bytes.
        on_bad: ``"stop"`` at the first sequence that cannot be used, or ``"skip"`` and list it.

    Raises:
        DatasetError: no such split, nothing in it, or (with ``"stop"``) a sequence that contradicts itself.
        ValueError: ``size`` or ``on_bad`` is out of range.
    """
    if size is not None and not all(1 <= side <= 16384 for side in size):
        raise ValueError(f"size must be 1 to 16384 pixels each way, got {size[0]}x{size[1]}")
    if on_bad not in ("stop", "skip"):
        raise ValueError(f"on_bad must be 'stop' or 'skip', got {on_bad!r}")
    bad: list[tuple[str, str]] = []
    sequences = dataset.sequences(split, bad if on_bad == "skip" else None)
    if not sequences:
        reason = f" but {len(bad)} that cannot be used; the first: {bad[0][1]}" if bad else ""
        raise DatasetError(f"{dataset.title} in {dataset.root}: split {split} holds no sequences{reason}")
    return PackPlan(
        dataset=dataset,
        split=split,
        size=size,
        on_bad=on_bad,
        sequences=tuple(sequences),
        skipped=tuple(Skipped(name, reason) for name, reason in bad),
        shards=divide([sequence.num_bytes for sequence in sequences]),
    )


def divide(num_bytes: list[int]) -> tuple[tuple[int, int], ...]:
    """Divides sequences among shards, in order: each shard holds up to 256 MiB of source files and 64 sequences.

    Args:
        num_bytes: size of each sequence's files. A larger one has a shard of its own.

    Returns:
        For each shard the first sequence and the one after its last.
    """
    ends: list[int] = []
    filled = count = 0
    for i, size in enumerate(num_bytes):
        if count and (filled + size > MAX_SHARD_BYTES or count == MAX_SHARD_SEQUENCES):
            ends.append(i)
            filled = count = 0
        filled += size
        count += 1
    ends.append(len(num_bytes))
    return tuple(zip([0, *ends[:-1]], ends, strict=True))


def pack_sequence(sequence: Sequence, size: Size | None, licence: str) -> Record:
    """Reads one sequence as a record.

    Args:
        sequence: its files, at least one frame.
        size: height and width of stored frames; None keeps the native size and the original bytes.
        licence: licence of the pixels.

    Raises:
        DatasetError: frames or masks differ in size.
        BadFileError: a file cannot be read or decoded.
    """
    reading = mask_reading(sequence)
    frames: list[StoredFrame] = []
    native: Size | None = None
    for t in range(sequence.num_frames):
        data, found = read_frame(sequence, t)
        native = native or found
        if found != native:
            where = f"{sequence.dataset}: frame {sequence.image_names[t]} of sequence {sequence.name}"
            expected = f"its first frame is {size_text(native)}"
            raise DatasetError(f"{where} is {size_text(found)}, {expected}. Re-extract the archive")
        pixels = decode_frame(sequence, t, data)
        mask = read_mask(sequence, t, reading, native)
        if size is not None and size != native:
            data = encode_jpeg(resize_frame(pixels, size), RESIZED_JPEG_QUALITY)
            mask = None if mask is None else resize_mask(mask, size)
        frames.append(StoredFrame(sequence.frame_numbers[t], data, mask))
    if native is None:
        raise DatasetError(f"{sequence.dataset}: sequence {sequence.name} has no frames")
    height, width = size or native
    return Record(
        sequence=sequence.name,
        frames=tuple(frames),
        height=height,
        width=width,
        source=sequence.dataset,
        licence=licence,
        provenance=f"{_made_how(size, native)}; masks: {reading.value}",
        extra=_extra(sequence),
    )


def _extra(sequence: Sequence) -> dict[str, Any]:
    """What ``meta.json`` says about the objects, as the record's JSON keeps it; empty for datasets without one."""
    if sequence.objects is None:
        return {}
    return {
        "objects": [{"id": one.id, "category": one.category, "frames": list(one.frames)} for one in sequence.objects]
    }


def oddities(plan: PackPlan, folder: Path) -> list[str]:
    """What is odd about a packed set though it is no error, one line each, from its index alone.

    Named are sequences whose masks show no object at all, and where ``meta.json`` contradicts the folders or the masks.
    """
    part = plan.dataset.split(plan.split)
    listed = set() if part.meta_path is None or part.names is not None else set(read_meta(part.meta_path))
    here = {sequence.name for sequence in plan.sequences}
    found = [f"meta.json lists sequence {name}, which has no folder" for name in sorted(listed - here)]
    by_name = {sequence.name: sequence for sequence in plan.sequences}
    index = ShardSet(folder).index
    for i in range(len(index)):
        entry = index.entry(i)
        sequence = by_name.get(entry.sequence)
        if entry.annotated.any() and len(entry.object_ids) == 0:
            found.append(f"sequence {entry.sequence}: its masks show no object, only background and void (255)")
        if sequence is not None and sequence.objects is not None:
            numbers = entry.frame_numbers
            shown = {int(one): numbers[entry.areas[:, n] > 0].tolist() for n, one in enumerate(entry.object_ids)}
            contradictions = disagreements(sequence.objects, numbers.tolist(), shown)
            found += [f"sequence {entry.sequence}: {line}" for line in contradictions]
    return found


def resize_frame(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Resizes a picture ``uint8 (H, W, 3)`` to ``size`` (height, width): by area when it shrinks, else cubic."""
    import cv2

    shrinks = size[0] <= pixels.shape[0] and size[1] <= pixels.shape[1]
    resized = cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, np.uint8)


def resize_mask(mask: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Resizes a mask ``uint8 (H, W)`` to ``size`` by nearest neighbour of pixel centres, so that no id is invented."""
    rows, columns = (
        (2 * np.arange(target) + 1) * source // (2 * target) for target, source in zip(size, mask.shape, strict=True)
    )
    return np.ascontiguousarray(mask[rows[:, None], columns[None, :]])


def size_text(size: Size | None) -> str:
    """``"native"`` or ``"240x432"``."""
    return "native" if size is None else f"{size[0]}x{size[1]}"


def _made_how(size: Size | None, native: Size | None = None) -> str:
    """How frames were stored, in words."""
    if size is None:
        return "original frame files at native size"
    if size == native:
        return f"original frame files, which are {size_text(size)} already"
    was = f" from {size_text(native)}" if native else ""
    return (
        f"frames resized{was} to {size_text(size)} (area or cubic, JPEG quality {RESIZED_JPEG_QUALITY}), masks nearest"
    )
