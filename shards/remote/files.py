"""The files of a shard set one after the other, for a check of everything: local ones, or remote ones one at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from shards.manifest import manifest_bytes
from shards.remote.location import locate
from shards.remote.opening import fetch_manifest, open_transfers
from shards.remote.transfer import MissingFileError, Patience, Transfers


class SetFiles(Protocol):
    """The files of a shard set."""

    def manifest(self) -> bytes:
        """dataset.json, unchecked.

        Raises:
            ShardError: there is none.
        """

    def path(self, name: str, size: int) -> Path:
        """A local file with the bytes of a file of this size; no such file when the set lacks it.

        Raises:
            ShardError: it cannot be fetched.
        """

    def tars(self) -> list[str]:
        """Names of all tars that are seen."""


@contextmanager
def open_files(path: str | Path) -> Iterator[SetFiles]:
    """Opens the files of a set in a folder or at a URL.

    Raises:
        ShardError: a package for the URL is missing.
        ValueError: nobody speaks the URL's protocol.
    """
    location = locate(path)
    if isinstance(location, Path):
        yield _LocalFiles(location)
        return
    with TemporaryDirectory(prefix="vosdata-") as folder:
        yield _FetchedFiles(open_transfers(location, Patience()), Path(folder))


class _LocalFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def manifest(self) -> bytes:
        return manifest_bytes(self._folder)

    def path(self, name: str, size: int) -> Path:
        return self._folder / name

    def tars(self) -> list[str]:
        return [path.name for path in self._folder.glob("*.tar")]


class _FetchedFiles:
    """Keeps one file at a time. Bytes come unchecked: it is the check that looks at them."""

    def __init__(self, transfers: Transfers, folder: Path) -> None:
        self._transfers = transfers
        self._folder = folder

    def manifest(self) -> bytes:
        return fetch_manifest(self._transfers)

    def path(self, name: str, size: int) -> Path:
        for old in self._folder.iterdir():
            old.unlink()
        path = self._folder / name
        try:
            with path.open("wb") as file:

                def restart() -> None:
                    file.seek(0)
                    file.truncate()

                self._transfers.whole(name, size, file.write, restart)
        except MissingFileError:
            path.unlink()
        return path

    def tars(self) -> list[str]:
        return []  # a server need not list what it has
