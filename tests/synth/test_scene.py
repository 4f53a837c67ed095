"""Scenes are plain data: exact through JSON, independent of size and length, and show what they promise."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import BadFileError, SourceError
from synth.bank import PictureBank
from synth.compose import compose_scene, make_scene
from synth.config import SynthConfig, known_keys, make_config
from synth.geometry import apply, background_map, camera_maps, compose, invert
from synth.motion import Moments, frame_moments
from synth.render import Renderer
from synth.scene import Scene
from synth.types import Background, Cutout, Problem

CONFIG = SynthConfig()
STAYING = make_config({}, ["scene.enter=0", "scene.leave=0", "scene.come_back=0"])
SIZE = (60, 108)


class Blobs:
    """Ellipses of many shapes; pictures whose number is in ``bad`` cannot be read."""

    name = "blobs"
    licence = "none"
    problems: Sequence[Problem] = ()
    num_left_out = 0

    def __init__(self, bad: Sequence[int] = (), count: int = 12) -> None:
        self.bad = bad
        self.count = count

    @property
    def labels(self) -> Sequence[str]:
        return [f"blob{number}" for number in range(self.count)]

    def __len__(self) -> int:
        return self.count

    def load(self, index: int) -> Cutout:
        if index in self.bad:
            raise BadFileError(f"blob{index}: broken")
        rgba = np.zeros((40 + 9 * index, 140 - 5 * index, 4), np.uint8)
        rgba[:] = (40 + 15 * index, 200 - 10 * index, 100, 0)
        alpha = np.zeros(rgba.shape[:2], np.uint8)
        middle = rgba.shape[1] // 2, rgba.shape[0] // 2
        cv2.ellipse(alpha, middle, (middle[0] - 2, middle[1] - 2), 0, 0, 360, 255, -1, cv2.LINE_AA)
        rgba[..., 3] = alpha
        return Cutout(rgba, f"blob{index}")

    def fingerprint(self) -> str:
        return "blobs"


class Walls:
    """Plain backgrounds of different aspect."""

    name = "walls"
    licence = ""
    problems: Sequence[Problem] = ()
    num_left_out = 0
    labels: Sequence[str] = ("wide", "high", "square")

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> Background:
        height, width = [(90, 200), (200, 90), (150, 150)][index]
        return Background(np.full((height, width, 3), 128, np.uint8), self.labels[index])

    def fingerprint(self) -> str:
        return "walls"


@cache
def scenes(count: int = 60, seed: int = 3, config: SynthConfig = CONFIG) -> tuple[Scene, ...]:
    bank = PictureBank(Blobs(), Walls())
    return tuple(compose_scene(config, seed, index, bank) for index in range(count))


@settings(max_examples=25)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_scene_survives_json_exactly(seed: int, index: int) -> None:
    scene = make_scene(CONFIG, seed, index, Blobs(), Walls())
    assert Scene.from_json(json.dumps(scene.to_json())) == scene
    assert Scene.from_json(scene.to_json()) == scene


def shape_of(value: Any) -> Any:
    """Keys and types of JSON data; a list is as its items, which must agree."""
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    if isinstance(value, list):
        shapes = [shape_of(item) for item in value]
        assert shapes and all(shape == shapes[0] for shape in shapes)
        return [shapes[0]]
    return type(value)


def test_every_scene_has_the_same_keys_and_types() -> None:
    still = make_scene(
        make_config({}, ["scene.camera_pan=0", "scene.deformation=0", "scene.shadow=0"]), 0, 0, Blobs(), Walls()
    )
    shapes = [shape_of(scene.to_json()) for scene in (*scenes(), still)]
    assert all(shape == shapes[0] for shape in shapes)


@pytest.mark.parametrize(
    "data", ["{", "[]", "{}", '{"version": 99}', '{"version": 1}', {"version": 1, "seed": 0, "colour": "red"}]
)
def test_what_is_no_scene_is_refused(data: Any) -> None:
    with pytest.raises(SourceError, match="scene"):
        Scene.from_json(data)


def test_a_scene_depends_on_neither_length_nor_size_nor_quality() -> None:
    other = make_config({"num_frames": 33, "size": (480, 864), "quality": 50, "frame_rate": 5.0})
    for index in range(10):
        assert make_scene(other, 3, index, Blobs(), Walls()) == scenes()[index]


def test_a_scene_does_not_depend_on_what_was_drawn_before() -> None:
    assert make_scene(CONFIG, 3, 17, Blobs(), Walls()) == scenes()[17]


def test_other_seeds_and_indices_give_other_scenes() -> None:
    drawn = {scene.objects[0].x for scene in scenes()} | {scene.objects[0].x for scene in scenes(10, seed=4)}
    assert len(drawn) == 70


def test_ids_are_one_to_n_and_tell_nothing_about_depth() -> None:
    counts = set()
    id_is_nearest = []
    for scene in scenes():
        ids = [item.id for item in scene.objects]
        assert ids == list(range(1, len(ids) + 1))
        assert sorted(item.depth for item in scene.objects) == [(float(depth),) for depth in range(len(ids))]
        assert len({item.number for item in scene.objects}) == len(ids), "no cutout twice"
        counts.add(len(ids))
        if len(ids) > 1:
            id_is_nearest.append(scene.objects[0].depth == (0.0,))
    assert counts == {1, 2, 3, 4, 5}
    assert 0.1 < np.mean(id_is_nearest) < 0.7


def test_paths_are_as_long_as_asked_and_smooth() -> None:
    moments = Moments(np.linspace(0, 1, 401))
    frame = np.array([1.8, 1.0]) / np.hypot(1.8, 1.0)
    for scene in scenes(config=STAYING):
        for item in scene.objects:
            path = np.stack([moments.values(item.x), moments.values(item.y)], axis=1) * frame  # in diagonals
            length = np.hypot(*(path[-1] - path[0]))
            assert 0.10 - 0.04 <= length <= 0.40 + 0.04, "sway adds at most twice its amplitude of 0.02"
            speed = np.hypot(*np.diff(path, axis=0).T) * 400
            assert speed.max() < 0.9, "frame diagonals per video"
            size = moments.values(item.size)
            assert 1 / 1.51 < size[-1] / size[0] < 1.51
            turned = moments.values(item.rotation)
            assert abs(turned[-1] - turned[0]) <= 40.001
            for values in (path[:, 0], path[:, 1], size / size[0], turned / 40):
                assert np.abs(np.diff(values, 2)).max() * 400**2 < 8, "no jump of velocity"


def test_every_object_is_seen_in_the_first_frame_and_mostly_in_the_frame() -> None:
    """Counted in rendered pixels, against the area that the cutout has at that size."""
    bank = PictureBank(Blobs(), Walls())
    renderer = Renderer(bank, SIZE, 9)
    for scene in scenes(config=STAYING):
        masks = renderer.render(scene).masks
        for item in scene.objects:
            sprite = bank.cutout(item.number)
            alone = renderer.render(replace(scene, objects=(item,))).masks
            zoom = frame_moments(9).values(scene.camera.zoom)
            scale = frame_moments(9).values(item.size) * zoom * np.hypot(*SIZE) / np.hypot(*sprite.size)
            whole = sprite.num_solid * scale**2
            assert (masks[0] == item.id).sum() / whole[0] > CONFIG.scene.first_visible - 0.08
            assert ((alone == item.id).sum(axis=(1, 2)) / whole).mean() > CONFIG.scene.in_frame - 0.06


def test_copying_the_first_mask_forward_does_badly() -> None:
    renderer = Renderer(PictureBank(Blobs(), Walls()), SIZE, 8)
    overlaps = []
    for scene in scenes(config=STAYING):
        masks = renderer.render(scene).masks
        for item in scene.objects:
            first = masks[0] == item.id
            for mask in masks[1:]:
                union = (first | (mask == item.id)).sum()
                overlaps.append((first & (mask == item.id)).sum() / union)
    assert np.mean(overlaps) < 0.45


def test_the_photograph_covers_all_that_the_camera_sees() -> None:
    bank = PictureBank(Blobs(), Walls())
    corners = np.array([[0.0, 0.0], [108.0, 0.0], [0.0, 60.0], [108.0, 60.0]])
    for scene in scenes():
        height, width = bank.backdrop(scene.background.number).size
        to_frame = compose(
            camera_maps(scene.camera, frame_moments(21), SIZE), background_map(scene.background, (height, width), SIZE)
        )
        seen = apply(invert(to_frame), corners)
        assert seen.min() > -0.01
        assert seen[..., 0].max() < width + 0.01
        assert seen[..., 1].max() < height + 0.01


def test_the_camera_moves_gently_and_can_stand_still() -> None:
    assert any(len(scene.camera.x) > 1 for scene in scenes())
    keys = ("camera_pan=0", "camera_zoom=1", "camera_rotation=0", "camera_shake=0")
    still = make_config({}, [f"scene.{key}" for key in keys])
    camera = make_scene(still, 0, 0, Blobs(), Walls()).camera
    assert (camera.x, camera.y, camera.zoom, camera.rotation) == ((0.0,), (0.0,), (1.0,), (0.0,))


def test_a_bad_file_stops_unless_told_otherwise() -> None:
    broken = Blobs(bad=range(11))
    with pytest.raises(BadFileError, match="broken"):
        make_scene(CONFIG, 0, 0, broken, Walls())
    reported: dict[str, str] = {}

    def report(name: str, error: BadFileError) -> None:
        reported[name] = str(error)

    config = make_config({"objects_per_video": (1, 1)})
    scene = compose_scene(config, 0, 0, PictureBank(broken, Walls()), report)
    assert [item.number for item in scene.objects] == [11]
    assert reported and set(reported) <= {f"blobs/blob{number}" for number in range(11)}
    assert compose_scene(config, 0, 0, PictureBank(broken, Walls()), report) == scene


def test_bad_files_change_pictures_but_not_motion() -> None:
    config = make_config({"objects_per_video": (1, 1)})
    whole = make_scene(config, 0, 5, Blobs(), Walls())
    bad = [whole.objects[0].number]
    scene = compose_scene(config, 0, 5, PictureBank(Blobs(bad), Walls()), lambda name, error: None)
    assert scene.camera == whole.camera
    assert scene.objects[0].number != whole.objects[0].number


def test_a_source_of_nothing_but_bad_files_is_given_up() -> None:
    with pytest.raises(SourceError, match="in a row cannot be used"):
        compose_scene(CONFIG, 0, 0, PictureBank(Blobs(bad=range(12)), Walls()), lambda name, error: None)


def test_a_bank_forgets_what_it_cannot_keep_and_changes_nothing() -> None:
    small = PictureBank(Blobs(), Walls(), max_bytes=100_000)
    for scene in scenes(30):
        assert compose_scene(CONFIG, 3, scene.index, small) == scene
        assert sum(held.pixels.nbytes for held in small._kept.values() if not isinstance(held, Exception)) <= 100_000


def test_a_bank_forgets_levels_before_pictures() -> None:
    read = list[int]()

    class Read(Blobs):
        def load(self, index: int) -> Cutout:
            read.append(index)
            return super().load(index)

    bank = PictureBank(Read(), Walls())
    sprites = [bank.cutout(number) for number in range(len(bank.objects))]
    bank.max_bytes = round(1.5 * sum(sprite.pixels.nbytes for sprite in sprites))
    for _ in range(3):
        for number, sprite in enumerate(sprites):
            assert bank.cutout(number) is sprite
            sprite.level(1)
            sprite.level(2)
    newest = bank.cutout(len(sprites) - 1)
    assert sum(sprite.num_bytes for sprite in sprites) <= bank.max_bytes
    assert newest.num_bytes > newest.pixels.nbytes
    assert read == list(range(len(sprites)))


def test_overrides_set_keys_of_every_level() -> None:
    config = make_config({"num_frames": 4}, ["scene.area=0.1,0.2", "quality=80", "scene.mirror=0", "size=[120, 216]"])
    assert (config.num_frames, config.quality, config.size) == (4, 80, (120, 216))
    assert (config.scene.area, config.scene.mirror) == ((0.1, 0.2), 0.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("scene.aera=1", r"did you mean scene\.area\?"),
        ("camera_pan=1", r"did you mean scene\.camera_pan\?"),
        ("xyzzy=1", "known keys: num_frames"),
        ("scene=1", "unknown key 'scene'"),
        ("quality", "key=value"),
        ("quality=0", "quality: .*greater than or equal to 1"),
        ("quality=high", "quality: .*integer"),
        ("scene.area=0.3,0.1", "first number must not be larger"),
        ("scene.area=[", "cannot read the value"),
        ("scene.camera_zoom=.nan", "finite"),
        ("objects_per_video=5,1", "must not exceed"),
        ("size=0,0", "size"),
    ],
)
def test_a_wrong_override_is_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config({}, [override])


def test_every_key_is_documented() -> None:
    import inspect

    import synth.config

    source = inspect.getsource(synth.config)
    for key in known_keys():
        name = key.rpartition(".")[2]
        declaration = source.index(f"\n    {name}: ")
        following = source[declaration:].split("\n    ", 2)[2]
        assert following.startswith('"""'), f"{key} has no docstring"
