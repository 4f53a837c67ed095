"""Sets at URLs: exactly the bytes of the local set, or an error that says what happened."""

import pickle
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from faulty_server import Fault, Request, Server, serve_faulty
from toy_plan import ToyPlan

from shards.build import build_shard_set
from shards.errors import DamageError, ShardError
from shards.manifest import read_manifest, seal
from shards.reader import ShardSet
from shards.remote.http_store import _redirected
from shards.remote.location import locate, shown
from shards.remote.transfer import Patience
from shards.verify import verify

QUICK = Patience(attempts=3, timeout_seconds=0.4, first_delay_seconds=0.001, longest_delay_seconds=0.01)
MODES = ("cache", "range")


@pytest.fixture
def served(toy_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(toy_set, tmp_path / "www" / "toy")
    with serve_faulty(tmp_path / "www") as server:
        yield server


@pytest.fixture
def remote(served: Server, tmp_path: Path) -> Callable[..., ShardSet]:
    """Function that opens the served set with a cache of its own; keywords as ``ShardSet``."""

    def open_set(mode: str = "cache", **settings) -> ShardSet:
        settings = {"cache_dir": tmp_path / "cache", "patience": QUICK, **settings}
        return ShardSet(f"{served.url}/toy", mode=mode, **settings)

    return open_set


def assert_same(found: ShardSet, local: ShardSet) -> None:
    assert len(found) == len(local)
    for record in range(len(local)):
        assert found.record_json(record) == local.record_json(record)
        for frame in range(local.entry(record).num_frames):
            assert found.image_bytes(record, frame) == local.image_bytes(record, frame)
            assert found.mask_bytes(record, frame) == local.mask_bytes(record, frame)


@pytest.mark.parametrize("mode", MODES)
def test_a_set_over_http_has_the_same_bytes(remote, toy_set: Path, mode: str) -> None:
    shard_set, local = remote(mode), ShardSet(toy_set)
    assert (shard_set.name, shard_set.description) == (local.name, local.description)
    assert_same(shard_set, local)
    np.testing.assert_array_equal(shard_set.image(4, 1), local.image(4, 1))
    np.testing.assert_array_equal(shard_set.record(1).frames[0].mask, local.mask(1, 0))


@pytest.mark.parametrize("mode", MODES)
def test_a_set_in_any_fsspec_file_system_has_the_same_bytes(toy_set: Path, tmp_path: Path, mode: str) -> None:
    import fsspec

    files = fsspec.filesystem("memory")
    for path in toy_set.iterdir():
        files.pipe_file(f"/bucket/toy/{path.name}", path.read_bytes())
    try:
        assert_same(ShardSet("memory://bucket/toy", cache_dir=tmp_path, mode=mode), ShardSet(toy_set))
        with pytest.raises(ShardError, match=r"no shard set.*dataset\.json is not there"):
            ShardSet("memory://bucket/other", cache_dir=tmp_path, patience=QUICK)
        files.pipe_file("/bucket/toy/toy-000001.tar", b"else")
        fresh = ShardSet("memory://bucket/toy", cache_dir=tmp_path / "new", mode=mode, patience=QUICK)
        with pytest.raises(ShardError, match=r"toy-000001\.tar.*4 bytes there, dataset\.json says"):
            fresh.image(4, 0)
    finally:
        files.rm("/bucket", recursive=True)


def test_file_urls_are_local_folders(toy_set: Path) -> None:
    shard_set = ShardSet(f"file://{toy_set}")
    assert shard_set.path == toy_set
    assert_same(shard_set, ShardSet(toy_set))


def test_urls_survive_being_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate(Path("https://host/a/b")) == "https://host/a/b"
    assert locate("S3://bucket/a/") == "s3://bucket/a"
    assert locate(Path("zip::https://host/a.zip")) == "zip::https://host/a.zip"
    assert locate("data/set") == Path("data/set")
    assert locate("C:/x") == Path("C:/x")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hf:" / "x").mkdir(parents=True)
    assert locate("hf:/x") == Path("hf:/x")


TRANSIENT = {
    "busy": Fault(status=503, headers=(("Retry-After", "1"),)),
    "too many requests": Fault(status=429),
    "server error": Fault(status=500),
    "hang up": Fault(hang_up=True),
    "body cut off": Fault(cut=100),
    "empty body": Fault(cut=0),
    "short answer": Fault(short=10),
    "no answer in time": Fault(stall=0.6),
    "wrong byte": Fault(flip=700),
    "another size": Fault(total=12345),
    "packed": Fault(headers=(("Content-Encoding", "gzip"),)),
    "another range": Fault(shift=3),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", TRANSIENT)
def test_what_fails_once_is_read_again(remote, served: Server, toy_set: Path, kind: str, mode: str) -> None:
    served.fault = lambda request: TRANSIENT[kind] if request.count == 0 else None
    shard_set, local = remote(mode), ShardSet(toy_set)
    for record in (0, 4, 8):
        for frame in range(3):
            assert shard_set.image_bytes(record, frame) == local.image_bytes(record, frame)
            assert shard_set.mask_bytes(record, frame) == local.mask_bytes(record, frame)


LASTING = {
    "busy": (Fault(status=503), "HTTP status 503"),
    "hang up": (Fault(hang_up=True), "RemoteDisconnected"),
    "no answer in time": (Fault(stall=0.6), "no answer in time"),
    "body cut off": (Fault(cut=0), "the answer ended after 0 of"),
    "another range": (Fault(shift=3), "asked for bytes"),
    "another size": (Fault(total=12345), "has 12345 bytes there, dataset.json says"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", LASTING)
def test_what_stays_broken_is_one_clear_error(remote, served: Server, kind: str, mode: str) -> None:
    shard_set = remote(mode)
    fault, cause = LASTING[kind]
    served.fault = lambda request: fault
    with pytest.raises(ShardError) as caught:
        shard_set.image(4, 0)
    message = str(caught.value)
    for part in (f"{served.url}/toy/toy-000001.tar", "at byte", "3 attempts", cause):
        assert part in message
    # an idle connection that the server has closed costs a request, but no attempt
    assert served.count("toy-000001.tar") == (4 if kind == "hang up" else 3)


def test_what_can_never_work_is_tried_once(remote, served: Server, tmp_path: Path) -> None:
    shard_set = remote()
    (tmp_path / "www" / "toy" / "toy-000001.tar").unlink()
    with pytest.raises(ShardError, match=r"toy-000001\.tar does not exist \(HTTP status 404\)"):
        shard_set.image(4, 0)
    served.fault = lambda request: Fault(status=403)
    with pytest.raises(ShardError, match=r"toy-000002\.tar cannot be read: HTTP status 403 .*access is refused"):
        shard_set.image(8, 0)
    assert served.count("toy-000001.tar") == served.count("toy-000002.tar") == 1


def test_lasting_wrong_bytes_are_damage_named_with_their_place(remote, served: Server, toy_set: Path) -> None:
    entry = ShardSet(toy_set).entry(4)
    offset = int(entry.image_offsets[1])
    served.fault = lambda request: Fault(flip=offset + 20 - request.start)
    cached = {"cache": "expected CRC32C .* over 37888 bytes from byte 0", "range": f"{entry.key}.*at byte {offset}"}
    served.fault = lambda request: Fault(flip=offset + 20 - request.start) if ".tar" in request.name else None
    for mode, text in cached.items():
        with pytest.raises(DamageError, match=text) as caught:
            remote(mode).image(4, 1)
        assert f"{served.url}/toy/toy-000001.tar is damaged" in str(caught.value)
        assert "3 attempts" in str(caught.value)


def test_a_download_that_breaks_off_goes_on_where_it_was(remote, served: Server, toy_set: Path) -> None:
    etag = '"same"'
    served.fault = lambda request: Fault(cut=10_000, etag=etag) if request.count < 2 else Fault(etag=etag)
    assert_same(remote(), ShardSet(toy_set))
    assert [request.start for request in served.requests if request.name == "toy-000000.tar"] == [0, 10_000, 20_000]


def test_a_download_begins_again_when_the_file_has_changed(remote, served: Server, toy_set: Path) -> None:
    served.fault = lambda request: Fault(cut=10_000, etag=f'"{request.count}"') if request.count < 1 else None
    assert_same(remote(), ShardSet(toy_set))
    assert [request.start for request in served.requests if request.name == "toy-000000.tar"] == [0, 10_000, 0]


def test_a_server_without_ranges_serves_a_cache_only(remote, served: Server, toy_set: Path) -> None:
    served.fault = lambda request: Fault(whole=True, cut=None if request.count else 500)
    assert_same(remote(), ShardSet(toy_set))
    with pytest.raises(ShardError, match=r'whole files only.*mode="cache"'):
        remote("range").image(0, 1)


def test_a_shard_that_changes_while_ranges_are_read_is_an_error_even_unchecked(
    remote, served: Server, tmp_path: Path
) -> None:
    shard_set = remote("range", check=False)
    shard_set.image(4, 0)
    path = tmp_path / "www" / "toy" / "toy-000001.tar"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(ShardError, match=r"toy-000001\.tar changed on the server"):
        shard_set.image(4, 1)


@pytest.mark.parametrize("mode", MODES)
def test_a_set_that_was_replaced_is_not_mixed_with_the_old_one(remote, tmp_path: Path, mode: str) -> None:
    first = remote(mode)
    first.image(0, 0)
    packed = pickle.dumps(first)
    shutil.rmtree(tmp_path / "www" / "toy")
    build_shard_set(ToyPlan(seed=5), tmp_path / "www" / "toy")
    with pytest.raises(ShardError):  # a shard of the new set under the old name
        first.image(4, 0)
    assert_same(remote(mode), ShardSet(tmp_path / "www" / "toy"))
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(ShardError, match="was replaced on the server since it was opened"):
        pickle.loads(packed)


def test_dataset_files_that_stay_wrong_are_refused(remote, served: Server) -> None:
    served.fault = lambda request: Fault(flip=60) if request.name == "dataset.json" else None
    with pytest.raises(DamageError, match=rf"{served.url}/toy/dataset\.json is damaged"):
        remote()
    served.fault = lambda request: Fault(flip=60) if request.name == "index.arrow" else None
    with pytest.raises(DamageError, match=r"index\.arrow is damaged: expected CRC32C"):
        remote()


@pytest.mark.parametrize("file", ["../toy-000000.tar", "/etc/passwd", "http://elsewhere/x.tar", "a/b.tar", "x.zip"])
def test_nothing_in_the_data_leads_anywhere(remote, served: Server, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "www" / "toy"
    content = read_manifest(folder)
    content["shards"][0]["file"] = file
    (folder / "dataset.json").write_bytes(seal(content))
    for open_set in (remote, lambda: ShardSet(folder)):
        with pytest.raises(DamageError, match="plain name of a tar"):
            open_set()
    assert {request.name for request in served.requests} == {"dataset.json"}


def test_redirections_are_followed_to_http_only(remote, served: Server, toy_set: Path) -> None:
    def moved(to: str) -> Callable[[Request], Fault | None]:
        def fault(request: Request) -> Fault | None:
            return None if "moved" in request.path else Fault(status=302, headers=(("Location", to + request.name),))

        return fault

    served.fault = lambda request: (
        None if "moved" in request.path else Fault(status=307, headers=(("Location", f"/toy/{request.name}?moved"),))
    )
    assert_same(remote(), ShardSet(toy_set))
    for target in (f"file://{toy_set}/", "ftp://host/"):
        served.fault = moved(target)
        with pytest.raises(ShardError, match=r"redirects to .*refused"):
            remote(cache_dir=toy_set.parent / "unused")
    served.fault = lambda request: Fault(status=302, headers=(("Location", "/toy/dataset.json"),))
    with pytest.raises(ShardError, match="more than 8 redirections"):
        remote()
    with pytest.raises(ShardError, match="refused"):
        _redirected("https://host/a", "http://host/a")
    assert _redirected("http://host/a", "//other/b") == "http://other/b"


def test_names_and_passwords_go_to_their_server_and_into_no_message(served: Server, tmp_path: Path) -> None:
    secret = served.url.replace("http://", "http://me:geheim@") + "/toy?token=abc"
    shard_set = ShardSet(secret, cache_dir=tmp_path / "cache", patience=QUICK)
    shard_set.image(0, 0)
    assert {request.headers["Authorization"] for request in served.requests} == {"Basic bWU6Z2VoZWlt"}
    assert all(request.path.endswith("?token=abc") for request in served.requests)
    served.fault = lambda request: Fault(status=500)
    with pytest.raises(ShardError) as caught:
        shard_set.image(4, 0)
    for text in (str(caught.value), repr(shard_set), str(shard_set.path), shown(secret)):
        assert "geheim" not in text and "abc" not in text
    served.fault = lambda request: (
        Fault(status=302, headers=(("Location", served.url.replace("127.0.0.1", "localhost") + request.path),))
        if "127.0.0.1" in request.headers["Host"]
        else None
    )
    shard_set.image(8, 0)
    other = [request for request in served.requests if "localhost" in request.headers["Host"]]
    assert other and not any("Authorization" in request.headers for request in other)


def test_proxies_of_the_environment_are_used(
    served: Server, toy_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", served.url.replace("http://", "http://us:er@"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    shard_set = ShardSet("http://far.invalid/toy", cache_dir=tmp_path / "cache", patience=QUICK)
    assert_same(shard_set, ShardSet(toy_set))
    assert all(request.path.startswith("http://far.invalid/toy/") for request in served.requests)
    assert all("Proxy-Authorization" in request.headers for request in served.requests)


def test_what_cannot_be_opened_is_said_in_one_line(served: Server, tmp_path: Path) -> None:
    def message(url: str, kind: type[Exception]) -> str:
        with pytest.raises(kind) as caught:
            ShardSet(url, cache_dir=tmp_path / "cache", patience=QUICK)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "dataset.json is not there" in message(f"{served.url}/nothing", ShardError)
    assert re.search("3 attempts .*ConnectionRefusedError", message("http://127.0.0.1:1/x", ShardError))
    assert "s3fs" in message("s3://bucket/set", ShardError)
    assert "Protocol not known" in message("nonsense://bucket/set", ValueError)
    with pytest.raises(ValueError, match="mode must be"):
        ShardSet(f"{served.url}/toy", mode="lazy")


def test_a_snippet_that_is_read_ahead_is_one_request(remote, served: Server, toy_set: Path) -> None:
    shard_set, local = remote("range"), ShardSet(toy_set)
    for record in (0, 4, 8):
        shard_set.read_ahead(shard_set.entry(record), 0, 2)
    for record in (0, 4, 8):
        for frame in range(3):
            assert shard_set.image_bytes(record, frame) == local.image_bytes(record, frame)
            assert shard_set.mask_bytes(record, frame) == local.mask_bytes(record, frame)
    assert [served.count(f"toy-00000{shard}.tar") for shard in range(3)] == [1, 1, 1]


def test_a_frame_and_its_mask_are_one_request_without_read_ahead(remote, served: Server) -> None:
    shard_set = remote("range")
    shard_set.image(4, 1)
    shard_set.mask(4, 1)
    assert served.count("toy-000001.tar") == 1


def test_read_ahead_that_fails_is_raised_by_nobody_until_it_is_read(remote, served: Server, toy_set: Path) -> None:
    for mode in MODES:
        shard_set = remote(mode)
        served.fault = lambda request: Fault(status=500)
        before = served.count("toy-000001.tar")
        shard_set.read_ahead(shard_set.entry(4), 0, 2)
        deadline = time.monotonic() + 5
        while served.count("toy-000001.tar") < before + 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(ShardError, match="HTTP status 500"):
            shard_set.image(4, 0)
        served.fault = lambda request: None
        assert shard_set.image_bytes(4, 0) == ShardSet(toy_set).image_bytes(4, 0)


def test_verify_reads_a_remote_set_and_names_what_is_wrong(served: Server, toy_set: Path, tmp_path: Path) -> None:
    url, folder = f"{served.url}/toy", tmp_path / "www" / "toy"
    assert verify(url) == verify(toy_set)
    path = folder / "toy-000001.tar"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    assert verify(url).problems == verify(folder).problems != ()
    path.unlink()
    assert verify(url).problems == verify(folder).problems
    (folder / "dataset.json").unlink()
    with pytest.raises(ShardError, match=r"dataset\.json is not there"):
        verify(url)
