import hashlib
import itertools
import pickle
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from shards.rng import generator
from synth.bank import MAX_BYTES, make_backdrop, make_sprite
from synth.builtin import NUM_BACKGROUNDS, NUM_OBJECTS
from synth.cutouts import MARGIN
from synth.silhouettes import draw_silhouette
from synth.sources import open_backgrounds, open_objects
from synth.textures import fractal_noise, natural_colour, palette, pattern, round_shading, spread, texture

SAMPLE = range(0, NUM_OBJECTS, 25)


@pytest.fixture(scope="module")
def cutouts():
    source = open_objects("builtin")
    return [source.load(index).rgba for index in SAMPLE]


@pytest.fixture(scope="module")
def backgrounds():
    source = open_backgrounds("builtin")
    return [source.load(index).rgb for index in range(0, NUM_BACKGROUNDS, 10)]


def digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest()


@pytest.mark.parametrize("opened", [open_objects, open_backgrounds])
def test_an_item_is_a_function_of_its_index_alone(opened):
    source = opened("builtin")
    first = [source.load(index) for index in (7, 8, 9)]
    np.random.seed(0)  # noqa: NPY002 - the global generator must not matter
    again = [pickle.loads(pickle.dumps(source)).load(index) for index in (9, 8, 7)][::-1]
    field = "rgba" if opened is open_objects else "rgb"
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        assert one.name == other.name


