"""``vosdata shard``: what it packs by default, what it says, and one clear line when something is wrong."""

import json

import pytest

from shards.reader import ShardSet
from vosdata.cli.app import run


@pytest.fixture
def shard(capsys):
    """Runs ``vosdata shard``; gives exit status, standard output and standard error."""

    def call(*arguments):
        status = run(["shard", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def davis(tree, base="data/raw/DAVIS"):
    for name in ("bear", "dog"):
        tree.sequence(base, name)
    tree.lists(base, "2017", train=["bear"], val=["dog"], trainval=["bear", "dog"])


def test_every_split_below_the_data_root_becomes_a_shard_set(tree, shard):
    davis(tree)
    status, out, err = shard("--root", tree.root / "data")
    assert status == 0
    folder = tree.root / "data/shards"
    assert sorted(path.name for path in folder.iterdir()) == ["davis2017-train", "davis2017-val"]
    assert len(ShardSet(folder / "davis2017-val")) == 1
    lines = out.splitlines()
    assert lines[0].startswith("davis2017-train: 1 sequences, 3 frames, ")
    assert "split trainval only repeats sequences" in err
    status, out, _ = shard("--root", tree.root / "data")
    assert status == 0
    assert "already complete" in out


def test_the_data_root_may_come_from_the_environment(tree, shard, monkeypatch):
    davis(tree)
    monkeypatch.setenv("VOSDATA_ROOT", str(tree.root / "data"))
    assert shard()[0] == 0
    assert (tree.root / "data/shards/davis2017-train/dataset.json").is_file()


def test_split_size_and_out_are_followed(tree, shard):
    davis(tree)
    status, _, _ = shard(tree.root / "data/raw/DAVIS", "--split", "trainval", "--size", "6x8", "--out", tree.root / "o")
    assert status == 0
    packed = ShardSet(tree.root / "o/davis2017-trainval")
    assert packed.image(1, 2).shape == (6, 8, 3)


def test_json_is_all_that_standard_output_holds(tree, shard):
    davis(tree)
    tree.text("data/raw/DAVIS/JPEGImages/480p/bear/00001.jpg", "damaged")
    options = ("--root", tree.root / "data", "--json", "--on-bad", "skip", "--split")
    status, out, _ = shard(*options, "val", "--split", "trainval")
    assert status == 0
    first, second = json.loads(out)
    assert (first["name"], first["num_records"], second["num_records"]) == ("davis2017-trainval", 1, 1)
    assert first["skipped"][0]["name"] == "bear"
    status, out, err = shard(*options, "train")
    assert (status, out, len(err.splitlines())) == (1, "", 1)  # nothing is left of this split


def test_what_is_left_out_is_listed(tree, shard):
    davis(tree)
    tree.sequence("data/raw/DAVIS", "cat")
    tree.lists("data/raw/DAVIS", "2017", train=["bear", "cat"])
    tree.text("data/raw/DAVIS/JPEGImages/480p/bear/00001.jpg", "damaged")
    status, out, err = shard("--root", tree.root / "data", "--on-bad", "skip", "--split", "train")
    assert status == 0
    assert "1 left out" in out
    assert "davis2017-train: left out bear: DAVIS 2017: frame 00001.jpg of sequence bear" in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["absent"], 1, "absent: no such folder"),
        (["empty"], 1, "no dataset recognised"),
        (["data", "--split", "tset"], 1, "no dataset has a split 'tset'; found davis2017 with train, trainval, val"),
        (["data", "--size", "big"], 2, "--size must be HEIGHTxWIDTH"),
        (["data", "--size", "0x5"], 2, "--size must be"),
        (["data", "--on-bad", "ignore"], 2, "'--on-bad': 'ignore' is not one of 'stop', 'skip'"),
        (["data", "--workers", "0"], 2, "--workers must be 'auto' or a number from 1"),
        (["data", "--colour"], 2, "--colour"),
        (["--root", "nowhere"], 1, "no SOURCE was given and there is no folder"),
    ],
)
def test_a_wrong_call_gets_one_line_and_its_status(tree, shard, monkeypatch, arguments, status, message):
    davis(tree)
    (tree.root / "empty").mkdir()
    monkeypatch.chdir(tree.root)
    found, out, err = shard(*arguments)
    assert (found, out) == (status, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tree.root / "data/shards").exists()


def test_an_output_of_another_configuration_is_refused(tree, shard):
    davis(tree)
    assert shard("--root", tree.root / "data")[0] == 0
    status, _, err = shard("--root", tree.root / "data", "--size", "6x8")
    assert status == 1
    assert "native" in err
    assert "6x8" in err


def test_a_bad_file_stops_with_one_line(tree, shard):
    davis(tree)
    tree.text("data/raw/DAVIS/JPEGImages/480p/bear/00001.jpg", "damaged")
    status, _, err = shard("--root", tree.root / "data", "--split", "train")
    assert status == 1
    assert err.startswith("vosdata: DAVIS 2017: frame 00001.jpg of sequence bear")
    assert len(err.strip().splitlines()) == 1


def test_two_sources_of_one_name_are_refused_and_one_given_twice_is_packed_once(tree, shard):
    davis(tree, "one/DAVIS")
    davis(tree, "two/DAVIS")
    status, _, err = shard(tree.root / "one", tree.root / "two", "--out", tree.root / "out")
    assert status == 1
    assert "would both become the shard set davis2017-train" in err
    status, out, _ = shard(tree.root / "one", tree.root / "one/DAVIS", "--out", tree.root / "out")
    assert status == 0
    assert len(out.splitlines()) == 2


def test_a_split_that_is_there_twice_below_the_data_root_is_packed_once_and_said(tree, shard):
    davis(tree, "data/raw/1")
    davis(tree, "data/raw/2")
    status, out, err = shard("--root", tree.root / "data", "--split", "val")
    assert (status, len(out.splitlines())) == (0, 1)
    assert f"packed from {tree.root}/data/raw/1; {tree.root}/data/raw/2, which has the same split, is left out" in err


def test_a_dataset_without_the_asked_split_is_named(tree, shard):
    davis(tree)
    tree.sequence("data/raw/mine", "a")
    status, out, err = shard("--root", tree.root / "data", "--split", "val")
    assert (status, len(out.splitlines())) == (0, 1)
    assert f"mine in {tree.root}/data/raw/mine: has no split val, nothing packed" in err


def test_help_shows_an_example(shard):
    status, out, _ = shard("--help")
    assert status == 0
    assert "vosdata shard data/raw/DAVIS --split train --out data/shards" in out


@pytest.mark.real_data
def test_real_folders_are_packed_with_no_option_but_paths(real_data, shard, tmp_path):
    sources = [real_data / name for name in ("davis", "davis2016", "ytvos")]
    status, out, _ = shard(*sources, "--out", tmp_path)
    assert status == 0
    packed = {path.name: len(ShardSet(path)) for path in tmp_path.iterdir()}
    assert packed == {
        "davis2016-val": 3,
        "davis2017-val": 3,
        "davis2017-first_frame": 11,
        "davis2016-240p-train": 27,
        "davis2016-240p-val": 6,
        "ytvos-valid": 1,
    }
    assert len(out.splitlines()) == 6
