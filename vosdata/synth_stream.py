"""Synthetic snippets in a stream: what decode threads hand over in place of pixels, and who paints them.

The decode threads draw the scenes, away from the trainer, and leave pixels alone: in place of a snippet's key they hand
over a *ticket* that holds the key and all that determines the pixels. The trainer's process renders the tickets of a
batch together, on the stream's device.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from synth.bank import PictureBank
from synth.render_torch import TorchRenderer
from synth.scene import Scene
from vosdata.batch import SnippetBatch, target_counts
from vosdata.scene_set import SceneSet
from vosdata.streaming.mix import AnySet
from vosdata.streaming.tickets import Ticket, is_ticket, read_ticket


class Painter:
    """Renders what is missing in a stream's batches. For one thread."""

    def __init__(self, sets: Sequence[AnySet], size: tuple[int, int], device: torch.device) -> None:
        """Remembers the sets; renders nothing yet.

        Args:
            sets: the stream's sets.
            size: training size: height, width.
            device: where to render, and where batches shall be.
        """
        self.device = device
        self._renderers = {
            number: TorchRenderer(PictureBank(one.objects, one.backgrounds), size, device)
            for number, one in enumerate(sets)
            if isinstance(one, SceneSet)
        }
        self._num_frames = {
            number: one.config.num_frames for number, one in enumerate(sets) if isinstance(one, SceneSet)
        }

    def paint(self, batch: SnippetBatch) -> SnippetBatch:
        """The batch on the device, with its tickets made into snippets. Does not wait for the device.

        Raises:
            BadFileError: a picture cannot be read.
        """
        tickets = {place: read_ticket(key) for place, key in enumerate(batch.keys) if is_ticket(key)}
        stored = [place for place in range(len(batch)) if place not in tickets]
        known = {place: ticket.num_targets for place, ticket in tickets.items()}
        known |= zip(stored, target_counts(batch.masks[stored]).tolist(), strict=True)  # which are on the CPU still
        batch = batch.to(self.device, non_blocking=True) if stored else self._blank(batch)
        for number in self._renderers:
            chosen = {place: ticket for place, ticket in tickets.items() if ticket.set_index == number}
            if chosen:
                self._render(batch, chosen, number)
        keys = [tickets[place].key if place in tickets else key for place, key in enumerate(batch.keys)]
        return replace(batch, keys=keys, num_targets=tuple(known[place] for place in range(len(batch))))

    def _blank(self, batch: SnippetBatch) -> SnippetBatch:
        """The batch on the device, with memory for its pixels, of which none has to be sent there."""
        frames, masks = (torch.empty_like(one, device=self.device) for one in (batch.frames, batch.masks))
        annotated = batch.annotated.to(self.device, non_blocking=True)
        return replace(batch, frames=frames, masks=masks, annotated=annotated)

    def _render(self, batch: SnippetBatch, chosen: dict[int, Ticket], number: int) -> None:
        """Renders the tickets of one set into their places."""
        tickets = list(chosen.values())
        scenes = [Scene.from_json(ticket.scene) for ticket in tickets]
        rendered = self._renderers[number].render(scenes, self._num_frames[number], [one.frames for one in tickets])
        masks = _relabelled(rendered.masks, tickets)
        for row, (place, ticket) in enumerate(chosen.items()):
            frames, mask = rendered.frames[row], masks[row]
            batch.frames[place].copy_(frames.flip(-1) if ticket.flip else frames)
            batch.masks[place].copy_(mask.flip(-1) if ticket.flip else mask)


def _relabelled(masks: Tensor, tickets: Sequence[Ticket]) -> Tensor:
    """Masks ``uint8 (n, T, H, W)`` with the ids that the tickets want."""
    if all(ticket.labels is None for ticket in tickets):
        return masks
    same = list(range(256))
    table = torch.from_numpy(np.array([same if one.labels is None else one.labels for one in tickets], np.uint8))
    if masks.device.type == "cuda":
        table = table.pin_memory().to(masks.device, non_blocking=True)
    return table.gather(1, masks.flatten(1).long()).view_as(masks)
