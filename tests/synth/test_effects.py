"""What effects do to pixels, what they leave alone, and that each is drawn for itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synth.bank import PictureBank
from synth.builtin import BuiltinBackgrounds, BuiltinObjects
from synth.compose import compose_scene
from synth.config import make_config
from synth.deform import Bend
from synth.exposure import list_smears, smear_margin, smear_steps, smeared
from synth.motion import frame_moments
from synth.render import RenderedVideo, Renderer
from synth.scene import Light, Scene, Shadow, Wave
from synth.truth import make_truth

SIZE = (90, 160)
FRAMES = 4
OFF = {
    "enter": 0,
    "leave": 0,
    "come_back": 0,
    "camera_shake": 0,
    "deformation": 0,
    "light": 1,
    "warmth": 0,
    "colour_jitter": 0,
    "flicker": 0,
    "shutter": 0,
    "shadow": 0,
    "defocus": 0,
    "quality_loss": 0,
}
"""What switches each effect off."""

FIELDS = {
    "camera_shake": ("camera", "background"),
    "light": ("light",),
    "warmth": ("light",),
    "shutter": ("shutter",),
    "shadow": ("shadow",),
    "quality_loss": ("quality_loss",),
    "defocus": ("background", "objects"),
}
"""Fields of a scene that an effect may change; else only the objects."""


@pytest.fixture(scope="module")
def bank() -> PictureBank:
    return PictureBank(BuiltinObjects(), BuiltinBackgrounds())


def draw(bank: PictureBank, index: int, overrides: Sequence[str] = ()) -> Scene:
    return compose_scene(make_config({"size": SIZE}, overrides), 3, index, bank)


def plain(bank: PictureBank, index: int) -> Scene:
    return draw(bank, index, [f"scene.{key}={value}" for key, value in OFF.items()])


def render(bank: PictureBank, scene: Scene, num_frames: int = FRAMES) -> RenderedVideo:
    return Renderer(bank, SIZE, num_frames).render(scene, amodal=True)


@pytest.mark.parametrize("key", OFF)
def test_an_effect_that_is_off_is_gone_and_changes_nothing_else(bank: PictureBank, key: str) -> None:
    changed = 0
    often = [f"scene.{key}=1"] if key in ("enter", "leave", "come_back") else []
    for index in range(8):
        on, off = draw(bank, index, often), draw(bank, index, [f"scene.{key}={OFF[key]}"])
        for field in Scene.__dataclass_fields__:
            if field not in FIELDS.get(key, ("objects",)):
                assert getattr(on, field) == getattr(off, field)
        changed += on != off
        for one, other in zip(on.objects, off.objects, strict=True):
            assert (one.name, one.size, one.rotation, one.id) == (other.name, other.size, other.rotation, other.id)
    assert changed > 0, "the effect is on by default"


def test_with_everything_off_scenes_are_as_if_there_were_no_effects(bank: PictureBank) -> None:
    for index in range(6):
        scene = plain(bank, index)
        data: dict[str, Any] = scene.to_json()
        assert {item.role for item in scene.objects} == {"target"}
        for key in ("quality_loss", "shutter", "light", "shadow"):
            del data[key]
        del data["background"]["defocus"]
        for item in data["objects"]:
            for key in ("role", "red", "green", "blue", "brightness", "defocus", "waves"):
                del item[key]
        assert Scene.from_json({**data, "version": 1}) == scene, "a scene of version 1"


@settings(max_examples=15)
@given(st.integers(0, 2**40))
def test_effects_of_light_and_lens_change_no_mask(index: int) -> None:
    bank = PictureBank(BuiltinObjects(), BuiltinBackgrounds())
    scene = compose_scene(make_config({"size": SIZE}, preset="hard"), 3, index, bank)
    bare = replace(
        scene,
        shutter=0.0,
        light=Light(),
        shadow=Shadow(),
        background=replace(scene.background, defocus=0.0),
        objects=tuple(replace(item, red=1.0, brightness=(1.0,), defocus=0.0) for item in scene.objects),
    )
    full, clean = render(bank, scene), render(bank, bare)
    np.testing.assert_array_equal(full.masks, clean.masks)
    assert full.amodal is not None and clean.amodal is not None
    np.testing.assert_array_equal(full.amodal, clean.amodal)
    assert (full.frames != clean.frames).any()


def test_light_multiplies_what_is_there(bank: PictureBank) -> None:
    scene = plain(bank, 0)
    lit = replace(scene, light=Light(brightness=(0.75,), warmth=(0.25,)))
    expected = np.rint(render(bank, scene).frames * (np.rint(128 * 0.75 * np.array([1.25, 1.0, 0.75])) / 128))
    np.testing.assert_array_equal(render(bank, lit).frames, expected.astype(np.uint8))


def test_objects_take_their_gains_and_nothing_else_does(bank: PictureBank) -> None:
    scene = plain(bank, 1)
    item = scene.objects[0]
    scene = replace(scene, objects=(item,))
    tinted = replace(scene, objects=(replace(item, red=0.5, blue=1.25, brightness=(0.75,)),))
    before, after = render(bank, scene), render(bank, tinted)
    inside = before.masks == item.id
    gains = np.array([0.5, 1.0, 1.25]) * 0.75
    shown = np.abs(after.frames - np.minimum(before.frames * gains, 255))[inside]
    assert np.median(shown) <= 1, "but for highlights that blue clips, and edges"
    far = ~np.logical_or.reduce([np.roll(inside, (y, x), (1, 2)) for y in (-3, 0, 3) for x in (-3, 0, 3)])
    np.testing.assert_array_equal(after.frames[far], before.frames[far])


def test_shadows_only_darken_fall_on_one_side_and_end(bank: PictureBank) -> None:
    scene = plain(bank, 2)
    item = replace(scene.objects[0], x=(0.5,), y=(0.5,), size=(0.3,))
    scene = replace(scene, objects=(item,))
    shadow = Shadow(strength=0.6, x=0.1, y=0.0, softness=0.02)
    before, after = render(bank, scene, 1), render(bank, replace(scene, shadow=shadow), 1)
    behind = before.masks[0] == 0
    change = (after.frames[0].astype(int) - before.frames[0]).sum(axis=-1)
    assert (change <= 0).all()
    assert (change[behind] < -30).sum() > 50
    _, columns = np.nonzero(behind & (change < -6))
    object_columns = np.nonzero(~behind)[1]
    assert columns.mean() > object_columns.mean() + 3
    assert columns.max() < object_columns.max() + 0.2 * 0.3 * np.hypot(*SIZE) + 3


PAST = (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3)
"""A straight way at an even pace."""


@pytest.mark.parametrize("index", [3, 4, 5])
@pytest.mark.parametrize("mover", ["object", "camera"])
def test_motion_blur_is_the_mean_of_what_moves_past_while_the_shutter_is_open(
    bank: PictureBank, mover: str, index: int
) -> None:
    """Against means of sharp pictures: no exposure that opens or closes elsewhere explains the smeared picture better.

    Elsewhere is a pixel of the way sooner or later for both, or two pixels for one: a smear's steps are whole pixels,
    so it may be a pixel longer or shorter, but its middle is exact.
    """
    scene = plain(bank, index)
    x = tuple(0.5 + at for at in PAST) if mover == "object" else (0.5,)
    item = replace(scene.objects[0], x=x, y=(0.5,), size=(0.3,), rotation=(0.0,))
    pan = PAST if mover == "camera" else (0.0,)
    camera = replace(scene.camera, x=pan, y=(0.0,), zoom=(1.0,), rotation=(0.0,))
    scene = replace(scene, objects=(item,), camera=camera)
    smeared, sharp = render(bank, replace(scene, shutter=0.2), 5), render(bank, scene, 161)
    np.testing.assert_array_equal(smeared.masks[2], sharp.masks[80])
    passed = (sharp.masks[64:97] > 0).any(axis=0) if mover == "object" else np.ones(SIZE, np.bool_)
    sums = np.concatenate([np.zeros((1, *SIZE, 3)), np.cumsum(sharp.frames, axis=0, dtype=np.float64)])

    def error(opened: int, closed: int) -> float:
        mean = (sums[closed + 1] - sums[opened]) / (closed + 1 - opened)
        return float(np.abs(smeared.frames[2] - mean)[passed].mean())

    pixel = round(32 / np.abs(smeared.object_ways[0, 2]).max())
    moves = [(x, y) for x in (-2, 0, 2) for y in (-2, 0, 2)] + [(-1, -1), (1, 1)]
    errors = {(64 + x * pixel, 96 + y * pixel): error(64 + x * pixel, 96 + y * pixel) for x, y in moves}
    assert min(errors, key=lambda moved: errors[moved]) == (64, 96)
    assert errors[64, 96] < 0.25 * error(80, 80)


def test_ways_are_those_of_the_middle_of_an_object_while_the_shutter_is_open(bank: PictureBank) -> None:
    for index in range(3, 6):
        scene = draw(bank, index)
        blurred, sharp = render(bank, replace(scene, shutter=0.2), 5), render(bank, replace(scene, shutter=0.0), 161)
        for number, item in enumerate(scene.objects):
            height, width = bank.scene_cutout(item).size
            seen = sharp.object_maps[number] @ np.array([width / 2, height / 2, 1.0])
            np.testing.assert_allclose(blurred.object_ways[number, 2], seen[96] - seen[64], atol=1e-6)


def smear_alone(picture: NDArray[np.uint8], way: tuple[float, float]) -> NDArray[np.uint8]:
    """A picture smeared along a way, of the same size: zeros lie around it."""
    steps = smear_steps(np.array([way]))
    [(x, y)], [smear] = smear_margin(steps).tolist(), list_smears(steps)
    return smeared(np.pad(picture, ((y, y), (x, x))), smear)


@given(st.floats(-40, 40), st.floats(-40, 40))
def test_a_smear_is_centred_as_long_as_asked_and_sums_to_one(x: float, y: float) -> None:
    length = np.hypot(x, y)
    dot = np.zeros((161, 161), np.uint8)
    dot[80, 80] = 255
    made = smear_alone(dot, (x, y))
    assert made.shape == dot.shape
    rows, columns = np.nonzero(made)
    if length <= 2:
        assert np.array_equal(made, dot)
    assert (rows.min() + rows.max(), columns.min() + columns.max()) == (160, 160)
    assert abs(np.hypot(np.ptp(columns), np.ptp(rows)) - length) <= 3 + length / 16
    assert int(made.sum()) == pytest.approx(255, rel=0.3), "of a single dot, rounding is much"


@given(st.floats(-9, 9), st.floats(-9, 9))
def test_a_smear_leaves_a_slope_where_it_is(x: float, y: float) -> None:
    """Any smear about the frame's own time does, and none about another; by 2 per pixel, as means are whole then."""
    slope = np.tile(2 * np.arange(121, dtype=np.uint8), (121, 1))
    inside = np.s_[20:-20, 20:-20]
    for picture in (slope, slope.T):
        np.testing.assert_array_equal(smear_alone(picture, (x, y))[inside], picture[inside])


