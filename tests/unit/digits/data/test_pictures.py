"""Reading the ink of picture files."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from digits.data.pictures import MAX_SIDE, read_ink
from digits.data.preprocessing import to_mnist
from digits.data.reading import Reading, read
from digits.errors import DataError
from tests.helpers.drawings import SEVEN, draw, png, similarity


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("style", ["dark on light", "light on dark", "transparent", "grey", "palette"])
def test_ink_is_found_on_any_background(style: str) -> None:
    """The ink is the same if it is dark on light, light on dark or on transparency."""
    ink = draw(SEVEN)
    shown = Image.fromarray(ink if style == "light on dark" else 255 - ink)
    if style == "transparent":
        shown = Image.merge("RGBA", [*[Image.new("L", shown.size, 200)] * 3, Image.fromarray(ink)])
    elif style == "grey":
        shown = Image.fromarray((220 - ink * 0.6).astype(np.uint8))
    elif style == "palette":
        shown = shown.convert("P")
    assert similarity(read_ink(png(shown)).ink, ink) > 0.99


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_a_photo_is_rotated_by_its_exif_data(kind: str, orientation: int, turns: int) -> None:
    """The digit is upright for every orientation of the camera that EXIF states."""
    ink, exif, file = draw(SEVEN), Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.rot90(255 - ink, turns)).save(file, kind, exif=exif)
    assert similarity(read_ink(file).ink, ink) > 0.99


@pytest.mark.parametrize("exif", [b"Exif\0\0nothing", b"MM\0*\0"])
def test_damaged_exif_data_is_ignored(exif: bytes) -> None:
    """A picture with unreadable EXIF data can be read."""
    ink, file = draw(SEVEN), io.BytesIO()
    Image.fromarray(255 - ink).save(file, "PNG", exif=exif)
    assert similarity(read_ink(file).ink, ink) > 0.99


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "i4", "f4"])
@pytest.mark.parametrize("white", [255, 4095, 65535])
def test_a_scan_of_more_than_8_bits_is_read(dtype: str, white: int) -> None:
    """Scanners write 12 or 16 bits, or floats: the brightest value is white, and empty paper has no ink."""
    ink = draw(SEVEN)
    for shown in (ink, np.zeros_like(ink)):
        file = io.BytesIO()
        Image.fromarray(((255 - shown) * (white / 255)).astype(dtype)).save(file, "TIFF")
        assert np.abs(read_ink(file).ink.astype(int) - shown).max() <= 1
    Image.fromarray(np.zeros((9, 9), dtype)).save(file := io.BytesIO(), "TIFF")
    assert not read_ink(file).ink.any()


def test_ink_as_bright_as_the_paper_is_found() -> None:
    """Ink that differs from the paper in colour only gives nearly the same image as dark ink."""
    ink = draw(SEVEN, side=300, at=(0.2, 0.2), size=0.6)
    paper, pen = Image.new("RGB", (300, 300), (40, 150, 90)), Image.new("RGB", (300, 300), (215, 60, 90))
    assert paper.convert("L").getpixel((0, 0)) == pytest.approx(pen.convert("L").getpixel((0, 0)), abs=3)
    found = read_ink(png(Image.composite(pen, paper, Image.fromarray(ink))))
    assert similarity(to_mnist(found.ink), to_mnist(ink)) > 0.9


def test_a_picture_without_colours_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even paper, or a pattern that is even from afar, has no second colour in which its ink may be found."""
    searched = list[int]()

    def counting(level: NDArray[np.uint8]) -> Reading:
        searched.append(level.size)
        return read(level)

    monkeypatch.setattr("digits.data.pictures.read", counting)
    stripes = np.full((640, 640), 255, np.uint8)
    stripes[::5] = 0
    for shown in (stripes, np.full((640, 640), 90, np.uint8)):
        read_ink(png(Image.fromarray(shown)))
    assert searched == [640 * 640] * 2


def test_uneven_paper_has_no_ink() -> None:
    """Shade and grain of a photographed sheet do not become ink."""
    random = np.random.default_rng(0)
    ink = draw(SEVEN)
    shade = 200 + 20 * np.linspace(0, 1, 280)[:, None] + random.normal(0, 3, ink.shape)
    photo = np.clip(shade - ink * 0.6, 0, 255).astype(np.uint8)
    assert similarity(to_mnist(read_ink(png(Image.fromarray(photo))).ink), to_mnist(ink)) > 0.95


