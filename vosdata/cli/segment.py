"""``vosdata segment``: masks of a video from its first mask."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vosdata.cli.devices import Precision, pick_precision

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vosdata.infer import SegmentedFrame

USUAL_FRAME_RATE = 24.0


def command(
    video: Annotated[Path, typer.Argument(metavar="VIDEO_OR_FOLDER", help="Video file, or folder of frames.")],
    mask: Annotated[
        list[Path],
        typer.Option(
            help="PNG mask of the first frame; repeat it, or name a folder, for objects that join later: those are "
            "masks whose file name is the frame number."
        ),
    ],
    checkpoint: Annotated[
        Path, typer.Option(help="Checkpoint file, or run folder: its best checkpoint, else its last.")
    ],
    out: Annotated[Path | None, typer.Option(help="Output folder [default: segmented/<name of the video>].")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="What convolutions compute in; auto: bfloat16 on a GPU, float32 on the CPU.")
    ] = "auto",
) -> None:
    """Segment a video or a folder of frames from its first mask.

    A mask is a PNG whose values are object ids (palette or gray), or white on black for one object, at the frames'
    size. Writes masks/00000.png, ... as palette PNGs, and a video with the masks drawn in. Videos may be of any length.

    \b
    Example:
      vosdata segment holiday.mp4 --mask first.png --checkpoint runs/agame_finetune
    """
    from vosdata.ahead import ahead
    from vosdata.checkpoint import chosen_checkpoint, load_model
    from vosdata.cli.progress import show_progress
    from vosdata.frames import open_frames
    from vosdata.given import GivenMaskFiles
    from vosdata.infer import claim_folder, segment_frames, weights_digest
    from vosdata.models.agame import VideoSegmenter
    from vosdata.training.ranks import choose_device
    from vosdata.view.video import write_video

    source = open_frames(video)
    masks = GivenMaskFiles(mask, source.first_number)
    first = next(iter(source))
    masks.check_size(first.rgb.shape[0], first.rgb.shape[1])
    path, reason = chosen_checkpoint(checkpoint)
    device = str(choose_device(device))
    model, _ = load_model(path, device)
    if reason:
        print(f"checkpoint: {path}{reason}", file=sys.stderr)
    autocast = pick_precision(precision, device)
    folder = out or Path("segmented") / video.resolve().stem
    made_with = {"video": video.name, "masks": masks.digests(), "weights": weights_digest(model)}
    claim_folder(folder, {**made_with, "precision": str(autocast or "torch.float32").removeprefix("torch.")})
    # Reading, segmenting and writing go on at the same time.
    segmented = ahead(segment_frames(VideoSegmenter(model, autocast=autocast), ahead(source), masks.read))
    with show_progress("frames") as update:
        pictures = write_masks(segmented, folder / "masks", lambda done: update(done, source.num_frames or done))
        target = write_video(folder / "overlay.mp4", pictures, source.frame_rate or USUAL_FRAME_RATE)
    masks.check_all_read()
    print(f"{folder / 'masks'}: palette PNG masks\n{target}: the video with its masks drawn in")


def write_masks(
    frames: "Iterable[SegmentedFrame]", folder: Path, progress: Callable[[int], None]
) -> "Iterator[NDArray[np.uint8]]":
    """Writes the mask of each frame that passes by, and gives the frame with its mask drawn in."""
    from vosdata.evaluate.predictions import write_prediction
    from vosdata.view.overlay import overlay

    for done, frame in enumerate(frames, start=1):
        write_prediction(folder, frame.number, frame.mask)
        progress(done)
        yield overlay(frame.rgb, frame.mask)
