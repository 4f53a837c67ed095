"""What train_speed.py found, as JSON and as a Markdown table."""

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import machine


def write_report(
    out: Path, results: list[dict[str, Any]], peak: float, is_measured: bool, device: torch.device
) -> None:
    """Writes ``train_speed.json`` and ``train_speed.md``; rates are frames/s per round, the peak is in FLOP/s."""
    facts = machine(None)
    del facts["command"], facts["peers"]
    facts["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    facts["torch_threads"] = torch.get_num_threads()
    facts["peak_tflops"] = round(peak / 1e12, 4)
    facts["peak"] = "measured: matrix product or convolution" if is_measured else "given"
    out.mkdir(parents=True, exist_ok=True)
    (out / "train_speed.json").write_text(json.dumps({"machine": facts, "results": results}, indent=1) + "\n")
    (out / "train_speed.md").write_text("\n".join(_markdown(results, facts)) + "\n")


def _markdown(results: list[dict[str, Any]], facts: dict[str, Any]) -> Iterable[str]:
    place = facts["cpu"] if facts["device"] == "cpu" else f"{facts['device']}, {facts['cpu']}"
    yield "# A-GAME beside a straightforward implementation"
    yield ""
    yield f"{facts['date']}, {place}, {facts['cores']} cores, {facts['torch_threads']} PyTorch threads,"
    yield f"PyTorch {facts['versions']['torch']}; peak {facts['peak_tflops']:.3g} TFLOP/s ({facts['peak']})."
    yield ""
    yield "Frames/s are medians over rounds in which both took turns, ratios medians of the rounds' ratios."
    yield ""
    yield "| task | case | frames/s | straightforward | ratio | TFLOP/s | of the peak | waiting for data |"
    yield "|---|---|---|---|---|---|---|---|"
    for result in results:
        rate = median(result["ours"])
        flops = rate * result["flops_per_frame"]
        plain = f"{median(result['plain']):.2f}" if result["plain"] else ""
        ratios = [ours / other for ours, other in zip(result["ours"], result["plain"], strict=False)]
        waited = f"{median(result['waited']):.1%}" if result["waited"] else ""
        yield (
            f"| {result['task']} | {result['case']} | {rate:.2f} | {plain} | {_ratio(ratios)} | {flops / 1e12:.4f} | "
            f"{flops / (facts['peak_tflops'] * 1e12):.1%} | {waited} |"
        )


def _ratio(ratios: list[float]) -> str:
    return f"{median(ratios):.2f}x" if ratios else ""
