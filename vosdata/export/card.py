"""README.md of an export for the Hugging Face Hub: which files are which split, and what the columns mean."""

import json
from collections.abc import Sequence

from shards.reader import ShardSet
from vosdata.export.note import ExportedSet


def hub_card(sets: Sequence[ShardSet]) -> str:
    """The text of the card. Each dataset among the sets is a configuration of its own, with its splits."""
    exported = [ExportedSet.of(one) for one in sets]
    title = " and ".join(dict.fromkeys(one.title for one in exported))
    licence = "; ".join(dict.fromkeys(one.licence or "unknown" for one in exported))
    rows = "\n".join(f"| {one.name} | {one.split} | {one.num_records} | {one.num_frames} |" for one in exported)
    return f"""---
pretty_name: {json.dumps(title)}
license: other
license_name: {json.dumps(licence)}
task_categories:
- image-segmentation
tags:
- video-object-segmentation
configs:
{_configurations(exported)}---

# {title}

One row is one sequence. `frames` and `masks` are lists of pictures of equal length; a mask is a palette PNG whose
indices are 0 background, 1 to 254 object ids, 255 void, and null where the frame is unannotated. `frame_numbers` are
the numbers in the published file names, `fields` is JSON text.

| shard set | split | rows | frames |
|---|---|---|---|
{rows}

```python
import numpy
from datasets import load_dataset

rows = load_dataset("path/to/this/folder", "{exported[0].dataset}", split="{_hub_split(exported[0])}")
frame, mask = rows[0]["frames"][0], numpy.asarray(rows[0]["masks"][0])
```

Licence of the pixels: {licence}.
"""


def _configurations(exported: Sequence[ExportedSet]) -> str:
    lines = []
    for dataset in dict.fromkeys(one.dataset for one in exported):
        lines.append(f"- config_name: {dataset}\n  data_files:\n")
        lines += [
            f'  - split: {_hub_split(one)}\n    path: "data/{one.name}-??????.parquet"\n'
            for one in exported
            if one.dataset == dataset
        ]
    return "".join(lines)


def _hub_split(exported: ExportedSet) -> str:
    """Name of the split; ``datasets`` allows no dash in it."""
    return exported.split.replace("-", "_")
