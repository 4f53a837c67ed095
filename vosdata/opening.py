"""Opens shard sets as the environment wants it: sets at URLs share the cache that it names."""

from pathlib import Path

from shards.reader import ShardSet
from vosdata.world import cache_dir


def open_shard_set(path: str | Path | ShardSet) -> ShardSet:
    """Opens the set in a folder or at a URL; one that is open already is taken as it is.

    Raises:
        ShardError: there is no complete shard set, or it cannot be read.
        DamageError: it is damaged.
        ValueError: nobody speaks the URL's protocol.
    """
    return path if isinstance(path, ShardSet) else ShardSet(path, cache_dir=cache_dir())
