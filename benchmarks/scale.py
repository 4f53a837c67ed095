"""What does not depend on decoding: opening a set of a million records, resuming far away, memory of the engine.

    python benchmarks/scale.py SHARDS [--records 1000000]

The large set is SHARDS with its records repeated in the index, in a temporary folder. Prints JSON; ``loaders.py`` runs
this on the frames that it measures.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from shards.codec import crc32c
from shards.format import DATASET_FILE, INDEX_FILE
from shards.index import INDEX_BATCH, entries_to_batch, write_index
from shards.manifest import hex_crc, read_manifest, seal
from shards.reader import ShardSet

POSITIONS = 10**9
"""Length of the epoch in which streams are resumed."""


def repeat_records(source: Path, target: Path, count: int) -> None:
    """Makes a set of ``count`` records out of a small one: the same tars, an index that names each many times."""
    shard_set = ShardSet(source)
    rows = entries_to_batch([shard_set.entry(position) for position in range(len(shard_set))])
    place = rows.schema.get_field_index("key")

    def batches() -> Any:
        for start in range(0, count, INDEX_BATCH):
            numbers = np.arange(start, min(start + INDEX_BATCH, count))
            batch = (
                pa.Table.from_batches([rows]).take(pa.array(numbers % len(shard_set))).combine_chunks().to_batches()[0]
            )
            keys = pa.array([f"record{number:09d}" for number in numbers.tolist()])
            columns = [keys if index == place else column for index, column in enumerate(batch.columns)]
            yield pa.RecordBatch.from_arrays(columns, schema=rows.schema)

    target.mkdir()
    for tar in source.glob("*.tar"):
        (target / tar.name).symlink_to(tar.resolve())
    with (target / INDEX_FILE).open("wb") as file:
        write_index(file, batches())
    checksum = 0
    with (target / INDEX_FILE).open("rb") as file:
        while block := file.read(1 << 20):
            checksum = crc32c(block, checksum)
    content = read_manifest(source)
    content["num_records"] = count
    content["index"] = {"file": INDEX_FILE, "size": (target / INDEX_FILE).stat().st_size, "crc32c": hex_crc(checksum)}
    (target / DATASET_FILE).write_bytes(seal(content))


def measure_here(path: Path) -> dict[str, float]:
    """Opens, starts and resumes in this fresh process; imports do not count."""
    import vosdata.stream

    before = _kib("self", "RssAnon") + _kib("self", "RssFile")
    start = time.perf_counter()
    opened = ShardSet(path)
    opening = time.perf_counter() - start
    opened_kib = _kib("self", "RssAnon") + _kib("self", "RssFile") - before
    positions = range(0, len(opened), max(1, len(opened) // 1000))
    for _ in range(2):  # the first time maps the index and brings its pages in
        start = time.perf_counter()
        for position in positions:
            opened.entry(position)
        lookup = (time.perf_counter() - start) / len(positions)

    options: dict[str, Any] = {"snippet": 1, "batch": 4, "threads": 2, "objects": "all", "min_object_pixels": 1}
    start = time.perf_counter()
    stream = vosdata.stream.SnippetStream(path, epoch_size=POSITIONS, **options)
    next(iter(stream))
    first = time.perf_counter() - start
    helpers = [pid for pid in _children() if _kib(pid, "RssAnon")]
    engine = sum(_kib(pid, "RssAnon") for pid in helpers)
    resumed = []
    for position in np.random.default_rng(0).integers(0, POSITIONS, 20).tolist():
        state = {**stream.state_dict(), "position": position}
        start = time.perf_counter()
        stream.load_state_dict(state)
        stream.keys(range(position, position + 4))
        resumed.append(time.perf_counter() - start)
    stream.close()
    return {
        "records": len(opened),
        "open_seconds": opening,
        "open_mib": opened_kib / 1024,
        "lookup_us": lookup * 1e6,
        "first_batch_seconds": first,
        "resume_ms": 1e3 * max(resumed),
        "engine_mib": engine / 1024,
    }


def measure(path: Path, records: int, runs: int = 3) -> dict[str, float]:
    """Medians over fresh processes, on a set of ``records`` records."""
    with tempfile.TemporaryDirectory(prefix="vosdata-scale-", dir=path.parent) as folder:
        large = Path(folder) / "large"
        repeat_records(path, large, records)
        command = [sys.executable, __file__, str(large), "--here"]
        found = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(runs)]
    return {name: median(one[name] for one in found) for name in found[0]}


def _kib(pid: str, field: str) -> int:
    """A memory figure of a process; 0 when it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


def _children() -> list[str]:
    """Processes that this one has started."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    return [pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--here", action="store_true", help="measure SHARDS itself, once, in this process")
    options = parser.parse_args()
    print(json.dumps(measure_here(options.shards) if options.here else measure(options.shards, options.records)))


if __name__ == "__main__":
    main()
