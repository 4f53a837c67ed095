"""Option values that several commands read the same way."""

import re

import typer

from vosdata.world import detect


def parse_size(text: str) -> tuple[int, int]:
    """Height and width in pixels of ``"240x432"``.

    Raises:
        typer.BadParameter: it is not of that form.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text.strip())
    if match is None:
        raise typer.BadParameter(f"--size must be HEIGHTxWIDTH in pixels, such as 240x432, got {text!r}")
    return int(match[1]), int(match[2])


def parse_workers(text: str) -> int:
    """Number of worker processes; ``"auto"`` is one per core.

    Raises:
        typer.BadParameter: it is neither ``auto`` nor a positive number.
    """
    if text == "auto":
        return detect().num_cores
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"--workers must be 'auto' or a number from 1, got {text!r}")
    return int(text)
