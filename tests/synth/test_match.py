"""Fitting scenes to a target: known parameters are found again, and every distance shrinks."""

import math

import numpy as np
import pytest

from shards.errors import SourceError
from synth.bank import PictureBank
from synth.config import SynthConfig, make_config
from synth.match import Match, _best, match, simulate
from synth.sources import open_backgrounds, open_objects
from synth.statistics import NAMES, Statistics
from synth.types import ObjectSource

SCENES = 60
KNOWN = make_config(
    {"num_frames": 5, "objects_per_video": (2, 3)},
    ["scene.area=0.01,0.03", "scene.displacement=0.02,0.06", "scene.scale_change=1.1", "scene.first_visible=0.9"],
    "paper",
)


@pytest.fixture(scope="module")
def objects() -> ObjectSource:
    return open_objects("builtin")


@pytest.fixture(scope="module")
def matched(objects: ObjectSource) -> Match:
    """The default configuration fitted to scenes of KNOWN that are drawn from yet another seed."""
    target = simulate(KNOWN, PictureBank(objects, open_backgrounds("builtin")), 77, SCENES)
    return match(target, make_config({"num_frames": 5}), objects, num_scenes=SCENES)


@pytest.mark.parametrize("name", NAMES)
def test_every_distance_to_the_target_shrinks(matched: Match, name: str) -> None:
    before, after = matched.distances()[name]
    assert after < 0.5 * before


def test_known_parameters_are_found_again(matched: Match) -> None:
    assert matched.config.objects_per_video == (2, 3)
    scene = matched.config.scene
    assert np.log(scene.area) == pytest.approx(np.log(KNOWN.scene.area), abs=0.35)
    assert math.sqrt(scene.area[0] * scene.area[1]) == pytest.approx(math.sqrt(0.01 * 0.03), rel=0.2)
    assert scene.displacement[1] == pytest.approx(0.06, abs=0.02)
    assert scene.scale_change < 1.2


def test_other_keys_stay_as_they_were(matched: Match) -> None:
    first = make_config({"num_frames": 5})
    assert matched.config.size == first.size
    for key in ("rotation", "deformation", "light", "shutter", "max_extent", "mirror"):
        assert getattr(matched.config.scene, key) == getattr(first.scene, key)


def test_the_result_is_a_pure_function_and_an_ordinary_configuration(objects: ObjectSource, matched: Match) -> None:
    once, again = (match(matched.target, KNOWN, objects, num_scenes=8).config for _ in range(2))
    assert once == again
    assert SynthConfig.model_validate(once.model_dump(mode="json")) == once


def test_fixed_keys_stay(objects: ObjectSource, matched: Match) -> None:
    first = make_config({"num_frames": 5, "objects_per_video": (1, 4)})
    fixed = ("scene.area", "scene.enter", "objects_per_video")
    found = match(matched.target, first, objects, fixed=fixed, num_scenes=16).config
    assert found.objects_per_video == (1, 4)
    assert (found.scene.area, found.scene.enter) == (first.scene.area, first.scene.enter)
    assert found.scene.displacement != first.scene.displacement


def test_a_round_that_makes_something_worse_loses_to_one_that_does_not() -> None:
    def all_at(value: float, area: float) -> Statistics:
        return Statistics(**{name: np.full(4, area if name == "area" else value) for name in NAMES})

    one, other = make_config({}), make_config({}, preset="paper")
    rounds = [(one, all_at(0.0, 1.5)), (other, all_at(0.9, 1.0))]
    assert _best(rounds, start=all_at(1.0, 1.0), target=all_at(0.0, 0.0)) == other


def test_progress_ends_at_its_total(objects: ObjectSource, matched: Match) -> None:
    calls: list[tuple[int, int]] = []
    match(matched.target, KNOWN, objects, num_scenes=4, progress=lambda done, total: calls.append((done, total)))
    assert calls[0][0] == 0
    assert calls[-1][0] == calls[-1][1]
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_a_source_without_pictures_is_an_error(matched: Match) -> None:
    class Empty:
        name, licence, labels, problems, num_left_out = "empty", "", (), (), 0

        def __len__(self) -> int:
            return 0

    with pytest.raises(SourceError, match="empty: the source holds no pictures"):
        match(matched.target, KNOWN, Empty(), num_scenes=2)  # type: ignore[arg-type]
