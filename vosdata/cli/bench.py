"""``vosdata bench``: how fast a shard set streams on this machine."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from vosdata.cli.options import parse_size

_PLACES = {"process": "threads of a helper process", "threads": "threads of this process"}


def command(
    shards: Annotated[Path, typer.Argument(help="Folder or URL of a shard set.")],
    snippet: Annotated[int, typer.Option(help="Frames in a snippet.", min=1)] = 8,
    size: Annotated[str | None, typer.Option(help="Training size, HEIGHTxWIDTH; by default as stored.")] = None,
    batch: Annotated[int, typer.Option(help="Snippets in a batch.", min=1)] = 4,
    threads: Annotated[int | None, typer.Option(help="Decode threads; by default one per core.", min=1)] = None,
    seconds: Annotated[float, typer.Option(help="About how long to measure.", min=0.1)] = 10.0,
    engine: Annotated[
        Literal["auto", "process", "threads"],
        typer.Option(help="Where to decode: in a helper process, in threads of this one, or what is there."),
    ] = "auto",
    busy: Annotated[bool, typer.Option("--busy", help="Also measure a trainer that is busy in Python.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure how fast a shard set streams on this machine, and say what bounds it.

    Streams snippets and, in turns with that, decodes the same pictures from memory with the same number of threads; the
    ratio says what reading, checking, masks and batching cost on top.

    \b
    Example:
      vosdata bench data/shards/synthvos --snippet 8 --threads 2
    """
    from vosdata.bench import measure
    from vosdata.world import detect

    report = measure(
        shards,
        snippet=snippet,
        size=None if size is None else parse_size(size),
        batch=batch,
        threads=threads or detect().num_cores,
        seconds=seconds,
        engine=engine,
        busy=busy,
    )
    if as_json:
        json.dump(asdict(report), sys.stdout, indent=2)
        print()
        return
    height, width = report.size
    print(
        f"{report.shards}: snippets of {report.snippet} frames at {height}x{width}, batches of {report.batch}, "
        f"{report.threads} {_PLACES[report.engine]}, {report.rounds} rounds"
    )
    print(f"  stream        {report.frames_per_second:9.0f} frames/s")
    print(f"  decode limit  {report.limit_frames_per_second:9.0f} frames/s")
    print(f"  ratio         {report.ratio:9.2f}")
    if report.busy_ratio is not None:
        print(f"  busy trainer  {report.busy_ratio:9.2f} of an idle one's frames/s")
    if report.cpu_microseconds_per_frame is not None:
        limit = report.limit_cpu_microseconds_per_frame
        print(f"  CPU           {report.cpu_microseconds_per_frame:9.0f} us per frame; decoding alone {limit:.0f}")
    if report.page_faults_per_frame is not None:
        print(f"  page faults   {report.page_faults_per_frame:9.2f} per frame")
    if report.waiting is not None:
        print(f"  waiting       {100 * report.waiting:9.0f} % of the decode threads' time")
    print("  where the time goes, each step timed on one thread, in microseconds per frame:")
    for name, cost in asdict(report.costs).items():
        print(f"    {name.replace('_', ' '):<15}{cost:8.1f}")
    print(report.verdict)
