"""What decode threads hand over in place of a synthetic snippet's key: the key, and all that determines its pixels."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import VosDataError
from shards.types import VOID
from vosdata.scene_set import SceneEntry, SceneSet
from vosdata.streaming.decode import ReadAhead
from vosdata.streaming.engine import Filled, Filler
from vosdata.streaming.mix import Draw
from vosdata.streaming.sampling import new_labels
from vosdata.streaming.snippet import SnippetRule

_MARK = "\0"
"""What a ticket begins with, and no key."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A snippet that is still to be rendered."""

    key: str
    """Its key."""

    set_index: int
    """Which of the stream's sets it is of."""

    scene: dict[str, Any]
    """The scene, as ``Scene.to_json`` makes it."""

    frames: list[int]
    """Which frames of the video."""

    labels: list[int] | None
    """What each of the 256 ids becomes; None: all stay."""

    flip: bool
    """Whether it is mirrored left to right."""

    @property
    def num_targets(self) -> int:
        """The largest object id that its masks may show, at least 1."""
        ids = (item["id"] for item in self.scene["objects"]) if self.labels is None else self.labels
        return max(1, *(one for one in ids if one != VOID))


class TicketWriter:
    """A decode thread of a stream with synthetic videos: writes tickets for these, and has the others decoded."""

    def __init__(self, ahead: ReadAhead, decoder: Filler) -> None:
        """Remembers who decodes.

        Args:
            ahead: says what stands at a position.
            decoder: fills places with snippets that are stored.
        """
        self._ahead = ahead
        self._decoder = decoder

    def fill(
        self, position: int, frames: NDArray[np.uint8], masks: NDArray[np.uint8], annotated: NDArray[np.bool_]
    ) -> Filled:
        """Fills the place of a stored snippet; or writes a ticket in place of the key, and leaves the pixels alone.

        Raises:
            VosDataError: the snippet cannot be read, or the scene not be drawn; the message ends with the position.
        """
        order = self._ahead.order
        if not isinstance(order.sets[order.locate(position)[0]], SceneSet):
            return self._decoder.fill(position, frames, masks, annotated)
        try:
            draw = self._ahead.draw(position)
        except VosDataError as error:
            raise type(error)(f"{error} (position {position})") from error
        annotated[:] = True
        return Filled(write_ticket(draw, order.settings.rule))


def write_ticket(draw: Draw, rule: SnippetRule) -> str:
    """The ticket for what was drawn out of a set of scenes."""
    if not isinstance(draw.entry, SceneEntry) or draw.entry.scene is None:
        raise TypeError(f"{draw.snippet.key} is stored and needs no ticket")
    labels = new_labels(draw.snippet, rule)
    content = [
        draw.snippet.key,
        draw.set_index,
        draw.entry.scene.to_json(),
        list(draw.snippet.frames),
        None if labels is None else labels.tolist(),
        draw.flip,
    ]
    return _MARK + json.dumps(content)


def is_ticket(text: str) -> bool:
    """Whether this is a ticket and not a key."""
    return text.startswith(_MARK)


def read_ticket(text: str) -> Ticket:
    """Reads what :func:`write_ticket` wrote."""
    return Ticket(*json.loads(text.removeprefix(_MARK)))
