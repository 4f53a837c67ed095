import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from shards.errors import BadFileError
from synth.pictures import (
    Picture,
    decode_indices,
    decode_object_mask,
    decode_picture,
    fit_mask,
    read_object_mask,
    read_picture,
    turn_upright,
)


def encoded(array_or_image, form="PNG", **options):
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def smooth_rgb(height=40, width=60):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, 255 - x * 255 // width], axis=2).astype(np.uint8)


def oriented_jpeg(rgb, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(rgb, "JPEG", exif=exif, quality=95)


def palette_png(indices, colours):
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette([value for colour in colours for value in colour])
    return encoded(image)


def png_header(height, width):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


OBJECT = np.zeros((12, 20), bool)
OBJECT[3:9, 5:15] = True


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone_as_pillow_does(orientation):
    data = oriented_jpeg(smooth_rgb(), orientation)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    picture = decode_picture(data, "a.jpg")
    assert picture.orientation == orientation
    np.testing.assert_array_equal(picture.rgb, expected)


@pytest.mark.parametrize("orientation", [0, 9, 4711])
def test_impossible_orientations_count_as_upright(orientation):
    assert decode_picture(oriented_jpeg(smooth_rgb(), orientation), "a.jpg").rgb.shape == (40, 60, 3)


def test_malformed_exif_counts_as_upright():
    data = encoded(smooth_rgb(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12garbage")
    assert decode_picture(data, "a.jpg").orientation == 1


def test_grayscale_is_repeated_in_three_channels():
    gray = smooth_rgb()[:, :, 0]
    rgb = decode_picture(encoded(gray), "a.png").rgb
    np.testing.assert_array_equal(rgb, np.repeat(gray[:, :, None], 3, axis=2))


def test_cmyk_jpeg_in_adobes_inverted_form_has_the_colours_it_was_made_of():
    rgb = smooth_rgb()
    cmyk = Image.fromarray(rgb).convert("CMYK")
    data = encoded(cmyk, "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in data  # the marker by which inverted files are known
    error = np.abs(decode_picture(data, "a.jpg").rgb.astype(int) - rgb)
    assert error.mean() < 2


def test_sixteen_bit_gray_is_scaled_and_not_clipped():
    values = np.linspace(0, 65535, 800).reshape(20, 40).astype(np.uint16)
    rgb = decode_picture(encoded(Image.fromarray(values)), "a.png").rgb
    np.testing.assert_array_equal(rgb[:, :, 0], values >> 8)


def test_transparency_is_shown_over_white():
    rgba = np.zeros((4, 6, 4), np.uint8)
    rgba[:, :3] = (10, 20, 30, 255)
    rgb = decode_picture(encoded(rgba), "a.png").rgb
    assert (rgb[:, :3] == (10, 20, 30)).all()
    assert (rgb[:, 3:] == 255).all()


def test_the_suffix_does_not_matter(tmp_path):
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encoded(smooth_rgb()))
    np.testing.assert_array_equal(read_picture(path), smooth_rgb())


def test_names_beyond_ascii_are_read(tmp_path):
    path = tmp_path / "中文 ö.png"
    path.write_bytes(encoded(smooth_rgb()))
    np.testing.assert_array_equal(read_picture(path), smooth_rgb())


def test_colour_profiles_and_palettes_do_not_get_in_the_way():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert decode_picture(encoded(smooth_rgb(), "JPEG", icc_profile=profile), "a.jpg").rgb.shape == (40, 60, 3)
    indices = np.array([[0, 1], [2, 1]])
    rgb = decode_picture(palette_png(indices, [(1, 2, 3), (40, 50, 60), (7, 8, 9)]), "a.png").rgb
    np.testing.assert_array_equal(rgb[0, 1], (40, 50, 60))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty (0 bytes)"),
        (b"../../other/picture.jpg", "link that was checked out as a file"),
        (b"<html><body>404 not found</body></html>" * 20, "error page"),
        (b"\x00\x01\x02" * 50, "no picture that can be read"),
        (png_header(60_000, 60_000), "pixels"),
        (png_header(10_000, 9_000), "more than 67108864 pixels"),
        (encoded(smooth_rgb(), "JPEG")[:300], "damaged or cut off"),
    ],
)
def test_what_is_no_picture_is_named_with_the_reason(tmp_path, data, said):
    path = tmp_path / "thing.jpg"
    path.write_bytes(data)
    for read in (read_picture, read_object_mask):
        with pytest.raises(BadFileError) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_missing_files_folders_and_dangling_links_are_named(tmp_path):
    (tmp_path / "dangling.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name, said in (("dangling.jpg", "link"), ("folder.jpg", "cannot be read"), ("none.jpg", "does not exist")):
        with pytest.raises(BadFileError, match=said):
            read_picture(tmp_path / name)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@settings(max_examples=25)
@given(data=st.data())
def test_damaged_files_give_a_picture_or_one_kind_of_error(form, data):
    whole = bytearray(encoded(smooth_rgb(), form))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        picture = decode_picture(damaged, "damaged")
    except BadFileError as error:
        assert str(error).startswith("damaged: ")
    else:
        assert picture.rgb.dtype == np.uint8
        assert picture.rgb.shape[2] == 3


def test_a_jpeg_cut_anywhere_in_its_pixels_is_refused():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = encoded(noise, "JPEG")
    start = whole.index(b"\xff\xda") + 14
    for end in range(start, len(whole) - 600, 97):
        with pytest.raises(BadFileError, match="cut off"):
            decode_picture(whole[:end], "a.jpg")


BINARY_FORMS = {
    "gray 0/255": encoded(OBJECT * np.uint8(255)),
    "gray 0/1": encoded(OBJECT * np.uint8(1)),
    "gray 0/128": encoded(OBJECT * np.uint8(128)),
    "one bit": encoded(Image.fromarray(OBJECT)),
    "rgb 0/255": encoded(np.repeat((OBJECT * np.uint8(255))[:, :, None], 3, axis=2)),
    "rgb 0/1": encoded(np.repeat((OBJECT * np.uint8(1))[:, :, None], 3, axis=2)),
    "rgb red on black": encoded(np.dstack([OBJECT * np.uint8(192), OBJECT * np.uint8(0), OBJECT * np.uint8(0)])),
    "rgba alpha": encoded(np.dstack([np.zeros((12, 20, 3), np.uint8), OBJECT * np.uint8(255)])),
    "rgba opaque": encoded(
        np.dstack([np.repeat((OBJECT * np.uint8(255))[:, :, None], 3, axis=2), np.full((12, 20), 255, np.uint8)])
    ),
    "sixteen bits": encoded(Image.fromarray(OBJECT * np.uint16(65535))),
    "sixteen bits 0/1": encoded(Image.fromarray(OBJECT * np.uint16(1))),
    "palette of colours": palette_png(OBJECT * 1, [(0, 0, 0), (128, 0, 0)]),
    "palette black, white": palette_png(OBJECT * 1, [(0, 0, 0), (255, 255, 255)]),
    "palette white, black": palette_png(~OBJECT * 1, [(255, 255, 255), (0, 0, 0)]),
    "palette 255 alone": palette_png(OBJECT * 255, [(0, 0, 0)] * 255 + [(224, 224, 192)]),
}


@pytest.mark.parametrize("form", BINARY_FORMS)
def test_binary_masks_of_every_form_come_out_the_same(form):
    np.testing.assert_array_equal(decode_object_mask(BINARY_FORMS[form], "m.png"), OBJECT * np.uint8(255))


def test_of_index_masks_every_id_is_object_and_void_is_not():
    indices = OBJECT * 1
    indices[4:6, 6:9] = 7
    indices[2, 5:15] = 255
    for data in (
        encoded(indices.astype(np.uint8)),
        palette_png(indices, [(0, 0, 0), (128, 0, 0)] + [(0, 90, i) for i in range(254)]),
    ):
        np.testing.assert_array_equal(decode_object_mask(data, "m.png"), OBJECT * np.uint8(255))


def test_soft_masks_keep_their_levels():
    soft = np.linspace(0, 255, 240).reshape(12, 20).astype(np.uint8)
    np.testing.assert_array_equal(decode_object_mask(encoded(soft), "m.png"), soft)


def test_empty_masks_stay_empty():
    assert not decode_object_mask(encoded(np.zeros((5, 5), np.uint8)), "m.png").any()


def test_indices_are_read_from_palette_and_gray_but_not_from_colours():
    indices = np.array([[0, 1, 2], [255, 1, 0]])
    palette = [(i, 0, 255 - i) for i in range(256)]
    np.testing.assert_array_equal(decode_indices(palette_png(indices, palette), "m.png"), indices)
    np.testing.assert_array_equal(decode_indices(encoded(indices.astype(np.uint8)), "m.png"), indices)
    with pytest.raises(BadFileError, match=r"m\.png: is a colour picture"):
        decode_indices(encoded(smooth_rgb()), "m.png")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_drawn_on_the_unturned_picture_is_turned_with_it(orientation):
    rgb = smooth_rgb()
    stored_mask = np.where(rgb[:, :, 0] > 128, 255, 0).astype(np.uint8)
    picture = decode_picture(oriented_jpeg(rgb, orientation), "a.jpg")
    fitted = fit_mask(stored_mask, picture, "a.png")
    red = picture.rgb[:, :, 0].astype(int)
    assert fitted.shape == red.shape
    assert red[fitted == 255].min() > red[fitted == 0].max() - 12  # up to JPEG's rounding


def test_an_upright_mask_of_a_turned_picture_is_left_alone():
    picture = Picture(np.zeros((60, 40, 3), np.uint8), 6)
    mask = np.random.default_rng(0).integers(0, 2, (60, 40), dtype=np.uint8) * np.uint8(255)
    np.testing.assert_array_equal(fit_mask(mask, picture, "m"), mask)


def test_a_mask_of_twice_the_size_is_reduced_to_the_nearest_pixel():
    picture = Picture(np.zeros((12, 20, 3), np.uint8), 1)
    large = np.kron(OBJECT * np.uint8(255), np.ones((2, 2), np.uint8))
    np.testing.assert_array_equal(fit_mask(large, picture, "m"), OBJECT * np.uint8(255))


def test_a_mask_of_another_shape_is_refused_with_both_sizes():
    picture = Picture(np.zeros((300, 400, 3), np.uint8), 1)
    with pytest.raises(BadFileError, match=r"m\.png: mask is 250x400, its picture 300x400"):
        fit_mask(np.zeros((250, 400), np.uint8), picture, "m.png")


@given(st.integers(1, 8))
def test_turning_is_a_view_and_keeps_every_pixel(orientation):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    turned = turn_upright(array, orientation)
    assert np.shares_memory(array, turned)
    assert sorted(turned.ravel()) == sorted(array.ravel())


NASTY_SIZES = {
    "cmyk_pil_sample.jpg": (100, 100),
    "exif_hopper_6.jpg": (128, 128),
    "exif_mmcv_color.jpg": (400, 300),
    "exif_typeerror.jpg": (531, 800),
    "gray_hopper.jpg": (128, 128),
    "jpeg_testimgint.jpg": (149, 227),
    "mask_rgb_soc.png": (480, 640),
    "one_px_gray_multi_exif.jpg": (1, 1),
    "palette_2bit.png": (32, 32),
    "palette_4bit_interlaced.png": (32, 32),
    "palette_alpha_single.png": (64, 64),
    "palette_small_4.png": (1, 16),
    "png16_basn0g16.png": (32, 32),
    "rgba_pil123.png": (150, 162),
    "rgba_png_named.jpg": (329, 1107),
    "中文.png": (200, 200),
}
NASTY_REASONS = {
    "badadler.png": "damaged",
    "broken_data_stream.png": "damaged",
    "text_named.jpg": "is text",
    "truncated_skimage.jpg": "damaged or cut off",
    "zero_byte.png": "is empty",
}


@pytest.mark.real_data
def test_every_nasty_file_is_read_or_named(real_data: Path):
    files = {path.name: path for path in (real_data / "nasty").iterdir()}
    assert set(files) == set(NASTY_SIZES) | set(NASTY_REASONS)
    for name, size in NASTY_SIZES.items():
        assert read_picture(files[name]).shape == (*size, 3), name
        assert read_object_mask(files[name]).shape == size, name
    for name, reason in NASTY_REASONS.items():
        for read in (read_picture, read_object_mask):
            with pytest.raises(BadFileError, match=reason):
                read(files[name])


@pytest.mark.real_data
def test_a_real_saliency_mask_of_three_channels_becomes_binary(real_data: Path):
    mask = read_object_mask(real_data / "nasty" / "mask_rgb_soc.png")
    channels = np.asarray(Image.open(real_data / "nasty" / "mask_rgb_soc.png"))
    np.testing.assert_array_equal(mask, channels[:, :, 0])
    assert set(np.unique(mask)) == {0, 255}


@pytest.mark.real_data
def test_a_real_cmyk_picture_has_the_colours_that_a_viewer_shows(real_data: Path):
    rgb = read_picture(real_data / "nasty" / "cmyk_pil_sample.jpg")
    cmyk = 255 - np.asarray(Image.open(real_data / "nasty" / "cmyk_pil_sample.jpg")).astype(int)
    expected = cmyk[:, :, :3] * cmyk[:, :, 3:] / 255
    assert np.abs(rgb - expected).max() <= 2
