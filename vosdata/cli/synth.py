"""``vosdata synth``: makes SynthVOS as a shard set."""

import json
import os
import re
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vosdata.cli.building import EngineOption, NumTasksOption, TaskIdOption, parse_building, report_json
from vosdata.cli.matching import fit_config, fixed_keys
from vosdata.cli.options import parse_size
from vosdata.cli.stored_scenes import (
    check_nothing_else,
    check_rendering_only,
    check_scene_file,
    rendering_values,
    say_what_differs,
    sources_described,
    sources_of,
    write_scene_file,
)
from vosdata.raw_sources import background_specs, object_specs
from vosdata.world import data_root

if TYPE_CHECKING:
    from shards.plan import BuildReport
    from synth.config import SynthConfig
    from synth.presets import PresetName
    from synth.stored import StoredScenes
    from synth.truth import TruthKind
    from synth.types import BackgroundSource, ObjectSource


def command(
    n: Annotated[
        int | None, typer.Option("--n", help="Number of videos. [default with --from: all]", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the shard set, or a .parquet file for the scenes alone. [default: ROOT/shards/synthvos]",
            show_default=False,
        ),
    ] = None,
    scenes: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SHARDS|SCENES.parquet|DATASET.json",
            help="Render the scenes of a shard set or scene file again, at any size and length; or make a whole set "
            "again to the byte from its dataset.json.",
            show_default=False,
        ),
    ] = None,
    objects: Annotated[
        list[str] | None,
        typer.Option(help="Source of cutouts: a folder or 'builtin'; may be repeated. [default: what ROOT/raw holds]"),
    ] = None,
    backgrounds: Annotated[
        list[str] | None,
        typer.Option(help="Source of backgrounds: a folder or 'builtin'; may be repeated."),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(help="Frames per video. [default: 8, with --from as the scenes' set]", show_default=False),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Height x width of the frames in pixels. [default: 240x432, with --from as the scenes' set]",
            show_default=False,
        ),
    ] = None,
    objects_per_video: Annotated[
        str | None, typer.Option(help="Fewest-most objects in a video. [default: 1-5]", show_default=False)
    ] = None,
    preset: Annotated[
        Literal["paper", "rich", "hard"] | None,
        typer.Option(
            help="Scenes: 'paper' moves cutouts straight over a still photograph, nothing more; 'rich' adds turning, "
            "resizing, bending, a moving camera, light, shadows, blur and compression; 'hard' is faster, smaller, more "
            "hidden and worse to see. [default: rich]",
            show_default=False,
        ),
    ] = None,
    match: Annotated[
        Path | None,
        typer.Option(
            metavar="SHARDS",
            help="Fit object count, area, speed, change of scale and occlusion to a real shard set, from the preset "
            "on; keys named by --set stay. A page beside --out shows histograms of target, before and after.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Another seed gives other videos. [default: 0]", show_default=False)
    ] = None,
    workers: Annotated[str, typer.Option(help="Processes; 'auto' is one per core. Changes no byte.")] = "auto",
    engine: EngineOption = "local",
    num_tasks: NumTasksOption = None,
    task_id: TaskIdOption = None,
    on_bad: Annotated[
        Literal["stop", "skip"],
        typer.Option(help="A picture that cannot be used: stop, or draw another and report it."),
    ] = "stop",
    truth: Annotated[
        str | None,
        typer.Option(
            help="Exact truth to store besides the masks: any of amodal,flow,order,visibility,camera,role,blur,light,"
            "quality,sources, separated by commas. How each is stored is told in synth/truth.py.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="What draws the frames: 'cpu', or 'cuda' or 'cuda:N' in large batches, while the cores encode. The "
            "scenes are the same; few pixels differ, so the set's configuration says which it was.",
        ),
    ] = "cpu",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the configuration, such as scene.area=0.02,0.1."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Data root. [default: $VOSDATA_ROOT or ./data]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Make SynthVOS: cut-out objects moving over photographs, as a shard set with exact masks.

    Running the command again continues what was cut off; the same options give the same bytes, whatever the workers.
    Keys for --set, with units and ranges, are those of synth/config.py; an unknown key lists them.

    \b
    Examples:
      vosdata synth --n 100 --objects builtin --backgrounds builtin --out synthvos
      vosdata synth --n 10000 --objects raw/MSRA10K --backgrounds raw/VOCdevkit --preset hard --set scene.tilt=20
      vosdata synth --n 1000000 --out /shared/synthvos --num-tasks 64 --task-id $SLURM_ARRAY_TASK_ID
      vosdata synth --n 10000 --match data/shards/davis2017-train
      vosdata synth --n 10000 --out scenes.parquet
      vosdata synth --from scenes.parquet --size 480x864 --frames 14 --out large
      vosdata synth --from synthvos/dataset.json --objects raw/MSRA10K --backgrounds raw/VOCdevkit --out again
    """
    # There is a process for every core; numpy's own threads would only take turns with them. It looks when imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Its processes then ask for memory in pages of 2 MiB: looking pictures up misses the processor's page table less.
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    from synth.generate import SynthPlan
    from synth.generate_device import DevicePlan
    from synth.reproduce import read_description
    from synth.stored import open_scenes

    _check_numbers(n, seed, scenes)
    description = read_description(Path(scenes)) if scenes is not None and scenes.endswith(".json") else None
    stored = None
    if description is not None:
        check_nothing_else(out, n, frames, size, objects_per_video, preset, seed, truth, overrides)
        objects, backgrounds = sources_described(description.configuration, objects, backgrounds)
    elif scenes is not None:
        check_rendering_only(out, objects_per_video, preset, seed, overrides)
        stored = open_scenes(scenes)
        n = len(stored) if n is None else n
        objects, backgrounds = sources_of(stored, objects, backgrounds)
    config = _config(stored, frames, size, objects_per_video, overrides or [], preset)
    if match is not None and scenes is not None:
        raise typer.BadParameter("--match says how scenes are drawn; those of --from are drawn already")
    kinds = _parse_truth(truth)
    building = parse_building(engine, workers, num_tasks, task_id)
    base = data_root(root)
    target = out or base / "shards" / "synthvos"
    if target.suffix == ".parquet":
        check_scene_file(kinds, engine, num_tasks)
    if device != "cpu":
        building = replace(building, workers=1)  # the device's batches keep it busy; the cores encode
        _check_device(device, engine, out, kinds, description is not None)
    sources = _open_sources(base / "raw", objects, backgrounds)
    if stored is not None:
        say_what_differs(stored, *sources)
    if match is not None:
        fixed = fixed_keys(overrides, objects_per_video)
        page = target.resolve().with_name(f"{target.resolve().name}.match.html")
        config = fit_config(match, config, sources[0], fixed, page)
    if description is not None:
        plan = description.plan(*sources, on_bad=on_bad)
    else:
        make_plan = SynthPlan if device == "cpu" else partial(DevicePlan, device=device)
        plan = make_plan(config, *sources, n or 0, seed or 0, on_bad=on_bad, truth=kinds, stored=stored)
    start = time.monotonic()
    if target.suffix == ".parquet":
        write_scene_file(plan, target, as_json)
        return
    report = building.build(plan, target, "videos")
    if as_json:
        print(json.dumps([] if report is None else [report_json(report)], indent=2))
    elif report is not None:
        _print_summary(report, time.monotonic() - start)


def _check_numbers(n: int | None, seed: int | None, scenes: str | None) -> None:
    if n is not None and n < 1:
        raise typer.BadParameter(f"--n wants a number of videos of at least 1, got {n}")
    if n is None and scenes is None:
        raise typer.BadParameter("--n wants the number of videos to make")
    if seed is not None and not 0 <= seed < 2**63:
        raise typer.BadParameter(f"--seed must lie in [0, 2**63), got {seed}")


def _config(
    stored: "StoredScenes | None",
    frames: int | None,
    size: str | None,
    objects_per_video: str | None,
    overrides: list[str],
    preset: "PresetName | None",
) -> "SynthConfig":
    """The configuration: what the options say, else the set of the stored scenes, else the preset."""
    from synth.config import make_config

    values: dict[str, Any] = {} if stored is None else rendering_values(stored)
    if frames is not None:
        values["num_frames"] = frames
    if size is not None:
        values["size"] = parse_size(size)
    if objects_per_video is not None:
        values["objects_per_video"] = _parse_range(objects_per_video)
    return make_config(values, overrides, preset or "rich")


def _check_device(device: str, engine: str, out: Path | None, kinds: list["TruthKind"], again: bool) -> None:
    """Refuses what cannot be done on a device, and a device that is not there."""
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise typer.BadParameter(f"--device wants cpu, cuda or cuda:N, got {device!r}")
    if engine != "local" or kinds or again or (out is not None and out.suffix == ".parquet"):
        raise typer.BadParameter(
            f"--device {device} draws frames and masks, in one process; --truth, --engine ray, a dataset.json to make "
            "again and a file of scenes go with --device cpu"
        )
    from vosdata.training.ranks import choose_device

    choose_device(device)


def _parse_range(text: str) -> tuple[int, int]:
    from synth.config import parse_counts

    try:
        return parse_counts(text)
    except ValueError as error:
        raise typer.BadParameter(f"--objects-per-video {error}") from None


def _parse_truth(text: str | None) -> list["TruthKind"]:
    from synth.truth import TRUTH_KINDS

    wanted = [word.strip() for word in text.split(",")] if text is not None else []
    unknown = [word for word in wanted if word not in TRUTH_KINDS]
    if unknown:
        raise typer.BadParameter(f"--truth wants any of {', '.join(TRUTH_KINDS)}, got {unknown[0]!r}")
    return [kind for kind in TRUTH_KINDS if kind in wanted]


def _open_sources(
    raw: Path, objects: list[str] | None, backgrounds: list[str] | None
) -> tuple["ObjectSource", "BackgroundSource"]:
    """Opens the named sources, else those that the data root holds, and says which."""
    from synth.sources import join_backgrounds, join_objects, open_backgrounds, open_objects

    object_names = objects or object_specs(raw)
    background_names = backgrounds or background_specs(raw)
    object_source = join_objects([open_objects(spec) for spec in object_names])
    background_source = join_backgrounds([open_backgrounds(spec) for spec in background_names])
    print(
        f"objects: {', '.join(object_names)} ({len(object_source)} cutouts); "
        f"backgrounds: {', '.join(background_names)} ({len(background_source)} pictures)",
        file=sys.stderr,
    )
    return object_source, background_source


def _print_summary(report: "BuildReport", seconds: float) -> None:
    """Prints what was left out, and one line with where, how many and how fast."""
    skipped = {item.name: item for item in report.skipped}
    for item in skipped.values():
        print(f"left out: {item.name}: {item.reason}", file=sys.stderr)
    counts = f"{report.num_records:,} videos, {report.num_frames:,} frames, {report.num_bytes / 1e6:,.1f} MB"
    left_out = f", {len(skipped)} bad files left out" if skipped else ""
    if report.already_complete:
        print(f"{report.folder}: complete already: {counts}{left_out}")
    else:
        print(f"{report.folder}: {counts} in {seconds:.1f} s{left_out}")
