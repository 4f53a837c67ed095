"""What an experiment's report says about itself: machine, recipe, size."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from machine import machine


def place() -> dict[str, Any]:
    """The machine that the report is written on."""
    facts = machine(None)
    del facts["command"], facts["peers"]
    return facts


def facts_lines(results: Sequence[dict[str, Any]], facts: dict[str, Any]) -> Iterable[str]:
    """A paragraph: when, where, how large."""
    where, model, stages = place(), facts["recipes"][0]["model"], facts["recipes"]
    num_seeds = len({one["seed"] for one in results})
    yield (
        f"{where['date']}, {where['cpu']}, {where['cores']} cores, PyTorch {where['versions']['torch']}. Scale "
        f"{facts['scale']}: {model['backbone']} of width {model['backbone_width']}, weights {model['weights']}; "
        f"{', then '.join(map(_stage, stages))}; "
        f"{num_seeds} seed{'s' if num_seeds > 1 else ''}."
    )
    yield f"Made by `{facts['command']}`."
    if facts["synth"]:
        yield f"In SynthVOS, besides the preset: `{json.dumps(facts['synth'])}`."


def _stage(recipe: dict[str, Any]) -> str:
    data, train = recipe["data"], recipe["train"]
    return f"{train['steps']} steps of {train['batch']} snippets of {data['frames']} frames of {data['size']}"


def shown(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a report holds of the contenders' scores: all but their recipes, which it has once."""
    return [without_paths({key: value for key, value in one.items() if key != "configuration"}) for one in results]


def without_paths(content: Any) -> Any:
    """The same JSON, with paths of shard sets cut down to their names."""
    if isinstance(content, dict):
        return {_name(key): without_paths(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_paths(value) for value in content]
    return _name(content) if isinstance(content, str) else content


def _name(text: str) -> str:
    return Path(text).name if text.startswith("/") else text
