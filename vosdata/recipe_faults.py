"""What is wrong with a recipe, in words: all faults at once, each with its dotted path, one line each."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vosdata.recipe_files import did_you_mean


def describe_faults(where: str, error: ValidationError, model: type[BaseModel]) -> str:
    """Puts a validation error into words.

    Args:
        where: what was read, e.g. ``"recipe smoke"``.
        error: what pydantic found.
        model: what it was checked against; its keys are what an unknown key may have meant.

    Returns:
        One line for one fault; for several a heading and a line for each.
    """
    faults = [_describe(fault, model) for fault in error.errors()]
    if len(faults) == 1:
        return f"{where}: {faults[0]}"
    return "\n  ".join([f"{where} has {len(faults)} faults:", *faults])


def _describe(fault: ErrorDetails, model: type[BaseModel]) -> str:
    path = [str(part) for part in fault["loc"]]
    dotted = ".".join(path)
    if fault["type"] == "extra_forbidden":
        return f"{dotted}: no such key{_suggestion(path, model)}"
    if fault["type"] == "missing":
        return f"{dotted}: is required"
    if fault["type"] in ("model_type", "dict_type"):
        return f"{dotted}: should be a section of keys (got {fault['input']!r})"
    if fault["type"] == "too_short":
        return f"{dotted}: should not be empty"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{dotted}: {message} (got {fault['input']!r})"


def _suggestion(path: list[str], model: type[BaseModel]) -> str:
    """The nearest key of the same section, else of any section."""
    siblings = list(_section(model, path[:-1]).model_fields)
    suggestion = did_you_mean(path[-1], siblings)
    if suggestion:
        return suggestion
    known = {key.rpartition(".")[2]: key for key in _dotted_keys(model)}
    elsewhere = known.get(path[-1])
    if elsewhere is not None:
        return f"; did you mean '{elsewhere}'?"
    return f"; known here: {', '.join(siblings)}"


def _section(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    for key in path:
        below: Any = model.model_fields[key].annotation
        model = below
    return model


def _dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for key, field in model.model_fields.items():
        yield prefix + key
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _dotted_keys(field.annotation, f"{prefix}{key}.")
