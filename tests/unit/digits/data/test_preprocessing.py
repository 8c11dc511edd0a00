"""The treatment of drawings and pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import ExifTags, Image, ImageDraw

from digits.data.preprocessing import Ink, count_digits, ink_of, judge, named, stroke_width, to_mnist
from digits.errors import DataError

Line = list[tuple[float, float]]
SEVEN: list[Line] = [[(0.2, 0.1), (0.8, 0.1), (0.4, 0.9)]]
ONE: list[Line] = [[(0.5, 0.1), (0.5, 0.9)]]


def drawn(
    lines: list[Line], *, side: int = 280, pen: float = 14, at: tuple[float, float] = (0, 0), size: float = 1
) -> Ink:
    """Ink, uint8 (side, side), of lines in 0..1."""
    picture = Image.new("L", (4 * side, 4 * side))
    brush = ImageDraw.Draw(picture)
    for line in lines:
        points = [(4 * side * (at[0] + x * size), 4 * side * (at[1] + y * size)) for x, y in line]
        brush.line(points, fill=255, width=round(4 * pen), joint="curve")
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX))


def likeness(a: Ink, b: Ink) -> float:
    """Cosine of two pictures, laid over each other as well as whole pixels allow: 1 for the same."""
    x, y = a.astype(float), b.astype(float)
    shifted = [np.roll(x, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return max(float((z * y).sum()) for z in shifted) / float(np.sqrt((x * x).sum() * (y * y).sum()))


@settings(max_examples=150, deadline=None)
@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=60), elements=st.integers(0, 255)))
def test_any_ink_becomes_a_picture(ink: Ink) -> None:
    """Whatever the ink, the result is uint8 (28, 28), empty only where there was no ink."""
    before = ink.copy()
    picture = to_mnist(ink)
    assert (picture.shape, picture.dtype) == ((28, 28), np.uint8)
    assert picture.any() or ink.max() < 128
    assert not picture.any() or ink.any()
    assert np.array_equal(ink, before)


@settings(max_examples=40, deadline=None)
@given(pen=st.floats(4, 24), size=st.floats(0.4, 0.9), x=st.floats(0.05, 0.1), y=st.floats(0.05, 0.1))
def test_the_digit_fills_the_box_in_the_middle(pen: float, size: float, x: float, y: float) -> None:
    """Whatever the pen, the size and the place: 20 pixels on the longer side, the centre of mass in the middle."""
    picture = to_mnist(drawn(SEVEN, pen=pen, size=size, at=(x, y)))
    rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    mass = picture.astype(float)
    for axis in (0, 1):
        middle = mass.sum(axis) @ np.arange(28) / mass.sum()
        assert abs(middle - 14) <= 0.5


@pytest.mark.parametrize("side", [140, 560, 1000])
def test_resolution_does_not_matter(side: int) -> None:
    """The same drawing from a small and from a dense screen gives nearly the same picture."""
    assert likeness(to_mnist(drawn(SEVEN, side=side, pen=side / 20)), to_mnist(drawn(SEVEN))) > 0.98


@pytest.mark.parametrize("pen", [2, 5, 10, 20, 30])
def test_the_pen_does_not_matter(pen: float) -> None:
    """Strokes come out about as wide as MNIST's, whatever the pen's width."""
    picture = to_mnist(drawn(SEVEN, pen=pen))
    assert 1.9 <= stroke_width(picture) <= 3.1
    assert likeness(picture, to_mnist(drawn(SEVEN, pen=14))) > 0.85


def test_the_pen_would_matter_without_it() -> None:
    """Scaling alone leaves a thin pen's strokes far thinner than MNIST's."""
    thin = Image.fromarray(drawn(SEVEN, pen=3)).resize((28, 28), Image.Resampling.BOX)
    assert stroke_width(np.asarray(thin)) < 1.5


def test_a_picture_of_mnist_is_left_alone() -> None:
    """What already has MNIST's form comes out as it went in."""
    picture = to_mnist(drawn(SEVEN))
    assert np.array_equal(to_mnist(picture), picture)


def test_keeps_the_aspect() -> None:
    """A narrow digit stays narrow."""
    picture = to_mnist(drawn(ONE))
    assert np.ptp(np.flatnonzero(picture.any(0))) < 5


def test_a_dot_does_not_fail() -> None:
    """A single touch of the pen is a drawing too."""
    ink = np.zeros((280, 280), np.uint8)
    ink[100:110, 100:110] = 255
    assert to_mnist(ink).any()


def png(picture: Image.Image) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, "PNG")
    file.seek(0)
    return file


