"""Opens a shard set at a URL: dataset.json and index first, then its shards through a cache or in ranges.

Only the URL that the user gave is asked for files, and only for the names that a shard set has; nothing that stands in
the data leads to a request.
"""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shards.access import Shards
from shards.atomic import write_atomically
from shards.errors import DamageError, ShardError
from shards.format import DATASET_FILE, INDEX_FILE
from shards.index import Index
from shards.manifest import parse_manifest, shard_infos
from shards.remote.cache import FileCache, Wanted
from shards.remote.cached_shards import CachedShards
from shards.remote.location import shown
from shards.remote.ranged_shards import RangedShards
from shards.remote.transfer import MissingFileError, Patience, Store, Transfers

RemoteMode = Literal["cache", "range"]

DEFAULT_CACHE_BYTES = 32 << 30
"""Limit of the cache."""

_MAX_MANIFEST_BYTES = 256 << 20
_MANIFEST_ATTEMPTS = 3
_INDEX_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """How remote sets are read."""

    cache_dir: Path | None = None
    """Folder of the cache; None is ``~/.cache/vosdata``."""

    cache_bytes: int = DEFAULT_CACHE_BYTES
    """Limit of the cache in bytes."""

    mode: RemoteMode = "cache"
    """``"cache"``: whole shards are kept on the local disk. ``"range"``: only what is needed is read, each time."""

    patience: Patience = field(default_factory=Patience)
    """How long to keep trying."""

    def __post_init__(self) -> None:
        if self.mode not in ("cache", "range"):
            raise ValueError(f'mode must be "cache" or "range", got {self.mode!r}')
        if self.cache_bytes < 1:
            raise ValueError(f"cache_bytes must be positive, got {self.cache_bytes}")


@dataclass(frozen=True, slots=True)
class RemoteSet:
    """A remote set that is open."""

    manifest: dict[str, Any]
    """Content of dataset.json."""

    index: Index
    """The index, from the cache."""

    shards: Shards
    """Access to its shards."""

    digest: str
    """Stands for the URL and the content of dataset.json."""


def open_remote(url: str, settings: RemoteSettings, digest: str | None = None) -> RemoteSet:
    """Opens the set at a URL.

    Args:
        url: its folder.
        settings: how to read it.
        digest: of the set as it was opened before; another one is refused then.

    Raises:
        ShardError: there is no set, it cannot be read, it changed since, or a package is missing.
        DamageError: its dataset.json or index is damaged.
        ValueError: nobody speaks the URL's protocol, or the cache is too small for the set.
    """
    transfers = open_transfers(url, settings.patience)
    root = cache_root(settings)
    data = _known_manifest(root, url, digest) or _fetched_manifest(transfers)
    manifest = parse_manifest(data, transfers.where(DATASET_FILE))
    found = _digest(url, data)
    if digest is not None and found != digest:
        raise ShardError(f"{shown(url)} was replaced on the server since it was opened; open it again")
    folder = _folder_name(url, found)
    _check_room(url, manifest, settings)
    _keep_manifest(root / folder, data)
    cache = FileCache(root, folder, settings.cache_bytes, transfers)
    index = _open_index(cache, manifest)
    cached = settings.mode == "cache"
    shards: Shards = CachedShards(cache, settings.cache_bytes) if cached else RangedShards(transfers)
    return RemoteSet(manifest, index, shards, found)


def open_transfers(url: str, patience: Patience) -> Transfers:
    """Prepares reading files of the folder at a URL; asks for nothing yet.

    Raises:
        ShardError: a package is missing.
        ValueError: nobody speaks the URL's protocol.
    """
    return Transfers(_open_store(url, patience), patience)


def fetch_manifest(transfers: Transfers) -> bytes:
    """The bytes of dataset.json as the server has them.

    Raises:
        ShardError: there is none, or it cannot be read.
    """
    try:
        return transfers.small_file(DATASET_FILE, _MAX_MANIFEST_BYTES)
    except MissingFileError as error:
        url = shown(transfers.store.url)
        raise ShardError(f"{url} is no shard set, or an incomplete one: {DATASET_FILE} is not there") from error


def cache_root(settings: RemoteSettings) -> Path:
    """Folder of the cache."""
    return settings.cache_dir if settings.cache_dir is not None else Path.home() / ".cache" / "vosdata"


def _open_store(url: str, patience: Patience) -> Store:
    # each imported here, because a set needs one of them at most, and a local one none
    if url.startswith(("http://", "https://")):
        from shards.remote.http_store import HttpStore

        return HttpStore(url, patience.timeout_seconds)
    from shards.remote.fsspec_store import FsspecStore

    return FsspecStore(url)


def _fetched_manifest(transfers: Transfers) -> bytes:
    """dataset.json, fetched again when it is not what it says of itself: it may just be being replaced."""
    for _ in range(_MANIFEST_ATTEMPTS):
        data = fetch_manifest(transfers)
        try:
            parse_manifest(data, transfers.where(DATASET_FILE))
        except DamageError:
            continue
        break
    return data  # the caller parses it once more and so raises what is wrong


def _known_manifest(root: Path, url: str, digest: str | None) -> bytes | None:
    """dataset.json from the cache; only when it is known which one is wanted."""
    if digest is None:
        return None
    try:
        data = (root / _folder_name(url, digest) / DATASET_FILE).read_bytes()
    except OSError:
        return None
    return data if _digest(url, data) == digest else None


def _keep_manifest(folder: Path, data: bytes) -> None:
    path = folder / DATASET_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != data:
            write_atomically(path, data)
    except OSError as error:
        raise ShardError(f"the cache {folder.parent} cannot be used: {error}; name another folder for it") from error


def _digest(url: str, manifest: bytes) -> str:
    # without query and password, which change while the set stays
    return hashlib.sha256(shown(url).encode() + b"\n" + manifest).hexdigest()[:16]


def _folder_name(url: str, digest: str) -> str:
    last = re.sub(r"[^A-Za-z0-9_-]+", "-", shown(url).rstrip("/").rpartition("/")[2])[:40].strip("-")
    return f"{last}-{digest}"


def _check_room(url: str, manifest: dict[str, Any], settings: RemoteSettings) -> None:
    """The index must fit, and with a cache one shard besides."""
    largest = max((info.size for info in shard_infos(manifest).values()), default=0)
    needed = manifest["index"]["size"] + (largest if settings.mode == "cache" else 0)
    if needed > settings.cache_bytes:
        raise ValueError(
            f"{shown(url)} needs a cache of {needed} bytes at least (index and largest shard), "
            f'cache_bytes is {settings.cache_bytes}; allow more, or use mode="range"'
        )


def _open_index(cache: FileCache, manifest: dict[str, Any]) -> Index:
    expected = manifest["index"]
    for _ in range(_INDEX_ATTEMPTS):
        cached = cache.fetch(Wanted(INDEX_FILE, expected["size"], expected["crc32c"]))
        try:
            return Index(cached.path)
        except ShardError:
            if cached.path.exists():
                raise
    raise ShardError(f"{cache.path}: the index is evicted again and again; allow a larger cache")
