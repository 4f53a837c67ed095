"""What was found out about something: a heading, named facts, and tables."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of equal things, such as the frames of a record."""

    name: str
    """What the rows are, in the plural."""

    columns: tuple[str, ...]
    """Heading of each column."""

    rows: tuple[tuple[Any, ...], ...]
    """JSON values."""

    def to_json(self) -> list[dict[str, Any]]:
        """One object per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_lines(self) -> list[str]:
        """Aligned text."""
        cells = [self.columns, *(tuple(_shown(value) for value in row) for row in self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.columns))]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is said about one thing."""

    kind: str
    """``"shard set"``, ``"record"``, ``"checkpoint"``, ``"dataset"``, ``"source of pictures"``, ``"mask"``,
    ``"picture"`` or ``"run"``."""

    path: str
    """Where it is."""

    values: dict[str, Any] = field(default_factory=dict)
    """Name of a fact to its JSON value, in the order to show them."""

    tables: tuple[Table, ...] = ()
    """Tables after the facts."""

    def to_json(self) -> dict[str, Any]:
        """One object with everything."""
        return {
            "kind": self.kind,
            "path": self.path,
            **self.values,
            **{table.name: table.to_json() for table in self.tables},
        }

    def to_text(self) -> str:
        """Lines for a terminal."""
        width = max((len(name) for name in self.values), default=0)
        lines = [f"{self.path}: {self.kind}"]
        for name, value in self.values.items():
            first, *rest = _shown(value).split("\n")
            lines.append(f"  {name.replace('_', ' ').ljust(width)}  {first}")
            lines += [" " * (width + 4) + line for line in rest]
        for table in self.tables:
            lines += ["", f"  {table.name.replace('_', ' ')}", *(f"    {line}" for line in table.to_lines())]
        return "\n".join(lines)


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "-"
    if isinstance(value, dict):
        return "\n".join(_flat_lines(value)) or "-"
    return str(value)


def _flat_lines(content: dict[str, Any], prefix: str = "") -> list[str]:
    lines: list[str] = []
    for name, value in content.items():
        if isinstance(value, dict) and value:
            lines += _flat_lines(value, f"{prefix}{name}.")
        else:
            lines.append(f"{prefix}{name}: {value}")
    return lines
