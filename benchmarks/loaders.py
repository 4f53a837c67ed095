"""Loaders side by side on the same frames in one run: peers, our stream, and the limits that decoding sets.

    python benchmarks/loaders.py --out benchmarks/results [--frames DAVIS_FOLDER] [--quick]

Every loader is a process of its own and gets the same snippets, batches, number of workers or threads, and one round of
measuring after the other in turns, so that whatever the machine does besides meets all of them. Rates are at steady
state: what was ready before the clock started does not count. Before anything is measured, every loader's pixels and
masks are compared with ours. The peers live in an environment of their own (``--peers-env``), which is made from
``peers-requirements.txt`` when it is not there.

Scenarios: ``warm`` (files in the page cache), ``cold`` (dropped from it before each round), ``http`` (a server on this
machine that answers after 20 ms, empty cache before each round, from the second shard on), ``busy`` (the trainer's
main thread runs pure Python for 90 % of the time) and ``scale`` (a million records; see ``scale.py``).
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import scale
from contender import Contender, ContenderError, Measurement, Request
from http_server import serve
from machine import machine, other_environment
from report import LIMITS, write_report
from snippets import SNIPPETS_PER_SHARD, Case, make_snippets

from vosdata.world import detect

HERE = Path(__file__).resolve().parent
CASES = (Case((240, 432), 8, 4), Case((480, 864), 14, 2))
LABELS = {
    "limit": "JPEG decoding alone",
    "needed": "all decoding: JPEGs, masks, checksums",
    "ours": "vosdata",
    "ours_threads": "vosdata, threads in the trainer",
    "spdl": "SPDL, cv2 in threads",
    "webdataset": "webdataset + DataLoader",
    "litdata": "LitData",
    "mosaic": "MosaicML Streaming",
    "folder": "folder + DataLoader, Pillow",
    "original": "folder + DataLoader, float (original)",
}
PEERS = ("spdl", "webdataset", "litdata", "mosaic", "folder", "original")
OWN_FORMAT = ("webdataset", "litdata", "mosaic")
STREAMING = ("ours", "webdataset", "litdata", "mosaic")
SCENARIOS = ("warm", "cold", "http", "busy", "scale")
LATENCY_SECONDS = 0.02
RECORDS = 1_000_000
MAX_OTHERS = 0.12
"""A measurement during which other processes used more of the machine than this is repeated."""


@dataclass
class Series:
    """All measurements of one loader in one scenario."""

    case: Case
    scenario: str
    loader: str
    rounds: list[Measurement] = field(default_factory=list)
    problem: str = ""
    """Why there are none."""


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    work: Path
    peers_python: Path | None
    workers: int
    count: int
    rounds: int
    """Of the warm and the busy scenario."""
    other_rounds: int
    """Of the others, whose rounds take a whole epoch."""
    seconds: float
    repeats: int
    loaders: tuple[str, ...]


def start(
    name: str, case: Case, settings: Settings, workers: int | None = None, remote: str | None = None
) -> Contender:
    """Starts a loader's process.

    Raises:
        ContenderError: it cannot run here.
    """
    work = settings.work / case.name
    options = ["--batch", str(case.batch), "--workers", str(workers or settings.workers)]
    options += ["--remote", remote] if remote else []
    if name in PEERS:
        if settings.peers_python is None:
            raise ContenderError("the peers' environment is not there")
        command = [str(settings.peers_python), str(HERE / "peers.py"), "serve", name, str(work)]
    else:
        engine = {"ours": "process", "ours_threads": "threads"}.get(name, name)
        command = [sys.executable, str(HERE / "ours.py"), engine, str(work), "--frames", str(case.num_frames)]
    return Contender(name, [*command, *options], settings.work / f"{case.name}-{name}.log")


@contextmanager
def started(
    names: tuple[str, ...], case: Case, settings: Settings, remote: str | None = None
) -> Iterator[dict[str, Contender]]:
    """Starts loaders; those that cannot run are left out, with a line that says why."""
    with ExitStack() as stack:
        running = {}
        for name in names:
            try:
                running[name] = start(name, case, settings, remote=None if name in LIMITS else remote)
            except ContenderError as error:
                say(f"  {name} left out: {error}")
            else:
                stack.callback(running[name].close)
        yield running


def check_pixels(case: Case, settings: Settings) -> dict[str, str]:
    """Compares every loader's pixels and masks with ours; returns what is wrong with whom."""
    names = ("ours", *(name for name in settings.loaders if name not in ("ours", *LIMITS)))
    problems = {}
    with started(names, case, settings) as running:
        expected = running["ours"].check()
        for name in names[1:]:
            try:
                found = running[name].check() if name in running else None
            except ContenderError as error:
                problems[name] = str(error)
                continue
            if found is None:
                problems[name] = "does not run here"
            elif found != expected:
                wrong = [key for key in expected if found.get(key) != expected[key]]
                problems[name] = f"{len(wrong)} of {len(expected)} snippets differ from ours, the first is {wrong[0]}"
    if len(expected) != settings.count:
        raise SystemExit(f"our stream yielded {len(expected)} snippets of {settings.count}")
    say(f"{case.name}: pixels and masks of {', '.join(name for name in names if name not in problems)} are equal")
    return problems


