"""Frame numbers come out of file names; what is ambiguous is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import DatasetError
from vosdata.datasets.listing import frame_number
from vosdata.datasets.recognise import recognise


def only_sequence(tree, root="mine"):
    return recognise(tree.root / root)[0].sequences("all")[0]


@given(st.integers(0, 99_999_999), st.integers(0, 8), st.sampled_from(["", "frame", "07_", "clip 3-", "v2.1_"]))
def test_the_frame_number_is_the_last_run_of_digits(number, zeros, prefix):
    assert frame_number(f"{prefix}{'0' * zeros}{number}.jpg") == number


def test_frames_are_ordered_by_number_not_by_name(tree):
    for name in ("f_2.jpg", "f_10.JPG", "f_1.png", "f_30.jpeg", "f_4.PNG"):
        tree.frame(f"mine/JPEGImages/a/{name}")
    sequence = only_sequence(tree)
    assert sequence.frame_numbers == (1, 2, 4, 10, 30)
    assert sequence.image_names == ("f_1.png", "f_2.jpg", "f_4.PNG", "f_10.JPG", "f_30.jpeg")


def test_masks_find_their_frames_by_number(tree, stripes):
    for number in (693, 700, 707):
        tree.frame(f"mine/JPEGImages/a/img{number:08d}.jpg")
    tree.mask("mine/Annotations/a/00700.png", stripes(0, 1))
    sequence = only_sequence(tree)
    assert sequence.annotated == (False, True, False)
    assert sequence.mask_path(1) == tree.root / "mine/Annotations/a/00700.png"
    assert sequence.mask_path(0) is None


def test_files_that_systems_leave_behind_are_passed_over(tree, stripes):
    tree.sequence("mine", "a", resolution="")
    for name in (".DS_Store", "Thumbs.db", "._00001.jpg", "desktop.ini", "readme.txt", "00001.json", ".hidden/x.jpg"):
        tree.text(f"mine/JPEGImages/a/{name}", "x")
        tree.text(f"mine/Annotations/a/{name}", "x")
    tree.text("mine/JPEGImages/.DS_Store", "x")
    tree.text("mine/JPEGImages/.cache/00000.jpg", "x")
    tree.text("mine/Thumbs.db", "x")
    assert [one.name for one in recognise(tree.root / "mine")[0].sequences("all")] == ["a"]
    assert only_sequence(tree).num_frames == 3


def test_a_sequence_may_have_one_frame_or_none(tree):
    tree.frame("mine/JPEGImages/one/00000.jpg")
    (tree.root / "mine/JPEGImages/none").mkdir()
    none, one = recognise(tree.root / "mine")[0].sequences("all")
    assert (none.num_frames, one.num_frames) == (0, 1)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["JPEGImages/a/frame.jpg"], "frame.jpg has no frame number"),
        (["JPEGImages/a/123456789.jpg"], "has no frame number from 0 to 99999999"),
        (["JPEGImages/a/1.jpg", "JPEGImages/a/001.jpg"], "001.jpg and 1.jpg have the same frame number 1"),
        (["JPEGImages/a/1.jpg", "JPEGImages/a/1.png"], "1.jpg and 1.png have the same frame number 1"),
        (["JPEGImages/a/1.jpg", "JPEGImages/a/2.tif"], "2.tif is neither JPEG nor PNG"),
        (["JPEGImages/a/1.jpg", "Annotations/a/1.jpg"], "mask 1.jpg is a JPEG, which cannot hold object ids"),
        (["JPEGImages/a/1.jpg", "Annotations/a/2.png"], "has a mask 2.png but no frame of that number"),
    ],
)
def test_what_is_ambiguous_is_refused(tree, files, message):
    for name in files:
        tree.frame(f"mine/{name}")
    with pytest.raises(DatasetError, match=f"mine: .*sequence a.*{message}"):
        only_sequence(tree)


def test_a_broken_link_is_refused(tree):
    tree.frame("mine/JPEGImages/a/00000.jpg")
    (tree.root / "mine/JPEGImages/a/00001.jpg").symlink_to(tree.root / "gone.jpg")
    with pytest.raises(DatasetError, match=r"00001\.jpg is a link to a file that is not there"):
        only_sequence(tree)


def test_linked_frames_and_folders_are_followed(tree):
    tree.frame("store/x/00000.jpg")
    (tree.root / "mine/JPEGImages").mkdir(parents=True)
    (tree.root / "mine/JPEGImages/a").symlink_to(tree.root / "store/x")
    (tree.root / "linked").symlink_to(tree.root / "mine")
    assert only_sequence(tree, "linked").num_frames == 1
    assert recognise(tree.root / "linked")[0].name == "linked"


def test_the_digest_tells_names_and_sizes_and_not_the_place(tree):
    def digest(root, **changes):
        tree.frame(f"{root}/JPEGImages/{changes.get('sequence', 'a')}/{changes.get('name', '00000')}.jpg", (4, 4))
        if "more" in changes:
            path = tree.root / f"{root}/JPEGImages/a/00000.jpg"
            path.write_bytes(path.read_bytes() + b"0")
        return only_sequence(tree, root).digest

    same = digest("one")
    assert digest("two") == same
    others = [digest("three", sequence="b"), digest("four", name="00001"), digest("five", more=True)]
    assert len({same, *others}) == 4
