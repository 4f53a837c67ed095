"""The peers, each as its documentation recommends; runs in their own environment.

``peers.py prepare PEER WORK`` writes the peer's own format from ``WORK/folder``; ``peers.py serve PEER WORK ...``
answers the driver. All decode frames with OpenCV and masks from gray PNG, except the folder loaders, which use Pillow
and palette PNG as the original code of this field does.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from contender import serve
from PIL import Image
from torch.utils.data import DataLoader, Dataset, default_collate

Sample = tuple[str, torch.Tensor, torch.Tensor]
PREFETCH = 2
"""Batches that each worker prepares ahead: torch's default."""


def decode(key: str, images: list[bytes], masks: list[bytes]) -> Sample:
    """One snippet with OpenCV: frames (T, H, W, 3), masks (T, H, W)."""
    frames = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) for data in images]
    labels = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) for data in masks]
    return key, torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(labels))


def read_snippet(folder: Path) -> tuple[str, list[bytes], list[bytes]]:
    """A snippet's files."""
    images = sorted(folder.glob("*.jpg"))
    return (
        folder.name,
        [path.read_bytes() for path in images],
        [path.with_suffix(".gray.png").read_bytes() for path in images],
    )


def in_columns(images: list[bytes], masks: list[bytes]) -> dict[str, bytes]:
    """A snippet as flat columns, for formats that store no lists of bytes."""
    columns = {f"image{number:02d}": data for number, data in enumerate(images)}
    return columns | {f"mask{number:02d}": data for number, data in enumerate(masks)}


def decode_columns(stored: dict[str, Any]) -> Sample:
    """Decodes what :func:`in_columns` made."""
    images, masks = ([stored[name] for name in sorted(stored) if name.startswith(kind)] for kind in ("image", "mask"))
    return decode(stored["key"], images, masks)


def stand_in_for_torchvision() -> None:
    """Lets MosaicML Streaming be imported beside a CPU-only torch, for which torchvision's wheel cannot be loaded.

    It imports two names for its ready-made picture datasets, which are not used here.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in (
            "torchvision",
            "torchvision.datasets",
            "torchvision.transforms",
            "torchvision.transforms.functional",
        ):
            module: Any = ModuleType(name)
            module.__spec__ = ModuleSpec(name, None, is_package=True)
            module.VisionDataset, module.to_tensor = object, None
            sys.modules[name] = module


class Peer:
    """A loader under test; see ``contender.Loader``."""

    def __init__(self, work: Path, options: argparse.Namespace) -> None:
        self.work = work
        self.options = options
        self.folder = work / self.stored_in
        self._loader: Any = None
        self._cache: str | None = None

    stored_in = "folder"

    @staticmethod
    def prepare(work: Path) -> None:
        """Writes the peer's format; the folder itself needs nothing."""

    def open(self) -> Any:
        """Makes the loader."""
        raise NotImplementedError

    def epoch(self) -> Iterator[tuple[list[str], Any, Any]]:
        if self._loader is None:
            self._loader = self.open()
        for keys, frames, masks in self._loader:
            yield list(keys), frames, masks

    def stop(self) -> None:
        self._loader = None
        if self._cache is not None:
            shutil.rmtree(self._cache, ignore_errors=True)
            self._cache = None

    def pixels(self, frames: Any, masks: Any) -> tuple[Any, Any]:
        return frames.numpy(), masks.numpy()

    def new_cache(self) -> str:
        """An empty folder for what is fetched; gone when the loader stops."""
        self._cache = tempfile.mkdtemp(prefix="peer-cache-", dir=self.work)
        return self._cache

    def worker_options(self) -> dict[str, Any]:
        return {"num_workers": self.options.workers, "prefetch_factor": PREFETCH, "persistent_workers": True}


class FolderDataset(Dataset[Sample]):
    """Pictures in a folder, read by Pillow."""

    def __init__(self, folder: Path) -> None:
        self.snippets = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self.snippets)

    def __getitem__(self, place: int) -> Sample:
        images = sorted(self.snippets[place].glob("*.jpg"))
        frames = np.stack([np.asarray(Image.open(path)) for path in images])
        masks = np.stack([np.asarray(Image.open(path.with_suffix(".png"))) for path in images])
        return self.snippets[place].name, torch.from_numpy(frames), torch.from_numpy(masks)


