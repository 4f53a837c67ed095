"""How fast SynthVOS is made, beside JPEG encoding alone, a plain OpenCV paste and a Pillow affine, in one run.

    python benchmarks/synth_speed.py --out benchmarks/results [--objects DIR]... [--backgrounds DIR]... [--quick]
    python benchmarks/synth_speed.py --out benchmarks/results --full [--videos 10000]

The contenders (``synth_contenders.py``) run in the same processes, one per core, and take turns in every round, so that
whatever the machine does besides meets all of them. Ratios are medians over rounds of what was measured in the same
round. All pictures are decoded before the clock starts; what a process needs to start is stated separately.
``--full`` instead makes a whole set with ``vosdata synth`` and checks it with ``vosdata verify``, and states time, size
and peak memory of all processes. Both keep what the other has written.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from machine import machine
from synth_contenders import NAMES, Case, Sources, Workers
from synth_full import make_full_set, time_start
from synth_report import update_report

CASES = (
    Case("paper", (240, 432), 8, 100),
    Case("rich", (240, 432), 8, 100),
    Case("hard", (240, 432), 8, 100),
    Case("rich", (480, 864), 8, 25),
)
"""Shards of 100 videos of the usual size, as they are in large sets; a shard of large frames has as many bytes."""


def measure(case: Case, sources: Sources, settings: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Alternated rounds of one case: videos per second by contender."""
    workers = Workers(case, sources, settings.workers, folder)
    rounds: dict[str, list[float]] = {name: [] for name in NAMES}
    for name in NAMES:
        workers.rate(name, 0.2)  # allocators, caches and clocks settle
    for number in range(settings.rounds):
        turn = NAMES[number % len(NAMES) :] + NAMES[: number % len(NAMES)]
        for name in turn:
            rounds[name].append(workers.rate(name, settings.seconds))
        print(f"{case.name}: " + ", ".join(f"{name} {rounds[name][-1]:.1f}" for name in NAMES), flush=True)
    workers.close()
    return {"case": case.name, "preset": case.preset, "frames": case.num_frames, "videos_per_second": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--objects", action="append", help="source of cutouts, a folder or 'builtin' (the default)")
    parser.add_argument("--backgrounds", action="append", help="source of backgrounds, as above")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="per contender and round")
    parser.add_argument("--cases", default="", help="only cases whose name holds this, such as 'rich, 240'")
    parser.add_argument("--quick", action="store_true", help="2 rounds of half a second")
    parser.add_argument("--full", action="store_true", help="make and verify a whole set instead")
    parser.add_argument("--videos", type=int, default=10_000, help="size of the whole set")
    parser.add_argument("--work", type=Path, help="folder for what is made and deleted again")
    settings = parser.parse_args()
    if settings.quick:
        settings.rounds, settings.seconds = 2, 0.5
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for the workers, as the command sets it for its own
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # likewise
    sources = Sources(tuple(settings.objects or ["builtin"]), tuple(settings.backgrounds or ["builtin"]))
    with tempfile.TemporaryDirectory(dir=settings.work) as work:
        found: dict[str, Any] = {"machine": machine(None), "sources": [sources.objects, sources.backgrounds]}
        if settings.full:
            found["full"] = make_full_set(sources, settings.videos, settings.workers, Path(work))
        else:
            cases = [case for case in CASES if settings.cases in case.name]
            found["cases"] = [measure(case, sources, settings, Path(work)) for case in cases]
            found["start"] = time_start(sources, settings.workers, Path(work))
        update_report(settings.out, found)


if __name__ == "__main__":
    main()
