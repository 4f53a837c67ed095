"""The whole road on built-in pictures: synthesise, pack, train, segment, score, show.

Every step is the one that the command of the same name takes, so each continues what an earlier run left unfinished.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shards.atomic import write_atomically
from shards.build import build_shard_set
from shards.masks import encode_mask
from shards.types import Record
from synth.config import make_config
from synth.generate import SynthPlan
from synth.sources import open_backgrounds, open_objects
from vosdata.datasets.recognise import recognise
from vosdata.datasets.videos import Video, open_videos
from vosdata.evaluate.predictions import CopyFirstMask, PredictionFolder, Predictions
from vosdata.evaluate.protocols import find_protocol
from vosdata.evaluate.report import Score
from vosdata.evaluate.score import score_videos
from vosdata.infer import claim_folder, predict_video, weights_digest
from vosdata.pack import plan_pack
from vosdata.recipe import load_recipe
from vosdata.view.drawn import write_picture
from vosdata.view.overlay import overlay
from vosdata.view.page import Paragraph, Section, Table, media_file, picture, render_page
from vosdata.view.sheet import captioned, contact_sheet, resized
from vosdata.view.video import write_video

if TYPE_CHECKING:
    from vosdata.training.metrics_log import StepMetrics

Picture = NDArray[np.uint8]

PROTOCOL = "davis2017"
SYNTH_SIZE = (192, 320)
HELD_OUT_SEED = 2**32
"""Far from any seed that a user types. Objects come from the same built-in pool, in other scenes."""
SHOWN_HEIGHT = 216
"""Height of pictures on the page in pixels: the network's frames are small."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """How much the demo does; the defaults take a few minutes on two cores."""

    num_videos: int = 600
    """Synthetic videos to train on."""

    num_held_out: int = 24
    """Synthetic videos of another seed, to segment and score."""

    seed: int = 0
    """Of the videos, the first weights and the order of training."""

    overrides: tuple[str, ...] = ()
    """Further ``section.key=value`` for the recipe ``smoke``."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came out."""

    page: Path
    """The HTML page that shows everything."""

    model: Score
    """Of the trained model on the held-out videos."""

    baseline: Score
    """Of copying the first mask forward, on the same videos."""


@dataclass(frozen=True, slots=True)
class DemoFolders:
    """Where the demo puts things."""

    out: Path

    @property
    def synthvos(self) -> Path:
        """Shard set to train on."""
        return self.out / "shards" / "synthvos"

    @property
    def held_out_frames(self) -> Path:
        """Held-out videos as folders of frames and masks, the way datasets are published."""
        return self.out / "raw" / "held_out"

    @property
    def held_out(self) -> Path:
        """The same videos as a shard set."""
        return self.out / "shards" / "held_out"

    @property
    def run(self) -> Path:
        """The training's run folder."""
        return self.out / "training"

    @property
    def predictions(self) -> Path:
        """Predicted masks of the held-out videos, in the official layout."""
        return self.out / "predictions"


def run_demo(
    out: Path,
    settings: DemoSettings,
    workers: int = 1,
    say: Callable[[str], None] = print,
    on_step: "Callable[[StepMetrics, int], None] | None" = None,
) -> DemoResult:
    """Takes every step and writes ``out/index.html``.

    Args:
        out: folder for everything that is made.
        settings: how much to do.
        workers: processes that make videos.
        say: called with a line of text at each step.
        on_step: called with the metrics of each logged training step, and the number of the last step.

    Raises:
        VosDataError: a step cannot go on, e.g. because ``out`` was made with other settings.
    """
    from vosdata.train import train

    folders = DemoFolders(out)
    overrides = [f"train.seed={settings.seed}", f'data.sets={{"{folders.synthvos}": 1}}', *settings.overrides]
    recipe = load_recipe("smoke", overrides)
    say(f"1/5  synth: {settings.num_videos} videos to train on, {settings.num_held_out} held out")
    synthesise(folders, settings, workers)
    say("2/5  shard: the held-out videos, from folders of frames and masks")
    pack_held_out(folders, recipe.data.size)
    say(
        f"3/5  train: recipe smoke, {recipe.model.backbone} from scratch on {recipe.data.size[0]}x{recipe.data.size[1]}"
    )
    result = train(recipe, out=folders.run, device="cpu", on_step=on_step, on_message=say)
    say("4/5  segment: the held-out videos from their first masks")
    videos = open_videos(folders.held_out)
    segment(result.checkpoint, videos, folders.predictions)
    say('5/5  score: against "copy the first mask forward"')
    model = score_videos(videos, PredictionFolder(folders.predictions), PROTOCOL)
    baseline = score_videos(videos, CopyFirstMask(), PROTOCOL)
    page = write_page(folders, videos, model, baseline)
    return DemoResult(page, model, baseline)


def synthesise(folders: DemoFolders, settings: DemoSettings, workers: int) -> None:
    """Makes the synthetic videos: a shard set to train on, and held-out ones as folders of frames and masks."""
    config = make_config({"size": SYNTH_SIZE, "objects_per_video": (1, 3), "scene": {"area": (0.06, 0.35)}})
    objects, backgrounds = open_objects("builtin"), open_backgrounds("builtin")
    plan = SynthPlan(config, objects, backgrounds, settings.num_videos, settings.seed)
    build_shard_set(plan, folders.synthvos, workers)
    held_out = SynthPlan(config, objects, backgrounds, settings.num_held_out, settings.seed + HELD_OUT_SEED)
    write_published_form(_records(held_out), folders.held_out_frames)