class OriginalDataset(FolderDataset):
    """As A-GAME's published loaders: Pillow, normalised float frames and int64 masks, made in the worker."""

    def __getitem__(self, place: int) -> Sample:
        images = sorted(self.snippets[place].glob("*.jpg"))
        frames = [self._as_float(np.array(Image.open(path))) for path in images]
        masks = [torch.from_numpy(np.array(Image.open(path.with_suffix(".png")))).long() for path in images]
        return self.snippets[place].name, torch.stack(frames), torch.stack(masks)

    @staticmethod
    def _as_float(picture: Any) -> torch.Tensor:
        """What torchvision's ToTensor and Normalize do: contiguous (3, H, W), 0 to 1, then mean and deviation."""
        frame = torch.from_numpy(picture).permute(2, 0, 1).contiguous().float().div(255)
        return frame.sub_(torch.tensor(MEAN).view(3, 1, 1)).div_(torch.tensor(DEVIATION).view(3, 1, 1))


MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class FolderPeer(Peer):
    """Folder + DataLoader, uint8."""

    dataset: type[FolderDataset] = FolderDataset

    def open(self) -> Any:
        dataset = self.dataset(self.folder)
        return DataLoader(dataset, self.options.batch, shuffle=True, **self.worker_options())


class OriginalPeer(FolderPeer):
    """Folder + DataLoader, float, as the original code."""

    dataset = OriginalDataset

    def pixels(self, frames: Any, masks: Any) -> tuple[Any, Any]:
        shape = (1, 1, 3, 1, 1)
        pictures = (frames * torch.tensor(DEVIATION).view(shape) + torch.tensor(MEAN).view(shape)) * 255
        return pictures.round().byte().permute(0, 1, 3, 4, 2).contiguous().numpy(), masks.byte().numpy()


def decode_tar_sample(sample: dict[str, Any]) -> Sample:
    """A webdataset sample: members NN.jpg and NN.png."""
    images = [sample[name] for name in sorted(name for name in sample if name.endswith(".jpg"))]
    masks = [sample[name] for name in sorted(name for name in sample if name.endswith(".png"))]
    return decode(sample["__key__"], images, masks)


class WebDatasetPeer(Peer):
    """webdataset: shard and sample shuffle, batched in the worker, WebLoader."""

    stored_in = "webdataset"

    @staticmethod
    def prepare(work: Path) -> None:
        import webdataset

        (work / "webdataset").mkdir()
        with webdataset.ShardWriter(str(work / "webdataset" / "%06d.tar"), maxcount=25, verbose=0) as writer:
            for folder in sorted((work / "folder").iterdir()):
                key, images, masks = read_snippet(folder)
                numbered = {f"{number:02d}.jpg": data for number, data in enumerate(images)}
                numbered |= {f"{number:02d}.png": data for number, data in enumerate(masks)}
                writer.write({"__key__": key, **numbered})

    def open(self) -> Any:
        import webdataset

        names = sorted(path.name for path in self.folder.glob("*.tar"))
        base = f"{self.options.remote}/webdataset" if self.options.remote else str(self.folder)
        dataset = (
            webdataset.WebDataset([f"{base}/{name}" for name in names], shardshuffle=100, detshuffle=True)
            .shuffle(100)
            .map(decode_tar_sample)
            .batched(self.options.batch, collation_fn=default_collate)
        )
        return webdataset.WebLoader(dataset, batch_size=None, **self.worker_options())


