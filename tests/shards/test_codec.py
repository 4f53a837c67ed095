"""Pictures and checksums: exact against peers, strict on damage."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from shards import codec
from shards.codec import check_upright, crc32c, decode_image, encode_jpeg, image_size, image_suffix
from shards.errors import BadFileError


def photo(height: int = 37, width: int = 51) -> np.ndarray:
    """Smooth colours with some noise, as photographs have."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(rows / 7), np.cos(columns / 5), np.sin((rows + columns) / 9)], axis=-1)
    return (127 + 90 * waves + np.random.default_rng(0).normal(0, 8, waves.shape)).clip(0, 255).astype(np.uint8)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def test_crc32c_gives_the_published_check_value() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0


@given(st.binary(max_size=300), st.integers(0, 300))
def test_crc32c_can_be_continued_and_takes_any_buffer(data: bytes, cut: int) -> None:
    whole = crc32c(data)
    assert crc32c(data[cut:], crc32c(data[:cut])) == whole
    assert crc32c(memoryview(data)) == crc32c(bytearray(data)) == crc32c(np.frombuffer(data, np.uint8)) == whole


def test_encoded_pictures_are_baseline_with_420_chroma_and_close_to_the_original() -> None:
    picture = photo()
    data = encode_jpeg(picture)
    assert data == encode_jpeg(np.asfortranarray(picture))
    assert simplejpeg.decode_jpeg_header(data)[2:] == ("YCbCr", "420")
    assert b"\xff\xc0" in data
    assert b"\xff\xc2" not in data
    assert np.abs(decode_image(data).astype(int) - picture).mean() < 12
    assert len(encode_jpeg(picture, 50)) < len(data)


def test_a_fourth_channel_changes_nothing() -> None:
    picture = photo()
    fourth = np.random.default_rng(0).integers(0, 256, (*picture.shape[:2], 1), np.uint8)
    assert encode_jpeg(np.concatenate([picture, fourth], axis=2), 80) == encode_jpeg(picture, 80)


def test_wrong_pictures_are_refused() -> None:
    for wrong in (
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
    ):
        with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\)"):
            encode_jpeg(wrong)
    with pytest.raises(ValueError, match="quality"):
        encode_jpeg(photo(), 0)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_pixels_equal_those_of_opencv_and_pillow(subsampling: int, progressive: bool) -> None:
    data = saved(Image.fromarray(photo()), "JPEG", quality=90, subsampling=subsampling, progressive=progressive)
    pixels = decode_image(data)
    np.testing.assert_array_equal(pixels, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))
    with Image.open(BytesIO(data)) as picture:
        np.testing.assert_array_equal(pixels, np.asarray(picture))


def test_gray_and_cmyk_jpegs_become_rgb() -> None:
    gray = saved(Image.fromarray(photo()).convert("L"), "JPEG")
    pixels = decode_image(gray)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    cmyk = saved(Image.fromarray(photo()).convert("CMYK"), "JPEG", quality=95)
    with Image.open(BytesIO(cmyk)) as picture:
        expected = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(decode_image(cmyk) - expected).max() <= 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_png_pictures_are_read_exactly(mode: str) -> None:
    picture = Image.fromarray(photo()).convert(mode)
    expected = np.asarray(picture.convert("RGB"))
    out = np.empty(expected.shape, np.uint8)
    assert decode_image(saved(picture, "PNG"), out) is out
    np.testing.assert_array_equal(out, expected)


def test_16_bit_png_keeps_its_brightness() -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    data = cv2.imencode(".png", values)[1].tobytes()
    np.testing.assert_allclose(decode_image(data)[..., 0], values / 257, atol=1)


def test_exif_orientation_is_not_applied_so_that_frames_lie_on_their_masks() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(photo()), "JPEG", exif=exif)
    assert decode_image(data).shape == (37, 51, 3)
    assert image_size(data) == (37, 51)


def test_every_kind_of_buffer_takes_the_fast_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_decode_rare_jpeg", None)
    data = encode_jpeg(photo())
    expected = simplejpeg.decode_jpeg(data)
    for form in (data, bytearray(data), memoryview(data), memoryview(data).cast("b"), memoryview(pa.py_buffer(data))):
        assert image_size(form) == (37, 51)
        np.testing.assert_array_equal(decode_image(form), expected)


