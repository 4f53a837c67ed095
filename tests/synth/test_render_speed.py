"""The benchmark of the renderer for devices runs, and its figures are consistent."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "render_speed.py"


def test_it_measures_rendering_and_its_share_of_a_training_step(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    call = [sys.executable, BENCHMARK, "--quick", "--step", "--device", "cpu", "--out", out]
    told = subprocess.run(call, check=True, capture_output=True, text=True).stdout
    found = json.loads(out.read_text())
    rendering, step = found["rendering"], found["step"]
    stages = ("render", "ask", "lay_out", "draw", "estimate", "write", "read", "opencv_on_one_core")
    for stage in stages:
        rate, time = rendering[f"{stage}_frames_per_second"], rendering[f"{stage}_microseconds_per_frame"]
        assert rate > 0 and abs(rate * time / 1e6 - 1) < 1e-9 and len(rendering["rounds"][stage]) == 1
    assert rendering["lay_out_frames_per_second"] > rendering["render_frames_per_second"]
    assert rendering["resident_mib"] > 0 and 100 < rendering["operations"] < 2000
    assert step["render_share"] == step["render_seconds"] / step["step_seconds"]
    assert "render_share" in told and found["machine"]["device"] == "cpu"
