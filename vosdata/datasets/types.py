"""Parts of a dataset before any pixel is read: splits, and the files of one video. Small values that pickle."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What ``meta.json`` says about one object of a sequence."""

    id: int
    """Object id in the masks, 1..254."""

    category: str
    """Class of the object, e.g. ``"person"``; empty where the file gives none."""

    frames: tuple[int, ...]
    """Frame numbers in which the object is said to be, ascending; empty where the file gives none."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """The files of one video. ``num_frames`` entries in order of frame number; masks only where a file is there."""

    name: str
    """Name of the sequence: its folder's name."""

    dataset: str
    """Title of the dataset it belongs to, for messages, e.g. ``"DAVIS 2017"``."""

    image_dir: Path
    """Folder of the frames."""

    mask_dir: Path
    """Folder of the masks; need not exist when no frame is annotated."""

    frame_numbers: tuple[int, ...]
    """The integers in the frames' file names, strictly increasing; gaps are allowed."""

    image_names: tuple[str, ...]
    """File name of each frame."""

    mask_names: tuple[str | None, ...]
    """File name of each frame's mask; None where the frame is unannotated."""

    union: bool
    """Whether any non-zero value of a mask is the object, as in DAVIS 2016."""

    num_bytes: int
    """Size of all files together."""

    digest: str
    """Hash of the name and of the names and sizes of all files."""

    objects: tuple[ObjectMeta, ...] | None = None
    """What ``meta.json`` says about the objects (nothing: empty); None when the split has no ``meta.json``."""

    @property
    def num_frames(self) -> int:
        """Number of frames, 0 or more."""
        return len(self.frame_numbers)

    @property
    def annotated(self) -> tuple[bool, ...]:
        """For each frame whether a mask file is there."""
        return tuple(name is not None for name in self.mask_names)

    def image_path(self, t: int) -> Path:
        """File of frame ``t`` (a place, 0..num_frames-1, not a frame number)."""
        return self.image_dir / self.image_names[t]

    def mask_path(self, t: int) -> Path | None:
        """Mask file of frame ``t``, or None when the frame is unannotated."""
        name = self.mask_names[t]
        return None if name is None else self.mask_dir / name

    def __repr__(self) -> str:
        return f"Sequence({self.name!r}, {self.num_frames} frames, {sum(self.annotated)} annotated)"


@dataclass(frozen=True, slots=True)
class Split:
    """One named part of a dataset: where its sequences lie and which they are."""

    name: str
    """As published: ``"train"``, ``"val"``, ``"test-dev"``, ...; ``"all"`` where the dataset has no parts."""

    image_dir: Path
    """Folder that holds one folder of frames per sequence."""

    mask_dir: Path
    """Folder that holds one folder of masks per sequence; need not exist."""

    names: tuple[str, ...] | None = None
    """Sequences of a split list in its order, or None for every folder in ``image_dir``, sorted."""

    list_path: Path | None = None
    """The split list that the names came from."""

    meta_path: Path | None = None
    """A ``meta.json`` in the form of YouTube-VOS."""
