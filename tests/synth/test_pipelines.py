"""albumentations pipelines for cutouts and backgrounds: once per scene, seeded by it, part of the configuration."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from synth.bank import PictureBank
from synth.builtin import BuiltinBackgrounds, BuiltinObjects
from synth.compose import compose_scene
from synth.config import SynthConfig, make_config
from synth.generate import SynthPlan
from synth.pipelines import Pipelines, import_albumentations, read_pipeline
from synth.render import RenderedVideo, Renderer
from synth.scene import Scene

albumentations = import_albumentations()
INVERT = albumentations.InvertImg(p=1.0).to_dict()
TURN = albumentations.RandomRotate90(p=1.0).to_dict()
JITTER = albumentations.Compose([albumentations.ColorJitter(p=1.0), albumentations.HorizontalFlip(p=0.5)]).to_dict()
SIZE = (60, 108)


def drawn(config: SynthConfig, index: int) -> tuple[Scene, RenderedVideo]:
    bank = PictureBank(BuiltinObjects(), BuiltinBackgrounds())
    pipelines = Pipelines(config.cutout_pipeline, config.background_pipeline)
    scene = compose_scene(config, 0, index, bank, pipelines=pipelines)
    return scene, Renderer(bank, SIZE, 2, pipelines).render(scene)


def config_with(**pipelines: Any) -> SynthConfig:
    return make_config({"size": SIZE, "objects_per_video": (2, 2), **pipelines}, preset="paper")


def test_a_pipeline_of_backgrounds_changes_backgrounds_alone() -> None:
    (scene, before), (same, after) = drawn(config_with(), 0), drawn(config_with(background_pipeline=INVERT), 0)
    assert scene == same
    np.testing.assert_array_equal(before.masks, after.masks)
    for mask, old, new in zip(before.masks, before.frames.astype(int), after.frames, strict=True):
        largest = cv2.dilate(mask, np.ones((9, 9)))
        smallest = cv2.erode(np.pad(mask, 4), np.ones((9, 9)))[4:-4, 4:-4]
        behind, inside = largest == 0, (smallest == largest) & (mask > 0)  # far from all edges, those of objects too
        assert np.abs(old + new - 255)[behind].max() <= 1
        np.testing.assert_array_equal(old[inside], new[inside])
        assert behind.any() and inside.any()


def test_a_pipeline_that_inverts_cutouts_leaves_their_masks() -> None:
    (scene, before), (same, after) = drawn(config_with(), 1), drawn(config_with(cutout_pipeline=INVERT), 1)
    assert [item.x for item in scene.objects] == [item.x for item in same.objects]
    for one, other in zip(before.sprites, after.sprites, strict=True):
        opaque = other.pixels[2:-2, 2:-2, 3] == 255
        np.testing.assert_array_equal(other.pixels[2:-2, 2:-2, 3], one.pixels[..., 3])
        np.testing.assert_array_equal(other.pixels[2:-2, 2:-2, :3][opaque], 255 - one.pixels[..., :3][opaque])


def test_cutouts_may_be_turned_with_their_alpha() -> None:
    bank = PictureBank(BuiltinObjects(), BuiltinBackgrounds())
    pipelines, seen = Pipelines(TURN), set()
    for index in range(12):
        sprite = bank.cutout(3)
        alpha = pipelines.cutout(sprite, 0, index, 1).pixels[2:-2, 2:-2, 3]
        turns = [np.array_equal(alpha, np.rot90(sprite.pixels[..., 3], k)) for k in range(4)]
        assert any(turns)
        seen.add(turns.index(True))
    assert len(seen) > 1


def test_draws_follow_the_scene_and_nothing_else() -> None:
    config = config_with(cutout_pipeline=JITTER, background_pipeline=JITTER)
    first = [drawn(config, index)[1].frames for index in (0, 1)]
    again = [drawn(config, index)[1].frames for index in (1, 0)]
    np.testing.assert_array_equal(first[0], again[1])
    np.testing.assert_array_equal(first[1], again[0])
    bank = PictureBank(BuiltinObjects(), BuiltinBackgrounds())
    made = {Pipelines(JITTER).cutout(bank.cutout(0), 0, 0, number).pixels.tobytes() for number in (1, 2, 3)}
    assert len(made) == 3, "each object of a scene draws for itself"


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_file_and_its_content_are_the_same_configuration(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pipeline{suffix}"
    albumentations.save(albumentations.from_dict(JITTER), path, data_format=suffix[1:])
    by_file = make_config({}, [f"cutout_pipeline={path}"])
    assert by_file == make_config({"cutout_pipeline": json.loads(json.dumps(JITTER))})
    assert SynthConfig.model_validate(by_file.model_dump(mode="json")) == by_file
    sources = BuiltinObjects(), BuiltinBackgrounds()
    stored, plain = (SynthPlan(config, *sources, 1).configuration() for config in (by_file, make_config({})))
    assert stored != plain and str(tmp_path) not in json.dumps(stored)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("missing.yaml", "missing.yaml cannot be read"),
        ({"steps": []}, "no key 'transform'"),
        (3, "no key 'transform'"),
        ({"transform": {"__class_fullname__": "NoSuchThing", "p": 1.0}}, "albumentations cannot make the pipeline"),
    ],
)
def test_what_is_no_pipeline_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config({"cutout_pipeline": value})
    with pytest.raises(ValueError, match=message):
        read_pipeline(value)
