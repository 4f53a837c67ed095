"""What goes into shards comes back: original frame bytes, identical indices, void, gaps and unannotated frames."""

import hashlib
import pickle
from itertools import pairwise

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shards.build import build_shard_set
from shards.errors import BadFileError, ConflictError, DatasetError
from shards.reader import ShardSet
from vosdata.datasets.recognise import recognise
from vosdata.datasets.videos import open_videos
from vosdata.pack import MAX_SHARD_BYTES, MAX_SHARD_SEQUENCES, divide, oddities, plan_pack, resize_mask


def pack(dataset, split, folder, **options):
    plan = plan_pack(dataset, split, **options)
    return ShardSet(build_shard_set(plan, folder).folder), plan


def indices(path):
    """What Pillow, as an independent reader, sees in a palette or gray mask."""
    return np.asarray(Image.open(path))


def assert_same(packed, sequences, identical_masks=True):
    """Every frame byte and every index of the packed set equals the files'."""
    assert len(packed) == len(sequences)
    for i, sequence in enumerate(sequences):
        entry = packed.entry(i)
        assert (entry.sequence, tuple(entry.frame_numbers)) == (sequence.name, sequence.frame_numbers)
        assert tuple(entry.annotated) == sequence.annotated
        for t in range(sequence.num_frames):
            assert bytes(packed.image_bytes(i, t)) == sequence.image_path(t).read_bytes()
            if sequence.mask_path(t) is None:
                assert packed.mask(i, t) is None
            elif identical_masks:
                np.testing.assert_array_equal(packed.mask(i, t), indices(sequence.mask_path(t)))


def test_native_frames_keep_their_bytes_and_masks_their_indices(tree, stripes, tmp_path):
    tree.sequence("data", "bear", {3: stripes(0, 1, 254, 255), 8: stripes(255)}, numbers=[3, 8, 9])
    tree.frame("data/JPEGImages/480p/png one/7.PNG")
    tree.lists("data", "2017", val=["png one", "bear"])
    dataset = recognise(tree.root / "data")[0]
    packed, plan = pack(dataset, "val", tmp_path / "out")
    assert_same(packed, plan.sequences)
    assert (packed.name, packed.split) == ("davis2017-val", "val")
    assert packed.description["frame_rate"] == 24.0
    entry = packed.entry(packed.find("bear"))
    assert (entry.source, entry.licence) == ("DAVIS 2017", "CC BY-NC 4.0")
    assert entry.provenance == "original frame files at native size; masks: indices are object ids, 255 is void"
    assert entry.object_ids.tolist() == [1, 254]


def test_binary_and_union_masks_are_stored_as_object_1(tree, stripes, tmp_path):
    tree.sequence("data", "bear", {0: stripes(0, 255)}, palette=False)
    tree.sequence("data", "pair", {0: stripes(0, 2, 255)})
    tree.lists("data", "2016", val=["bear", "pair"])
    tree.lists("data", "2017", val=["bear", "pair"])
    for dataset, expected in zip(recognise(tree.root / "data"), ([0, 1, 1], [0, 2, 255]), strict=True):
        packed, _ = pack(dataset, "val", tmp_path / dataset.name)
        np.testing.assert_array_equal(packed.mask(0, 0), stripes(0, 1))
        np.testing.assert_array_equal(packed.mask(1, 0), stripes(*expected))


def test_resized_frames_and_masks_have_the_asked_size_and_say_so(tree, stripes, tmp_path):
    mask = stripes(0, 1, 2, 255, size=(48, 64))
    for number in (0, 1):
        Image.linear_gradient("L").resize((64, 48)).convert("RGB").save(
            tree.frame(f"data/JPEGImages/480p/bear/{number:05d}.jpg"), quality=95
        )
    tree.mask("data/Annotations/480p/bear/00000.png", mask)
    tree.lists("data", "2017", val=["bear"])
    dataset = recognise(tree.root / "data")[0]
    smaller, _ = pack(dataset, "val", tmp_path / "smaller", size=(24, 40))
    assert smaller.image(0, 0).shape == (24, 40, 3)
    original = Image.open(tree.root / "data/JPEGImages/480p/bear/00000.jpg")
    expected = np.asarray(original.resize((40, 24), Image.Resampling.BOX), np.int16)
    assert np.abs(smaller.image(0, 0).astype(np.int16) - expected).max() <= 6  # JPEG at quality 95 of a smooth picture
    nearest = np.asarray(Image.fromarray(mask).resize((40, 24), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(smaller.mask(0, 0), nearest)
    assert smaller.mask(0, 1) is None
    assert smaller.description["frame_size"] == [24, 40]
    assert "resized from 48x64 to 24x40" in smaller.entry(0).provenance
    larger, _ = pack(dataset, "val", tmp_path / "larger", size=(60, 64))
    assert larger.image(0, 0).shape == (60, 64, 3)
    same, plan = pack(dataset, "val", tmp_path / "same", size=(48, 64))
    assert_same(same, plan.sequences)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 60), st.integers(0, 99))
