"""Building: the same bytes whatever the workers and however often it was cut off; nothing foreign overwritten."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from toy_plan import ToyPlan

from shards.build import build_shard_set
from shards.errors import BadFileError, ConflictError, DamageError, DatasetError, ShardError
from shards.format import WORKSPACE
from shards.reader import ShardSet
from shards.workspace import locked

SCRIPT = Path(__file__).parent / "build_toy.py"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def start(
    folder: Path, workers: int, seconds_per_record: float = 0.03, env: dict[str, str] | None = None
) -> subprocess.Popen:
    command = [sys.executable, str(SCRIPT), str(folder), str(workers), str(seconds_per_record)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What build_toy.py makes when nothing happens."""
    folder = tmp_path_factory.mktemp("unbroken") / "toy"
    build_shard_set(ToyPlan(num_shards=4, records_per_shard=4), folder)
    return content(folder)


def test_a_set_holds_only_what_the_format_names(unbroken: dict[str, bytes]) -> None:
    shards = [f"toy-{number:06d}.tar" for number in range(4)]
    assert sorted(unbroken) == sorted(["README.md", "dataset.json", "index.arrow", *shards])


def test_two_workers_make_the_same_bytes(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    report = build_shard_set(ToyPlan(num_shards=4, records_per_shard=4), tmp_path / "toy", workers=2)
    assert content(tmp_path / "toy") == unbroken
    assert (report.num_records, report.num_frames, report.already_complete) == (16, 48, False)
    assert report.num_bytes == sum(len(data) for name, data in unbroken.items() if name.endswith(".tar"))


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_anywhere_and_run_again_makes_the_same_bytes(
    tmp_path: Path, unbroken: dict[str, bytes], workers: int
) -> None:
    folder, chance = tmp_path / "toy", random.Random(workers)
    kills_in_the_work = 0
    for _ in range(3):
        process = start(folder, workers, 0.05)
        until = time.monotonic() + 30
        while not (folder / WORKSPACE / "progress").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.5))
        kills_in_the_work += process.poll() is None
        process.kill()
        process.communicate()
    last = start(folder, workers, 0.0)
    assert last.communicate(timeout=60)[1] == ""
    assert kills_in_the_work > 0
    assert content(folder) == unbroken


