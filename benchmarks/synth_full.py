"""A whole set by the commands that users type: time, size, and peak memory of all processes."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from synth_contenders import Sources

_POLL_SECONDS = 0.25


def time_start(sources: Sources, workers: int, folder: Path) -> float:
    """Seconds that ``vosdata synth`` takes for eight tiny videos: processes, imports, listing sources, finishing."""
    found = []
    for number in range(3):
        tiny = ["--n", "8", "--frames", "1", "--size", "32x48"]
        start = time.perf_counter()
        subprocess.run(_synth(sources, workers, folder / f"tiny{number}", *tiny), check=True, capture_output=True)
        found.append(time.perf_counter() - start)
    return min(found)


def make_full_set(sources: Sources, videos: int, workers: int, folder: Path) -> dict[str, Any]:
    """Makes ``rich`` videos of 8 frames at 240x432, and verifies them.

    Raises:
        SystemExit: the set is not clean.
    """
    out = folder / "set"
    seconds, peak = _run(_synth(sources, workers, out, "--n", str(videos)))
    verify = [sys.executable, "-m", "vosdata", "verify", str(out), "--json"]
    start = time.perf_counter()
    said = subprocess.run(verify, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(f"the set is not clean: {said.stdout[-500:]}{said.stderr[-500:]}")
    verify_seconds = time.perf_counter() - start
    (verified,) = json.loads(said.stdout)
    return {
        "videos": videos,
        "workers": workers,
        "seconds": seconds,
        "bytes": sum(path.stat().st_size for path in out.iterdir()),
        "peak_memory_bytes": peak,
        "verify_seconds": verify_seconds,
        "verified": {name: value for name, value in verified.items() if name != "path"},
    }


def _synth(sources: Sources, workers: int, out: Path, *options: str) -> list[str]:
    named = [word for spec in sources.objects for word in ("--objects", spec)]
    named += [word for spec in sources.backgrounds for word in ("--backgrounds", spec)]
    return [sys.executable, "-m", "vosdata", "synth", *named, "--workers", str(workers), "--out", str(out), *options]


def _run(command: list[str]) -> tuple[float, int]:
    """Seconds, and the most memory that the process and all below it had at once, shared pages counted once."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_proportional_bytes(pid) for pid in _tree(process.pid)))
        time.sleep(_POLL_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start, peak


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            found += [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except OSError:  # it has just ended
            continue
    return found


def _proportional_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
