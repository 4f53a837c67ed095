"""Laws of exact truth on random scenes: it agrees with the pixels, with the geometry, and with itself."""

import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates

from shards.build import build_shard_set
from shards.errors import BadFileError
from shards.reader import ShardSet
from shards.verify import verify
from synth.bank import PictureBank
from synth.builtin import BuiltinBackgrounds, BuiltinObjects
from synth.compose import compose_scene
from synth.config import make_config
from synth.generate import SynthPlan
from synth.presets import PresetName
from synth.render import RenderedVideo, Renderer
from synth.scene import Scene, SceneObject
from synth.truth import (
    TRUTH_KINDS,
    decode_amodal,
    decode_flow,
    encode_amodal,
    encode_flow,
    flow_between,
    flow_steps_per_pixel,
    make_truth,
)

SIZE = (96, 160)
FRAMES = 5
scene_numbers = st.tuples(st.sampled_from(["paper", "rich", "hard"]), st.integers(0, 2**40))
laws = settings(max_examples=25)


@cache
def bank() -> PictureBank:
    return PictureBank(BuiltinObjects(), BuiltinBackgrounds())


def rendered(which: tuple[PresetName, int], num_frames: int = FRAMES) -> tuple[Scene, RenderedVideo]:
    preset, index = which
    scene = compose_scene(make_config({"size": SIZE}, preset=preset), 5, index, bank())
    return scene, Renderer(bank(), SIZE, num_frames).render(scene, amodal=True)


@laws
@given(scene_numbers)
def test_visible_and_hidden_are_the_amodal_mask_exactly(which: tuple[PresetName, int]) -> None:
    scene, video = rendered(which)
    assert video.amodal is not None
    for number, item in enumerate(scene.objects):
        visible, amodal = video.masks == item.id, video.amodal[:, number]
        nearer = np.zeros_like(amodal)
        for t in range(FRAMES):
            order = video.order[t].tolist()
            for other in order[: order.index(number)]:
                nearer[t] |= video.amodal[t, other]
        hidden = amodal & nearer
        np.testing.assert_array_equal(visible | hidden, amodal)
        assert not (visible & hidden).any()


@laws
@given(scene_numbers)
def test_each_pixel_is_the_nearest_objects_that_covers_it(which: tuple[PresetName, int]) -> None:
    scene, video = rendered(which)
    assert video.amodal is not None
    order = make_truth(["order"], scene, video).values["order"]
    for t in range(FRAMES):
        assert sorted(order[t]) == [item.id for item in scene.objects]
        expected = np.zeros(SIZE, np.uint8)
        for object_id in reversed(order[t]):
            expected[video.amodal[t, object_id - 1]] = object_id
        np.testing.assert_array_equal(video.masks[t], expected)


@laws
@given(scene_numbers)
def test_amodal_masks_are_those_of_each_object_alone(which: tuple[PresetName, int]) -> None:
    scene, video = rendered(which)
    assert video.amodal is not None
    renderer = Renderer(bank(), SIZE, FRAMES)
    for number, item in enumerate(scene.objects):
        alone = renderer.render(replace(scene, objects=(item,))).masks
        np.testing.assert_array_equal(video.amodal[:, number], alone == item.id)


@laws
@given(scene_numbers)
def test_visibility_is_counted_in_pixels(which: tuple[PresetName, int]) -> None:
    scene, video = rendered(which)
    assert video.amodal is not None
    values = make_truth(["visibility"], scene, video).values
    for number, item in enumerate(scene.objects):
        for t in range(FRAMES):
            visible, whole = int((video.masks[t] == item.id).sum()), int(video.amodal[t, number].sum())
            assert values["visible_pixels"][number][t] == visible
            assert values["amodal_pixels"][number][t] == whole
            assert values["visible_fraction"][number][t] == (visible / whole if whole else 0.0)
            assert (values["state"][number][t] == "absent") == (whole == 0)
            assert values["in_frame"][number][t] <= 1


