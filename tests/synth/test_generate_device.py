"""Shard sets drawn by the renderer for devices: the same scenes and masks, told apart from those of the CPU."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from shards.build import build_shard_set
from shards.errors import ConflictError
from shards.plan import Skipped
from shards.reader import ShardSet
from shards.verify import verify
from synth.builtin import BuiltinBackgrounds, BuiltinObjects
from synth.config import make_config
from synth.generate import SynthPlan
from synth.generate_device import DevicePlan
from synth.sources import open_backgrounds, open_objects

SIZE = (48, 80)
NUM_VIDEOS = 10


def device_plan(**options: object) -> DevicePlan:
    config = make_config({"size": SIZE, "num_frames": 3}, ["scene.area=0.05,0.2"])
    return DevicePlan(config, BuiltinObjects(), BuiltinBackgrounds(), NUM_VIDEOS, 4, device="cpu", **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device") / "synthvos"
    build_shard_set(device_plan(), folder)
    return folder


def test_its_scenes_and_masks_are_those_of_the_cpu(folder: Path, tmp_path: Path) -> None:
    plan = device_plan()
    build_shard_set(SynthPlan(plan.config, plan.objects, plan.backgrounds, NUM_VIDEOS, 4), tmp_path / "cpu")
    made, expected = ShardSet(folder), ShardSet(tmp_path / "cpu")
    assert len(made) == len(expected) == NUM_VIDEOS and not verify(folder).problems
    differing = 0
    for record in range(NUM_VIDEOS):
        assert made.record_json(record)["scene"] == expected.record_json(record)["scene"]
        for t in range(3):
            mask, other = made.mask(record, t), expected.mask(record, t)
            assert mask is not None and other is not None
            differing += int((mask != other).sum())
            colours = made.image(record, t).astype(np.int16) - expected.image(record, t)
            assert np.abs(colours).mean() < 3, "besides rounding, JPEG makes a little more of it"
    assert differing <= 1e-4 * NUM_VIDEOS * 3 * SIZE[0] * SIZE[1]


def test_its_bytes_do_not_depend_on_how_far_an_earlier_call_came(folder: Path, tmp_path: Path) -> None:
    stopped = tmp_path / "again"

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 4:
            raise StopError

    with pytest.raises(StopError):
        build_shard_set(device_plan(), stopped, progress=stop)
    build_shard_set(device_plan(), stopped)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == {
        path.name: path.read_bytes() for path in stopped.iterdir() if path.is_file()
    }


def test_its_bytes_do_not_depend_on_who_draws_the_scenes(folder: Path, tmp_path: Path) -> None:
    plan = device_plan(drawers=2)
    build_shard_set(plan, tmp_path / "drawn")
    many = DevicePlan(plan.config, plan.objects, plan.backgrounds, 5000, 4, device="cpu").num_drawers
    cores = len(os.sched_getaffinity(0))
    assert (plan.num_drawers, device_plan().num_drawers, many) == (2, 0, cores if cores > 1 else 0)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == {
        path.name: path.read_bytes() for path in (tmp_path / "drawn").iterdir() if path.is_file()
    }


def test_a_bad_file_is_reported_once_whoever_draws(tmp_path: Path) -> None:
    for kind in ("objects", "backgrounds"):
        (tmp_path / kind).mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        picture = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (96, 72))
        cv2.imwrite(str(tmp_path / "backgrounds" / f"{number}.jpg"), picture)
        cv2.imwrite(str(tmp_path / "objects" / f"{number}.jpg"), picture)
        mask = np.zeros((72, 96), np.uint8)
        mask[20:50, 30:70] = 255
        cv2.imwrite(str(tmp_path / "objects" / f"{number}.png"), mask)
    plans = [
        DevicePlan(
            make_config({"size": SIZE, "num_frames": 2}),
            open_objects(str(tmp_path / "objects")),
            open_backgrounds(str(tmp_path / "backgrounds")),
            12,
            4,
            device="cpu",
            on_bad="skip",
            drawers=drawers,
        )
        for drawers in (0, 1)
    ]
    damaged = tmp_path / "objects" / "1.jpg"
    damaged.write_bytes(damaged.read_bytes()[:300])
    found = [[one for shard in range(plan.num_shards) for one in plan.records(shard)] for plan in plans]
    told = [[(one.name, one.reason) for one in records if isinstance(one, Skipped)] for records in found]
    assert told[0] == told[1] and len(told[0]) >= 1
    assert len(set(told[0])) == 1 and len(found[0]) - len(told[0]) == 12


def test_a_folder_of_the_other_renderer_is_refused(folder: Path) -> None:
    plan = device_plan()
    with pytest.raises(ConflictError, match="renderer"):
        build_shard_set(SynthPlan(plan.config, plan.objects, plan.backgrounds, NUM_VIDEOS, 4), folder)


def test_exact_truth_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="leave out --truth"):
        device_plan(truth=("flow",))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_command_says_that_there_is_no_cuda(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from vosdata.cli import app

    calls = {
        "cuda": "PyTorch sees no CUDA device",
        "gpu": "wants cpu, cuda or cuda:N",
    }
    for device, message in calls.items():
        out = tmp_path / device
        status = app.run(["synth", "--n", "1", "--objects", "builtin", "--device", device, "--out", str(out)])
        told = capsys.readouterr().err.strip().splitlines()
        assert status == 2 and message in told[-1] and not out.exists()
    status = app.run(["synth", "--n", "1", "--device", "cuda", "--truth", "flow", "--out", str(tmp_path / "x")])
    assert status == 2 and "go with --device cpu" in capsys.readouterr().err
