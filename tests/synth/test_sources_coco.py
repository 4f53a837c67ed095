import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from shards.errors import BadFileError, SourceError
from synth.coco import draw_segmentation
from synth.sources import check_source, open_objects

BOX = [20.0, 10.0, 70.0, 10.0, 70.0, 60.0, 20.0, 60.0]


def annotation(identifier=1, image=7, segmentation=None, **fields):
    shape = [BOX] if segmentation is None else segmentation
    return {"id": identifier, "image_id": image, "segmentation": shape, "area": 2500.0, "iscrowd": 0} | fields


def write(
    folder: Path, annotations, json_path="annotations/instances_train2017.json", picture_path="train2017/000007.jpg"
):
    path = folder / picture_path
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(path)
    image = {"id": 7, "file_name": path.name, "height": 80, "width": 100}
    content = {"images": [image], "annotations": annotations, "licenses": [{"id": 1, "name": "Some Licence"}]}
    (folder / json_path).parent.mkdir(parents=True, exist_ok=True)
    (folder / json_path).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("json_path", "picture_path"),
    [
        ("annotations/instances_train2017.json", "train2017/000007.jpg"),
        ("annotations/instances_val2014.json", "images/val2014/000007.jpg"),
        ("annotations/mine.json", "images/000007.jpg"),
        ("trainval.json", "images/000007.jpg"),
        ("labels.json", "000007.jpg"),
    ],
)
def test_pictures_are_found_near_the_annotations(tmp_path, json_path, picture_path):
    write(tmp_path, [annotation()], json_path, picture_path)
    source = open_objects(tmp_path)
    assert list(source.labels) == [f"{picture_path}#1"]
    assert source.load(0).rgba.shape == (54, 54, 4)
    assert source.licence == "Some Licence"


def test_crowds_tiny_objects_and_those_that_fill_the_picture_are_left_out_and_counted(tmp_path):
    boxed = [annotation(identifier, bbox=[0, 0, side, side]) for identifier, side in ((6, 31), (7, 32))]
    for note in boxed:
        del note["area"]
    areas = [annotation(3, area=1000.0), annotation(4, area=1024.0), annotation(5, area=80 * 100)]
    write(tmp_path, [annotation(1), annotation(2, iscrowd=1), *areas, *boxed])
    source = open_objects(tmp_path)
    assert [label[-2:] for label in source.labels] == ["#1", "#4", "#7"]
    assert source.num_left_out == 4
    assert source.problems == ()


def test_missing_pictures_and_unknown_images_are_problems(tmp_path):
    write(tmp_path, [annotation(1), annotation(2, image=99)])
    path = tmp_path / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["images"].append({"id": 8, "file_name": "gone.jpg", "height": 80, "width": 100})
    path.write_text(json.dumps(content))
    problems = open_objects(tmp_path).problems
    assert [problem.name for problem in problems] == ["annotations/instances_train2017.json", "train2017/gone.jpg"]
    assert "unknown image" in problems[0].reason


def test_files_of_other_tasks_and_results_are_no_instances(tmp_path):
    write(tmp_path, [annotation()])
    folder = tmp_path / "annotations"
    folder.joinpath("captions_train2017.json").write_text('{"images": [], "annotations": [{"caption": "x"}]}')
    folder.joinpath("results.json").write_text('[{"image_id": 7, "segmentation": []}]')
    folder.joinpath("notes.json").write_text("no json")
    source = open_objects(tmp_path)
    assert len(source) == 1
    assert source.problems == ()


def test_a_broken_instances_file_is_named(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2017.json").write_text('{"images": [')
    with pytest.raises(SourceError, match=r"instances_train2017\.json: is no readable JSON"):
        open_objects(tmp_path)


def test_annotations_without_pictures_are_named(tmp_path):
    write(tmp_path, [annotation()])
    (tmp_path / "train2017/000007.jpg").unlink()
    with pytest.raises(SourceError, match="none of its pictures"):
        open_objects(tmp_path)


def test_a_changed_outline_changes_the_fingerprint(tmp_path):
    write(tmp_path, [annotation()])
    before = open_objects(tmp_path).fingerprint()
    write(tmp_path, [annotation(segmentation=[[*BOX[:-1], 61.0]])])
    assert open_objects(tmp_path).fingerprint() != before


def masks():
    return st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random((23, 31)) > 0.5)


