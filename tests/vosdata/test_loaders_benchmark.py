"""What the loader benchmark claims: warm-up does not count, unequal pixels are noticed, its tables are true."""

import itertools
import json
import mmap
import sys
import time
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shards.reader import ShardSet

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The benchmark's modules, imported as its scripts import each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    import contender
    import meter
    import ours
    import report
    import scale
    import snippets

    yield SimpleNamespace(contender=contender, meter=meter, ours=ours, report=report, scale=scale, snippets=snippets)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


class SlowStart:
    """10 batches of 2 x 3 frames: four come at once, the fifth after a second, the rest 20 ms apart."""

    def __init__(self, folder: Path, ids: int = 1) -> None:
        self.folder = folder
        self.ids = ids
        self.num_stops = 0

    def epoch(self) -> Iterator[tuple[list[str], Any, Any]]:
        for number in range(10):
            time.sleep(0 if number < 4 else 1 if number == 4 else 0.02)
            masks = np.full((2, 3, 4, 5), self.ids if number == 9 else 0, np.uint8)
            yield [f"{number}a", f"{number}b"], np.zeros((2, 3, 4, 5, 3), np.uint8), masks

    def stop(self) -> None:
        self.num_stops += 1

    def pixels(self, frames: Any, masks: Any) -> tuple[Any, Any]:
        return frames, masks


def test_what_was_ready_or_slow_before_the_clock_started_does_not_count(tools: SimpleNamespace, tmp_path: Path) -> None:
    loader = SlowStart(tmp_path)
    found = tools.contender.measure(loader, tools.contender.Request(seconds=9.0, skip=5, one_epoch=True))
    assert found.frames == 5 * 6
    assert 0.1 <= found.seconds < 0.5
    assert loader.num_stops == 1
    with pytest.raises(RuntimeError, match="too few"):
        tools.contender.measure(loader, tools.contender.Request(seconds=0.1, skip=10))
    assert loader.num_stops == 2


def test_one_wrong_mask_shows_in_the_checksums(tools: SimpleNamespace, tmp_path: Path) -> None:
    right, wrong = (tools.contender.checksums(SlowStart(tmp_path, ids)) for ids in (1, 2))
    assert [key for key in right if right[key] != wrong[key]] == ["9a", "9b"]


def test_cpu_time_and_page_faults_of_the_own_work_are_seen(tools: SimpleNamespace) -> None:
    start = tools.meter.Usage.now()
    end, pages = time.process_time() + 0.2, []
    while time.process_time() < end:
        pages.append(mmap.mmap(-1, 1 << 20))  # fresh pages, which malloc would hand out again
        pages[-1].write(bytes(1 << 20))
        if len(pages) > 8:
            pages.clear()
    used = tools.meter.Usage.now().since(start)
    assert 0.15 <= used.cpu <= 2
    assert used.faults > 100


def test_rendered_snippets_become_files_and_a_set_of_the_same_bytes(tools: SimpleNamespace, tmp_path: Path) -> None:
    case = tools.snippets.Case((48, 80), 3, 2)
    facts = tools.snippets.make_snippets(tmp_path / "work", case, None, 4)
    shard_set = ShardSet(tmp_path / "work" / "shards")
    assert facts["snippets"] == len(shard_set) == 4
    for position in range(4):
        folder = tmp_path / "work" / "folder" / shard_set.entry(position).sequence
        images = sorted(folder.glob("*.jpg"))
        assert [path.read_bytes() for path in images] == [shard_set.image_bytes(position, frame) for frame in range(3)]


def test_a_set_with_repeated_records_reads_as_the_original(
    tools: SimpleNamespace, tiny_sets: dict[str, Path], tmp_path: Path
) -> None:
    tools.scale.repeat_records(tiny_sets["gamma"], tmp_path / "large", 40_000)
    original, large = ShardSet(tiny_sets["gamma"]), ShardSet(tmp_path / "large")
    assert len(large) == 40_000
    for position in (0, 1, 20_000, 39_999):
        assert large.image_bytes(position, 7) == original.image_bytes(position % len(original), 7)
        assert np.array_equal(large.mask(position, 7), original.mask(position % len(original), 7))


def test_the_bare_calls_decode_what_is_stored(tools: SimpleNamespace, tmp_path: Path) -> None:
    tools.snippets.make_snippets(tmp_path, tools.snippets.Case((48, 80), 3, 2), None, 4)
    needed = tools.ours.Needed(SimpleNamespace(work=tmp_path, workers=1, frames=3, batch=2))
    assert list(itertools.islice(needed._work(0), 4)) == [3, 3, 3, 3]
    shard_set = ShardSet(tmp_path / "shards")
    for position, frame in itertools.product(range(4), range(3)):
        assert np.array_equal(needed._batches[0, position, frame], shard_set.image(position, frame))
        mask = shard_set.mask(position, frame)
        assert mask is not None and np.array_equal(needed._masks[0, position, frame], mask)


def test_the_table_and_the_plot_say_what_was_measured(tools: SimpleNamespace, tmp_path: Path) -> None:
    case = tools.snippets.Case((240, 432), 8, 4)

    def series(loader: str, rates: list[float], problem: str = "") -> SimpleNamespace:
        rounds = [tools.contender.Measurement(int(rate), 1.0, 0.5, 0.1, 200, 0.01) for rate in rates]
        return SimpleNamespace(case=case, scenario="warm", loader=loader, rounds=rounds, problem=problem)

    found = [
        series("limit", [1000, 2000, 1000]),
        series("needed", [950, 1900, 960]),
        series("ours", [900, 1900, 950]),
        series("folder", [300, 500, 475]),
        series("litdata", [], "does not install"),
    ]
    frames = {"frames": "noise", "snippets": 3, "mean_jpeg_bytes": 1, "mean_mask_bytes": 1}
    facts = {"date": "", "cpu": "a & b", "cores": 2, "virtual_machine": True, "python": "", "command": "", "peers": {}}
    labels = {"limit": "limit", "needed": "needed", "ours": "ours", "folder": "folder", "litdata": "LitData"}
    tools.report.write_report(tmp_path, found, {**facts, "frames": {case.name: frames}}, labels)
    lines = (tmp_path / "loaders.md").read_text().splitlines()
    assert any(line.startswith("| ours | 950 | 0.95 | 0.99 |  |") for line in lines)
    assert any(line.startswith("| folder | 475 | 0.30 | 0.32 | 3.00x |") for line in lines)
    assert any(line.startswith("| LitData | does not install |") for line in lines)
    picture = xml.etree.ElementTree.parse(tmp_path / "loaders.svg").getroot()
    texts = [element.text or "" for element in picture.iter() if element.tag.endswith("text")]
    assert "950 frames/s, 95%" in texts and any("a & b" in text for text in texts)
    assert len(json.loads((tmp_path / "loaders.json").read_text())["series"]) == 5
