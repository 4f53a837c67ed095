"""Finds and loads pretrained backbone weights, with torchvision's parameter names.

Weights come from a file, from a folder of such files, from the Hugging Face cache or hub, in this order. Random weights
are used only when asked for ("none"), never because something was not found.
"""

import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from shards.errors import CheckpointError
from vosdata.models.resnet import ResNet

_HUB_FILE = "model.safetensors"
_HUB_SECONDS = 5.0  # in which the hub must answer
_CLASSIFIER = ("fc.weight", "fc.bias")
_OPTIONAL_SUFFIX = "num_batches_tracked"  # older files lack it; it counts batches and changes nothing


@dataclass(frozen=True, slots=True)
class WeightsOrigin:
    """Where backbone weights came from; goes into checkpoints."""

    source: str
    """"none", or the file's name, or the hub repository and file."""

    sha256: str
    """Digest of the file in hexadecimal; empty for "none"."""


class HasBackbone(Protocol):
    """A network with a ResNet inside, such as :class:`~vosdata.models.agame.network.AGAME`."""

    @property
    def backbone(self) -> ResNet:
        """The ResNet."""


def load_backbone(
    model: HasBackbone,
    weights: str | Path,
    folder: Path | None = None,
    announce: Callable[[str], None] = print,
) -> WeightsOrigin:
    """Loads weights into a network's backbone, which stays on its device.

    Args:
        model: the network whose backbone's parameters are set.
        weights: "none" (keep the random ones), "imagenet", or the path of a ``.safetensors`` or ``.pth`` file.
        folder: for "imagenet", where to look before the hub: a file whose name begins with the backbone's name, such as
            ``resnet101.safetensors`` or torchvision's ``resnet101-63fe2227.pth``.
        announce: told in one line before a download begins.

    Raises:
        CheckpointError: the weights are not to be had or do not fit; the backbone is then unchanged.
    """
    backbone = model.backbone
    if str(weights) == "none":
        return WeightsOrigin("none", "")
    path, source = find_weights(backbone.name, weights, folder, announce)
    entries = {name: value for name, value in _read(path).items() if name not in _CLASSIFIER}
    _check_fit(backbone, entries, path)
    backbone.load_state_dict(entries, strict=False)
    with path.open("rb") as file:
        return WeightsOrigin(source, hashlib.file_digest(file, "sha256").hexdigest())


def find_weights(
    name: str, weights: str | Path, folder: Path | None, announce: Callable[[str], None]
) -> tuple[Path, str]:
    """Finds the file that holds the weights, and says where it came from; arguments as :func:`load_backbone`."""
    if str(weights) != "imagenet":
        path = Path(weights)
        if not path.is_file():
            raise CheckpointError(f'no backbone weights at {path}; give a file, "imagenet" or "none"')
        return path, path.name
    local = None if folder is None else _in_folder(name, folder)
    if local is not None:
        return local, local.name
    repository = f"timm/{name}.tv_in1k"
    return _from_hub(name, repository, announce), f"{repository}/{_HUB_FILE}"


def _in_folder(name: str, folder: Path) -> Path | None:
    """The folder's file for a backbone; safetensors before pth, then the first by name."""
    if not folder.is_dir():
        raise CheckpointError(f"the folder of backbone weights does not exist: {folder}")
    for suffix in ("safetensors", "pth"):
        files = sorted(
            path for path in folder.glob(f"{name}*.{suffix}") if path.stem[len(name) :][:1] in ("", ".", "-", "_")
        )
        if files:
            return files[0]
    return None


def _from_hub(name: str, repository: str, announce: Callable[[str], None]) -> Path:
    """Looks into the hub's cache, then downloads."""
    import huggingface_hub
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of the client that the hub uses

    cached = huggingface_hub.try_to_load_from_cache(repository, _HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    announce(f"downloading ImageNet weights of {name} from https://huggingface.co/{repository}")
    try:  # asked once first: without a network the download tries again for half a minute
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repository, _HUB_FILE), timeout=_HUB_SECONDS)
        return Path(huggingface_hub.hf_hub_download(repository, _HUB_FILE))
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"ImageNet weights of {name} could not be downloaded from {repository} ({reason}). Without a network, put "
            f"{name}.safetensors or torchvision's {name}-*.pth into a folder and set VOSDATA_WEIGHTS_DIR to it, or "
            "give the file's path as the backbone's weights"
        ) from error


def _read(path: Path) -> Mapping[str, Tensor]:
    """Reads a file of named tensors without executing anything in it."""
    import safetensors
    import safetensors.torch

    try:
        if path.suffix == ".safetensors":
            loaded = safetensors.torch.load_file(path)
        elif path.suffix in (".pth", ".pt"):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise CheckpointError(f"backbone weights must be a .safetensors or .pth file, got {path}")
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{path} cannot be read as weights ({reason}); fetch it again") from error
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path} does not hold named tensors; expected a state dict with torchvision's names")
    return loaded


def _check_fit(backbone: nn.Module, entries: Mapping[str, Tensor], path: Path) -> None:
    """Every entry must have its place and shape; only batch counters may be missing."""
    expected = {name: value for name, value in backbone.state_dict().items() if name not in _CLASSIFIER}
    missing = [name for name in expected if name not in entries and not name.endswith(_OPTIONAL_SUFFIX)]
    unknown = [name for name in entries if name not in expected]
    if missing or unknown:
        first = f"lacks {missing[0]}" if missing else f"has the unknown entry {unknown[0]}"
        raise CheckpointError(
            f"{path} does not fit the backbone: it {first} ({len(missing)} missing, {len(unknown)} unknown); expected "
            "torchvision's ResNet names of the recipe's backbone"
        )
    for name, value in entries.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{path} does not fit the backbone: {name} is {tuple(value.shape)}, expected "
                f"{tuple(expected[name].shape)}; pretrained weights need backbone_width 64 and the same architecture"
            )
