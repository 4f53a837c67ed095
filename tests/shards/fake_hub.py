"""The part of the Hugging Face Hub that a data set's files are read through, on this machine."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Hub:
    """A hub with one data set, ``me/toy``."""

    url: str
    ranges: list[tuple[str, int, int]] = field(default_factory=list)
    """Name, first and last byte of every file range that was asked for."""


@contextmanager
def serve_hub(folder: Path) -> Iterator[Hub]:
    """Serves the files of a folder as the data set ``me/toy``."""
    hub = Hub("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path == "/api/datasets/me/toy/tree/main":
                self._json([_info(file) for file in sorted(folder.iterdir())])
            elif path.startswith("/api/datasets/me/toy"):
                self._json({"_id": "1", "id": "me/toy", "sha": "0" * 40, "siblings": [], "tags": []})
            elif path.startswith("/datasets/me/toy/resolve/main/"):
                self._file(folder / path.rpartition("/")[2])
            else:
                self._answer(404, b"{}", {})

        def _file(self, file: Path) -> None:
            content = file.read_bytes()
            first, last = 0, len(content) - 1
            if asked := self.headers.get("Range"):
                low, high = asked.removeprefix("bytes=").split("-")
                first, last = int(low), min(int(high or last), last)
                hub.ranges.append((file.name, first, last))
            headers = {"ETag": f'"{len(content)}"', "Content-Range": f"bytes {first}-{last}/{len(content)}"}
            self._answer(206 if asked else 200, content[first : last + 1], headers)

        def _json(self, value: object) -> None:
            self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body)), "X-Repo-Commit": "0" * 40}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _info(file: Path) -> dict[str, object]:
    return {"type": "file", "oid": file.name, "size": file.stat().st_size, "path": file.name}