def test_another_process_and_number_of_threads_give_the_same_pixels():
    code = (
        "import cv2, hashlib; cv2.setNumThreads(4)\n"
        "from synth.sources import *\n"
        "print(hashlib.sha256(open_objects('builtin').load(5).rgba.tobytes()).hexdigest())\n"
        "print(hashlib.sha256(open_backgrounds('builtin').load(5).rgb.tobytes()).hexdigest())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        here = [digest(open_objects("builtin").load(5).rgba), digest(open_backgrounds("builtin").load(5).rgb)]
    finally:
        cv2.setNumThreads(threads)
    assert printed == here


def test_there_are_so_many_of_each_with_unique_names():
    for source, number in ((open_objects("builtin"), NUM_OBJECTS), (open_backgrounds("builtin"), NUM_BACKGROUNDS)):
        assert len(source) == len(set(source.labels)) == number
        assert source.load(number - 1).name == source.labels[number - 1]
        assert source.problems == ()
        for index in (-1, number):
            with pytest.raises(IndexError):
                source.load(index)


def test_items_differ_from_each_other(cutouts, backgrounds):
    assert len({digest(rgba) for rgba in cutouts}) == len(cutouts)
    assert len({digest(rgb) for rgb in backgrounds}) == len(backgrounds)


def test_objects_have_the_size_and_margin_of_a_cutout(cutouts):
    for rgba in cutouts:
        assert 100 <= max(rgba.shape[:2]) <= 320
        border = np.ones(rgba.shape[:2], bool)
        border[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
        assert not rgba[border][:, 3].any()
        assert np.count_nonzero(rgba[:, :, 3] > 127) > 600


def test_objects_have_anti_aliased_edges(cutouts):
    for rgba in cutouts:
        alpha = rgba[:, :, 3]
        assert len(np.unique(alpha)) > 10
        soft = np.count_nonzero((alpha > 20) & (alpha < 235))
        outline = np.count_nonzero((alpha > 127) & ~ndimage.binary_erosion(alpha > 127))
        assert soft < 3 * outline


def test_most_objects_are_in_one_piece(cutouts):
    pieces = [ndimage.label(rgba[:, :, 3] > 127)[1] for rgba in cutouts]
    assert np.mean(np.array(pieces) == 1) > 0.85


def test_objects_and_backgrounds_are_textured_and_not_flat(cutouts, backgrounds):
    deviations = [rgba[rgba[:, :, 3] > 200][:, :3].astype(float).std(axis=0).mean() for rgba in cutouts]
    assert min(deviations) > 3
    assert np.median(deviations) > 15
    assert min(rgb.astype(float).std() for rgb in backgrounds) > 3


def test_outlines_vary_from_compact_to_branched(cutouts):
    shares = [np.mean(rgba[MARGIN:-MARGIN, MARGIN:-MARGIN, 3] > 127) for rgba in cutouts]
    assert min(shares) < 0.4
    assert max(shares) > 0.7


def test_backgrounds_have_more_power_at_coarse_scales_as_photographs_do(backgrounds):
    slopes = []
    for rgb in backgrounds:
        gray = rgb.mean(axis=2)[:440, :600]
        power = np.abs(np.fft.fft2((gray - gray.mean()) * np.hanning(440)[:, None] * np.hanning(600))) ** 2
        radius = np.hypot(np.fft.fftfreq(440)[:, None], np.fft.fftfreq(600))
        bands = np.geomspace(0.01, 0.3, 9)
        means = [power[(radius >= low) & (radius < high)].mean() for low, high in itertools.pairwise(bands)]
        slopes.append(np.polyfit(np.log(np.sqrt(bands[1:] * bands[:-1])), np.log(means), 1)[0])
    # Photographs: power falls as about frequency to the power of -2, between -1 and -3 (Ruderman 1994).
    assert -3.5 < np.median(slopes) < -1.2


def test_objects_are_not_told_from_backgrounds_by_brightness_alone(cutouts, backgrounds):
    inside = np.array([rgba[rgba[:, :, 3] > 200][:, :3].mean() for rgba in cutouts])
    outside = np.array([rgb.mean() for rgb in backgrounds])
    assert abs(inside.mean() - outside.mean()) < 45
    assert inside.std() > 15
    assert outside.std() > 15


def test_a_bank_holds_all_of_them(cutouts, backgrounds):
    objects = [make_sprite("", rgba).num_bytes for rgba in cutouts]
    pictures = [make_backdrop("", rgb).num_bytes for rgb in backgrounds]
    assert NUM_OBJECTS * np.mean(objects) + NUM_BACKGROUNDS * np.mean(pictures) < 0.85 * MAX_BYTES


def test_drawing_is_fast_enough_for_a_core(backgrounds):
    for source, limit in ((open_objects("builtin"), 0.1), (open_backgrounds("builtin"), 0.25)):
        start = time.process_time()
        for index in range(12):
            source.load(index)
        assert (time.process_time() - start) / 12 < limit


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(40, 320))
def test_every_silhouette_fills_its_canvas_but_for_a_border(seed, side):
    shape = draw_silhouette(generator(0, 0, seed, "test"), side)
    rows, columns = (np.flatnonzero((shape.alpha > 127).any(axis)) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) > 0.6 * side
    assert not shape.alpha[[0, -1]].any()
    assert not shape.alpha[:, [0, -1]].any()


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(12, 90), st.integers(12, 90))
def test_fields_and_textures_stay_within_their_ranges(seed, height, width):
    rng = generator(0, 0, seed, "test")
    field = pattern(rng, (height, width))
    assert field.shape == (height, width)
    assert field.dtype == np.float32
    assert np.isfinite(field).all()
    painted, relief = texture(rng, (height, width))
    assert painted.shape == (height, width, 3)
    assert painted.min() >= 0
    assert painted.max() <= 1
    inside = np.zeros((height, width), np.uint8)
    inside[3:-3, 3:-3] = 255
    shading = round_shading(rng, inside, relief)
    assert 0.1 < shading.min() <= shading.max() < 1.5


def test_noise_spreads_over_the_whole_range_at_any_shape():
    for shape in ((4, 640), (480, 640), (17, 3)):
        field = fractal_noise(generator(0, 0, 1, "test"), shape, 4, 5)
        assert (field.min(), field.max()) == (0, 1)
    assert not spread(np.zeros((3, 3), np.float32)).any()


def test_colours_are_mostly_muted_and_often_warm():
    rng = generator(0, 0, 0, "test")
    colours = np.array([natural_colour(rng) for _ in range(2000)])
    saturation = 1 - colours.min(axis=1) / colours.max(axis=1)
    assert 0.2 < np.median(saturation) < 0.5
    assert np.mean(colours[:, 0] > colours[:, 2]) > 0.55
    for _ in range(50):
        colours = palette(rng)
        assert 3 <= len(colours) <= 5
        assert colours.min() >= 0
        assert colours.max() <= 1
