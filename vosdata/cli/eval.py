"""``vosdata eval``: a checkpoint on a shard set or dataset, scored."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vosdata.cli.devices import Precision, pick_precision

if TYPE_CHECKING:
    import torch

    from vosdata.datasets.videos import Video
    from vosdata.models.agame import AGAME


def command(
    checkpoint: Annotated[
        Path, typer.Argument(help="Checkpoint file, or run folder: its best checkpoint, else its last.")
    ],
    data: Annotated[Path, typer.Option(help="Shard set or dataset folder.")],
    split: Annotated[str | None, typer.Option(help="Split of a dataset folder [default: val].")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="davis2016 or davis2017 [default: davis2016 for DAVIS 2016, else davis2017].")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the predictions here, in the official layout.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="What convolutions compute in; auto: bfloat16 on a GPU, float32 on the CPU.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON, in full precision.")] = False,
) -> None:
    """Segment every sequence of a shard set or dataset with a checkpoint, and score the result.

    The model sees each object once: in the first annotated frame, or where it first appears. Predictions are palette
    PNGs that the official tools read. With --out, running the command again continues where it was cut off.

    \b
    Example:
      vosdata eval runs/agame_initial --data data/raw/DAVIS --out predictions
    """
    from vosdata.checkpoint import chosen_checkpoint, load_model
    from vosdata.cli.score import print_score, score_with_progress
    from vosdata.evaluate.protocols import find_protocol
    from vosdata.evaluate.truth import open_dataset, usual_protocol
    from vosdata.training.ranks import choose_device

    rule = find_protocol(protocol or usual_protocol(data))
    videos = open_dataset(data, split, rule.name)
    path, reason = chosen_checkpoint(checkpoint)
    device = str(choose_device(device))
    model, _ = load_model(path, device)
    if reason:
        print(f"checkpoint: {path}{reason}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="vosdata-eval-") as temporary:
        folder = out or Path(temporary) / "predictions"
        predict_all(model, videos, folder, rule.name, pick_precision(precision, device))
        if out is not None:
            print(f"predictions: {out}", file=sys.stderr)
        print_score(score_with_progress(videos, folder, rule.name), as_json)


def predict_all(
    model: "AGAME", videos: "Sequence[Video]", folder: Path, protocol: str, autocast: "torch.dtype | None" = None
) -> None:
    """Segments the sequences whose predictions are not in the folder yet.

    Raises:
        ConflictError: the folder was made by another model, from other data or for another protocol, or is not ours.
    """
    from vosdata.cli.progress import show_progress
    from vosdata.evaluate.protocols import find_protocol
    from vosdata.evaluate.truth import data_digest
    from vosdata.infer import claim_folder, predict_video, weights_digest
    from vosdata.models.agame import VideoSegmenter

    prepare = find_protocol(protocol).prepare_truth
    made_with = {"weights": weights_digest(model), "data": data_digest(videos), "protocol": protocol}
    claim_folder(folder, {**made_with, "precision": str(autocast or "torch.float32").removeprefix("torch.")})
    missing = [video for video in videos if not (folder / video.name).is_dir()]
    before, total = 0, sum(video.num_frames for video in missing)
    with show_progress("frames segmented") as update:
        for video in missing:
            shown = partial(_show_frames, update, before, total)
            predict_video(VideoSegmenter(model, autocast=autocast), video, folder, prepare, progress=shown)
            before += video.num_frames


def _show_frames(update: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    update(before + done, total)
