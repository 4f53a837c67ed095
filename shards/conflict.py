"""Compares two configurations and names what differs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shards.errors import ConflictError

_ABSENT = object()
_MAX_SHOWN = 60


def refuse_other_configuration(folder: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Lets equal configurations pass.

    Raises:
        ConflictError: they differ; the message names every differing key with both values.
    """
    found = list(differences(stored, wanted))
    if found:
        keys = "; ".join(found)
        raise ConflictError(
            f"{folder} was made with another configuration: {keys}. Use the same configuration, choose another folder, "
            "or delete this one"
        )


def differences(stored: Any, wanted: Any, key: str = "") -> Iterator[str]:
    """Yields one phrase per differing leaf: ``scene.speed is 0.1 there, 0.2 was asked for``."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for name in sorted({*stored, *wanted}):
            inner = f"{key}.{name}" if key else name
            yield from differences(stored.get(name, _ABSENT), wanted.get(name, _ABSENT), inner)
    elif stored is _ABSENT or wanted is _ABSENT or canonical(stored) != canonical(wanted):
        yield f"{key} is {_shown(stored)} there, {_shown(wanted)} was asked for"


def canonical(value: Any) -> str:
    """JSON text in which equal values are equal text; 1, 1.0 and true stay different."""
    return json.dumps(value, sort_keys=True)


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
