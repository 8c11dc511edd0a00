"""The digits of a number."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from PIL import Image

from digits.data import reading, touching
from digits.data.number import MAX_DIGITS, split
from digits.data.preprocessing import Ink, to_mnist
from digits.data.reader import read_images
from digits.data.reading import Reading, read
from digits.data.touching import Counts
from digits.tasks.task import find
from tests.helpers.drawings import NOUGHT, ONE, SEVEN, Line, draw, png, similarity

FIVE: list[Line] = [
    [(0.3, 0.2), (0.28, 0.45), (0.6, 0.42), (0.75, 0.65), (0.55, 0.88), (0.25, 0.85)],
    [(0.35, 0.08), (0.7, 0.06)],
]
FOUR: list[Line] = [[(0.3, 0.1), (0.2, 0.6), (0.8, 0.6)], [(0.62, 0.2), (0.62, 0.5)], [(0.6, 0.7), (0.58, 0.95)]]


OPEN_FOUR: list[Line] = [[(0.35, 0.1), (0.15, 0.55), (0.6, 0.52)], [(0.8, 0.1), (0.68, 0.95)]]
HIGH_BAR: list[Line] = [[(0.3, 0.4), (0.45, 0.65), (0.4, 0.85), (0.1, 0.85)], [(0.42, 0.3), (0.9, 0.02)]]


def number(*digits: list[Line], slant: float = 0.0) -> Ink:
    """Return the ink of digits side by side, 160 pixels high."""
    ink = np.zeros((240, 60 + 120 * len(digits)), np.uint8)
    for place, lines in enumerate(digits):
        leaning = [[(x + slant * (0.5 - y), y) for x, y in line] for line in lines]
        drawn = draw(leaning, side=160, pen=9)
        area = ink[40:200, 20 + 110 * place : 180 + 110 * place]
        np.maximum(area, drawn[:, : area.shape[1]], out=area)
    return ink


@pytest.mark.parametrize("digits", [[SEVEN, ONE], [ONE, FIVE, SEVEN], [FIVE, FIVE, ONE, SEVEN]])
@pytest.mark.parametrize("slant", [0.0, 0.2])
def test_digits_side_by_side_are_separated(digits: list[list[Line]], slant: float) -> None:
    """Each digit of a number gives nearly the same image as alone, also with separate strokes or a slant."""
    found = split(number(*digits, slant=slant))
    assert len(found) == len(digits)
    for digit, lines in zip(found, digits, strict=True):
        assert similarity(digit.image, split(number(lines, slant=slant))[0].image) > 0.95
        assert not digit.doubtful
    assert all(one.box[0] < other.box[0] for one, other in itertools.pairwise(found))


@pytest.mark.parametrize("lines", [SEVEN, ONE, FIVE, FOUR, [*SEVEN, [(0.9, 0.8), (0.9, 0.9)]]])
def test_a_single_digit_keeps_all_ink(lines: list[Line]) -> None:
    """A digit in separate strokes, or with a dot next to it, is one, and gives the image of the whole drawing."""
    ink = draw(lines)
    (digit,) = split(ink)
    assert np.array_equal(digit.image, to_mnist(ink))


@pytest.mark.parametrize("lines", [OPEN_FOUR, HIGH_BAR], ids=["open 4", "5 with a high bar"])
def test_two_high_strokes_that_make_one_digit_are_one(lines: list[Line]) -> None:
    """A digit whose strokes stand side by side is one, and gives the image of the whole drawing."""
    (digit,) = split(draw(lines))
    assert np.array_equal(digit.image, to_mnist(draw(lines)))
    assert not digit.doubtful


def test_two_strokes_of_a_digit_of_a_number_are_one() -> None:
    """An open 4 in a number is one digit, and two 1s that are as close to each other are two."""
    found = split(number(SEVEN, OPEN_FOUR, SEVEN))
    assert len(found) == 3
    assert similarity(found[1].image, split(draw(OPEN_FOUR))[0].image) > 0.9
    ones = cv2.resize(number(ONE, ONE)[:, 60:220], (240, 400))
    assert len(split(ones)) == 2


def test_strokes_that_may_be_one_digit_or_two_are_doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two parts that the network perhaps takes for one digit are both unsure."""
    ink = number(SEVEN, ONE)
    assert [digit.doubtful for digit in split(ink)] == [False, False]
    monkeypatch.setattr("digits.data.number._CLOSE", 1.0)
    monkeypatch.setattr(touching, "count", lambda _, inks: np.tile([0.4, 0.6, 0], (len(inks), 1)))
    monkeypatch.setattr(touching, "count_whole", lambda inks: [Counts()] * len(inks))
    assert [digit.doubtful for digit in split(ink)] == [True, True]