@given(st.floats(-40, 40), st.floats(-40, 40))
def test_passes_of_a_smear_stay_on_its_way(x: float, y: float) -> None:
    """Each is half of the one before, but for rounding; ways of the same length have the same number of passes."""
    steps = smear_steps(np.array([x, y]))
    number = np.arange(1, len(steps) + 1)[:, None]
    passes = np.clip(np.ceil(np.log2(max(1.0, np.hypot(x, y)))), 0, len(steps))
    expected = np.array([x, y]) / 2.0**number * (number <= passes)
    assert np.abs(steps - expected).max() <= 1.25
    assert (steps.sum(axis=0) % 2 == 0).all()


def test_blur_shows_no_seam_where_an_object_leaves_the_frame(bank: PictureBank) -> None:
    """The same scene, seen by a frame that is cut off, is the same picture cut off."""
    scene = plain(bank, 4)
    item = replace(scene.objects[0], x=(0.05, 0.1, 0.15, 0.2, 0.25), y=(0.1,), size=(0.4,))
    scene = replace(scene, objects=(item,), shutter=0.1)
    small = render(bank, scene, 3)
    wide = replace(
        scene,
        aspect=2 * scene.aspect,
        camera=replace(scene.camera, x=(0.0,), y=(0.0,), zoom=(1.0,), rotation=(0.0,)),
        background=replace(scene.background, x=(scene.background.x + 1) / 2),
        objects=(replace(item, x=tuple((at + 1) / 2 for at in item.x)),),
    )
    still = replace(scene, camera=wide.camera)
    diagonals = np.hypot(*SIZE) / np.hypot(SIZE[0], 2 * SIZE[1])
    wide = replace(
        wide,
        background=replace(wide.background, size=wide.background.size * diagonals),
        objects=tuple(replace(one, size=tuple(at * diagonals for at in one.size)) for one in wide.objects),
    )
    small = render(bank, still, 3)
    large = Renderer(bank, (SIZE[0], 2 * SIZE[1]), 3).render(wide)
    inside = small.frames.astype(int)[:, :, 2:] - large.frames[:, :, SIZE[1] + 2 :]
    assert np.abs(inside).mean() < 0.5 and np.abs(inside).max() <= 12


