"""Layouts are found: DAVIS by year and resolution, YouTube-VOS by meta.json or name, and any JPEGImages folder."""

import json

import pytest

from shards.errors import DatasetError
from vosdata.datasets.recognise import default_splits, find_datasets, recognise


def names(found):
    return [(dataset.name, dataset.split_names) for dataset in found]


def meta_json(**videos):
    objects = lambda ones: {k: {"category": c, "frames": [f"{n:05d}" for n in f]} for k, (c, f) in ones.items()}  # noqa: E731
    return json.dumps({"videos": {name: {"objects": objects(ones)} for name, ones in videos.items()}})


def test_each_year_in_imagesets_is_a_dataset_of_its_own(tree):
    for name in ("bear", "dog", "cat"):
        tree.sequence("DAVIS", name)
    tree.lists("DAVIS", "2016", train=["bear"], val=["dog"])
    tree.lists("DAVIS", "2017", train=["bear", "cat"], val=["dog"])
    old, new = recognise(tree.root / "DAVIS")
    assert names([old, new]) == [("davis2016", ("train", "val")), ("davis2017", ("train", "val"))]
    assert (old.union, new.union) == (True, False)
    assert (old.frame_rate([]), old.licence, old.title) == (24.0, "CC BY-NC 4.0", "DAVIS 2016")
    assert [one.name for one in new.sequences("train")] == ["bear", "cat"]


@pytest.mark.parametrize("resolution", ["480p", "Full-Resolution", "240p", "1080p", "4K"])
def test_any_resolution_folder_is_found(tree, resolution):
    tree.sequence("DAVIS", "bear", resolution=resolution)
    tree.lists("DAVIS", "2017", val=["bear"])
    (dataset,) = recognise(tree.root / "DAVIS")
    assert dataset.resolution == resolution
    assert dataset.sequences("val")[0].annotated == (True, True, True)
    expected = "davis2017-val" if resolution == "480p" else f"davis2017-{resolution.lower()}-val"
    assert dataset.set_name("val") == expected


def test_480p_is_taken_where_there_are_several_and_the_others_can_be_asked_for(tree):
    for resolution in ("480p", "Full-Resolution", "240p"):
        tree.sequence("DAVIS", "bear", resolution=resolution)
    tree.lists("DAVIS", "2017", val=["bear"])
    (usual,) = recognise(tree.root / "DAVIS")
    assert usual.resolution == "480p"
    assert "240p, Full-Resolution" in usual.notes[0]
    (full,) = recognise(tree.root / "DAVIS/JPEGImages/Full-Resolution")
    assert (full.resolution, full.root) == ("Full-Resolution", tree.root / "DAVIS")
    assert full.sequences("val")[0].mask_path(0).parts[-3] == "Full-Resolution"
    assert recognise(tree.root / "DAVIS/JPEGImages")[0].resolution == "480p"


def test_masks_of_another_resolution_are_refused(tree):
    tree.sequence("DAVIS", "bear", resolution="480p", masks={})
    tree.mask("DAVIS/Annotations/Full-Resolution/bear/00000.png", tree_mask())
    tree.lists("DAVIS", "2017", val=["bear"])
    with pytest.raises(DatasetError, match="JPEGImages/480p but masks in Annotations/Full-Resolution"):
        recognise(tree.root / "DAVIS")


def test_lists_of_the_first_davis_2016_release_name_files(tree):
    for name in ("bear", "dog"):
        tree.sequence("DAVIS", name)
    for split, name in (("train", "bear"), ("val", "dog")):
        lines = [f"/JPEGImages/480p/{name}/{n:05d}.jpg /Annotations/480p/{name}/{n:05d}.png" for n in range(3)]
        tree.text(f"DAVIS/ImageSets/480p/{split}.txt", "\r\n".join(lines))
        tree.text(f"DAVIS/ImageSets/1080p/{split}.txt", "\n".join(lines).replace("480p", "1080p"))
    tree.lists("DAVIS", "480p", trainval=["bear", "dog"])
    (dataset,) = recognise(tree.root / "DAVIS")
    assert names([dataset]) == [("davis2016", ("train", "trainval", "val"))]
    assert [one.name for one in dataset.sequences("val")] == ["dog"]
    taken, left = default_splits(dataset)
    assert ([one.name for one in taken], [one.name for one in left]) == (["train", "val"], ["trainval"])


