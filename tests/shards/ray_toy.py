"""Builds toy shard sets on a Ray cluster of two nodes that suffers in every way: ``ray_toy.py FOLDER``.

A process of its own, because Ray reads its settings when it is imported. Prints what happened as JSON.
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


def main(folder: Path) -> None:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": FAST_DETECTION},
    )
    second = cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    facts = {
        "node killed": lose_a_node(cluster, second, folder / "node", folder / "log"),
        "bad picture": fail(ToyPlan(fail_at=4), folder / "bad"),
        "worker killed": lose_a_worker(folder / "worker", folder / "killed"),
        "workers killed": fail(ToyPlan(num_shards=2, kill_workers=True), folder / "workers"),
        "interrupted": interrupt(folder / "interrupted"),
    }
    print(json.dumps(facts))
    cluster.shutdown()


def lose_a_node(cluster: Cluster, node: Any, folder: Path, log: Path) -> dict[str, Any]:
    """Kills a node in the middle of a shard, when others are done."""
    raylet = node.all_processes["raylet"][0].process.pid
    facts: dict[str, Any] = {}

    def kill() -> None:
        while True:
            done = sorted(int(path.stem[-6:]) for path in folder.glob("*.tar"))
            at_it = [shard for shard, parent in begun(log) if parent == raylet and shard not in done]
            if len(done) >= 2 and at_it:
                break
            time.sleep(0.01)
        children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
        for process in (raylet, *map(int, children)):  # as when the power goes: nobody there finishes or tells anything
            os.kill(process, signal.SIGKILL)
        cluster.remove_node(node, allow_graceful=False)
        facts.update(done=done, at_it=at_it)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    build_shard_set(
        ToyPlan(num_shards=8, records_per_shard=4, seconds_per_record=0.1, log=log), folder, engine=RayEngine()
    )
    killer.join(timeout=30)
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


def interrupt(folder: Path) -> list[str]:
    """Ctrl-C when the first shard is done, then the same again; returns which shards lay there in between."""

    def press() -> None:
        while not list(folder.glob("*.tar")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    plan = ToyPlan(seconds_per_record=0.1)
    try:
        build_shard_set(plan, folder, engine=RayEngine(workers=1))
    except KeyboardInterrupt:
        left = sorted(path.name for path in folder.glob("*.tar"))
        build_shard_set(plan, folder, engine=RayEngine(workers=1))
        return left
    return ["was not interrupted"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