class MosaicPeer(Peer):
    """MosaicML Streaming: MDS shards, default shuffle."""

    stored_in = "mosaic"

    @staticmethod
    def prepare(work: Path) -> None:
        stand_in_for_torchvision()
        from streaming import MDSWriter

        snippets = [read_snippet(folder) for folder in sorted((work / "folder").iterdir())]
        num_frames = len(snippets[0][1])
        names = [f"{kind}{number:02d}" for number in range(num_frames) for kind in ("image", "mask")]
        columns = {"key": "str", **dict.fromkeys(names, "bytes")}
        per_shard = 25 * sum(len(data) for _, images, masks in snippets for data in (*images, *masks)) // len(snippets)
        with MDSWriter(out=str(work / "mosaic"), columns=columns, size_limit=per_shard) as writer:
            for key, images, masks in snippets:
                writer.write({"key": key, **in_columns(images, masks)})

    def open(self) -> Any:
        stand_in_for_torchvision()
        import streaming

        class Decoded(streaming.StreamingDataset):
            def __getitem__(self, place: int) -> Any:
                return decode_columns(super().__getitem__(place))

        streaming.base.util.clean_stale_shared_memory()
        batch = self.options.batch
        if self.options.remote:
            host, bucket = self.options.remote.rsplit("/", 1)
            os.environ |= {"S3_ENDPOINT_URL": host, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
            remote = f"s3://{bucket}/mosaic"
            dataset = Decoded(remote=remote, local=self.new_cache(), shuffle=True, batch_size=batch)
            for stream in dataset.streams:  # forked workers would share the connection that fetched the index
                stream._downloader.clean_up()
        else:
            dataset = Decoded(local=str(self.folder), shuffle=True, batch_size=batch)
        return DataLoader(dataset, batch, **self.worker_options())


def whole_snippet(folder: str) -> dict[str, Any]:
    """What LitData stores."""
    key, images, masks = read_snippet(Path(folder))
    return {"key": key, **in_columns(images, masks)}


class LitDataPeer(Peer):
    """LitData: optimised chunks, StreamingDataLoader."""

    stored_in = "litdata"

    @staticmethod
    def prepare(work: Path) -> None:
        import litdata

        folders = [str(folder) for folder in sorted((work / "folder").iterdir())]
        litdata.optimize(whole_snippet, folders, str(work / "litdata"), chunk_size=25, num_workers=1)

    def open(self) -> Any:
        import litdata

        class Decoded(litdata.StreamingDataset):
            def __getitem__(self, place: Any) -> Any:
                return decode_columns(super().__getitem__(place))

        if self.options.remote:
            litdata.streaming.downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True  # else https alone
            host, bucket = self.options.remote.rsplit("/", 1)
            access = {"endpoint_url": host, "aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "x"}
            dataset = Decoded(
                f"s3://{bucket}/litdata", shuffle=True, storage_options=access, cache_dir=self.new_cache()
            )
        else:
            dataset = Decoded(str(self.folder), shuffle=True)
        return litdata.StreamingDataLoader(dataset, batch_size=self.options.batch, **self.worker_options())


def load_snippet(folder: Path) -> Sample:
    """One snippet in a thread of SPDL's pipeline."""
    return decode(*read_snippet(folder))


class SpdlPeer(Peer):
    """SPDL: a pipeline of threads in the trainer's process."""

    def epoch(self) -> Iterator[tuple[list[str], Any, Any]]:
        from spdl.pipeline import PipelineBuilder

        snippets = sorted(self.folder.iterdir())
        random.shuffle(snippets)
        pipeline = (
            PipelineBuilder()
            .add_source(snippets)
            .pipe(load_snippet, concurrency=self.options.workers)
            .aggregate(self.options.batch)
            .pipe(default_collate)
            .add_sink(PREFETCH)
            .build(num_threads=self.options.workers)
        )
        with pipeline.auto_stop():
            for keys, frames, masks in pipeline.get_iterator(timeout=60):
                yield list(keys), frames, masks


PEERS: dict[str, type[Peer]] = {
    "webdataset": WebDatasetPeer,
    "mosaic": MosaicPeer,
    "litdata": LitDataPeer,
    "folder": FolderPeer,
    "original": OriginalPeer,
    "spdl": SpdlPeer,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=("prepare", "serve"))
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("work", type=Path)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--remote", help="URL under which WORK is served")
    options = parser.parse_args()
    cv2.setNumThreads(0)  # OpenCV's own threads would fight with the workers
    torch.set_num_threads(1)
    peer = PEERS[options.peer]
    if options.action == "prepare":
        peer.prepare(options.work)
    else:
        serve(peer(options.work, options))


if __name__ == "__main__":
    main()