def test_test_dev_has_masks_for_the_first_frame_only(tree):
    tree.sequence("DAVIS", "salsa", masks={0: tree_mask()})
    tree.lists("DAVIS", "2017", test_dev=["salsa"], val=["bear", "dog"])
    (dataset,) = recognise(tree.root / "DAVIS")
    assert dataset.split_names == ("test-dev",)
    assert dataset.sequences("test-dev")[0].annotated == (True, False, False)
    assert dataset.notes == ("split val left out: none of its 2 sequences is here",)
    with pytest.raises(DatasetError, match=r"no split 'val', it has: test-dev \(split val left out"):
        dataset.sequences("val")


def test_sequences_in_no_list_are_counted(tree):
    for name in "abc":
        tree.sequence("DAVIS", name)
    tree.lists("DAVIS", "2016", val=["a"])
    tree.lists("DAVIS", "2017", val=["a", "b"])
    for dataset in recognise(tree.root / "DAVIS"):
        assert dataset.notes == ("1 sequences in JPEGImages/480p are in no list of ImageSets",)


def test_davis_2019_has_its_own_annotations(tree):
    tree.sequence("DAVIS", "a")
    tree.mask("DAVIS/Annotations_unsupervised/480p/a/00000.png", tree_mask())
    tree.lists("DAVIS", "2017", val=["a"])
    tree.lists("DAVIS", "2019", val=["a"])
    old, new = recognise(tree.root / "DAVIS")
    assert (old.name, sum(old.sequences("val")[0].annotated)) == ("davis2017", 3)
    assert (new.name, sum(new.sequences("val")[0].annotated)) == ("davis2019", 1)


def test_davis_in_the_folders_that_trackers_expect_is_found_year_by_year(tree):
    tree.sequence("DAVIS/2016", "a")
    tree.lists("DAVIS/2016", "480p", val=["/JPEGImages/480p/a/00000.jpg /Annotations/480p/a/00000.png"])
    tree.sequence("DAVIS/2017/trainval", "a")
    tree.lists("DAVIS/2017/trainval", "2016", val=["a"])
    tree.lists("DAVIS/2017/trainval", "2017", val=["a"])
    tree.sequence("DAVIS/2017/test-dev", "b", masks={0: tree_mask()})
    tree.lists("DAVIS/2017/test-dev", "2017", test_dev=["b"])
    found = [
        (dataset.set_name(split), dataset.root.name)
        for dataset in recognise(tree.root)
        for split in dataset.split_names
    ]
    assert found == [
        ("davis2016-val", "2016"),
        ("davis2017-test-dev", "test-dev"),
        ("davis2016-val", "trainval"),
        ("davis2017-val", "trainval"),
    ]


def tree_mask():
    import numpy as np

    return np.ones((12, 16), np.uint8)


def test_davis_without_lists_is_one_split_of_every_sequence(tree):
    tree.sequence("DAVIS", "b")
    tree.sequence("DAVIS", "a")
    (dataset,) = recognise(tree.root / "DAVIS")
    assert names([dataset]) == [("davis", ("all",))]
    assert [one.name for one in dataset.sequences("all")] == ["a", "b"]
    assert dataset.set_name("all") == "davis"


def test_a_listed_sequence_without_a_folder_is_an_error_that_names_list_and_folder(tree):
    tree.sequence("DAVIS", "bear")
    tree.lists("DAVIS", "2017", val=["bear", "bmx-trees"])
    (dataset,) = recognise(tree.root / "DAVIS")
    with pytest.raises(DatasetError, match=r"bmx-trees, which ImageSets/2017/val.txt names, has no folder JPEGImages"):
        dataset.sequences("val")
    skipped = []
    assert [one.name for one in dataset.sequences("val", skipped)] == ["bear"]
    assert [name for name, _ in skipped] == ["bmx-trees"]


@pytest.mark.parametrize("line", ["../secret", "a/b", "..", "C:\\x"])
def test_a_list_cannot_lead_out_of_the_dataset(tree, line):
    tree.sequence("DAVIS", "bear")
    tree.lists("DAVIS", "2017", val=["bear", line])
    with pytest.raises(DatasetError, match=r"val\.txt: the line"):
        recognise(tree.root / "DAVIS")


