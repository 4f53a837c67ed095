"""The whole road at a tiny size: every step leaves what the next one needs, and a rerun takes up what is there."""

from pathlib import Path

import pytest

from shards.errors import ConflictError
from shards.reader import ShardSet
from vosdata.datasets.videos import open_videos
from vosdata.demo import DemoSettings, run_demo
from vosdata.evaluate.predictions import CopyFirstMask
from vosdata.evaluate.score import score_videos

TINY = DemoSettings(
    num_videos=4,
    num_held_out=2,
    overrides=(
        "model.backbone_width=4",
        "model.appearance_channels=4",
        "model.propagation_channels=4",
        "model.fusion_channels=4",
        "model.encoding_channels=4",
        "model.upsampling_channels=4",
        "data.size=48x80",
        "data.min_object_pixels=4",
        "train.batch=2",
        "train.steps=2",
    ),
)


def quietly(out: Path, settings: DemoSettings = TINY) -> list[str]:
    lines: list[str] = []
    run_demo(out, settings, say=lines.append)
    return lines


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    quietly(out)
    return out


def test_the_page_shows_scores_pictures_and_a_film(demo: Path) -> None:
    page = (demo / "index.html").read_text()
    assert "copy the first mask forward" in page
    assert page.count("data:image/jpeg;base64,") >= 2
    assert "data:video/mp4;base64," in page or "data:image/webp;base64," in page


def test_the_held_out_videos_went_through_folders_and_were_packed_at_the_trained_size(demo: Path) -> None:
    held_out = ShardSet(demo / "shards" / "held_out")
    assert len(held_out) == 2
    assert {(held_out.entry(i).height, held_out.entry(i).width) for i in range(2)} == {(48, 80)}
    assert len(list((demo / "raw" / "held_out" / "Annotations").rglob("*.png"))) == 2 * 8


def test_the_baseline_on_the_page_is_that_of_the_held_out_videos(demo: Path) -> None:
    score = score_videos(open_videos(demo / "shards" / "held_out"), CopyFirstMask(), "davis2017")
    assert f"{score.j.mean:.3f}" in (demo / "index.html").read_text()


def test_a_second_run_goes_on_where_the_first_one_ended(demo: Path) -> None:
    """The film is left out: its encoder does not promise equal bytes."""
    checkpoints = {path: path.stat().st_mtime_ns for path in (demo / "training").rglob("*.safetensors")}
    sheets = {name: (demo / name).read_bytes() for name in ("synthvos.jpg", "segmented.jpg")}
    quietly(demo)
    assert {path: path.stat().st_mtime_ns for path in (demo / "training").rglob("*.safetensors")} == checkpoints
    assert {name: (demo / name).read_bytes() for name in sheets} == sheets


def test_other_settings_into_the_same_folder_are_refused(demo: Path) -> None:
    with pytest.raises(ConflictError, match="num_records is 4 there, 5 was asked for"):
        quietly(demo, DemoSettings(num_videos=5, num_held_out=2, overrides=TINY.overrides))
