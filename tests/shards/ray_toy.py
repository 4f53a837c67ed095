"""Builds toy shard sets on a Ray cluster that suffers: ``ray_toy.py FOLDER node|workers``.

A process of its own, because Ray reads its settings when it is imported. Prints what happened as JSON. Nothing here
depends on how fast the machine is: shards wait at a gate until what shall happen to them has happened.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster
from toy_plan import ToyPlan

from shards.build import build_shard_set
from shards.errors import VosDataError
from shards.ray_engine import RayEngine

# A node whose port is closed is given up after five seconds; one that only stalls gets a minute.
FAST_DETECTION = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_timeout_ms": 12000}


def main(folder: Path, suffering: str) -> None:
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": FAST_DETECTION}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    os.environ["RAY_ADDRESS"] = cluster.address
    if suffering == "node":
        facts = lose_a_node(cluster, folder / "node", folder / "log", folder / "gate")
    else:
        facts = {
            "bad picture": fail(ToyPlan(fail_at=4), folder / "bad"),
            "worker killed": lose_a_worker(folder / "worker", folder / "killed"),
            "workers killed": fail(ToyPlan(num_shards=2, kill_workers=True), folder / "workers"),
            "interrupted": interrupt(folder / "interrupted", folder / "gate"),
        }
    print(json.dumps(facts))
    cluster.shutdown()


def lose_a_node(cluster: Cluster, folder: Path, log: Path, gate: Path) -> dict[str, Any]:
    """Kills the second of two nodes while both are at a shard and others are done."""
    node = cluster.add_node(num_cpus=1)
    raylet = node.all_processes["raylet"][0].process.pid
    facts: dict[str, Any] = {}

    def kill() -> None:
        while True:
            done = sorted(int(path.stem[-6:]) for path in folder.glob("*.tar"))
            at_it = [shard for shard, parent in begun(log) if parent == raylet and shard not in done]
            if done == [0, 1, 2] and at_it:
                break
            time.sleep(0.01)
        children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
        for process in (raylet, *map(int, children)):  # as when the power goes: nobody there finishes or tells anything
            os.kill(process, signal.SIGKILL)
        cluster.remove_node(node, allow_graceful=False)
        facts.update(done=done, at_it=at_it)
        gate.touch()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    plan = ToyPlan(num_shards=8, records_per_shard=4, log=log, gate=gate, first_held=3)
    build_shard_set(plan, folder, engine=RayEngine())
    killer.join()
    return {**facts, "begun": [shard for shard, _ in begun(log)]}


def begun(log: Path) -> list[tuple[int, int]]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(line.split()[0]), int(line.split()[1])) for line in lines]


def fail(plan: ToyPlan, folder: Path) -> str:
    try:
        build_shard_set(plan, folder, engine=RayEngine())
    except VosDataError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def lose_a_worker(folder: Path, killed: Path) -> int:
    return build_shard_set(ToyPlan(kill_worker_once=killed), folder, engine=RayEngine()).num_records


def interrupt(folder: Path, gate: Path) -> list[str]:
    """Ctrl-C when the first shard is done, then the same again; returns which shards lay there in between."""

    def press() -> None:
        while not list(folder.glob("*.tar")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    plan = ToyPlan(gate=gate, first_held=1)
    try:
        build_shard_set(plan, folder, engine=RayEngine(workers=1))
    except KeyboardInterrupt:
        left = sorted(path.name for path in folder.glob("*.tar"))
        gate.touch()
        build_shard_set(plan, folder, engine=RayEngine(workers=1))
        return left
    return ["was not interrupted"]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