def test_out_is_filled_or_refused() -> None:
    data = encode_jpeg(photo())
    batch = np.zeros((2, 37, 51, 3), np.uint8)
    assert decode_image(memoryview(data), batch[1]) is not None
    np.testing.assert_array_equal(batch[1], decode_image(data))
    assert not batch[0].any()
    for wrong in (
        np.zeros((51, 37, 3), np.uint8),
        np.zeros((37, 51, 3), np.int8),
        np.zeros((37, 102, 3), np.uint8)[:, ::2],
    ):
        with pytest.raises(ValueError, match="contiguous"):
            decode_image(data, wrong)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_cut_off_anywhere_is_refused(kind: str) -> None:
    data = saved(Image.fromarray(photo()), kind)
    assert image_suffix(data) == {"JPEG": "jpg", "PNG": "png"}[kind]
    for length in range(0, len(data) - 2, 13):
        with pytest.raises(BadFileError):
            decode_image(data[:length])


def test_what_is_no_picture_is_named() -> None:
    with pytest.raises(BadFileError, match="empty"):
        decode_image(b"")
    with pytest.raises(BadFileError, match="neither JPEG nor PNG"):
        image_size(b"GIF89a................")


def test_a_picture_that_claims_too_much_is_refused_before_decoding() -> None:
    data = bytearray(saved(Image.fromarray(photo()), "PNG"))
    data[16:24] = bytes((0, 0, 250, 0)) * 2
    with pytest.raises(BadFileError, match="64000x64000"):
        decode_image(data)


@pytest.mark.real_data
def test_real_files_are_read_or_refused_with_one_line(real_data: Path) -> None:
    readable = {}
    for path in sorted((real_data / "nasty").iterdir()):
        try:
            pixels = decode_image(path.read_bytes())
            readable[path.name] = pixels.shape[:2]
            assert image_size(path.read_bytes()) == pixels.shape[:2]
        except BadFileError as error:
            assert "\n" not in str(error)
    assert readable["exif_hopper_6.jpg"] == (128, 128)
    assert readable["cmyk_pil_sample.jpg"] == (100, 100)
    assert readable["rgba_png_named.jpg"] == (329, 1107)
    assert not {"text_named.jpg", "truncated_skimage.jpg", "zero_byte.png", "broken_data_stream.png"} & set(readable)


def test_a_jpeg_with_chroma_that_simplejpeg_does_not_know_is_read() -> None:
    usual = saved(Image.new("RGB", (16, 16), (128, 128, 128)), "JPEG", subsampling=2)
    frame_header, scan = usual.index(b"\xff\xc0"), usual.index(b"\xff\xda")
    components = frame_header + 10
    assert usual[components : components + 9] == bytes((1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1))
    # Cb with twice the rows of Cr: one more block of zeros, each "00" + end of block ("1010" luma, "00" chroma).
    bits = "001010" * 4 + "0000" * 3
    blocks = int(bits.ljust(40, "1"), 2).to_bytes(5, "big")
    rare = bytearray(usual[: scan + 14] + blocks + b"\xff\xd9")
    rare[components + 4] = 0x12
    with pytest.raises(ValueError, match="subsampling"):
        simplejpeg.decode_jpeg_header(bytes(rare))
    assert image_size(rare) == (16, 16)
    np.testing.assert_array_equal(decode_image(rare, np.zeros((16, 16, 3), np.uint8)), np.full((16, 16, 3), 128))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_is_refused_exactly_where_viewers_turn_it(kind: str, order: str) -> None:
    pixels = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(4, 8, 3))
    for orientation in range(10):
        exif = Image.Exif()
        exif.endian = order
        exif[0x010F], exif[0x0112] = "a camera", orientation
        data = saved(pixels, kind, exif=exif)
        with Image.open(BytesIO(data)) as picture:
            is_turned = ImageOps.exif_transpose(picture).tobytes() != picture.tobytes()
        assert is_turned == (2 <= orientation <= 8)
        if is_turned:
            with pytest.raises(BadFileError, match=f"orientation is {orientation}"):
                check_upright(data)
        else:
            check_upright(data)
    check_upright(saved(pixels, kind))


@given(st.binary(max_size=60), st.sampled_from([b"II*\0", b"MM\0*"]))
def test_malformed_exif_says_nothing(noise: bytes, order: bytes) -> None:
    """At most that the picture is turned: where the noise states a tag."""
    try:
        check_upright(b"\xff\xd8\xff\xe1\0\x40Exif\0\0" + order + noise)
    except BadFileError as error:
        assert "EXIF orientation" in str(error)
