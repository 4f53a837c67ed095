"""Masks as palette PNG: exact, deterministic, readable by anyone, and hard to fool."""

import struct
import time
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from shards.errors import BadFileError
from shards.masks import DAVIS_PALETTE, decode_mask, encode_mask, mask_size, object_stats

MASKS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 255))
FEW_IDS = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.sampled_from([0, 0, 1, 2, 254, 255])
)


def as_png(mask: np.ndarray, mode: str = "P", **options: object) -> bytes:
    picture = Image.fromarray(mask, "L" if mode != "1" else None)
    if mode == "P":
        picture.putpalette(DAVIS_PALETTE)
    buffer = BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, position = [], 8
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        found.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


@given(MASKS)
def test_a_mask_comes_back_exactly_and_its_bytes_are_always_the_same(mask: np.ndarray) -> None:
    data = encode_mask(mask)
    assert encode_mask(mask.copy()) == data
    np.testing.assert_array_equal(decode_mask(data), mask)
    assert mask_size(data) == mask.shape


@given(FEW_IDS)
def test_pillow_and_opencv_read_our_masks(mask: np.ndarray) -> None:
    data = encode_mask(mask)
    with Image.open(BytesIO(data)) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), mask)
    colours = np.frombuffer(DAVIS_PALETTE, np.uint8).reshape(256, 3)
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(shown, colours[mask])


def test_palette_is_that_of_davis() -> None:
    colours = np.frombuffer(DAVIS_PALETTE, np.uint8).reshape(256, 3).tolist()
    assert colours[:8] == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128], [128, 128, 128],
    ]  # fmt: skip
    assert colours[20] == [0, 64, 128]  # PASCAL VOC's tv monitor
    assert colours[255] == [224, 224, 192]


def test_our_form_has_unfiltered_rows_in_one_chunk() -> None:
    mask = np.arange(60, dtype=np.uint8).reshape(5, 12)
    parts = chunks(encode_mask(mask))
    assert [kind for kind, _ in parts] == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    rows = np.frombuffer(zlib.decompress(parts[2][1]), np.uint8).reshape(5, 13)
    assert not rows[:, 0].any()


@given(FEW_IDS, st.sampled_from(["P", "L"]), st.booleans())
def test_masks_that_others_wrote_are_read(mask: np.ndarray, mode: str, optimize: bool) -> None:
    np.testing.assert_array_equal(decode_mask(as_png(mask, mode, optimize=optimize)), mask)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.integers(0, 1)),
       st.sampled_from([1, 2, 4]))  # fmt: skip
def test_palette_masks_of_few_bits_keep_their_indices(mask: np.ndarray, bits: int) -> None:
    np.testing.assert_array_equal(decode_mask(as_png(mask, "P", bits=bits)), mask)


def test_black_and_white_masks_keep_0_and_255() -> None:
    mask = np.zeros((6, 9), np.uint8)
    mask[2:4, 3:7] = 255
    np.testing.assert_array_equal(decode_mask(as_png(mask, "L")), mask)
    one_bit = as_png(mask > 0, "1")
    assert one_bit[24] == 1
    np.testing.assert_array_equal(decode_mask(one_bit), mask)


