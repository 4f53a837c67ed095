"""Recipes: a training run as data. Every key with its meaning, unit and range, and reading one from YAML.

A recipe fixes everything that determines the trained weights, together with the data it names. The keys under ``run``
say only how the work is carried out (threads, how often to save), so a run may go on with other values of those.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from shards.errors import RecipeError
from vosdata.recipe_faults import describe_faults
from vosdata.recipe_files import apply_override, read_sections

if TYPE_CHECKING:
    from vosdata.augment import TensorAugmentation
    from vosdata.models.agame import AGAMEConfig

STRIDE = 16
"""The network's coarsest stride: frames are trained at multiples of it, because padding would be trained on too."""


def parse_size(value: object) -> tuple[int, int]:
    """Reads ``"240x432"`` or ``[240, 432]`` as height and width in pixels.

    Raises:
        ValueError: it is neither, or a side is not a positive multiple of 16.
    """
    sides = value.lower().split("x") if isinstance(value, str) else value
    try:
        height, width = (int(side) for side in sides)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise ValueError("should be HEIGHTxWIDTH in pixels, such as 240x432") from None
    if min(height, width) <= 0 or height % STRIDE or width % STRIDE:
        raise ValueError(f"should have sides that are multiples of {STRIDE}, such as 240x432")
    return height, width


def parse_weight(value: object) -> object:
    """Reads the weight of a shard set: a positive number, ``size`` for its number of sequences, or one that changes.

    Raises:
        ValueError: it is none of them.
    """
    if value == "size" or isinstance(value, dict):
        return value
    try:
        weight = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        weight = 0.0
    if isinstance(value, bool) or not 0 < weight < float("inf"):
        raise ValueError("should be a weight greater than 0, or size")
    return weight


def parse_selection(value: object) -> object:
    """Reads which sequences are meant: ``all``, how many, a share of them below 1, their names, or a file of names.

    Raises:
        ValueError: it is none of them.
    """
    whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
    share = isinstance(value, float) and 0 < value < 1
    names = isinstance(value, list) and bool(value) and all(isinstance(name, str) and name for name in value)
    if whole or share or names or (isinstance(value, str) and value):
        return value
    raise ValueError(
        "should be all, a number of sequences, a share between 0 and 1, a list of names, or a file of names"
    )


Size = Annotated[
    tuple[int, int], BeforeValidator(parse_size), PlainSerializer(lambda size: f"{size[0]}x{size[1]}", return_type=str)
]
Changing = dict[str, list[list[int | float]]]
"""A value that changes over the global position, e.g. ``{steps: [[0, 1], ...]}``; see
:mod:`vosdata.streaming.curriculum`."""

Weight = Annotated[float | Literal["size"] | Changing, BeforeValidator(parse_weight)]
Number = PositiveFloat | Changing
Selection = Annotated[int | float | list[str] | str, BeforeValidator(parse_selection)]
Share = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    """A section of a recipe: frozen, and an unknown key is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class ModelRecipe(Section):
    """The network; the defaults are the published one. :class:`vosdata.models.agame.AGAMEConfig` says more."""

    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = "resnet101"
    """Backbone architecture."""

    weights: str = "imagenet"
    """The backbone's first weights: ``imagenet`` (from the hub), ``none`` (random), or a path of a weight file."""

    backbone_width: PositiveInt = 64
    """Channels of the backbone's stem; pretrained weights need 64."""

    train_from: Literal["stem", "layer1", "layer2", "layer3", "layer4", "none"] = "layer4"
    """First backbone stage that is trained; shallower ones are frozen."""

    batch_norm: Literal["per_frame", "joint", "frozen"] = "per_frame"
    """Batch statistics of trained stages: of one time-step (published), of the whole batch, or the running ones."""

    appearance: Literal["mixture", "unimodal", "none"] = "mixture"
    """The appearance module: two Gaussians each for background and target, only the base ones, or no module."""

    appearance_output: Literal["scores", "log_posteriors", "posteriors"] = "scores"
    """What the appearance module tells: scores (equation 8), posteriors, their softmax (equation 7), or the posteriors'
    logarithms, which train faster from random weights."""

    score_scale: PositiveFloat = 1.0
    """Factor on the scores where the fusion module takes them in (published: 1). It changes how the network learns, not
    what it can compute: training from scratch at a high learning rate wants about 1/20."""

    end_to_end: bool = True
    """Whether gradients flow through the fit of the appearance model (equation 3)."""

    mask_propagation: bool = True
    """Whether there is a mask-propagation module."""

    appearance_channels: PositiveInt = 512
    """Channels in which the appearance module models target and background."""

    propagation_channels: PositiveInt = 512
    """Channels of the mask-propagation module."""

    fusion_channels: PositiveInt = 512
    """Channels between the two layers of the fusion module."""

    encoding_channels: PositiveInt = 128
    """Channels of the coarse mask encoding."""

    upsampling_channels: PositiveInt = 128
    """Channels of the upsampling module."""

    regulariser: Literal["published", "paper"] = "published"
    """How the covariances of equation 3b are regularised: r outside of the weighted mean, or inside it as printed."""

    update_rate: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Learning rate lambda of equation 4; 0 keeps the first frame's appearance model."""

    @model_validator(mode="after")
    def _something_tells_the_target(self) -> "ModelRecipe":
        if self.appearance == "none" and not self.mask_propagation:
            raise ValueError("should not have appearance none without mask_propagation: nothing would tell the target")
        return self

    def config(self) -> "AGAMEConfig":
        """The network's configuration: these keys, less ``weights``."""
        from vosdata.models.agame import AGAMEConfig

        return AGAMEConfig(**self.model_dump(exclude={"weights"}))


