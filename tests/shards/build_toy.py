"""Builds a toy shard set in a process of its own: ``build_toy.py FOLDER WORKERS SECONDS_PER_RECORD``."""

import sys
from pathlib import Path

from toy_plan import ToyPlan

from shards.build import build_shard_set

if __name__ == "__main__":
    plan = ToyPlan(num_shards=4, records_per_shard=4, seconds_per_record=float(sys.argv[3]))
    report = build_shard_set(plan, Path(sys.argv[1]), int(sys.argv[2]))
    print("complete already" if report.already_complete else "made")
