"""A recipe for trainings that take seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

HEADS = ("appearance", "propagation", "fusion", "encoding", "upsampling")


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Callable[..., Path]:
    """Function ``(section={key: value}, ...)`` that writes a recipe which trains in seconds, with these changes."""

    def write(**changes: dict[str, Any]) -> Path:
        sections: dict[str, dict[str, Any]] = {
            "model": {"backbone_width": 4, **{f"{head}_channels": 4 for head in HEADS}},
            "data": {"frames": 3, "size": "32x48", "min_object_pixels": 4},
            "train": {"batch": 2},
            "run": {"log_every": 1, "compute_threads": 1},
        }
        merged = {name: {**values, **changes.pop(name, {})} for name, values in sections.items()}
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({"extends": "smoke", **merged, **changes}))
        return path

    return write
