"""The rules of each benchmark: which frames and objects count, and what a prediction may look like."""

import difflib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.errors import ScoreError
from shards.types import BACKGROUND, VOID

Mask = NDArray[np.uint8]

MAX_PREDICTED_IDS = 20
"""More ids than this in one frame of a binary task are not objects but shades of gray."""


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """How one benchmark turns masks into J and F.

    Both rules below drop the first annotated frame (it was given) and the last one, as the official code does. Void is
    never excluded by them: there it counts as background.
    """

    name: str
    """Name on the command line and in every score."""

    summary: str
    """The rule in one line."""

    all_objects_are_one: bool
    """Whether the union of all objects is scored as object 1, instead of each object on its own."""

    def prepare_truth(self, mask: Mask) -> Mask:
        """The annotation as this protocol sees it: ``uint8 (H, W)`` without void, and binary if objects are one."""
        if self.all_objects_are_one:
            return _as_ids((mask != BACKGROUND) & (mask != VOID))
        return np.where(mask == VOID, np.uint8(BACKGROUND), mask) if mask.max() == VOID else mask

    def prepare_prediction(self, mask: Mask) -> Mask:
        """The prediction as this protocol sees it.

        Raises:
            ScoreError: its values cannot be object ids; the message starts where the caller's place name ends.
        """
        ids = mask_ids(mask)
        if self.all_objects_are_one:
            if len(ids) > MAX_PREDICTED_IDS or (VOID in ids and len(ids) > 1):
                raise ScoreError(
                    f"has {len(ids)} values besides background, as a soft or JPEG-saved mask has; expected a binary "
                    "mask (0 and 255, or 0 and 1) or object ids. Threshold it and save it as PNG."
                )
            return _as_ids(mask != BACKGROUND)
        if VOID in ids:
            raise ScoreError(
                "has the value 255, which is no object id. Write the index of the object (1, 2, ...), or score binary "
                "0/255 masks with --protocol davis2016."
            )
        return mask

    def object_ids(self, first_annotation: Mask) -> range:
        """The scored objects: 1 up to the highest id of the first annotated frame.

        Ids below the highest that no frame shows still count, and objects that join later do not; both as officially.

        Args:
            first_annotation: result of :meth:`prepare_truth` on the first annotated frame.
        """
        return range(1, int(first_annotation.max(initial=0)) + 1)


PROTOCOLS = (
    EvaluationProtocol(
        name="davis2016",
        summary="all objects as one; without the first and last annotated frame; mean over sequences",
        all_objects_are_one=True,
    ),
    EvaluationProtocol(
        name="davis2017",
        summary="each object of the first frame; without the first and last annotated frame; mean over objects",
        all_objects_are_one=False,
    ),
)


def find_protocol(name: str) -> EvaluationProtocol:
    """Returns the protocol of that name.

    Raises:
        ValueError: there is none; the message names the nearest one.
    """
    for protocol in PROTOCOLS:
        if protocol.name == name:
            return protocol
    names = [protocol.name for protocol in PROTOCOLS]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names)}"
    raise ValueError(f"there is no protocol {name!r}; {hint}")


def _as_ids(region: NDArray[np.bool_]) -> Mask:
    return region.astype(np.uint8)


def mask_ids(mask: Mask) -> list[int]:
    """The values of a mask besides background, ascending; void included."""
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return []
    histogram = cv2.calcHist([mask[y : y + height, x : x + width]], [0], None, [256], [0, 256])
    return [int(value) for value in np.flatnonzero(histogram) if value != BACKGROUND]