def _records(plan: SynthPlan) -> Iterator[Record]:
    for item in chain.from_iterable(plan.records(shard) for shard in range(plan.num_shards)):
        if isinstance(item, Record):
            yield item


def write_published_form(records: Iterator[Record], folder: Path) -> None:
    """Writes records as datasets are published: JPEGImages/<sequence>/00000.jpg, Annotations/<sequence>/00000.png."""
    for record in records:
        frames, masks = (folder / kind / record.sequence for kind in ("JPEGImages", "Annotations"))
        for directory in (frames, masks):
            directory.mkdir(parents=True, exist_ok=True)
        for frame in record.frames:
            (frames / f"{frame.number:05d}.jpg").write_bytes(frame.image)
            if frame.mask is not None:
                (masks / f"{frame.number:05d}.png").write_bytes(encode_mask(frame.mask))


def pack_held_out(folders: DemoFolders, size: tuple[int, int]) -> None:
    """Packs the held-out folders at the size that the network is trained at."""
    (dataset,) = recognise(folders.held_out_frames)
    (split,) = dataset.split_names
    build_shard_set(plan_pack(dataset, split, size), folders.held_out)


def segment(checkpoint: Path, videos: Sequence[Video], folder: Path) -> None:
    """Segments the videos whose predictions are not there yet."""
    from vosdata.checkpoint import load_model
    from vosdata.models.agame import VideoSegmenter

    model, _ = load_model(checkpoint)
    claim_folder(folder, {"weights": weights_digest(model), "protocol": PROTOCOL})
    rule = find_protocol(PROTOCOL)
    for video in videos:
        if not (folder / video.name).is_dir():
            predict_video(VideoSegmenter(model), video, folder, rule.prepare_truth)


def write_page(folders: DemoFolders, videos: Sequence[Video], model: Score, baseline: Score) -> Path:
    """Writes ``index.html``, and beside it the pictures and the video that the page shows."""
    predictions = PredictionFolder(folders.predictions)
    synthetic = contact_sheet(
        [_row(video, video.mask) for video in open_videos(folders.synthvos)[:6]], SHOWN_HEIGHT // 2
    )
    shown = _best_and_worst(videos, model)
    compared = contact_sheet([row for video in shown for row in _compare(video, predictions)], SHOWN_HEIGHT // 2)
    for name, sheet in (("synthvos.jpg", synthetic), ("segmented.jpg", compared)):
        write_picture(folders.out / name, sheet)
    film = write_video(folders.out / "segmented.mp4", _film(videos, predictions), fps=6)
    page = folders.out / "index.html"
    rows = [_figures("A-GAME, recipe smoke", model), _figures("copy the first mask forward", baseline)]
    html = render_page(
        "vosdata demo",
        Section("Scores", [Table(("held-out videos", "J", "F", "J&F"), rows), Paragraph(_verdict(model, baseline))]),
        Section("Segmented", [media_file(film, "Held-out videos with the masks that the model found.")]),
        Section("Truth and prediction", [picture(compared, "The two best and two worst videos by J&F.")]),
        Section("SynthVOS", [picture(synthetic, "Videos that the model was trained on, with their masks.")]),
        summary="Built-in objects over built-in backgrounds; a small A-GAME from scratch; nothing downloaded.",
    )
    write_atomically(page, html.encode())
    return page


def _figures(name: str, score: Score) -> tuple[str, ...]:
    return name, f"{score.j.mean:.3f}", f"{score.f.mean:.3f}", f"{score.j_and_f:.3f}"


def _verdict(model: Score, baseline: Score) -> str:
    margin = model.j.mean - baseline.j.mean
    return (
        f"{len(model.objects)} objects in {len(model.sequences())} videos of another seed than those trained on, "
        f"protocol {model.protocol}. The model's J is {abs(margin):.3f} {'above' if margin >= 0 else 'below'} the "
        "baseline's."
    )


def _best_and_worst(videos: Sequence[Video], score: Score) -> list[Video]:
    by_name = {video.name: video for video in videos}
    ranked = sorted(score.sequences(), key=lambda sequence: sequence.j_and_f, reverse=True)
    chosen = ranked if len(ranked) <= 4 else ranked[:2] + ranked[-2:]
    return [by_name[sequence.objects[0].sequence] for sequence in chosen]


def _compare(video: Video, predictions: Predictions) -> list[tuple[str, list[Picture]]]:
    found = _row(video, predictions.open(video))
    return [_row(video, video.mask, "truth"), (f"{video.name}  prediction", found[1])]


def _row(video: Video, mask: Callable[[int], Picture | None], what: str = "") -> tuple[str, list[Picture]]:
    """A row of a contact sheet: a video's frames with masks drawn in."""
    return f"{video.name}  {what}".rstrip(), [_drawn(video.frame(t), mask(t)) for t in range(video.num_frames)]


def _film(videos: Sequence[Video], predictions: Predictions) -> Iterator[Picture]:
    for video in videos:
        mask = predictions.open(video)
        for t in range(video.num_frames):
            yield captioned(resized(_drawn(video.frame(t), mask(t)), SHOWN_HEIGHT), video.name)


def _drawn(frame: Picture, mask: Picture | None) -> Picture:
    return frame if mask is None else overlay(frame, mask)