def test_masks_are_resized_by_nearest_pixel_centre_as_pillow_does(height, width, to_height, to_width, seed):
    mask = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    resized = resize_mask(mask, (to_height, to_width))
    assert set(np.unique(resized)) <= set(np.unique(mask))
    # Pillow computes centres in floating point; where a centre falls exactly between two pixels either is nearest.
    exact = [(2 * np.arange(n) + 1) * m % (2 * n) != 0 for n, m in ((to_height, height), (to_width, width))]
    reference = np.asarray(Image.fromarray(mask).resize((to_width, to_height), Image.Resampling.NEAREST))
    rows_and_columns = np.ix_(*exact)
    np.testing.assert_array_equal(resized[rows_and_columns], reference[rows_and_columns])


@given(st.lists(st.integers(0, MAX_SHARD_BYTES * 2), min_size=1, max_size=300))
def test_shards_hold_consecutive_sequences_within_both_limits(sizes):
    shards = divide(sizes)
    assert [i for start, end in shards for i in range(start, end)] == list(range(len(sizes)))
    for start, end in shards:
        assert 1 <= end - start <= MAX_SHARD_SEQUENCES
        assert end - start == 1 or sum(sizes[start:end]) <= MAX_SHARD_BYTES
    for (start, end), (_, next_end) in pairwise(shards):  # and no shard could take one more
        assert next_end > end
        assert end - start == MAX_SHARD_SEQUENCES or sum(sizes[start : end + 1]) > MAX_SHARD_BYTES


def many(tree, count):
    for i in range(count):
        tree.frame(f"data/JPEGImages/s{i:03d}/0.jpg", (4, 4), seed=i)
        tree.mask(f"data/Annotations/s{i:03d}/0.png", np.full((4, 4), i % 3, np.uint8))
    return recognise(tree.root / "data")[0]


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_bytes_do_not_depend_on_workers_nor_on_where_the_dataset_lies(tree, tmp_path):
    plan = plan_pack(many(tree, 70), "all")
    assert plan.num_shards == 2
    assert pickle.loads(pickle.dumps(plan)) == plan
    build_shard_set(plan, tmp_path / "one", workers=1)
    build_shard_set(plan, tmp_path / "two", workers=2)
    (tmp_path / "elsewhere").mkdir()
    (tree.root / "data").rename(tmp_path / "elsewhere/data")
    pack(recognise(tmp_path / "elsewhere")[0], "all", tmp_path / "three")
    assert digests(tmp_path / "one") == digests(tmp_path / "two") == digests(tmp_path / "three")


def test_another_size_into_the_same_folder_is_refused_with_both_named(tree, tmp_path):
    dataset = many(tree, 2)
    pack(dataset, "all", tmp_path / "out")
    assert build_shard_set(plan_pack(dataset, "all"), tmp_path / "out").already_complete
    with pytest.raises(ConflictError, match=r"size.*(8x8.*native|native.*8x8)"):
        pack(dataset, "all", tmp_path / "out", size=(8, 8))
    tree.frame("data/JPEGImages/s000/1.jpg", (4, 4))
    with pytest.raises(ConflictError, match="source_fingerprint"):
        pack(recognise(tree.root / "data")[0], "all", tmp_path / "out")


def break_frame(tree, stripes):
    path = tree.root / "data/JPEGImages/480p/b/00001.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def break_mask(tree, stripes):
    tree.mask("data/Annotations/480p/b/00001.png", stripes(0, 1, size=(12, 17)))


def change_size(tree, stripes):
    tree.frame("data/JPEGImages/480p/b/00002.jpg", (11, 16))


def text_frame(tree, stripes):
    tree.text("data/JPEGImages/480p/b/00000.jpg", "../../somewhere/00000.jpg")


