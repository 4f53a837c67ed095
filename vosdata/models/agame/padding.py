"""Reflection padding to a multiple of the stride, for pictures and masks of any type and size."""

from torch import Tensor, arange, device


class ReflectionPadding:
    """Pads H x W pixels to multiples by mirroring at the border pixel, which is not repeated.

    The padding is spread over both sides; an odd pixel more goes to the top and to the left, as published.

    Args:
        height: H.
        width: W.
        multiple: what the padded height and width are multiples of.
        where: device of the tensors that will be padded.

    Raises:
        ValueError: the picture has no pixels.
    """

    def __init__(self, height: int, width: int, multiple: int, where: device) -> None:
        if height < 1 or width < 1:
            raise ValueError(f"a frame must have at least one pixel, got {height}x{width}")
        self.size = (height, width)
        self._top, self._rows = _mirrored(height, multiple, where)
        self._left, self._columns = _mirrored(width, multiple, where)

    def pad(self, x: Tensor) -> Tensor:
        """Pads the last two dimensions (..., H, W)."""
        if self.size == (len(self._rows), len(self._columns)):
            return x
        return x.index_select(-2, self._rows).index_select(-1, self._columns)

    def crop(self, x: Tensor) -> Tensor:
        """Cuts padded (..., H', W') back to (..., H, W), as a view."""
        height, width = self.size
        return x[..., self._top : self._top + height, self._left : self._left + width]


def _mirrored(length: int, multiple: int, where: device) -> tuple[int, Tensor]:
    """Pixels added in front, and which original pixel each padded one shows (bouncing when the picture is tiny)."""
    missing = -length % multiple
    front = (missing + 1) // 2
    position = arange(-front, length + missing - front, device=where)
    period = max(2 * (length - 1), 1)
    folded = position % period
    return front, folded.minimum(period - folded).clamp(max=length - 1)
