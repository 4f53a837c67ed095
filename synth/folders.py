"""Sources that read cutouts and backgrounds from a folder of pictures."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.errors import BadFileError
from synth.cutouts import cut_out
from synth.pictures import Picture, decode_object_mask, decode_picture, fit_mask, read_file
from synth.types import Background, Cutout, Origin, Problem

MIN_BACKGROUND_SIDE = 64
"""Shortest side in pixels that a background needs."""

MAX_BACKGROUND_SIDE = 2048
"""Longest side of a background in pixels; larger pictures are reduced, which bounds memory."""

HASHING_THREADS = 4

T = TypeVar("T")


class ObjectMask(Protocol):
    """Where the mask of one object comes from. Picklable."""

    @property
    def files(self) -> tuple[str, ...]:
        """Files that the mask is read from, besides the picture, as paths below the source folder."""

    def describe(self) -> bytes:
        """What determines the mask besides its files, for the fingerprint."""

    def read(self, root: Path, picture: Picture, name: Callable[[str], str]) -> NDArray[np.uint8]:
        """Reads the mask as ``uint8 (H, W)`` alpha of the picture's size.

        Raises:
            BadFileError: the mask cannot be used.
        """


@dataclass(frozen=True, slots=True)
class MaskFile:
    """The mask of an object is a file of its own."""

    path: str
    """Path below the source folder."""

    @property
    def files(self) -> tuple[str, ...]:
        """The mask file."""
        return (self.path,)

    def describe(self) -> bytes:
        """Nothing but the file."""
        return b""

    def read(self, root: Path, picture: Picture, name: Callable[[str], str]) -> NDArray[np.uint8]:
        """Reads the file and brings it to the picture's size."""
        mask = decode_object_mask(read_file(root / self.path, name(self.path)), name(self.path))
        return fit_mask(mask, picture, name(self.path))


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One object of a folder source."""

    label: str
    """Unique name: the picture's path below the source folder, with ``#id`` where a picture has several objects."""

    picture: str
    """Path of the picture below the source folder."""

    mask: ObjectMask
    """Where the mask comes from."""


@dataclass(frozen=True, eq=False)
class FolderObjects:
    """Cutouts from the pictures and masks of a folder; an :class:`~synth.types.ObjectSource`."""

    root: Path
    """The folder that all paths are below."""

    name: str
    """Short printable name: the folder's."""

    licence: str
    """Licence of the pictures as far as it is known, else empty."""

    entries: tuple[ObjectEntry, ...]
    """The objects, in order of their labels."""

    problems: tuple[Problem, ...] = ()
    """What the listing found that cannot be used, such as a picture without a mask."""

    num_left_out: int = 0
    """Objects that are left out by rule and are nothing wrong, such as COCO's crowds and tiny objects."""

    def __repr__(self) -> str:
        return f"FolderObjects({self.name!r}, {len(self)} objects, {len(self.problems)} problems)"

    @cached_property
    def labels(self) -> Sequence[str]:
        """Name of every cutout, in index order."""
        return tuple(entry.label for entry in self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def load(self, index: int) -> Cutout:
        """Reads one cutout.

        Raises:
            BadFileError: picture or mask cannot be used; the message names the file, below the source's name, and why.
            IndexError: there is no such cutout.
        """
        entry = _entry(self.entries, index)
        picture = decode_picture(
            read_file(self.root / entry.picture, self._named(entry.picture)), self._named(entry.picture)
        )
        mask = entry.mask.read(self.root, picture, self._named)
        return Cutout(cut_out(picture.rgb, mask, self._named(entry.label)), entry.label)

    def origin(self, index: int) -> Origin:
        """The picture that a cutout was cut from, and its hash; raises as :meth:`load`."""
        picture = _entry(self.entries, index).picture
        content = read_file(self.root / picture, self._named(picture))
        return Origin(self.name, picture, hashlib.sha256(content).hexdigest(), self.licence)

    def fingerprint(self) -> str:
        """Hash over label, files and their whole contents of every object; made once, then remembered."""
        return self._hash

    @cached_property
    def _hash(self) -> str:
        files = sorted({path for entry in self.entries for path in (entry.picture, *entry.mask.files)})
        return _hash_of(self.root, files, (entry.label.encode() + entry.mask.describe() for entry in self.entries))

    def _named(self, path: str) -> str:
        return f"{self.name}/{path}"


@dataclass(frozen=True, eq=False)
class FolderBackgrounds:
    """Backgrounds from the pictures of a folder; a :class:`~synth.types.BackgroundSource`."""

    root: Path
    """The folder that all paths are below."""

    name: str
    """Short printable name: the folder's."""

    licence: str
    """Licence of the pictures as far as it is known, else empty."""

    pictures: tuple[str, ...]
    """Paths below the folder, with slashes, in order."""

    problems: tuple[Problem, ...] = ()
    """What the listing found that cannot be used, such as a listed picture that is not there."""

    num_left_out: int = 0
    """Pictures that are left out by rule and are nothing wrong."""

    def __repr__(self) -> str:
        return f"FolderBackgrounds({self.name!r}, {len(self)} pictures, {len(self.problems)} problems)"

    @property
    def labels(self) -> Sequence[str]:
        """Name of every background, in index order."""
        return self.pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def load(self, index: int) -> Background:
        """Reads one background.

        Raises:
            BadFileError: the picture cannot be used; the message names it, below the source's name, and why.
            IndexError: there is no such background.
        """
        path = _entry(self.pictures, index)
        name = f"{self.name}/{path}"
        rgb = decode_picture(read_file(self.root / path, name), name).rgb
        height, width = rgb.shape[:2]
        if min(height, width) < MIN_BACKGROUND_SIDE:
            raise BadFileError(
                f"{name}: is {height}x{width}, a background needs at least {MIN_BACKGROUND_SIDE} pixels on each side"
            )
        scale = MAX_BACKGROUND_SIDE / max(height, width)
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        return Background(rgb, path)

    def origin(self, index: int) -> Origin:
        """The picture's file and its hash; raises as :meth:`load`."""
        path = _entry(self.pictures, index)
        content = read_file(self.root / path, f"{self.name}/{path}")
        return Origin(self.name, path, hashlib.sha256(content).hexdigest(), self.licence)

    def fingerprint(self) -> str:
        """Hash over names and whole contents of the pictures; made once, then remembered."""
        return self._hash

    @cached_property
    def _hash(self) -> str:
        return _hash_of(self.root, self.pictures, ())


def _entry(entries: Sequence[T], index: int) -> T:
    if not 0 <= index < len(entries):
        raise IndexError(f"index {index} is outside 0..{len(entries) - 1}")
    return entries[index]


def _hash_of(root: Path, files: Sequence[str], facts: Iterable[bytes]) -> str:
    """Hashes names, contents and facts; reads with threads, since hashing and reading release the interpreter."""
    total = hashlib.blake2b(digest_size=16)
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        for path, digest in zip(files, pool.map(lambda path: _content_digest(root / path), files), strict=True):
            total.update(path.encode("utf-8", "surrogateescape") + b"\0" + digest)
    for fact in facts:
        total.update(hashlib.blake2b(fact, digest_size=16).digest())
    return total.hexdigest()


def _content_digest(path: Path) -> bytes:
    """Hash of a file's content; of nothing where it cannot be read, which ``load`` reports."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError:
        return b"unreadable".ljust(16)
