"""One shard: an ordinary tar whose bytes are a function of its records."""

import io
import json
import re
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_plan import HEIGHT, WIDTH, toy_record

from shards.codec import crc32c, encode_jpeg
from shards.errors import DatasetError
from shards.format import RECORD_KEYS
from shards.masks import decode_mask
from shards.types import Record, StoredFrame
from shards.writer import ShardWriter, key_of, sequence_of, tar_header

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=120)


def shard_of(*records: Record) -> tuple[bytes, list]:
    file = io.BytesIO()
    writer = ShardWriter(file, 3)
    entries = [writer.add(record) for record in records]
    writer.close()
    assert writer.num_bytes == len(file.getvalue())
    assert writer.crc == crc32c(file.getvalue())
    return file.getvalue(), entries


def names_in(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


@given(NAMES)
def test_keys_are_short_ascii_without_dots_and_can_be_turned_back(name: str) -> None:
    key = key_of(name)
    assert re.fullmatch(r"[A-Za-z0-9_%~-]{1,80}", key)
    if "~" not in key:
        assert sequence_of(key) == name


@given(st.lists(NAMES, min_size=2, max_size=2, unique=True))
def test_different_names_have_different_keys(names: list[str]) -> None:
    assert key_of(names[0]) != key_of(names[1])


def test_keys_stay_readable() -> None:
    assert key_of("bmx-trees_2") == "bmx-trees_2"
    assert key_of("a/b.c d") == "a%2Fb%2Ec%20d"
    assert key_of("中文") == "%E4%B8%AD%E6%96%87"
    assert key_of("x" * 81) != key_of("x" * 82)
    with pytest.raises(ValueError, match="too long"):
        sequence_of(key_of("x" * 81))
    with pytest.raises(ValueError, match="empty"):
        key_of("")


@given(st.text("abcXYZ0189_-%.", min_size=1, max_size=100), st.integers(0, 2**31 - 1))
def test_tar_headers_are_what_the_standard_library_reads(name: str, size: int) -> None:
    info = tarfile.TarInfo.frombuf(tar_header(name, size), "ascii", "strict")
    assert (info.name, info.size, info.mode, info.mtime, info.uid, info.gid) == (name, size, 0o644, 0, 0, 0)
    assert info.isreg()
    assert (info.uname, info.gname, info.linkname) == ("", "", "")


def test_members_of_a_record_are_adjacent_and_in_order() -> None:
    data, _ = shard_of(toy_record("a", index=0), toy_record("b", index=1))
    names = names_in(data)
    assert names == [
        "a.json",
        *("a.frame00000.jpg", "a.mask00000.png", "a.frame00005.jpg", "a.mask00005.png", "a.frame00010.jpg"),
        "a.mask00010.png",
        "b.json",
        *("b.frame00000.jpg", "b.mask00000.png", "b.frame00005.jpg", "b.mask00005.png", "b.frame00010.jpg"),
    ]


def test_the_index_row_points_at_untouched_bytes() -> None:
    record = toy_record("clip", index=1)
    data, (entry,) = shard_of(record)
    assert (entry.shard, entry.key, entry.sequence, entry.num_frames) == (3, "clip", "clip", 3)
    assert entry.annotated.tolist() == [True, True, False]
    for position, frame in enumerate(record.frames):
        start, size = entry.image_offsets[position], entry.image_sizes[position]
        assert data[start : start + size] == frame.image
        assert crc32c(frame.image) == entry.image_crcs[position]
        start, size = entry.mask_offsets[position], entry.mask_sizes[position]
        if frame.mask is None:
            assert (start, size, entry.mask_crcs[position]) == (0, 0, 0)
        else:
            np.testing.assert_array_equal(decode_mask(data[start : start + size]), frame.mask)


def test_areas_and_boxes_of_each_object_are_in_the_index() -> None:
    masks = [np.zeros((HEIGHT, WIDTH), np.uint8) for _ in range(3)]
    masks[0][2:4, 10:13] = 9
    masks[2][5, 6] = 2
    masks[2][:, 0] = 255
    picture = encode_jpeg(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    frames = tuple(StoredFrame(number, picture, mask) for number, mask in enumerate(masks))
    _, (entry,) = shard_of(Record("x", frames, HEIGHT, WIDTH))
    assert entry.object_ids.tolist() == [2, 9]
    assert entry.areas.tolist() == [[0, 6], [0, 0], [1, 0]]
    assert entry.boxes[0, 1].tolist() == [10, 2, 13, 4]
    assert entry.boxes[2].tolist() == [[6, 5, 7, 6], [0, 0, 0, 0]]


def test_record_json_has_the_fixed_keys_first_then_its_own() -> None:
    data, (entry,) = shard_of(toy_record("é", index=1))
    text = data[entry.json_offset : entry.json_offset + entry.json_size]
    content = json.loads(text)
    assert tuple(content) == (*RECORD_KEYS, "scene")
    assert content["key"] == "%C3%A9"
    assert content["sequence"] == "é"
    assert content["frame_numbers"] == [0, 5, 10]
    assert content["annotated"] == [True, True, False]
    assert content["object_ids"] == [1, 7]


def test_large_frame_numbers_get_more_digits() -> None:
    frames = toy_record("a").frames
    numbered = (replace(frames[0], number=99_999), replace(frames[1], number=100_000))
    data, _ = shard_of(replace(toy_record("a"), frames=numbered))
    names = names_in(data)
    assert "a.frame99999.jpg" in names
    assert "a.frame100000.jpg" in names


def test_equal_records_give_equal_bytes() -> None:
    assert shard_of(toy_record("a"))[0] == shard_of(toy_record("a"))[0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"frames": ()}, ValueError, "no frames"),
        ({"height": 25}, DatasetError, "picture of frame 0 is 24x40, its record 25x40"),
        ({"extra": {"key": 1}}, ValueError, "reserved keys key"),
        ({"frames": toy_record("a").frames[::-1]}, ValueError, "strictly increase"),
        ({"sequence": ""}, ValueError, "empty"),
    ],
)
def test_records_that_contradict_themselves_are_refused(change: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        shard_of(replace(toy_record("a"), **change))


def test_masks_and_pictures_that_do_not_fit_are_named() -> None:
    record = toy_record("clip")
    wrong_mask = replace(record.frames[1], mask=np.zeros((WIDTH, HEIGHT), np.uint8))
    with pytest.raises(DatasetError, match="sequence clip: mask of frame 5 is 40x24, its record 24x40"):
        shard_of(replace(record, frames=(record.frames[0], wrong_mask)))
    with pytest.raises(DatasetError, match="sequence clip: picture of frame 5: the file is neither JPEG nor PNG"):
        shard_of(replace(record, frames=(record.frames[0], replace(record.frames[1], image=b"nonsense"))))
