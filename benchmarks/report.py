"""Results as JSON, as a Markdown table and as a plot."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from chart import Bar, Panel, svg

if TYPE_CHECKING:
    from loaders import Series

LIMITS = ("limit", "needed")
HEADINGS = {
    "warm": "local files in the page cache",
    "cold": "local files dropped from the page cache before each round",
    "http": "over HTTP with 20 ms latency, empty cache, from the second shard on",
}


def write_report(out: Path, found: "Sequence[Series]", facts: dict[str, Any], labels: dict[str, str]) -> None:
    """Writes ``loaders.json``, ``loaders.md`` and ``loaders.svg``."""
    out.mkdir(parents=True, exist_ok=True)
    raw = [
        {
            "case": one.case.name,
            "scenario": one.scenario,
            "loader": one.loader,
            "problem": one.problem,
            "rounds": [vars(measured) for measured in one.rounds],
        }
        for one in found
    ]
    (out / "loaders.json").write_text(json.dumps({"machine": facts, "series": raw}, indent=1) + "\n")
    (out / "loaders.md").write_text("\n".join(_markdown(found, facts, labels)) + "\n")
    (out / "loaders.svg").write_text(_plot(found, facts, labels))


def paired(one: "Series", other: "Series | None") -> float | None:
    """Median over the rounds of a loader's rate over another's in the same round; None when either has none."""
    if other is None or not one.rounds or not other.rounds:
        return None
    return median(a.rate / b.rate for a, b in zip(one.rounds, other.rounds, strict=False))


def _markdown(found: "Sequence[Series]", facts: dict[str, Any], labels: dict[str, str]) -> Iterable[str]:
    virtual = ", a virtual machine" if facts["virtual_machine"] else ""
    yield "# Loaders side by side"
    yield ""
    yield f"{facts['date']}, {facts['cpu']}, {facts['cores']} cores{virtual}, Python {facts['python']}:"
    yield f"`{facts['command']}`"
    yield ""
    for case, frames in facts["frames"].items():
        yield (
            f"* {case}: {frames['snippets']} snippets of {frames['frames']}, {frames['mean_jpeg_bytes']:,} bytes per "
            f"JPEG and {frames['mean_mask_bytes']:,} per mask on average"
        )
    yield ""
    yield (
        "The limit: the same JPEGs decoded from memory, over and over into the same place, by as many threads. All "
        "decoding: the bare library calls for these files (JPEG, CRC32C, inflating and copying the mask) from memory "
        "into as much memory as our batches in flight have, by as many threads; no order, no files, nobody who takes "
        "the batches."
    )
    yield ""
    yield "Peers: " + ", ".join(f"{name} {version}" for name, version in facts["peers"].items())
    for case in facts["frames"]:
        for scenario, heading in HEADINGS.items():
            here = {one.loader: one for one in found if (one.case.name, one.scenario) == (case, scenario)}
            if here:
                yield from _table(case, heading, here, _warm(found, case) if scenario != "warm" else {}, labels)
        yield from _busy(case, found, labels)
    if "scale" in facts:
        yield from _scale(facts["scale"])
    if facts["virtual_machine"]:
        yield ""
        yield (
            "On a virtual machine a page fault costs several times what it costs on bare metal, which slows loaders "
            "that write every batch into fresh memory: expect them to come closer to the limit there."
        )


def _warm(found: "Sequence[Series]", case: str) -> "dict[str, Series]":
    return {one.loader: one for one in found if (one.case.name, one.scenario) == (case, "warm")}


def _table(
    case: str, heading: str, here: "dict[str, Series]", warm: "dict[str, Series]", labels: dict[str, str]
) -> Iterable[str]:
    last = "of own warm rate" if warm else "other load"
    yield from ("", f"## {case}, {heading}", "")
    columns = ("loader", "frames/s", "of the limit", "of all decoding", "ours is faster by", "CPU us/frame")
    yield "| " + " | ".join((*columns, "faults/frame", "first batch, s", last)) + " |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, one in sorted(here.items(), key=lambda item: -_rate(item[1])):
        if not one.rounds:
            yield f"| {labels[name]} | {one.problem or 'not measured'} | | | | | | | |"
            continue
        rounds = one.rounds
        own = _rate(one) / _rate(warm[name]) if name in warm and warm[name].rounds else None
        cells = [
            f"{_rate(one):,.0f}",
            _number(paired(one, here.get("limit"))),
            "" if name == "limit" else _number(paired(one, here.get("needed"))),
            "" if name in ("ours", *LIMITS) else _number(paired(here["ours"], one), "x") if "ours" in here else "",
            f"{median(1e6 * r.cpu / r.frames for r in rounds):,.0f}",
            f"{median(r.faults / r.frames for r in rounds):,.1f}",
            "" if name in LIMITS else f"{median(r.first_batch for r in rounds):.2f}",
            _number(own) if warm else f"{max(r.others for r in rounds):.0%}",
        ]
        yield f"| {labels[name]} | " + " | ".join(cells) + " |"


def _busy(case: str, found: "Sequence[Series]", labels: dict[str, str]) -> Iterable[str]:
    here = {(one.loader, one.scenario): one for one in found if one.case.name == case}
    loaders = [name for name, scenario in here if scenario == "busy"]
    if not loaders:
        return
    yield from ("", f"## {case}, main thread busy with pure Python, one decode thread less than cores", "")
    yield from ("| loader | idle, frames/s | busy, frames/s | busy over idle |", "|---|---|---|---|")
    for name in loaders:
        idle, busy = here[name, "idle"], here[name, "busy"]
        if not busy.rounds:
            yield f"| {labels[name]} | {busy.problem or 'not measured'} | | |"
            continue
        yield f"| {labels[name]} | {_rate(idle):,.0f} | {_rate(busy):,.0f} | {_number(paired(busy, idle))} |"


def _scale(found: dict[str, float]) -> Iterable[str]:
    yield from ("", f"## A set of {found['records']:,.0f} records", "", "| what | measured |", "|---|---|")
    yield f"| open the set | {1e3 * found['open_seconds']:.0f} ms, {found['open_mib']:.0f} MiB |"
    yield f"| look a record up | {found['lookup_us']:.0f} us |"
    yield f"| make a stream and get its first batch | {found['first_batch_seconds']:.2f} s |"
    yield f"| resume at one of 10^9 positions, longest of 20 | {found['resume_ms']:.0f} ms |"
    yield f"| memory of the helper process besides the ring | {found['engine_mib']:.0f} MiB |"


def _rate(one: "Series") -> float:
    return median(r.rate for r in one.rounds) if one.rounds else 0.0


def _number(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:.2f}{unit}"


def _plot(found: "Sequence[Series]", facts: dict[str, Any], labels: dict[str, str]) -> str:
    panels = []
    for case in facts["frames"]:
        here = _warm(found, case)
        bars = [
            Bar(labels[name], share, f"{_rate(one):,.0f} frames/s, {share:.0%}", name == "ours")
            for name, one in sorted(here.items(), key=lambda item: -_rate(item[1]))
            if name not in LIMITS and (share := paired(one, here.get("limit")) or 0.0)
        ]
        if bars:
            panels.append(Panel(f"{case.replace('x', ' x ')} (height x width x frames)", bars))
    virtual = ", virtual machine" if facts["virtual_machine"] else ""
    note = (
        f"Warm cache, {facts['cores']} cores ({facts['cpu']}{virtual}); dashed: JPEG decoding alone on the same cores"
    )
    return svg("Frames per second against what JPEG decoding allows", panels, note)
