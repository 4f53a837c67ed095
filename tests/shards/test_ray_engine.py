"""A Ray cluster makes the same bytes, whatever it loses on the way."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections import Counter
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


def suffer(what: str, folder: Path) -> dict[str, Any]:
    """What ray_toy.py told about the sets that it made below the folder, on a cluster of its own."""
    with TemporaryDirectory(prefix="ray-") as temporary:  # short: Ray puts sockets below it, whose paths are limited
        settings = {
            "PYTHONPATH": str(HERE),
            "RAY_TMPDIR": temporary,
            "RAY_AUTH_MODE": "disabled",  # no token is written into anybody's home
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_agent_register_timeout_ms": "120000",  # machines that run tests may be slow,
            "RAY_memory_monitor_refresh_ms": "0",  # and full of other work, for which no worker of ours shall die
        }
        run = subprocess.run(
            [sys.executable, str(HERE / "ray_toy.py"), str(folder), what],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert run.returncode == 0, run.stderr[-3000:]
    facts: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return facts


@needs_ray
def test_a_node_killed_in_the_middle_changes_no_byte_and_costs_only_the_shard_that_it_was_at(tmp_path: Path) -> None:
    facts = suffer("node", tmp_path)
    build_shard_set(ToyPlan(num_shards=8, records_per_shard=4), tmp_path / "toy")
    assert content(tmp_path / "node") == content(tmp_path / "toy")
    times = Counter(facts["begun"])
    assert facts["done"] == [0, 1, 2] and sorted(times) == list(range(8))
    assert len(facts["at_it"]) == 1
    assert {shard for shard in times if times[shard] > 1} == set(facts["at_it"])


@pytest.mark.slow
@needs_ray
def test_errors_killed_workers_and_ctrl_c_lose_nothing_finished(tmp_path: Path, toy_set: Path) -> None:
    facts = suffer("workers", tmp_path)
    assert facts["bad picture"] == "BadFileError: picture 4 is broken"
    assert not (tmp_path / "bad" / "dataset.json").exists()
    assert (tmp_path / "killed").exists()
    assert content(tmp_path / "worker") == content(toy_set)
    told = facts["workers killed"]
    assert told.startswith("ShardError: ")
    assert "shard 1 lost its worker 4 times" in told and "\n" not in told
    assert facts["interrupted"] == ["toy-000000.tar"]
    assert content(tmp_path / "interrupted") == content(toy_set)


def test_without_ray_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # what an absent module looks like to import
    with pytest.raises(ShardError, match=r"pip install vosdata\[ray\]"):
        RayEngine()


@needs_ray
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_not_there_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with socket.socket() as unused:  # bound and not listening: refuses, and nobody else can take the port
        unused.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ShardError, match=f"RAY_ADDRESS={address} cannot be reached: .*refused"):
            build_shard_set(ToyPlan(), tmp_path / "toy", engine=RayEngine())


@needs_ray
def test_wrong_numbers_of_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        RayEngine(0)
