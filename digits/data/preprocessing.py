"""The treatment MNIST's pictures had: the one way from any drawing or picture to what the model sees.

MNIST's digits were cut out, scaled to 20 pixels on their longer side and laid with their centre of mass in the middle
of 28 x 28. We do the same, and bring the strokes to the width they have in MNIST: a pen may be thin, or a digit small.
Of 600 of MNIST's test digits drawn with pens of 1 to 8 % of the canvas, at two sizes, 97.8 to 98.8 % are recognised
whatever the pen; without it, a thin pen costs 10 to 25 % (dev/bench/pens.py).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ExifTags, Image, ImageOps

from digits.errors import DataError

Ink = NDArray[np.uint8]

FIELD = 28  # pixels of a side
BOX = 20  # pixels of the digit's longer side
FINE = 4  # steps per pixel while strokes are made thinner or thicker
THIN, THICK = 2.2, 2.8  # pixels of a stroke's width, as `stroke_width` measures it: MNIST's median is 2.2
ENOUGH = 160  # more pixels of a side than this add nothing
MOST_PIXELS = 16_000_000  # of a picture, decoded: a small file can claim to be huge
FAINTEST = 24  # of 255: less contrast than this is paper

SURE = 0.7  # of the best probability; below, `judge` says that it is not sure
SECOND = 0.15  # from here on the second best is worth naming
DIGIT_HEIGHT = 0.55  # of the drawing's height: parts lower than this are no digit of their own


def to_mnist(ink: Ink) -> Ink:
    """A drawing as MNIST would hold it: uint8 (h, w), paper 0 and ink 255, to uint8 (28, 28). Empty stays empty."""
    crop = _cropped(ink)
    if not crop.size:
        return np.zeros((FIELD, FIELD), np.uint8)
    picture = Image.fromarray(crop)
    if max(crop.shape) >= 2 * ENOUGH:
        picture = picture.reduce(max(crop.shape) // ENOUGH)
    return _centred(_scaled(picture))


def ink_of(picture: Path | IO[bytes], *, formats: tuple[str, ...] | None = None, most_pixels: int = MOST_PIXELS) -> Ink:
    """The ink of a picture file, uint8 (h, w): dark on light, light on dark, or drawn on transparency.

    Args:
        picture: the file; up to 40 bytes of memory are needed for each of its pixels.
        formats: those that may be read, by Pillow's names; None: all that Pillow knows.
        most_pixels: that it may have.

    Raises:
        DataError: not a picture that Pillow can read, or too large.
    """
    try:
        with Image.open(picture, formats=formats) as opened:
            if opened.width * opened.height > most_pixels:
                raise DataError(f"expected at most {most_pixels:,} pixels, got {opened.width} x {opened.height}")
            image = _upright(_eight_bits(opened).convert("RGBA"), opened)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        name = picture if isinstance(picture, Path) else "what was sent"
        raise DataError(
            f"expected a picture, but {name} cannot be read as one", remedy="give a PNG or JPEG file"
        ) from exc
    alpha = np.asarray(image.getchannel("A"))
    if np.median(_border(alpha)) < 128:
        return alpha  # a drawing on transparent paper, in whatever colour
    white = Image.new("RGBA", image.size, "white")
    level = np.asarray(Image.alpha_composite(white, image).convert("L")).astype(np.float32)
    border = _border(level)
    ink = np.abs(level - np.median(border))
    strongest = float(ink.max())
    if strongest < FAINTEST:
        return np.zeros(ink.shape, np.uint8)
    # A scan's paper is not even: what varies as much as the border is paper too.
    paper = float(np.abs(border - np.median(border)).max())
    paper = min(1.5 * paper, 0.5 * strongest)
    return np.clip((ink - paper) * (255 / (strongest - paper)), 0, 255).round().astype(np.uint8)


def _eight_bits(opened: Image.Image) -> Image.Image:
    """A picture of 8 bits a channel. Pillow's `convert` would cut a scan's 16 bits off at 255: all of it white."""
    if opened.mode not in {"I", "F"} and not opened.mode.startswith("I;16"):
        return opened
    values = np.asarray(opened, np.float32).clip(0)
    return Image.fromarray((values * (255 / (float(values.max()) or 1))).astype(np.uint8))


def _upright(image: Image.Image, opened: Image.Image) -> Image.Image:
    """What was read of a photo, turned as its EXIF says that the camera was held."""
    try:
        orientation = opened.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, struct.error):  # damaged EXIF is no reason to refuse the picture
        return image
    image.info.clear()  # Pillow writes the rest of the EXIF anew, and fails on what is odd in it
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(image)


def stroke_width(ink: Ink) -> float:
    """Mean width of the strokes in pixels: twice their area by the length of their outline. 0 where there is no ink."""
    level = np.pad(ink, 1).astype(np.float32) / 255
    outline = float(np.hypot(np.diff(level, axis=1)[:-1], np.diff(level, axis=0)[:, :-1]).sum())
    return 2 * float(level.sum()) / outline if outline else 0.0


@dataclass(frozen=True)
class Verdict:
    """Whether an answer can be relied on: `state` is sure, unsure, several or empty; `text` says it to a person."""

    state: str
    text: str


def judge(ink: Ink, probabilities: ArrayLike) -> Verdict:
    """Whether a drawing, uint8 (h, w), is one digit, and one that the model is sure of by its ten probabilities.

    Measured on 2500 of MNIST's test digits redrawn with slants and turns, with two networks (dev/bench/unsure.py):
    below SURE are 0.6 to 1.5 % of those read rightly, 34 to 38 % of those read wrongly and 30 % of random scribbles;
    0.8 would doubt twice as many right ones for half as many wrong ones more. 0.1 % of single digits count as several,
    and all pairs of digits that a tenth of their height keeps apart.
    """
    if not ink.any():
        return Verdict("empty", "Nothing is drawn yet.")
    if count_digits(ink) > 1:
        return Verdict("several", "This looks like more than one digit.")
    values = np.asarray(probabilities, np.float64)
    best, second = (int(i) for i in np.argsort(-values, kind="stable")[:2])
    if values[best] >= SURE:
        return Verdict("sure", f"This is {named(best)}.")
    if values[second] >= SECOND:
        return Verdict("unsure", f"Not sure: perhaps {named(best)}, perhaps {named(second)}.")
    return Verdict("unsure", f"Not sure: perhaps {named(best)}.")


def named(digit: int) -> str:
    """A digit with its article, as it is spoken: "a 7", "an 8"."""
    return f"{'an' if digit == 8 else 'a'} {digit}"


def count_digits(ink: Ink) -> int:
    """How many parts as high as a digit stand side by side in a drawing, with clear paper between them."""
    crop = _cropped(ink)
    if not crop.size:
        return 0
    inked = crop.any(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inked, [False]]).astype(np.int8)))
    heights = [_cropped(crop[:, start:end]).shape[0] for start, end in edges.reshape(-1, 2)]
    return sum(height >= DIGIT_HEIGHT * crop.shape[0] for height in heights)


def _cropped(ink: Ink) -> Ink:
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(rows):
        return ink[:0, :0]
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _border(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]]).astype(np.float64)


def _scaled(picture: Image.Image) -> Ink:
    """A cut-out drawing at its final size, its strokes brought to MNIST's width."""
    longer, width = max(picture.size), stroke_width(np.asarray(picture))
    wanted = min(max(width * BOX / longer, THIN), THICK)
    if longer < 3 * width:  # a blot, not a stroke
        return _resized(picture, BOX / longer)
    # The middle of the strokes spans `longer - width`; it must span what the wanted width leaves of the box.
    scale = (BOX - wanted) / (longer - width)
    radius = (wanted - width * scale) / 2 * FINE
    if abs(radius) < 0.5:
        return _resized(picture, BOX / longer)
    fine = np.pad(_resized(picture, scale * FINE), int(np.ceil(max(radius, 0))))
    fine = _widened(fine, radius) if radius > 0 else 255 - _widened(255 - fine, -radius)
    fine = _cropped(fine)
    return _resized(Image.fromarray(fine), BOX / max(fine.shape))


def _resized(picture: Image.Image, scale: float) -> Ink:
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def _widened(ink: Ink, radius: float) -> Ink:
    """Each pixel becomes the strongest within a disc around it."""
    reach = int(radius)
    wide = np.pad(ink, reach)
    height, width = ink.shape
    result = ink
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dx * dx + dy * dy <= radius * radius:
                result = np.maximum(result, wide[reach + dy :, reach + dx :][:height, :width])
    return result


def _centred(digit: Ink) -> Ink:
    """A digit of at most 20 x 20 in the field, its centre of mass in the middle, as nearly as whole pixels allow."""
    field = np.zeros((FIELD, FIELD), np.uint8)
    corner = []
    for axis, side in enumerate(digit.shape):
        mass = digit.sum(axis=1 - axis, dtype=np.int64)
        middle = float(mass @ np.arange(side)) / max(1, int(mass.sum()))
        corner.append(min(max(round(FIELD / 2 - middle), 0), FIELD - side))
    (top, left), (height, width) = corner, digit.shape
    field[top : top + height, left : left + width] = digit
    return field
