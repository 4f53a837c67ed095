"""Facts about checkpoints and run folders, read from the safetensors header alone; torch is not needed."""

import json
import math
import struct
from pathlib import Path
from typing import Any

from shards.errors import CheckpointError
from vosdata.inspect.facts import Facts, Table

MAX_HEADER_BYTES = 100_000_000
"""As the safetensors library has it."""


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file.

    Raises:
        CheckpointError: it is no safetensors file, or cut off.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise CheckpointError(f"{path} is no safetensors file, or cut off ({size} bytes)")
        text = file.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no safetensors file: its header is no JSON") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} is no safetensors file: its header is no JSON object")
    return header


def checkpoint_facts(path: Path) -> Facts:
    """Facts about one checkpoint: its metadata, and its tensors summed up by the first parts of their names.

    Raises:
        CheckpointError: it is no safetensors file, or cut off.
    """
    header = read_header(path)
    metadata = header.pop("__metadata__", {})
    try:
        groups = _groups(header)
        missing = _missing_bytes(path, header)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: its header describes tensors wrongly ({error})") from error
    values = {
        "bytes": path.stat().st_size,
        "tensors": len(header),
        "numbers": sum(group[2] for group in groups),
        **{name: _parsed(value) for name, value in metadata.items()},
    }
    if missing:
        values["cut_off"] = f"{missing} bytes are missing at the end"
    return Facts("checkpoint", str(path), values, (Table("parts", ("part", "tensors", "numbers", "types"), groups),))


def run_facts(path: Path) -> list[Facts]:
    """Facts about the newest checkpoint of a run folder; empty when the folder holds no run."""
    checkpoints = sorted((path / "checkpoints").glob("step-*.safetensors"))
    if not checkpoints:
        return []
    values = {"checkpoints": [checkpoint.name for checkpoint in checkpoints]}
    return [Facts("run", str(path), values), checkpoint_facts(checkpoints[-1])]


def _groups(header: dict[str, Any]) -> tuple[tuple[Any, ...], ...]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, tensor in header.items():
        groups.setdefault(".".join(name.split(".")[:2]), []).append(tensor)
    return tuple(
        (
            part,
            len(tensors),
            sum(math.prod(tensor["shape"]) for tensor in tensors),
            ", ".join(sorted({str(tensor["dtype"]) for tensor in tensors})),
        )
        for part, tensors in groups.items()
    )


def _missing_bytes(path: Path, header: dict[str, Any]) -> int:
    with path.open("rb") as file:
        begin = 8 + int(struct.unpack("<Q", file.read(8))[0])
    end = max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    return max(0, begin + end - path.stat().st_size)


def _parsed(value: Any) -> Any:
    """Metadata values are text; those that hold JSON are shown as what they are."""
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value
