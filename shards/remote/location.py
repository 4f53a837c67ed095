"""Where a shard set lies: a local folder, or a URL that its user wrote."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::[A-Za-z][A-Za-z0-9+.-]+)*://.")
"""A scheme of two letters or more, possibly chained as fsspec writes it (``zip::https://...``)."""

_COLLAPSED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z][A-Za-z0-9+.-]+)*):/(?!/)(.+)")
"""What is left of a URL that went through ``Path``, which turns ``//`` into ``/``."""


def locate(path: str | Path) -> Path | str:
    """A local folder as ``Path``, anything remote as URL text without a slash at its end.

    ``file://`` is local. A URL that was turned into a ``Path`` on its way, by a command or a recipe, is restored,
    unless there is such a local file.
    """
    text = str(path)
    if not _URL.match(text):
        collapsed = _COLLAPSED.fullmatch(text)
        if collapsed is None or Path(text).exists():
            return Path(path)
        text = f"{collapsed[1]}://{collapsed[2]}"
    if text.lower().startswith("file://"):
        return Path(unquote(text[len("file://") :]))
    scheme, rest = text.split("://", 1)
    return f"{scheme.lower()}://{rest.rstrip('/')}"


def is_url(path: str | Path) -> bool:
    """Whether a path, perhaps a URL that went through ``Path``, is remote."""
    return isinstance(locate(path), str)


def shown(url: str) -> str:
    """A URL as messages show it: without user name, password and query, which may be secrets."""
    if "::" in url or ("@" not in url and "?" not in url):
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def file_url(folder: str, name: str) -> str:
    """URL of a file in a folder, before its query."""
    base, mark, query = folder.partition("?")
    return f"{base.rstrip('/')}/{name}{mark}{query}"
