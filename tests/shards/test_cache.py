"""The cache of remote shards: its limit, its processes, and what becomes of a file that is evicted or damaged."""

import fcntl
import gc
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from faulty_server import Fault, Server, digest_of, serve_faulty
from toy_plan import ToyPlan

from shards.build import build_shard_set
from shards.errors import ShardError
from shards.reader import ShardSet
from shards.remote.cache import Cached, FileCache
from shards.remote.transfer import Patience

SHARDS, RECORDS = 6, 18


@pytest.fixture(scope="module")
def six_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("six") / "toy"
    build_shard_set(ToyPlan(num_shards=SHARDS), folder)
    return folder


@pytest.fixture
def served(six_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(six_shards, tmp_path / "www" / "toy")
    with serve_faulty(tmp_path / "www") as server:
        yield server


def small_limit(folder: Path, num_shards: float) -> int:
    """Bytes of the index and of so many of the largest shard."""
    largest = max(path.stat().st_size for path in folder.glob("*.tar"))
    return (folder / "index.arrow").stat().st_size + int(num_shards * largest)


def held(cache: Path) -> dict[str, int]:
    """Sizes of the cached files at a moment at which nobody makes room."""
    sizes: dict[str, int] = {}
    if not (cache / "lock").exists():
        return sizes
    with (cache / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path in cache.glob("*/*"):
            try:
                if path.name != "dataset.json":
                    sizes[path.name] = path.stat().st_size
            except FileNotFoundError:
                continue
    return sizes


def shuffled(seed: int) -> list[int]:
    order = list(range(RECORDS)) * 2
    random.Random(seed).shuffle(order)
    return order


def test_the_limit_holds_at_any_moment_and_every_byte_is_right(
    served: Server, six_shards: Path, tmp_path: Path
) -> None:
    limit, cache, order = small_limit(six_shards, 2.2), tmp_path / "cache", shuffled(0)
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.is_set():
            most[0] = max(most[0], sum(held(cache).values()))
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        found = digest_of(f"{served.url}/toy", cache, order, cache_bytes=limit)
    finally:
        ended.set()
        watcher.join()
    assert found == digest_of(str(six_shards), cache, order)
    assert 0 < most[0] <= limit
    assert served.count("index.arrow") == 1
    assert sum(served.count(f"toy-{shard:06d}.tar") for shard in range(SHARDS)) > SHARDS


def test_the_least_recently_used_shard_goes_first(served: Server, six_shards: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shard_set = ShardSet(f"{served.url}/toy", cache_dir=cache, cache_bytes=small_limit(six_shards, 3.2))
    for record in (0, 3, 6):
        shard_set.image_bytes(record, 0)
        time.sleep(0.01)
    ShardSet(f"{served.url}/toy", cache_dir=cache).image_bytes(0, 0)  # anybody's use counts
    shard_set.image_bytes(9, 0)
    assert {name for name in held(cache) if name.endswith(".tar")} == {f"toy-00000{shard}.tar" for shard in (0, 2, 3)}


def test_a_view_stays_valid_when_its_shard_is_evicted(served: Server, six_shards: Path, tmp_path: Path) -> None:
    shard_set = ShardSet(f"{served.url}/toy", cache_dir=tmp_path / "cache", cache_bytes=small_limit(six_shards, 1))
    view = shard_set.image_bytes(0, 0)
    for record in range(3, RECORDS):
        shard_set.image_bytes(record, 0)
    assert list(held(tmp_path / "cache")) != []
    assert not any("toy-000000" in name for name in held(tmp_path / "cache"))
    assert view == ShardSet(six_shards).image_bytes(0, 0)


def test_an_evicted_shard_takes_no_room_any_more(served: Server, six_shards: Path, tmp_path: Path) -> None:
    shard_set = ShardSet(f"{served.url}/toy", cache_dir=tmp_path / "cache", cache_bytes=small_limit(six_shards, 2))
    for record in range(RECORDS):
        shard_set.image_bytes(record, 0)
    gc.collect()
    mapped = {line.split()[-2] for line in Path("/proc/self/maps").read_text().splitlines() if "(deleted)" in line}
    assert not any(str(tmp_path) in name for name in mapped)


def test_many_processes_share_one_cache_and_fetch_each_shard_once(
    served: Server, six_shards: Path, tmp_path: Path
) -> None:
    served.fault = lambda request: time.sleep(0.05)  # long enough that all of them want the same shard
    url, cache = f"{served.url}/toy", tmp_path / "cache"
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(digest_of, [url] * 4, [cache] * 4, [list(range(RECORDS))] * 4))
    assert results == [digest_of(str(six_shards), cache, list(range(RECORDS)))] * 4
    assert {served.count(f"toy-{shard:06d}.tar") for shard in range(SHARDS)} == {1}
    assert served.count("index.arrow") == 1
    assert not [name for name in held(cache) if name.endswith(".part")]


def test_who_comes_as_another_finishes_fetches_nothing_and_leaves_nothing(
    served: Server, six_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, cache = f"{served.url}/toy", tmp_path / "cache"
    ShardSet(url, cache_dir=cache).image_bytes(0, 0)
    existing, looks = FileCache._existing, []

    def not_yet(self: FileCache, path: Path, size: int) -> Cached | None:
        looks.append(path.name)
        return None if looks.count(path.name) == 1 else existing(self, path, size)

    monkeypatch.setattr(FileCache, "_existing", not_yet)
    assert ShardSet(url, cache_dir=cache).image_bytes(0, 0) == ShardSet(six_shards).image_bytes(0, 0)
    assert looks.count("toy-000000.tar") == 2
    assert served.count("toy-000000.tar") == 1
    assert not [name for name in held(cache) if name.endswith(".part")]


def test_many_processes_and_threads_keep_a_tight_limit(served: Server, six_shards: Path, tmp_path: Path) -> None:
    url, cache, limit = f"{served.url}/toy", tmp_path / "cache", small_limit(six_shards, 1.5)
    orders = [shuffled(seed) for seed in range(3)]
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(digest_of, url, cache, order, cache_bytes=limit) for order in orders]
        most = 0
        while not all(future.done() for future in futures):
            most = max(most, sum(held(cache).values()))
        assert [future.result() for future in futures] == [digest_of(str(six_shards), cache, o) for o in orders]
    assert 0 < most <= limit
    shard_set = ShardSet(url, cache_dir=tmp_path / "other", cache_bytes=limit)
    with ThreadPoolExecutor(6) as threads:
        views = list(threads.map(lambda record: shard_set.image_bytes(record, 1), shuffled(4)))
    local = ShardSet(six_shards)
    assert views == [local.image_bytes(record, 1) for record in shuffled(4)]


def test_a_killed_download_is_taken_over(served: Server, six_shards: Path, tmp_path: Path) -> None:
    served.fault = lambda request: Fault(cut=9000, stall=0) if request.name == "toy-000000.tar" else None
    code = f"""
import sys; sys.path[:] = {sys.path!r}
from pathlib import Path
from shards.reader import ShardSet
from shards.remote.transfer import Patience
patience = Patience(first_delay_seconds=60, longest_delay_seconds=60)
ShardSet({served.url + "/toy"!r}, cache_dir=Path({str(tmp_path / "cache")!r}), patience=patience).image_bytes(0, 0)
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    while served.count("toy-000000.tar") == 0:
        time.sleep(0.01)
    while not any(name.endswith(".part") for name in held(tmp_path / "cache")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert any(name.endswith(".tar.part") for name in held(tmp_path / "cache"))
    served.fault = lambda request: None
    limit = small_limit(six_shards, 1)  # so that what the dead process left has to go before others come
    shard_set = ShardSet(f"{served.url}/toy", cache_dir=tmp_path / "cache", cache_bytes=limit)
    shard_set.image_bytes(3, 0)
    assert not any(name.endswith(".part") for name in held(tmp_path / "cache"))
    assert shard_set.image_bytes(0, 0) == ShardSet(six_shards).image_bytes(0, 0)


@pytest.mark.parametrize("how", ["flip", "cut", "empty"])
def test_a_damaged_file_of_the_cache_is_fetched_again(
    served: Server, six_shards: Path, tmp_path: Path, how: str
) -> None:
    url, local = f"{served.url}/toy", ShardSet(six_shards)
    ShardSet(url, cache_dir=tmp_path / "cache").image_bytes(0, 0)
    (path,) = (tmp_path / "cache").glob("*/toy-000000.tar")
    data = bytearray(path.read_bytes())
    data[int(local.entry(0).image_offsets[0]) + 300] ^= 1
    path.write_bytes({"flip": data, "cut": data[:-1], "empty": b""}[how])
    assert ShardSet(url, cache_dir=tmp_path / "cache").image_bytes(0, 0) == local.image_bytes(0, 0)
    assert served.count("toy-000000.tar") == 2


def test_a_pickled_set_needs_no_server_while_the_cache_has_it(served: Server, six_shards: Path, tmp_path: Path) -> None:
    shard_set = ShardSet(f"{served.url}/toy", cache_dir=tmp_path / "cache")
    shard_set.image_bytes(0, 0)
    num_requests = len(served.requests)
    again = pickle.loads(pickle.dumps(shard_set))
    assert again.image_bytes(0, 0) == ShardSet(six_shards).image_bytes(0, 0)
    assert len(served.requests) == num_requests
    assert len(pickle.dumps(shard_set)) < 1000


def asked_tars(server: Server) -> list[str]:
    return [request.name for request in server.requests if request.name.endswith(".tar")]


def wait_until(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_prefetch_returns_at_once_and_fetches_in_order(six_shards: Path, tmp_path: Path) -> None:
    shutil.copytree(six_shards, tmp_path / "www" / "toy")
    with serve_faulty(tmp_path / "www") as served:
        shard_set = ShardSet(f"{served.url}/toy", cache_dir=tmp_path / "cache")
        assert shard_set.fetches_whole_shards
        gate = threading.Event()
        served.fault = lambda request: None if gate.wait(30) else Fault(hang_up=True)
        shard_set.prefetch([16, 15, 2, 9, 17, 1])
        shard_set.prefetch([9, 12])
        first = {f"toy-00000{shard}.tar" for shard in (5, 0, 3)}
        wait_until(lambda: len(asked_tars(served)) == 3)
        assert set(asked_tars(served)) == first, "the first three are fetched at once"
        assert not first & set(held(tmp_path / "cache")), "and nobody waited for any of them"
        gate.set()
        wait_until(lambda: {*first, "toy-000004.tar"} <= set(held(tmp_path / "cache")))
        assert asked_tars(served)[3:] == ["toy-000004.tar"]
        served.fault = lambda request: Fault(status=500)
        assert shard_set.image_bytes(15, 0) == ShardSet(six_shards).image_bytes(15, 0)


def test_prefetch_takes_half_of_a_small_cache_at_most(served: Server, six_shards: Path, tmp_path: Path) -> None:
    limit = small_limit(six_shards, 4.1)
    shard_set = ShardSet(f"{served.url}/toy", cache_dir=tmp_path / "cache", cache_bytes=limit)
    shard_set.prefetch(range(RECORDS))
    time.sleep(0.5)
    assert sum(served.count(f"toy-{shard:06d}.tar") for shard in range(SHARDS)) == 2
    local = ShardSet(six_shards)
    for record in range(RECORDS):
        shard_set.prefetch(range(record, RECORDS))
        assert shard_set.image_bytes(record, 2) == local.image_bytes(record, 2)


def test_a_dropped_set_leaves_no_thread(served: Server, tmp_path: Path) -> None:
    before = threading.active_count()
    for mode in ("cache", "range"):
        shard_set = ShardSet(f"{served.url}/toy", cache_dir=tmp_path / "cache", mode=mode)
        shard_set.prefetch(range(RECORDS))
        shard_set.read_ahead(shard_set.entry(0), 0, 2)
        shard_set.image_bytes(0, 0)
        del shard_set
    gc.collect()
    wait_until(lambda: not any(thread.name == "vosdata-prefetch" for thread in threading.enumerate()))
    assert not any(thread.name == "vosdata-prefetch" for thread in threading.enumerate())
    assert threading.active_count() <= before + 2  # the server's


def test_a_cache_that_cannot_work_is_refused(served: Server, six_shards: Path, tmp_path: Path) -> None:
    url = f"{served.url}/toy"
    with pytest.raises(ValueError, match=r'needs a cache of \d+ bytes at least .* use mode="range"'):
        ShardSet(url, cache_dir=tmp_path / "cache", cache_bytes=small_limit(six_shards, 0.9))
    assert len(ShardSet(url, cache_dir=tmp_path / "cache", cache_bytes=small_limit(six_shards, 0.9), mode="range")) > 0
    (tmp_path / "file").write_text("")
    with pytest.raises(ShardError, match=r"the cache .* cannot be used"):
        ShardSet(url, cache_dir=tmp_path / "file")


def test_a_full_disk_is_said(served: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard_set = ShardSet(f"{served.url}/toy", cache_dir=tmp_path / "cache", patience=Patience(2, 1, 0))

    def full(*arguments: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ShardError, match=r"cannot keep toy-000000\.tar in the cache .*No space left"):
        shard_set.image_bytes(0, 0)
    monkeypatch.undo()
    shard_set.image_bytes(0, 0)
