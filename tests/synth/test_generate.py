"""SynthVOS as shards: same bytes whoever makes them, bad files named, and what every record carries."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from shards.build import build_shard_set
from shards.codec import decode_image
from shards.errors import BadFileError, ConflictError, SourceError
from shards.plan import Skipped
from shards.reader import ShardSet
from shards.types import Record
from synth.config import SynthConfig, make_config
from synth.generate import SynthPlan
from synth.render import render_scene
from synth.scene import Scene
from synth.sources import open_backgrounds, open_objects

SMALL = make_config({"num_frames": 3, "size": (48, 80)})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``objects`` in MSRA10k's form and ``walls``, both of random pixels."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    (root / "objects").mkdir()
    (root / "walls").mkdir()
    for number in range(6):
        rgb = cv2.resize(rng.integers(0, 256, (8, 10, 3), np.uint8), (90, 70), interpolation=cv2.INTER_CUBIC)
        mask = np.zeros((70, 90), np.uint8)
        cv2.ellipse(mask, (45, 35), (20 + 3 * number, 30 - 3 * number), 20, 0, 360, 255, -1)
        cv2.imwrite(str(root / "objects" / f"{number}.jpg"), rgb)
        cv2.imwrite(str(root / "objects" / f"{number}.png"), mask)
        cv2.imwrite(str(root / "walls" / f"{number}.jpg"), cv2.resize(rgb, (128, 96)))
    return root


def make_plan(pictures: Path, num_videos: int = 20, config: SynthConfig = SMALL, **options: object) -> SynthPlan:
    objects, backgrounds = open_objects(pictures / "objects"), open_backgrounds(pictures / "walls")
    return SynthPlan(config, objects, backgrounds, num_videos, **options)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def all_records(plan: SynthPlan) -> list[Record]:
    return [item for shard in range(plan.num_shards) for item in plan.records(shard) if isinstance(item, Record)]


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set made by one worker without interruption."""
    folder = tmp_path_factory.mktemp("finished")
    build_shard_set(make_plan(pictures, 48), folder)
    return folder


def test_two_workers_make_the_same_bytes_as_one(pictures: Path, finished: Path, tmp_path: Path) -> None:
    build_shard_set(make_plan(pictures, 48), tmp_path, workers=2)
    assert contents(tmp_path) == contents(finished)


