"""Pixels and masks agree with each other, with an independent renderer, and over sizes and lengths."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates

from shards.errors import SourceError
from synth.bank import LEVEL_STEP, PictureBank, level_for, make_sprite
from synth.builtin import BuiltinBackgrounds, BuiltinObjects
from synth.compose import compose_scene
from synth.config import SynthConfig, make_config
from synth.geometry import camera_maps, compose, invert, object_maps
from synth.motion import frame_moments
from synth.render import Renderer, render_scene
from synth.scene import Camera, Scene, SceneBackground, SceneObject
from synth.types import Background, Cutout, Problem

Image = NDArray[np.uint8]

COLOURS = np.array([[230, 25, 75], [60, 180, 75], [255, 225, 25], [0, 130, 200], [245, 130, 48], [145, 30, 180]])
GROUND = (20, 20, 20)
SIZE = (90, 160)
PLAIN = [
    "scene.enter=0",
    "scene.leave=0",
    "scene.come_back=0",
    "scene.deformation=0",
    "scene.light=1",
    "scene.warmth=0",
    "scene.colour_jitter=0",
    "scene.flicker=0",
    "scene.shutter=0",
    "scene.shadow=0",
    "scene.defocus=0",
]


class FlatShapes:
    """Ellipses and boxes, each of one colour; transparent pixels hold another colour, which must never show."""

    name = "shapes"
    licence = ""
    problems: Sequence[Problem] = ()
    num_left_out = 0

    def __init__(self, order: Sequence[int] = range(6)) -> None:
        self.order = order

    @property
    def labels(self) -> Sequence[str]:
        return [f"shape{number}" for number in self.order]

    def __len__(self) -> int:
        return len(self.order)

    def load(self, index: int) -> Cutout:
        number = self.order[index]
        height, width = 60 + 8 * number, 90 - 6 * number
        rgba = np.full((height, width, 4), (0, 255, 255, 0), np.uint8)
        alpha = np.zeros((height, width), np.uint8)
        if number % 2:
            alpha[3:-3, 3:-3] = 255
        else:
            middle = width // 2, height // 2
            cv2.ellipse(alpha, middle, (middle[0] - 3, middle[1] - 3), 0, 0, 360, 255, -1, cv2.LINE_AA)
        rgba[alpha > 0, :3] = COLOURS[number]
        rgba[..., 3] = alpha
        return Cutout(rgba, f"shape{number}")

    def fingerprint(self) -> str:
        return "shapes"


class Ground:
    """One background of one colour."""

    name = "ground"
    licence = ""
    problems: Sequence[Problem] = ()
    num_left_out = 0
    labels: Sequence[str] = ("ground",)

    def __len__(self) -> int:
        return 1

    def load(self, index: int) -> Background:
        return Background(np.full((100, 140, 3), GROUND, np.uint8), "ground")

    def fingerprint(self) -> str:
        return "ground"


def draw(index: int, config: SynthConfig | None = None) -> Scene:
    return compose_scene(config or make_config({}, PLAIN), 11, index, PictureBank(FlatShapes(), Ground()))


def simple_object(object_id: int, number: int, depth: tuple[float, ...], x: float = 0.5) -> SceneObject:
    name = FlatShapes().labels[number]
    return SceneObject(object_id, "shapes", name, number, False, (x,), (0.5,), (0.5,), (0.0,), depth)


def simple_scene(*objects: SceneObject) -> Scene:
    still = Camera((0.0,), (0.0,), (1.0,), (0.0,))
    background = SceneBackground("ground", "ground", 0, False, 0.5, 0.5, 1.2)
    return Scene(0, 0, SIZE[1] / SIZE[0], still, background, objects)


def reference_alpha(scene: Scene, number: int, size: tuple[int, int], num_frames: int) -> NDArray[np.float64]:
    """Alpha of one object in every frame by SciPy: ``(T, H, W)``, looked up through the inverse map."""
    item = scene.objects[number]
    alpha = FlatShapes().load(item.number).rgba[..., 3] / 255
    moments = frame_moments(num_frames)
    maps = compose(camera_maps(scene.camera, moments, size), object_maps(item, moments, alpha.shape, size))
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    diagonal = np.hypot(*alpha.shape)
    frames = []
    for t, back in enumerate(invert(maps)):
        u = back[0, 0] * x + back[0, 1] * y + back[0, 2]
        v = back[1, 0] * x + back[1, 1] * y + back[1, 2]
        from_x, from_y = u - 0.5, v - 0.5
        for wave in item.waves:
            along = wave.frequency_x * (u - alpha.shape[1] / 2) + wave.frequency_y * (v - alpha.shape[0] / 2)
            swing = diagonal * np.sin(2 * np.pi * (along / diagonal + moments.values(wave.phase)[t]))
            from_x, from_y = from_x + wave.amplitude_x * swing, from_y + wave.amplitude_y * swing
        frames.append(map_coordinates(alpha, [from_y, from_x], order=1, mode="constant"))
    return np.array(frames)


@pytest.mark.parametrize("deformation", [0, 0.06])
def test_frames_and_masks_agree_with_an_independent_renderer(deformation: float) -> None:
    """At a size where no cutout is shrunk: colours within rounding, ownership equal but at alphas of one half."""
    keys = [*PLAIN, "scene.area=0.12,0.3", "scene.max_extent=2", f"scene.deformation={deformation}"]
    config = make_config({"size": (180, 320)}, keys)
    compared = 0
    for index in range(6):
        scene = draw(index, config)
        size = (180, 320)
        video = render_scene(scene, FlatShapes(), Ground(), size, 3)
        colours = np.full((3, *size, 3), GROUND, np.float64)
        owner = np.zeros((3, *size), np.int64)
        undecided = np.zeros((3, *size), bool)
        if any(level_of(item, size, scene) for item in scene.objects):
            continue
        compared += 1
        for number in sorted(range(len(scene.objects)), key=lambda number: -scene.objects[number].depth[0]):
            alpha = reference_alpha(scene, number, size, 3)
            item = scene.objects[number]
            colours = alpha[..., None] * COLOURS[item.number] + (1 - alpha[..., None]) * colours
            owner[alpha >= 0.5] = item.id
            undecided |= np.abs(alpha - 0.5) < 0.02
        assert np.abs(video.frames - colours).max() <= 6, "warping rounds positions to 1/32 pixel and alpha to 1/255"
        assert np.abs(video.frames - colours).mean() < 0.2
        assert (video.masks == owner)[~undecided].all()
        assert undecided.mean() < 0.01
    assert compared >= 2


def level_of(item: SceneObject, size: tuple[int, int], scene: Scene) -> int:
    rgba = FlatShapes().load(item.number).rgba
    scale = max(item.size) * max(scene.camera.zoom) * np.hypot(*size) / np.hypot(*rgba.shape[:2])
    return level_for(float(scale))


def test_ownership_is_told_by_flat_colours_exactly() -> None:
    """A pixel that shows an object's colour unmixed is that object's, and nearly all of its pixels do."""
    for index in range(20):
        scene = draw(index)
        video = render_scene(scene, FlatShapes(), Ground(), SIZE, 5)
        pure = {item.id: (video.frames == COLOURS[item.number]).all(axis=-1) for item in scene.objects}
        pure[0] = (video.frames == GROUND).all(axis=-1)
        for object_id, shown in pure.items():
            assert (video.masks[shown] == object_id).all()
        mixed = ~np.any(list(pure.values()), axis=0)
        edges = np.zeros_like(mixed)
        for mask, edge in zip(video.masks, edges, strict=True):
            edge[:] = cv2.dilate(mask, np.ones((5, 5), np.uint8)) != cv2.erode(mask, np.ones((5, 5), np.uint8))
        within = np.s_[:, 2:-2, 2:-2]  # an edge may run just outside the frame
        assert not (mixed & ~edges)[within].any(), "colours mix only along edges"


def test_masks_hold_the_scenes_ids_in_every_frame() -> None:
    for index in range(10):
        scene = draw(index)
        masks = render_scene(scene, FlatShapes(), Ground(), SIZE, 4).masks
        assert set(np.unique(masks[0])) == {0, *(item.id for item in scene.objects)}
        assert set(np.unique(masks)) == set(np.unique(masks[0]))


def test_nearer_objects_hide_farther_ones() -> None:
    near, far = simple_object(1, 1, (0.0,)), simple_object(2, 3, (1.0,))
    masks = render_scene(simple_scene(near, far), FlatShapes(), Ground(), SIZE, 1).masks
    assert masks[0, 45, 80] == 1
    swapped = simple_scene(replace(near, depth=(2.0,)), far)
    assert render_scene(swapped, FlatShapes(), Ground(), SIZE, 1).masks[0, 45, 80] == 2
    tied = simple_scene(replace(near, depth=(1.0,)), far)
    assert render_scene(tied, FlatShapes(), Ground(), SIZE, 1).masks[0, 45, 80] == 1


def test_the_order_may_change_over_time() -> None:
    passing = simple_object(2, 3, (1.0, 1.0, 1.0, -1.0, -1.0, -1.0))
    masks = render_scene(simple_scene(simple_object(1, 1, (0.0,)), passing), FlatShapes(), Ground(), SIZE, 3).masks
    assert (masks[0, 45, 80], masks[2, 45, 80]) == (1, 2)


def test_no_halo_of_transparent_pixels_colour() -> None:
    """A cutout of the background's colour vanishes, although its transparent pixels are bright."""

    class Camouflage(FlatShapes):
        def load(self, index: int) -> Cutout:
            cutout = super().load(index)
            cutout.rgba[cutout.rgba[..., 3] > 0, :3] = GROUND
            return cutout

    for index in range(10):
        frames = render_scene(draw(index), Camouflage(), Ground(), SIZE, 4).frames
        assert np.abs(frames.astype(int) - GROUND).max() <= 3, "rounding of up to five layers"


