"""The renderer for devices draws what the other renderer draws; here on CPU tensors."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shards.errors import SourceError
from synth import render_torch
from synth.bank import PictureBank
from synth.builtin import BuiltinBackgrounds, BuiltinObjects
from synth.compose import compose_scene
from synth.config import make_config
from synth.pipelines import Pipelines
from synth.presets import PRESETS, PresetName
from synth.render import Renderer
from synth.render_torch import RenderedBatch, TorchRenderer
from synth.scene import Scene

NUM_FRAMES = 4
MASK_BOUND = 1e-4
"""Share of mask pixels that may differ: those whose sample lies within float rounding of an alpha of one half."""

COLOUR_BOUND = 2.0
"""Mean absolute difference of the colours of a video, of 255."""


@pytest.fixture(scope="module")
def bank() -> PictureBank:
    return PictureBank(BuiltinObjects(), BuiltinBackgrounds())


def drawn(bank: PictureBank, preset: PresetName, count: int, size: tuple[int, int], seed: int = 5) -> list[Scene]:
    config = make_config({"size": size}, preset=preset)
    return [compose_scene(config, seed, index, bank) for index in range(count)]


def arrays(batch: RenderedBatch) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return batch.frames.permute(0, 1, 3, 4, 2).numpy(), batch.masks.numpy()


def differences(bank: PictureBank, scenes: list[Scene], size: tuple[int, int]) -> Iterator[tuple[int, float]]:
    """For each scene the number of mask pixels that differ and the mean difference of colours."""
    reference, renderer = Renderer(bank, size, NUM_FRAMES), TorchRenderer(bank, size, "cpu")
    for first in range(0, len(scenes), 25):
        some = scenes[first : first + 25]
        for scene, frames, masks in zip(some, *arrays(renderer.render(some, NUM_FRAMES)), strict=True):
            expected = reference.render(scene)
            colours = np.abs(frames.astype(np.int16) - expected.frames).mean()
            yield int((masks != expected.masks).sum()), float(colours)


@pytest.mark.parametrize(
    "count", [pytest.param(66, id="200 scenes"), pytest.param(334, id="1,000 scenes", marks=pytest.mark.slow)]
)
def test_both_renderers_draw_the_same(bank: PictureBank, count: int) -> None:
    """Over all presets; the size is small, so that edges make up much of the pictures."""
    size = (48, 80)
    found = np.array([one for preset in PRESETS for one in differences(bank, drawn(bank, preset, count, size), size)])
    assert found[:, 0].sum() <= MASK_BOUND * len(found) * NUM_FRAMES * size[0] * size[1]
    assert found[:, 1].max() <= COLOUR_BOUND


def test_both_renderers_draw_the_same_at_full_size_and_another_aspect(bank: PictureBank) -> None:
    scenes = drawn(bank, "hard", 3, (240, 432))
    for size in ((240, 432), (200, 120)):
        found = np.array(list(differences(bank, scenes, size)))
        assert found[:, 0].max() <= MASK_BOUND * NUM_FRAMES * size[0] * size[1]
        assert found[:, 1].max() <= COLOUR_BOUND


def test_a_video_does_not_depend_on_the_batch_it_is_in(bank: PictureBank) -> None:
    scenes = drawn(bank, "hard", 5, (32, 48))
    frames, masks = arrays(TorchRenderer(bank, (32, 48), "cpu").render(scenes, NUM_FRAMES))
    alone = TorchRenderer(bank, (32, 48), "cpu")
    for number in (3, 0):
        one = arrays(alone.render([scenes[number]], NUM_FRAMES))
        assert np.array_equal(one[0][0], frames[number]) and np.array_equal(one[1][0], masks[number])


def test_some_frames_of_a_video_are_those_of_the_whole_video(bank: PictureBank) -> None:
    scenes = drawn(bank, "rich", 2, (32, 48))
    renderer = TorchRenderer(bank, (32, 48), "cpu")
    whole = arrays(renderer.render(scenes, 8))
    chosen = [[5, 3], [0, 7]]
    some = renderer.render(scenes, 8, chosen)
    for kind in range(2):
        for number, places in enumerate(chosen):
            assert np.array_equal(arrays(some)[kind][number], whole[kind][number][places])


def test_pictures_stay_until_memory_is_used_up_and_are_sent_anew_then(bank: PictureBank) -> None:
    scenes = drawn(bank, "hard", 4, (32, 48))
    tight = TorchRenderer(bank, (32, 48), "cpu", max_bytes=4 * 1000)
    roomy = TorchRenderer(bank, (32, 48), "cpu")
    for _ in range(2):
        for scene in scenes:
            assert torch.equal(tight.render([scene], 2).frames, roomy.render([scene], 2).frames)
    before = roomy.pictures.pixels
    roomy.pictures.bank = None  # type: ignore[assignment]
    roomy.render(scenes, 2)
    assert roomy.pictures.pixels is before
    assert len(tight.pictures.pixels) < len(before)


def test_frames_lie_in_memory_as_a_stream_has_them(bank: PictureBank) -> None:
    batch = TorchRenderer(bank, (32, 48), "cpu").render(drawn(bank, "paper", 2, (32, 48)), 3)
    assert batch.frames.shape == (2, 3, 3, 32, 48) and batch.frames.dtype == torch.uint8
    assert batch.frames.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert batch.masks.shape == (2, 3, 32, 48) and batch.masks.is_contiguous()


def test_a_picture_that_the_sources_lack_is_named(bank: PictureBank) -> None:
    [scene] = drawn(bank, "paper", 1, (32, 48))
    other = dataclasses.replace(scene, background=dataclasses.replace(scene.background, name="elsewhere"))
    with pytest.raises(SourceError, match="elsewhere"):
        TorchRenderer(bank, (32, 48), "cpu").render([other], 1)


def test_pipelines_change_pictures_for_each_scene_alone(bank: PictureBank) -> None:
    import albumentations

    flip = albumentations.to_dict(albumentations.HorizontalFlip(p=0.5))
    pipelines = Pipelines(flip, flip)
    [scene] = drawn(bank, "rich", 1, (32, 48))
    scenes = [dataclasses.replace(scene, index=index) for index in range(6)]
    changed = TorchRenderer(bank, (32, 48), "cpu", pipelines=pipelines).render(scenes, 2)
    reference = Renderer(bank, (32, 48), 2, pipelines)
    for one, frames, masks in zip(scenes, *arrays(changed), strict=True):
        expected = reference.render(one)
        assert (masks != expected.masks).mean() <= 1e-3
        assert np.abs(frames.astype(np.int16) - expected.frames).mean() <= COLOUR_BOUND
    assert len({frames.numpy().tobytes() for frames in changed.frames}) > 2, "some are mirrored, some are not"


def test_rendering_never_waits_for_the_device(bank: PictureBank, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device that has shapes and no values, whoever asks for a value, or a shape that depends on one, fails."""
    scenes = drawn(bank, "hard", 6, (32, 48))
    batch = TorchRenderer(bank, (32, 48), "meta").render(scenes, NUM_FRAMES)
    assert batch.frames.shape == (6, NUM_FRAMES, 3, 32, 48) and batch.masks.shape == (6, NUM_FRAMES, 32, 48)
    questions = [
        lambda owners: owners.max().item(),
        lambda owners: owners.tolist(),
        lambda owners: owners[owners > 0],
        lambda owners: owners.cpu(),
        lambda owners: bool(owners.any()),
        lambda owners: torch.repeat_interleave(owners.long()),
    ]
    for ask in questions:
        monkeypatch.setattr(render_torch, "_own", lambda owners, ids, ask=ask: ask(owners))
        with pytest.raises((RuntimeError, NotImplementedError)):
            TorchRenderer(bank, (32, 48), "meta").render(scenes, NUM_FRAMES)


@pytest.mark.slow
def test_the_compiled_renderer_draws_the_same(bank: PictureBank) -> None:
    scenes = drawn(bank, "hard", 6, (48, 80))
    plain, compiled = (TorchRenderer(bank, (48, 80), "cpu", compiled=wanted) for wanted in (False, True))
    expected, found = plain.render(scenes, NUM_FRAMES), compiled.render(scenes, NUM_FRAMES)
    assert (found.masks != expected.masks).float().mean() <= MASK_BOUND
    assert (found.frames.float() - expected.frames).abs().mean() <= 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_same_and_is_not_waited_for(bank: PictureBank) -> None:
    size = (96, 160)
    scenes = drawn(bank, "hard", 20, size)
    renderer = TorchRenderer(bank, size, "cuda")
    renderer.render(scenes, NUM_FRAMES)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = renderer.render(scenes, NUM_FRAMES)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = TorchRenderer(bank, size, "cpu").render(scenes, NUM_FRAMES)
    assert (batch.masks.cpu() != expected.masks).float().mean() <= MASK_BOUND
    assert (batch.frames.cpu().float() - expected.frames).abs().mean() <= COLOUR_BOUND
