"""Experiments: named contenders, each trained, examined on held-out videos, and never done twice.

A contender has a folder of its own: the run folders of its training, and ``scores.json`` when it has been examined. So
an experiment that was cut goes on inside the run that was under way, and one that is complete only reads its scores.
"""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import torch

from shards.atomic import write_atomically
from shards.conflict import refuse_other_configuration
from shards.errors import TrainingError
from vosdata.checkpoint import load_model
from vosdata.datasets.videos import open_videos
from vosdata.evaluate.predictions import CopyFirstMask, Mask, Predictions, SequenceMasks
from vosdata.evaluate.protocols import EvaluationProtocol, find_protocol
from vosdata.evaluate.score import score_videos
from vosdata.evaluate.truth import data_digest
from vosdata.frames import NumberedFrame
from vosdata.infer import FramedVideo, Segmenter, segment_frames
from vosdata.models.agame import VideoSegmenter
from vosdata.recipe import Recipe
from vosdata.train import train

SCORES_FILE = "scores.json"
MEASURES = ("J", "F", "J&F")


@dataclass(frozen=True)
class Exam:
    """Held-out videos that every contender segments."""

    name: str
    videos: Path
    """Shard set."""

    protocol: str


class Contender(Protocol):
    """Something that predicts masks, in one of several versions that differ by seed."""

    @property
    def arm(self) -> str:
        """What is compared; contenders of one arm differ in their seed alone."""

    @property
    def seed(self) -> int: ...

    def configuration(self) -> dict[str, Any]:
        """Everything that determines the predictions, as JSON."""

    def prepare(self, folder: Path, device: str) -> Callable[[EvaluationProtocol], Predictions]:
        """Does the work that all exams share, such as training; called again it goes on where it was cut.

        Raises:
            TrainingError: the training failed for good.
        """


@dataclass(frozen=True)
class Trained:
    """A-GAME, trained as recipes say, each stage from the weights of the one before."""

    arm: str
    seed: int
    recipes: tuple[Recipe, ...]

    def configuration(self) -> dict[str, Any]:
        sets = {folder: _checksum(Path(folder)) for recipe in self.recipes for folder in recipe.data.sets}
        stages = {f"stage{number}": recipe.configuration() for number, recipe in enumerate(self.recipes, start=1)}
        return {**stages, "checksums": sets}

    def prepare(self, folder: Path, device: str) -> Callable[[EvaluationProtocol], Predictions]:
        before: Path | None = None
        for number, recipe in enumerate(self.recipes, start=1):
            out = stage_folder(folder, number)
            train(_from_stage(recipe, before), out=out, device=device, on_message=_say_nothing)
            before = out
        model, _ = load_model(out, "cuda" if device == "auto" and torch.cuda.is_available() else "cpu")
        return lambda protocol: Segmented(lambda: VideoSegmenter(model), protocol)


def stage_folder(folder: Path, number: int) -> Path:
    """Run folder of a stage, counted from 1, of the contender whose folder it is."""
    return folder / f"stage{number}"


def _from_stage(recipe: Recipe, before: Path | None) -> Recipe:
    if before is None:
        return recipe
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"init_from": str(before)})})


@dataclass(frozen=True)
class FirstMaskCopied:
    """The first mask, in every frame."""

    arm: str = "copy"
    seed: int = 0

    def configuration(self) -> dict[str, Any]:
        return {}

    def prepare(self, folder: Path, device: str) -> Callable[[EvaluationProtocol], Predictions]:
        return lambda protocol: CopyFirstMask()


class Segmented:
    """Predictions that are made while they are scored, and kept nowhere."""

    def __init__(self, make_segmenter: Callable[[], Segmenter], protocol: EvaluationProtocol) -> None:
        self._make_segmenter = make_segmenter
        self._protocol = protocol

    def open(self, video: FramedVideo) -> SequenceMasks:
        def annotation(t: int) -> Mask | None:
            mask = video.mask(t)
            return None if mask is None else self._protocol.prepare_truth(mask)

        frames = (NumberedFrame(t, video.frame(t)) for t in range(video.num_frames))
        segmented = segment_frames(self._make_segmenter(), frames, annotation)
        return lambda t: next(frame.mask for frame in segmented if frame.number == t)