@pytest.mark.parametrize("x", [-5.0, -0.02, 1.02, 7.0])
def test_objects_at_or_beyond_the_border_are_cut_off(x: float) -> None:
    masks = render_scene(simple_scene(simple_object(1, 1, (0.0,), x)), FlatShapes(), Ground(), SIZE, 2).masks
    columns = np.flatnonzero(masks.any(axis=(0, 1)))
    if abs(x) > 2:
        assert len(columns) == 0
    else:
        assert len(columns) > 0
        assert (columns[0] == 0) if x < 0.5 else (columns[-1] == SIZE[1] - 1)


def test_a_mirrored_object_is_mirrored() -> None:
    class Wedge(FlatShapes):
        def load(self, index: int) -> Cutout:
            cutout = super().load(index)
            cutout.rgba[:, : cutout.rgba.shape[1] // 2, 3] = 0
            return cutout

    item = simple_object(1, 1, (0.0,))
    plain, mirrored = (
        render_scene(simple_scene(replace(item, mirrored=side)), Wedge(), Ground(), SIZE, 1).masks[0]
        for side in (False, True)
    )
    assert plain.any()
    np.testing.assert_array_equal(plain, mirrored[:, ::-1])


def test_rotation_is_counter_clockwise_on_screen() -> None:
    class Hand(FlatShapes):
        """Points to the right."""

        def load(self, index: int) -> Cutout:
            cutout = super().load(index)
            height, width = cutout.rgba.shape[:2]
            cutout.rgba[..., 3] = 0
            cutout.rgba[height // 2 - 5 : height // 2 + 5, width // 2 : -3, 3] = 255
            return cutout

    item = replace(simple_object(1, 1, (0.0,)), rotation=(90.0,))
    mask = render_scene(simple_scene(item), Hand(), Ground(), SIZE, 1).masks[0]
    rows, columns = np.nonzero(mask)
    assert rows.mean() < 45 - 5
    assert columns.mean() + 0.5 == pytest.approx(80, abs=1)


def test_a_scene_looks_the_same_at_double_size() -> None:
    """Away from edges (1.5 pixels of the small frame), masks are equal."""
    for index in range(12):
        scene = draw(index)
        small = render_scene(scene, FlatShapes(), Ground(), SIZE, 3).masks
        large = render_scene(scene, FlatShapes(), Ground(), (SIZE[0] * 2, SIZE[1] * 2), 3).masks
        for few, many in zip(small, large[:, ::2, ::2], strict=True):
            inside = np.ones_like(few, bool)
            for object_id in np.unique(few):
                own = np.pad(few == object_id, 1)  # an edge may run just outside the frame
                inside &= ~own[1:-1, 1:-1] | (distance_transform_edt(own)[1:-1, 1:-1] > 1.5)
            assert (few == many)[inside].all()
            assert inside.mean() > 0.6


def test_frames_at_the_same_time_are_identical_at_any_length() -> None:
    scene = draw(3)
    short = render_scene(scene, FlatShapes(), Ground(), SIZE, 3)
    long = render_scene(scene, FlatShapes(), Ground(), SIZE, 9)
    np.testing.assert_array_equal(short.frames, long.frames[::4])
    np.testing.assert_array_equal(short.masks, long.masks[::4])


def test_a_renderer_forgets_the_scene_before() -> None:
    renderer = Renderer(PictureBank(FlatShapes(), Ground()), SIZE, 3)
    first = renderer.render(draw(0))
    renderer.render(draw(1))
    again = renderer.render(draw(0))
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.masks, again.masks)


def test_pictures_are_found_by_name_when_the_source_is_ordered_otherwise() -> None:
    scene = draw(2)
    expected = render_scene(scene, FlatShapes(), Ground(), SIZE, 2)
    found = render_scene(scene, FlatShapes(order=[5, 4, 3, 2, 1, 0]), Ground(), SIZE, 2)
    np.testing.assert_array_equal(found.frames, expected.frames)


def test_a_picture_that_is_not_there_is_named() -> None:
    scene = simple_scene(simple_object(1, 4, (0.0,)))
    with pytest.raises(SourceError, match="shapes: a scene names shape4"):
        render_scene(scene, FlatShapes(order=[0, 1]), Ground(), SIZE, 2)


@pytest.mark.parametrize("scale", [3.0, 1.0, 0.9, 0.5, 0.26, 0.01])
def test_a_level_is_never_smaller_than_drawn_nor_much_larger(scale: float) -> None:
    left = scale / LEVEL_STEP ** level_for(scale)
    assert left >= 1 if scale >= 1 else LEVEL_STEP < left <= 1 + 1e-6


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.zeros((64, 64, 4), np.uint8)
    stripes[:, ::2, :3] = 255
    stripes[..., 3] = 255
    small = make_sprite("stripes", stripes).level(4)
    assert small.shape[:2] == (16, 16)
    assert np.abs(small[..., :3].astype(int) - 128).max() <= 1


def test_scenes_that_are_placed_together_are_drawn_as_each_alone() -> None:
    bank = PictureBank(BuiltinObjects(), BuiltinBackgrounds())
    renderer = Renderer(bank, SIZE, 5)
    scenes = [compose_scene(make_config({"size": SIZE}, (), "hard"), 0, index, bank) for index in range(7)]
    for scene, placed in zip(scenes, renderer.place(scenes), strict=True):
        together, alone = renderer.draw(placed), renderer.render(scene)
        np.testing.assert_array_equal(together.frames, alone.frames)
        np.testing.assert_array_equal(together.masks, alone.masks)
        np.testing.assert_array_equal(together.object_maps, alone.object_maps)
        np.testing.assert_array_equal(together.background_ways, alone.background_ways)