def test_defocus_is_a_gaussian_of_the_sigma_asked_for(bank: PictureBank) -> None:
    for index, sigma in ((5, 1.0), (6, 2.0), (7, 4.0)):
        scene = plain(bank, index)
        item = replace(scene.objects[0], x=(0.02,), y=(0.02,), size=(0.02,))
        still = replace(scene.camera, x=(0.0,), y=(0.0,), zoom=(1.0,), rotation=(0.0,))
        scene = replace(scene, objects=(item,), camera=still)
        blurred = replace(scene, background=replace(scene.background, defocus=sigma / np.hypot(*SIZE)))
        before, after = (render(bank, one, 1).frames[0][20:-20, 20:-20].astype(float) for one in (scene, blurred))
        whole = render(bank, scene, 1).frames[0].astype(float)
        expected = gaussian_filter(whole, (sigma, sigma, 0))[20:-20, 20:-20]
        assert np.abs(after - expected).mean() < 0.3 * np.abs(before - expected).mean()


waves = st.builds(
    Wave,
    frequency_x=st.floats(-0.88, 0.88),
    frequency_y=st.floats(-0.88, 0.88),
    amplitude_x=st.floats(-0.02, 0.02),
    amplitude_y=st.floats(-0.02, 0.02),
    phase=st.tuples(*[st.floats(-2, 2)] * 5),
)


