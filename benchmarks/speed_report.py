"""What train_speed.py found, as JSON and as a Markdown table."""

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import machine


def write_report(
    out: Path, results: list[dict[str, Any]], peaks: dict[str, float], is_measured: bool, device: torch.device
) -> None:
    """Writes ``train_speed.json`` and ``train_speed.md``; rates are frames/s per round, peaks TFLOP/s by precision."""
    facts = machine(None)
    del facts["command"], facts["peers"]
    facts["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    facts["torch_threads"] = torch.get_num_threads()
    facts["peak_tflops"] = {precision: round(peak, 4) for precision, peak in peaks.items()}
    facts["peak"] = "measured: matrix product or convolution" if is_measured else "given"
    out.mkdir(parents=True, exist_ok=True)
    (out / "train_speed.json").write_text(json.dumps({"machine": facts, "results": results}, indent=1) + "\n")
    (out / "train_speed.md").write_text("\n".join(_markdown(results, facts)) + "\n")


def _markdown(results: list[dict[str, Any]], facts: dict[str, Any]) -> Iterable[str]:
    place = facts["cpu"] if facts["device"] == "cpu" else f"{facts['device']}, {facts['cpu']}"
    yield "# A-GAME beside a straightforward implementation"
    yield ""
    yield f"{facts['date']}, {place}, {facts['cores']} cores, {facts['torch_threads']} PyTorch threads,"
    peaks = ", ".join(f"{peak:.3g} TFLOP/s in {precision}" for precision, peak in facts["peak_tflops"].items())
    yield f"PyTorch {facts['versions']['torch']}; peak {peaks} ({facts['peak']})."
    yield ""
    yield "Frames/s are medians over rounds in which all took turns, ratios medians of the rounds' ratios. The"
    yield "straightforward one computes in float32. FLOP are the published network's, every layer once per frame and"
    yield "object; what several objects share is computed once, so a share of the peak can exceed 100 %."
    yield ""
    yield "| task | case | precision | frames/s | straightforward | ratio | TFLOP/s | of the peak | waiting for data |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for result in results:
        rate = median(result["ours"])
        flops = rate * result["flops_per_frame"] / 1e12
        plain = f"{median(result['plain']):.2f}" if result["plain"] else ""
        ratios = [ours / other for ours, other in zip(result["ours"], result["plain"], strict=False)]
        waited = f"{median(result['waited']):.1%}" if result["waited"] else ""
        yield (
            f"| {result['task']} | {result['case']} | {result['precision']} | {rate:.2f} | {plain} | "
            f"{_ratio(ratios)} | {flops:.4f} | {flops / facts['peak_tflops'][result['precision']]:.1%} | {waited} |"
        )
    yield ""
    yield "What our time goes to (profiled apart):"
    yield ""
    kinds = next(list(result["shares"]) for result in results if result["shares"])
    yield f"| task | case | precision | {' | '.join(kinds)} |"
    yield "|---|---|---|" + "---|" * len(kinds)
    for result in results:
        if result["shares"]:
            shares = " | ".join(f"{result['shares'][kind]:.0%}" for kind in kinds)
            yield f"| {result['task']} | {result['case']} | {result['precision']} | {shares} |"


def _ratio(ratios: list[float]) -> str:
    return f"{median(ratios):.2f}x" if ratios else ""
