"""Videos that are written can be read again: length, size, speed and colours."""

import importlib.util
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vosdata.view import video
from vosdata.view.video import write_video

needs_av = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="PyAV is not installed")


def frames(count: int, height: int = 48, width: int = 64) -> Iterator[np.ndarray]:
    for t in range(count):
        yield np.full((height, width, 3), (10 + 20 * t % 200, 120, 60), np.uint8)


@pytest.fixture
def no_av(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if PyAV were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda name: None if name == "av" else find(name))


@needs_av
def test_h264_keeps_every_frame_its_speed_and_its_colours(tmp_path: Path) -> None:
    import av

    written = write_video(tmp_path / "clip.mp4", frames(9), fps=12.5)
    assert written == tmp_path / "clip.mp4"
    with av.open(str(written)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == Fraction(25, 2)
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 9
    for got, expected in zip(decoded, frames(9), strict=True):
        assert np.abs(got.astype(int) - expected).mean() < 6


@needs_av
def test_odd_sizes_are_widened_by_a_pixel(tmp_path: Path) -> None:
    import av

    with av.open(str(write_video(tmp_path / "odd.mp4", frames(2, 47, 63)))) as container:
        assert (container.streams.video[0].height, container.streams.video[0].width) == (48, 64)


def test_without_pyav_an_animated_webp_is_written(tmp_path: Path, no_av: None) -> None:
    written = write_video(tmp_path / "clip.mp4", frames(6), fps=10)
    assert written == tmp_path / "clip.webp"
    with Image.open(written) as picture:
        assert picture.n_frames == 6
        picture.seek(3)
        picture.load()
        assert picture.info["duration"] == 100
        assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - (70, 120, 60)).mean() < 6
    assert [path.name for path in tmp_path.iterdir()] == ["clip.webp"]


def test_long_webp_is_thinned_out_and_lasts_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_WEBP_FRAMES", 8)
    written = write_video(tmp_path / "long.webp", frames(50, 16, 16), fps=10)
    with Image.open(written) as picture:
        assert 4 <= picture.n_frames <= 8
        durations = []
        for t in range(picture.n_frames):
            picture.seek(t)
            picture.load()
            durations.append(picture.info["duration"])
    assert sum(durations) == pytest.approx(5000, rel=0.2)


def test_a_video_without_frames_or_of_several_sizes_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(tmp_path / "none.mp4", [])
    with pytest.raises(ValueError, match="one size"):
        write_video(tmp_path / "two.mp4", [*frames(1, 16, 16), *frames(1, 16, 18)])
    with pytest.raises(ValueError, match="frames per second"):
        write_video(tmp_path / "still.mp4", frames(1), fps=0)
    assert not list(tmp_path.iterdir()), "nothing half-written stays"


@needs_av
def test_a_folder_that_nothing_can_be_written_into_is_named() -> None:
    with pytest.raises(OSError) as caught:
        write_video(Path("/proc/clip.mp4"), frames(2))
    assert str(caught.value.filename).startswith("/proc/")