def test_lists_pass_over_blank_lines_comments_marks_and_repeats(tree):
    tree.sequence("DAVIS", "bear")
    tree.text("DAVIS/ImageSets/2017/val.txt", "\ufeffbear\r\n\r\n# a comment\nbear/\n")
    assert [one.name for one in recognise(tree.root / "DAVIS")[0].sequences("val")] == ["bear"]


def youtube(tree, root, split="train", count=2, frames="JPEGImages", numbers=(0, 5, 10)):
    for i in range(count):
        for number in numbers:
            tree.frame(f"{root}/{split}/{frames}/{i:010x}/{number:05d}.jpg", (2, 2))
        tree.mask(f"{root}/{split}/Annotations/{i:010x}/00000.png", tree_mask()[:2, :2])


def test_youtube_vos_is_recognised_by_its_meta_json(tree):
    youtube(tree, "data")
    tree.text("data/train/meta.json", meta_json(**{"0000000000": {"1": ("person", [0, 5])}}))
    (dataset,) = recognise(tree.root / "data")
    assert names([dataset]) == [("ytvos", ("train",))]
    first, second = dataset.sequences("train")
    assert first.frame_numbers == (0, 5, 10)
    assert first.annotated == (True, False, False)
    assert (first.objects[0].category, first.objects[0].frames, second.objects) == ("person", (0, 5), ())
    assert dataset.frame_rate([first, second]) == 6.0
    (same,) = recognise(tree.root / "data/train")
    assert names([same]) == [("ytvos", ("train",))]


@pytest.mark.parametrize(
    ("folder", "split", "count", "name"),
    [
        ("YouTubeVOS_2018", "train", 1, "ytvos2018"),
        ("youtube-vos/2019", "train", 1, "ytvos2019"),
        ("ytvos", "train", 1, "ytvos"),
        ("YouTube", "train_480p", 1, "ytvos"),
        ("my-youtube-clips", "train", 1, "my-youtube-clips"),
        ("ytvos", "valid", 474, "ytvos2018"),
        ("ytvos", "valid", 507, "ytvos2019"),
        ("ytvos", "test", 508, "ytvos2018"),
        ("ytvos", "test", 541, "ytvos2019"),
    ],
)
def test_the_youtube_vos_release_is_told_by_counts_or_folder_name(tree, folder, split, count, name):
    tree.frame(f"{folder}/{split}/JPEGImages/{0:010x}/00000.jpg", (2, 2))
    for i in range(1, count):
        (tree.root / f"{folder}/{split}/JPEGImages/{i:010x}").mkdir()
    assert recognise(tree.root / folder)[0].name == name


@pytest.mark.parametrize("where", ["train_all_frames/JPEGImages", "train/JPEGImages_all_frames"])
def test_all_frames_are_a_split_whose_frames_between_are_unannotated(tree, where):
    youtube(tree, "ytvos", count=1)
    for number in range(11):
        tree.frame(f"ytvos/{where}/0000000000/{number:05d}.jpg", (2, 2))
    (dataset,) = recognise(tree.root / "ytvos")
    assert dataset.split_names == ("train", "train_all_frames")
    (sequence,) = dataset.sequences("train_all_frames")
    assert sequence.annotated == (True, *[False] * 10)
    assert dataset.frame_rate([sequence]) == 30.0
    assert [one.name for one in default_splits(dataset)[0]] == ["train"]


def test_further_lists_of_a_youtube_vos_root_are_splits_of_the_training_videos(tree):
    youtube(tree, "ytvos", count=3)
    tree.lists("ytvos", ".", train_joakim=["0000000000", "0000000002"], val_joakim=["0000000001"], other=["x"])
    for split in ("train", "val"):
        (tree.root / f"ytvos/ImageSets/{split}-joakim.txt").rename(tree.root / f"ytvos/ImageSets/{split}_joakim.txt")
    (dataset,) = recognise(tree.root / "ytvos")
    assert dataset.split_names == ("train", "train_joakim", "val_joakim")
    assert [one.name for one in dataset.sequences("val_joakim")] == ["0000000001"]
    assert [one.name for one in default_splits(dataset)[0]] == ["train"]
    assert dataset.notes == ("split other left out: none of its 1 sequences is here",)