def run_all(
    contenders: Sequence[Contender], exams: Sequence[Exam], folder: Path, jobs: int = 1, device: str = "auto"
) -> list[dict[str, Any]]:
    """Prepares and examines contenders, several at once, in processes of one PyTorch thread each.

    Args:
        contenders: what to examine, most important first.
        exams: what on.
        folder: holds the contenders' folders ``<arm>-seed<seed>``.
        jobs: how many processes work at a time.
        device: where networks live.

    Returns:
        The contenders' ``scores.json``, in the order of the contenders.

    Raises:
        ConflictError: the folder holds a contender of that name that was made in another way.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent) as pool:
        tasks = [pool.submit(examine, contender, exams, folder, device) for contender in contenders]
        try:
            for done, task in enumerate(as_completed(tasks), start=1):
                print(f"[{done}/{len(tasks)}] {_summary(task.result())}", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return [task.result() for task in tasks]


def _end_with_parent() -> None:
    """Ends this process when the experiment is killed: a training that went on alone would keep its folder locked."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def examine(contender: Contender, exams: Sequence[Exam], folder: Path, device: str) -> dict[str, Any]:
    """Prepares one contender and scores it in every exam, unless its scores are there already."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    home = folder / f"{contender.arm}-seed{contender.seed}"
    path = home / SCORES_FILE
    checksums = {exam.name: [exam.protocol, _checksum(exam.videos)] for exam in exams}
    configuration = {"exams": checksums, **contender.configuration()}
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        refuse_other_configuration(home, found["configuration"], configuration)
        return found
    facts = {"arm": contender.arm, "seed": contender.seed, "configuration": configuration}
    before = time.perf_counter()
    try:
        open_predictions = contender.prepare(home, device)
    except TrainingError as error:
        facts["failure"] = str(error)
    else:
        facts["seconds_of_last_start"] = round(time.perf_counter() - before, 1)
        facts["exams"] = {exam.name: _score(exam, open_predictions(find_protocol(exam.protocol))) for exam in exams}
    home.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(facts, indent=1) + "\n").encode())
    return facts


def _score(exam: Exam, predictions: Predictions) -> dict[str, Any]:
    score = score_videos(open_videos(exam.videos), predictions, exam.protocol)
    by_sequence = {one.objects[0].sequence: one.j_and_f for one in score.sequences()}
    measures = dict(zip(MEASURES, (score.j.mean, score.f.mean, score.j_and_f), strict=True))
    return {**measures, "num_objects": len(score.objects), "J&F of sequences": by_sequence}


def values(results: Sequence[dict[str, Any]], arm: str, exam: str, measure: str) -> dict[int, float]:
    """Seed to measure, of an arm's contenders that did not fail."""
    return {one["seed"]: one["exams"][exam][measure] for one in results if one["arm"] == arm and "exams" in one}


def failures(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each contender whose training failed."""
    return (f"{one['arm']}, seed {one['seed']}: {one['failure']}" for one in results if "failure" in one)


def _checksum(shard_set: Path) -> str:
    return data_digest(open_videos(shard_set)[:1])  # holds the checksum of the whole set


def _summary(facts: dict[str, Any]) -> str:
    name = f"{facts['arm']}, seed {facts['seed']}: "
    if "failure" in facts:
        return name + f"failed, {facts['failure']}"
    return name + ", ".join(f"{exam} J {one['J']:.3f} F {one['F']:.3f}" for exam, one in facts["exams"].items())


def _say_nothing(line: str) -> None:
    """What a training tells; its metrics.jsonl holds it too."""
