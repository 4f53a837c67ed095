"""Which sources of pictures are taken when none is named: what the data root holds, else the built-in ones."""

import re
from pathlib import Path

# Folders below <root>/raw; the first pattern that some folder fits decides.
OBJECT_FOLDERS = (r"msra.?10k.*|duts.*|ecssd.*|hku.?is.*|dut.?omron.*|pascal.?s|objects|cutouts", r"coco.*")
BACKGROUND_FOLDERS = (r"(pascal.?)?voc.*|backgrounds?", r"coco.*")


def object_specs(raw: Path) -> list[str]:
    """Sources of cutouts in the folder of raw data, as :func:`synth.sources.open_objects` takes them."""
    return _held(raw, OBJECT_FOLDERS)


def background_specs(raw: Path) -> list[str]:
    """Sources of backgrounds in the folder of raw data, as :func:`synth.sources.open_backgrounds` takes them."""
    return _held(raw, BACKGROUND_FOLDERS)


def _held(raw: Path, patterns: tuple[str, ...]) -> list[str]:
    folders = sorted(path for path in raw.iterdir() if path.is_dir()) if raw.is_dir() else []
    for pattern in patterns:
        fitting = [str(path) for path in folders if re.fullmatch(pattern, path.name, re.IGNORECASE)]
        if fitting:
            return fitting
    return ["builtin"]