class TensorRecipe(Section):
    """Flips, scale, crop and colour of whole snippets; :class:`vosdata.augment.TensorAugmentation` says more."""

    flip_vertical: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability of mirroring top to bottom."""

    scale: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest magnification."""

    crop: Size | None = None
    """Height and width that are cut out and trained at, multiples of 16; null keeps ``data.size``."""

    brightness: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Colours are multiplied by a factor from [1 - x, 1 + x]."""

    contrast: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Differences from middle gray are multiplied by a factor from [1 - x, 1 + x]."""

    saturation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Differences from gray are multiplied by a factor from [1 - x, 1 + x]."""

    hue_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Hues are turned by an angle from [-x, x] degrees."""

    def augmentation(self) -> "TensorAugmentation | None":
        """What these keys ask for; None when they change nothing."""
        from vosdata.augment import TensorAugmentation

        wanted = TensorAugmentation(**{name: getattr(self, name) for name in type(self).model_fields})
        return None if wanted == TensorAugmentation() else wanted


class DataRecipe(Section):
    """What is trained on."""

    sets: Annotated[dict[str, Weight], Field(min_length=1)]
    """Shard sets (names below the data root's ``shards/``, or paths) and the weight with which each is drawn.

    ``size`` weighs a set by its number of sequences, as joining the sets and shuffling would.
    """

    frames: Annotated[int, Field(ge=2)]
    """T, frames in a snippet; the first frame's mask is given, the others are predicted."""

    objects: Literal["one"] | Annotated[int, Field(ge=2, le=254)] = "one"
    """``one``: one random object of the snippet's first frame is the target (paper). N: up to N of them are, segmented
    apart as one batch and aggregated in what is fed back and in the losses. All other objects are background."""

    size: Size
    """Height and width to which frames are brought, in pixels; multiples of 16."""

    flip: bool = True
    """Whether a snippet is mirrored left to right with probability 1/2."""

    min_object_pixels: PositiveInt = 25
    """Pixels of a snippet's object in its first frame, at the size trained at, below which it is not drawn."""

    gap: Number | tuple[Number, Number] = 1
    """From each frame of a snippet to the next; a pair is the smallest and largest. May change with the position."""

    gap_unit: Literal["frames", "seconds"] = "frames"
    """Unit of ``gap``: frames of the sequence, or seconds by the shard set's frame rate."""

    reverse: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability with which a snippet runs backwards."""

    on_damage: Literal["stop", "replace"] = "stop"
    """``stop``: a snippet whose stored bytes are not what was written ends training. ``replace``: another one of the
    same set stands in for it, the same one on any number of ranks; it is counted and noted in ``metrics.jsonl``."""

    augment: str | None = None
    """File of an albumentations pipeline (``albumentations.save``), run on the decode threads once for each snippet."""

    tensors: TensorRecipe = TensorRecipe()
    """What is done to each batch on the training device."""

    epoch_size: PositiveInt | None = None
    """Snippets in an epoch; null for one per sequence."""


class LossRecipe(Section):
    """What is minimised."""

    fine_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the cross-entropy of the final segmentation."""

    coarse_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the auxiliary cross-entropy of the coarse segmentation (paper section 3.4)."""

    void: Literal["excluded", "published"] = "excluded"
    """``excluded``: the mean over predicted frames' pixels of known truth.

    ``published``: over all pixels of all frames, the given first one too, with void and unannotated as background.
    """


class TrainRecipe(Section):
    """How long, how fast, from where."""

    epochs: PositiveInt
    """Epochs after which training ends."""

    steps: PositiveInt | None = None
    """Optimiser steps after which training ends even if epochs remain; null for no such bound."""

    batch: PositiveInt
    """B, snippets in a step, over all ranks together."""

    accumulate: PositiveInt = 1
    """Equal parts into which a rank's share of a batch is cut; they are computed one after another, in less memory.

    Their gradients add up to the whole batch's; only batch statistics (``model.batch_norm``) are of a part each.
    """

    sync_batch_norm: bool = True
    """On several ranks, whether batch statistics are those of all ranks' snippets, as on one rank, or of each's own,
    which saves two small exchanges for each trained layer of the backbone."""

    learning_rate: PositiveFloat
    """Adam's learning rate in the first epoch."""

    lr_decay: Share
    """Factor on the learning rate after each epoch."""

    weight_decay: Annotated[float, Field(ge=0)]
    """Adam's weight decay (L2, added to the gradient)."""

    clip_gradient: PositiveFloat | None = None
    """Euclidean norm down to which larger gradients are scaled; null leaves them as they are (paper)."""

    init_from: str | None = None
    """Checkpoint or run folder whose weights training starts from; null to start from the backbone's weights."""

    init_with: Literal["best", "last"] = "best"
    """Which checkpoint of a run folder: the best, where the run was validated, or the last (published code)."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto``: bfloat16 autocast on CUDA, float32 on the CPU.

    A CPU that has bfloat16 instructions (AVX512-BF16) trains nearly twice as fast with ``bfloat16``.
    """

    compile: Literal["none", "heads"] = "none"
    """``heads``: the part that runs once per frame is compiled first, which takes a minute; results change by rounding.
    Worth it on a GPU that is waiting for small kernels."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Determines the fresh layers' weights and the order of all draws."""


