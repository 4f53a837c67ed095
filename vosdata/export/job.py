"""Writes shard sets in another form, piece by piece, so that a run that was cut off is continued and never mixed."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from shards.atomic import write_atomically
from shards.conflict import refuse_other_configuration
from shards.errors import ConflictError, DatasetError
from shards.format import WORKSPACE
from shards.manifest import canonical_text, find_shard_sets
from shards.plan import Progress
from shards.reader import ShardSet
from shards.workspace import Workspace, locked
from vosdata.export.folders import DavisFolder, YouTubeVOSFolder
from vosdata.export.layout import Layout, Piece
from vosdata.export.note import NOTE_FILE, ExportedSet, ExportNote, read_note
from vosdata.export.parquet import HubFolder, ParquetFiles
from vosdata.export.tars import FrameTars
from vosdata.opening import open_shard_set

Form = Literal["parquet", "hf", "davis", "youtube-vos", "webdataset"]
FORMS: tuple[Form, ...] = get_args(Form)

_LAYOUTS: dict[Form, Callable[[Sequence[ShardSet]], Layout]] = {
    "parquet": ParquetFiles,
    "hf": HubFolder,
    "davis": DavisFolder,
    "youtube-vos": YouTubeVOSFolder,
    "webdataset": FrameTars,
}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What :func:`export` made."""

    folder: Path
    """The export."""

    form: Form
    """Its form."""

    sets: tuple[str, ...]
    """Names of the shard sets in it."""

    num_records: int
    """Records in it."""

    num_frames: int
    """Frames in it."""

    num_bytes: int
    """Bytes of its files."""

    already_complete: bool
    """True when the folder held the same export already and nothing was done."""


def export(sources: Sequence[Path], form: Form, out: Path, progress: Progress | None = None) -> ExportReport:
    """Writes shard sets in another form into one folder, or what is still missing of it.

    Args:
        sources: shard sets, or folders that hold shard sets.
        form: what to write.
        out: folder of the export; made when it does not exist.
        progress: called with records done and records in all.

    Raises:
        ShardError: a source is no complete shard set, or is damaged.
        DatasetError: two sets or two of their sequences cannot lie side by side.
        ConflictError: the folder holds another export or something else, or is being written.
    """
    sets = _open(sources)
    layout = _LAYOUTS[form](sets)
    pieces = list(layout.pieces())
    note = ExportNote(form, tuple(ExportedSet.of(one) for one in sets))
    if _is_complete(out, note, pieces):
        return _report(out, note, already_complete=True)
    _refuse_other_content(out)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        workspace = _claim(out, note)
        _write_missing(pieces, out, workspace.path, progress)
        layout.finish(out)
        write_atomically(out / NOTE_FILE, note.to_bytes())
        workspace.remove()
    return _report(out, note, already_complete=False)


def _open(sources: Sequence[Path]) -> list[ShardSet]:
    sets = [open_shard_set(folder) for source in sources for folder in find_shard_sets(source)]
    by_name: dict[str, ShardSet] = {}
    for one in sets:
        other = by_name.setdefault(one.name, one)
        if other is not one:
            raise DatasetError(f"{other.path} and {one.path} are both called {one.name}; export them by two calls")
    return sets


def _is_complete(out: Path, note: ExportNote, pieces: list[Piece]) -> bool:
    """Whether the folder holds this export, and all of it."""
    stored = read_note(out)
    if stored is None:
        return False
    refuse_other_configuration(out, stored.configuration(), note.configuration())
    return all(piece.is_done(out) for piece in pieces)


def _refuse_other_content(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ConflictError(f"{out} is a file; choose a folder for the export")
    if out.is_dir() and not (out / WORKSPACE).is_dir() and not (out / NOTE_FILE).is_file():
        other = next(out.iterdir(), None)
        if other is not None:
            raise ConflictError(f"{out} is not empty and holds no export (found {other.name}); choose another folder")


def _claim(out: Path, note: ExportNote) -> Workspace:
    """Writes the configuration into a fresh workspace, or checks it against the one that work was done under."""
    configuration = note.configuration()
    workspace = Workspace(out, "export", hashlib.sha256(canonical_text(configuration)).hexdigest())
    stored = workspace.stored_configuration()
    if stored is None or not any(path.name != WORKSPACE for path in out.iterdir()):
        workspace.store_configuration(configuration)
    else:
        refuse_other_configuration(out, stored, configuration)
    return workspace


def _write_missing(pieces: list[Piece], out: Path, workspace: Path, progress: Progress | None) -> None:
    total, done = sum(piece.num_records for piece in pieces), 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    for piece in pieces:
        if piece.is_done(out):
            done += piece.num_records
        else:
            piece.write(out, workspace, tick)
    if progress is not None:
        progress(done, total)


def _report(out: Path, note: ExportNote, already_complete: bool) -> ExportReport:
    return ExportReport(
        folder=out,
        form=_form(note.form),
        sets=tuple(one.name for one in note.sets),
        num_records=sum(one.num_records for one in note.sets),
        num_frames=sum(one.num_frames for one in note.sets),
        num_bytes=sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        already_complete=already_complete,
    )


def _form(text: str) -> Form:
    return next(form for form in FORMS if form == text)
