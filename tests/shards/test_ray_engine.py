"""A Ray cluster makes the same bytes, whatever it loses on the way."""

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from toy_plan import ToyPlan

from shards.build import build_shard_set
from shards.errors import ShardError
from shards.ray_engine import RayEngine

HERE = Path(__file__).parent
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (vosdata[ray])")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folder of the sets that ray_toy.py made on a cluster of two nodes, and what it told."""
    folder = tmp_path_factory.mktemp("ray")
    with TemporaryDirectory(prefix="ray-") as temporary:  # short: Ray puts sockets below it, whose paths are limited
        settings = {
            "PYTHONPATH": str(HERE),
            "RAY_TMPDIR": temporary,
            "RAY_AUTH_MODE": "disabled",  # no token is written into anybody's home
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_agent_register_timeout_ms": "120000",  # machines that run tests may be slow
        }
        run = subprocess.run(
            [sys.executable, str(HERE / "ray_toy.py"), str(folder)],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stderr[-3000:]
        yield folder, json.loads(run.stdout.splitlines()[-1])


@pytest.mark.slow
@needs_ray
def test_a_node_killed_in_the_middle_changes_no_byte(cluster: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    build_shard_set(ToyPlan(num_shards=8, records_per_shard=4), tmp_path / "toy")
    assert content(cluster[0] / "node") == content(tmp_path / "toy")


@pytest.mark.slow
@needs_ray
def test_a_lost_node_costs_only_the_shard_that_it_was_at(cluster: tuple[Path, dict[str, Any]]) -> None:
    killed = cluster[1]["node killed"]
    times = Counter(killed["begun"])
    assert sorted(times) == list(range(8))
    assert len(killed["at_it"]) == 1
    assert {shard for shard in times if times[shard] > 1} == set(killed["at_it"])
    assert len(killed["done"]) >= 2


@pytest.mark.slow
@needs_ray
def test_what_the_plan_raises_arrives_as_itself(cluster: tuple[Path, dict[str, Any]]) -> None:
    assert cluster[1]["bad picture"] == "BadFileError: picture 4 is broken"
    assert not (cluster[0] / "bad" / "dataset.json").exists()


@pytest.mark.slow
@needs_ray
def test_a_killed_worker_is_replaced(cluster: tuple[Path, dict[str, Any]], toy_set: Path) -> None:
    assert (cluster[0] / "killed").exists()
    assert content(cluster[0] / "worker") == content(toy_set)


@pytest.mark.slow
@needs_ray
def test_a_shard_that_kills_every_worker_ends_in_an_error(cluster: tuple[Path, dict[str, Any]]) -> None:
    told = cluster[1]["workers killed"]
    assert told.startswith("ShardError: ")
    assert "shard 1 lost its worker 4 times" in told and "\n" not in told


@pytest.mark.slow
@needs_ray
def test_ctrl_c_leaves_a_set_that_the_same_call_completes(cluster: tuple[Path, dict[str, Any]], toy_set: Path) -> None:
    assert cluster[1]["interrupted"] in (["toy-000000.tar"], ["toy-000000.tar", "toy-000001.tar"])
    assert content(cluster[0] / "interrupted") == content(toy_set)


def test_without_ray_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # what an absent module looks like to import
    with pytest.raises(ShardError, match=r"pip install vosdata\[ray\]"):
        RayEngine()


@needs_ray
def test_wrong_numbers_of_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        RayEngine(0)
