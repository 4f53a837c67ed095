"""What the frozen stages of the backbone say of a picture, computed once and kept in the cache folder.

Frozen stages change with no step, so what they say of a picture is always the same. It is kept under a hash of the very
pixels that they would look at, below a hash of all else that it depends on: weights, size, precision, version of
PyTorch. So nothing needs to be known of where a picture comes from; a mirrored one is another picture; epochs, runs and
ranks share what is kept; and nothing that is kept can become wrong.

    CACHE/features/HASH OF THE STAGES/ab/HASH OF THE PIXELS     the stages' outputs, channels innermost, then their CRCs

It pays where the frozen stages are most of the work: narrow heads and no trained stage. In the published network they
are 7 % (ResNet-18) to 22 % (ResNet-101) of a training step's FLOP. Letters: B snippets, T frames, N pictures, C
channels, H and W of the picture, h and w of a feature map.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shards.codec import crc32c
from shards.errors import RecipeError
from shards.remote.opening import RemoteSettings, cache_root
from vosdata.models.agame import AGAME
from vosdata.models.resnet import StageName
from vosdata.opening import open_shard_set
from vosdata.recipe import Recipe
from vosdata.scene_set import is_scene_set
from vosdata.world import cache_dir


class FrozenFeatures:
    """The outputs of a network's frozen stages, from the cache folder where they have been computed before.

    What it returns is valid until it is called again: the memory is used again.

    Args:
        network: on the CPU, with its final frozen weights.
        size: height and width of the pictures.
        half: whether convolutions compute in bfloat16.
        folder: where features are kept; made when it is not there.
    """

    def __init__(self, network: AGAME, size: tuple[int, int], half: bool, folder: Path) -> None:
        self._network, self._half = network, half
        blank = self._compute(torch.zeros(1, 3, *size, dtype=torch.uint8))
        self._shapes = {stage: (output.shape[1:], output.dtype) for stage, output in blank.items()}
        self.num_bytes = sum(output.nbytes for output in blank.values())
        """Bytes of one picture's features."""
        self.folder = folder / "features" / _digest_of(network, size, half)
        self._batch: dict[StageName, Tensor] = {}

    def __call__(self, frames: Tensor) -> dict[StageName, Tensor]:
        """What :meth:`vosdata.models.agame.AGAME.begin` says of frames uint8 (B, T, 3, H, W), time-major (T*B, ...)."""
        pictures = frames.transpose(0, 1).flatten(0, 1).permute(0, 2, 3, 1).contiguous()  # (T*B, H, W, 3)
        paths = [self._path(picture) for picture in pictures.numpy()]
        if len(next(iter(self._batch.values()), ())) != len(paths):
            self._batch = {
                stage: torch.empty((len(paths), *shape), dtype=dtype, memory_format=torch.channels_last)
                for stage, (shape, dtype) in self._shapes.items()
            }
        missing = [number for number, path in enumerate(paths) if not _read(path, self._maps(number))]
        if missing:
            found = self._compute(pictures[missing].permute(0, 3, 1, 2))
            for stage, output in found.items():
                self._batch[stage][missing] = output
            for number in missing:
                _write(paths[number], self._maps(number))
        return self._batch

    def _compute(self, pictures: Tensor) -> dict[StageName, Tensor]:
        """What the stages say of pictures uint8 (N, 3, H, W)."""
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self._half):
            return self._network.begin(pictures)

    def _path(self, picture: NDArray[np.uint8]) -> Path:
        name = hashlib.blake2b(picture.data, digest_size=16).hexdigest()
        return self.folder / name[:2] / name[2:]

    def _maps(self, number: int) -> list[NDArray[np.uint8]]:
        """The memory of one picture's features, bytes of each stage."""
        maps = (batch[number].permute(1, 2, 0) for batch in self._batch.values())  # (h, w, C), contiguous
        return [one.view(torch.uint8).flatten().numpy() for one in maps]


def _digest_of(network: AGAME, size: tuple[int, int], half: bool) -> str:
    """Names all that the frozen stages' outputs depend on besides the pixels."""
    backbone = network.backbone
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((backbone.name, backbone.frozen_stages, size, half, torch.__version__)).encode())
    for name, tensor in backbone.frozen_tensors():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().data)
    return digest.hexdigest()


def _read(path: Path, maps: list[NDArray[np.uint8]]) -> bool:
    """Fills the maps from a file; False when it is not there, or not whole."""
    checks = np.empty(len(maps), np.uint32)
    try:
        with path.open("rb", buffering=0) as file:
            num_read = os.preadv(file.fileno(), [*(one.data for one in maps), checks.data], 0)
    except FileNotFoundError:
        return False
    whole = num_read == sum(one.nbytes for one in maps) + checks.nbytes
    return whole and [crc32c(one) for one in maps] == checks.tolist()


def _write(path: Path, maps: list[NDArray[np.uint8]]) -> None:
    """Keeps the maps; not forced to the disk, as a file that a power cut spoils is told by its checksums."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("wb") as file:
            for one in maps:
                file.write(one.data)
            file.write(np.array([crc32c(one) for one in maps], np.uint32).data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def open_frozen_features(
    recipe: Recipe, network: AGAME, sets: Iterable[str], device: torch.device, tell: Callable[[str], None]
) -> FrozenFeatures | None:
    """Opens the cache for a training, if the recipe asks for it; ``tell`` is given how large it may become.

    Args:
        recipe: the recipe.
        network: with its first weights.
        sets: the shard sets that are drawn from.
        device: where the network is trained.
        tell: is given a line.

    Raises:
        RecipeError: features cannot be kept for this recipe, or the disk has no room for them.
    """
    if not recipe.run.cache_features:
        return None
    data, names = recipe.data, list(sets)
    refusals = {
        "needs frozen stages, and model.train_from stem leaves none": not network.backbone.frozen_stages,
        "needs the same pictures again and again; data.augment changes them": data.augment is not None,
        "needs the same pictures again and again; data.tensors changes them": data.tensors.augmentation() is not None,
        "needs the same pictures again and again; those of synth: never are": any(map(is_scene_set, names)),
        "is for CPUs: a GPU has computed features before they are read": device.type != "cpu",
    }
    for refusal, holds in refusals.items():
        if holds:
            raise RecipeError(f"run.cache_features {refusal}")
    root = cache_root(RemoteSettings(cache_dir=cache_dir()))
    features = FrozenFeatures(network, data.size, recipe.train.precision == "bfloat16", root)
    num_frames = sum(open_shard_set(name).description["num_frames"] for name in names)
    num_pictures = num_frames * (2 if data.flip else 1)
    needed = num_pictures * features.num_bytes
    kept = sum(file.stat().st_size for file in features.folder.glob("??/*"))
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    said = f"features of {num_pictures:,} pictures{' (each mirrored too)' if data.flip else ''}: "
    if needed - kept > free:
        raise RecipeError(
            f"run.cache_features: {said}{needed / 1e9:.1f} GB, and {root} has {free / 1e9:.1f} GB left; name a folder "
            "on a larger disk by VOSDATA_CACHE, or leave run.cache_features out"
        )
    tell(f"{said}{needed / 1e9:.1f} GB when all are kept in {features.folder}, which holds {kept / 1e9:.1f} GB now")
    return features
