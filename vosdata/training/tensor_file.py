"""Named tensors and a JSON text in one safetensors file that notices damage and is replaced as a whole.

The file is ordinary safetensors (https://github.com/huggingface/safetensors: header length, JSON header, data): any
reader of that form opens it, and nothing in it can run code. Its last tensor, ``checksum``, holds the CRC32C of every
byte before it, so that one flipped bit anywhere, the header included, is found.
"""

import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from shards.atomic import atomic_file
from shards.errors import CheckpointError

CHECKSUM = "checksum"
CHECKSUM_BYTES = 4
CHUNK_BYTES = 1 << 22
MAX_HEADER_BYTES = 100_000_000
"""The safetensors library refuses longer headers."""

_DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: str) -> None:
    """Writes the file as a whole: at no moment does ``path`` hold anything but a whole file, old or new.

    Args:
        path: where to; its folder exists.
        tensors: name to tensor, on any device; at least one, none called ``checksum``.
        metadata: any text; stored in the header.

    Raises:
        ValueError: a name is ``checksum``, or a dtype cannot be stored.
        OSError: the disk is full or refuses.
    """
    with atomic_file(path) as file:
        checksum = 0
        for chunk in _chunks(tensors, metadata):
            checksum = google_crc32c.extend(checksum, chunk)
            file.write(chunk)
        file.write(checksum.to_bytes(CHECKSUM_BYTES, "little"))


def read_tensors(path: Path, prefix: str = "") -> tuple[dict[str, Tensor], str]:
    """Reads tensors and metadata after checking every byte of the file.

    Args:
        path: the file.
        prefix: only tensors whose name begins so are read; the whole file is checked all the same.

    Returns:
        Name to tensor, on the CPU, each in memory of its own; and the metadata text.

    Raises:
        CheckpointError: the file is missing, of another form, cut off or damaged.
    """
    metadata = _check(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = [name for name in file.keys() if name != CHECKSUM and name.startswith(prefix)]  # noqa: SIM118
            return {name: file.get_tensor(name).clone() for name in names}, metadata
    except SafetensorError as error:
        raise CheckpointError(f"checkpoint {path}: its header contradicts itself ({error}); use another") from error


def _chunks(tensors: Mapping[str, Tensor], metadata: str) -> Iterator[bytes]:
    """Every byte of the file before the checksum's own data."""
    header: dict[str, Any] = {"__metadata__": {"vosdata": metadata}}
    offset = 0
    for name, tensor in tensors.items():
        if name == CHECKSUM or tensor.dtype not in _DTYPE_NAMES:
            raise ValueError(f"a tensor called '{name}' of {tensor.dtype} cannot be stored")
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    header[CHECKSUM] = {
        "dtype": "U8",
        "shape": [CHECKSUM_BYTES],
        "data_offsets": [offset, offset + CHECKSUM_BYTES],
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data begins aligned, as the library writes it
    yield struct.pack("<Q", len(text)) + text
    for tensor in tensors.values():
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        for start in range(0, data.size, CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES].tobytes()


def _check(path: Path) -> str:
    """Checks form and checksum, and returns the metadata."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if length > min(size - 8, MAX_HEADER_BYTES):
                raise CheckpointError(
                    f"checkpoint {path}: not a checkpoint of vosdata, or cut off ({size} bytes){_kind(start)}"
                )
            header = start + file.read(length)
            checksum = google_crc32c.value(header)
            remaining = size - len(header) - CHECKSUM_BYTES
            while remaining > 0:
                chunk = file.read(min(remaining, CHUNK_BYTES))
                checksum = google_crc32c.extend(checksum, chunk)
                remaining -= len(chunk)
            stored = int.from_bytes(file.read(CHECKSUM_BYTES), "little")
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint at {path}") from None
    except IsADirectoryError:
        raise CheckpointError(f"checkpoint {path}: is a folder, expected a .safetensors file") from None
    return _metadata(path, header[8:], checksum, stored)


def _metadata(path: Path, header: bytes, checksum: int, stored: int) -> str:
    if checksum != stored:
        raise CheckpointError(
            f"checkpoint {path}: damaged, or not written by vosdata: checksum {checksum:08x}, expected {stored:08x}; "
            "use an earlier one"
        )
    try:
        metadata = json.loads(header)["__metadata__"]["vosdata"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path}: its header is not that of a vosdata checkpoint") from error
    return str(metadata)


def _kind(start: bytes) -> str:
    if start.startswith(b"PK"):
        return "; it is a PyTorch pickle (zip), which is not read because it can run code"
    return ""
