"""The benchmark of training speed: it compares equal things, counts as the facts say, and runs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vosdata.models.agame import AGAME, AGAMEConfig, VideoSegmenter

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
Snippet = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture
def plain_class(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from plain_agame import PlainAGAME

    return PlainAGAME


def test_the_straightforward_implementation_computes_the_same(plain_class: Any, tiny: AGAME, snippet: Snippet) -> None:
    plain = plain_class(tiny.double()).train()
    plain.float(), tiny.float()
    output = tiny.train()(*snippet)
    ours, theirs = (output.log_probs, output.coarse_log_probs), plain(*snippet)
    torch.testing.assert_close(theirs, ours, atol=2e-3, rtol=1e-3)
    for fine, _ in (ours, theirs):
        fine[:, 1:, 1].mean().backward()
    name = "appearance.regulariser"
    torch.testing.assert_close(
        plain.layers.get_parameter(name).grad, tiny.get_parameter(name).grad, atol=1e-4, rtol=1e-2
    )


def test_the_straightforward_implementation_segments_several_objects_alike(
    plain_class: Any, tiny: AGAME, snippet: Snippet
) -> None:
    frames, given = snippet[0][0], torch.zeros(48, 64, dtype=torch.uint8)
    given[2:20, 3:30], given[24:44, 8:28], given[10:40, 34:60] = 1, 2, 3
    segmenter = VideoSegmenter(tiny)
    ours = torch.stack([segmenter.advance(frame, given if t == 0 else None) for t, frame in enumerate(frames)])
    theirs = plain_class(tiny).eval().segment(frames, given, 3)
    assert len(theirs.unique()) > 1
    assert (ours != theirs).float().mean() < 0.002  # ties of probabilities that round


@pytest.mark.parametrize("size", [(240, 432), (480, 864)])
def test_work_per_frame_is_that_of_the_published_layers(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    """Multiply-adds by hand: kernel area x channels in x channels out, at 1, 4 and 16 times the stride-16 positions."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from flops import count_flops

    with torch.device("meta"):
        model = AGAME(AGAMEConfig())
    flops, positions = count_flops(model, size), size[0] * size[1] / 16**2
    propagation = 4100 * 512 + 3 * 9 * 512 * 512 + 9 * 1536 * 512
    fusion = 9 * 516 * 512 + 9 * 512 * 128 + 128 * 2
    upsampling = 4 * (512 * 128 + 9 * 256 * 128) + 16 * (256 * 128 + 9 * 256 * 128 + 9 * 128 * 2)
    heads = 2 * positions * (2048 * 512 + propagation + fusion + upsampling)
    layer4 = 1024 * 512 + 9 * 512 * 512 + 512 * 2048 + 1024 * 2048 + 2 * (2 * 2048 * 512 + 9 * 512 * 512)
    assert flops.heads == pytest.approx(heads, rel=1e-9)
    assert flops.backbone == pytest.approx(2 * positions * layer4, rel=1e-9)
    assert flops.frozen == pytest.approx(28.9e9 * size[0] * size[1] / (240 * 432), rel=2e-3)
    assert flops.training == flops.frozen + 3 * (flops.backbone + flops.heads)


def test_the_benchmark_runs_on_a_cpu_at_a_tiny_size(tmp_path: Path) -> None:
    precisions = ["float32", "bfloat16"]
    command = [
        sys.executable,
        str(BENCHMARKS / "train_speed.py"),
        "--quick",
        "--device=cpu",
        "--precision",
        *precisions,
    ]
    command += ["--objects", "2", f"--out={tmp_path}"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    found = json.loads((tmp_path / "train_speed.json").read_text())
    assert str(tmp_path) not in json.dumps(found) + printed
    expected = [(task, precision) for task in ("train", "segment 2", "video 1") for precision in precisions]
    assert [(result["task"], result["precision"]) for result in found["results"]] == expected
    for result in found["results"]:
        assert len(result["ours"]) == len(result["plain"]) == 2
        assert min(result["ours"] + result["plain"]) > 0
        assert len(result["waited"]) == (0 if result["task"] == "segment 2" else 2)
        assert all(0 <= share <= 1 for share in result["waited"])
        assert result["task"] == "video 1" or sum(result["shares"].values()) == pytest.approx(1)
    assert all(found["machine"]["peak_tflops"][precision] > 0 for precision in precisions)
    assert "| train | 2x3@48x64 | bfloat16 |" in printed


def test_time_is_shared_out_by_what_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from time_shares import KINDS, time_shares

    maps, kernels = torch.rand(4, 64, 64, 64), torch.rand(64, 64, 3, 3, requires_grad=True)
    side = torch.rand(1500, 1500)
    only = {
        "convolutions": lambda: torch.nn.functional.conv2d(maps, kernels.detach()),
        "matrix products": lambda: side @ side,
        "the rest": lambda: side.exp().sin(),
        "their gradients": lambda: torch.nn.functional.conv2d(maps, kernels).sum().backward(),
    }
    assert only.keys() == {*KINDS, "the rest"}
    for kind, work in only.items():
        shares = time_shares(work, torch.device("cpu"))
        assert shares[kind] > (0.2 if kind == "their gradients" else 0.8)
        assert sum(shares.values()) == pytest.approx(1)
