"""Finds the members of a tar without extracting anything: POSIX (USTAR and pax) and GNU archives, strictly.

The archive is taken as hostile: only plain files with harmless names count, everything else is refused and named.
Unlike most readers, this one does not stop silently where a header is damaged.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from shards.errors import DamageError, DatasetError
from shards.format import BLOCK, padding

_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a pipe",
    b"K": "a link with a long target",
    b"S": "a sparse file",
}
_MAX_NAME = 4096
_MAX_EXTENSION = 1 << 20
_MAX_MEMBER_SIZE = 2**31 - 1


@dataclass(frozen=True, slots=True)
class TarMember:
    """A plain file in a tar."""

    name: str
    """Path in the archive, without ``.`` parts."""

    header: int
    """Byte at which its first header begins."""

    offset: int
    """Byte at which its data begins."""

    size: int
    """Bytes of data."""


def scan_tar(data: memoryview, where: str) -> Iterator[TarMember]:
    """Yields the plain files of an archive in order; folders are passed over.

    Args:
        data: the whole archive.
        where: its name, for messages.

    Raises:
        DamageError: a header is damaged, or the archive is cut off.
        DatasetError: it is compressed or no tar, or holds links, devices, names that lead outside, or a name twice.
    """
    if bytes(data[:2]) == b"\x1f\x8b" or bytes(data[:3]) == b"BZh" or bytes(data[:4]) == b"\x28\xb5\x2f\xfd":
        raise DatasetError(f"{where} is compressed; members of a shard must be reachable: unpack it to a plain tar")
    seen: set[str] = set()
    for member in _Scan(data, where).members():
        if member.name in seen:
            raise DatasetError(f"{where} holds {member.name!r} twice, again at byte {member.header}")
        seen.add(member.name)
        yield member


class _Scan:
    """Where a scan is, and what headers of headers said about the next member."""

    def __init__(self, data: memoryview, where: str) -> None:
        self._data = data
        self._where = where
        self._position = 0
        self._begin = 0
        self._long_name: str | None = None
        self._long_size: int | None = None

    def members(self) -> Iterator[TarMember]:
        while True:
            header = self._header()
            if header is None:
                return
            kind = header[156:157]
            size = self._number(header[124:136], "size")
            if kind in (b"L", b"x", b"g"):
                self._extension(kind, self._content(size))
                continue
            name = self._long_name or _plain_name(header, self._where, self._begin)
            size = size if self._long_size is None else self._long_size
            self._long_name = self._long_size = None
            if kind == b"5" or (kind in (b"0", b"\0") and name.endswith("/")):
                self._pass(size, name)
            elif kind in (b"0", b"\0", b"7"):
                offset = self._position
                self._pass(size, name)
                yield TarMember(self._safe(name), self._begin, offset, size)
            else:
                what = _KINDS.get(kind, f"of the unknown kind {kind!r}")
                raise DatasetError(f"{self._where}: {name!r} at byte {self._begin} is {what}; only plain files may be")
            self._begin = self._position

    def _header(self) -> bytes | None:
        """The next header, checked; None at the end of the archive."""
        start = self._position
        header = bytes(self._data[start : start + BLOCK])
        if len(header) < BLOCK:
            raise DamageError(f"{self._where} is cut off: it ends at byte {len(self._data)} without an end of archive")
        if not any(header):
            self._check_end(start)
            return None
        stated = self._number(header[148:156], "checksum")
        found = sum(header) - sum(header[148:156]) + 8 * ord(" ")
        if stated != found:
            raise self._damaged(f"its checksum is {found:o}, it says {stated:o}")
        self._position += BLOCK
        return header

    def _check_end(self, start: int) -> None:
        if self._begin != start:
            raise DamageError(f"{self._where}: the archive ends at byte {start} after a header without its member")
        rest = self._data[start:]
        if len(rest) < 2 * BLOCK:
            raise DamageError(f"{self._where} is cut off at byte {len(self._data)}, inside its end of archive")
        for offset in range(0, len(rest), 1 << 20):
            block = bytes(rest[offset : offset + (1 << 20)])
            if block.count(0) != len(block):
                raise DamageError(f"{self._where}: bytes follow the end of the archive at byte {start}")

    def _pass(self, size: int, name: str) -> None:
        """Passes over a member's data and padding."""
        end = self._position + size
        if not 0 <= size <= _MAX_MEMBER_SIZE:
            raise DatasetError(f"{self._where}: {name!r} at byte {self._begin} has {size} bytes; the limit is 2 GiB")
        if end + padding(size) > len(self._data):
            raise DamageError(f"{self._where} is cut off: it ends at byte {len(self._data)}, {name!r} at {end}")
        self._position = end + padding(size)

    def _content(self, size: int) -> bytes:
        """The data of a header's header."""
        if size > _MAX_EXTENSION:
            raise DatasetError(f"{self._where}: the header at byte {self._begin} is followed by {size} bytes about it")
        start = self._position
        self._pass(size, "a header")
        return bytes(self._data[start : start + size])

    def _extension(self, kind: bytes, content: bytes) -> None:
        """Takes over what a GNU or pax header says about the member behind it."""
        if kind == b"L":
            self._long_name = self._text(content.rstrip(b"\0"))
            return
        for key, value in self._pax(content):
            if key.startswith("GNU.sparse") or (kind == b"g" and key in ("path", "size")):
                raise DatasetError(f"{self._where}: the header at byte {self._begin} states {key}: refused")
            if key == "path":
                self._long_name = self._text(value)
            elif key == "size":
                if not value.isdigit():
                    raise DamageError(f"{self._where}: the header at byte {self._begin} states no size: {value!r}")
                self._long_size = int(value[:20])

    def _pax(self, content: bytes) -> Iterator[tuple[str, bytes]]:
        """Records ``length key=value``."""
        while content.rstrip(b"\0"):
            length, _, _ = content.partition(b" ")
            end = int(length) if length.isdigit() and len(length) < 8 else 0
            key, mark, value = content[len(length) + 1 : max(end - 1, 0)].partition(b"=")
            if not mark or content[end - 1 : end] != b"\n":
                raise DamageError(f"{self._where}: the pax header at byte {self._begin} is damaged")
            yield key.decode("utf-8", "replace"), value
            content = content[end:]

    def _number(self, digits: bytes, what: str) -> int:
        text = digits.strip(b" \0")
        if digits[:1] in (b"\x80", b"\xff"):
            raise DatasetError(f"{self._where}: the member at byte {self._begin} is larger than 8 GiB")
        if text and not all(ord("0") <= digit <= ord("7") for digit in text):
            raise self._damaged(f"{what} {text!r}")
        return int(text or b"0", 8)

    def _damaged(self, what: str) -> DamageError:
        hint = "; it is no tar, or one that is damaged at its begin" if self._begin == 0 else ""
        return DamageError(f"{self._where}: the header at byte {self._begin} is damaged ({what}){hint}")

    def _text(self, name: bytes) -> str:
        if len(name) > _MAX_NAME:
            raise DatasetError(f"{self._where}: the name at byte {self._begin} has {len(name)} bytes")
        return _decoded(name, self._where, self._begin)

    def _safe(self, name: str) -> str:
        """The name without ``.`` parts, if it stays inside the archive."""
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or "\\" in name or not name.isprintable():
            raise DatasetError(
                f"{self._where}: the name {name!r} at byte {self._begin} is refused: it is absolute, leads outside the "
                "archive, or holds control characters"
            )
        return "/".join(part for part in parts if part not in ("", "."))


def _plain_name(header: bytes, where: str, begin: int) -> str:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    return _decoded(name, where, begin)


def _decoded(name: bytes, where: str, begin: int) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{where}: the name {name!r} at byte {begin} is no UTF-8 text") from error
