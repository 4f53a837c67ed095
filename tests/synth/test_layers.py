"""Scenes laid out by the batch are what each of them is alone, by the functions for one scene."""

import dataclasses

import numpy as np
import pytest
import torch

from synth import affine, geometry
from synth.appearance import focus_for
from synth.bank import PictureBank, level_for
from synth.builtin import BuiltinBackgrounds, BuiltinObjects
from synth.compose import compose_scene
from synth.config import make_config
from synth.layers import lay_out
from synth.motion import Moments, frame_moments
from synth.prepared import Workshop
from synth.resident import ResidentPictures, pack, unpack
from synth.scene import Scene
from synth.scene_arrays import gather

NUM_FRAMES = 6
SIZE = (48, 80)


@pytest.fixture(scope="module")
def bank() -> PictureBank:
    return PictureBank(BuiltinObjects(), BuiltinBackgrounds())


@pytest.fixture(scope="module")
def scenes(bank: PictureBank) -> list[Scene]:
    config = make_config({"size": SIZE}, preset="hard")
    return [compose_scene(config, 7, index, bank) for index in range(12)]


def test_every_curve_has_the_values_that_it_has_alone(scenes: list[Scene]) -> None:
    """Also a curve of another number of control values than the laws make."""
    odd = dataclasses.replace(scenes[0].objects[0], size=(0.2, 0.3, 0.1, 0.4, 0.2))
    scenes = [dataclasses.replace(scenes[0], objects=(odd, *scenes[0].objects[1:])), *scenes[1:]]
    chosen = [[(number + 2 * t) % NUM_FRAMES for t in range(3)] for number in range(len(scenes))]
    found = gather(scenes, NUM_FRAMES, chosen)
    row = 0
    for number, scene in enumerate(scenes):
        now = Moments(frame_moments(NUM_FRAMES).times[chosen[number]])
        lit = [now.values(scene.light.brightness), now.values(scene.light.warmth)]
        np.testing.assert_allclose(found.light[:, number], lit, atol=1e-14)
        np.testing.assert_allclose(found.camera[2, number, :3], now.values(scene.camera.zoom), atol=1e-14)
        for item in scene.objects:
            path = [now.values(curve) for curve in (item.x, item.y, item.size, item.rotation)]
            np.testing.assert_allclose(found.objects.path[:, row, :3], path, atol=1e-12)
            np.testing.assert_allclose(found.objects.depth[row], now.values(item.depth), atol=1e-14)
            for wave, one in enumerate(item.waves):
                np.testing.assert_allclose(found.objects.phase[row, wave], now.values(one.phase), atol=1e-14)
            row += 1
    assert row == len(found.objects.ids)


def test_exposures_lie_around_their_frames_and_ways_are_those_of_whole_ones(scenes: list[Scene]) -> None:
    """Also at the first and last frame, where they are cut short."""
    found = gather(scenes, NUM_FRAMES, [range(NUM_FRAMES)] * len(scenes))
    opened, closed = np.random.default_rng(0).normal(size=(2, 2, len(scenes), NUM_FRAMES))
    ways = found.exposures.ways(opened, closed, np.arange(len(scenes)))
    for number, scene in enumerate(scenes):
        length = min(scene.shutter, 1 / (NUM_FRAMES - 1))
        for t in range(NUM_FRAMES):
            middle = t / (NUM_FRAMES - 1)
            first, last = max(0.0, middle - length / 2), min(1.0, middle + length / 2)
            assert found.exposures.opened[number, t] == pytest.approx(first)
            assert found.exposures.closed[number, t] == pytest.approx(last)
            expected = (closed[:, number, t] - opened[:, number, t]) * length / (last - first)
            np.testing.assert_allclose(ways[:, number, t], expected, rtol=1e-9)


def test_a_still_shutter_smears_nothing(scenes: list[Scene], bank: PictureBank) -> None:
    still = [dataclasses.replace(scene, shutter=0.0) for scene in scenes]
    pictures = ResidentPictures(bank, torch.device("cpu"))
    for some, expected in ((still, 0), (scenes, 1)):
        layout = lay_out(some, NUM_FRAMES, [range(NUM_FRAMES)] * len(some), SIZE, pictures)
        assert any(len(sheet.steps) for sheet in layout.sheets) == expected


def test_maps_are_those_of_one_picture() -> None:
    rng = np.random.default_rng(1)
    first, second, points = rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 2))
    one, other = np.moveaxis(first, 0, -1), np.moveaxis(second, 0, -1)
    np.testing.assert_allclose(np.moveaxis(affine.compose(one, other), -1, 0), geometry.compose(first, second))
    np.testing.assert_allclose(np.moveaxis(affine.invert(one), -1, 0), geometry.invert(first), rtol=1e-9)
    moved = [geometry.apply(maps, point[None])[0] for maps, point in zip(first, points, strict=True)]
    np.testing.assert_allclose(affine.move(one, points.T).T, moved)


def test_levels_and_blurs_are_those_that_the_other_renderer_chooses(bank: PictureBank) -> None:
    rng = np.random.default_rng(2)
    pictures = ResidentPictures(bank, torch.device("cpu"))
    config = make_config({"size": SIZE})
    scenes = [compose_scene(config, 0, index, bank) for index in range(30)]
    _, numbers = pictures.find(scenes)
    sprites = [bank.scene_cutout(item) for scene in scenes for item in scene.objects]
    scale, blur = rng.uniform(0.05, 2.0, len(numbers)), rng.uniform(0.1, 6.0, len(numbers))
    workshop = Workshop(pictures, numbers, scale)
    sharp, blurred = workshop.sharp(), workshop.focused(blur)
    for row, sprite in enumerate(sprites):
        level = level_for(scale[row])
        focus = focus_for(sprite, level, scale[row], blur[row])
        assert tuple(sharp.source[row, 1:]) == sprite.level(level).shape[:2]
        assert tuple(blurred.source[row, 1:]) == sprite.level(level + focus.levels).shape[:2]
        assert blurred.sigma[row] == pytest.approx(focus.sigma)


def test_packed_arrays_come_out_as_they_went_in() -> None:
    rng = np.random.default_rng(3)
    kinds = ((np.int64, (3, 5)), (np.uint8, (7,)), (np.float32, (2, 0, 5)), (np.float32, (3, 3)), (np.uint8, (1,)))
    tensors = [torch.from_numpy(rng.integers(0, 200, shape).astype(kind)) for kind, shape in kinds]
    packed = pack(tensors, pinned=False)
    for found, expected in zip(unpack(packed, tensors), tensors, strict=True):
        assert found.dtype == expected.dtype and found.shape == expected.shape and torch.equal(found, expected)
        assert found.untyped_storage().data_ptr() == packed.untyped_storage().data_ptr()