@given(st.lists(waves, min_size=1, max_size=2), st.integers(0, 4))
def test_a_bend_is_undone_exactly_and_reaches_no_farther_than_said(bent: list[Wave], t: int) -> None:
    bend = Bend(bent, frame_moments(5), (120, 200))
    points = np.random.default_rng(0).uniform(-100, 300, (200, 2))
    shown = bend.forward(points, t)
    np.testing.assert_allclose(bend.backward(shown, t), points, atol=1e-6)
    assert (np.abs(shown - points) <= bend.reach + 1e-9).all()


@given(st.lists(waves, min_size=1, max_size=2), st.integers(0, 4))
def test_the_table_of_a_bend_is_the_bend_of_every_pixel(bent: list[Wave], t: int) -> None:
    bend = Bend(bent, frame_moments(5), (120, 200))
    to_picture = np.array([[0.9, 0.4, -20.0], [-0.4, 0.9, 35.0]])
    boxes = np.array([(-5, 10, 300, 180) if number == t else (0, 0, 20, 250) for number in range(5)])
    x, y = bend.lookup(np.stack([to_picture] * 5), boxes, np.array([0.5, 0.7]), 3).at(t)
    assert x.shape == y.shape == (170, 305)
    rows, columns = np.mgrid[10:180:7, -5:300:5] + 0.5
    x, y = x[::7, ::5], y[::7, ::5]
    points = np.stack([columns.ravel(), rows.ravel()], axis=1) @ to_picture[:, :2].T + to_picture[:, 2]
    expected = bend.forward(points, t) * [0.5, 0.7] + 3 - 0.5
    np.testing.assert_allclose(np.stack([x.ravel(), y.ravel()], axis=1), expected, atol=2e-4)


