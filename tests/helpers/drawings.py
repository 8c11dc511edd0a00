"""Drawings for tests: lines with a round pen, and how similar two images are."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from digits.data.preprocessing import Ink

Line = list[tuple[float, float]]
SEVEN: list[Line] = [[(0.2, 0.1), (0.8, 0.1), (0.4, 0.9)]]
ONE: list[Line] = [[(0.5, 0.1), (0.5, 0.9)]]
NOUGHT: list[Line] = [[(0.5 + 0.25 * np.cos(turn), 0.5 + 0.4 * np.sin(turn)) for turn in np.linspace(0, 6.3, 40)]]


def draw(
    lines: list[Line], *, side: int = 280, pen: float = 14, at: tuple[float, float] = (0, 0), size: float = 1
) -> Ink:
    """Return the ink, uint8 (side, side), of lines in 0..1."""
    picture = Image.new("L", (4 * side, 4 * side))
    brush = ImageDraw.Draw(picture)
    for line in lines:
        points = [(4 * side * (at[0] + x * size), 4 * side * (at[1] + y * size)) for x, y in line]
        brush.line(points, fill=255, width=round(4 * pen), joint="curve")
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX))


def touching_pair(left: list[Line], right: list[Line]) -> Ink:
    """Return the ink, uint8 (200, 320), of two digits that were moved together until they touch."""
    first, second = np.zeros((2, 200, 320), np.uint8)
    first[20:180, :160], second[20:180, 160:] = (draw(lines, side=160, pen=9) for lines in (left, right))
    while not ((first > 150) & (second > 150)).any():
        second = np.roll(second, -1, axis=1)
    return np.maximum(first, second)


def similarity(a: Ink, b: Ink) -> float:
    """Return the cosine of two images, shifted by up to a pixel to fit best: 1 for the same."""
    x, y = a.astype(float), b.astype(float)
    shifted = [np.roll(x, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return max(float((z * y).sum()) for z in shifted) / float(np.sqrt((x * x).sum() * (y * y).sum()))


def png(picture: Image.Image) -> io.BytesIO:
    """Return the picture as a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    file.seek(0)
    return file


def enlarge(image: Ink) -> Ink:
    """Return an image of 28 x 28 as people draw it: eight times as large, dark on light."""
    return 255 - np.kron(image, np.ones((8, 8), np.uint8))
