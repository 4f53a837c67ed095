"""Makes one shard: pure and idempotent; processes, clusters and job arrays differ only in who calls it."""

from collections.abc import Callable

from shards.atomic import atomic_file
from shards.format import shard_path
from shards.index import IndexEntry
from shards.manifest import ShardInfo, hex_crc
from shards.plan import ShardPlan, Skipped
from shards.workspace import Workspace
from shards.writer import ShardWriter


def make_shard(
    plan: ShardPlan, shard: int, workspace: Workspace, tick: Callable[[int], None] | None = None
) -> ShardInfo:
    """Makes one shard; may be done again, elsewhere, or twice at once.

    Args:
        plan: what to make.
        shard: which shard, 0 <= shard < ``plan.num_shards``.
        workspace: of the shard set; must be claimed for the plan's configuration.
        tick: called after each record with the number done so far.
    """
    path = shard_path(workspace.folder, plan.name, shard)
    entries: list[IndexEntry] = []
    skipped: list[Skipped] = []
    with atomic_file(path, workspace.path) as file:
        writer = ShardWriter(file, shard)
        for count, item in enumerate(plan.records(shard), start=1):
            if isinstance(item, Skipped):
                skipped.append(item)
            else:
                entries.append(writer.add(item))
            if tick is not None:
                tick(count)
        writer.close()
    if not entries:  # an empty tar would make a reader of the first shard believe that the set is empty
        path.unlink()
    info = ShardInfo(shard, path.name, len(entries), writer.num_bytes, hex_crc(writer.crc))
    workspace.write_fragment(info, skipped, entries)
    return info
