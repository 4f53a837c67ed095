"""A folder at any URL that fsspec knows: s3, gs, hf, memory and many more."""

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shards.errors import ShardError
from shards.remote.location import shown
from shards.remote.transfer import BrokenTransferError, MissingFileError

_READ_BYTES = 8 << 20
"""Bytes of one request: large enough that its latency does not count, small enough to begin again."""

_INFO_SECONDS = 10.0
"""How long a file's size and version are taken as known."""


@dataclass(slots=True, eq=False)
class _Part:
    """A piece of a file that is fetched request by request; see :class:`shards.remote.transfer.Part`."""

    store: "FsspecStore"
    path: str
    start: int
    end: int
    total: int | None
    version: str | None
    position: int
    ahead: bytes = b""

    def read(self, size: int) -> bytes:
        if not self.ahead and self.position < self.end:
            last = min(self.position + _READ_BYTES, self.end)
            self.ahead = self.store.fetch(self.path, self.position, last)
            if len(self.ahead) > last - self.position:
                raise BrokenTransferError(f"asked for {last - self.position} bytes, got {len(self.ahead)}")
            self.position += len(self.ahead)
        block, self.ahead = self.ahead[:size], self.ahead[size:]
        return block


class FsspecStore:
    """Files below a URL of an fsspec file system; see :class:`shards.remote.transfer.Store`.

    Credentials and options are those of the file system: its environment variables and fsspec's configuration files.

    Args:
        url: the folder.

    Raises:
        ShardError: the package that speaks this protocol is not installed.
        ValueError: nobody speaks this protocol.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, self._root = _file_system(url)
        self._files.invalidate_cache()
        # Those that open the file for every range, hf among them, would fetch 5 MiB more than was asked for.
        generic = getattr(type(self._files), "cat_file", None) is _plain_cat_file()
        self._reading = {"cache_type": "none"} if generic else {}
        self._known: dict[str, tuple[float, dict[str, Any]]] = {}

    @contextmanager
    def open(self, name: str, start: int, size: int | None) -> Iterator[_Part]:
        """See :meth:`shards.remote.transfer.Store.open`."""
        path = f"{self._root.rstrip('/')}/{name}"
        info = self._info(path)
        total = info.get("size")
        if total is None:
            raise BrokenTransferError("the store does not say how large the file is")
        end = total if size is None else min(start + size, total)
        try:
            yield _Part(self, path, start, end, total, _version(info), start)
        except BaseException:
            self._known.pop(path, None)
            raise

    def _info(self, path: str) -> dict[str, Any]:
        """What the store says about a file; asked again now and then, since it costs as much as a small read."""
        known, now = self._known.get(path), time.monotonic()
        if known is not None and now - known[0] < _INFO_SECONDS:
            return known[1]
        with self._calls(path):
            info: dict[str, Any] = self._files.info(path)
        self._known[path] = now, info
        return info

    def fetch(self, path: str, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` of a file."""
        with self._calls(path):
            return bytes(self._files.cat_file(path, start=start, end=end, **self._reading))

    @contextmanager
    def _calls(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise MissingFileError(f"{shown(self.url)}: {path} does not exist") from error
        except PermissionError as error:
            raise ShardError(f"{shown(self.url)}: {path} cannot be read: access is refused ({error})") from error
        except ImportError as error:
            raise _missing_package(self.url, error) from error
        except Exception as error:  # every file system has exceptions of its own, not known here
            raise BrokenTransferError(f"{type(error).__name__}: {error}") from error


def _file_system(url: str) -> tuple[Any, str]:
    core = importlib.import_module("fsspec.core")  # here, because it is not needed for local sets
    try:
        files, root = core.url_to_fs(url)
    except ImportError as error:
        raise _missing_package(url, error) from error
    except ValueError as error:
        raise ValueError(f"{shown(url)} cannot be opened: {error}") from error
    return files, root


def _plain_cat_file() -> Any:
    return importlib.import_module("fsspec.spec").AbstractFileSystem.cat_file


def _missing_package(url: str, error: ImportError) -> ShardError:
    return ShardError(f"{shown(url)} needs a package that is not installed: {error} (with pip)")


def _version(info: dict[str, Any]) -> str | None:
    for name in ("ETag", "etag", "version_id", "LastModified", "last_modified", "mtime", "created"):
        if info.get(name) is not None:
            return str(info[name])
    return None
