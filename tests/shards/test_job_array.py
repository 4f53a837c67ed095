"""Tasks of a job array that share nothing but a folder: the same bytes, whoever comes when and however often."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from toy_plan import ToyPlan

from shards.build import build_shard_set
from shards.errors import BadFileError, ConflictError
from shards.format import WORKSPACE
from shards.job_array import Task, TaskReport, build_share
from shards.workspace import locked

PLAN = ToyPlan(num_shards=5, records_per_shard=2)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("unbroken") / "toy"
    build_shard_set(PLAN, folder)
    return content(folder)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 1, 0, 2)])
def test_tasks_one_after_the_other_make_the_same_bytes(
    tmp_path: Path, unbroken: dict[str, bytes], order: tuple[int, ...]
) -> None:
    reports = [build_share(PLAN, tmp_path / "toy", Task(task_id, 3)) for task_id in order]
    assert content(tmp_path / "toy") == unbroken
    assert [report.whole is not None for report in reports] == [False] * (len(order) - 1) + [True]
    assert {task_id: report.num_shards for task_id, report in zip(order, reports, strict=True)} == {0: 2, 1: 2, 2: 1}
    assert reports[-2].num_missing == len(Task(order[-1], 3).shards(5))
    assert reports[-1].whole is not None and reports[-1].whole.num_records == 10


def test_tasks_at_the_same_time_make_the_same_bytes(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    for attempt in range(8):
        folder = tmp_path / f"toy{attempt}"
        plan = ToyPlan(num_shards=5, records_per_shard=2, seconds_per_record=0.002 * attempt)
        with ThreadPoolExecutor(6) as pool:
            tasks = [Task(caller % 4, 4) for caller in range(6)]  # two of them twice
            reports = list(pool.map(partial(build_share, plan, folder), tasks))
        assert any(report.whole is not None for report in reports)
        assert content(folder) == unbroken


def test_a_killed_task_is_run_again(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    folder = tmp_path / "toy"
    program = (
        "from pathlib import Path; from toy_plan import ToyPlan; from shards.job_array import Task, build_share\n"
        "plan = ToyPlan(num_shards=5, records_per_shard=2, seconds_per_record=0.2)\n"
        f"build_share(plan, Path({str(folder)!r}), Task(0, 2), workers=2)\n"
    )
    paths = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen([sys.executable, "-c", program], env=paths)
    until = time.monotonic() + 60
    while not list(folder.glob("*.tar")) and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert build_share(PLAN, folder, Task(1, 2)).whole is None
    report = build_share(PLAN, folder, Task(0, 2))
    assert report.whole is not None
    assert content(folder) == unbroken


def test_a_plain_build_completes_what_the_tasks_left(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    build_share(PLAN, tmp_path / "toy", Task(1, 3))
    stamp = (tmp_path / "toy" / "toy-000001.tar").stat().st_mtime_ns
    build_shard_set(PLAN, tmp_path / "toy")
    assert (tmp_path / "toy" / "toy-000001.tar").stat().st_mtime_ns == stamp
    assert content(tmp_path / "toy") == unbroken
    late = build_share(PLAN, tmp_path / "toy", Task(0, 3))
    assert late.whole is not None and late.whole.already_complete
    assert content(tmp_path / "toy") == unbroken


def test_a_task_that_fails_leaves_the_others_work(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    with pytest.raises(BadFileError, match="picture 2 is broken"):
        build_share(ToyPlan(num_shards=5, records_per_shard=2, fail_at=2), tmp_path / "toy", Task(1, 2))
    assert build_share(PLAN, tmp_path / "toy", Task(0, 2)).num_missing == 2
    assert build_share(PLAN, tmp_path / "toy", Task(1, 2)).whole is not None
    assert content(tmp_path / "toy") == unbroken


def test_a_plain_build_is_refused_while_tasks_work_and_a_task_while_a_build_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    with locked(folder, shared=True), pytest.raises(ConflictError, match="being written by another process"):
        build_shard_set(PLAN, folder)
    monkeypatch.setattr("shards.job_array._PATIENCE_SECONDS", 0.2)
    with locked(folder), pytest.raises(ConflictError, match="being written by another process"):
        build_share(PLAN, folder, Task(0, 2))


@pytest.mark.parametrize("at_work", [True, False])
def test_a_task_of_another_configuration_is_refused_naming_the_difference(tmp_path: Path, at_work: bool) -> None:
    folder = tmp_path / "toy"
    slow = ToyPlan(num_shards=5, records_per_shard=2, seconds_per_record=0.4)
    first = threading.Thread(target=build_share, args=(slow, folder, Task(0, 5)))
    first.start()
    until = time.monotonic() + 30
    while not list((folder / WORKSPACE).glob("*.tmp")) and time.monotonic() < until:
        time.sleep(0.01)
    if not at_work:
        first.join()
    with pytest.raises(ConflictError, match="seed is 0 there, 1 was asked for"):
        build_share(ToyPlan(num_shards=5, records_per_shard=2, seed=1), folder, Task(1, 5))
    first.join()


def test_progress_counts_the_share(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    build_share(PLAN, tmp_path / "toy", Task(0, 5), progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (2, 2)


def test_a_task_without_shards_is_no_error(tmp_path: Path) -> None:
    assert build_share(PLAN, tmp_path / "toy", Task(7, 9)) == TaskReport(0, 5, None)


@pytest.mark.parametrize(("task_id", "num_tasks"), [(-1, 3), (3, 3), (0, 0)])
def test_wrong_numbers_are_refused(task_id: int, num_tasks: int) -> None:
    with pytest.raises(ValueError, match=r"number of tasks must be at least 1|task's id must be 0 to 2"):
        Task(task_id, num_tasks)
