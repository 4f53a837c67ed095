"""Puts the fragments of all shards together: index, card, and dataset.json last."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shards.atomic import atomic_file, write_atomically
from shards.card import card_text
from shards.codec import crc32c
from shards.errors import DatasetError, ShardError
from shards.format import CARD_FILE, DATASET_FILE, FORMAT_VERSION, INDEX_FILE
from shards.index import write_index
from shards.local_shards import map_file
from shards.manifest import hex_crc, seal
from shards.plan import BuildReport, ShardPlan, Skipped
from shards.workspace import Fragment, Workspace


@dataclass(slots=True)
class _Totals:
    """Counts over the rows that passed by."""

    num_records: int = 0
    num_frames: int = 0
    num_annotated: int = 0

    def counted(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Passes batches on and counts them."""
        for batch in batches:
            self.num_records += batch.num_rows
            self.num_frames += len(batch.column("frame_numbers").flatten())
            self.num_annotated += pc.sum(batch.column("annotated").flatten()).as_py() or 0
            yield batch


def write_completion(plan: ShardPlan, folder: Path, workspace: Workspace, configuration: dict[str, Any]) -> BuildReport:
    """Writes index.arrow, README.md and, last, dataset.json.

    Raises:
        ShardError: a shard has not been made, or every record was skipped.
        DatasetError: two records have the same key.
    """
    missing = [shard for shard in range(plan.num_shards) if workspace.read_fragment(shard) is None]
    if missing:
        raise ShardError(f"{folder}: {len(missing)} shards are not made yet, the first is {missing[0]}")
    _check_keys(folder, _fragments(plan, workspace))
    totals = _Totals()
    with atomic_file(folder / INDEX_FILE, workspace.path) as file:
        write_index(file, totals.counted(fragment.rows for fragment in _fragments(plan, workspace)))
    fragments = list(_fragments(plan, workspace))
    skipped = [item for fragment in fragments for item in fragment.skipped]
    if totals.num_records == 0:
        first = f"; the first: {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise ShardError(f"{folder}: no record is left, {len(skipped)} were skipped{first}")
    description = plan.description()
    content = {
        "format_version": FORMAT_VERSION,
        "name": plan.name,
        "split": plan.split,
        "title": description.title,
        "licence": description.licence,
        "frame_size": list(description.frame_size) if description.frame_size else None,
        "frame_rate": description.frame_rate,
        "source_fingerprint": description.source_fingerprint,
        "configuration": configuration,
        "num_records": totals.num_records,
        "num_frames": totals.num_frames,
        "num_annotated_frames": totals.num_annotated,
        "index": index_info(folder / INDEX_FILE),
        "shards": [asdict(fragment.info) for fragment in fragments if fragment.info.num_records],
        "skipped": [asdict(item) for item in skipped],
    }
    card = card_text(plan.name, plan.split, description, totals.num_records, totals.num_frames)
    write_atomically(folder / CARD_FILE, card.encode())
    write_atomically(folder / DATASET_FILE, seal(content))
    return complete_report(folder, content, already_complete=False)


def complete_report(folder: Path, manifest: dict[str, Any], already_complete: bool) -> BuildReport:
    """The report on a complete set, from its dataset.json."""
    return BuildReport(
        folder=folder,
        num_records=manifest["num_records"],
        num_frames=manifest["num_frames"],
        num_bytes=sum(info["size"] for info in manifest["shards"]),
        skipped=tuple(Skipped(**item) for item in manifest["skipped"]),
        already_complete=already_complete,
    )


def _fragments(plan: ShardPlan, workspace: Workspace) -> Iterator[Fragment]:
    for shard in range(plan.num_shards):
        fragment = workspace.read_fragment(shard)
        if fragment is None:
            raise ShardError(f"{workspace.folder}: shard {shard} vanished while the set was being finished; run again")
        yield fragment


def _check_keys(folder: Path, fragments: Iterable[Fragment]) -> None:
    keys = pa.chunked_array([fragment.rows.column("key") for fragment in fragments], pa.utf8())
    if pc.count_distinct(keys).as_py() == len(keys):
        return
    counts = pc.value_counts(keys)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    raise DatasetError(f"{folder}: {len(twice)} keys are used by more than one record, the first is {twice[0]}")


def index_info(path: Path) -> dict[str, Any]:
    """What dataset.json says about the index, whose bytes lie at a path."""
    data = map_file(path)
    return {"file": INDEX_FILE, "size": len(data), "crc32c": hex_crc(crc32c(data))}
