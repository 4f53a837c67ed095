"""Small shard sets, made at run time."""

import sys
from pathlib import Path

import pytest

# toy_plan.py is imported by tests here and, through the inherited search path, by the worker processes they start.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def toy_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete shard set of 9 records in 3 shards. Do not change it; copy it."""
    from toy_plan import ToyPlan

    from shards.build import build_shard_set

    folder = tmp_path_factory.mktemp("sets") / "toy"
    build_shard_set(ToyPlan(), folder)
    return folder
