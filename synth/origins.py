"""Where the pictures of a scene come from: file, hash and licence."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from synth.types import Origin


@dataclass(frozen=True, slots=True)
class SceneOrigins:
    """Origins of all pictures of one scene."""

    objects: tuple[Origin, ...]
    """Of the objects, ascending by id."""

    background: Origin
    """Of the background."""

    def to_json(self) -> Mapping[str, Any]:
        """As it is stored."""
        return {"objects": [asdict(origin) for origin in self.objects], "background": asdict(self.background)}