@pytest.mark.parametrize("how", ["dark on light", "light on dark", "transparent", "grey", "palette"])
def test_finds_the_ink_in_any_picture(how: str) -> None:
    """Dark on light, light on dark or on transparency: the ink is the same."""
    ink = drawn(SEVEN)
    shown = Image.fromarray(ink if how == "light on dark" else 255 - ink)
    if how == "transparent":
        shown = Image.merge("RGBA", [*[Image.new("L", shown.size, 200)] * 3, Image.fromarray(ink)])
    elif how == "grey":
        shown = Image.fromarray((220 - ink * 0.6).astype(np.uint8))
    elif how == "palette":
        shown = shown.convert("P")
    assert likeness(ink_of(png(shown)), ink) > 0.99


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_a_photo_is_seen_as_it_was_taken(kind: str, orientation: int, turns: int) -> None:
    """However the camera was held, EXIF says how, and the digit stands upright."""
    ink, exif, file = drawn(SEVEN), Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.rot90(255 - ink, turns)).save(file, kind, exif=exif)
    assert likeness(ink_of(file), ink) > 0.99


@pytest.mark.parametrize("exif", [b"Exif\0\0nothing", b"MM\0*\0"])
def test_damaged_exif_is_left_alone(exif: bytes) -> None:
    """A picture can be read though its EXIF cannot."""
    ink, file = drawn(SEVEN), io.BytesIO()
    Image.fromarray(255 - ink).save(file, "PNG", exif=exif)
    assert likeness(ink_of(file), ink) > 0.99


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "i4", "f4"])
@pytest.mark.parametrize("white", [255, 4095, 65535])
def test_a_scan_of_more_than_8_bits_is_seen(dtype: str, white: int) -> None:
    """A scanner may use 12 bits of 16, or a float's: white is the brightest that there is, and empty paper is empty."""
    ink = drawn(SEVEN)
    for shown in (ink, np.zeros_like(ink)):
        file = io.BytesIO()
        Image.fromarray(((255 - shown) * (white / 255)).astype(dtype)).save(file, "TIFF")
        assert np.abs(ink_of(file).astype(int) - shown).max() <= 1
    Image.fromarray(np.zeros((9, 9), dtype)).save(file := io.BytesIO(), "TIFF")
    assert not ink_of(file).any()


def test_uneven_paper_is_paper() -> None:
    """The shade and the grain of a photographed sheet do not become ink."""
    random = np.random.default_rng(0)
    ink = drawn(SEVEN)
    shade = 200 + 20 * np.linspace(0, 1, 280)[:, None] + random.normal(0, 3, ink.shape)
    photo = np.clip(shade - ink * 0.6, 0, 255).astype(np.uint8)
    assert likeness(to_mnist(ink_of(png(Image.fromarray(photo)))), to_mnist(ink)) > 0.95


def test_an_empty_sheet_has_no_ink() -> None:
    """Paper alone, white, black or transparent, is no drawing."""
    for colour in ("white", "black", (0, 0, 0, 0)):
        assert not ink_of(png(Image.new("RGBA", (50, 50), colour))).any()


def test_refuses_what_is_no_picture(tmp_path: Path) -> None:
    """A file that is no picture, and one that claims to be huge, are refused."""
    file = tmp_path / "digit.png"
    file.write_text("no picture")
    with pytest.raises(DataError, match=r"digit\.png"):
        ink_of(file)
    with pytest.raises(DataError, match="at most"):
        ink_of(png(Image.new("1", (8000, 4000))))


def test_counts_digits_side_by_side() -> None:
    """Parts of a digit's height with paper between are digits; a dot or a short stroke beside one is not."""
    two = [[(x * 0.4, y) for x, y in SEVEN[0]], [(0.5 + x * 0.4, y) for x, y in SEVEN[0]]]
    assert count_digits(drawn(SEVEN)) == 1
    assert count_digits(drawn(two)) == 2
    assert count_digits(drawn([*SEVEN, [(0.9, 0.8), (0.9, 0.9)]])) == 1
    assert count_digits(np.zeros((9, 9), np.uint8)) == 0


@pytest.mark.parametrize(
    ("ink", "probabilities", "state"),
    [
        (drawn(SEVEN), [0.01] * 7 + [0.93, 0, 0], "sure"),
        (drawn(SEVEN), [0.0, 0.35, 0, 0, 0, 0, 0, 0.65, 0, 0], "unsure"),
        (drawn(SEVEN), [0.1] * 10, "unsure"),
        (np.zeros((280, 280), np.uint8), [0, 0, 0, 0, 0, 0, 0, 1.0, 0, 0], "empty"),
        (drawn([[(0.2, 0.1), (0.2, 0.9)], [(0.8, 0.1), (0.8, 0.9)]]), [0.0, 1.0] + [0] * 8, "several"),
    ],
)
def test_judges(ink: Ink, probabilities: list[float], state: str) -> None:
    """Only one digit of which the model is sure is said to be it."""
    assert judge(ink, probabilities).state == state


def test_an_8_has_its_article() -> None:
    """A verdict says "an 8" where it is sure and where it is not, and "a" of all others."""
    shares = np.full(10, 0.01)
    shares[8], shares[3] = 0.9, 0.02
    assert judge(drawn(SEVEN), shares).text == "This is an 8."
    shares[8], shares[3] = 0.5, 0.42
    assert judge(drawn(SEVEN), shares).text == "Not sure: perhaps an 8, perhaps a 3."
    assert [named(digit) for digit in (0, 1, 8, 9)] == ["a 0", "a 1", "an 8", "a 9"]
