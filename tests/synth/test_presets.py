"""What each preset promises, seen in the scenes that it draws."""

import numpy as np
import pytest

from synth.bank import PictureBank
from synth.builtin import BuiltinBackgrounds, BuiltinObjects
from synth.compose import compose_scene
from synth.config import SynthConfig, make_config
from synth.motion import frame_moments
from synth.presets import PRESETS, PresetName
from synth.render import Renderer
from synth.scene import Scene


@pytest.fixture(scope="module")
def bank() -> PictureBank:
    return PictureBank(BuiltinObjects(), BuiltinBackgrounds())


def drawn(bank: PictureBank, preset: PresetName, count: int = 12) -> list[Scene]:
    config = make_config({}, preset=preset)
    return [compose_scene(config, 0, index, bank) for index in range(count)]


def path(item_x: tuple[float, ...], item_y: tuple[float, ...], aspect: float) -> np.ndarray:
    """Places over time in frame diagonals, ``(9, 2)``."""
    moments = frame_moments(9)
    return np.stack([moments.values(item_x) * aspect, moments.values(item_y)], axis=1) / np.hypot(1, aspect)


def test_paper_pastes_one_to_five_objects_and_moves_them_straight_over_a_still_photograph(bank: PictureBank) -> None:
    counts = set()
    for scene in drawn(bank, "paper", 25):
        camera = scene.camera
        assert (camera.x, camera.y, camera.zoom, camera.rotation) == ((0.0,), (0.0,), (1.0,), (0.0,))
        assert not scene.background.mirrored
        counts.add(len(scene.objects))
        for item in scene.objects:
            assert len(item.size) == 1 and item.rotation == (0.0,) and not item.mirrored
            places = path(item.x, item.y, scene.aspect)
            np.testing.assert_allclose(np.diff(places, 2, axis=0), 0, atol=1e-5)
            assert 0.09 < np.hypot(*(places[-1] - places[0])) < 0.41
    assert counts == {1, 2, 3, 4, 5}


def test_rich_is_the_default() -> None:
    assert make_config({}) == make_config({}, preset="rich") == SynthConfig()


def test_hard_moves_farther_and_shows_less(bank: PictureBank) -> None:
    def means(preset: PresetName) -> tuple[float, float, float]:
        items = [(scene.aspect, item) for scene in drawn(bank, preset, 25) for item in scene.objects]
        lengths = [np.hypot(*np.diff(path(item.x, item.y, aspect), axis=0).T).sum() for aspect, item in items]
        sizes = [item.size[0] for _, item in items]
        turns = [abs(item.rotation[-1] - item.rotation[0]) for _, item in items]
        return float(np.mean(lengths)), float(np.mean(sizes)), float(np.mean(turns))

    (length, size, turn), (hard_length, hard_size, hard_turn) = means("rich"), means("hard")
    assert hard_length > 1.4 * length
    assert hard_size < 0.8 * size
    assert hard_turn > 2 * turn


def test_given_values_win_over_the_preset() -> None:
    config = make_config({"scene": {"tilt": 3.0}}, ["scene.sway=0.01"], preset="paper")
    assert (config.scene.tilt, config.scene.sway, config.scene.rotation) == (3.0, 0.01, 0.0)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_value_of_a_preset_differs_from_the_default(preset: PresetName) -> None:
    default = SynthConfig().scene.model_dump()
    assert all(default[key] != value for key, value in PRESETS[preset].items())


def scenes_with(bank: PictureBank, *overrides: str) -> list[Scene]:
    staying = ("scene.enter=0", "scene.leave=0", "scene.come_back=0")
    config = make_config({"objects_per_video": (2, 5), "size": (90, 160)}, [*staying, *overrides])
    return [compose_scene(config, 1, index, bank) for index in range(8)]


def test_objects_that_pause_rest_and_the_others_do_not(bank: PictureBank) -> None:
    moments = frame_moments(41)
    for share, expected in ((0, False), (1, True)):
        for scene in scenes_with(bank, f"scene.pause={share}"):
            for item in scene.objects:
                steps = np.abs(np.diff([moments.values(item.x), moments.values(item.y)], axis=1)).sum(axis=0)
                assert bool((steps < 1e-6).sum() >= 3) == expected


def test_objects_that_oscillate_turn_back(bank: PictureBank) -> None:
    for scene in scenes_with(bank, "scene.oscillation=1", "scene.acceleration=0", "scene.sway=0"):
        for item in scene.objects:
            places = path(item.x, item.y, scene.aspect)
            steps = np.diff(places, axis=0)
            assert (steps @ steps[0] < 0).any()


def test_order_changes_only_while_objects_are_apart(bank: PictureBank) -> None:
    """Where two objects swap depth between frames, their amodal masks touch in neither."""
    swaps = 0
    for scene in scenes_with(bank, "scene.order_change=1", "scene.area=0.01,0.04"):
        video = Renderer(bank, (90, 160), 33).render(scene, amodal=True)
        assert video.amodal is not None
        ranks = np.argsort(video.order, axis=1)
        for t in range(32):
            for one in range(len(scene.objects)):
                for other in range(one):
                    if (ranks[t, one] < ranks[t, other]) != (ranks[t + 1, one] < ranks[t + 1, other]):
                        swaps += 1
                        assert not (video.amodal[t, one] & video.amodal[t, other]).any()
                        assert not (video.amodal[t + 1, one] & video.amodal[t + 1, other]).any()
    assert swaps >= 4


def test_a_manner_that_is_off_changes_nothing(bank: PictureBank) -> None:
    plain = scenes_with(bank)
    ordered = scenes_with(bank, "scene.order_change=1")
    for before, after in zip(plain, ordered, strict=True):
        assert before.camera == after.camera
        assert [item.x for item in before.objects] == [item.x for item in after.objects]


def test_distractors_are_copies_with_ids_and_paths_of_their_own(bank: PictureBank) -> None:
    plain = scenes_with(bank)
    assert all(len({item.name for item in scene.objects}) == len(scene.objects) for scene in plain)
    for scene, before in zip(scenes_with(bank, "scene.distractor=1"), plain, strict=True):
        assert len({item.name for item in scene.objects}) == 1
        assert (
            len({item.id for item in scene.objects}) == len({item.x for item in scene.objects}) == len(before.objects)
        )
