"""dataset.json: the file whose presence means that a shard set is complete, sealed by a checksum of itself."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.codec import crc32c
from shards.errors import DamageError, ShardError
from shards.format import DATASET_FILE, FORMAT_VERSION, WORKSPACE
from shards.remote.location import is_url

SHARD_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.tar")
"""File names that shards may have; the writer's own are a part of these (:func:`shards.format.shard_name`)."""

_MAKERS = "make one with vosdata synth or vosdata shard"


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """What dataset.json says about one shard."""

    shard: int
    """Number in the file name."""

    file: str
    """File name."""

    num_records: int
    """Records in it."""

    size: int
    """Bytes."""

    crc32c: str
    """CRC32C of the whole file, 8 hexadecimal digits."""


def hex_crc(value: int) -> str:
    """A CRC32C as dataset.json writes it."""
    return f"{value:08x}"


def canonical_text(content: Any) -> bytes:
    """The one way that JSON is written in a shard set: sorted keys, indented by 2, ASCII, ended by a newline."""
    return (json.dumps(content, sort_keys=True, indent=2, allow_nan=False) + "\n").encode("ascii")


def seal(content: dict[str, Any]) -> bytes:
    """The bytes of dataset.json: the content with the checksum of its own canonical text."""
    blank = canonical_text({**content, "checksum": ""})
    return canonical_text({**content, "checksum": hex_crc(crc32c(blank))})


def is_shard_set(folder: Path) -> bool:
    """Whether a folder holds a complete shard set."""
    return (folder / DATASET_FILE).is_file()


def find_shard_sets(path: Path) -> list[Path]:
    """The shard set at a path, or else those that lie directly below it, by name. A URL is taken for one set.

    Raises:
        ShardError: there is none; the message says what is there instead.
    """
    if is_url(path) or is_shard_set(path) or (path / WORKSPACE).is_dir():
        return [path]
    found = sorted(child for child in path.iterdir() if is_shard_set(child)) if path.is_dir() else []
    if not found:
        raise ShardError(_why_none(path))
    return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads and checks dataset.json.

    Raises:
        ShardError: there is none (the set is incomplete, or this is no shard set), or it has another format version.
        DamageError: its bytes are not what was written.
    """
    return parse_manifest(manifest_bytes(folder), folder / DATASET_FILE)


def manifest_bytes(folder: Path) -> bytes:
    """The bytes of dataset.json, unchecked.

    Raises:
        ShardError: there is none: the set is incomplete, or this is no shard set.
    """
    try:
        return (folder / DATASET_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ShardError(_why_none(folder)) from error


def parse_manifest(data: bytes, path: Path | str) -> dict[str, Any]:
    """Checks the bytes of a dataset.json; ``path`` or URL is for messages. Raises as :func:`read_manifest`."""
    try:
        return unseal(data, path)
    except ValueError as fault:
        raise DamageError(f"{path} is damaged: {fault}; copy or make the shard set again") from fault


def unseal(data: bytes, path: Path | str) -> dict[str, Any]:
    """The content of a dataset.json; the opposite of :func:`seal`.

    Raises:
        ValueError: the bytes are not what was written; the message says in what.
        ShardError: it has another format version.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON any more ({error})") from error
    if not isinstance(content, dict):
        raise ValueError("it does not hold a JSON object")
    sealed = seal(content)
    if sealed != data:
        expected = json.loads(sealed)["checksum"]
        raise ValueError(f"its checksum is {content.get('checksum')!r}, its content has {expected!r}")
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise ShardError(f"{path} has format version {version}; this vosdata reads version {FORMAT_VERSION}")
    return content


def shard_infos(manifest: dict[str, Any]) -> dict[int, ShardInfo]:
    """What dataset.json says about each shard, by shard number.

    Raises:
        DamageError: a shard's file is not a plain name; nothing outside the set may be read on the word of its data.
    """
    infos = {info["shard"]: ShardInfo(**info) for info in manifest["shards"]}
    for info in infos.values():
        if not SHARD_FILE.fullmatch(info.file):
            raise DamageError(f"{DATASET_FILE} names {info.file!r} as a shard; expected the plain name of a tar")
    return infos


def _why_none(folder: Path) -> str:
    if not folder.exists():
        return f"{folder} does not exist; expected the folder of a shard set"
    if not folder.is_dir():
        return f"{folder} is a file; expected the folder of a shard set"
    if (folder / WORKSPACE).is_dir():
        return f"{folder} is an incomplete shard set (no {DATASET_FILE} yet); run the command that makes it again"
    if inside := sorted(child.name for child in folder.iterdir() if is_shard_set(child)):
        return f"{folder} is no shard set but holds {len(inside)}; name one of them, such as {folder / inside[0]}"
    remedy = "vosdata index makes it from the tars here" if any(folder.glob("*.tar")) else _MAKERS
    return f"{folder} is no shard set: it has no {DATASET_FILE}; {remedy}"