def test_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    process = start(tmp_path / "toy", 2, 0.2)
    children: list[int] = []
    until = time.monotonic() + 30
    while len(children) < 3 and time.monotonic() < until:  # two workers and Python's resource tracker
        children = [
            int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ]
        time.sleep(0.02)
    assert len(children) >= 3
    time.sleep(0.5)
    process.kill()
    process.communicate()
    until = time.monotonic() + 5
    while any(is_alive(child) for child in children) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(is_alive(child) for child in children)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_ctrl_c_leaves_a_set_that_the_same_command_completes(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    folder = tmp_path / "toy"
    process = start(folder, 2, 0.1)
    until = time.monotonic() + 30
    while not list(folder.glob("*.tar")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=30)[1]
    assert process.returncode != 0
    assert "KeyboardInterrupt" in stderr
    with pytest.raises(ShardError, match="incomplete"):
        ShardSet(folder)
    assert start(folder, 1, 0.0).communicate(timeout=60)[1] == ""
    assert content(folder) == unbroken


def test_ctrl_c_while_workers_are_only_starting_ends_none_of_them(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    interrupt_at_start = (
        "import os, signal, sys\n"
        "if '--multiprocessing-fork' in sys.orig_argv:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    (tmp_path / "sitecustomize.py").write_text(interrupt_at_start)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    process = start(tmp_path / "toy", 2, 0.0, env={**os.environ, "PYTHONPATH": path})
    assert process.communicate(timeout=60)[1] == ""
    assert content(tmp_path / "toy") == unbroken


def test_running_again_does_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    first = build_shard_set(ToyPlan(), folder)
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = build_shard_set(ToyPlan(fail_at=0), folder)
    assert again == replace(first, already_complete=True)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps


def test_done_shards_are_not_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    with pytest.raises(BadFileError):
        build_shard_set(ToyPlan(fail_at=7), folder)
    stamp = (folder / "toy-000000.tar").stat().st_mtime_ns
    build_shard_set(ToyPlan(), folder)
    assert (folder / "toy-000000.tar").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("complete", [True, False])
def test_another_configuration_is_refused_naming_each_difference(tmp_path: Path, complete: bool) -> None:
    folder = tmp_path / "toy"
    if complete:
        build_shard_set(ToyPlan(), folder)
    else:
        with pytest.raises(BadFileError):
            build_shard_set(ToyPlan(fail_at=4), folder)
    before = content(folder)
    other = ToyPlan(seed=5, num_frames=4, extra_setting={"blur": 0.5})
    with pytest.raises(ConflictError) as caught:
        build_shard_set(other, folder)
    message = str(caught.value)
    assert "seed is 0 there, 5 was asked for" in message
    assert "frames.number is 3 there, 4 was asked for" in message
    assert 'extra is null there, {"blur": 0.5} was asked for' in message
    assert "num_shards" not in message
    assert content(folder) == before


def test_a_run_that_failed_before_its_first_shard_claims_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadFileError):
        build_shard_set(ToyPlan(fail_at=0, seed=3), tmp_path / "toy")
    build_shard_set(ToyPlan(seed=4), tmp_path / "toy")
    assert ShardSet(tmp_path / "toy").description["configuration"]["seed"] == 4


def test_another_number_of_shards_is_another_configuration(tmp_path: Path) -> None:
    build_shard_set(ToyPlan(), tmp_path / "toy")
    with pytest.raises(ConflictError, match="num_shards is 3 there, 9 was asked for"):
        build_shard_set(ToyPlan(num_shards=9, records_per_shard=1), tmp_path / "toy")


def test_two_writers_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    with locked(folder), pytest.raises(ConflictError, match="being written by another process"):
        build_shard_set(ToyPlan(), folder)
    build_shard_set(ToyPlan(), folder)


def test_a_second_process_is_refused_while_the_first_writes(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    folder = tmp_path / "toy"
    first = start(folder, 1, 0.15)
    until = time.monotonic() + 30
    while not list(folder.glob("*.tar")) and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(ConflictError, match="being written"):
        build_shard_set(ToyPlan(num_shards=4, records_per_shard=4), folder)
    assert first.communicate(timeout=60)[1] == ""
    assert content(folder) == unbroken


def test_many_threads_race_for_one_folder_and_the_set_is_whole(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    folder, outcomes = tmp_path / "toy", []

    def build_once() -> None:
        try:
            outcomes.append(build_shard_set(ToyPlan(num_shards=4, records_per_shard=4), folder).num_records)
        except ConflictError:
            outcomes.append("refused")

    threads = [threading.Thread(target=build_once) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 16 in outcomes
    assert set(outcomes) <= {16, "refused"}
    assert content(folder) == unbroken


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(ConflictError, match=r"not empty.*holiday\.jpg"):
        build_shard_set(ToyPlan(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
    with pytest.raises(ConflictError, match="is a file"):
        build_shard_set(ToyPlan(), tmp_path / "holiday.jpg")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_plan_raises_arrives_as_itself(tmp_path: Path, workers: int) -> None:
    with pytest.raises(BadFileError, match="picture 4 is broken"):
        build_shard_set(ToyPlan(fail_at=4), tmp_path / "toy", workers)
    assert not (tmp_path / "toy" / "dataset.json").exists()
    assert not list((tmp_path / "toy" / WORKSPACE).glob("*.tmp"))


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    plan = ToyPlan(kill_worker_once=tmp_path / "killed")
    report = build_shard_set(plan, tmp_path / "toy", workers=2)
    assert (tmp_path / "killed").exists()
    assert report.num_records == 9
    build_shard_set(ToyPlan(), tmp_path / "other")
    assert content(tmp_path / "toy") == content(tmp_path / "other")


def test_workers_that_keep_dying_end_in_an_error(tmp_path: Path) -> None:
    plan = ToyPlan(num_shards=2, kill_workers=True)
    with pytest.raises(ShardError, match="worker processes keep being killed while making shard"):
        build_shard_set(plan, tmp_path / "toy", workers=2)
    assert not (tmp_path / "toy" / "dataset.json").exists()


def test_skipped_records_are_counted_and_stored(tmp_path: Path) -> None:
    report = build_shard_set(ToyPlan(skip=(1, 3, 4, 5)), tmp_path / "toy")
    assert report.num_records == 5
    assert [item.name for item in report.skipped] == ["video 1", "video 3", "video 4", "video 5"]
    stored = ShardSet(tmp_path / "toy").description
    assert stored["skipped"][0] == {"name": "video 1", "reason": "too dull"}
    assert [info["file"] for info in stored["shards"]] == ["toy-000000.tar", "toy-000002.tar"]
    assert not (tmp_path / "toy" / "toy-000001.tar").exists()
    again = build_shard_set(ToyPlan(skip=(1, 3, 4, 5)), tmp_path / "toy")
    assert again.skipped == report.skipped


def test_a_set_without_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no record is left, 9 were skipped; the first: video 0: too dull"):
        build_shard_set(ToyPlan(skip=tuple(range(9))), tmp_path / "toy")


def test_equal_names_of_records_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="1 keys are used by more than one record, the first is same"):
        build_shard_set(ToyPlan(same_names=True), tmp_path / "toy")


def test_a_complete_set_that_lost_a_shard_is_named(tmp_path: Path) -> None:
    build_shard_set(ToyPlan(), tmp_path / "toy")
    (tmp_path / "toy" / "toy-000001.tar").unlink()
    with pytest.raises(DamageError, match=r"toy-000001\.tar is missing"):
        build_shard_set(ToyPlan(), tmp_path / "toy")


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_is_reported_inside_a_shard(tmp_path: Path, workers: int) -> None:
    """Every shard waits in its middle until progress there was told."""
    counts: list[int] = []
    gate = tmp_path / "gate"

    def tell(done: int, total: int) -> None:
        assert total == 16
        counts.append(done)
        if done == 4 * workers:
            gate.touch()

    build_shard_set(ToyPlan(num_shards=2, records_per_shard=8, gate=gate, held_at=4), tmp_path / "toy", workers, tell)
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 16)


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers"):
        build_shard_set(ToyPlan(), tmp_path / "toy", 0)
    with pytest.raises(ValueError, match="name of a shard set"):
        build_shard_set(ToyPlan(name="a b"), tmp_path / "toy")
    assert not (tmp_path / "toy").exists()


def test_a_failing_progress_function_stops_the_build_cleanly(tmp_path: Path) -> None:
    def fail(done: int, total: int) -> None:
        raise RuntimeError("the bar broke")

    with pytest.raises(RuntimeError, match="bar broke"):
        build_shard_set(ToyPlan(), tmp_path / "toy", 2, fail)
    assert build_shard_set(ToyPlan(), tmp_path / "toy").num_records == 9
