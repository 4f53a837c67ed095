"""What happens to a snippet's pixels between shard and batch: resize, mirror, an optional albumentations pipeline.

Everything works on ``uint8`` arrays of the batch in place; a snippet is always treated as one: the same mirror and the
same pipeline parameters for all of its frames and masks.
"""

import hashlib
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from shards.errors import RecipeError


def resize_frame(frame: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Resizes a frame into ``out``: area averaging where it shrinks in both directions, else linear.

    Args:
        frame: ``uint8 (h, w, 3)``.
        out: ``uint8 (H, W, 3)``, C-contiguous; the shape is the aim, the aspect ratio is not kept.
    """
    shrinks = out.shape[0] <= frame.shape[0] and out.shape[1] <= frame.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    cv2.resize(frame, (out.shape[1], out.shape[0]), dst=out, interpolation=method)


def resize_mask(mask: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Resizes a mask into ``out`` by nearest neighbour, measured between pixel centres; makes no new ids.

    OpenCV's plain nearest method measures between corners, which shifts masks by up to half a pixel against their
    frames.

    Args:
        mask: ``uint8 (h, w)``.
        out: ``uint8 (H, W)``, C-contiguous.
    """
    cv2.resize(mask, (out.shape[1], out.shape[0]), dst=out, interpolation=cv2.INTER_NEAREST_EXACT)


def relabel(mask: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Replaces each id of a mask, in place.

    Args:
        mask: ``uint8 (H, W)``, C-contiguous.
        labels: ``uint8 (256,)``, what each value becomes.
    """
    cv2.LUT(mask, labels, dst=mask)


def mirror(frames: NDArray[np.uint8], masks: NDArray[np.uint8]) -> None:
    """Mirrors a snippet left to right, in place.

    Args:
        frames: ``uint8 (T, H, W, 3)``.
        masks: ``uint8 (T, H, W)``.
    """
    for image in (*frames, *masks):
        cv2.flip(image, 1, dst=image)


class Augmentation:
    """An albumentations pipeline with one draw per snippet.

    The pipeline sees frames and masks at training size and must keep that size. It is seeded anew for every snippet, so
    what it draws depends on the snippet's position alone, not on the thread or on what came before. Where it moves
    pixels in from outside, they are what the pipeline says (``fill_mask``, by default 0: background; 255 makes them
    void). An object may leave the picture. Not safe to share between threads: :meth:`copy` it.
    """

    def __init__(self, pipeline: Any, num_frames: int) -> None:
        """Prepares a pipeline for snippets of ``num_frames`` frames.

        Args:
            pipeline: an albumentations transform or composition, serialisable by ``to_dict``.
            num_frames: T.

        Raises:
            TypeError: the object is not from albumentations.
            ValueError: it cannot be serialised.
        """
        albumentations = _albumentations()
        if not isinstance(pipeline, albumentations.BasicTransform | albumentations.BaseCompose):
            raise TypeError(f"augment must be an albumentations transform or its file, got {type(pipeline).__name__}")
        try:
            text = json.dumps(pipeline.to_dict(), sort_keys=True, default=str)
        except NotImplementedError as error:
            raise ValueError(f"the albumentations pipeline cannot be serialised: {error}") from error
        self.digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        """8 hexadecimal digits that name the pipeline."""
        more = {f"image{t}": "image" for t in range(1, num_frames)} | {f"mask{t}": "mask" for t in range(1, num_frames)}
        # additional_targets is the fastest of the three ways to share parameters, and shares costly maps
        self._pipeline = albumentations.Compose([deepcopy(pipeline)], additional_targets=more)

    def copy(self) -> "Augmentation":
        """An equal pipeline for another thread."""
        return deepcopy(self)

    def apply(self, frames: NDArray[np.uint8], masks: NDArray[np.uint8], seed: int) -> None:
        """Runs the pipeline on one snippet, in place.

        Args:
            frames: ``uint8 (T, H, W, 3)``.
            masks: ``uint8 (T, H, W)``.
            seed: 0 <= seed < 2**32.

        Raises:
            ValueError: the pipeline changed the size or the type of the pixels.
        """
        self._pipeline.set_random_seed(seed)
        names = ["", *map(str, range(1, len(frames)))]
        given = {f"image{name}": frame for name, frame in zip(names, frames, strict=True)}
        given |= {f"mask{name}": mask for name, mask in zip(names, masks, strict=True)}
        result = self._pipeline(**given)
        for kind, target in (("image", frames), ("mask", masks)):
            for name, out in zip(names, target, strict=True):
                made = result[kind + name]
                if made.shape != out.shape or made.dtype != np.uint8:
                    raise ValueError(
                        f"the albumentations pipeline turned a {kind} of uint8 {out.shape} into {made.dtype} "
                        f"{made.shape}; it must keep size and type (it gets training size)"
                    )
                out[:] = made


def open_augmentation(spec: Any, num_frames: int) -> Augmentation:
    """Makes an augmentation from an albumentations object, or from the file that ``albumentations.save`` wrote.

    Args:
        spec: the object, or the path of a ``.json``, ``.yaml`` or ``.yml`` file.
        num_frames: frames in a snippet.

    Raises:
        RecipeError: the file is not there or does not hold a pipeline.
        TypeError: the object is not from albumentations.
        ValueError: the pipeline cannot be serialised.
    """
    if not isinstance(spec, str | Path):
        return Augmentation(spec, num_frames)
    path = Path(spec)
    data_format = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}.get(path.suffix.lower())
    if data_format is None or not path.is_file():
        raise RecipeError(
            f"{path}: an albumentations pipeline is an existing .json or .yaml file (albumentations.save)"
        )
    try:
        pipeline = _albumentations().load(path, data_format=data_format)
    except (ValueError, LookupError, TypeError, AttributeError, ImportError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: not a pipeline that albumentations can load: {error}") from error
    return Augmentation(pipeline, num_frames)


def _albumentations() -> Any:
    from synth.pipelines import import_albumentations  # the one place that imports it

    return import_albumentations()
