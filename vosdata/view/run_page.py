"""The report of a training as one page: its curves, its masks over time, and what its appearance module thinks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vosdata.checkpoint import list_checkpoints, load_model
from vosdata.datasets.sized import SizedVideo
from vosdata.datasets.videos import open_videos
from vosdata.infer import FramedVideo
from vosdata.models.agame import AGAME
from vosdata.view.curves import charts
from vosdata.view.drawn import spread
from vosdata.view.overlay import overlay
from vosdata.view.page import Block, Paragraph, Section, Table, picture, render_page
from vosdata.view.run_folder import RunFolder, open_run
from vosdata.view.sheet import captioned, contact_sheet, resized
from vosdata.view.watched import COMPONENTS, WatchedFrame, WatchedVideo, heat, likeliest, watch

Picture = NDArray[np.uint8]
Item = TypeVar("Item")

NUM_EXTREMES = 2
"""Best and worst sequences that are shown, so many of each."""


def run_page(
    path: Path, data: Path | None = None, split: str | None = None, rows: int = 12, columns: int = 6, height: int = 140
) -> str:
    """The page of a run.

    Args:
        path: the run folder.
        data: shard set or dataset folder whose sequences are segmented and shown; None takes what the run was validated
            on, or else what it was trained on. They are brought to the size trained at.
        split: of a dataset folder.
        rows: how many sequences to segment, evenly chosen, where no validation tells the best and the worst.
        columns: frames shown of each sequence.
        height: of these frames, in pixels.

    Raises:
        VosDataError: recipe, checkpoint or data cannot be read.
    """
    run = open_run(path)
    sections = [Section("In short", [Table(("recipe", run.recipe.name), run.facts())])]
    if run.steps:
        sections.append(Section("Curves", [charts(run.charts(), "Strong lines are running means.")]))
    if list_checkpoints(path):
        model, _ = load_model(path)
        watched, how = _watch(run, model, data, split, rows, columns)
        sections += [_masks(watched, how, height), *_appearance(watched, height)]
    else:
        sections.append(Section("Sequences", [Paragraph("The run has written no checkpoint yet.")]))
    return render_page(path.resolve().name, *sections, summary="A training, from its run folder")


def _watch(
    run: RunFolder, model: AGAME, data: Path | None, split: str | None, rows: int, columns: int
) -> tuple[list[WatchedVideo], str]:
    """Segments the sequences to show, the best first, and says how they were chosen."""
    if data is None and run.validated:
        return _watch_validated(run, model, columns)
    source = data or run.shard_sets()[0]
    videos = open_videos(source, split)
    some = [
        _watch_some(model, SizedVideo(videos[place], run.recipe.data.size), columns)
        for place in spread(len(videos), rows)
    ]
    ranked = sorted(some, key=lambda one: -1.0 if one.j is None else one.j, reverse=True)
    what = "named" if data else "trained on, for there was no validation"
    return _extremes(ranked), f"Best and worst by J of {len(some)} sequences of {source.name} ({what})."


def _watch_validated(run: RunFolder, model: AGAME, columns: int) -> tuple[list[WatchedVideo], str]:
    """The same, where a validation says which are the best: as it saw them."""
    validation, chosen = run.recipe.validation, _extremes(run.validated)
    size = run.recipe.data.size if validation.size == "training" else None
    watched = []
    for score in chosen:
        video = next(video for video in open_videos(score.shard_set) if video.name == score.name)
        watched.append(_watch_some(model, SizedVideo(video, size, validation.max_frames), columns))
    listed = ", ".join(f"{score.name} {score.j:.3f}" for score in chosen)
    return watched, f"Best and worst of the {len(run.validated)} sequences of the best validation, by J: {listed}."


def _watch_some(model: AGAME, video: FramedVideo, columns: int) -> WatchedVideo:
    return watch(model, video, spread(video.num_frames, columns))


def _extremes(ranked: Sequence[Item]) -> list[Item]:
    """The first and the last few, none twice."""
    if len(ranked) <= 2 * NUM_EXTREMES:
        return list(ranked)
    return [*ranked[:NUM_EXTREMES], *ranked[-NUM_EXTREMES:]]


def _masks(watched: Sequence[WatchedVideo], how: str, height: int) -> Section:
    """Truth, coarse and final masks over time."""
    blocks: list[Block] = [Paragraph(how)]
    for video in watched:
        score = "" if video.j is None else f", J {video.j:.3f}"
        rows = [(f"{video.name}{score}: truth", [_tile(frame, _truth(frame), height) for frame in video.frames])]
        rows.append(
            ("coarse mask of the first object", [_tile(frame, _coarse(frame), height) for frame in video.frames])
        )
        rows.append(("final masks", [_tile(frame, overlay(frame.rgb, frame.mask), height) for frame in video.frames]))
        blocks.append(picture(contact_sheet(rows, height)))
    return Section("Best and worst sequences", blocks)


def _appearance(watched: Sequence[WatchedVideo], height: int) -> Iterator[Section]:
    """The appearance module's maps beside the frame, as in the paper's figure 3; nothing where there is no module."""
    rows = []
    for video in watched:
        explained = [frame for frame in video.frames if frame.components]
        for frame in explained[len(explained) // 2 :][:1]:
            maps = [
                captioned(resized(heat(one), height), name)
                for name, one in zip(COMPONENTS, frame.components, strict=False)
            ]
            drawn = _tile(frame, overlay(frame.rgb, frame.mask), height)
            joint = captioned(resized(likeliest(frame.components), height), "likeliest")
            rows.append((video.name, [drawn, joint, *maps]))
    if rows:
        text = (
            "How likely each Gaussian of the first object's appearance model is, from dark to bright, and the "
            "likeliest one: red the target, yellow its residual, green what of the background might be taken for it."
        )
        yield Section("Appearance", [Paragraph(text), picture(contact_sheet(rows, height))])


def _truth(frame: WatchedFrame) -> Picture:
    return frame.rgb if frame.truth is None else overlay(frame.rgb, frame.truth)


def _coarse(frame: WatchedFrame) -> Picture:
    """The coarse mask; gray where it was given and not predicted."""
    return np.full_like(frame.rgb, 128) if frame.coarse is None else heat(frame.coarse)


def _tile(frame: WatchedFrame, drawn: Picture, height: int) -> Picture:
    return captioned(resized(drawn, height), str(frame.number))
