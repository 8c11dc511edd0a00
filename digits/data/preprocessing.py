"""MNIST's preprocessing, which makes the model's input from the ink of a drawing or a picture. Nothing else does.

MNIST's digits were cropped, scaled to 20 pixels on the longer side, and placed with their centre of mass in the middle
of 28 x 28 pixels. This module does the same, and also adjusts the strokes to MNIST's width, because a pen may be thin
and a digit small. On 600 of MNIST's test digits, drawn in two sizes with pens of 1 to 8 % of the canvas, the accuracy
is 97.8 to 98.8 % for each pen. Without the adjustment it is 10 to 25 % lower for a thin pen (dev/bench/pens.py).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Ink = NDArray[np.uint8]

FIELD = 28  # side of an image in pixels
BOX = 20  # longer side of the digit in pixels
MIN_STROKE, MAX_STROKE = 2.2, 2.8  # width in pixels, as `stroke_width` measures it; MNIST's median is 2.2
_FINE = 4  # samples per pixel while strokes are made thinner or thicker
_ENOUGH = 160  # pixels per side; a drawing of twice this size is reduced first


def to_mnist(ink: Ink) -> Ink:
    """Return a drawing in MNIST's form: uint8 (height, width) to uint8 (28, 28), 0 paper to 255 ink.

    A drawing without ink becomes an image without ink.
    """
    cropped = crop(ink)
    if not cropped.size:
        return np.zeros((FIELD, FIELD), np.uint8)
    picture = Image.fromarray(cropped)
    if max(cropped.shape) >= 2 * _ENOUGH:
        picture = picture.reduce(max(cropped.shape) // _ENOUGH)
    return _centre(_scale(picture))


def crop(ink: Ink) -> Ink:
    """Return the smallest rectangle that contains all ink; an empty array if there is no ink."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(rows):
        return ink[:0, :0]
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def stroke_width(ink: Ink) -> float:
    """Return the mean width of the strokes in pixels: twice their area divided by the length of their outline, or 0."""
    level = np.pad(ink, 1).astype(np.float32) / 255
    outline = float(np.hypot(np.diff(level, axis=1)[:-1], np.diff(level, axis=0)[:, :-1]).sum())
    return 2 * float(level.sum()) / outline if outline else 0.0


def _scale(picture: Image.Image) -> Ink:
    """Scale a cropped drawing to BOX, and make its strokes MIN_STROKE to MAX_STROKE wide."""
    longer, width = max(picture.size), stroke_width(np.asarray(picture))
    target = min(max(width * BOX / longer, MIN_STROKE), MAX_STROKE)
    if longer < 3 * width:  # a dot, not a stroke
        return _resize(picture, BOX / longer)
    # The centre lines of the strokes span `longer - width`; after scaling they must span `BOX - target`.
    scale = (BOX - target) / (longer - width)
    radius = (target - width * scale) / 2 * _FINE
    if abs(radius) < 0.5:
        return _resize(picture, BOX / longer)
    fine = np.pad(_resize(picture, scale * _FINE), int(np.ceil(max(radius, 0))))
    fine = _dilate(fine, radius) if radius > 0 else 255 - _dilate(255 - fine, -radius)
    fine = crop(fine)
    return _resize(Image.fromarray(fine), BOX / max(fine.shape))


def _resize(picture: Image.Image, scale: float) -> Ink:
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def _dilate(ink: Ink, radius: float) -> Ink:
    """Replace each pixel by the strongest one within a disc around it."""
    offsets = np.arange(-int(radius), int(radius) + 1)
    disc = np.add.outer(offsets**2, offsets**2) <= radius * radius
    dilated: Ink = cv2.dilate(ink, disc.astype(np.uint8))
    return dilated


def _centre(digit: Ink) -> Ink:
    """Place a digit of at most BOX x BOX pixels with its centre of mass in the middle, to the nearest pixel."""
    field = np.zeros((FIELD, FIELD), np.uint8)
    corner = []
    for axis, side in enumerate(digit.shape):
        mass = digit.sum(axis=1 - axis, dtype=np.int64)
        middle = float(mass @ np.arange(side)) / max(1, int(mass.sum()))
        corner.append(min(max(round(FIELD / 2 - middle), 0), FIELD - side))
    (top, left), (height, width) = corner, digit.shape
    field[top : top + height, left : left + width] = digit
    return field
