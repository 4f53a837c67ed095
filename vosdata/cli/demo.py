"""``vosdata demo``: the whole road on built-in pictures."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[Path, typer.Option(help="Folder for everything that is made.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Of videos and training.", min=0, max=2**31)] = 0,
    videos: Annotated[int, typer.Option(help="Synthetic videos to train on.", min=2)] = 600,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key of the recipe smoke: section.key=value; repeatable.")
    ] = None,
) -> None:
    """Synthesise, pack, train, segment and score on built-in pictures, and show it all on one page.

    Nothing is downloaded; two cores take a few minutes. The same command again goes on where it was cut off.

    \b
    Example:
      vosdata demo --out runs/demo
    """
    from vosdata.cli.train import shown_progress
    from vosdata.demo import DemoSettings, run_demo
    from vosdata.world import detect

    demo = DemoSettings(num_videos=videos, seed=seed, overrides=tuple(settings or ()))
    with shown_progress() as on_step:
        result = run_demo(out, demo, detect().num_cores, _tell, on_step)
    print(f"J of the model {result.model.j.mean:.3f}, of copying the first mask forward {result.baseline.j.mean:.3f}")
    print(f"look at {result.page}")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