def test_a_relative_of_youtube_vos_keeps_its_folders_name(tree):
    for split in ("train", "valid"):
        tree.frame(f"MOSE v1/{split}/JPEGImages/a/00000.jpg")
    (dataset,) = recognise(tree.root / "MOSE v1")
    assert names([dataset]) == [("MOSE-v1", ("train", "valid"))]
    assert dataset.frame_rate(dataset.sequences("train")) is None


def test_the_folder_of_one_split_may_be_given(tree):
    tree.frame("MOSE/valid/JPEGImages/a/00000.jpg")
    (dataset,) = recognise(tree.root / "MOSE/valid")
    assert (dataset.name, dataset.split_names) == ("MOSE", ("valid",))
    tree.frame("ytvos2019/test/JPEGImages/a/00000.jpg")  # ships without meta.json
    (dataset,) = recognise(tree.root / "ytvos2019/test")
    assert (dataset.name, dataset.split_names) == ("ytvos2019", ("test",))


@pytest.mark.parametrize("resolution", ["", "480p"])
def test_any_jpegimages_folder_is_a_dataset(tree, resolution):
    tree.sequence("my videos", "clip", resolution=resolution)
    (dataset,) = recognise(tree.root / "my videos")
    assert names([dataset]) == [("my-videos", ("all",))]
    assert dataset.sequences("all")[0].num_frames == 3


def test_lists_of_any_folder_are_its_splits(tree):
    tree.sequence("mine", "a", resolution="")
    tree.sequence("mine", "b", resolution="")
    tree.lists("mine", ".", train=["b"], val=["a"])
    (dataset,) = recognise(tree.root / "mine")
    assert names([dataset]) == [("mine", ("train", "val"))]


def test_every_dataset_below_a_raw_folder_is_found(tree):
    tree.sequence("raw/archives/DAVIS", "bear")
    tree.lists("raw/archives/DAVIS", "2017", val=["bear"])
    youtube(tree, "raw/youtube/2019", count=1)
    tree.sequence("raw/mine", "a", resolution="")
    tree.frame("raw/VOC2012/JPEGImages/2007_000027.jpg")  # photographs, no sequences
    tree.frame("raw/msra/Imgs/1.jpg")
    (tree.root / "raw/.cache/JPEGImages/x").mkdir(parents=True)
    assert [one.name for one in recognise(tree.root / "raw")] == ["davis2017", "mine", "ytvos2019"]
    assert find_datasets(tree.root / "nothing") == []


def test_what_is_no_dataset_gets_one_clear_line(tree):
    with pytest.raises(DatasetError, match="no such folder"):
        recognise(tree.root / "absent")
    with pytest.raises(DatasetError, match="is a file, expected a folder"):
        recognise(tree.frame("picture.jpg"))
    (tree.root / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"no dataset recognised\. Looked for JPEGImages"):
        recognise(tree.root / "empty")
    tree.frame("VOC2012/JPEGImages/2007_000027.jpg")
    with pytest.raises(DatasetError, match="no dataset recognised"):
        recognise(tree.root / "VOC2012")
    tree.text("set/dataset.json", "{}")
    tree.text("set/index.arrow", "")
    with pytest.raises(DatasetError, match="is a shard set already"):
        recognise(tree.root / "set")


@pytest.mark.real_data
def test_real_folders_are_recognised(real_data):
    found = {name: recognise(real_data / name) for name in ("davis", "davis2016", "ytvos", "pseudo")}
    assert names(found["davis"]) == [("davis2016", ("val",)), ("davis2017", ("val", "first_frame"))]
    assert names(found["davis2016"]) == [("davis2016", ("train", "val"))]
    assert names(found["ytvos"]) == [("ytvos", ("valid",))]
    assert names(found["pseudo"]) == [("pseudo", ("all",))]
    assert {len(found["davis2016"][0].sequences(split)) for split in ("train", "val")} == {27, 6}
    (video,) = found["ytvos"][0].sequences("valid")
    assert video.frame_numbers == (693, 694, 695)
    assert video.annotated == (True, False, False)
    assert len(recognise(real_data)) == 5
