"""albumentations pipelines that pictures go through once per scene, before anything else is done to them.

A pipeline is plain data, as ``albumentations.to_dict`` makes it, and part of the configuration. It is seeded anew for
each picture of each scene, by the scene's coordinates and the object's id. A cutout's alpha goes along as its mask, so
that pipelines may also turn, bend or crop; a background has no mask.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from shards.errors import BadFileError
from shards.rng import generator
from synth.bank import Sprite, make_backdrop, make_sprite
from synth.cutouts import MARGIN


def import_albumentations() -> Any:
    """The only place that imports albumentations, which asks the network for newer versions unless told not to.

    Raises:
        ValueError: it is not installed.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        import albumentations
    except ImportError as error:
        raise ValueError(f"a pipeline needs albumentations, which cannot be imported: {error}") from error
    return albumentations


def read_pipeline(value: Any) -> dict[str, Any]:
    """A checked pipeline as plain data.

    Args:
        value: the data, or the path of a ``.json``, ``.yaml`` or ``.yml`` file that ``albumentations.save`` wrote.

    Raises:
        ValueError: it is no such file, or nothing that albumentations can make a pipeline of.
    """
    named = "the pipeline"
    if isinstance(value, str | Path):
        named, value = str(value), _read_file(Path(value))
    if not isinstance(value, Mapping) or "transform" not in value:
        raise ValueError(f"{named} is no pipeline as albumentations.to_dict makes it: it has no key 'transform'")
    data: dict[str, Any] = json.loads(json.dumps(value))
    _make(data, named)
    return data


def _read_file(path: Path) -> Any:
    try:
        text = path.read_text("utf-8")
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as JSON or YAML: {error}") from None


def _make(data: Mapping[str, Any], named: str) -> Any:
    """The pipeline itself; inside a composition, which is what can be seeded."""
    albumentations = import_albumentations()
    try:
        return albumentations.Compose([albumentations.from_dict(data)])
    except (ValueError, LookupError, TypeError, AttributeError, ImportError) as error:
        raise ValueError(f"albumentations cannot make {named}: {error}") from None


class Pipelines:
    """What cutouts and backgrounds go through. Picklable; not to be shared between threads."""

    def __init__(self, cutouts: Mapping[str, Any] | None = None, backgrounds: Mapping[str, Any] | None = None) -> None:
        """Makes the pipelines; None lets pictures through as they are.

        Raises:
            ValueError: albumentations is not installed or cannot make them.
        """
        self._cutouts = None if cutouts is None else _make(cutouts, "the pipeline of cutouts")
        self._backgrounds = None if backgrounds is None else _make(backgrounds, "the pipeline of backgrounds")

    def cutout(self, sprite: Sprite, seed: int, index: int, object_id: int) -> Sprite:
        """A cutout as the pipeline leaves it, with a transparent margin as any cutout has.

        Args:
            sprite: the cutout.
            seed: the scene's seed.
            index: the scene's index.
            object_id: the object's id.

        Raises:
            BadFileError: nothing is left of the object.
            ValueError: the pipeline does not give ``uint8`` pictures.
        """
        if self._cutouts is None:
            return sprite
        alpha = np.ascontiguousarray(sprite.pixels[..., 3])
        straight = np.minimum(np.rint(sprite.pixels[..., :3] * (255.0 / np.maximum(alpha, 1))[..., None]), 255)
        made = _run(self._cutouts, (seed, index, f"pipeline of cutout {object_id}"), straight.astype(np.uint8), alpha)
        picture, mask = made["image"], made["mask"]
        if picture.shape[:2] != mask.shape[:2] or not (mask >= 128).any():
            raise BadFileError(f"{sprite.name}: the pipeline of cutouts leaves nothing of it")
        rgba = np.dstack([picture, mask])
        return make_sprite(sprite.name, np.pad(rgba, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))))

    def background(self, sprite: Sprite, seed: int, index: int) -> Sprite:
        """A background as the pipeline leaves it; else as :meth:`cutout`."""
        if self._backgrounds is None:
            return sprite
        picture = cv2.cvtColor(sprite.pixels, cv2.COLOR_RGBA2RGB)
        made = _run(self._backgrounds, (seed, index, "pipeline of backgrounds"), picture, None)
        return make_backdrop(sprite.name, made["image"])


NO_PIPELINES = Pipelines()
"""Lets all pictures through."""


def _run(
    pipeline: Any, at: tuple[int, int, str], picture: NDArray[Any], mask: NDArray[Any] | None
) -> Mapping[str, NDArray[np.uint8]]:
    """Seeds a pipeline and runs it."""
    seed, index, purpose = at
    pipeline.set_random_seed(int(generator(seed, 0, index, purpose).integers(2**32)))
    made: Mapping[str, NDArray[np.uint8]] = pipeline(image=picture, **({} if mask is None else {"mask": mask}))
    for name, item in made.items():
        if item.dtype != np.uint8 or (name == "image" and (item.ndim != 3 or item.shape[2] != 3)):
            raise ValueError(
                f"the pipeline of {'backgrounds' if mask is None else 'cutouts'} gives {name}s of {item.dtype} "
                f"{item.shape}; it must give uint8 pictures of three channels"
            )
    return made