def remove(tree, stripes):
    (tree.root / "data/JPEGImages/480p/b").rename(tree.root / "gone")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_frame, r"frame 00001\.jpg of sequence b \(JPEGImages/480p/b\): the JPEG"),
        (break_mask, r"mask 00001\.png of sequence b is 12x17, its frame is 12x16"),
        (change_size, r"frame 00002\.jpg of sequence b is 11x16, its first frame is 12x16"),
        (text_frame, r"frame 00000\.jpg of sequence b .*neither JPEG nor PNG"),
        (remove, r"sequence b, which ImageSets/2017/val\.txt names, has no folder"),
    ],
)
def test_a_bad_sequence_stops_the_packing_or_is_left_out_and_listed(tree, stripes, tmp_path, damage, message):
    for name in "abc":
        tree.sequence("data", name)
    tree.lists("data", "2017", val=["a", "b", "c"])
    damage(tree, stripes)
    dataset = recognise(tree.root / "data")[0]
    with pytest.raises((DatasetError, BadFileError), match=message):
        pack(dataset, "val", tmp_path / "out")
    assert not (tmp_path / "out/dataset.json").exists()
    plan = plan_pack(dataset, "val", on_bad="skip")
    report = build_shard_set(plan, tmp_path / "out")  # goes on where the stopped run left off
    assert [one.name for one in report.skipped] == ["b"]
    packed = ShardSet(tmp_path / "out")
    assert [packed.entry(i).sequence for i in range(len(packed))] == ["a", "c"]


def test_an_empty_sequence_is_left_out_and_listed_without_stopping(tree, tmp_path):
    many(tree, 2)
    (tree.root / "data/JPEGImages/empty").mkdir()
    plan = plan_pack(recognise(tree.root / "data")[0], "all")
    report = build_shard_set(plan, tmp_path / "out")
    assert (report.num_records, [one.name for one in report.skipped]) == (2, ["empty"])


def test_a_split_with_nothing_in_it_is_refused(tree):
    (tree.root / "ytvos/train/JPEGImages").mkdir(parents=True)
    tree.sequence("data", "a")
    tree.frame("data/JPEGImages/480p/a/x.jpg")
    dataset = recognise(tree.root / "data")[0]
    with pytest.raises(DatasetError, match=r"holds no sequences but 1 that cannot be used; the first: .*x\.jpg"):
        plan_pack(dataset, "all", on_bad="skip")


@pytest.mark.parametrize(("size", "on_bad"), [((0, 5), "stop"), ((5, 99999), "stop"), (None, "ignore")])
def test_wrong_options_are_wrong_calls(tree, size, on_bad):
    with pytest.raises(ValueError, match="must be"):
        plan_pack(many(tree, 1), "all", size, on_bad)


def test_meta_json_travels_in_the_record_and_contradictions_are_told(tree, stripes, tmp_path):
    for number in (0, 5):
        tree.frame(f"ytvos/train/JPEGImages/v/{number:05d}.jpg")
        tree.mask(f"ytvos/train/Annotations/v/{number:05d}.png", stripes(0, 1, 4))
    tree.sequence("ytvos/train", "w", {0: stripes(0, 255)}, resolution="")
    tree.text(
        "ytvos/train/meta.json",
        '{"videos": {"v": {"objects": {"1": {"category": "dog", "frames": ["00005"]}, '
        '"2": {"category": "cat", "frames": ["00000"]}}}, "w": {"objects": {}}, "x": {"objects": {}}}}',
    )
    packed, plan = pack(recognise(tree.root / "ytvos")[0], "train", tmp_path / "out")
    record = packed.record_json(packed.find("v"))
    assert record["objects"] == [
        {"id": 1, "category": "dog", "frames": [5]},
        {"id": 2, "category": "cat", "frames": [0]},
    ]
    assert oddities(plan, tmp_path / "out") == [
        "meta.json lists sequence x, which has no folder",
        "sequence v: masks show object 4, which meta.json does not list",
        "sequence v: meta.json lists object 2, which no mask shows",
        "sequence v: masks show object 1 in frame 0, where meta.json does not list it",
        "sequence w: its masks show no object, only background and void (255)",
    ]


@pytest.mark.parametrize("path", ["palette_2bit", "palette_4bit_interlaced", "palette_alpha_single", "palette_small_4"])
@pytest.mark.real_data
def test_nasty_palette_files_keep_their_indices(real_data, tree, tmp_path, path):
    original = real_data / f"nasty/{path}.png"
    expected = indices(original)
    tree.frame("data/JPEGImages/clip/00000.jpg", expected.shape)
    tree.mask("data/Annotations/clip/00000.png", expected).write_bytes(original.read_bytes())
    packed, _ = pack(recognise(tree.root / "data")[0], "all", tmp_path / "out")
    np.testing.assert_array_equal(packed.mask(0, 0), expected)


