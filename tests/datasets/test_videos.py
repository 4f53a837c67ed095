"""A video looks the same whether it lies in a dataset folder or in a shard set."""

import numpy as np
import pytest

from shards.build import build_shard_set
from shards.errors import DamageError, DatasetError, ShardError
from vosdata.datasets.recognise import recognise
from vosdata.datasets.videos import open_videos
from vosdata.pack import plan_pack


def davis(tree, stripes):
    tree.sequence("data", "bear", {0: stripes(0, 255), 2: stripes(0)}, numbers=[0, 2, 5], palette=False)
    tree.sequence("data", "dog", {0: stripes(0, 1, 2, 255)})
    tree.lists("data", "2016", val=["bear", "dog"])
    tree.lists("data", "2017", val=["bear", "dog"], train=["dog"])
    return recognise(tree.root / "data")


@pytest.mark.parametrize("year", [0, 1])
def test_folder_and_shard_set_give_the_same_video(tree, stripes, tmp_path, year):
    dataset = davis(tree, stripes)[year]
    folder = build_shard_set(plan_pack(dataset, "val"), tmp_path / "set").folder
    stored, raw = open_videos(folder), open_videos(tree.root / "data", "val", dataset.name)
    assert len(stored) == len(raw) == 2
    for one, other in zip(stored, raw, strict=True):
        for part in ("name", "frame_numbers", "annotated", "num_frames", "frame_rate"):
            assert getattr(one, part) == getattr(other, part)
        for t in range(one.num_frames):
            np.testing.assert_array_equal(one.frame(t), other.frame(t))
            if one.mask(t) is None:
                assert other.mask(t) is None
            else:
                np.testing.assert_array_equal(one.mask(t), other.mask(t))
    assert np.unique(raw[1].mask(0)).tolist() == ([0, 1] if year == 0 else [0, 1, 2, 255])


def test_nothing_is_read_before_it_is_asked_for(tree, stripes):
    davis(tree, stripes)
    for path in (tree.root / "data").rglob("*.*g"):
        path.write_bytes(b"not a picture")
    videos = open_videos(tree.root / "data", "val")
    assert [(video.name, video.num_frames) for video in videos] == [("bear", 3), ("dog", 3)]
    with pytest.raises(Exception, match=r"frame 00000\.jpg of sequence dog .*neither JPEG nor PNG"):
        videos[1].frame(0)


def test_the_split_is_val_or_the_only_one_unless_told(tree, stripes):
    davis(tree, stripes)
    assert [video.name for video in open_videos(tree.root / "data")] == ["bear", "dog"]
    assert [video.name for video in open_videos(tree.root / "data", "train")] == ["dog"]
    tree.sequence("mine", "a")
    assert [video.name for video in open_videos(tree.root / "mine")] == ["a"]
    tree.lists("mine", ".", one=["a"], two=["a"])
    with pytest.raises(DatasetError, match="has the splits one, two; say which"):
        open_videos(tree.root / "mine")


def test_the_newest_year_is_read_unless_told(tree, stripes):
    davis(tree, stripes)
    assert np.unique(open_videos(tree.root / "data")[1].mask(0)).tolist() == [0, 1, 2, 255]
    with pytest.raises(DatasetError, match=r"holds davis2016 \(data\), davis2017 \(data\), not exactly one davis2019"):
        open_videos(tree.root / "data", dataset="davis2019")
    tree.sequence("more", "a")
    with pytest.raises(DatasetError, match="holds several datasets"):
        open_videos(tree.root)


def test_a_shard_set_has_one_split(tree, stripes, tmp_path):
    dataset = davis(tree, stripes)[1]
    folder = build_shard_set(plan_pack(dataset, "train"), tmp_path / "set").folder
    assert [video.name for video in open_videos(folder, "train")] == ["dog"]
    with pytest.raises(DatasetError, match="is the split 'train' of its dataset, not 'val'"):
        open_videos(folder, "val")


def test_an_incomplete_shard_set_is_called_incomplete(tree, stripes, tmp_path):
    folder = build_shard_set(plan_pack(davis(tree, stripes)[1], "train"), tmp_path / "set").folder
    (folder / "dataset.json").unlink()
    with pytest.raises(ShardError, match="set"):
        open_videos(folder)


def test_damage_in_a_shard_is_told_when_the_frame_is_read(tree, stripes, tmp_path):
    folder = build_shard_set(plan_pack(davis(tree, stripes)[1], "train"), tmp_path / "set").folder
    (shard,) = folder.glob("*.tar")
    video = open_videos(folder)[0]
    offset = int(video.shard_set.entry(0).image_offsets[1])
    content = bytearray(shard.read_bytes())
    content[offset + 5] ^= 1
    shard.write_bytes(content)
    (again,) = open_videos(folder)
    again.frame(0)
    with pytest.raises(DamageError):
        again.frame(1)


@pytest.mark.real_data
def test_the_val_list_of_real_davis_2016_opens(real_data):
    videos = open_videos(real_data / "davis2016")
    assert [video.name for video in videos] == ["blackswan", "camel", "cows", "goat", "kite-surf", "scooter-black"]
    assert videos[0].frame(0).shape == (240, 432, 3)
    assert np.unique(videos[0].mask(49)).tolist() == [0, 1]
