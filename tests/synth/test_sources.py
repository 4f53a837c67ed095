import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.errors import BadFileError, SourceError
from synth.sources import check_source, join_backgrounds, join_objects, open_backgrounds, open_objects


def picture(seed=0, height=90, width=120):
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8), np.ones((10, 10, 1), np.uint8))


def box_mask(x0=30, y0=20, x1=80, y1=70, height=90, width=120):
    mask = np.zeros((height, width), np.uint8)
    mask[y0:y1, x0:x1] = 255
    return mask


def save(path: Path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def save_pair(folder: Path, name: str, seed=0, mask_folder: Path | None = None):
    save(folder / f"{name}.jpg", picture(seed))
    save((mask_folder or folder) / f"{name}.png", box_mask(x0=10 + seed))


@pytest.fixture
def msra10k(tmp_path):
    imgs = tmp_path / "raw" / "MSRA10K_Imgs_GT" / "Imgs"
    for seed in range(3):
        save_pair(imgs, f"{100 + seed}", seed)
    return imgs


@pytest.mark.parametrize("levels_up", [0, 1, 2])
def test_msra10k_opens_by_its_own_folder_its_parent_and_one_above(msra10k, levels_up):
    source = open_objects(([msra10k, *msra10k.parents])[levels_up])
    assert len(source) == 3
    assert [Path(label).name for label in source.labels] == ["100.jpg", "101.jpg", "102.jpg"]
    cutout = source.load(1)
    assert cutout.rgba.shape == (54, 73, 4)
    assert cutout.name == source.labels[1]
    assert source.problems == ()


@pytest.mark.parametrize(
    ("pictures", "masks"),
    [
        ("DUTS-TR/DUTS-TR-Image", "DUTS-TR/DUTS-TR-Mask"),
        ("DUTS-TR-Image", "DUTS-TR-Mask"),
        ("ECSSD/images", "ECSSD/ground_truth_mask"),
        ("images", "masks"),
        ("Imgs", "GT"),
        ("img", "gt"),
        ("Image", "GroundTruth"),
        ("DUT-OMRON-image", "pixelwiseGT-new-PNG"),
        ("x/train/images", "x/train/masks"),
        ("images/cats", "masks/cats"),
    ],
)
def test_folder_pairs_open_by_the_usual_names(tmp_path, pictures, masks):
    for seed, name in enumerate(("ILSVRC2012_1", "b.c", "ünï")):
        save_pair(tmp_path / pictures, name, seed, tmp_path / masks)
    source = open_objects(tmp_path)
    assert sorted(source.labels) == sorted(f"{pictures}/{name}.jpg" for name in ("ILSVRC2012_1", "b.c", "ünï"))
    assert source.problems == ()
    for index in range(3):
        source.load(index)


def test_two_datasets_in_one_folder_are_both_opened(tmp_path):
    save_pair(tmp_path / "MSRA/Imgs", "1")
    save_pair(tmp_path / "DUTS-TR/DUTS-TR-Image", "2", 1, tmp_path / "DUTS-TR/DUTS-TR-Mask")
    assert list(open_objects(tmp_path).labels) == ["DUTS-TR/DUTS-TR-Image/2.jpg", "MSRA/Imgs/1.jpg"]


def test_what_has_no_partner_is_named_and_the_rest_is_offered(msra10k):
    (msra10k / "100.png").unlink()
    (msra10k / "102.jpg").unlink()
    save(msra10k / "101.jpeg", picture())
    source = open_objects(msra10k)
    assert len(source) == 1
    assert [str(problem) for problem in source.problems] == [
        "100.jpg: picture without a mask",
        "101.jpg: another file has the same name up to the suffix",
        "102.png: mask without a picture",
    ]


def test_hidden_files_and_folders_do_not_count(msra10k):
    (msra10k / "._100.jpg").write_bytes(b"\0\x05\x16\x07")
    (msra10k / ".DS_Store").write_bytes(b"x")
    (msra10k / "Thumbs.db").write_bytes(b"x")
    save_pair(msra10k.parent / "__MACOSX" / "Imgs", "1")
    source = open_objects(msra10k.parent)
    assert len(source) == 3
    assert source.problems == ()


def test_each_bad_file_is_named_by_check_source(msra10k):
    (msra10k / "100.jpg").write_bytes(b"")
    save(msra10k / "101.png", np.zeros((90, 120), np.uint8))
    save(msra10k / "102.png", box_mask()[:, :60])
    save_pair(msra10k, "103", 3)
    seen = []
    problems = check_source(open_objects(msra10k), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4, 4)
    assert [problem.name for problem in problems] == ["100.jpg", "101.jpg", "102.jpg"]
    reasons = ["100.jpg: is empty (0 bytes)", "101.jpg: mask is empty", "102.png: mask is 90x60, its picture 90x120"]
    for problem, reason in zip(problems, reasons, strict=True):
        assert reason in problem.reason


def test_folder_names_that_need_care_are_read(tmp_path):
    folder = tmp_path / "mit Leerzeichen" / "图像"
    save_pair(folder, "ä ö [1]")
    source = open_objects(tmp_path)
    assert source.labels[0] == "mit Leerzeichen/图像/ä ö [1].jpg"
    source.load(0)


@pytest.mark.parametrize("opened", [open_objects, open_backgrounds])
def test_what_is_no_source_is_one_clear_line(tmp_path, opened):
    (tmp_path / "notes.txt").write_text("hello")
    for spec, said in (
        (tmp_path / "missing", "no such folder"),
        (tmp_path / "notes.txt", "is a file"),
        (tmp_path, "found at most 3 folders deep"),
    ):
        with pytest.raises(SourceError, match=said) as caught:
            opened(spec)
        assert str(spec) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_pictures_alone_give_backgrounds_but_no_objects(tmp_path):
    for seed in range(2):
        save(tmp_path / f"deep/er/{seed}.jpg", picture(seed))
    save(tmp_path / "lone.png", picture(3))
    source = open_backgrounds(tmp_path)
    assert list(source.labels) == ["deep/er/0.jpg", "deep/er/1.jpg", "lone.png"]
    np.testing.assert_array_equal(source.load(2).rgb, picture(3))
    with pytest.raises(SourceError, match="no objects found"):
        open_objects(tmp_path)


def test_masks_are_no_backgrounds(tmp_path):
    save_pair(tmp_path / "flat", "1")
    save_pair(tmp_path / "DUTS-TR-Image", "2", 0, tmp_path / "DUTS-TR-Mask")
    save_pair(tmp_path / "images", "3", 0, tmp_path / "ground_truth_mask")
    assert list(open_backgrounds(tmp_path).labels) == ["DUTS-TR-Image/2.jpg", "flat/1.jpg", "images/3.jpg"]


def test_tiny_backgrounds_are_refused_and_huge_ones_reduced(tmp_path):
    save(tmp_path / "a.png", picture(0, 40, 300))
    save(tmp_path / "b.png", picture(0, 1000, 4000))
    source = open_backgrounds(tmp_path)
    with pytest.raises(BadFileError, match=r"a\.png: is 40x300, a background needs at least 64 pixels"):
        source.load(0)
    assert source.load(1).rgb.shape == (512, 2048, 3)


def voc(tmp_path):
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    for seed in range(4):
        save(folder / f"JPEGImages/2007_00000{seed}.jpg", picture(seed))
    indices = np.zeros((90, 120), np.uint8)
    indices[10:60, 10:50], indices[10:60, 52:100], indices[:, 50:52] = 1, 2, 255
    indices[80:83, 80:83] = 3
    image = Image.fromarray(indices, "P")
    image.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
    (folder / "SegmentationObject").mkdir()
    image.save(folder / "SegmentationObject/2007_000001.png")
    return folder


def write_list(folder, name, *lines):
    path = folder / "ImageSets" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("levels_up", [0, 1, 2])
def test_voc_backgrounds_are_those_of_the_image_sets(tmp_path, levels_up):
    folder = voc(tmp_path)
    write_list(folder, "Main/trainval.txt", "2007_000000", "2007_000002  1", "2007_000009")
    write_list(folder, "Segmentation/trainval.txt", "2007_000001")
    source = open_backgrounds([folder, *folder.parents][levels_up])
    assert [Path(label).name for label in source.labels] == ["2007_000000.jpg", "2007_000002.jpg"]
    assert source.num_left_out == 2
    assert [Path(problem.name).name for problem in source.problems] == ["2007_000009"]
    assert "Main/trainval.txt" in source.problems[0].reason


def test_voc_backgrounds_without_lists_are_all_pictures(tmp_path):
    assert len(open_backgrounds(voc(tmp_path))) == 4


def test_voc_train_and_val_are_joined_where_there_is_no_trainval(tmp_path):
    folder = voc(tmp_path)
    write_list(folder, "Main/train.txt", "2007_000000")
    write_list(folder, "Main/val.txt", "2007_000003")
    assert [Path(label).name for label in open_backgrounds(folder).labels] == ["2007_000000.jpg", "2007_000003.jpg"]


def test_voc_objects_are_the_instances_without_void_and_specks(tmp_path):
    source = open_objects(voc(tmp_path).parent)
    assert list(source.labels) == [f"VOC2012/JPEGImages/2007_000001.jpg#{instance}" for instance in (1, 2)]
    assert source.num_left_out == 1
    assert source.load(0).rgba.shape == (54, 44, 4)
    assert source.load(1).rgba.shape == (54, 52, 4)
    assert "VOC" in source.licence


def test_voc_objects_honour_the_segmentation_list(tmp_path):
    folder = voc(tmp_path)
    write_list(folder, "Segmentation/trainval.txt", "2007_000000")
    with pytest.raises(SourceError, match="not in SegmentationObject"):
        open_objects(folder)


def test_voc_without_instances_says_so(tmp_path):
    folder = voc(tmp_path)
    shutil.rmtree(folder / "SegmentationObject")
    write_list(folder, "Main/trainval.txt", "2007_000000")
    with pytest.raises(SourceError, match="without SegmentationObject"):
        open_objects(folder)


def test_a_moved_folder_has_the_same_fingerprint(msra10k, tmp_path):
    before = open_objects(msra10k), open_backgrounds(msra10k)
    moved = tmp_path / "elsewhere" / "Imgs"
    shutil.copytree(msra10k, moved)
    after = open_objects(moved), open_backgrounds(moved)
    assert [source.fingerprint() for source in before] == [source.fingerprint() for source in after]


@pytest.mark.parametrize("name", ["101.jpg", "101.png"])
def test_a_changed_byte_changes_the_fingerprint(msra10k, name):
    before = open_objects(msra10k).fingerprint()
    content = bytearray((msra10k / name).read_bytes())
    content[-1] ^= 1
    (msra10k / name).write_bytes(content)
    assert open_objects(msra10k).fingerprint() != before


def test_a_renamed_picture_changes_the_fingerprint(msra10k):
    before = open_backgrounds(msra10k).fingerprint()
    (msra10k / "101.jpg").rename(msra10k / "201.jpg")
    assert open_backgrounds(msra10k).fingerprint() != before


def test_the_fingerprint_is_remembered_and_travels_with_the_source(msra10k):
    source = open_objects(msra10k)
    before = source.fingerprint()
    shutil.rmtree(msra10k)
    assert pickle.loads(pickle.dumps(source)).fingerprint() == before


@pytest.mark.parametrize("opened", [open_objects, open_backgrounds])
def test_sources_pickle_and_load_the_same(msra10k, opened):
    source = opened(msra10k)
    copy = pickle.loads(pickle.dumps(source))
    assert list(copy.labels) == list(source.labels)
    for index in range(len(source)):
        one, other = source.load(index), copy.load(index)
        np.testing.assert_array_equal(
            getattr(one, "rgba", None) if opened is open_objects else one.rgb,
            getattr(other, "rgba", None) if opened is open_objects else other.rgb,
        )


@pytest.mark.parametrize("index", [-1, 3])
def test_indices_outside_are_refused(msra10k, index):
    for source in (open_objects(msra10k), open_backgrounds(msra10k)):
        with pytest.raises(IndexError, match=r"outside 0\.\.2"):
            source.load(index)


def test_joined_sources_follow_each_other_with_unique_names(msra10k):
    single = open_objects(msra10k)
    builtin = open_objects("builtin")
    joined = join_objects([single, builtin, open_objects(msra10k.parent)])
    third = 3 + len(builtin)  # where the third source begins
    assert len(joined) == third + 3
    assert len(set(joined.labels)) == third + 3
    assert joined.name == "MSRA10K_Imgs_GT-1+builtin+MSRA10K_Imgs_GT-2"
    np.testing.assert_array_equal(joined.load(2).rgba, single.load(2).rgba)
    np.testing.assert_array_equal(joined.load(third).rgba, single.load(0).rgba)
    assert joined.load(third).name == joined.labels[third] == "MSRA10K_Imgs_GT-2/Imgs/100.jpg"
    with pytest.raises(IndexError):
        joined.load(third + 3)
    assert pickle.loads(pickle.dumps(joined)).fingerprint() == joined.fingerprint()
    assert join_objects([single]) is single


def test_joined_sources_pass_problems_on_and_differ_by_order(msra10k):
    (msra10k / "100.png").unlink()
    objects, builtin = open_objects(msra10k), open_objects("builtin")
    joined = join_objects([builtin, objects])
    assert [problem.name for problem in joined.problems] == ["MSRA10K_Imgs_GT/100.jpg"]
    assert joined.fingerprint() != join_objects([objects, builtin]).fingerprint()
    backgrounds = join_backgrounds([open_backgrounds(msra10k), open_backgrounds("builtin")])
    assert backgrounds.load(0).rgb.shape == (90, 120, 3)
    for join in (join_objects, join_backgrounds):
        with pytest.raises(ValueError, match="at least one"):
            join([])


@pytest.mark.real_data
def test_every_real_saliency_pair_gives_a_cutout(real_data: Path):
    source = open_objects(real_data / "msra10k")
    assert len(source) == 26
    assert source.name == "msra10k"
    assert check_source(source) == ()
    for index, label in enumerate(source.labels):
        mask = np.asarray(Image.open((real_data / "msra10k" / label).with_suffix(".png")).convert("L")) > 0
        cutout = source.load(index).rgba[:, :, 3] > 127
        assert 0.8 * mask.sum() < cutout.sum() <= mask.sum()


@pytest.mark.real_data
def test_real_voc_photographs_are_backgrounds_and_no_objects(real_data: Path):
    source = open_backgrounds(real_data / "voc2012")
    assert len(source) == 16
    assert check_source(source) == ()
    assert "VOC2012" in source.labels[0]
    with pytest.raises(SourceError, match="without SegmentationObject"):
        open_objects(real_data / "voc2012")


@pytest.mark.real_data
def test_the_nasty_folder_is_offered_and_its_bad_files_named(real_data: Path):
    source = open_backgrounds(real_data / "nasty")
    assert len(source) == 21
    bad = {problem.name for problem in check_source(source)}
    assert {"badadler.png", "broken_data_stream.png", "text_named.jpg", "truncated_skimage.jpg", "zero_byte.png"} <= bad
    assert {
        "cmyk_pil_sample.jpg",
        "exif_hopper_6.jpg",
        "gray_hopper.jpg",
        "rgba_png_named.jpg",
        "中文.png",
    } & bad == set()
    with pytest.raises(SourceError, match="no objects found"):
        open_objects(real_data / "nasty")