def affine(scene: Scene, item: SceneObject | None, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Picture to frame, ``(T, 3, 3)`` in pixels, written out with SciPy's splines from the scene's definition."""

    def curve(values: tuple[float, ...]) -> NDArray[np.float64]:
        if len(values) == 1:
            return np.full(len(times), values[0])
        intervals = len(values) - 3
        found: NDArray[np.float64] = BSpline(np.arange(-3, intervals + 4) / intervals, values, 3)(times)
        return found

    def moves(x: Any, y: Any) -> NDArray[np.float64]:
        maps = np.tile(np.eye(3), (len(times), 1, 1))
        maps[:, 0, 2], maps[:, 1, 2] = x, y
        return maps

    def turns(degrees: Any, scale: Any) -> NDArray[np.float64]:
        angle = np.deg2rad(degrees)
        maps = np.tile(np.eye(3), (len(times), 1, 1))
        maps[:, 0, 0] = maps[:, 1, 1] = scale * np.cos(angle)
        maps[:, 0, 1], maps[:, 1, 0] = scale * np.sin(angle), -scale * np.sin(angle)
        return maps

    height, width = SIZE
    placed = scene.background if item is None else item
    picture = bank().backdrop(placed.number) if item is None else bank().cutout(placed.number)
    diagonal = np.hypot(*SIZE) / np.hypot(*picture.size)
    side = np.diag([-1.0 if placed.mirrored else 1.0, 1.0, 1.0])
    centred = side @ moves(-picture.size[1] / 2, -picture.size[0] / 2)
    if item is None:
        world = moves(scene.background.x * width, scene.background.y * height)
        world = world @ turns(0.0, scene.background.size * diagonal) @ centred
    else:
        world = moves(curve(item.x) * width, curve(item.y) * height)
        world = world @ turns(curve(item.rotation), curve(item.size) * diagonal) @ centred
    camera = scene.camera
    view = moves(-width / 2 - curve(camera.x) * width, -height / 2 - curve(camera.y) * height)
    view = moves(width / 2, height / 2) @ turns(-curve(camera.rotation), curve(camera.zoom)) @ view
    return view @ world


def swing(item: SceneObject | None, time: float, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far waves push the points ``(2, P)`` of an object's picture, written out from the scene's definition."""
    pushed = np.zeros_like(points)
    if item is None:
        return pushed
    height, width = bank().cutout(item.number).size
    diagonal = np.hypot(height, width)
    for wave in item.waves:
        if wave.amplitude_x == wave.amplitude_y == 0:
            continue
        phase = BSpline(np.arange(-3, len(wave.phase) + 1) / (len(wave.phase) - 3), wave.phase, 3)(time)
        from_middle = (points - np.array([[width / 2], [height / 2]])) / diagonal
        cycles = wave.frequency_x * from_middle[0] + wave.frequency_y * from_middle[1] + phase
        pushed += diagonal * np.outer([wave.amplitude_x, wave.amplitude_y], np.sin(2 * np.pi * cycles))
    return pushed


def shown(scene: Scene, item: SceneObject | None, time: float, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Which points of the picture the points ``(2, P)`` of the frame show."""
    back = np.linalg.inv(affine(scene, item, np.array([time]))[0])
    at = back[:2, :2] @ points + back[:2, 2:]
    return at + swing(item, time, at)


def placed(scene: Scene, item: SceneObject | None, time: float, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Which points of the frame show the points ``(2, P)`` of the picture, by halving the error until it is gone."""
    at = points
    for _ in range(60):
        at = points - swing(item, time, at)
    forth = affine(scene, item, np.array([time]))[0]
    return forth[:2, :2] @ at + forth[:2, 2:]


@laws
@given(scene_numbers)
def test_the_share_in_the_frame_is_that_of_the_solid_pixels(which: tuple[PresetName, int]) -> None:
    """Every one bent and moved by itself; those within a hundred-thousandth of a pixel of a border may lie on either
    side."""
    scene, video = rendered(which)
    shares = make_truth(["visibility"], scene, video).values["in_frame"]
    for number, item in enumerate(scene.objects):
        rows, columns = np.nonzero(video.sprites[number].pixels[..., 3] >= 128)
        for t, time in enumerate(np.linspace(0, 1, FRAMES)):
            x, y = placed(scene, item, time, np.stack([columns, rows]) + 0.5)
            beside = np.minimum.reduce([x, SIZE[1] - x, y, SIZE[0] - y])  # from the nearest border, inside or out
            low, high = (beside > 1e-5).mean(), (beside > -1e-5).mean()
            assert low - 1e-12 <= shares[number][t] <= high + 1e-12


def pixels_of(mask: NDArray[np.uint8], item: SceneObject | None) -> tuple[Any, Any, NDArray[np.float64]]:
    """Rows, columns and centres ``(2, P)`` of what an object, or the background, owns."""
    rows, columns = np.nonzero(mask == (0 if item is None else item.id))
    return rows, columns, np.stack([columns, rows]) + 0.5


@laws
@given(scene_numbers)
def test_stored_flow_carries_points_of_the_geometry_to_where_they_go(which: tuple[PresetName, int]) -> None:
    """Within 0.05 px, forwards and backwards, in every pixel, bent objects included."""
    scene, video = rendered(which)
    truth = make_truth(["flow"], scene, video)
    steps = truth.values["flow_steps_per_pixel"]
    times = np.linspace(0, 1, FRAMES)
    for t, files in enumerate(truth.extras):
        assert set(files) == {*(["fwdflow.png"] if t < FRAMES - 1 else []), *(["bwdflow.png"] if t else [])}
        for name, other in (("fwdflow.png", t + 1), ("bwdflow.png", t - 1)):
            if name not in files:
                continue
            flow = decode_flow(files[name], steps)
            for item in (None, *scene.objects):
                rows, columns, here = pixels_of(video.masks[t], item)
                there = placed(scene, item, times[other], shown(scene, item, times[t], here))
                landed = here + flow[rows, columns].T
                assert np.abs(landed - there).max(initial=0) <= 0.05


@laws
@given(scene_numbers)
def test_forward_and_backward_flow_invert_where_visible(which: tuple[PresetName, int]) -> None:
    """Exactly where nothing is bent; else within 0.05 px, since flow between pixels is interpolated here."""
    scene, video = rendered(which)
    bent = [item.id for item in scene.objects if any(wave.amplitude_x or wave.amplitude_y for wave in item.waves)]
    checked = 0
    for t in range(FRAMES - 1):
        forward, backward = flow_between(scene, video, t, t + 1), flow_between(scene, video, t + 1, t)
        rows, columns = np.indices(SIZE)
        x, y = columns + forward[..., 0], rows + forward[..., 1]
        x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
        seen = (x0 >= 0) & (y0 >= 0) & (x0 < SIZE[1] - 1) & (y0 < SIZE[0] - 1)
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            corner = video.masks[t + 1][np.where(seen, y0 + dy, 0), np.where(seen, x0 + dx, 0)]
            seen &= corner == video.masks[t]
        for among, tolerance in ((seen & ~np.isin(video.masks[t], bent), 1e-6), (seen, 0.05)):
            back = [map_coordinates(backward[..., axis], [y[among], x[among]], order=1) for axis in (0, 1)]
            np.testing.assert_allclose(back, -np.moveaxis(forward, -1, 0)[:, among], atol=tolerance)
        checked += int(seen.sum())
    assert checked > 0


@settings(max_examples=6)
@given(scene_numbers)
def test_flow_over_a_short_time_is_the_numerical_derivative_of_the_paths(which: tuple[PresetName, int]) -> None:
    num_frames, t, step = 201, 70, 1e-5
    scene, video = rendered(which, num_frames)
    velocity = flow_between(scene, video, t, t + 1) * (num_frames - 1)
    time = t / (num_frames - 1)
    between = time + 0.5 / (num_frames - 1)
    for item in (None, *scene.objects):
        rows, columns, here = pixels_of(video.masks[t], item)
        points = shown(scene, item, time, here)
        moved = [placed(scene, item, between + side * step, points) for side in (-1, 1)]
        np.testing.assert_allclose(velocity[rows, columns].T, (moved[1] - moved[0]) / (2 * step), atol=0.05, rtol=1e-3)


@pytest.mark.parametrize("preset", ["paper", "rich", "hard"])
def test_the_next_frame_warped_by_the_flow_is_this_frame_where_nothing_hides_it(preset: PresetName) -> None:
    warped_error, still_error = [], []
    for index in range(6):
        scene, video = rendered((preset, index), 8)
        rows, columns = np.indices(SIZE)
        for t in range(7):
            flow = flow_between(scene, video, t, t + 1)
            x, y = (columns + flow[..., 0]).astype(np.float32), (rows + flow[..., 1]).astype(np.float32)
            frame = cv2.remap(video.frames[t + 1], x, y, cv2.INTER_LINEAR).astype(float)
            owner = cv2.remap(video.masks[t + 1], x, y, cv2.INTER_NEAREST)
            inside = (x >= 1) & (y >= 1) & (x < SIZE[1] - 2) & (y < SIZE[0] - 2)
            plain = cv2.erode(video.masks[t], np.ones((5, 5))) == cv2.dilate(video.masks[t], np.ones((5, 5)))
            seen = inside & plain & (owner == video.masks[t]) & (video.masks[t] > 0)
            if not seen.any():
                continue
            warped_error.append(np.abs(frame - video.frames[t])[seen].mean())
            still_error.append(np.abs(video.frames[t + 1].astype(float) - video.frames[t])[seen].mean())
    assert len(warped_error) > 10
    assert np.mean(warped_error) < 0.4 * np.mean(still_error)


@given(st.integers(1, 6), st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_amodal_masks_survive_their_png(num_objects: int, height: int, width: int, seed: int) -> None:
    masks = np.random.default_rng(seed).random((num_objects, height, width)) < 0.5
    data = encode_amodal(masks)
    np.testing.assert_array_equal(decode_amodal(data, num_objects), masks)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "1"
        np.testing.assert_array_equal(np.asarray(picture).reshape(num_objects, height, width), masks)


@given(st.sampled_from([64, 32, 16]), st.integers(0, 2**32 - 1))
def test_flow_survives_its_png_within_half_a_step(steps: int, seed: int) -> None:
    farthest = 32767 / steps
    flow = np.random.default_rng(seed).uniform(-farthest, farthest, (4, 7, 2))
    data = encode_flow(flow, steps)
    assert np.abs(decode_flow(data, steps) - flow).max() <= 0.5 / steps + 1e-4
    with Image.open(io.BytesIO(data)) as picture:
        planes = np.asarray(picture).astype(float).reshape(2, 4, 7)
    np.testing.assert_allclose((planes - 32768) / steps, np.moveaxis(decode_flow(data, steps), -1, 0), rtol=1e-6)


def test_flow_beyond_its_range_is_not_known() -> None:
    flow = np.zeros((2, 3, 2))
    flow[0, 1, 0], flow[1, 2, 1] = 600.0, np.nan
    stored = decode_flow(encode_flow(flow, 64), 64)
    assert np.isnan(stored).all(axis=-1).tolist() == [[False, True, False], [False, False, True]]


@pytest.mark.parametrize(("side", "steps"), [(511, 64), (512, 32), (1023, 32), (1024, 16), (8192, 16)])
def test_steps_follow_the_frames_size(side: int, steps: int) -> None:
    assert flow_steps_per_pixel((16, side)) == flow_steps_per_pixel((side, 16)) == steps
    assert 0.5 / steps <= 1 / 32


@pytest.mark.parametrize("data", [b"", b"no picture", encode_amodal(np.ones((1, 3, 3), np.bool_))])
def test_what_is_no_flow_is_refused(data: bytes) -> None:
    with pytest.raises(BadFileError):
        decode_flow(data, 64)


def test_masks_of_another_number_of_objects_are_refused() -> None:
    with pytest.raises(BadFileError, match="2 objects"):
        decode_amodal(encode_amodal(np.ones((1, 3, 3), np.bool_)), 2)


def crossing(x: tuple[float, ...]) -> dict[str, Any]:
    """Visibility of one object that moves along x through an upright frame under a still camera."""
    scene = compose_scene(make_config({"size": SIZE, "objects_per_video": (1, 1)}, preset="paper"), 5, 0, bank())
    item = replace(scene.objects[0], x=x, y=(0.5,), size=(0.2,))
    scene = replace(scene, objects=(item,))
    video = Renderer(bank(), SIZE, 21).render(scene, amodal=True)
    return {key: value[0] for key, value in make_truth(["visibility"], scene, video).values.items()}


def test_an_object_enters_is_inside_and_leaves() -> None:
    values = crossing((-0.8, -0.4, 0.0, 0.4, 0.8, 1.2, 1.6, 2.0))
    states = [state for at, state in enumerate(values["state"]) if at == 0 or state != values["state"][at - 1]]
    assert states == ["absent", "entering", "inside", "leaving", "absent"]
    assert not any(values["returned"])


def test_an_object_that_was_away_has_returned() -> None:
    values = crossing((0.5, 0.5, 0.5, 2.0, 2.0, 0.5, 0.5, 0.5))
    assert values["state"][0] == values["state"][-1] == "inside" and "absent" in values["state"]
    back = 21 - values["state"][::-1].index("absent")
    assert values["returned"] == [t >= back for t in range(21)]
    assert values["in_frame"][values["state"].index("absent") + 1] < 0.5


def test_truth_needs_amodal_masks() -> None:
    scene, _ = rendered(("paper", 0))
    with pytest.raises(ValueError, match="amodal=True"):
        make_truth(["order"], scene, Renderer(bank(), SIZE, 2).render(scene))


def test_the_camera_is_where_the_resting_view_goes() -> None:
    scene, video = rendered(("hard", 1))
    maps = np.array(make_truth(["camera"], scene, video).values["camera"])
    to_world = np.linalg.inv(np.concatenate([maps, np.tile([[[0, 0, 1]]], (FRAMES, 1, 1))], axis=1))
    background = to_world @ affine(scene, None, np.linspace(0, 1, FRAMES))
    np.testing.assert_allclose(background, np.tile(background[:1], (FRAMES, 1, 1)), atol=1e-6)


@pytest.fixture(scope="module")
def plan() -> SynthPlan:
    config = make_config({"num_frames": 3, "size": (48, 80)})
    return SynthPlan(config, BuiltinObjects(), BuiltinBackgrounds(), 8, truth=TRUTH_KINDS)


def test_shards_with_truth_are_clean_and_hold_it(plan: SynthPlan, tmp_path: Path) -> None:
    build_shard_set(plan, tmp_path / "set")
    assert verify(tmp_path / "set").problems == ()
    shards = ShardSet(tmp_path / "set")
    shapes = set()
    for number in range(len(shards)):
        entry, stored = shards.entry(number), shards.record_json(number)
        assert entry.extra_names == ("amodal.png", "bwdflow.png", "fwdflow.png")
        shapes.add((tuple(stored["truth"]), tuple((entry.extra_sizes > 0).ravel().tolist())))
        scene = Scene.from_json(stored["scene"])
        video = Renderer(bank(), (48, 80), 3).render(scene, amodal=True)
        for t in range(3):
            data = shards.extra_bytes(number, t, "amodal.png")
            assert data is not None and video.amodal is not None
            np.testing.assert_array_equal(decode_amodal(data, len(scene.objects)), video.amodal[t])
        assert shards.extra_bytes(number, 2, "fwdflow.png") is None
        origins = bank().scene_origins(scene)
        expected = make_truth(TRUTH_KINDS, scene, video, best_quality=95, origins=origins).values
        assert stored["truth"] == json.loads(json.dumps(expected))
    assert len(shapes) == 1, "every record has the same keys and members"


def test_truth_is_part_of_the_configuration_and_changes_no_pixel(plan: SynthPlan) -> None:
    plain = SynthPlan(plan.config, plan.objects, plan.backgrounds, 8)
    assert plan.configuration() == {**plain.configuration(), "truth": list(TRUTH_KINDS)}
    (record,), (with_truth,) = plain.records(2), plan.records(2)
    assert [frame.image for frame in record.frames] == [frame.image for frame in with_truth.frames]
    assert "truth" not in record.extra
    assert not any(frame.extras for frame in record.frames)
