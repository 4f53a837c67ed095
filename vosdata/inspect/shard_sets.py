"""Facts about shard sets and single records. No pixel is decoded: everything comes out of the index."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.index import Index, IndexBatch
from shards.manifest import find_shard_sets, is_shard_set
from shards.reader import ShardSet
from vosdata.inspect.facts import Facts, Table
from vosdata.opening import open_shard_set

MAX_SKIPPED = 20


def shard_folder_facts(path: Path) -> list[Facts]:
    """Facts about the shard set at a path, or about those directly below it.

    Raises:
        ShardError: there is no complete shard set.
    """
    return [shard_set_facts(open_shard_set(folder)) for folder in find_shard_sets(path)]


def holds_shard_sets(path: Path) -> bool:
    """Whether a folder is a shard set or has shard sets directly below it."""
    return is_shard_set(path) or (path.is_dir() and any(is_shard_set(child) for child in path.iterdir()))


def shard_set_facts(shard_set: ShardSet) -> Facts:
    """Facts about one shard set."""
    about, index = shard_set.description, shard_set.index
    values = {
        "title": about["title"],
        "name": about["name"],
        "split": about["split"],
        "records": about["num_records"],
        "frames": about["num_frames"],
        "annotated_frames": about["num_annotated_frames"],
        "frames_per_record": _spread(index.num_frames),
        "objects_per_record": _spread(index.num_objects),
        "frame_sizes": _sizes(index),
        "frame_rate": about["frame_rate"],
        "object_share_of_frame": _object_shares(index),
        "shards": len(about["shards"]),
        "bytes": sum(info["size"] for info in about["shards"]),
        "licence": about["licence"],
        "skipped": len(about["skipped"]),
        "source_fingerprint": about["source_fingerprint"],
        "configuration": about["configuration"],
    }
    skipped = tuple((item["name"], item["reason"]) for item in about["skipped"][:MAX_SKIPPED])
    tables = (Table("skipped_records", ("name", "reason"), skipped),) if skipped else ()
    return Facts("shard set", str(shard_set.path), values, tables)


def record_facts(shard_set: ShardSet, key: str) -> Facts:
    """Facts about one record.

    Args:
        shard_set: the set.
        key: the record's key, its sequence name, or its position as a decimal number.

    Raises:
        ValueError: there is no such record.
    """
    position = find_record(shard_set, key)
    entry = shard_set.entry(position)
    values = {
        "record": entry.key,
        "position": position,
        "sequence": entry.sequence,
        "shard": shard_set.shard_file(entry.shard),
        "frames": entry.num_frames,
        "annotated_frames": int(entry.annotated.sum()),
        "frame_size": f"{entry.height}x{entry.width}",
        "object_ids": entry.object_ids.tolist(),
        "source": entry.source,
        "licence": entry.licence,
        "provenance": entry.provenance,
        **shard_set.own_fields(position),
    }
    rows = tuple(
        (
            number,
            int(entry.image_offsets[frame]),
            int(entry.image_sizes[frame]),
            int(entry.mask_sizes[frame]) if entry.annotated[frame] else None,
            ", ".join(
                f"{index}: {area}" for index, area in zip(entry.object_ids, entry.areas[frame], strict=True) if area
            ),
        )
        for frame, number in enumerate(entry.frame_numbers.tolist())
    )
    columns = ("number", "offset", "image_bytes", "mask_bytes", "pixels_per_object")
    return Facts("record", str(shard_set.path), values, (Table("frame_table", columns, rows),))


def find_record(shard_set: ShardSet, name: str) -> int:
    """Position of the record with this key, sequence name or position.

    Raises:
        ValueError: there is none.
    """
    from shards.writer import key_of

    for key in (name, key_of(name)):
        try:
            return shard_set.find(key)
        except KeyError:
            continue
    if name.isdecimal() and int(name) < len(shard_set):
        return int(name)
    some = ", ".join(shard_set.entry(position).sequence for position in range(min(5, len(shard_set))))
    raise ValueError(
        f"{shard_set.path} has no record {name!r} (by key, sequence name or position); it has: {some}, ..."
    )


def _spread(counts: NDArray[np.int32]) -> str:
    """Smallest, middle and largest of some counts."""
    if len(counts) == 0:
        return "-"
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}, median {np.median(counts):g}"


def _sizes(index: Index) -> list[str]:
    pairs, counts = np.unique(np.stack([index.heights, index.widths], axis=1), axis=0, return_counts=True)
    common = sorted(zip(counts.tolist(), pairs.tolist(), strict=True), reverse=True)
    shown = [f"{height}x{width} ({count})" for count, (height, width) in common[:6]]
    return [*shown, f"and {len(common) - 6} more"] if len(common) > 6 else shown


def _object_shares(index: Index) -> str:
    """How much of its frame an object covers where it is visible."""
    shares = np.concatenate([np.zeros(0), *(_batch_shares(batch) for batch in index.batches())])
    if len(shares) == 0:
        return "no objects"
    low, middle, high = np.quantile(shares, (0.05, 0.5, 0.95))
    return f"median {middle:.2%} (5 % of them below {low:.2%}, 5 % above {high:.2%})"


def _batch_shares(batch: IndexBatch) -> NDArray[np.float64]:
    starts, areas = batch.lists("areas")
    pixels = batch.numbers("height").astype(np.int64) * batch.numbers("width")
    used = areas[starts[0] : starts[-1]]
    shares: NDArray[np.float64] = (used / np.repeat(pixels, np.diff(starts)))[used > 0]
    return shares
