"""What ``vosdata synth`` does with scenes that are stored alone or rendered again, or sets made again (``--from``)."""

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from shards.plan import Skipped
    from synth.generate import SynthPlan
    from synth.stored import StoredScenes
    from synth.truth import TruthKind
    from synth.types import BackgroundSource, ObjectSource


def check_rendering_only(
    out: Path | None,
    objects_per_video: str | None,
    preset: str | None,
    seed: int | None,
    overrides: list[str] | None,
) -> None:
    """Refuses what cannot act on scenes that are drawn already."""
    from synth.generate import RENDERING_KEYS

    given = (("--objects-per-video", objects_per_video), ("--preset", preset), ("--seed", seed))
    names = [name for name, value in given if value is not None]
    keys = [text.partition("=")[0].strip() for text in overrides or ()]
    names += [f"--set {key}" for key in keys if key not in RENDERING_KEYS]
    if names:
        raise typer.BadParameter(f"{names[0]} says how scenes are drawn; those of --from are drawn already")
    if out is None or out.suffix == ".parquet":
        raise typer.BadParameter("--from wants the folder of the new shard set with --out")


def check_nothing_else(out: Path | None, *drawing: object) -> None:
    """Refuses options that would change what a dataset.json says."""
    if any(value is not None for value in drawing):
        raise typer.BadParameter(
            "--from with a dataset.json makes the same set again; only --objects, --backgrounds, --out, --workers and "
            "--on-bad go with it"
        )
    if out is None or out.suffix == ".parquet":
        raise typer.BadParameter("--from wants the folder of the new shard set with --out")


def rendering_values(stored: "StoredScenes") -> dict[str, Any]:
    """How the scenes' own set was rendered, as far as it is known."""
    from synth.generate import RENDERING_KEYS

    known = stored.configuration.get("synth", {})
    return {key: known[key] for key in RENDERING_KEYS if key in known}


def sources_of(
    stored: "StoredScenes", objects: list[str] | None, backgrounds: list[str] | None
) -> tuple[list[str] | None, list[str] | None]:
    """Sources that were named; else the built-in ones where the scenes are made from them."""
    first = stored.scene(0)
    if objects is None and first.objects[0].source == "builtin":
        objects = ["builtin"]
    if backgrounds is None and first.background.source == "builtin":
        backgrounds = ["builtin"]
    return objects, backgrounds


def sources_described(
    configuration: Mapping[str, Any], objects: list[str] | None, backgrounds: list[str] | None
) -> tuple[list[str] | None, list[str] | None]:
    """Sources that were named; else the built-in ones where the set was made from them."""
    if objects is None and configuration["objects"]["name"] == "builtin":
        objects = ["builtin"]
    if backgrounds is None and configuration["backgrounds"]["name"] == "builtin":
        backgrounds = ["builtin"]
    return objects, backgrounds


def say_what_differs(stored: "StoredScenes", objects: "ObjectSource", backgrounds: "BackgroundSource") -> None:
    """Warns when pictures may be others than those that the scenes were drawn with."""
    for kind, source in (("objects", objects), ("backgrounds", backgrounds)):
        known = stored.configuration.get(kind)
        if known is not None and known["fingerprint"] != source.fingerprint():
            print(
                f"{kind}: {source.name} is not what the scenes were drawn from; pictures are found by their names, and "
                "videos may differ from the first ones",
                file=sys.stderr,
            )


def check_scene_file(truth: "Collection[TruthKind]", engine: str, num_tasks: int | None) -> None:
    """Refuses what goes with videos only."""
    if truth:
        raise typer.BadParameter("--truth goes with videos; a file of scenes holds none")
    if engine != "local" or num_tasks is not None:
        raise typer.BadParameter("--engine and --num-tasks go with videos; a file of scenes is written at once")


def write_scene_file(plan: "SynthPlan", path: Path, as_json: bool) -> None:
    """Draws the scenes of a plan, writes them to a parquet file and says how many, in words or as JSON."""
    from synth.stored import write_scenes

    skipped: dict[str, Skipped] = {}
    count = write_scenes(path, plan.scenes(skipped), plan.configuration())
    if as_json:
        left_out = [{"name": item.name, "reason": item.reason} for item in skipped.values()]
        facts = {"file": str(path), "num_scenes": count, "num_bytes": path.stat().st_size, "skipped": left_out}
        print(json.dumps([facts], indent=2))
        return
    for item in skipped.values():
        print(f"left out: {item.name}: {item.reason}", file=sys.stderr)
    print(f"{path}: {count:,} scenes, {path.stat().st_size / 1e6:,.2f} MB")
