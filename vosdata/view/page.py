"""One HTML page that holds everything it shows: no other file, no network."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

MEDIA_TYPES = {".mp4": "video/mp4", ".webp": "image/webp", ".jpg": "image/jpeg", ".png": "image/png"}


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Preformatted:
    """Text that keeps its spaces and line ends, such as a command or its output."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table; every cell is text, numbers are aligned by the page."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Media:
    """A picture or video inside the page."""

    data_uri: str
    """The whole file, as ``data:<type>;base64,...``."""

    caption: str = ""

    @property
    def is_video(self) -> bool:
        """Whether it needs a video player (an animated WebP is a picture)."""
        return self.data_uri.startswith("data:video/")


Block = Paragraph | Preformatted | Table | Media


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it, in order."""

    title: str
    blocks: Sequence[Block]


def picture(rgb: NDArray[np.uint8], caption: str = "", quality: int = 88) -> Media:
    """A picture ``uint8 (H, W, 3)`` for the page, as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="JPEG", quality=quality, optimize=True)
    return Media(_data_uri("image/jpeg", buffer.getvalue()), caption)


def drawings(parts: Sequence[str], width: int, height: int, caption: str = "") -> Media:
    """SVG drawings of one size side by side, two in a row, as one picture.

    Args:
        parts: SVG elements of each drawing, from its upper left corner.
        width: of each, in pixels.
        height: of each, in pixels.
        caption: text under the picture.
    """
    whole_width, whole_height = 2 * width, -(-len(parts) // 2) * height
    placed = [
        f'<g transform="translate({place % 2 * width} {place // 2 * height})">{part}</g>'
        for place, part in enumerate(parts)
    ]
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole_width} {whole_height}" width="{whole_width}" '
        f'height="{whole_height}" font-family="sans-serif" font-size="12">'
        f'<rect width="{whole_width}" height="{whole_height}" fill="#ffffff"/>{"".join(placed)}</svg>'
    )
    return Media(_data_uri("image/svg+xml", text.encode()), caption)


def media_file(path: Path, caption: str = "") -> Media:
    """A picture or video file for the page.

    Raises:
        ValueError: browsers do not show files of this kind.
    """
    if path.suffix not in MEDIA_TYPES:
        raise ValueError(
            f"{path}: a page shows {', '.join(MEDIA_TYPES)}, not {path.suffix or 'files without a suffix'}"
        )
    return Media(_data_uri(MEDIA_TYPES[path.suffix], path.read_bytes()), caption)


def render_page(title: str, *sections: Section, summary: str = "") -> str:
    """Renders the page.

    Args:
        title: heading, also of the browser's tab.
        sections: what to show, in order.
        summary: a line under the heading.

    Returns:
        A complete HTML document.
    """
    return _template().render(title=title, summary=summary, sections=sections, kind=_kind)


def _kind(block: Block) -> str:
    return type(block).__name__


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string((files("vosdata.view") / "page.html").read_text(encoding="utf-8"))