def test_an_empty_sheet_has_no_ink() -> None:
    """White, black or transparent paper without a drawing has no ink."""
    for colour in ("white", "black", (0, 0, 0, 0)):
        assert not read_ink(png(Image.new("RGBA", (50, 50), colour))).ink.any()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_photo_of_12_megapixels_is_read_quickly(kind: str) -> None:
    """A large picture is reduced before the digit is looked for, which takes a fraction of a second."""
    ink, file = draw(SEVEN), io.BytesIO()
    Image.fromarray(235 - ink // 2).resize((4000, 3000)).save(file, kind)
    started = time.process_time()
    found = read_ink(file).ink
    assert time.process_time() - started < 1.5  # 0.1 (JPEG) and 0.5 s (PNG) on a slow machine
    stretched = np.asarray(Image.fromarray(ink).resize((400, 300)))
    assert similarity(to_mnist(found), to_mnist(stretched)) > 0.9


def test_a_photo_of_48_megapixels_is_read() -> None:
    """A JPEG of a single scan is decoded smaller, so its full size is no limit; a progressive one needs all pixels."""
    ink, photo, progressive = draw(SEVEN), io.BytesIO(), io.BytesIO()
    picture = Image.fromarray(235 - ink // 2).resize((8000, 6000))
    picture.save(photo, "JPEG")
    stretched = np.asarray(Image.fromarray(ink).resize((400, 300)))
    assert similarity(to_mnist(read_ink(photo).ink), to_mnist(stretched)) > 0.9
    picture.save(progressive, "JPEG", progressive=True)
    with pytest.raises(DataError, match="at most 16,000,000 pixels"):
        read_ink(progressive)


def test_a_jpeg_of_many_scans_is_rejected() -> None:
    """A JPEG of many scans is refused, because each costs as much as the whole picture."""
    file = io.BytesIO()
    Image.new("L", (64, 64)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    scan = content[content.rfind(b"\xff\xda") : -2]
    other = b"\xff\xe1" + (202).to_bytes(2, "big") + 100 * b"\xff\xda"  # a segment, and what phones append: a video
    for intact in (content, content[:2] + other + content[2:] + 100 * b"\xff\xda"):
        assert read_ink(io.BytesIO(intact)).ink.shape == (64, 64)
    with pytest.raises(DataError, match="scans"):
        read_ink(io.BytesIO(content[:-2] + 100 * scan + b"\xff\xd9"))


def test_a_damaged_png_is_rejected() -> None:
    """A PNG in which any bit differs, or that is cut off anywhere, is refused, and never read as another picture."""
    content = png(Image.fromarray(draw(SEVEN)).resize((40, 40))).getvalue()
    flipped = [content[:n] + bytes([content[n] ^ 1 << n % 8]) + content[n + 1 :] for n in range(len(content))]
    for damaged in (*flipped, *(content[:n] for n in range(len(content)))):
        with pytest.raises(DataError, match="cannot be read"):
            read_ink(io.BytesIO(damaged))
    assert read_ink(io.BytesIO(content + b"more")).ink.shape == (40, 40)


@pytest.mark.parametrize(
    ("depth", "colour", "bits"), [(1, 0, 1), (16, 0, 16), (8, 2, 24), (4, 3, 4), (8, 4, 16), (8, 6, 32)]
)
@pytest.mark.parametrize("passes", [["0011"], ["0088", "4088", "0448", "2044", "0224", "1022", "0112"]])
@pytest.mark.parametrize("fill", [b"\0", b"\x11"], ids=["black", "not black"])
def test_a_png_without_all_its_rows_is_rejected(
    depth: int, colour: int, bits: int, passes: list[str], fill: bytes
) -> None:
    """A PNG whose checksums are right, but which ends early, is refused as a browser does; more rows do no harm."""

    def made(size: tuple[int, int], rows: list[bytes]) -> io.BytesIO:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, len(passes) > 1))
        data = zlib.compress(b"".join(rows))
        palette = chunk(b"PLTE", bytes(48)) if colour == 3 else b""
        parts = [header, palette, chunk(b"IDAT", data[:9]), chunk(b"IDAT", data[9:]), chunk(b"IEND", b"")]
        return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(parts))

    for size in ((64, 48), (33, 35)):
        rows = []
        for each in passes:
            left, top, right, down = map(int, each)
            width, height = len(range(left, size[0], right)), len(range(top, size[1], down))
            rows += height * [b"\0" + (width * bits + 7) // 8 * fill]
        for whole in (rows, 9 * rows):
            assert read_ink(made(size, whole)).ink.shape == size[::-1]
        for count in (1, len(rows) // 2, len(rows) - 1):
            with pytest.raises(DataError, match="cannot be read"):
                read_ink(made(size, rows[:count]))


@pytest.mark.parametrize(
    ("kind", "content", "most"),
    [(b"iCCP", b"a\0\0" + zlib.compress(bytes(1_000_000)), 1), (b"IDAT", b"", 19_000), (b"abCd", b"", 19_000)],
)
def test_a_png_of_many_chunks_is_rejected(kind: bytes, content: bytes, most: int) -> None:
    """Chunks cost time whatever the size of the picture: a PNG has one colour profile, and at most 20,000 chunks."""
    whole, added = png(Image.new("L", (64, 64))).getvalue(), chunk(kind, content)
    at = whole.index(b"IDAT") - 4
    assert read_ink(io.BytesIO(whole[:at] + most * added + whole[at:])).ink.shape == (64, 64)
    with pytest.raises(DataError, match="cannot be read"):
        read_ink(io.BytesIO(whole[:at] + 2 * most * added + whole[at:]))


def test_a_picture_writes_nothing_into_a_log() -> None:
    """Pillow's warnings repeat numbers of the picture, so that each picture could add another line."""
    tags = b"".join(struct.pack("<HHII", 1000 + n, 2, 1000 + n, 1 << 20) for n in range(10))
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 10) + tags + bytes(4)
    file = io.BytesIO()
    Image.new("L", (64, 64)).save(file, "PNG", exif=exif)
    code = "import io, sys; from digits.data.pictures import read_ink; read_ink(io.BytesIO(sys.stdin.buffer.read()))"
    ended = subprocess.run(
        [sys.executable, "-c", code], input=file.getvalue(), capture_output=True, check=True, timeout=120
    )
    assert ended.stderr == b""


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_picture_without_numbers_is_read(value: float) -> None:
    """A TIFF file of fractions may hold values that are no numbers; they are black."""
    values, file = np.ones((40, 40), np.float32), io.BytesIO()
    values[:20] = value
    Image.fromarray(values).save(file, "TIFF")
    assert read_ink(file, digits=False).ink.shape == (40, 40)


def test_an_invalid_picture_is_rejected(tmp_path: Path) -> None:
    """A file that is not a picture, and one with too many pixels, are rejected."""
    file = tmp_path / "digit.png"
    file.write_text("no picture")
    with pytest.raises(DataError, match="cannot be read as one"):
        read_ink(file)
    for size in ((8000, 4000), (MAX_SIDE + 1, 1), (1, MAX_SIDE + 1)):
        with pytest.raises(DataError, match="at most"):
            read_ink(png(Image.new("1", size)))


def test_a_picture_without_its_palette_is_rejected() -> None:
    """A PNG with indexed colours and no palette, for which Pillow raises an AssertionError, is not a picture."""
    content = png(Image.new("P", (2, 2))).getvalue()
    start = content.index(b"PLTE") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    with pytest.raises(DataError, match="cannot be read"):
        read_ink(io.BytesIO(content[:start] + content[end:]))


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\nshowpage\n",
        b"%PDF-1.4\n",
        b"\xd7\xcd\xc6\x9a",
    ],
    ids=["EPS", "PDF", "WMF"],
)
def test_no_program_runs_on_a_picture(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in a format that Pillow hands to another program (Ghostscript for EPS) is refused; none is started."""
    (program := tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (picture := tmp_path / "drawing.png").write_bytes(content)
    with pytest.raises(DataError, match="expected a picture"):
        read_ink(picture)
    assert not (tmp_path / "started").exists()


def test_a_png_with_data_after_its_rows_end_early_is_rejected_soon() -> None:
    """Many parts after the end of the compressed rows are not read, because each would cost a copy of all before it."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(65))) + 19_000 * chunk(b"IDAT", bytes(400))
    content = b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")
    started = time.process_time()
    with pytest.raises(DataError, match="cannot be read"):
        read_ink(io.BytesIO(content))
    assert time.process_time() - started < 1  # 0.1 s; several seconds with the copies
