"""Recipe files before they are checked: finding one by name or path, reading YAML, ``extends``, ``--set``.

A recipe is sections of keys. A recipe that extends another gives only what differs: sections are merged key by key, and
a key's value is replaced as a whole (so naming other shard sets leaves none of the old ones behind).
"""

import difflib
import importlib.resources
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from shards.errors import RecipeError

SUFFIX = ".yaml"
Sections = dict[str, Any]


def known_recipes() -> list[str]:
    """Names of the recipes that come with vosdata, sorted."""
    packaged = importlib.resources.files("vosdata.recipes").iterdir()
    return sorted(file.name.removesuffix(SUFFIX) for file in packaged if file.name.endswith(SUFFIX))


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the nearest known word, or nothing when none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def read_sections(recipe: str | Path) -> tuple[str, Sections]:
    """Reads a recipe by name or path, with what it extends merged under it.

    Returns:
        The recipe's name (its file's name without ``.yaml``) and its sections, not yet checked.

    Raises:
        RecipeError: there is no such recipe, it is not YAML, or it extends itself.
    """
    return _read(_find(str(recipe), beside=None), chain=())


def apply_override(sections: Sections, override: str) -> None:
    """Puts one ``section.key=value`` into the sections; the value is read as YAML.

    Raises:
        ValueError: the override has no ``=``, no key, or its value is not YAML.
    """
    path, equals, text = override.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise ValueError(f"expected --set section.key=value, got '{override}'")
    node = sections
    for key in keys[:-1]:
        below = node.setdefault(key, {})
        if not isinstance(below, dict):
            below = node[key] = {}
        node = below
    try:
        node[keys[-1]] = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {path}: '{text}' is not a YAML value ({_where(error)})") from error


def _read(file: Traversable, chain: tuple[str, ...]) -> tuple[str, Sections]:
    """Reads one file and, below it, what it extends; ``chain`` holds the files that led here."""
    if str(file) in chain:
        raise RecipeError(f"recipe {file}: extends itself, by way of {' -> '.join([*chain, str(file)])}")
    sections = _parse(file)
    name = file.name.removesuffix(SUFFIX)
    parent = sections.pop("extends", None)
    if parent is None:
        return name, sections
    if not isinstance(parent, str):
        raise RecipeError(f"recipe {file}: extends must be the name or path of one recipe, got {parent!r}")
    _, base = _read(_find(parent, beside=file), (*chain, str(file)))
    return name, _merge(base, sections)


def _find(recipe: str, beside: Traversable | None) -> Traversable:
    """Finds a recipe's file: a path (relative to the recipe that extends it), else a packaged recipe of that name."""
    if recipe.endswith((SUFFIX, ".yml")) or "/" in recipe:
        path = Path(recipe)
        if isinstance(beside, Path) and not path.is_absolute():
            path = beside.parent / path
        if not path.is_file():
            raise RecipeError(f"no recipe at {path}; known by name: {', '.join(known_recipes())}")
        return path
    packaged = importlib.resources.files("vosdata.recipes") / f"{recipe}{SUFFIX}"
    if not packaged.is_file():
        known = known_recipes()
        raise RecipeError(
            f"no recipe called '{recipe}'{did_you_mean(recipe, known) or ';'} known: {', '.join(known)}; "
            "a recipe of your own is given by its path, ending in .yaml"
        )
    return packaged


def _parse(file: Traversable) -> Sections:
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise RecipeError(f"recipe {file}: not YAML: {_where(error)}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"recipe {file}: not a text file ({error.reason} at byte {error.start})") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise RecipeError(f"recipe {file}: expected sections of keys such as 'train:', got {type(content).__name__}")
    return {str(key): {} if value is None and key != "extends" else value for key, value in content.items()}


def _merge(base: Sections, changes: Sections) -> Sections:
    merged = dict(base)
    for section, values in changes.items():
        below = base.get(section)
        merged[section] = {**below, **values} if isinstance(below, dict) and isinstance(values, dict) else values
    return merged


def _where(error: yaml.YAMLError) -> str:
    """The YAML reader's complaint in one line, with its place."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem} in line {mark.line + 1}, column {mark.column + 1}"
    return " ".join(str(error).split())


class _StrictLoader(yaml.SafeLoader):
    """A safe YAML loader that refuses a key given twice, of which the last would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key_node.value}' is given twice", key_node.start_mark
                )
            if isinstance(key_node, yaml.ScalarNode):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)