@pytest.mark.parametrize("name", ["mask_rgb_soc.png", "png16_basn0g16.png", "zero_byte.png", "broken_data_stream.png"])
@pytest.mark.real_data
def test_nasty_files_that_are_no_masks_are_named(real_data, tree, tmp_path, name):
    tree.frame("data/JPEGImages/clip/00000.jpg")
    target = tree.mask("data/Annotations/clip/00000.png", np.zeros((12, 16), np.uint8))
    target.write_bytes((real_data / "nasty" / name).read_bytes())
    with pytest.raises(BadFileError, match=r"mask 00000\.png of sequence clip"):
        pack(recognise(tree.root / "data")[0], "all", tmp_path / "out")


@pytest.mark.parametrize("name", ["cmyk_pil_sample.jpg", "gray_hopper.jpg", "jpeg_testimgint.jpg"])
@pytest.mark.real_data
def test_nasty_pictures_are_frames_with_their_original_bytes(real_data, tree, tmp_path, name):
    original = (real_data / "nasty" / name).read_bytes()
    height, width = simplejpeg.decode_jpeg_header(original)[:2]
    tree.frame("data/JPEGImages/clip/00000.jpg").write_bytes(original)
    tree.mask("data/Annotations/clip/00000.png", np.ones((height, width), np.uint8))
    packed, _ = pack(recognise(tree.root / "data")[0], "all", tmp_path / "out")
    assert bytes(packed.image_bytes(0, 0)) == original
    assert packed.image(0, 0).shape == (height, width, 3)


@pytest.mark.parametrize("size", [None, (24, 32)])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_a_frame_that_viewers_turn_is_refused_and_one_that_they_do_not_is_not(
    tree, tmp_path, orientation, suffix, size
):
    """180 degrees keep the size, so that nothing else would notice masks that are drawn on the other side."""
    frame = tree.frame(f"data/JPEGImages/clip/00000.{suffix}")
    tree.mask("data/Annotations/clip/00000.png", np.ones((12, 16), np.uint8))
    pixels, exif = Image.open(frame).copy(), Image.Exif()
    for value in (1, orientation):
        exif[0x0112] = value
        pixels.save(frame, exif=exif)
        if value == 1:
            packed, _ = pack(recognise(tree.root / "data")[0], "all", tmp_path / "out", size=size)
            assert len(packed) == 1
    dataset = recognise(tree.root / "data")[0]
    with pytest.raises(BadFileError, match=rf"frame 00000\.{suffix} of sequence clip .*orientation is {orientation}"):
        pack(dataset, "all", tmp_path / "refused", size=size)
    (video,) = open_videos(tree.root / "data")
    with pytest.raises(BadFileError, match="exiftool -Orientation="):
        video.frame(0)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "year", "split"),
    [("davis", 1, "val"), ("davis", 1, "first_frame"), ("ytvos", 0, "valid"), ("pseudo", 0, "all")],
)
def test_real_sequences_come_back_exactly(real_data, tmp_path, folder, year, split):
    packed, plan = pack(recognise(real_data / folder)[year], split, tmp_path / "out")
    assert_same(packed, plan.sequences)
    if folder == "ytvos":
        assert packed.entry(0).object_ids.tolist() == list(range(1, 44))
        assert (packed.entry(0).height, packed.entry(0).width) == (1080, 1920)
        assert oddities(plan, tmp_path / "out") == []


@pytest.mark.real_data
def test_void_painted_into_real_masks_comes_back(real_data, tree, tmp_path):
    source = next(one for one in recognise(real_data / "davis")[1].sequences("first_frame") if one.name == "tackle")
    painted = indices(source.mask_path(0)).copy()
    painted[100:200, 300:500] = 255
    tree.frame("data/JPEGImages/tackle/00000.jpg").write_bytes(source.image_path(0).read_bytes())
    tree.mask("data/Annotations/tackle/00000.png", painted)
    packed, _ = pack(recognise(tree.root / "data")[0], "all", tmp_path / "out")
    np.testing.assert_array_equal(packed.mask(0, 0), painted)
    assert packed.entry(0).object_ids.tolist() == [1, 2, 3]