class ValidationRecipe(Section):
    """Sequences that are held out of training and scored during it; they choose the best checkpoint, and when to stop.

    Each is segmented from its first mask and scored as ``vosdata eval`` does (protocol davis2017); J is the mean over
    objects. Training never draws them, from whatever set: editions of one dataset share their sequences.
    """

    sets: list[str] = []
    """Shard sets, named as in ``data.sets``; none: nothing is held out, and the last checkpoint is the result."""

    sequences: Selection = "all"
    """Which of them: ``all``, how many of each set, a share between 0 and 1, a list of names, or a file of names.

    Numbers and shares choose among the sequences that can be scored, by a hash of ``seed`` and name.
    """

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of that choice; apart from ``train.seed``, so that several trainings are measured on the same sequences."""

    every_epochs: PositiveInt = 1
    """Epochs between validations. The last step is validated too."""

    every_steps: PositiveInt | None = None
    """Steps between validations, instead of epochs."""

    patience: PositiveInt | None = None
    """Validations in a row without a better J after which training stops early; null for never."""

    max_frames: Annotated[int, Field(ge=3)] | None = None
    """Frames of each sequence that are looked at, from its first; null for all."""

    size: Literal["training", "stored"] = "training"
    """Size at which sequences are segmented and scored: ``data.size``, or the one at which they are stored."""


class RunRecipe(Section):
    """How the work is carried out; none of it changes the result, but for rounding."""

    threads: PositiveInt = 2
    """Threads per rank that read and decode."""

    checkpoint_every: PositiveInt = 500
    """Steps between checkpoints."""

    keep: PositiveInt = 2
    """Newest checkpoints that stay."""

    log_every: PositiveInt = 10
    """Steps between lines of ``metrics.jsonl``."""

    tensorboard: bool = False
    """Whether logged steps and validations also go to TensorBoard; needs ``pip install vosdata[tensorboard]``."""

    deterministic: bool = False
    """Whether only deterministic algorithms are used, so that two runs on one kind of GPU give the same bits.

    Slower; an operation that has no such algorithm is an error. On a CPU runs repeat to the bit without it.
    """

    cache_features: bool = False
    """Whether the outputs of the backbone's frozen stages are kept in the cache folder, for every picture that is
    trained on. On CPUs, and where no augmentation but ``data.flip`` changes the pictures. It pays where these stages
    are most of the work: with ``model.train_from`` none, or narrow heads; see :mod:`vosdata.training.frozen_features`.
    """

    compute_threads: PositiveInt | None = None
    """PyTorch's threads in each operation on the CPU; null leaves its choice. Tiny networks train fastest with 1."""


class Recipe(Section):
    """Data, model and training of one run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
    """The recipe's name; the default output is ``runs/<name>``."""

    model: ModelRecipe = ModelRecipe()
    data: DataRecipe
    loss: LossRecipe = LossRecipe()
    train: TrainRecipe
    validation: ValidationRecipe = ValidationRecipe()
    run: RunRecipe = RunRecipe()

    def configuration(self) -> dict[str, Any]:
        """Everything that determines the weights, as JSON: all keys but ``name`` and those under ``run``."""
        return self.model_dump(mode="json", exclude={"name", "run"})


def load_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe, with what it extends, and applies overrides.

    Args:
        recipe: name of a recipe that comes with vosdata, or the path of a YAML file.
        overrides: ``section.key=value`` each, applied in order; values are read as YAML.

    Raises:
        RecipeError: there is no such recipe, or its keys or values are wrong; all faults are named at once.
        ValueError: an override is not of the form ``section.key=value``.
    """
    name, sections = read_sections(recipe)
    sections.setdefault("name", name)
    for override in overrides:
        apply_override(sections, override)
    try:
        return Recipe.model_validate(sections)
    except ValidationError as error:
        raise RecipeError(describe_faults(f"recipe {name}", error, Recipe)) from error


def recipe_from_json(content: Any, where: str) -> Recipe:
    """Checks a recipe that was stored as JSON, such as a checkpoint's.

    Raises:
        RecipeError: keys or values are wrong; ``where`` opens the message.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(describe_faults(where, error, Recipe)) from error


def recipe_to_yaml(recipe: Recipe) -> str:
    """Writes a resolved recipe, every key of it, as YAML that :func:`load_recipe` reads."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
