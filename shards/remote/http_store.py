"""A folder on an HTTP server: ranged reads over connections that are kept open.

Only http and https are spoken, to the server that the user named and to those it redirects to. Answers are taken at
their word only where they say what was asked for: a range must be the wanted one.
"""

import http.client
import re
import ssl
from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from shards.errors import ShardError
from shards.remote.location import file_url, shown
from shards.remote.transfer import BrokenTransferError, MissingFileError

_MAX_REDIRECTS = 8
_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Statuses that may be gone a moment later; so may any other of 500 and above."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_MAX_IDLE = 16


@dataclass(frozen=True, slots=True, eq=False)
class _Link:
    """A connection, and how to speak over it."""

    server: str
    connection: http.client.HTTPConnection
    prefix: str
    """Put before the path: a proxy wants the whole URL."""
    headers: dict[str, str]
    """What the proxy wants besides."""

    def ask(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        self.connection.request("GET", self.prefix + path, headers={**headers, **self.headers})
        return self.connection.getresponse()


@dataclass(slots=True, eq=False)
class _Part:
    """An answer; see :class:`shards.remote.transfer.Part`."""

    start: int
    total: int | None
    version: str | None
    response: http.client.HTTPResponse

    def read(self, size: int) -> bytes:
        try:
            return self.response.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise BrokenTransferError(_cause(error)) from error


class HttpStore:
    """Files below an http or https URL; see :class:`shards.remote.transfer.Store`.

    User name and password in the URL are sent as basic authentication, to that server alone. A query in the URL is sent
    with every request. Proxies are those that the environment names, as for any program.

    Args:
        url: the folder.
        timeout_seconds: longest wait for a connection or for further bytes.

    Raises:
        ValueError: the URL has no host.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self.url = url
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError(f"{shown(url)} names no host")
        self._timeout = timeout_seconds
        self._idle: deque[_Link] = deque(maxlen=_MAX_IDLE)
        self._proxies = getproxies()
        self._own_server = _server(parts)
        self._authorization = _authorization(parts)

    @contextmanager
    def open(self, name: str, start: int, size: int | None) -> Iterator[_Part]:
        """See :meth:`shards.remote.transfer.Store.open`."""
        headers = {"User-Agent": "vosdata", "Accept-Encoding": "identity"}
        if start > 0 or size is not None:
            # also for a whole file, whose answer then states the size of the file
            headers["Range"] = f"bytes={start}-" if size is None else f"bytes={start}-{start + size - 1}"
        url = file_url(self.url, name)
        link, response = self._follow(url, headers)
        reusable = False
        try:
            yield _part(response, url, start, size)
            reusable = response.isclosed()  # read to its end
        finally:
            if reusable and link.connection.sock is not None:  # and the server did not wish to close it
                self._idle.append(link)
            else:
                link.connection.close()

    def _follow(self, url: str, headers: dict[str, str]) -> tuple[_Link, http.client.HTTPResponse]:
        """Sends a request, and again to where the answers redirect to."""
        target = url
        for _ in range(_MAX_REDIRECTS):
            parts = urlsplit(target)
            server = _server(parts)
            own = {"Authorization": self._authorization} if self._authorization and server == self._own_server else {}
            link, response = self._ask(server, parts, {**headers, **own})
            location = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or location is None:
                return link, response
            link.connection.close()
            target = _redirected(target, location)
        raise ShardError(f"{shown(url)} cannot be read: more than {_MAX_REDIRECTS} redirections, the last to {target}")

    def _ask(self, server: str, parts: SplitResult, headers: dict[str, str]) -> tuple[_Link, http.client.HTTPResponse]:
        """The answer to one request, over an idle connection when there is one that still works."""
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (f"?{parts.query}" if parts.query else "")
        while (link := self._take_idle(server)) is not None:
            try:
                return link, link.ask(path, headers)
            except ConnectionError:
                link.connection.close()  # servers close idle connections at any time; that is no failure
            except (OSError, http.client.HTTPException) as error:
                link.connection.close()
                raise BrokenTransferError(_cause(error)) from error
        link = self._connect(server, parts)
        try:
            return link, link.ask(path, headers)
        except ssl.SSLCertVerificationError as error:
            link.connection.close()
            raise ShardError(f"{server}: its certificate cannot be verified ({error.verify_message})") from error
        except (OSError, http.client.HTTPException) as error:
            link.connection.close()
            raise BrokenTransferError(_cause(error)) from error

    def _take_idle(self, server: str) -> _Link | None:
        for _ in range(len(self._idle)):
            try:
                link = self._idle.popleft()
            except IndexError:  # another thread took the last one
                return None
            if link.server == server:
                return link
            self._idle.append(link)
        return None

    def _connect(self, server: str, parts: SplitResult) -> _Link:
        """A new connection, perhaps through a proxy; nothing is sent yet."""
        secure, host = parts.scheme == "https", parts.hostname or ""
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        proxy = self._proxies.get(parts.scheme)
        if proxy is None or proxy_bypass(host):
            return _Link(server, kind(host, parts.port, timeout=self._timeout), "", {})
        via = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if not via.hostname:
            raise ShardError(f"the proxy {shown(proxy)} that the environment names for {parts.scheme} has no host")
        permission = _authorization(via)
        headers = {"Proxy-Authorization": permission} if permission else {}
        connection = kind(via.hostname, via.port or 80, timeout=self._timeout)
        if secure:
            connection.set_tunnel(host, parts.port or 443, headers)
            return _Link(server, connection, "", {})
        return _Link(server, connection, server, headers)


def _server(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


def _authorization(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + b64encode(pair.encode()).decode("ascii")


def _redirected(url: str, location: str) -> str:
    """Where a redirection leads, if that is a place to go to."""
    target = urljoin(url, location)
    scheme, before = urlsplit(target).scheme, urlsplit(url).scheme
    if scheme not in ("http", "https") or (before == "https" and scheme == "http"):
        raise ShardError(
            f"{shown(url)} redirects to {shown(target)}; refused: only https, or http from http, is followed"
        )
    return target


def _part(response: http.client.HTTPResponse, url: str, start: int, size: int | None) -> _Part:
    """Checks an answer's status and headers."""
    status, headers = response.status, response.headers
    if status in (404, 410):
        raise MissingFileError(f"{shown(url)} does not exist (HTTP status {status})")
    if status in _PASSING or status >= 500:
        raise BrokenTransferError(f"HTTP status {status} {response.reason}", _retry_after(headers))
    if status == 416:
        raise BrokenTransferError(f"HTTP status 416: the file ends before byte {start}")
    if status not in (200, 206):
        hint = "; access is refused" if status in (401, 403) else ""
        raise ShardError(f"{shown(url)} cannot be read: HTTP status {status} {response.reason}{hint}")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise BrokenTransferError(f"the answer is encoded as {headers['Content-Encoding']}, which was not asked for")
    version = headers.get("ETag") or headers.get("Last-Modified")
    if status == 200:
        return _Part(0, response.length, version, response)
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    last = None if size is None else start + size - 1
    if found is None or int(found[1]) != start or (last is not None and int(found[2]) > last):
        wanted = f"bytes {start}-{'' if last is None else last}"
        raise BrokenTransferError(f"asked for {wanted}, answered with {headers.get('Content-Range')!r}")
    return _Part(start, None if found[3] == "*" else int(found[3]), version, response)


def _retry_after(headers: Message) -> float | None:
    """Seconds that a server asks to wait; None when it names none, or a date."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


def _cause(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {error}".rstrip(": ")
