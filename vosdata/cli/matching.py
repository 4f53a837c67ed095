"""What ``vosdata synth --match`` does: fits the configuration to a real set and shows how near it came."""

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vosdata.cli.progress import show_progress

if TYPE_CHECKING:
    from synth.config import SynthConfig
    from synth.types import ObjectSource


def fixed_keys(overrides: Sequence[str] | None, objects_per_video: str | None) -> set[str]:
    """Keys that were named, and so stay as they are."""
    named = {text.partition("=")[0].strip() for text in overrides or ()}
    return named | ({"objects_per_video"} if objects_per_video is not None else set())


def fit_config(
    target: Path, config: "SynthConfig", objects: "ObjectSource", fixed: Collection[str], page: Path
) -> "SynthConfig":
    """Fits the configuration to a shard set, prints how near it came, and writes the page.

    Raises:
        ShardError: the target is no complete shard set.
        DatasetError: it has no masks to measure.
    """
    from shards.atomic import write_atomically
    from shards.reader import ShardSet
    from synth.match import match
    from synth.statistics import measure_set
    from vosdata.view.matched import HEADER, match_page, match_rows

    statistics = measure_set(ShardSet(target), config.num_frames)
    with show_progress("rounds of the fit") as progress:
        found = match(statistics, config, objects, fixed=fixed, progress=progress)
    table = [HEADER, *match_rows(found)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADER))]
    for row in table:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip(), file=sys.stderr)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page, match_page(found, target.name).encode())
    print(f"histograms: {page}", file=sys.stderr, flush=True)
    return found.config
