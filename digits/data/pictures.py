"""The ink of picture files: drawings, scans and photos in the formats FORMATS."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from digits.data.preprocessing import Ink
from digits.errors import DataError

MAX_PIXELS = 16_000_000  # of a decoded picture, because a small file may decode to a huge one
MAX_SIDE = 10_000  # pixels, because `count_digits` loops over the gaps between columns
# By Pillow's names, which find a format by content: for others, such as EPS, Pillow runs another program on the file.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
MIN_CONTRAST = 24  # of 255; a picture with less is empty paper


def read_ink(picture: Path | IO[bytes], *, formats: tuple[str, ...] = FORMATS, max_pixels: int = MAX_PIXELS) -> Ink:
    """Return the ink of a picture, uint8 (height, width) from 0 (paper) to 255.

    The ink may be dark on light, light on dark, or drawn on transparency.

    `formats` are the accepted formats. Decoding needs up to 40 bytes of memory for each pixel.

    Raises:
        DataError: the file is no picture of these formats, or it has more than `max_pixels`, or more than MAX_SIDE on a
            side.
    """
    try:
        with Image.open(picture, formats=formats) as opened:
            if opened.width * opened.height > max_pixels or max(opened.size) > MAX_SIDE:
                raise DataError(
                    f"expected at most {max_pixels:,} pixels and {MAX_SIDE:,} on a side, "
                    f"got {opened.width} x {opened.height}"
                )
            image = _upright(_eight_bits(opened).convert("RGBA"), opened)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        name = picture if isinstance(picture, Path) else "the data"
        raise DataError(
            f"expected a picture ({', '.join(formats)}), but {name} cannot be read as one",
            remedy="give a PNG or JPEG file",
        ) from exc
    alpha = np.asarray(image.getchannel("A"))
    if np.median(_border(alpha)) < 128:
        return alpha  # a drawing on transparent paper, in any colour
    white = Image.new("RGBA", image.size, "white")
    level = np.asarray(Image.alpha_composite(white, image).convert("L")).astype(np.float32)
    border = _border(level)
    ink = np.abs(level - np.median(border))
    strongest = float(ink.max())
    if strongest < MIN_CONTRAST:
        return np.zeros(ink.shape, np.uint8)
    # The paper of a scan is uneven, so differences as large as those along the border count as paper.
    paper = float(np.abs(border - np.median(border)).max())
    paper = min(1.5 * paper, 0.5 * strongest)
    return np.clip((ink - paper) * (255 / (strongest - paper)), 0, 255).round().astype(np.uint8)


def _eight_bits(opened: Image.Image) -> Image.Image:
    """Return the picture with 8 bits per channel. Pillow's `convert` would clip 16-bit values at 255 (white)."""
    if opened.mode not in {"I", "F"} and not opened.mode.startswith("I;16"):
        return opened
    values = np.asarray(opened, np.float32).clip(0)
    return Image.fromarray((values * (255 / (float(values.max()) or 1))).astype(np.uint8))


def _upright(image: Image.Image, opened: Image.Image) -> Image.Image:
    """Rotate `image` by the orientation in the EXIF data of `opened`."""
    try:
        orientation = opened.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, struct.error):  # damaged EXIF data does not make the picture unreadable
        return image
    image.info.clear()  # otherwise Pillow writes the other EXIF fields again and fails on unusual ones
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(image)


def _border(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]]).astype(np.float64)
