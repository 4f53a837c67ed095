"""The benchmark of making SynthVOS: contenders make whole videos of the same frames, and ratios are of one round."""

import io
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.codec import decode_image
from shards.masks import decode_mask

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for name in set(sys.modules) - before:
        if (BENCHMARKS / f"{name}.py").exists():
            del sys.modules[name]


@pytest.fixture
def work(tmp_path: Path):
    from synth_contenders import Case, Sources, Work

    return Work(Case("paper", (96, 160), 3, 2), Sources(("builtin",), ("builtin",)), 1, tmp_path)


def test_every_contender_makes_the_videos_of_a_shard(work) -> None:
    from synth_contenders import NAMES

    for name in NAMES:
        made = getattr(work, name)()
        assert sum(islice(made, 2 if name in ("encode", "paste", "pillow") else 1)) == 2, name
        made.close()


def test_a_paste_shows_what_ours_shows(work) -> None:
    from synth_contenders import paste_frames

    for one in work.ready:
        for t, (jpeg, png) in enumerate(paste_frames(one, (96, 160))):
            same_place = decode_mask(png) == one.video.masks[t]
            assert same_place.mean() > 0.98
            # It takes no smaller levels of pictures and so aliases, but it shows the same things at the same places.
            both = np.stack([decode_image(jpeg).reshape(-1), one.video.frames[t].reshape(-1)])
            assert np.corrcoef(both)[0, 1] > 0.9


def test_pillow_frames_hold_every_object(work) -> None:
    from synth_contenders import pillow_frames

    for one in work.ready:
        for jpeg, png in pillow_frames(one, (96, 160)):
            assert Image.open(io.BytesIO(jpeg)).size == (160, 96)
            assert set(np.unique(decode_mask(png))) <= set(range(len(one.cutouts) + 1))
            assert decode_mask(png).any()


def test_ratios_are_taken_round_by_round(tmp_path: Path) -> None:
    from synth_report import share, update_report

    rates = {"encode": [100.0, 10.0, 1.0], "floor": [50.0, 8.0, 1.0], "ours": [40.0, 4.0, 0.1]}
    case = {"case": "paper", "videos_per_second": rates | {"paste": [10.0, 1.0, 0.1], "pillow": [4.0, 0.4, 0.01]}}
    assert share(case, "ours", "encode") == pytest.approx(0.4)
    assert share(case, "ours", "floor") == pytest.approx(0.5)
    facts = {"date": "", "cpu": "Slow One", "cores": 2, "virtual_machine": False, "python": "", "command": ""}
    table = {"machine": facts, "sources": [["builtin"], ["builtin"]], "cases": [case], "start": 1.0}
    update_report(tmp_path, dict(table))
    full = {"videos": 10, "workers": 2, "seconds": 5.0, "bytes": 10**9, "peak_memory_bytes": 2**30}
    update_report(tmp_path, {"machine": facts, "sources": [[], []], "full": {**full, "verify_seconds": 1.0}})
    other = {**case["videos_per_second"], "ours": [30.0, 3.0, 0.3]}
    machine = {**facts, "cpu": "Fast One"}
    update_report(tmp_path, {**table, "machine": machine, "cases": [{**case, "videos_per_second": other}]})
    text = (tmp_path / "synth_speed.md").read_text()
    assert text.index("## Slow One") < text.index("5.0 s, 2.0") < text.index("## Fast One") < text.index("| 0.30 |")
    assert "| paper | 0.40 | 0.50 | 4.0x | 10.0x |" in text
    assert "5.0 s, 2.0 videos/s" in text
    assert (tmp_path / "synth_speed.svg").read_text().startswith("<svg")


@pytest.mark.slow
def test_a_whole_set_is_made_and_verified(tmp_path: Path) -> None:
    from synth_contenders import Sources
    from synth_full import make_full_set

    found = make_full_set(Sources(("builtin",), ("builtin",)), 16, 2, tmp_path)
    assert found["videos"] == 16
    assert found["bytes"] > 16 * 8 * 5000
    assert 50e6 < found["peak_memory_bytes"] < 2 * 2**30
    assert found["verified"]["num_records"] == 16