def quiet_measurement(contender: Contender, request: Request, repeats: int) -> Measurement:
    """Measures, again when the machine was busy with something else; keeps the quietest."""
    tries = []
    for _ in range(1 + repeats):
        tries.append(contender.measure(request))
        if tries[-1].others <= MAX_OTHERS:
            break
    return min(tries, key=lambda one: one.others)


def measure_scenario(case: Case, scenario: str, settings: Settings, problems: dict[str, str]) -> list[Series]:
    """Alternated rounds of all loaders in one scenario."""
    names = tuple(name for name in settings.loaders if scenario != "http" or name in (*STREAMING, *LIMITS))
    series = {name: Series(case, scenario, name, problem=problems.get(name, "")) for name in names}
    able = tuple(name for name in names if not series[name].problem)
    skip = 2 * settings.workers + 2
    request = Request(settings.seconds, skip)
    if scenario == "cold":
        request = Request(settings.seconds, skip, cold=True, one_epoch=True)
    elif scenario == "http":
        request = Request(settings.seconds, -(-SNIPPETS_PER_SHARD // case.batch) + skip, one_epoch=True)
    with (
        serve(settings.work, LATENCY_SECONDS) as url,
        started(able, case, settings, f"{url}/{case.name}" if scenario == "http" else None) as running,
    ):
        for number in range(settings.rounds if scenario == "warm" else settings.other_rounds):
            turn = list(running)[number % len(running) :] + list(running)[: number % len(running)]
            for name in turn:
                if series[name].problem:
                    continue
                try:
                    own = Request(settings.seconds, 2) if name in LIMITS else request
                    series[name].rounds.append(quiet_measurement(running[name], own, settings.repeats))
                except ContenderError as error:
                    series[name].problem = str(error)
                    say(f"  {error}")
            say_round(case, scenario, number, series)
    return list(series.values())


def measure_busy(case: Case, settings: Settings) -> list[Series]:
    """Our two engines with one thread less than there are cores, idle and with a busy main thread in turns."""
    threads = max(1, settings.workers - 1)
    found = []
    for name in ("ours", "ours_threads"):
        idle, busy = Series(case, "idle", name), Series(case, "busy", name)
        found += [idle, busy]
        try:
            with contextlib.closing(start(name, case, settings, workers=threads)) as contender:
                for _ in range(settings.rounds):
                    request = Request(settings.seconds, 4)
                    idle.rounds.append(quiet_measurement(contender, request, settings.repeats))
                    per_batch = case.batch * case.num_frames / idle.rounds[-1].rate
                    request = Request(settings.seconds, 4, busy=0.9 * per_batch)
                    busy.rounds.append(quiet_measurement(contender, request, settings.repeats))
        except ContenderError as error:
            idle.problem = busy.problem = str(error)
            say(f"  {error}")
            continue
        say(f"{case.name} busy, {name}: {busy.rounds[-1].rate:.0f} of {idle.rounds[-1].rate:.0f} frames/s when idle")
    return found


def prepare_peers(case: Case, settings: Settings) -> dict[str, str]:
    """Writes every peer's own format; returns what is wrong with whom."""
    problems = {}
    for name in PEERS:
        done = settings.work / case.name / f"{name}.prepared"
        if name not in settings.loaders or done.exists():
            continue
        if settings.peers_python is None:
            problems[name] = "the peers' environment is not there"
            continue
        if name in OWN_FORMAT:
            shutil.rmtree(settings.work / case.name / name, ignore_errors=True)
        command = [str(settings.peers_python), str(HERE / "peers.py"), "prepare", name, str(settings.work / case.name)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            lines = [line for line in run.stderr.splitlines() if "Error" in line] or ["failed without a word"]
            problems[name] = lines[-1].strip()[:300]
            say(f"  {name} left out: {problems[name]}")
        else:
            done.touch()
    return problems


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def say_round(case: Case, scenario: str, number: int, series: dict[str, Series]) -> None:
    rates = ", ".join(f"{name} {one.rounds[-1].rate:.0f}" for name, one in series.items() if one.rounds)
    say(f"{case.name} {scenario} round {number + 1}: {rates} frames/s")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the tables and the plot")
    parser.add_argument("--frames", type=Path, help="dataset folder to cut snippets from [default: rendered SynthVOS]")
    parser.add_argument("--work", type=Path, help="folder for about 3 GB of frames [default: a temporary one]")
    parser.add_argument("--peers-env", type=Path, default=HERE.parent / ".venv-peers", help="environment of the peers")
    parser.add_argument("--only", nargs="+", choices=PEERS, help="peers to run [default: all]")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, help="[default: all]")
    parser.add_argument("--quick", action="store_true", help="few frames and short rounds, to see that it works")
    return parser.parse_args()


def measure_all(options: argparse.Namespace, work: Path) -> tuple[list[Series], dict[str, Any]]:
    """Everything that was asked for."""
    peers = tuple(options.only or PEERS)
    settings = Settings(
        work=work.resolve(),
        peers_python=other_environment(options.peers_env, HERE / "peers-requirements.txt", say),
        workers=max(2, detect().num_cores),
        count=60 if options.quick else 240,
        rounds=2 if options.quick else 5,
        other_rounds=1 if options.quick else 3,
        seconds=1.0 if options.quick else 2.0,
        repeats=0 if options.quick else 2,
        loaders=(*LIMITS, "ours", *peers),
    )
    scenarios = options.scenarios or SCENARIOS
    found: list[Series] = []
    facts: dict[str, Any] = {**machine(settings.peers_python), "workers": settings.workers, "frames": {}}
    for case in CASES:
        say(f"{case.name}: writing {settings.count} snippets")
        facts["frames"][case.name] = make_snippets(settings.work / case.name, case, options.frames, settings.count)
        problems = prepare_peers(case, settings)
        problems |= {name: why for name, why in check_pixels(case, settings).items() if name not in problems}
        for scenario in scenarios:
            if scenario == "busy":
                found += measure_busy(case, settings)
            elif scenario != "scale":
                found += measure_scenario(case, scenario, settings, problems)
    if "scale" in scenarios:
        say("a million records")
        facts["scale"] = scale.measure(settings.work / CASES[0].name / "shards", RECORDS)
    return found, facts


def main() -> None:
    options = arguments()
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vosdata-bench-")))
        work.mkdir(parents=True, exist_ok=True)
        found, facts = measure_all(options, work)
    write_report(options.out, found, facts, LABELS)
    print((options.out / "loaders.md").read_text())


if __name__ == "__main__":
    main()
