"""Sets on the Hugging Face Hub, through its own file system and a hub on this machine."""

from pathlib import Path

import fsspec.config
import huggingface_hub.constants
import pytest
from fake_hub import Hub, serve_hub

from shards.reader import ShardSet


@pytest.fixture
def hub(toy_set: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # read once, when another test imported it
    with serve_hub(toy_set) as served:
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": served.url, "skip_instance_cache": True})
        yield served


@pytest.mark.parametrize("mode", ["cache", "range"])
def test_a_set_on_the_hub_has_the_bytes_of_the_local_one(hub: Hub, toy_set: Path, tmp_path: Path, mode: str) -> None:
    found, local = ShardSet("hf://datasets/me/toy", mode=mode, cache_dir=tmp_path), ShardSet(toy_set)
    assert len(found) == len(local) > 1
    for record in range(len(local)):
        for frame in range(local.entry(record).num_frames):
            assert found.image_bytes(record, frame) == local.image_bytes(record, frame)
            assert found.mask_bytes(record, frame) == local.mask_bytes(record, frame)
    assert hub.ranges


def test_no_byte_is_fetched_that_was_not_asked_for(hub: Hub, toy_set: Path, tmp_path: Path) -> None:
    found = ShardSet("hf://datasets/me/toy", mode="range", cache_dir=tmp_path)
    before = len(hub.ranges)
    frame = len(found.image_bytes(0, 0)) + len(found.mask_bytes(0, 0))
    ((_, first, last),) = hub.ranges[before:]  # the two members are neighbours: one request
    headers_and_padding = 4 * 512
    assert last - first + 1 <= frame + headers_and_padding