def runs_of(mask):
    """Run lengths down the columns, the first of zeros: COCO's uncompressed form, written out plainly."""
    values = [False, *mask.ravel(order="F").tolist()]
    changes = [i for i in range(1, len(values)) if values[i] != values[i - 1]]
    ends = [*(change - 1 for change in changes), mask.size]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


@settings(max_examples=30)
@given(masks())
def test_run_lengths_are_drawn_back_to_the_mask(mask):
    compressed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    for counts in (compressed, runs_of(mask)):
        drawn = draw_segmentation({"size": [23, 31], "counts": counts}, 23, 31, "x")
        np.testing.assert_array_equal(drawn, mask * np.uint8(255))


def test_several_polygons_are_one_object():
    drawn = draw_segmentation([[0, 0, 10, 0, 10, 10, 0, 10], [20, 20, 30, 20, 30, 30, 20, 30]], 40, 40, "x")
    assert (drawn[:10, :10] == 255).all()
    assert (drawn[20:30, 20:30] == 255).all()
    assert np.count_nonzero(drawn) < 250


def test_polygons_outside_the_picture_are_clipped():
    drawn = draw_segmentation([[-1e9, 5, 1e9, 5, 1e9, 15, -1e9, 15]], 20, 30, "x")
    assert (drawn[5:15] == 255).all()
    assert not drawn[16:].any()


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        "text",
        [],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5]],
        [[float("nan")] * 6],
        [[float("inf")] * 6],
        [["a"] * 6],
        [3, 4],
        {},
        {"size": [40, 50], "counts": None},
        {"size": [40, 50], "counts": [5, 6]},
        {"size": [40, 50], "counts": [-5, 2005]},
        {"size": [40, 50], "counts": [1e9]},
        {"size": [40, 50], "counts": [2000, 2000]},
        {"size": [50, 40], "counts": [2000]},
        {"size": [40, 50], "counts": "zzz"},
        {"size": [40, 50], "counts": ""},
        {"size": [40, 50], "counts": "\u00ff"},
        {"size": [40, 50], "counts": "~~~~~~~~~~~~~~~~~~"},
    ],
)
def test_malformed_segmentations_are_named_before_they_reach_c_code(segmentation):
    with pytest.raises(BadFileError, match=r"^coco/1\.jpg#3: "):
        draw_segmentation(segmentation, 40, 50, "coco/1.jpg#3")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_any_compressed_text_is_a_mask_or_an_error(counts):
    try:
        drawn = draw_segmentation({"size": [5, 7], "counts": counts}, 5, 7, "x")
    except BadFileError:
        return
    assert drawn.shape == (5, 7)
    assert set(np.unique(drawn)) <= {0, 255}


@pytest.mark.real_data
def test_every_real_coco_object_gives_a_cutout(real_data: Path):
    source = open_objects(real_data / "coco")
    assert len(source) == 16
    assert check_source(source) == ()
    content = json.loads((real_data / "coco/dates/trainval.json").read_text())
    by_id = {str(note["id"]): note for note in content["annotations"]}
    for index, label in enumerate(source.labels):
        note = by_id[label.rpartition("#")[2]]
        shown = source.load(index).rgba[:, :, 3] > 127
        assert 0.85 * note["area"] < shown.sum() < 1.05 * note["area"]


@pytest.mark.real_data
def test_real_run_lengths_of_coco_results_are_drawn_to_their_own_area(real_data: Path):
    path = real_data / "coco/annotations/instances_val2014_fakesegm100_results.json"
    for result in json.loads(path.read_text())[:200]:
        segmentation = result["segmentation"]
        drawn = draw_segmentation(segmentation, *segmentation["size"], "x")
        area = coco_mask.area({"size": segmentation["size"], "counts": segmentation["counts"].encode()})
        assert np.count_nonzero(drawn) == area
