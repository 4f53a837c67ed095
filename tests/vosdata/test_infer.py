"""Segmenting frame by frame: what the model is given, what is written, and what is kept in memory."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from shards.codec import encode_jpeg
from shards.errors import BadFileError, ConflictError, SourceError
from shards.masks import decode_mask
from vosdata.evaluate.predictions import write_prediction
from vosdata.evaluate.truth import open_dataset
from vosdata.frames import NumberedFrame
from vosdata.given import FirstAppearances, GivenMaskFiles
from vosdata.infer import claim_folder, predict_video, segment_frames

Mask = NDArray[np.uint8]


class Remember:
    """A segmenter that repeats what it was given and records it."""

    def __init__(self, shape: tuple[int, int] = (8, 10)) -> None:
        self.known = np.zeros(shape, np.uint8)
        self.given: list[list[int] | None] = []

    def step(self, frame: NDArray[np.uint8], given: Mask | None = None) -> Mask:
        self.given.append(None if given is None else np.unique(given).tolist())
        if given is not None:
            self.known = np.where(given > 0, given, self.known)
        return self.known


def mask(*ids: int) -> Mask:
    """A mask of 8x10 with one row per id."""
    drawn = np.zeros((8, 10), np.uint8)
    for row, value in enumerate(ids):
        drawn[row] = value
    return drawn


def black(numbers: range) -> Iterator[NumberedFrame]:
    return (NumberedFrame(number, np.zeros((8, 10, 3), np.uint8)) for number in numbers)


def test_each_object_is_given_once_and_void_never() -> None:
    appearances = FirstAppearances()
    shown = [mask(0, 255), mask(1, 255), None, mask(1, 2), mask(1, 2, 3, 255), mask(2), mask(1)]
    given = [appearances.given(one) for one in shown]
    assert [None if one is None else np.unique(one[one > 0]).tolist() for one in given] == [
        None, [1], None, [2], [3], None, None,
    ]  # fmt: skip
    assert given[3] is not None
    assert given[3].tolist() == mask(0, 2).tolist()


def test_later_annotations_do_not_reach_the_model() -> None:
    truth = {3: mask(1), 4: mask(1, 1, 1), 5: mask(1, 2)}
    model = Remember()
    found = list(segment_frames(model, black(range(2, 7)), truth.get))
    assert model.given == [None, [0, 1], None, [0, 2], None]
    assert [frame.number for frame in found] == [2, 3, 4, 5, 6]
    assert [np.unique(frame.mask).tolist() for frame in found] == [[0], [0, 1], [0, 1], [0, 1, 2], [0, 1, 2]]


def test_a_mask_or_frame_of_another_size_is_refused() -> None:
    with pytest.raises(BadFileError, match="mask of frame 1 is 8x9, the frame is 8x10"):
        list(segment_frames(Remember(), black(range(3)), {1: mask(1)[:, :9]}.get))
    frames = [*black(range(2)), NumberedFrame(2, np.zeros((9, 10, 3), np.uint8))]
    with pytest.raises(BadFileError, match="frame 2 is 9x10, the first frame is 8x10"):
        list(segment_frames(Remember(), frames, {0: mask(1)}.get))


def test_memory_does_not_grow_with_the_length_of_a_video() -> None:
    def long(num_frames: int) -> Iterator[NumberedFrame]:
        return (NumberedFrame(t, np.zeros((200, 200, 3), np.uint8)) for t in range(num_frames))

    def peak(num_frames: int) -> int:
        first = np.ones((200, 200), np.uint8)
        tracemalloc.start()
        for _ in segment_frames(Remember((200, 200)), long(num_frames), lambda number: None if number else first):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(3)
    assert peak(400) - peak(10) < 200 * 200 * 3


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """One sequence of frames 5, 6, 7; object 2 joins in frame 7, frame 6 is unannotated."""
    root = tmp_path / "set"
    frames, masks = root / "JPEGImages" / "bear", root / "Annotations" / "bear"
    frames.mkdir(parents=True)
    for number in (5, 6, 7):
        (frames / f"{number:05d}.jpg").write_bytes(encode_jpeg(np.full((8, 10, 3), 90, np.uint8)))
    write_prediction(masks, 5, mask(1))
    write_prediction(masks, 7, mask(1, 2))
    return root


def test_predictions_are_written_in_the_official_layout(dataset: Path, tmp_path: Path) -> None:
    (video,) = open_dataset(dataset)
    out = tmp_path / "out"
    predict_video(Remember(), video, out, prepare=lambda one: one)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) == [
        "bear", "bear/00005.png", "bear/00006.png", "bear/00007.png",
    ]  # fmt: skip
    assert np.array_equal(decode_mask((out / "bear" / "00007.png").read_bytes()), mask(1, 2))


def test_a_sequence_folder_appears_only_when_it_is_complete(dataset: Path, tmp_path: Path) -> None:
    class Failing(Remember):
        def step(self, frame: NDArray[np.uint8], given: Mask | None = None) -> Mask:
            if len(self.given) == 2:
                raise RuntimeError("out of memory")
            return super().step(frame, given)

    (video,) = open_dataset(dataset)
    with pytest.raises(RuntimeError):
        predict_video(Failing(), video, tmp_path / "out", prepare=lambda one: one)
    assert not (tmp_path / "out" / "bear").exists()
    predict_video(Remember(), video, tmp_path / "out", prepare=lambda one: one)
    assert len(list((tmp_path / "out" / "bear").iterdir())) == 3


def test_an_output_of_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    claim_folder(folder, {"weights": "abc", "protocol": "davis2017"})
    claim_folder(folder, {"weights": "abc", "protocol": "davis2017"})
    with pytest.raises(ConflictError, match='weights is "abc" there, "xyz" was asked for'):
        claim_folder(folder, {"weights": "xyz", "protocol": "davis2017"})
    (tmp_path / "other").mkdir()
    claim_folder(tmp_path / "other", {})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("do not touch")
    with pytest.raises(ConflictError, match="not made by this command"):
        claim_folder(tmp_path / "full", {})


def save(path: Path, values: Mask, mode: str = "L") -> Path:
    Image.fromarray(values).convert(mode).save(path)
    return path


def test_the_first_mask_file_is_for_the_first_frame_whatever_its_name(tmp_path: Path) -> None:
    first, later = save(tmp_path / "drawn 99.png", mask(1)), save(tmp_path / "00012.png", mask(0, 2))
    files = GivenMaskFiles([first, later], first_number=7)
    read = [files.read(number) for number in range(7, 13)]
    assert [one is not None for one in read] == [True, False, False, False, False, True]
    files.check_all_read()


def test_a_folder_of_masks_goes_by_frame_number(tmp_path: Path) -> None:
    for number in (3, 5):
        save(tmp_path / f"{number:05d}.png", mask(number))
    files = GivenMaskFiles([tmp_path], first_number=3)
    found = files.read(5)
    assert found is not None
    assert found.max() == 5
    with pytest.raises(SourceError, match=r"00003\.png.*no frame 3"):
        files.check_all_read()


def test_white_on_black_is_object_one(tmp_path: Path) -> None:
    for mode in ("L", "1"):
        path = save(tmp_path / f"{mode}.png", mask(255, 255), mode)
        read = GivenMaskFiles([path], 0).read(0)
        assert read is not None
        assert np.array_equal(read, mask(1, 1))


def test_masks_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    empty = save(tmp_path / "empty.png", mask())
    colour = save(tmp_path / "colour.png", mask(1), "RGB")
    with pytest.raises(BadFileError, match=r"empty\.png: shows no object"):
        GivenMaskFiles([empty], 0)
    with pytest.raises(BadFileError, match=r"colour\.png.*RGB"):
        GivenMaskFiles([colour], 0)
    with pytest.raises(SourceError, match="no such mask"):
        GivenMaskFiles([tmp_path / "missing.png"], 0)
    with pytest.raises(BadFileError, match=r"00001\.png: the mask is 8x10, the frames are 8x12"):
        GivenMaskFiles([save(tmp_path / "00001.png", mask(1))], 0).check_size(8, 12)
    with pytest.raises(SourceError, match="no frame number"):
        GivenMaskFiles([tmp_path / "00001.png", save(tmp_path / "second.png", mask(2))], 0)
    with pytest.raises(SourceError, match="both masks of frame 0"):
        GivenMaskFiles([tmp_path / "00001.png", save(tmp_path / "00000.png", mask(2))], 0)