def test_the_halves_of_a_nought_are_one_digit() -> None:
    """Two halves that make a ring together are no two digits."""
    ink = draw(NOUGHT).copy()
    ink[:, 125:150] = 0
    (digit,) = split(ink)
    assert np.array_equal(digit.image, to_mnist(ink))


def test_two_digits_that_enclose_paper_are_no_nought() -> None:
    """A 4 and a 3 that reach each other at two heights are two digits, because the paper between them is little."""
    four: list[Line] = [[(0.3, 0.3), (0.15, 0.6), (0.5, 0.65)], [(0.7, 0.25), (0.5, 0.95)]]
    ink = np.zeros((200, 330), np.uint8)
    ink[:, :200] = draw(four, side=200, pen=9)
    three: list[Line] = [[(0.1, 0.2), (0.6, 0.2), (0.35, 0.5), (0.6, 0.7), (0.4, 0.9), (0.1, 0.85)]]
    ink[:, 165:] = np.maximum(ink[:, 165:], draw(three, side=200, pen=9)[:, :165])
    assert len(split(ink)) == 2


def test_a_small_piece_may_link_two_others() -> None:
    """The lower end of a stroke in three pieces belongs to the digit, although it is far from the largest piece."""
    ink = draw([[(0.05, 0.2), (0.9, 0.15), (0.55, 0.85)]]).copy()
    for row in (120, 175):
        ink[row : row + 12] = 0
    (digit,) = split(ink)
    assert np.array_equal(digit.image, to_mnist(ink))


def test_no_ink_is_no_digit() -> None:
    """An empty drawing has no digits."""
    assert split(np.zeros((9, 9), np.uint8)) == []


def test_a_point_is_no_digit() -> None:
    """A point between two digits, as in an amount, belongs to neither."""
    ink = number(SEVEN, ONE)
    ink[185:200, 155:165] = 255
    found = split(ink)
    assert len(found) == 2
    assert found[0].box[2] < 155 / ink.shape[1]


def test_a_five_with_a_low_body_is_one_digit() -> None:
    """The bar of a 5 belongs to its body, also if the body is only half as high as the number."""
    ink = number(SEVEN, [], ONE)
    cv2.polylines(ink, [np.array([(150, 130), (145, 145), (185, 155), (180, 180), (140, 185)])], False, 255, 9)
    ink[75:84, 175:232] = 255
    found = split(ink)
    assert len(found) == 3
    assert found[1].box[1] == pytest.approx(75 / 240, abs=0.02)


def test_a_stroke_belongs_to_the_digit_whose_ink_is_nearest() -> None:
    """The bar of a 5 that ends within the rectangle of a slanted 1 belongs to the 5."""
    ink = np.zeros((240, 420), np.uint8)
    five, one = [(160, 88), (150, 125), (185, 145), (160, 185), (110, 185)], [(310, 66), (250, 190)]
    for line in (five, one):
        cv2.polylines(ink, [np.array(line)], False, 255, 9)
    ink[76:84, 200:252] = 255
    left, right = split(ink)
    assert left.box[2] == pytest.approx(252 / 420, abs=0.02)
    assert right.box[0] == pytest.approx(246 / 420, abs=0.02)


