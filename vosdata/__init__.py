"""vosdata, the data engine for video object segmentation.

The public names below are loaded on first use, so ``import vosdata`` costs next to nothing and needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Record": "shards.types",
    "ShardSet": "shards.reader",
    "SnippetBatch": "vosdata.batch",
    "SnippetStream": "vosdata.stream",
    "StoredFrame": "shards.types",
    "VosDataError": "shards.errors",
    "load_model": "vosdata.checkpoint",
    "load_recipe": "vosdata.recipe",
    "torch_dataset": "vosdata.torch_data",
}

__all__ = [
    "Record",
    "ShardSet",
    "SnippetBatch",
    "SnippetStream",
    "StoredFrame",
    "VosDataError",
    "load_model",
    "load_recipe",
    "torch_dataset",
]

if TYPE_CHECKING:
    from shards.errors import VosDataError
    from shards.reader import ShardSet
    from shards.types import Record, StoredFrame
    from vosdata.batch import SnippetBatch
    from vosdata.checkpoint import load_model
    from vosdata.recipe import load_recipe
    from vosdata.stream import SnippetStream
    from vosdata.torch_data import torch_dataset


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'vosdata' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