def test_a_killed_run_continues_to_the_same_bytes(pictures: Path, finished: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from shards.build import build_shard_set\n"
        "from synth.config import make_config\n"
        "from synth.generate import SynthPlan\n"
        "from synth.sources import open_backgrounds, open_objects\n"
        "pictures = Path(sys.argv[1])\n"
        "config = make_config({'num_frames': 3, 'size': (48, 80)})\n"
        "plan = SynthPlan(config, open_objects(pictures / 'objects'), open_backgrounds(pictures / 'walls'), 48)\n"
        "build_shard_set(plan, Path(sys.argv[2]))\n"
    )
    folder = tmp_path / "set"
    process = subprocess.Popen([sys.executable, "-c", code, str(pictures), str(folder)], start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(folder.glob("*.tar")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = list(folder.glob("*.tar"))
    assert 0 < len(done) < 8
    assert not (folder / "dataset.json").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in done}
    report = build_shard_set(make_plan(pictures, 48), folder, workers=2)
    assert not report.already_complete
    assert contents(folder) == contents(finished)
    untouched = [name for name, made in kept.items() if (folder / name).stat().st_mtime_ns == made]
    assert len(untouched) >= len(kept) - 1, "a shard may lack its note that it is done; the others are not made again"


def test_another_configuration_is_refused_with_the_difference_named(pictures: Path, finished: Path) -> None:
    before = contents(finished)
    config = make_config({"num_frames": 3, "size": (48, 80)}, ["scene.camera_pan=0"])
    with pytest.raises(ConflictError, match=r"camera_pan.*0\.06"):
        build_shard_set(make_plan(pictures, 48, config), finished)
    assert contents(finished) == before


def test_shards_are_pure_and_independent_of_order(pictures: Path) -> None:
    plan = pickle.loads(pickle.dumps(make_plan(pictures)))

    def images(shard: int) -> list[bytes]:
        return [f.image for record in plan.records(shard) if isinstance(record, Record) for f in record.frames]

    forward = [images(shard) for shard in (0, 1, 2)]
    assert [images(shard) for shard in (2, 1, 0)] == forward[::-1]


@pytest.mark.parametrize(("num_videos", "num_shards"), [(1, 1), (5, 5), (8, 8), (9, 5), (200, 8), (10_000, 100)])
def test_every_video_is_in_exactly_one_shard(pictures: Path, num_videos: int, num_shards: int) -> None:
    plan = make_plan(pictures, num_videos)
    assert plan.num_shards == num_shards
    assert plan.num_shards * plan.videos_per_shard >= num_videos > (plan.num_shards - 1) * plan.videos_per_shard
    if num_videos < 10:
        assert [record.sequence for record in all_records(plan)] == [f"{index:06d}" for index in range(num_videos)]


def test_a_record_can_be_rendered_again_from_its_scene(pictures: Path, finished: Path) -> None:
    plan = make_plan(pictures, 48)
    shards = ShardSet(finished)
    assert len(shards) == 48
    for number in (0, 17, 47):
        stored = shards.record_json(number)
        scene = Scene.from_json(stored["scene"])
        video = render_scene(scene, plan.objects, plan.backgrounds, (48, 80), 3)
        assert stored["frame_numbers"] == [0, 1, 2]
        assert stored["object_ids"] == [item.id for item in scene.objects]
        for t in range(3):
            np.testing.assert_array_equal(shards.mask(number, t), video.masks[t])
            decoded = decode_image(shards.image_bytes(number, t)).astype(int)
            assert np.abs(decoded - video.frames[t]).mean() < 12, "JPEG of noise"


def test_every_record_has_the_same_json_keys_and_a_source(finished: Path) -> None:
    shards = ShardSet(finished)
    stored = [shards.record_json(number) for number in range(len(shards))]
    assert len({tuple(record) for record in stored}) == 1
    assert stored[0]["source"] == "objects over walls"
    assert stored[0]["provenance"] == "vosdata synth: scene 0 of seed 0"


def test_the_configuration_is_short_and_holds_no_paths(pictures: Path) -> None:
    text = json.dumps(make_plan(pictures).configuration())
    assert len(text) < 10_000
    assert str(pictures) not in text
    assert set(json.loads(text)["synth"]["scene"]) == set(type(SMALL.scene).model_fields)


def test_seed_number_and_sources_are_part_of_the_configuration(pictures: Path, tmp_path: Path) -> None:
    def text(plan: SynthPlan) -> str:
        return json.dumps([plan.configuration(), plan.num_records])

    base = text(make_plan(pictures))
    other = make_plan(pictures)
    swapped = SynthPlan(SMALL, other.objects, open_backgrounds(pictures / "objects"), 20)
    assert base == text(make_plan(pictures, on_bad="skip")), "what to do with bad files changes no byte"
    assert len({base, text(make_plan(pictures, seed=1)), text(make_plan(pictures, 21)), text(swapped)}) == 4


@pytest.fixture
def damaged(pictures: Path, tmp_path: Path) -> Path:
    """The pictures, with one cut-off photograph and one empty mask."""
    for folder in ("objects", "walls"):
        (tmp_path / folder).mkdir()
        for path in (pictures / folder).iterdir():
            (tmp_path / folder / path.name).write_bytes(path.read_bytes())
    photo = tmp_path / "walls" / "3.jpg"
    photo.write_bytes(photo.read_bytes()[:300])
    cv2.imwrite(str(tmp_path / "objects" / "2.png"), np.zeros((70, 90), np.uint8))
    return tmp_path


def test_a_bad_file_stops_the_run_by_default(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"(3\.jpg|2\.(jpg|png)).*--on-bad skip"):
        build_shard_set(make_plan(damaged), tmp_path / "set", workers=2)


def test_skipping_reports_every_bad_file_once_per_shard(damaged: Path) -> None:
    plan = make_plan(damaged, on_bad="skip")
    for shard in range(plan.num_shards):
        skipped = [item for item in plan.records(shard) if isinstance(item, Skipped)]
        assert len({item.name for item in skipped}) == len(skipped) <= 2
    assert len(all_records(plan)) == 20
    used = {item.name for record in all_records(plan) for item in Scene.from_json(record.extra["scene"]).objects}
    assert "2.jpg" not in {Path(name).name for name in used}


def test_a_run_that_stopped_at_a_bad_file_goes_on_with_skip(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFileError):
        build_shard_set(make_plan(damaged), tmp_path / "set")
    report = build_shard_set(make_plan(damaged, on_bad="skip"), tmp_path / "set")
    assert report.num_records == 20
    assert {Path(item.name).stem for item in report.skipped} == {"2", "3"}


def test_files_that_a_source_lists_as_unusable_stop_or_are_reported(pictures: Path, damaged: Path) -> None:
    (damaged / "objects" / "5.png").unlink()
    with pytest.raises(BadFileError, match=r"1 file cannot be used.*5\.jpg"):
        make_plan(damaged)
    first = [item for item in make_plan(damaged, on_bad="skip").records(0) if isinstance(item, Skipped)]
    assert "5.jpg" in first[0].name


@pytest.mark.parametrize(("num_videos", "seed"), [(0, 0), (-3, 0), (1, -1), (1, 2**63)])
def test_a_wrong_number_or_seed_is_refused(pictures: Path, num_videos: int, seed: int) -> None:
    with pytest.raises(ValueError, match="must"):
        make_plan(pictures, num_videos, seed=seed)


def test_an_empty_source_is_refused(pictures: Path) -> None:
    class Nothing:
        name, licence, labels, problems = "nothing", "", (), ()

        def __len__(self) -> int:
            return 0

    with pytest.raises(SourceError, match="nothing: the source holds no pictures"):
        SynthPlan(SMALL, open_objects(pictures / "objects"), Nothing(), 5)  # type: ignore[arg-type]
