"""A file server with ranges and a chosen latency, for measuring how remote shard sets stream; nothing but the library.

    python benchmarks/http_server.py data/shards/synthvos --latency-ms 20 --port 8000

Each request is answered after the latency, as by a server that far away over a connection that stays open. The bytes
then come as fast as the machine sends them.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class Served:
    """What is served and how."""

    folder: Path
    latency_seconds: float = 0.0


def etag(status: os.stat_result) -> str:
    """Text that changes when a file does."""
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}"'


class FileHandler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of plain files in one folder, whole or one range, over connections that stay open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, *arguments: object, served: Served) -> None:
        self.served = served
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        time.sleep(self.served.latency_seconds)
        path = self.find()
        if path is None:
            self.send_error(404)
            return
        self.answer(path)

    def do_HEAD(self) -> None:
        self.do_GET()

    def find(self) -> Path | None:
        """The file that is asked for, if there is one; never anything outside the folder."""
        root = self.served.folder.resolve()
        path = (root / unquote(urlsplit(self.path).path).lstrip("/")).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None

    def answer(self, path: Path) -> None:
        """Sends a file, or the range of it that is asked for."""
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            found = _RANGE.fullmatch(self.headers.get("Range", ""))
            first = int(found[1]) if found else 0
            last = min(int(found[2]) if found and found[2] else status.st_size - 1, status.st_size - 1)
            if found and first > last:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{status.st_size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if found else 200)
            if found:
                self.send_header("Content-Range", f"bytes {first}-{last}/{status.st_size}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("ETag", etag(status))
            self.end_headers()
            if self.command == "GET":
                self.send_body(file.fileno(), first, last + 1 - first)

    def send_body(self, descriptor: int, start: int, size: int) -> None:
        """Sends bytes of an open file without copying them."""
        self.wfile.flush()
        while size > 0:
            sent = os.sendfile(self.connection.fileno(), descriptor, start, size)
            if sent == 0:
                return
            start, size = start + sent, size - sent

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: a line for each request would be measured, too."""


class FileServer(ThreadingHTTPServer):
    """Answers each connection in a thread of its own."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of clients that hang up: they may, at any time."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def serve(folder: Path, latency_seconds: float = 0.0, port: int = 0) -> Iterator[str]:
    """Serves a folder from threads of this process; yields its URL."""
    handler = partial(FileHandler, served=Served(folder, latency_seconds))
    server = FileServer(("127.0.0.1", port), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """Serves a folder until it is interrupted."""
    parser = argparse.ArgumentParser(description="Serve a folder over HTTP with ranges and latency.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    with serve(options.folder, options.latency_ms / 1000, options.port) as url:
        print(url, flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