def test_drawn_bends_never_fold(bank: PictureBank) -> None:
    for index in range(12):
        for item in draw(bank, index, ["scene.deformation=0.06"]).objects:
            slope = sum(
                2 * np.pi * np.hypot(w.frequency_x, w.frequency_y) * np.hypot(w.amplitude_x, w.amplitude_y)
                for w in item.waves
            )
            assert 0 < slope < 0.5


def test_objects_enter_leave_and_come_back(bank: PictureBank) -> None:
    expected = {"enter": (False, True), "leave": (True, False), "come_back": (True, True)}
    for key, (first, last) in expected.items():
        moved = 0
        others = [f"scene.{other}=0" for other in expected if other != key]
        for index in range(5):
            scene = draw(bank, index, [*others, f"scene.{key}=1", "scene.area=0.01,0.05", "scene.in_frame=0.9"])
            stay = draw(bank, index, [*others, f"scene.{key}=0", "scene.area=0.01,0.05", "scene.in_frame=0.9"])
            video = render(bank, scene, 17)
            assert video.amodal is not None
            assert video.masks[0].any(), "the first frame shows an object"
            states = make_truth(["visibility"], scene, video).values
            for number, (one, other) in enumerate(zip(scene.objects, stay.objects, strict=True)):
                if one.x == other.x:
                    continue
                moved += 1
                present = video.amodal[:, number].any(axis=(1, 2))
                assert (present[0], present[-1]) == (first, last)
                assert not present.all()
                assert any(states["returned"][number]) == (key == "come_back")
        assert moved > 3


def test_exact_truth_tells_of_roles_light_and_quality(bank: PictureBank) -> None:
    scene = draw(bank, 7, ["scene.distractor=1", "objects_per_video=3,3", "scene.shadow=1", "scene.defocus=1"])
    video = render(bank, scene)
    values = make_truth(["role", "light", "quality", "blur"], scene, video, best_quality=90).values
    assert sorted(values["role"]) == ["distractor", "distractor", "target"]
    assert values["jpeg_quality"] == 90 - scene.quality_loss
    assert np.shape(values["light"]) == (FRAMES, 3) and np.shape(values["brightness"]) == (3, FRAMES)
    assert np.shape(values["object_ways"]) == (3, FRAMES, 2)
    assert values["shadow"] == scene.shadow.strength > 0
    assert values["background_defocus"] == scene.background.defocus * np.hypot(*SIZE) > 0
    with pytest.raises(ValueError, match="best_quality"):
        make_truth(["quality"], scene, video)


def test_quality_loss_never_reaches_below_one() -> None:
    scene = compose_scene(make_config({}), 0, 0, PictureBank(BuiltinObjects(), BuiltinBackgrounds()))
    assert [replace(scene, quality_loss=loss).jpeg_quality(60) for loss in (0, 25, 60, 99)] == [60, 35, 1, 1]
