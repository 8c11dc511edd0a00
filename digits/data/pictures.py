"""Picture files in the formats FORMATS: drawings, scans and photos, and their ink."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from digits.data.reading import Reading, difference_to_border, read
from digits.errors import DataError

MAX_PIXELS = 16_000_000  # of a decoded picture, because a small file may decode to a huge one
MAX_SIDE = 10_000  # pixels, because the time of some steps grows with a side
DRAFT_SIDE = 700  # pixels of the shorter side that suffice for a digit in a photo; larger ones are reduced
# By Pillow's names, which find a format by content: for others, such as EPS, Pillow runs another program on the file.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
_BRIGHTNESS = np.array((0.299, 0.587, 0.114), np.float32)  # share of red, green and blue, as in Pillow's "L"
_PLAIN = 1  # of 255; least deviation of a picture's colours
_COLOURED = 4  # least ratio of the deviations of colour and of brightness; grey pictures have 1.7
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # of a JPEG's segments, not what may be in compressed data
_SCAN, _END, _SINGLE = 0xDA, 0xD9, (0x01, 0xD8)
_PNG = b"\x89PNG\r\n\x1a\n"  # how each begins
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # per pixel, by a PNG's type of colour
# The passes of an interlaced PNG: the first pixel's column and row, and the steps to the next ones.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_BLOCK = 1 << 18  # bytes of rows that are unpacked at a time
MAX_SEGMENTS = 20_000  # of a JPEG, and chunks of a PNG
MAX_SCANS = 50  # of a progressive JPEG, each of which costs as much as the whole picture; encoders write about ten
# A picture's own data are in the texts of Pillow's warnings. Python keeps each text, and writes it to the page's log.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_ink(
    picture: Path | IO[bytes], *, formats: tuple[str, ...] = FORMATS, max_pixels: int = MAX_PIXELS, digits: bool = True
) -> Reading:
    """Return the ink of the digit in a picture. The ink may be dark on light, light on dark, or drawn on transparency.

    If not `digits`, it is all that differs from the border, because frames and level lines may belong to it.

    Raises as `open_picture`.
    """
    image = open_picture(picture, formats=formats, max_pixels=max_pixels)
    if image.mode == "RGBA":
        alpha = np.asarray(image.getchannel("A"))
        if np.median(np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])) < 128:
            return Reading(alpha)  # a drawing on transparent paper, in any colour
    image = on_white(image)
    level = np.asarray(image.convert("L"))
    if not digits:
        return Reading(difference_to_border(level))
    found = read(level)
    if not found.ink.any() and (colour := _main_colour(np.asarray(image.convert("RGB")))) is not None:
        return read(colour)
    return found


def _main_colour(picture: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the first principal component of a picture's colours, if its brightness shows little of their difference.

    Args:
        picture: (height, width, 3). The result is (height, width).
    """
    few = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32)
    mean, axis = cv2.PCACompute(few, np.empty(0), maxComponents=1)
    if np.std(few @ axis[0]) < max(_PLAIN, _COLOURED * np.std(few @ _BRIGHTNESS)):
        return None
    return np.asarray(cv2.transform(picture, np.append(axis, 128 - axis @ mean[0])[None]), np.uint8)


