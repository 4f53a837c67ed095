"""What synth_speed.py found, as JSON, as a Markdown table and as a plot."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from chart import Bar, Panel, svg

LABELS = {
    "encode": "encoding alone",
    "floor": "encoding and storing alone",
    "ours": "vosdata synth",
    "paste": "full-frame OpenCV paste",
    "pillow": "Pillow affine per frame",
}


def update_report(out: Path, found: dict[str, Any]) -> None:
    """Writes ``synth_speed.json``, ``.md`` and ``.svg``; what they have of other processors and cases stays."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "synth_speed.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    facts = {"machine": found.pop("machine"), "sources": found.pop("sources")}
    parts = known.setdefault(facts["machine"]["cpu"], {})
    if "cases" in found:
        parts["table"] = {**facts, **found}
    else:
        parts["full"] = {**facts, **found["full"]}
    path.write_text(json.dumps(known, indent=1) + "\n")
    (out / "synth_speed.md").write_text("\n".join(_markdown(known)) + "\n")
    tables = [one["table"] for one in known.values() if "table" in one]
    if tables:
        (out / "synth_speed.svg").write_text(_plot(tables))


def share(case: dict[str, Any], name: str, other: str) -> float:
    """Median over rounds of one contender's rate over another's in the same round."""
    rates = case["videos_per_second"]
    return float(median(one / two for one, two in zip(rates[name], rates[other], strict=True)))


def _markdown(known: dict[str, Any]) -> Iterator[str]:
    yield "# Making SynthVOS"
    for cpu, parts in known.items():
        yield ""
        yield f"## {cpu}"
        if "table" in parts:
            yield from _table(parts["table"])
        if "full" in parts:
            yield from _full(parts["full"])


def _where(part: dict[str, Any]) -> Iterator[str]:
    facts = part["machine"]
    virtual = ", a virtual machine" if facts["virtual_machine"] else ""
    yield f"{facts['date']}, {facts['cpu']}, {facts['cores']} cores{virtual}, Python {facts['python']}:"
    yield f"`{facts['command']}`"
    objects, backgrounds = ("+".join(Path(spec).name for spec in specs) for specs in part["sources"])
    yield f"Objects: {objects}. Backgrounds: {backgrounds}."
    yield ""


def _table(part: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield from _where(part)
    yield f"Videos per second in steady state; starting and finishing the command takes {part['start']:.1f} s besides."
    yield "Medians over rounds in which all took turns; ratios are medians of the rounds' ratios."
    yield ""
    yield "Encoding: the same frames and masks as JPEG and PNG; storing: into the same shards, byte for byte."
    yield ""
    yield "| videos | encoding | and storing | vosdata synth | OpenCV paste | Pillow affine |"
    yield "|---|---|---|---|---|---|"
    for case in part["cases"]:
        rates = " | ".join(f"{median(case['videos_per_second'][name]):,.1f}" for name in LABELS)
        yield f"| {case['case']} | {rates} |"
    yield ""
    yield "| vosdata synth | of encoding | of encoding and storing | over OpenCV paste | over Pillow affine |"
    yield "|---|---|---|---|---|"
    for case in part["cases"]:
        shares = [f"{share(case, 'ours', name):.2f}" for name in ("encode", "floor")]
        shares += [f"{share(case, 'ours', name):.1f}x" for name in ("paste", "pillow")]
        yield f"| {case['case']} | {' | '.join(shares)} |"


def _full(part: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"### {part['videos']:,} videos, `rich`, 8 frames of 240x432, {part['workers']} processes"
    yield ""
    yield from _where(part)
    yield "| what | measured |"
    yield "|---|---|"
    rate = part["videos"] / part["seconds"]
    yield f"| `vosdata synth`, from start to end | {part['seconds']:.1f} s, {rate:.1f} videos/s |"
    yield f"| size | {part['bytes'] / 1e9:.2f} GB |"
    yield f"| peak memory of all processes | {part['peak_memory_bytes'] / 2**30:.2f} GiB |"
    yield f"| `vosdata verify`: clean | {part['verify_seconds']:.1f} s |"


def _plot(tables: list[dict[str, Any]]) -> str:
    panels = []
    for part in tables:
        for case in part["cases"]:
            bars = [
                Bar(
                    LABELS[name],
                    share(case, name, "encode"),
                    f"{median(case['videos_per_second'][name]):,.1f} videos/s",
                    name == "ours",
                )
                for name in ("ours", "paste", "pillow")
            ]
            panels.append(Panel(f"{case['case']}; {part['machine']['cpu']}", bars))
    cores = {str(part["machine"]["cores"]) for part in tables}
    note = f"{' and '.join(sorted(cores))} cores; dashed: encoding the same frames and masks alone"
    return svg("Videos per second against what encoding allows", panels, note)
