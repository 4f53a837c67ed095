"""Streams, commands and videos out of shard sets at URLs are those of the local sets."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from shards.errors import ShardError
from shards.reader import ShardSet
from vosdata.cli.app import run
from vosdata.datasets.videos import open_videos
from vosdata.stream import SnippetStream

SERVER = Path(__file__).resolve().parents[2] / "benchmarks" / "http_server.py"
SETTINGS = {"snippet": 4, "size": (24, 40), "batch": 2, "seed": 3}


@pytest.fixture
def url(tiny_sets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of the folder that holds the tiny sets; the cache is the environment's."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VOSDATA_CACHE", str(tmp_path / "cache"))
    spec = importlib.util.spec_from_file_location("http_server", SERVER)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "http_server", module)
    spec.loader.exec_module(module)
    with module.serve(tiny_sets["alpha"].parent) as url:
        yield url


def content(stream: SnippetStream) -> list[tuple[list[str], torch.Tensor, torch.Tensor]]:
    with stream:
        return [(batch.keys, batch.frames.clone(), batch.masks.clone()) for batch in stream]


@pytest.mark.parametrize("engine", ["threads", "process"])
@pytest.mark.parametrize("mode", ["cache", "range"])
def test_a_stream_over_http_is_the_local_stream(
    url: str, tiny_sets: dict[str, Path], tmp_path: Path, mode: str, engine: str
) -> None:
    local = {tiny_sets["alpha"]: 0.6, tiny_sets["beta"]: 0.4}
    remote = {
        ShardSet(f"{url}/alpha", cache_dir=tmp_path / "own", mode=mode): 0.6,
        ShardSet(f"{url}/beta", cache_dir=tmp_path / "own", mode=mode): 0.4,
    }
    settings = {**SETTINGS, "epoch_size": 12, "shuffle_window": "all"}
    expected, found = (
        content(SnippetStream(local, **settings)),
        content(SnippetStream(remote, **settings, engine=engine)),
    )
    assert [keys for keys, _, _ in found] == [keys for keys, _, _ in expected]
    for (_, frames, masks), (_, wanted_frames, wanted_masks) in zip(found, expected, strict=True):
        assert torch.equal(frames, wanted_frames)
        assert torch.equal(masks, wanted_masks)
    assert bool(list((tmp_path / "own").glob("*/*.tar"))) is (mode == "cache")


def test_urls_use_the_cache_of_the_environment_and_resume(url: str, tmp_path: Path) -> None:
    with SnippetStream([f"{url}/alpha", Path(f"{url}/gamma")], **SETTINGS) as stream:
        keys = [batch.keys for batch in stream]
        state = json.loads(json.dumps(stream.state_dict()))
        following = [batch.keys for batch in stream]
    assert len(list((tmp_path / "cache").glob("*/*.tar"))) == 4
    with SnippetStream([f"{url}/alpha", f"{url}/gamma"], **SETTINGS) as again:
        assert [batch.keys for batch in again] == keys
        again.load_state_dict(state)
        assert [batch.keys for batch in again] == following


def test_shards_are_fetched_before_the_stream_reads_them(url: str, tmp_path: Path) -> None:
    asked: list[int] = []
    shard_set = ShardSet(f"{url}/alpha", cache_dir=tmp_path / "cache")
    prefetch = shard_set.prefetch
    shard_set.prefetch = lambda records: (asked.extend(records), prefetch(records))
    stream = SnippetStream(shard_set, **SETTINGS, engine="threads", threads=1, prefetch=1, shuffle_window=1)
    with stream:
        next(iter(stream))
        drawn = [stream.snippet(position).record for position in range(2)]
    assert asked[: len(set(drawn))] == drawn[: len(set(drawn))]
    assert {shard_set.index.shard(record) for record in asked} == {0, 1}


def test_commands_take_urls(url: str, tiny_sets: dict[str, Path], tmp_path: Path, capfd) -> None:
    def json_of(*arguments: str):
        assert run([*arguments, "--json"]) == 0
        return json.loads(capfd.readouterr().out)

    local, remote = (json_of("inspect", path) for path in (str(tiny_sets["beta"]), f"{url}/beta"))
    assert remote[0] == {**local[0], "path": f"{url}/beta"}
    assert json_of("inspect", f"{url}/beta", "--record", "0")[0]["sequence"] == "beta 0"
    assert json_of("verify", f"{url}/beta")[0]["intact"]
    assert run(["view", f"{url}/beta", "--out", str(tmp_path / "sheet.jpg")]) == 0
    capfd.readouterr()
    assert run(["verify", f"{url}/nothing"]) == 1
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line == f"vosdata: {url}/nothing is no shard set, or an incomplete one: dataset.json is not there"


def test_videos_of_a_remote_set_are_those_of_the_local_one(url: str, tiny_sets: dict[str, Path]) -> None:
    for found, wanted in zip(open_videos(f"{url}/gamma"), open_videos(tiny_sets["gamma"]), strict=True):
        assert (found.name, found.frame_numbers) == (wanted.name, wanted.frame_numbers)
        assert (found.frame(3) == wanted.frame(3)).all()
        assert (found.mask(3) == wanted.mask(3)).all()


def test_a_stream_says_which_shard_it_cannot_fetch(url: str, tiny_sets: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    served = tiny_sets["alpha"].parent / "gone"
    shutil.copytree(tiny_sets["alpha"], served)
    try:
        with SnippetStream(f"{url}/gone", **SETTINGS) as stream:
            for tar in served.glob("*.tar"):
                tar.unlink()
            with pytest.raises(ShardError, match=rf"{url}/gone/alpha-00000\d\.tar does not exist .*\(snippet alpha"):
                list(stream)
    finally:
        shutil.rmtree(served)
