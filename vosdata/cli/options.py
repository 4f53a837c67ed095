"""Option values that several commands read the same way."""

import re
from typing import Literal

import typer

from vosdata.world import detect

Engine = Literal["auto", "process", "threads"]
_ENGINES: tuple[Engine, ...] = ("auto", "process", "threads")


def parse_size(text: str) -> tuple[int, int]:
    """Height and width in pixels of ``"240x432"``.

    Raises:
        typer.BadParameter: it is not of that form.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text.strip())
    if match is None:
        raise typer.BadParameter(f"--size must be HEIGHTxWIDTH in pixels, such as 240x432, got {text!r}")
    return int(match[1]), int(match[2])


def parse_engine(text: str) -> Engine:
    """Where snippets are decoded.

    Raises:
        typer.BadParameter: it is none of the three.
    """
    for name in _ENGINES:
        if text == name:
            return name
    raise typer.BadParameter(f"--engine must be 'auto', 'process' or 'threads', got {text!r}")


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
