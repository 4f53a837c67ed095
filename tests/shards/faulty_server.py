"""A file server that goes wrong on request; a module of its own so that several test files can import it."""

import importlib.util
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[2] / "benchmarks" / "http_server.py"
_spec = importlib.util.spec_from_file_location("http_server", _SOURCE)
http_server = importlib.util.module_from_spec(_spec)
sys.modules["http_server"] = http_server  # dataclasses look their module up
_spec.loader.exec_module(http_server)


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    name: str
    """File name, without folder and query."""

    start: int
    """First byte asked for."""

    count: int
    """How many requests for this file there were before."""

    headers: dict[str, str]
    path: str


@dataclass(frozen=True)
class Fault:
    """What to do instead of answering rightly."""

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    cut: int | None = None
    """Send so many bytes of the body, then close."""
    short: int | None = None
    """Say and send so many bytes less than asked for."""
    stall: float = 0.0
    """Wait before the body."""
    flip: int | None = None
    """Change this byte of the body."""
    shift: int = 0
    """Answer with a range that begins so much later."""
    whole: bool = False
    """Ignore the range."""
    etag: str | None = None
    total: int | None = None
    """State this size of the whole file."""
    hang_up: bool = False
    """Close without an answer."""


@dataclass
class Server:
    """A running server: its URL, what was asked of it, and how it goes wrong."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    fault: Callable[[Request], Fault | None] = lambda request: None

    def count(self, name: str) -> int:
        return sum(request.name == name for request in self.requests)


class Handler(http_server.FileHandler):
    def __init__(self, *arguments, served, server: Server) -> None:
        self.plan = server
        super().__init__(*arguments, served=served)

    def find(self) -> Path | None:
        path = super().find()
        name = self.path.split("?")[0].rpartition("/")[2]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.request = Request(name, start, self.plan.count(name), dict(self.headers.items()), self.path)
        self.plan.requests.append(self.request)
        return path

    def answer(self, path: Path) -> None:
        fault = self.plan.fault(self.request)
        if fault is None:
            super().answer(path)
        else:
            self.go_wrong(fault, path.read_bytes(), http_server.etag(path.stat()))

    def go_wrong(self, fault: Fault, data: bytes, etag: str) -> None:
        self.close_connection = True
        if fault.hang_up:
            return
        if fault.status is not None:
            self.send_response(fault.status)
            for header in (*fault.headers, ("Content-Length", "0")):
                self.send_header(*header)
            self.end_headers()
            return
        ranged = "Range" in self.headers and not fault.whole
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        start = (int(first) if ranged else 0) + fault.shift
        end = min(int(last) + 1, len(data)) if ranged and last else len(data)
        body = bytearray(data[start : end - (fault.short or 0)])
        if fault.flip is not None and body:
            body[fault.flip % len(body)] ^= 0x10
        self.send_response(206 if ranged else 200)
        if ranged:
            total = fault.total or len(data)
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{total}")
        for header in fault.headers:
            self.send_header(*header)
        self.send_header("Content-Length", str(len(body) if fault.cut is None else len(body) + 1))
        self.send_header("ETag", fault.etag or etag)
        self.end_headers()
        self.wfile.flush()
        time.sleep(fault.stall)
        self.wfile.write(body[: fault.cut])


@contextmanager
def serve_faulty(folder: Path, latency_seconds: float = 0.0) -> Iterator[Server]:
    """Serves a folder; the server's ``fault`` may be set at any time."""
    server = Server()
    handler = partial(Handler, served=http_server.Served(folder, latency_seconds), server=server)
    listener = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    listener.daemon_threads = True
    listener.handle_error = lambda *arguments: None  # clients that hang up are part of the tests
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{listener.server_address[1]}"
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def digest_of(url: str, cache_dir: Path, order: list[int], **settings) -> list[int]:
    """Reads records of a set in an order and returns a checksum of each; called in processes of their own."""
    from shards.codec import crc32c
    from shards.reader import ShardSet

    shard_set = ShardSet(url, cache_dir=cache_dir, **settings)
    return [crc32c(b"".join(bytes(shard_set.image_bytes(record, frame)) for frame in range(3))) for record in order]
