"""Exact truth as pictures: what is hidden is drawn where it is, and flow has the colour of its direction."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.build import build_shard_set
from shards.reader import ShardSet
from synth.config import make_config
from synth.generate import SynthPlan
from synth.sources import open_backgrounds, open_objects
from synth.truth import decode_amodal
from vosdata.cli.app import run
from vosdata.view.drawn import open_drawn
from vosdata.view.truth_panels import UNKNOWN_FLOW, amodal_picture, flow_picture


@pytest.fixture(scope="module")
def with_truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("truth") / "set"
    config = make_config(
        {"size": (48, 64), "num_frames": 3, "objects_per_video": (2, 3), "scene": {"area": (0.1, 0.3)}}
    )
    sources = open_objects("builtin"), open_backgrounds("builtin")
    build_shard_set(SynthPlan(config, *sources, 2, truth=("amodal", "flow")), folder)
    return folder


def test_a_set_with_truth_shows_all_of_it(with_truth: Path, tmp_path: Path) -> None:
    video = open_drawn(with_truth)[0]
    panels = video.panels(1)
    assert list(panels) == ["frame", "ids", "amodal", "forward flow", "backward flow"]
    assert {one.shape for one in panels.values()} == {(48, 64, 3)}
    assert np.array_equal(panels["ids"], video.picture(1))
    target = tmp_path / "sheet.png"
    assert run(["view", str(with_truth), "--out", str(target), "--columns", "3", "--height", "48"]) == 0
    with Image.open(target) as sheet:
        assert sheet.height > 2 * 5 * 48
    film = tmp_path / "film.webp"
    assert run(["view", str(with_truth), "--out", str(film)]) == 0
    with Image.open(film) as picture:
        assert picture.size == (5 * 64, 48)


def test_flow_that_a_frame_lacks_is_gray(with_truth: Path) -> None:
    video = open_drawn(with_truth)[0]
    assert (video.panels(2)["forward flow"] == UNKNOWN_FLOW).all()
    assert (video.panels(0)["backward flow"] == UNKNOWN_FLOW).all()
    assert (video.panels(0)["forward flow"] != UNKNOWN_FLOW).any()


def test_a_set_without_truth_is_drawn_as_before(tiny_sets: dict[str, Path]) -> None:
    video = open_drawn(tiny_sets["gamma"])[0]
    assert list(video.panels(0)) == [""]
    assert np.array_equal(video.panels(0)[""], video.picture(0))


def test_the_stored_amodal_masks_are_those_drawn(with_truth: Path) -> None:
    shard_set = ShardSet(with_truth)
    entry = shard_set.entry(0)
    masks = decode_amodal(shard_set.extra_bytes(0, 1, "amodal.png") or b"", len(entry.object_ids))
    ids = [int(number) for number in entry.object_ids]
    expected = amodal_picture(shard_set.image(0, 1), shard_set.mask(0, 1), masks, ids)
    assert np.array_equal(open_drawn(with_truth)[0].panels(1)["amodal"], expected)


def test_hidden_parts_have_the_colour_of_their_object_and_outlines_go_on_behind_others() -> None:
    frame, mask = np.full((20, 30, 3), 100, np.uint8), np.zeros((20, 30), np.uint8)
    amodal = np.zeros((2, 20, 30), np.bool_)
    amodal[0, 5:15, 3:20] = amodal[1, 2:18, 10:28] = True
    mask[amodal[0]], mask[amodal[1]] = 1, 2  # 2 lies in front
    drawn = amodal_picture(frame, mask, amodal, [1, 2])
    assert drawn[0, 0].tolist() == [50, 50, 50]
    assert drawn[10, 6].tolist() == [50, 50, 50]  # seen
    assert drawn[10, 15].tolist() == [25 + 127, 25, 25]  # object 1, behind object 2
    assert drawn[10, 19].tolist() == [255, 0, 0]  # its border there
    assert drawn[2, 20].tolist() == [0, 255, 0]


def test_the_hue_of_flow_is_its_direction_and_its_strength_the_speed() -> None:
    flow = np.zeros((30, 40, 2), np.float32)  # the diagonal is 50, so 2.5 pixels are full
    flow[0, 0], flow[0, 1], flow[0, 2], flow[0, 3], flow[0, 4] = (2.5, 0), (-2.5, 0), (0.5, 0), (9, 0), (np.nan, 1)
    drawn = flow_picture(flow)
    assert drawn[0, 0].tolist() == [255, 0, 0]
    assert drawn[0, 1].tolist() == pytest.approx([0, 255, 255], abs=1)
    assert drawn[0, 2].tolist() == pytest.approx([255, 204, 204], abs=1)
    assert drawn[0, 3].tolist() == [255, 0, 0]
    assert drawn[0, 4].tolist() == [UNKNOWN_FLOW] * 3
    assert drawn[5, 5].tolist() == [255, 255, 255]
