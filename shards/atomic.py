"""Files that are there completely or not at all, also after a crash or power cut."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Numbers of the errors that say that there is no room: on the disk, in the user's share of it, for so large a file."""


@contextmanager
def atomic_file(path: Path, workspace: Path | None = None) -> Iterator[BinaryIO]:
    """Opens a temporary file; on success its content is on disk under ``path``, on an exception nothing has changed.

    Args:
        path: final path; replaced if it exists.
        workspace: folder for the temporary file, on the same file system; the folder of ``path`` when None.
    """
    # A number drawn, not the process's: two machines that share the folder may have the same one.
    temporary = (workspace or path.parent) / f"{path.name}.{secrets.token_hex(6)}.tmp"
    try:
        with naming(path):
            with temporary.open("wb", buffering=1 << 20) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Says in the error about a full disk which file had no room: writing knows an open file's number, not its name."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(path)
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a small file at once; see :func:`atomic_file`."""
    with atomic_file(path) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Makes renames and removals in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
