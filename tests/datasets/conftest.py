"""Dataset folders made at run time, in every layout."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Mask = NDArray[np.uint8]


class Tree:
    """Writes frames and masks below a root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def frame(self, path: str, size: tuple[int, int] = (12, 16), seed: int = 0) -> Path:
        target = self._parent(path)
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        options = {"quality": 90} if target.suffix.lower() != ".png" else {}
        Image.fromarray(pixels).save(target, "PNG" if target.suffix.lower() == ".png" else "JPEG", **options)
        return target

    def mask(self, path: str, indices: Mask, palette: bool = True) -> Path:
        target = self._parent(path)
        picture = Image.fromarray(indices, mode="L")
        if palette:
            picture = Image.fromarray(indices, mode="P")
            picture.putpalette([value for index in range(256) for value in (index, 255 - index, index // 2)])
        picture.save(target)
        return target

    def text(self, path: str, content: str) -> Path:
        target = self._parent(path)
        target.write_text(content, encoding="utf-8")
        return target

    def sequence(
        self,
        base: str,
        name: str,
        masks: dict[int, Mask] | None = None,
        numbers: range | list[int] = range(3),
        resolution: str = "480p",
        palette: bool = True,
    ) -> None:
        """A sequence in JPEGImages/Annotations form below ``base``; masks by frame number, by default for all."""
        where = f"{resolution}/{name}" if resolution else name
        for number in numbers:
            self.frame(f"{base}/JPEGImages/{where}/{number:05d}.jpg", seed=number)
        for number, indices in ({n: ids(0, 1, 2) for n in numbers} if masks is None else masks).items():
            self.mask(f"{base}/Annotations/{where}/{number:05d}.png", indices, palette)

    def lists(self, base: str, group: str, **splits: list[str]) -> None:
        for split, names in splits.items():
            self.text(f"{base}/ImageSets/{group}/{split.replace('_', '-')}.txt", "\n".join(names) + "\n")

    def _parent(self, path: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def ids(*values: int, size: tuple[int, int] = (12, 16)) -> Mask:
    """A mask in vertical stripes of the given values."""
    height, width = size
    return np.repeat(np.array(values, np.uint8)[np.arange(width) * len(values) // width][None], height, axis=0)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def stripes() -> Callable[..., Mask]:
    return ids
