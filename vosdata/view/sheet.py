"""Contact sheets: many sequences on one picture, a row each, with their names."""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]

INK, PAPER, GAP = (32, 32, 36), (255, 255, 255), 6
FONT_SIZE = 15
CAPTION_HEIGHT = 24


def contact_sheet(rows: Sequence[tuple[str, Sequence[Picture]]], tile_height: int = 120) -> Picture:
    """Puts labelled rows of pictures on one sheet.

    Args:
        rows: per row its label, written above it, and its pictures ``uint8 (H, W, 3)`` of any size; fewer in one row
            than in another is fine.
        tile_height: height of every picture on the sheet in pixels; widths follow.

    Returns:
        ``uint8 (H, W, 3)``.

    Raises:
        ValueError: there is no picture at all.
    """
    if not any(pictures for _, pictures in rows):
        raise ValueError("a contact sheet needs at least one picture")
    strips = [_row(label, pictures, tile_height) for label, pictures in rows]
    width = max(strip.shape[1] for strip in strips) + 2 * GAP
    sheet = np.full((sum(strip.shape[0] for strip in strips) + 2 * GAP, width, 3), PAPER, dtype=np.uint8)
    top = GAP
    for strip in strips:
        sheet[top : top + strip.shape[0], GAP : GAP + strip.shape[1]] = strip
        top += strip.shape[0]
    return sheet


def _row(label: str, pictures: Sequence[Picture], tile_height: int) -> Picture:
    tiles = [resized(picture, tile_height) for picture in pictures]
    written = text_picture(label)
    width = max(written.shape[1], sum(tile.shape[1] + GAP for tile in tiles))
    strip = np.full((CAPTION_HEIGHT + tile_height + GAP, width, 3), PAPER, dtype=np.uint8)
    strip[: written.shape[0], : written.shape[1]] = written
    left = 0
    for tile in tiles:
        strip[CAPTION_HEIGHT : CAPTION_HEIGHT + tile_height, left : left + tile.shape[1]] = tile
        left += tile.shape[1] + GAP
    return strip


def resized(picture: Picture, height: int) -> Picture:
    """A picture at another height, its proportions kept; ``uint8 (height, W, 3)``."""
    if picture.shape[0] == height:
        return picture
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    how = cv2.INTER_AREA if height < picture.shape[0] else cv2.INTER_CUBIC
    tile: Picture = cv2.resize(picture, (width, height), interpolation=how)
    return tile


def text_picture(text: str) -> Picture:
    """One line of dark text on white, ``uint8 (CAPTION_HEIGHT, W, 3)``."""
    font = _font(FONT_SIZE)
    width = int(font.getlength(text)) + 4
    image = Image.new("RGB", (width, CAPTION_HEIGHT), PAPER)
    ImageDraw.Draw(image).text((1, 2), text, fill=INK, font=font)
    return np.asarray(image)


def captioned(picture: Picture, text: str) -> Picture:
    """A copy of the picture with a line of light text on a dark patch in its upper left corner."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font = _font(max(11, picture.shape[0] // 26))
    _, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    draw.rectangle((0, 0, right + 7, bottom - top + 7), fill=INK)
    draw.text((4, 4 - top), text, fill=PAPER, font=font)
    return np.asarray(image)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, so that sheets look the same on every machine."""
    return ImageFont.load_default(size=size)
