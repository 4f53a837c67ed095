"""The bench measures what it says and says what it measured."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vosdata.bench import BenchReport, explain, measure
from vosdata.bench_costs import Costs
from vosdata.cli.app import run

REPORT = BenchReport(
    shards="s",
    snippet=8,
    size=(240, 432),
    batch=4,
    threads=2,
    frames_per_second=3900,
    limit_frames_per_second=4000,
    ratio=0.975,
    engine="process",
    busy_ratio=None,
    rounds=5,
    cpu_microseconds_per_frame=480,
    limit_cpu_microseconds_per_frame=450,
    page_faults_per_frame=0.0,
    waiting=0.01,
    costs=Costs(decode_picture=450, decode_mask=20, checksum=2, read=1, resize=0, draw=5),
    verdict="",
)


def test_a_stream_near_the_limit_is_bound_by_decoding() -> None:
    assert explain(REPORT).startswith("Decoding pictures bounds the stream: it runs at 98 %")


def test_a_slow_stream_names_what_costs_most_besides_decoding() -> None:
    slow = replace(REPORT, ratio=0.6, costs=replace(REPORT.costs, resize=300.0))
    assert "resizing to 240x432 costs most: 300 of 778 us per frame; pack the set at this size" in explain(slow)
    assert "the rest is" not in explain(slow)


def test_what_the_steps_do_not_explain_is_said() -> None:
    assert "These steps explain 94 %; the rest is memory traffic" in explain(replace(REPORT, ratio=0.6))


def test_threads_that_wait_are_said() -> None:
    assert "did not run for 40 % of the time" in explain(replace(REPORT, ratio=0.6, waiting=0.4))


def test_ratio_and_rates_fit_each_other(tiny_sets: dict[str, Path]) -> None:
    report = measure(tiny_sets["alpha"], snippet=4, size=None, batch=2, threads=2, seconds=1)
    assert report.size == (24, 40)
    assert 0 < report.ratio < 1  # reading, checking and masks cost something on top of decoding
    assert report.frames_per_second < report.limit_frames_per_second
    assert report.costs.resize == 0
    assert report.costs.read > 0
    assert min(report.costs.decode_picture, report.costs.decode_mask, report.costs.checksum, report.costs.draw) > 0


def test_resizing_is_counted_where_it_happens(tiny_sets: dict[str, Path]) -> None:
    report = measure(tiny_sets["beta"], snippet=4, size=(24, 40), batch=2, threads=1, seconds=0.3)
    assert report.costs.resize > 0


@pytest.mark.parametrize("engine", ["process", "threads"])
def test_the_decoding_process_is_watched(tiny_sets: dict[str, Path], engine: Any) -> None:
    report = measure(
        tiny_sets["alpha"], snippet=4, size=None, batch=2, threads=1, seconds=1.5, engine=engine, busy=True
    )
    assert report.engine == engine
    assert report.busy_ratio is not None
    assert 0 < report.busy_ratio < 2
    if not Path("/proc/self/stat").exists():
        pytest.skip("the system does not tell")
    assert report.cpu_microseconds_per_frame is not None
    assert report.cpu_microseconds_per_frame > 0.5 * report.costs.decode_picture
    assert report.page_faults_per_frame is not None
    assert report.page_faults_per_frame < 1
    assert report.waiting is not None
    assert 0 <= report.waiting < 1


def test_the_command_prints_json_alone(tiny_sets: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", str(tiny_sets["gamma"]), "--json", "--seconds", "0.3", "--threads", "1", "--size", "12x20"]
    assert run([*arguments, "--snippet", "5"]) == 1  # objects are too small at this size
    assert "no eligible snippet" in capsys.readouterr().err
    assert run(arguments[:-2]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["ratio"] > 0
    assert figures["threads"] == 1
    assert figures["busy_ratio"] is None
    assert set(figures["costs"]) == {"decode_picture", "decode_mask", "checksum", "read", "resize", "draw"}


def test_the_command_tells_what_bounds_the_stream(
    tiny_sets: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", str(tiny_sets["gamma"]), "--seconds", "0.3"]) == 0
    printed = capsys.readouterr().out
    assert "frames/s" in printed
    assert "of what decoding" in printed


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere"], 1, "nowhere does not exist"),
        (["SET", "--size", "240"], 2, "HEIGHTxWIDTH"),
        (["SET", "--threads", "0"], 2, "--threads"),
        (["SET", "--engine", "fork"], 2, "'fork' is not one of 'auto', 'process', 'threads'"),
        (["SET", "--snippet", "99"], 1, "its longest sequence has 8"),
    ],
)
def test_wrong_calls_are_one_line(
    tiny_sets: dict[str, Path], capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    assert run(["bench", *(str(tiny_sets["gamma"]) if word == "SET" else word for word in arguments)]) == status
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
