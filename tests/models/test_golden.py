"""The whole network against the published one's outputs; weights are made by the rule in the golden folder's README."""

import copy
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vosdata.models.agame import AGAME, AGAMEConfig, AGAMEOutput, VideoSegmenter
from vosdata.models.agame.network import TargetState, pool, two_channels
from vosdata.models.agame.published import load_published, our_name

ABSOLUTE = 5e-5  # float32 rounding of log-probabilities; 1e-4 is what the golden README promises


@pytest.fixture(scope="module")
def outputs(golden: Path) -> dict[str, NDArray[Any]]:
    with np.load(golden / "agame_published_outputs.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def numbers(golden: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((golden / "agame_published_numbers.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def published_weights(golden: Path) -> dict[str, torch.Tensor]:
    shapes = json.loads((golden / "agame_published_state_dict.json").read_text())
    return {name: _weight_by_rule(name, tuple(shape)) for name, shape in shapes.items()}


def _weight_by_rule(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    x = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        x = 1 + 0.1 * np.abs(x)
    elif name.endswith("cov_reg"):
        x = -2 + 0.1 * x
    elif len(shape) == 4:
        x = x / np.sqrt(np.prod(shape[1:])) * (0.03 if ".predictor." in name else 1)
    elif ".predictor." in name:
        x = np.array([0, 0.75])
    elif name.endswith(("bn1.weight", "bn2.weight", "bn3.weight", "downsample.1.weight")):
        x = 1 + 0.05 * x
    else:
        x = 0.05 * x
    return torch.as_tensor(x, dtype=torch.float32)


@pytest.fixture(scope="module")
def shared_model() -> AGAME:
    return AGAME(AGAMEConfig(keep_classifier=True))


@pytest.fixture
def model(shared_model: AGAME, published_weights: dict[str, torch.Tensor]) -> AGAME:
    """The published network in evaluation mode, fresh for each test."""
    load_published(shared_model, published_weights)
    return shared_model.eval()


@pytest.fixture(scope="module")
def snippets(outputs: dict[str, NDArray[Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames uint8 (2, 4, 3, 96, 160) and masks uint8 (2, 4, 96, 160)."""
    return torch.from_numpy(outputs["frames"]).permute(0, 1, 4, 2, 3), torch.from_numpy(outputs["masks"])


def test_every_published_entry_has_its_place_and_shape(golden: Path, shared_model: AGAME) -> None:
    shapes = json.loads((golden / "agame_published_state_dict.json").read_text())
    ours = {name: tuple(value.shape) for name, value in shared_model.state_dict().items()}
    mapped = {our_name(name): tuple(shape) for name, shape in shapes.items()}
    assert len(shapes) == len(mapped) == 655
    assert mapped.pop("appearance.regulariser") == (4, 1, 512, 1, 1)  # ours is (4, 512), without the singletons
    assert ours.pop("appearance.regulariser") == (4, 512)
    assert mapped == ours


def test_evaluation_gives_the_published_log_probabilities(
    model: AGAME, snippets: tuple[torch.Tensor, torch.Tensor], outputs: dict[str, NDArray[Any]]
) -> None:
    frames, masks = snippets
    with torch.no_grad():
        output = model(frames, masks[:, 0])
    _assert_close(output.log_probs[:, :, 1], outputs["eval_logseg_fg"])
    _assert_close(output.coarse_log_probs[:, :, 1], outputs["eval_coarse_logseg_fg"])


def test_components_and_scores_are_the_published_ones(
    model: AGAME, snippets: tuple[torch.Tensor, torch.Tensor], outputs: dict[str, NDArray[Any]]
) -> None:
    frames, masks = snippets
    with torch.no_grad():
        states, scores = _walk(model, frames, masks[:, 0])
    _assert_close(states[0].mixture.means, outputs["first_means"])
    _assert_close(states[0].mixture.variances, outputs["first_variances"])
    _assert_close(states[-1].mixture.means, outputs["last_means"])
    _assert_close(states[-1].mixture.variances, outputs["last_variances"])
    published = outputs["second_frame_scores"]
    # A score sums 512 channels and reaches -9,900; the published float32 values are 4e-3 from float64 there.
    np.testing.assert_allclose(scores.reshape(published.shape), published, rtol=1e-6, atol=1e-3)


def _walk(model: AGAME, frames: torch.Tensor, given: torch.Tensor) -> tuple[list[TargetState], torch.Tensor]:
    """The state after every frame, and the scores of the second frame, computed frame by frame."""
    mask = pool(two_channels(given, torch.float32))
    states: list[TargetState] = []
    scores = torch.empty(0)
    for frame in frames.unbind(1):
        features = model.encode(frame)
        appearance = model.appearance.project(features.deep)
        if not states:
            states.append(model.start(appearance, features.deep, mask))
            continue
        if len(states) == 1:
            scores = model.appearance(appearance, states[0].mixture)
        _, logits = model.locate(appearance, model.propagation.project(features.deep), states[-1])
        states.append(model.remember(states[-1], appearance, logits.softmax(1)))
    return states, scores


def test_training_gives_the_published_outputs_statistics_and_losses(
    model: AGAME,
    snippets: tuple[torch.Tensor, torch.Tensor],
    outputs: dict[str, NDArray[Any]],
    numbers: dict[str, Any],
) -> None:
    frames, masks = snippets
    with torch.no_grad():
        output = model.train()(frames, masks[:, 0])
    _assert_close(output.log_probs[:, :, 1], outputs["train_logseg_fg"])
    running_mean = model.get_buffer("backbone.layer4.2.bn3.running_mean")
    _assert_close(running_mean, outputs["layer4_2_bn3_running_mean_after_train_forward"], 1e-6)
    fine, coarse = _mean_nll(output, masks)
    assert fine.item() == pytest.approx(numbers["losses"]["fine"], rel=1e-6)
    assert coarse.item() == pytest.approx(numbers["losses"]["coarse"], rel=1e-6)


def test_training_gives_the_published_gradient_norms(
    model: AGAME, snippets: tuple[torch.Tensor, torch.Tensor], numbers: dict[str, Any]
) -> None:
    """In float64, because in float32 the number of threads decides on which side of zero a few ReLU inputs fall."""
    frames, masks = snippets
    double = copy.deepcopy(model).double().train()
    sum(_mean_nll(double(frames, masks[:, 0]), masks)).backward()

    norms = numbers["gradient_norms"]
    trained = {name for name, parameter in double.named_parameters() if parameter.requires_grad}
    assert {our_name(name) for name in norms} == trained
    for name, norm in norms.items():
        gradient = double.get_parameter(our_name(name)).grad
        assert gradient is not None
        # Off by 1.08e-3: the published float32 run has one ReLU of this layer, whose input is 5e-6, on its other side.
        tolerance = 1.2e-3 if name == "trackseg.backbone.layer4.1.bn1.bias" else 1e-3
        assert gradient.norm().item() == pytest.approx(norm, rel=tolerance), name


def _mean_nll(output: AGAMEOutput, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Fine and coarse loss as published: the mean over all pixels of all frames."""
    index = masks.long()[:, :, None]
    fine, coarse = (
        -log_probs.double().gather(2, index).mean() for log_probs in (output.log_probs, output.coarse_log_probs)
    )
    return fine, coarse


def test_several_objects_with_one_joining_give_the_published_masks(
    model: AGAME, outputs: dict[str, NDArray[Any]]
) -> None:
    segmenter = VideoSegmenter(model, joining="predicted")
    given = {0: outputs["multi_given_0"], 2: outputs["multi_given_2"]}
    masks = [segmenter.step(frame, given.get(t)) for t, frame in enumerate(outputs["multi_frames"])]
    assert segmenter.object_ids == (1, 2, 3)
    assert int((np.stack(masks) != outputs["multi_segmentation"]).sum()) == 0  # pixels of 4 x 90 x 150


def _assert_close(found: torch.Tensor, expected: NDArray[Any], absolute: float = ABSOLUTE) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=absolute)
