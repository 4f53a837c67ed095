"""Pages hold everything that they show, and text stays text."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vosdata.view.page import Media, Paragraph, Preformatted, Section, Table, media_file, picture, render_page


class Elements(HTMLParser):
    """Collects tags with attributes, and checks that they are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_a_page_is_well_formed_and_refers_to_nothing_outside() -> None:
    rgb = np.zeros((10, 20, 3), np.uint8)
    page = render_page("Run", Section("Sheet", [picture(rgb, "a sheet"), Media("data:video/mp4;base64,AA==")]))
    elements = Elements(page)
    addresses = [value for _, found in elements.found for key, value in found.items() if key in ("src", "href")]
    assert len(addresses) == 2
    assert all(str(address).startswith("data:") for address in addresses)
    assert not re.search(r"https?://", page)
    assert len(elements.all("video")) == len(elements.all("img")) == 1


def test_pictures_come_back_as_they_were() -> None:
    rgb = np.tile(np.arange(0, 200, 10, np.uint8)[None, :, None], (16, 1, 3))
    data = picture(rgb, "ramp").data_uri.split(",", 1)[1]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert np.abs(np.asarray(image).astype(int) - rgb).mean() < 4


def test_text_cannot_become_markup() -> None:
    blocks = [Paragraph("<b>a & b</b>"), Preformatted("x < y"), Table(("<i>",), [("<script>",)])]
    page = render_page("<title>", Section("<h1>", blocks), summary="<s>")
    tags = {name for name, _ in Elements(page).found}
    assert not tags & {"b", "i", "script", "s"}
    assert "&lt;b&gt;a &amp; b&lt;/b&gt;" in page


def test_tables_show_every_cell() -> None:
    page = render_page("Scores", Section("All", [Table(("name", "J"), [("bear", "0.812"), ("dog", "0.401")])]))
    assert [text for text in ("name", "bear", "0.812", "dog", "0.401") if text not in page] == []
    assert len(Elements(page).all("td")) == 4


def test_only_kinds_that_browsers_show_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"\.avi"):
        media_file(path)
    path = path.rename(tmp_path / "clip.webp")
    assert media_file(path).data_uri == "data:image/webp;base64,eA=="
    assert not media_file(path).is_video