def test_ink_that_belongs_to_no_digit_is_doubtful() -> None:
    """The digit of a number next to a stroke that is lost, which may be a part of another one, is doubtful."""
    ink = number(SEVEN, ONE)
    ink[120:128, 320:] = 255
    ink = np.pad(ink, ((0, 0), (0, 60)))
    assert [digit.doubtful for digit in split(ink)] == [False, False]
    ink[120:128, 300:360] = 255
    assert [digit.doubtful for digit in split(ink)] == [False, True]


@pytest.mark.parametrize(("width", "doubtful"), [(9, False), (18, True)])
def test_a_stroke_of_another_pen_makes_a_number_doubtful(width: int, doubtful: bool) -> None:
    """A digit next to an upright stroke that is twice as wide, as a pen on the paper, may be no number."""
    ink = np.pad(number(SEVEN), ((0, 0), (0, 60)))
    ink[60:180, 200 : 200 + width] = 255
    assert [digit.doubtful for digit in split(ink)] == [doubtful, doubtful]


@pytest.mark.parametrize(("row", "doubtful"), [(120, [True, False]), (40, [False, False])], ids=["middle", "top"])
def test_a_minus_sign_close_to_a_digit_is_no_stroke_of_it(row: int, doubtful: list[bool]) -> None:
    """A 1 after a minus sign, which would look like a 4, is a 1 and doubtful; a level stroke at its top is its own."""
    ink = number(ONE, SEVEN)
    left = int(np.flatnonzero(ink.any(axis=0))[0])
    signed = np.pad(ink, ((0, 0), (60, 0)))
    signed[row : row + 9, left + 10 : left + 52] = 255
    digits = split(signed)
    assert [digit.doubtful for digit in digits] == doubtful
    assert np.array_equal(digits[0].image, split(ink)[0].image) == doubtful[0]


def test_a_face_is_no_digit() -> None:
    """A face next to a digit, which the model would read as a 0, is doubtful; a 0 is not, nor one with a dot in it."""
    ink = np.pad(number(SEVEN), ((0, 0), (0, 160)))
    cv2.circle(ink, (250, 120), 60, (255,), 9)
    assert [digit.doubtful for digit in split(ink)] == [False, False]
    cv2.line(ink, (232, 95), (232, 108), (255,), 9)
    assert [digit.doubtful for digit in split(ink)] == [False, False]
    cv2.line(ink, (268, 95), (268, 108), (255,), 9)
    cv2.ellipse(ink, (250, 122), (32, 32), 0, 25, 155, (255,), 9)
    assert [digit.doubtful for digit in split(ink)] == [False, True]


def test_more_than_the_most_digits_are_doubtful() -> None:
    """A picture with very many parts side by side is not read as a number."""
    ink = np.zeros((40, 20 * (MAX_DIGITS + 1)), np.uint8)
    ink[5:35, ::20] = 255
    assert [digit.doubtful for digit in split(ink)] == [True]