def open_picture(
    picture: Path | IO[bytes],
    *,
    formats: tuple[str, ...] = FORMATS,
    max_pixels: int = MAX_PIXELS,
    side: int = DRAFT_SIDE,
) -> Image.Image:
    """Return a picture, upright, as RGBA if it has transparency, else as RGB.

    A large one is reduced by a whole number, so that its shorter side keeps at least `side` pixels.

    `formats` are the accepted formats. Decoding needs up to 40 bytes of memory for each decoded pixel.

    Raises:
        DataError: the file is no picture of these formats, or more than `max_pixels` must be decoded, or it has more
            than MAX_SIDE on a side.
    """
    try:
        if isinstance(picture, Path):
            content = picture.read_bytes()
        else:
            picture.seek(0)
            content = picture.read()
        rows = _check_chunks(content) if content.startswith(_PNG) else []
        with Image.open(io.BytesIO(content), formats=formats) as opened:
            scans = _count_scans(content) if opened.format == "JPEG" else 0
            if scans > MAX_SCANS:
                raise DataError(f"expected at most {MAX_SCANS} scans in a JPEG")
            width, height = opened.size
            opened.draft(None, (side, side))  # a JPEG is decoded smaller, in less time
            # One of a single scan, as cameras write it, is decoded line by line, so only the smaller picture counts.
            pixels = opened.width * opened.height if scans == 1 else width * height
            if pixels > max_pixels or max(width, height) > MAX_SIDE:
                raise DataError(
                    f"expected at most {max_pixels:,} pixels and {MAX_SIDE:,} on a side, got {width} x {height}"
                )
            if rows and _may_lack_rows(opened):
                _check_rows(content, rows)
            image = _eight_bits(opened)
            mode, factor = "RGBA" if image.has_transparency_data else "RGB", min(image.size) // side
            if image.mode != mode or factor < 2:  # else `reduce` makes the copy, in a third of the time
                image = image.convert(mode)
            if factor >= 2:
                image = image.reduce(factor)
            return _upright(image, opened)
    except DataError:
        raise
    except Exception as exc:  # Pillow also raises AssertionError and TypeError for damaged files
        raise DataError(
            f"expected a picture ({', '.join(formats)}), but the data cannot be read as one",
            remedy="give a PNG or JPEG file",
        ) from exc


def _check_chunks(content: bytes) -> list[memoryview]:
    """Return the compressed rows of a PNG.

    Pillow does not compare the checksums of the pixels, and it unpacks each colour profile.

    Raises:
        ValueError, struct.error: it is damaged, has too many chunks or several colour profiles.
    """
    data, profiles, at, rows = memoryview(content), 0, len(_PNG), list[memoryview]()
    for _ in range(MAX_SEGMENTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if zlib.crc32(data[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ValueError("a checksum differs")
        profiles += kind == b"iCCP"
        if profiles > 1:
            raise ValueError("several colour profiles")
        if kind == b"IDAT":
            rows.append(data[at + 8 : end])
        if kind == b"IEND":
            return rows
        at = end + 4
    raise ValueError("too many chunks")


def _may_lack_rows(image: Image.Image) -> bool:
    """Return whether a PNG's last row is zero, as Pillow leaves missing ones; True if the PNG is interlaced."""
    return "interlace" in image.info or not any(image.crop((0, image.height - 1, *image.size)).tobytes())


def _check_rows(content: bytes, rows: list[memoryview]) -> None:
    """Raise ValueError or zlib.error if a PNG has fewer rows than it states; Pillow reads the others as black."""
    width, height, depth, kind, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, len(_PNG) + 8)
    bits, expected = depth * _SAMPLES[kind], 0
    for left, top, right, down in _ADAM7 if interlaced else [(0, 0, 1, 1)]:
        across, below = -(-(width - left) // right), -(-(height - top) // down)
        expected += below * (1 + -(-across * bits // 8)) if min(across, below) > 0 else 0
    unpacker, size = zlib.decompressobj(), 0
    for part in rows:
        rest: bytes | memoryview = part
        while len(rest) and size < expected and not unpacker.eof:  # after it, each part would cost a copy
            size += len(unpacker.decompress(rest, _BLOCK))
            rest = unpacker.unconsumed_tail
    if size < expected and size + len(unpacker.flush()) < expected:  # only then nothing is left that it would unpack
        raise ValueError("rows are missing")


def _count_scans(content: bytes) -> int:
    """Return how many scans a JPEG has, without those of pictures in its segments and of a video after its end."""
    count, at = 0, 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(content, at)
        if not found or (marker := content[found.end() - 1]) == _END:
            return count
        count += marker == _SCAN
        at = found.end()
        if marker not in _SINGLE:
            at += int.from_bytes(content[at : at + 2], "big")  # the length of the segment
    return MAX_SCANS + 1


def on_white(image: Image.Image) -> Image.Image:
    """Return a picture of `open_picture` with white instead of transparency."""
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _eight_bits(opened: Image.Image) -> Image.Image:
    """Return the picture with 8 bits per channel. Pillow's `convert` would clip 16-bit values at 255 (white)."""
    if opened.mode not in {"I", "F"} and not opened.mode.startswith("I;16"):
        return opened
    values = np.nan_to_num(np.asarray(opened, np.float32), nan=0, posinf=0).clip(0)
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