def test_out_may_be_a_slice_of_a_batch() -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    batch = np.full((2, 2, 5, 8), 99, np.uint8)
    out = batch[1, 0, 1:4, 2:6]
    assert decode_mask(encode_mask(mask), out) is out
    np.testing.assert_array_equal(batch[1, 0, 1:4, 2:6], mask)
    assert (batch != 99).sum() == 12
    with pytest.raises(ValueError, match=r"uint8 \(3, 4\)"):
        decode_mask(encode_mask(mask), np.empty((4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"uint8 \(3, 4\)"):
        decode_mask(encode_mask(mask), np.empty((3, 4), np.int32))


def test_views_and_bytearrays_are_read() -> None:
    mask = np.eye(7, dtype=np.uint8)
    data = encode_mask(mask)
    for form in (memoryview(data), bytearray(data), memoryview(b"xx" + data)[2:]):
        np.testing.assert_array_equal(decode_mask(form), mask)


@pytest.mark.parametrize("own_form", [True, False])
def test_no_flipped_bit_changes_a_mask_silently(own_form: bool) -> None:
    mask = np.zeros((9, 11), np.uint8)
    mask[2:5, 3:9] = 3
    data = encode_mask(mask) if own_form else as_png(mask, "P", optimize=True)
    refused = 0
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            np.testing.assert_array_equal(decode_mask(damaged), mask)
        except BadFileError:
            refused += 1
    assert refused > 300


@pytest.mark.parametrize("own_form", [True, False])
def test_a_mask_cut_at_any_byte_is_refused(own_form: bool) -> None:
    mask = np.eye(9, dtype=np.uint8)
    data = encode_mask(mask) if own_form else as_png(mask, "L")
    for length in range(len(data)):
        with pytest.raises(BadFileError):
            decode_mask(data[:length])


@pytest.mark.parametrize(
    ("mode", "message"),
    [("RGB", "colour picture \\(RGB\\)"), ("RGBA", "RGBA"), ("LA", "gray with alpha"), ("I;16", "16 bits")],
)
def test_pictures_that_hold_no_ids_are_refused_by_name(mode: str, message: str) -> None:
    buffer = BytesIO()
    Image.new(mode, (5, 4)).save(buffer, "PNG")
    with pytest.raises(BadFileError, match=message):
        decode_mask(buffer.getvalue())


def test_a_header_that_claims_too_much_is_refused_before_decoding() -> None:
    data = bytearray(encode_mask(np.zeros((4, 4), np.uint8)))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(BadFileError, match="60000x60000"):
        decode_mask(data)


@pytest.mark.parametrize("own_kind", [True, False])
def test_a_stream_longer_than_the_picture_is_refused_without_inflating_it(own_kind: bool) -> None:
    honest = encode_mask(np.zeros((4, 4), np.uint8))
    bomb = zlib.compress(bytes(64 << 20), 9)
    kind = struct.pack(">IIBBBBB", 4, 4, 8, 3 if own_kind else 0, 0, 0, 0)
    parts = [(b"IHDR", kind), *chunks(honest)[1:2], (b"IDAT", bomb), (b"IEND", b"")]
    data = honest[:8] + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
    tracemalloc.start()
    with pytest.raises(BadFileError, match="too long"):
        decode_mask(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(TypeError, match="uint8"):
        encode_mask(np.zeros((3, 3), np.int64))
    with pytest.raises(ValueError, match="shape"):
        encode_mask(np.zeros((3, 3, 1), np.uint8))
    with pytest.raises(ValueError, match="shape"):
        encode_mask(np.zeros((0, 3), np.uint8))


@given(FEW_IDS)
def test_object_stats_equal_a_count_by_hand(mask: np.ndarray) -> None:
    stats = object_stats(mask)
    ids = sorted(set(mask.ravel().tolist()) - {0, 255})
    assert stats.ids.tolist() == ids
    for index, area, box in zip(ids, stats.areas, stats.boxes, strict=True):
        rows, columns = np.where(mask == index)
        assert area == len(rows)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert (stats.ids.dtype, stats.areas.dtype, stats.boxes.dtype) == (np.uint8, np.int32, np.int32)


def test_decoding_our_form_is_several_times_faster_than_pillow() -> None:
    mask = np.zeros((240, 432), np.uint8)
    cv2.circle(mask, (200, 100), 60, 1, -1)
    cv2.circle(mask, (300, 150), 50, 2, -1)
    data, out = encode_mask(mask), np.empty_like(mask)
    ours = best_seconds(lambda: decode_mask(data, out))
    assert ours * 3 < best_seconds(lambda: np.copyto(out, np.asarray(Image.open(BytesIO(data)))))


def best_seconds(work: object) -> float:
    best = float("inf")
    for _ in range(30):
        start = time.thread_time()
        work()
        best = min(best, time.thread_time() - start)
    return best


@pytest.mark.real_data
@given(name=st.sampled_from(["palette_2bit.png", "palette_4bit_interlaced.png", "palette_alpha_single.png",
                             "palette_small_4.png"]))  # fmt: skip
def test_odd_palette_files_give_the_indices_that_pillow_sees(real_data: Path, name: str) -> None:
    path = real_data / "nasty" / name
    with Image.open(path) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(decode_mask(path.read_bytes()), np.asarray(picture))


@pytest.mark.real_data
def test_the_first_22_colours_are_those_of_real_davis_files(real_data: Path) -> None:
    with Image.open(real_data / "davis" / "Annotations" / "480p" / "kite-surf" / "00000.png") as picture:
        real = np.array(picture.getpalette()[: 3 * 22])
    assert np.abs(real - np.frombuffer(DAVIS_PALETTE[: 3 * 22], np.uint8)).max() <= 1  # theirs has 191 for 192


@pytest.mark.real_data
def test_real_masks_come_back_through_our_form(real_data: Path) -> None:
    paths = [path for part in ("davis", "ytvos") for path in sorted((real_data / part).rglob("*.png"))][::7]
    assert len(paths) > 5
    for path in paths:
        with Image.open(path) as picture:
            expected = np.asarray(picture)
        mask = decode_mask(path.read_bytes())
        np.testing.assert_array_equal(mask, expected)
        np.testing.assert_array_equal(decode_mask(encode_mask(mask)), expected)