def test_faint_ink_does_not_hide_that_there_are_more_than_the_most_digits() -> None:
    """Strokes that only fainter ink connects are not read as a number either if they are too many."""
    ink = np.zeros((40, 40 * (MAX_DIGITS // 2 + 1)), np.uint8)
    ink[5:35, 4::20] = ink[5:35, 5::20] = 255
    for left in range(4, ink.shape[1], 40):
        ink[20, left : left + 21] = np.maximum(ink[20, left : left + 21], 120)
    assert [digit.doubtful for digit in split(ink)] == [True]


def test_a_number_on_a_photo_is_read() -> None:
    """A number on ruled paper gives one image for each digit."""
    ink = number(SEVEN, ONE, FIVE)
    sheet = np.full((400, 640), 230, np.uint8)
    sheet[80:320, 100 : 100 + ink.shape[1]] = 230 - (ink * 0.7).astype(np.uint8)
    sheet[30::85] = sheet[31::85] = 120
    noise = np.random.default_rng(0).normal(0, 3, sheet.shape)
    found = read_images(find("digits"), png(Image.fromarray(np.clip(sheet + noise, 0, 255).astype(np.uint8))))
    for digit, alone in zip(found, split(ink), strict=True):
        assert similarity(digit.image, alone.image) > 0.85


def test_a_number_in_small_digits_is_read_in_detail() -> None:
    """A number that is small in a large picture is read with as many pixels as it has."""
    ink = number(SEVEN, ONE, FIVE, SEVEN)
    sheet = np.full((1400, 2000), 230, np.uint8)
    sheet[900:1140, 700 : 700 + ink.shape[1]] = 230 - (ink * 0.7).astype(np.uint8)
    sheet[:, :40] = 20
    noise = np.random.default_rng(0).normal(0, 3, sheet.shape)
    found = split(read(np.clip(sheet + noise, 0, 255).astype(np.uint8)).ink)
    for digit, alone in zip(found, split(ink), strict=True):
        assert similarity(digit.image, alone.image) > 0.93
    assert found[0].box[0] == pytest.approx((700 + 50) / 2000, abs=0.02)


def test_a_number_that_loses_digits_in_more_detail_is_read_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found in the whole picture counts if the second look finds only a part of it."""
    sheet = photo_of(np.array(Image.fromarray(number(SEVEN, ONE, FIVE)).reduce(4)), side=900)
    assert len(split(read(sheet).ink)) == 3
    looks, search = list[float](), reading._search

    def lose(level: Ink, scale: float, polarities: tuple[bool, ...]) -> tuple[Reading, bool]:
        found, negative = search(level, scale, polarities)
        looks.append(scale)
        if len(looks) > 1:
            found.ink[:, : found.ink.shape[1] // 2] = 0
        return found, negative

    monkeypatch.setattr(reading, "_search", lose)
    assert len(split(read(sheet).ink)) == 3
    assert len(looks) == 2


def test_what_else_a_first_look_kept_is_no_lost_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look counts if it shows as many digits, even if the edge of a sheet made the first one wider."""
    sheet = photo_of(np.array(Image.fromarray(number(SEVEN, ONE, FIVE)).reduce(4)), side=900)
    looks, search = list[float](), reading._search

    def keep(level: Ink, scale: float, polarities: tuple[bool, ...]) -> tuple[Reading, bool]:
        found, negative = search(level, scale, polarities)
        looks.append(scale)
        if len(looks) == 1:
            x, y, width, height = cv2.boundingRect(found.ink)
            found.ink[y + height - 2 : y + height, x - width // 3 : x + width] = 255
        return found, negative

    monkeypatch.setattr(reading, "_search", keep)
    assert [digit.doubtful for digit in split(read(sheet).ink)] == [False] * 3
    assert len(looks) == 2


@pytest.mark.parametrize(("side", "first", "size"), [(740, 20, 250), (660, 60, 230)])
def test_squares_that_a_number_crosses_are_not_hatched(side: int, first: int, size: int) -> None:
    """Squared paper as dark as the digits encloses areas that are alike, and none of them is ink."""
    sheet = photo_of(number(SEVEN, FIVE, SEVEN, FIVE), side=side)
    for at in range(first, side, size):
        sheet[at : at + 3] = sheet[:, at : at + 3] = 60
    assert len(split(read(sheet).ink)) == 4


def test_a_number_of_which_one_digit_is_seen_from_afar_is_read_whole() -> None:
    """Digits in fainter and thinner strokes than the first one's, which a reduced picture loses, are read in detail."""
    sheet = np.full((1000, 1000), 230.0)
    sheet[:, :40] = 20
    for place in range(6):
        drawn = draw(SEVEN, side=50, pen=2 if place else 3)
        sheet[500:550, 300 + 45 * place : 350 + 45 * place] -= drawn * (0.24 if place else 0.4)
    noise = np.random.default_rng(0).normal(0, 1, sheet.shape)
    assert len(split(read(np.clip(sheet + noise, 0, 255).astype(np.uint8)).ink)) == 6


def test_a_number_whose_first_digit_is_connected_to_the_border_is_doubtful() -> None:
    """A digit that a piece of a shadow connects to the border is not read, and the others are not sure."""
    ink = number(SEVEN, ONE, FIVE)
    sheet = np.full((400, 560), 230, np.uint8)
    sheet[80:320, : ink.shape[1]] -= (ink * 0.7).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 3, sheet.shape)
    assert not read(np.clip(sheet + noise, 0, 255).astype(np.uint8)).doubtful
    cv2.fillPoly(sheet, [np.array([(0, 135), (0, 235), (115, 150)])], (70,))
    found = read(np.clip(sheet + noise, 0, 255).astype(np.uint8))
    assert len(split(found.ink)) == 2
    assert found.doubtful


def test_digits_that_faint_ink_connects_are_apart() -> None:
    """Digits of a number whose edges are blurred into each other are separate, and none is doubtful."""
    ink = number(SEVEN, ONE, ONE)
    blurred = ink.copy()
    blurred[118:124, 205:325] = np.maximum(blurred[118:124, 205:325], 100)
    found = split(blurred)
    for digit, alone in zip(found, split(ink), strict=True):
        assert similarity(digit.image, alone.image) > 0.7
        assert not digit.doubtful


def test_a_digit_of_a_number_may_be_in_two_pieces() -> None:
    """A stroke of a digit stays if another digit ends next to it, although its rectangle holds the other's middle."""
    eight: list[Line] = [
        [(0.62, 0.42), (0.3, 0.5), (0.2, 0.7), (0.4, 0.9), (0.62, 0.75), (0.3, 0.42)],
        [(0.4, 0.27), (0.66, 0.35), (0.74, 0.5), (0.7, 0.74)],
    ]
    ink = number(SEVEN, eight, ONE)
    found = split(read(photo_of(ink, side=700)).ink)
    for digit, alone in zip(found, split(ink), strict=True):
        assert similarity(digit.image, alone.image) > 0.85


def test_a_number_in_a_high_box_is_found() -> None:
    """The sides of a box around a number, which are larger than its digits, are no number."""
    ink = np.array(Image.fromarray(number(SEVEN, FIVE)).reduce(2))
    sheet = photo_of(ink, side=400)
    for at in (12, 384):
        sheet[60:260, at : at + 5] = sheet[60:65, 12:389] = sheet[255:260, 12:389] = 40
    found = split(read(sheet).ink)
    for digit, alone in zip(found, split(ink), strict=True):
        assert similarity(digit.image, alone.image) > 0.85


def test_the_sides_of_a_box_are_no_digits() -> None:
    """A digit in a form's row of boxes is one digit, not three."""
    sheet = photo_of(number(FIVE), side=400)
    for at in (85, 235):
        sheet[100:340, at : at + 3] = sheet[100:103] = sheet[337:340] = 60
    (digit,) = split(read(sheet).ink)
    assert similarity(digit.image, split(number(FIVE))[0].image) > 0.9


def test_the_side_of_a_frame_around_a_number_is_no_one() -> None:
    """A slanted line that is much longer than the digits next to it may be all that is read, but is unsure."""
    ink = np.array(Image.fromarray(number(SEVEN, FIVE)).reduce(3))
    sheet = photo_of(ink, side=400)
    assert [digit.doubtful for digit in split(read(sheet).ink)] == [False, False]
    cv2.line(sheet, (52, 60), (60, 260), (40,), 5)
    assert read(sheet).doubtful


def photo_of(ink: Ink, *, side: int) -> Ink:
    sheet = np.full((side, side), 230.0)
    sheet[100 : 100 + ink.shape[0], 100 : 100 + ink.shape[1]] -= ink * 0.7
    noise = np.random.default_rng(0).normal(0, 3, sheet.shape)
    return np.clip(sheet + noise, 0, 255).astype(np.uint8)
