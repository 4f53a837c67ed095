"""``vosdata inspect``: says what something holds."""

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    path: Annotated[
        Path,
        typer.Argument(
            help="Shard set or its URL, folder of shard sets, dataset folder, source of pictures, run, checkpoint, "
            "picture or mask."
        ),
    ],
    record: Annotated[
        str | None, typer.Option(help="Look at one record of a shard set: its key, sequence name or position.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the facts as JSON, one object per thing found.")
    ] = False,
) -> None:
    """Say what a folder, shard set, record, checkpoint or picture holds. Nothing is written.

    \b
    Example:
      vosdata inspect data/shards/davis2017-train
      vosdata inspect data/shards/davis2017-train --record bear
    """
    from vosdata.inspect import inspect

    found = inspect(path, record)
    if as_json:
        print(json.dumps([facts.to_json() for facts in found], indent=2))
    else:
        print("\n\n".join(facts.to_text() for facts in found))
