"""Finds out what a path is and asks the right room for its facts."""

from pathlib import Path

from shards.errors import DatasetError, ShardError
from shards.format import WORKSPACE
from shards.remote.location import is_url
from vosdata.datasets.videos import looks_like_shard_set
from vosdata.inspect.checkpoints import checkpoint_facts, run_facts
from vosdata.inspect.datasets import dataset_facts, file_facts
from vosdata.inspect.facts import Facts
from vosdata.inspect.shard_sets import holds_shard_sets, record_facts, shard_folder_facts
from vosdata.opening import open_shard_set


def inspect(path: Path, record: str | None = None) -> list[Facts]:
    """Facts about whatever lies at a path.

    Args:
        path: a shard set or its URL, a folder of shard sets, a dataset folder, a source of pictures, a run folder, a
            checkpoint, a picture or a mask.
        record: key, sequence name or position of the record of a shard set to look at.

    Raises:
        VosDataError: there is nothing, or nothing that is recognised.
        ValueError: ``record`` is given for something else than one shard set, or is not in it.
    """
    if record is not None:
        return [record_facts(open_shard_set(path), record)]
    if is_url(path):
        return shard_folder_facts(path)
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    if path.is_file():
        return [checkpoint_facts(path) if path.suffix == ".safetensors" else file_facts(path)]
    if holds_shard_sets(path) or looks_like_shard_set(path) or (path / WORKSPACE).is_dir():
        return shard_folder_facts(path)
    run = run_facts(path)
    if run:
        return run
    if not any(path.iterdir()):
        raise ShardError(f"{path} is an empty folder; expected a shard set, dataset, run or checkpoint")
    return dataset_facts(path)
