"""Frames out of folders and video files: order, numbers, colours, and one clear line for what is no video."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vosdata.frames
from shards.codec import encode_jpeg
from shards.errors import BadFileError, SourceError
from vosdata.frames import FrameFolder, VideoFile, open_frames
from vosdata.view.video import write_video


def gray(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames at 10 per second, brighter and brighter, with a red upper left corner."""
    pictures = [gray(20 * t) for t in range(12)]
    for picture in pictures:
        picture[:16, :16] = (250, 0, 0)
    written = write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", pictures, fps=10)
    if written.suffix != ".mp4":
        pytest.skip("needs PyAV to make a video")
    return written


@pytest.fixture(params=["av", "cv2"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Reads by PyAV, then by OpenCV as if PyAV were not installed."""
    find = importlib.util.find_spec
    if request.param == "av" and find("av") is None:
        pytest.skip("needs PyAV")
    if request.param == "cv2":
        monkeypatch.setattr(
            vosdata.frames.importlib.util, "find_spec", lambda name: None if name == "av" else find(name)
        )
    return str(request.param)


@pytest.mark.usefixtures("reader")
def test_a_video_file_gives_its_frames_in_order(clip: Path) -> None:
    source = open_frames(clip)
    assert isinstance(source, VideoFile)
    assert (source.frame_rate, source.num_frames, source.first_number) == (10.0, 12, 0)
    for _ in range(2):  # reading again starts again
        frames = list(source)
        assert [frame.number for frame in frames] == list(range(12))
        for t, frame in enumerate(frames):
            assert frame.rgb.shape == (48, 64, 3)
            assert abs(int(frame.rgb[40, 50].mean()) - 20 * t) < 8
            assert frame.rgb[4, 4, 0] > 180 > 90 > frame.rgb[4, 4, 2], "red is the first channel"


@pytest.mark.usefixtures("reader")
def test_a_video_filmed_sideways_is_turned_upright(clip: Path, tmp_path: Path) -> None:
    data = bytearray(clip.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags, times and ids, reserved and layer
    identity = (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    assert data[start : start + 36] == b"".join(value.to_bytes(4, "big") for value in identity)
    quarter = (0, 0x10000, 0, -0x10000, 0, 0, 48 << 16, 0, 0x40000000)  # x' = -y + 48, y' = x: clockwise
    data[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in quarter)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(data)
    frame = next(iter(open_frames(turned)))
    assert frame.rgb.shape == (64, 48, 3)
    assert frame.rgb[4, 44, 0] > 180, "the corner that was left is now right"
    assert frame.rgb[60, 4, 0] < 60


def test_a_folder_gives_its_pictures_by_number(tmp_path: Path) -> None:
    for number in (10, 9, 100):
        (tmp_path / f"{number}.jpg").write_bytes(encode_jpeg(gray(number)))
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".hidden7.jpg").write_bytes(b"")
    source = open_frames(tmp_path)
    assert isinstance(source, FrameFolder)
    assert (source.first_number, source.num_frames, source.frame_rate) == (9, 3, None)
    frames = list(source)
    assert [frame.number for frame in frames] == [9, 10, 100]
    assert [int(frame.rgb.mean().round()) for frame in frames] == [9, 10, 100]


def test_what_is_no_video_is_said_so(tmp_path: Path) -> None:
    text = tmp_path / "film.mp4"
    text.write_text("this is no film")
    with pytest.raises(BadFileError, match=r"film\.mp4: cannot be read as a video"):
        open_frames(text)
    with pytest.raises(SourceError, match="no such video file"):
        open_frames(tmp_path / "missing.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no frames"):
        open_frames(tmp_path / "empty")


def test_a_damaged_frame_is_named(tmp_path: Path) -> None:
    (tmp_path / "00000.jpg").write_bytes(encode_jpeg(gray(50)))
    (tmp_path / "00001.jpg").write_bytes(encode_jpeg(gray(60))[:100])
    with pytest.raises(BadFileError, match=r"00001\.jpg"):
        list(open_frames(tmp_path))


def test_a_frame_that_viewers_turn_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(gray(50)).save(tmp_path / "00000.jpg", exif=exif)
    with pytest.raises(BadFileError, match=r"00000\.jpg: its EXIF orientation is 3"):
        list(open_frames(tmp_path))


def test_two_frames_of_one_number_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(encode_jpeg(gray(1)))
    (tmp_path / "01.jpg").write_bytes(encode_jpeg(gray(2)))
    with pytest.raises(SourceError, match="same frame number"):
        open_frames(tmp_path)
