"""What a source gives to a scene: cutouts and backgrounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """One object cut from a still picture."""

    rgba: NDArray[np.uint8]
    """``uint8 (h, w, 4)``: RGB with straight (not premultiplied) alpha, cropped to the object's box plus a transparent
    margin of 2 pixels on each side, so that warping never clips an edge."""

    name: str
    """Printable name that is unique within its source, e.g. the picture's path below the source folder."""

    def __repr__(self) -> str:
        return f"Cutout({self.name!r}, {self.rgba.shape[0]}x{self.rgba.shape[1]})"


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """One photograph to move objects over."""

    rgb: NDArray[np.uint8]
    """``uint8 (H, W, 3)``, upright, RGB."""

    name: str
    """Printable name that is unique within its source."""

    def __repr__(self) -> str:
        return f"Background({self.name!r}, {self.rgb.shape[0]}x{self.rgb.shape[1]})"


@dataclass(frozen=True, slots=True)
class Problem:
    """A file of a source that cannot be used, found while listing the folder."""

    name: str
    """Path of the file below the source folder."""

    reason: str
    """What is wrong with it, in one line."""

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one picture comes from."""

    source: str
    """Name of its source."""

    file: str
    """Path of its file below the source, or its name where code makes it."""

    sha256: str
    """Hash of the file's content in hexadecimal digits; empty where there is no file."""

    licence: str
    """Licence of the picture as far as it is known, else empty."""


Loaded = TypeVar("Loaded", covariant=True)


class PictureSource(Protocol[Loaded]):
    """A numbered collection of cutouts or backgrounds. Picklable; ``load`` is a pure function of the index."""

    @property
    def name(self) -> str:
        """Short printable name, e.g. ``"msra10k"`` or ``"builtin"``."""

    @property
    def licence(self) -> str:
        """Licence of the pictures as far as it is known, else empty."""

    @property
    def labels(self) -> Sequence[str]:
        """Name of every picture, in index order."""

    @property
    def problems(self) -> Sequence[Problem]:
        """What the listing found that cannot be used, such as a picture without a mask; empty when all is well."""

    @property
    def num_left_out(self) -> int:
        """Items left out by rule, which are nothing wrong, such as COCO's crowds and tiny objects."""

    def __len__(self) -> int:
        """Number of pictures offered (some may turn out unusable when loaded)."""

    def load(self, index: int) -> Loaded:
        """Reads one picture.

        Raises:
            BadFileError: the file cannot be used; the message says why.
        """

    def origin(self, index: int) -> Origin:
        """Where one picture comes from; of several files, that of the colours.

        Raises:
            BadFileError: the file cannot be read.
        """

    def fingerprint(self) -> str:
        """Hash of what the source holds: equal for equal content, whatever the folder is called."""


class ObjectSource(PictureSource[Cutout], Protocol):
    """A numbered collection of cutouts."""


class BackgroundSource(PictureSource[Background], Protocol):
    """A numbered collection of backgrounds."""
