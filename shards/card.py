"""README.md of a shard set: a dataset card that makes the folder loadable with Hugging Face datasets and the Hub."""

import json

from shards.plan import SetDescription

_SIZE_CATEGORIES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def card_text(name: str, split: str, description: SetDescription, num_records: int, num_frames: int) -> str:
    """The text of README.md."""
    size = next((label for limit, label in _SIZE_CATEGORIES if num_records < limit), "10M<n<100M")
    frame_size = (
        "varies" if description.frame_size is None else f"{description.frame_size[0]}x{description.frame_size[1]}"
    )
    rate = "unknown" if description.frame_rate is None else f"{description.frame_rate:g} frames/s"
    return f"""---
pretty_name: {json.dumps(description.title)}
license: other
license_name: {json.dumps(description.licence or "unknown")}
size_categories:
- {size}
task_categories:
- image-segmentation
tags:
- video-object-segmentation
- webdataset
configs:
- config_name: default
  data_files:
  - split: {split}
    path: "{name}-*.tar"
---

# {description.title}

{description.text.strip()}

| | |
|---|---|
| records (sequences) | {num_records} |
| frames | {num_frames} |
| frame size (height x width) | {frame_size} |
| frame rate | {rate} |
| licence of the pixels | {description.licence or "unknown"} |

Each record holds `KEY.json`, a picture `KEY.frameNNNNN.jpg` per frame and, for annotated frames, a mask
`KEY.maskNNNNN.png`: a palette PNG whose indices are 0 background, 1 to 254 object ids, 255 void.

```python
import vosdata
shards = vosdata.ShardSet("path/to/this/folder")
frame, mask = shards.image(0, 0), shards.mask(0, 0)
```

The tars are plain WebDataset shards: `webdataset.WebDataset(".../{name}-000000.tar")`.
"""
