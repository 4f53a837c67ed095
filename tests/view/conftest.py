"""A small dataset folder and a folder of predictions for it, made at run time."""

from pathlib import Path

import numpy as np
import pytest

from shards.codec import encode_jpeg
from vosdata.evaluate.predictions import write_prediction

NUM_FRAMES = 5


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """``JPEGImages`` and ``Annotations`` of the sequences bear (40x60) and dog (50x60); frame 3 of dog has no mask."""
    root = tmp_path / "animals"
    for name, height in (("bear", 40), ("dog", 50)):
        frames, masks = root / "JPEGImages" / name, root / "Annotations" / name
        frames.mkdir(parents=True)
        for t in range(NUM_FRAMES):
            rgb = np.full((height, 60, 3), 100 + 10 * t, np.uint8)
            (frames / f"{t:05d}.jpg").write_bytes(encode_jpeg(rgb))
            mask = np.zeros((height, 60), np.uint8)
            mask[10:30, 5 + t : 25 + t] = 1
            if (name, t) != ("dog", 3):
                write_prediction(masks, t, mask)
    return root


@pytest.fixture
def predictions(dataset: Path) -> Path:
    """Predictions for both sequences."""
    folder = dataset.parent / "predictions"
    for name, height in (("bear", 40), ("dog", 50)):
        for t in range(NUM_FRAMES):
            mask = np.zeros((height, 60), np.uint8)
            mask[12:28, 5 + t : 25 + t] = 2
            write_prediction(folder / name, t, mask)
    return folder
