"""The stored form, format version 1: the specification and its constants.

A shard set is a folder that holds all records of one split of one dataset::

    <name>-000000.tar ...   shards: POSIX (USTAR) tars, read by webdataset, Hugging Face datasets and tar as they are
    index.arrow             one row per record: everything that sampling needs, and where each member's bytes lie
    README.md               dataset card whose YAML makes the folder loadable from the Hub
    dataset.json            written last; its presence means that the set is complete

**Shard.** A record's members are adjacent and in this order: ``KEY.json``, then for each frame in order of time
``KEY.frame00000.jpg`` (``.png`` when the stored picture is a PNG) and, when the frame is annotated,
``KEY.mask00000.png``; behind them the *extras*, if any. The number is the frame number, with at least 5 digits. KEY is
the sequence name, percent-encoded to ASCII without a dot (:func:`shards.writer.key_of`). Headers are fixed: mode 0644,
uid, gid and mtime 0, no user names; so a header is a function of name and size alone. Each member is padded with zeros
to 512 bytes; two zero blocks end the tar. Shard numbers may have gaps: a shard in which every record was skipped has no
tar.

**Image.** A JPEG or PNG file; the original bytes where the source was packed at native size.

**Mask.** An 8-bit palette PNG with the DAVIS palette whose indices are the object ids: 0 background, 1..254 objects,
255 void. Rows are unfiltered and the zlib stream is one IDAT chunk, so that it decodes at the speed of inflating
(:mod:`shards.masks`). An unannotated frame has no mask member.

**Extras.** Further files of frames, such as exact truth of a synthetic video: ``KEY.amodal00000.png``, a word of 1 to 7
letters that means neither frame nor mask to :mod:`shards.layout`, the frame number, a suffix of 1 to 3 letters or
digits. They are ordered by name (``amodal.png``), then by frame; a frame may lack any. What is in them is the business
of whoever writes them and of the record JSON.

**Record JSON.** One object with the same keys and types in every record of a set: ``key``, ``sequence``, ``height``,
``width``, ``frame_numbers`` (list of int), ``annotated`` (list of bool), ``object_ids`` (list of int), ``source``,
``licence``, ``provenance``, then the set's own keys, such as ``scene``.

**index.arrow.** Arrow IPC file, uncompressed, record batches of ``INDEX_BATCH`` rows (the last may be shorter), rows in
order of shard and place in it. For a record of T frames and N objects; lists are flat, row-major:

    ==================================== =============== =============================================================
    key, sequence                        utf8
    shard                                int32           number in the shard's file name
    height, width                        int32           pixels
    source, licence, provenance          utf8
    json_offset, json_size, json_crc     int64, int32, uint32   the record's JSON member
    frame_numbers                        list<int32>     T, strictly increasing
    annotated                            list<uint8>     T, 1 where the frame has a mask
    image_offsets, image_sizes, image_crcs  list<int64, int32, uint32>  T
    mask_offsets, mask_sizes, mask_crcs  list<int64, int32, uint32>     T, all 0 where unannotated
    object_ids                           list<uint8>     N, ascending, every id seen in the record
    areas                                list<int32>     T*N, pixels, 0 where absent or unannotated
    boxes                                list<int32>     T*N*4, x0, y0, x1, y1, end-exclusive, 0 where the area is 0
    extra_names                          utf8            names of the record's K extras in order, separated by spaces
    extra_offsets, extra_sizes, extra_crcs  list<int64, int32, uint32>  K*T, all 0 where a frame lacks the extra
    ==================================== =============== =============================================================

Offsets count bytes from the shard's start to the member's data (after its header).

**Tars of others.** ``vosdata index`` makes index.arrow and dataset.json for tars that others wrote for webdataset. Then
dataset.json has ``"layout": "webdataset"``, shards may have any plain name, and names, headers and order of members are
whatever :mod:`shards.layout` recognises; ``json_size`` is 0 where a record has no JSON object, and the JSON need not
have the fixed keys. All else holds.

**Checksums.** CRC32C (Castagnoli) everywhere: of each member in the index, of each shard and of the index in
dataset.json, and of dataset.json in itself: its ``checksum`` is that of its canonical text with an empty
``checksum``. Canonical text is JSON with sorted keys, indented by 2, ASCII, ended by a newline.
"""

import re
from pathlib import Path

FORMAT_VERSION = 1

DATASET_FILE = "dataset.json"
INDEX_FILE = "index.arrow"
CARD_FILE = "README.md"

WORKSPACE = ".building"
"""Folder that a set has while it is being built (:mod:`shards.workspace`)."""

BLOCK = 512
"""Tar block size in bytes: headers are one block, data is padded to whole blocks."""

END_OF_TAR = bytes(2 * BLOCK)

FOREIGN_LAYOUT = "webdataset"
"""Value of ``layout`` in the dataset.json of a set whose tars others made; absent otherwise."""

INDEX_BATCH = 16384
"""Rows per record batch of the index: few enough to write in little memory; a million records are 62 batches."""

MAX_SIDE = 65535
"""Largest height or width in pixels; JPEG allows no more."""

MAX_PIXELS = 2**26
"""Most pixels that a picture or mask may have (8192x8192); larger claims are refused before decoding."""

MAX_FRAME_NUMBER = 99_999_999

RECORD_KEYS = (
    "key",
    "sequence",
    "height",
    "width",
    "frame_numbers",
    "annotated",
    "object_ids",
    "source",
    "licence",
    "provenance",
)
"""The keys that every record JSON has, in this order."""

EXTRA_NAME = re.compile(r"(?P<word>[a-z]{1,7})\.(?P<suffix>[a-z0-9]{1,3})")
"""Names of extras; so short that with the longest key they fit a plain tar header."""

_SET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def check_set_name(name: str) -> str:
    """Returns the name of a shard set if it can stand in file names and globs.

    Raises:
        ValueError: it holds anything but ASCII letters, digits, ``-`` and ``_``.
    """
    if not _SET_NAME.fullmatch(name):
        raise ValueError(f"the name of a shard set must be letters, digits, - and _ (ASCII), got {name!r}")
    return name


def shard_name(name: str, shard: int) -> str:
    """File name of a shard, such as ``synthvos-000003.tar``."""
    return f"{name}-{shard:06d}.tar"


def shard_path(folder: Path, name: str, shard: int) -> Path:
    """Path of a shard."""
    return folder / shard_name(name, shard)


def json_member(key: str) -> str:
    """Member name of a record's JSON."""
    return f"{key}.json"


def image_member(key: str, number: int, suffix: str) -> str:
    """Member name of a frame's picture; ``suffix`` is ``jpg`` or ``png``."""
    return f"{key}.frame{number:05d}.{suffix}"


def mask_member(key: str, number: int) -> str:
    """Member name of a frame's mask."""
    return f"{key}.mask{number:05d}.png"


def extra_member(key: str, number: int, name: str) -> str:
    """Member name of a frame's extra; ``name`` is a word and a suffix, such as ``amodal.png``."""
    word, _, suffix = name.partition(".")
    return f"{key}.{word}{number:05d}.{suffix}"


def padding(size: int) -> int:
    """Zero bytes that follow ``size`` bytes of data to fill the last block."""
    return -size % BLOCK
