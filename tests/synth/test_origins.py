"""Where pictures come from: files are named and hashed, whatever the source is made of."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from shards.errors import BadFileError
from synth.bank import PictureBank
from synth.builtin import BuiltinObjects
from synth.compose import compose_scene
from synth.config import make_config
from synth.sources import join_objects, open_backgrounds, open_objects


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "objects").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "objects" / f"{name}.jpg"), rng.integers(0, 255, (80, 90, 3), dtype=np.uint8))
        mask = np.zeros((80, 90), np.uint8)
        mask[20:60, 20:70] = 255
        cv2.imwrite(str(tmp_path / "objects" / f"{name}.png"), mask)
    (tmp_path / "walls").mkdir()
    cv2.imwrite(str(tmp_path / "walls" / "wall.jpg"), rng.integers(0, 255, (120, 160, 3), dtype=np.uint8))
    return tmp_path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_pictures_of_a_scene_are_named_with_the_hash_of_their_files(folder: Path) -> None:
    bank = PictureBank(open_objects(folder / "objects"), open_backgrounds(folder / "walls"))
    scene = compose_scene(make_config({"objects_per_video": (2, 2)}), 0, 0, bank)
    origins = bank.scene_origins(scene)
    assert {origin.file for origin in origins.objects} == {"cat.jpg", "dog.jpg"}
    for item, origin in zip(scene.objects, origins.objects, strict=True):
        assert (origin.source, origin.file) == ("objects", item.name)
        assert origin.sha256 == sha256(folder / "objects" / origin.file)
    assert origins.background.sha256 == sha256(folder / "walls" / "wall.jpg")
    assert origins.to_json()["background"]["file"] == "wall.jpg"


def test_joined_sources_keep_the_licence_and_name_of_each(folder: Path) -> None:
    joined = join_objects([open_objects(folder / "objects"), BuiltinObjects()])
    assert joined.origin(1).file == "dog.jpg" and joined.origin(1).licence == ""
    made = joined.origin(2)
    assert (made.source, made.file, made.sha256, made.licence) == ("builtin", "object-0000", "", "Apache-2.0")


def test_a_file_that_is_gone_is_named(folder: Path) -> None:
    source = open_objects(folder / "objects")
    (folder / "objects" / "cat.jpg").unlink()
    with pytest.raises(BadFileError, match=r"objects/cat\.jpg"):
        source.origin(0)
