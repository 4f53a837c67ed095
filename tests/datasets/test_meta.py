"""meta.json of YouTube-VOS is read strictly and compared with the masks."""

import pytest

from shards.errors import DatasetError
from vosdata.datasets.meta import disagreements, looks_like_meta, read_meta
from vosdata.datasets.types import ObjectMeta

PERSON = ObjectMeta(1, "person", (0, 5, 10))
DOG = ObjectMeta(2, "dog", (5, 10))


def test_objects_are_read_in_order_of_id(tree):
    path = tree.text(
        "meta.json",
        '{"videos": {"v": {"objects": {"10": {"category": "cat", "frames": ["00005"]}, '
        '"2": {"category": "dog", "frames": ["00010", "00000"]}}}}}',
    )
    assert read_meta(path) == {"v": (ObjectMeta(2, "dog", (0, 10)), ObjectMeta(10, "cat", (5,)))}
    assert looks_like_meta(path)
    assert not looks_like_meta(tree.root / "absent.json")
    assert not looks_like_meta(
        tree.text("other.json", '{"videos": {"v": {"objects": {"1": {"frame_range": [0, 3]}}}}}')
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not readable JSON"),
        ("[]", "key 'videos'"),
        ('{"videos": {"v": {}}}', "video v: expected an object with the key 'objects'"),
        ('{"videos": {"v": {"objects": {"x": {}}}}}', "object x: invalid literal"),
        ('{"videos": {"v": {"objects": {"255": {}}}}}', r"ids lie in 1\.\.254, got 255"),
        ('{"videos": {"v": {"objects": {"1": {"frames": 3}}}}}', "object 1"),
    ],
)
def test_a_broken_meta_json_is_named(tree, content, message):
    with pytest.raises(DatasetError, match=message):
        read_meta(tree.text("meta.json", content))


def test_a_hidden_object_is_no_contradiction():
    assert disagreements((PERSON, DOG), [0, 5, 10], {1: [0, 10], 2: [5]}) == []


def test_contradictions_are_told():
    found = disagreements((PERSON, DOG), [0, 5], {1: [0], 3: [0]})
    assert found == [
        "masks show object 3, which meta.json does not list",
        "meta.json lists object 2, which no mask shows",
        "meta.json lists frame 10, which is not there",
    ]
    assert disagreements((DOG,), [0, 5, 10], {2: [0, 5]}) == [
        "masks show object 2 in frame 0, where meta.json does not list it"
    ]
