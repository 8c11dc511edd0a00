"""Finding the ink of one digit in a picture that shows other things too."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from digits.data import fallback, outlines, parts
from digits.data.number import split
from digits.data.pictures import read_ink
from digits.data.preprocessing import Ink, to_mnist
from digits.data.reading import difference_to_border, read
from tests.helpers.drawings import NOUGHT, ONE, SEVEN, Line, draw, similarity
from tests.helpers.support import ROOT

SIDE = 400
SHARED = ROOT.parent / "shared"
TWO: list[Line] = [[(0.2, 0.3), (0.3, 0.12), (0.6, 0.1), (0.75, 0.3), (0.2, 0.85), (0.85, 0.82)]]
FIVE: list[Line] = [
    [(0.3, 0.1), (0.28, 0.45), (0.6, 0.42), (0.75, 0.65), (0.55, 0.88), (0.25, 0.85)],
    [(0.3, 0.1), (0.7, 0.08)],
]
Sheet = NDArray[np.uint8]


def written(lines: list[Line]) -> Ink:
    return draw(lines, side=SIDE, pen=9, at=(0.27, 0.27), size=0.46)


def photo(sheet: NDArray[np.float32]) -> Sheet:
    noise = np.random.default_rng(0).normal(0, 2, sheet.shape)
    return np.clip(cv2.GaussianBlur(sheet, (0, 0), 0.7) + noise, 0, 255).astype(np.uint8)


def lines_at(sheet: Sheet, axis: int, places: list[int], level: int, width: int) -> None:
    for at in places:
        ends = ((0, at), (SIDE - 1, at + 6)) if axis == 0 else ((at, 0), (at - 6, SIDE - 1))
        cv2.line(sheet, *ends, level, width)


def ruled(sheet: Sheet) -> None:
    lines_at(sheet, 0, list(range(30, SIDE, 70)), 110, 2)


def squared(sheet: Sheet) -> None:
    lines_at(sheet, 0, list(range(20, SIDE, 60)), 130, 2)
    lines_at(sheet, 1, list(range(35, SIDE, 60)), 130, 2)


def box(sheet: Sheet) -> None:
    cv2.rectangle(sheet, (70, 75), (340, 335), 40, 3)


def corners(sheet: Sheet) -> None:
    for x, y, right, down in ((112, 92, 1, 1), (312, 92, -1, 1), (112, 312, 1, -1), (312, 312, -1, -1)):
        cv2.line(sheet, (x, y), (x + 30 * right, y), 60, 2)
        cv2.line(sheet, (x, y), (x, y + 50 * down), 60, 2)


def uneven(sheet: Sheet) -> None:
    corners(sheet)
    light(sheet)


def smear(sheet: Sheet) -> None:
    cv2.line(sheet, (325, 120), (335, 260), 165, 12)
    light(sheet)


def cell(sheet: Sheet) -> None:
    cv2.line(sheet, (6, 0), (7, SIDE), 40, 4)
    cv2.line(sheet, (0, 8), (SIDE, 7), 40, 4)


def cell_edges(sheet: Sheet) -> None:
    cv2.rectangle(sheet, (1, 1), (SIDE - 2, SIDE - 2), 30, 5)


def bar(sheet: Sheet) -> None:
    sheet[:, :16] = 15


def table(sheet: Sheet) -> None:
    cv2.fillPoly(sheet, [np.array([(0, 345), (SIDE, 385), (SIDE, SIDE), (0, SIDE)])], 60)


def desk(sheet: Sheet) -> None:
    inner = cv2.resize(sheet, (300, 300), interpolation=cv2.INTER_AREA)
    sheet[:] = 70
    sheet[50:350, 50:350] = inner


def sheet_at_an_angle(sheet: Sheet) -> None:
    start, end = ([(0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)], [(70, 40), (350, 70), (370, 350), (40, 360)])
    matrix = cv2.getPerspectiveTransform(np.array(start, np.float32), np.array(end, np.float32))
    sheet[:] = cv2.warpPerspective(sheet, matrix, (SIDE, SIDE), borderValue=60)


def circle(sheet: Sheet) -> None:
    cv2.ellipse(sheet, (200, 202), (140, 150), 0, 0, 360, 60, 7)


def neighbour(sheet: Sheet) -> None:
    cv2.line(sheet, (386, 120), (399, 220), 60, 8)


def hole(sheet: Sheet) -> None:
    cv2.circle(sheet, (30, 210), 18, 60, -1)


def specks(sheet: Sheet) -> None:
    for x, y in np.random.default_rng(1).integers(10, SIDE - 10, (12, 2)).tolist():
        cv2.circle(sheet, (x, y), 2, 30, -1)


def underline(sheet: Sheet) -> None:
    cv2.line(sheet, (100, 345), (310, 340), 60, 7)


def shadow(sheet: Sheet) -> None:
    mask = np.zeros_like(sheet)
    cv2.fillPoly(mask, [np.array([(0, 0), (330, 0), (60, SIDE), (0, SIDE)])], 255)
    sheet[:] = (sheet * (1 - 0.5 * (mask / 255.0))).astype(np.uint8)


def light(sheet: Sheet) -> None:
    sheet[:] = (sheet * np.linspace(1, 0.4, SIDE)[None]).astype(np.uint8)


def negative(sheet: Sheet) -> None:
    sheet[:] = 255 - sheet


def plot(sheet: Sheet) -> None:
    inner = cv2.resize(255 - sheet, (230, 230), interpolation=cv2.INTER_AREA)
    sheet[:] = 255
    sheet[80:310, 90:320] = inner


EMPTY = [ruled, squared, box, cell, bar, table, desk, sheet_at_an_angle, hole, specks, shadow, light]
KINDS = [
    ruled,
    squared,
    box,
    corners,
    uneven,
    smear,
    cell,
    cell_edges,
    bar,
    table,
    desk,
    sheet_at_an_angle,
    circle,
    neighbour,
    hole,
    specks,
    underline,
    shadow,
    light,
]
KINDS += [negative, plot]


def scene(ink: Ink, kind: Callable[[Sheet], None]) -> Sheet:
    """Return a photo of ink on a sheet of a kind."""
    sheet = (235 - ink * 0.7).astype(np.uint8)
    kind(sheet)
    return photo(sheet.astype(np.float32))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_digit_is_found(kind: Callable[[Sheet], None]) -> None:
    """The model receives nearly the same image as of the drawing alone, whatever else the picture shows."""
    for lines in (TWO, SEVEN, FIVE):
        found = read(scene(written(lines), kind))
        assert similarity(to_mnist(found.ink), to_mnist(written(lines))) > 0.85
        assert not found.doubtful


def pen_on_the_paper(sheet: Sheet) -> None:
    cv2.line(sheet, (320, 40), (328, 300), 30, 30)


@pytest.mark.parametrize("lines", [TWO, SEVEN, FIVE])
def test_a_digit_next_to_a_pen_is_never_sure(lines: list[Line]) -> None:
    """The pen on the paper looks like a 1, and the digit's thinner strokes like marks."""
    found = read(scene(written(lines), pen_on_the_paper))
    assert all(digit.doubtful for digit in split(found.ink, doubtful=found.doubtful))


@pytest.mark.parametrize("kind", EMPTY, ids=lambda kind: kind.__name__)
def test_an_empty_sheet_has_no_ink(kind: Callable[[Sheet], None]) -> None:
    """A sheet without a digit has no ink, whatever else the picture shows."""
    assert not read(scene(np.zeros((SIDE, SIDE), np.uint8), kind)).ink.any()


def test_small_print_under_a_digit_is_left_out() -> None:
    """Specks of print at the lower level, which look a little like a row of digits, do not replace a digit."""
    random, sheet = np.random.default_rng(2), np.full((SIDE, SIDE), 213, np.uint8)
    for y in range(0, SIDE + 20, 11):
        line = " ".join(random.choice(["the", "of", "market", "report", "price", "with", "week", "over", "said"], 30))
        cv2.putText(sheet, line, (16, y), cv2.FONT_HERSHEY_TRIPLEX, 0.32, (111,), 1, cv2.LINE_AA)
    ink = draw(TWO, side=SIDE, pen=16, at=(0.2, 0.2), size=0.58)
    seen = cv2.GaussianBlur(sheet * (1 - ink / 255) + 30 * (ink / 255), (0, 0), 0.45)
    found = read(np.clip(seen + random.normal(0, 1.5, seen.shape), 0, 255).astype(np.uint8))
    assert similarity(to_mnist(found.ink), to_mnist(ink)) > 0.85
    assert not found.doubtful


@pytest.mark.parametrize("lamp", [0.5, 0.65])
@pytest.mark.parametrize("lines", [TWO, SEVEN, FIVE, NOUGHT], ids=["two", "seven", "five", "nought"])
def test_strokes_in_a_lamps_glare_are_as_strong_as_the_others(lines: list[Line], lamp: float) -> None:
    """Strokes that a lamp's glare fades, where the paper is brighter, are read like the others."""

    def glare(sheet: Sheet) -> None:
        rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
        light = lamp * np.exp(-((rows - 0.4) ** 2 + (columns - 0.4) ** 2) / 0.03)
        sheet[:] = 0.75 * sheet * (1 - light) + 255 * light

    found = read(scene(written(lines), glare))
    assert similarity(to_mnist(found.ink), to_mnist(written(lines))) > 0.95
    assert not found.doubtful


def test_a_digit_with_faint_strokes_on_even_paper_is_doubtful() -> None:
    """Strokes that are fainter than the others without a cause in the light may be no strokes of the digit."""
    ink = written(TWO).astype(np.float32)
    ink[200:] *= 0.4
    assert read(photo(235 - ink * 0.7)).doubtful


@pytest.mark.parametrize("kind", [None, bar], ids=["alone", "bar"])
@pytest.mark.parametrize("lines", [TWO, SEVEN, FIVE, NOUGHT], ids=["two", "seven", "five", "nought"])
def test_an_outlined_digit_is_filled(lines: list[Line], kind: Callable[[Sheet], None] | None) -> None:
    """A digit drawn as the outline of a broad stroke is read as if the stroke were filled."""
    broad = draw(lines, side=SIDE, pen=34, at=(0.27, 0.27), size=0.46)
    found = read(scene(broad - cv2.erode(broad, np.ones((9, 9), np.uint8)), kind or (lambda sheet: None)))
    assert similarity(to_mnist(found.ink), to_mnist(broad)) > 0.9


@pytest.mark.parametrize("lines", [SEVEN, FIVE, NOUGHT], ids=["seven", "five", "nought"])
def test_a_hatched_digit_is_filled(lines: list[Line]) -> None:
    """A broad stroke between the lines that hatch it is ink, and the inside of a 0 is not."""
    broad = draw(lines, side=SIDE, pen=34, at=(0.27, 0.27), size=0.46)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    paper = cv2.erode(broad, np.ones((5, 5), np.uint8)) * ((x + y) % 18 > 5)
    found = read(scene(broad - paper.astype(np.uint8), lambda sheet: None))
    assert similarity(to_mnist(found.ink), to_mnist(broad)) > 0.95


def test_digits_that_touch_their_boxes_are_separated_from_them() -> None:
    """The lines of a row of boxes are removed, whatever its size, and what is between them is no hatched stroke."""
    digits, row = [TWO, FIVE, SEVEN, NOUGHT, TWO], np.zeros((SIDE, SIDE), np.uint8)
    for place, lines in enumerate(digits):
        row[150:225, 40 + 60 * place : 115 + 60 * place] |= draw(lines, side=75, pen=4, at=(0.02, 0.02), size=0.96)
    sheet = scene(row, lambda sheet: None)
    for left in range(44, 345, 60):
        cv2.line(sheet, (left, 140), (left, 235), 60, 2)
    for top in (140, 235):
        cv2.line(sheet, (44, top), (344, top), 60, 2)
    found = split(read(sheet).ink)
    assert len(found) == len(digits)
    for digit, lines in zip(found, digits, strict=True):
        assert similarity(digit.image, to_mnist(draw(lines, side=75, pen=4, at=(0.02, 0.02), size=0.96))) > 0.8


def test_an_outline_that_the_border_cuts_is_doubtful() -> None:
    """A hatched outline is only filled where it is closed, so that a cut one is not sure."""
    broad = draw(SEVEN, side=SIDE, pen=34, at=(0.27, 0.27), size=0.46)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    paper = cv2.erode(broad, np.ones((5, 5), np.uint8)) * ((x + y) % 18 > 5)
    sheet = scene(broad - paper.astype(np.uint8), lambda sheet: None)
    assert not read(sheet).doubtful
    assert read(sheet[:, 160:]).doubtful


@pytest.mark.parametrize("kind", [None, bar], ids=["alone", "bar"])
@pytest.mark.parametrize("turn", range(4))
def test_an_outline_is_filled_up_to_the_border_that_cuts_it(turn: int, kind: Callable[[Sheet], None] | None) -> None:
    """The end of an outlined stroke may be beyond the picture; the digit is doubtful then."""
    broad = draw(SEVEN, side=SIDE, pen=34, at=(0.27, 0.27), size=0.46)
    outline = broad - cv2.erode(broad, np.ones((9, 9), np.uint8))
    sheet, whole = (np.rot90(image, turn) for image in (outline, broad))
    cut = [np.s_[:, 155:], np.s_[:245], np.s_[:, :245], np.s_[155:]][turn]
    found = read(scene(sheet, kind or (lambda sheet: None))[cut])
    assert similarity(to_mnist(found.ink), to_mnist(whole[cut])) > 0.9
    assert found.doubtful


def test_the_paper_between_lines_that_leave_the_picture_is_no_stroke() -> None:
    """Neither the lines of ruled paper nor a cell that the border cuts are the outline of a stroke."""
    for ends in ((0, SIDE), (0, 250)):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for row in (100, 130):
            cv2.line(mask, (ends[0], row), (ends[1], row), (255,), 3)
        assert not outlines.find_insides(mask).any()
    cell = np.zeros((SIDE, SIDE), np.uint8)
    cv2.rectangle(cell, (-20, 100), (150, 160), (255,), 3)
    assert not outlines.find_insides(cell).any()


@pytest.mark.parametrize("lines", [TWO, SEVEN, FIVE], ids=["two", "seven", "five"])
def test_thin_ink_is_read_between_the_shadows_of_bars(lines: list[Line]) -> None:
    """Ink is found that is darker than the shadows of a window's bars, which are most of what is dark."""

    def window(sheet: Sheet) -> None:
        for at in (40, 150, 260, 370):
            sheet[at : at + 22] = 0.5 * sheet[at : at + 22]
            sheet[:, at : at + 22] = np.minimum(sheet[:, at : at + 22], 0.5 * 235)

    ink = draw(lines, side=SIDE, pen=5, at=(0.27, 0.27), size=0.46)
    assert similarity(to_mnist(read(scene(ink, window)).ink), to_mnist(ink)) > 0.8


def test_a_piece_of_a_nought_does_not_stand_within_it() -> None:
    """A 0 that is broken in two is no box around a digit."""
    ink = written(NOUGHT).copy()
    ink[140:160, 205:] = ink[240:262, 205:] = 0
    assert similarity(to_mnist(read(photo(235 - ink * 0.7)).ink), to_mnist(ink)) > 0.95


@pytest.mark.parametrize("lines", [TWO, FIVE], ids=["two", "five"])
def test_the_last_dash_of_a_digit_belongs_to_it(lines: list[Line]) -> None:
    """A level dash under the others is no underline if it is as near as they are to each other."""
    ink = draw(lines, side=SIDE, pen=12, at=(0.2, 0.2), size=0.6).copy()
    for row in (120, 165, 210, 262):
        ink[row : row + 9] = 0
    assert similarity(to_mnist(read(photo(235 - ink * 0.7)).ink), to_mnist(ink)) > 0.95


def test_strokes_of_which_only_the_core_is_dark_are_whole() -> None:
    """A digit is not read at a level at which it falls into pieces."""
    ink = draw(FIVE, side=SIDE, pen=16, at=(0.27, 0.27), size=0.4)
    core = draw(FIVE, side=SIDE, pen=7, at=(0.27, 0.27), size=0.4).copy()
    for row in range(150, 270, 30):
        core[row : row + 14] = 0
    found = read(photo(250 - 0.3 * ink - 0.6 * core))
    assert similarity(to_mnist(found.ink), to_mnist(ink)) > 0.9


def test_a_display_of_many_dots_is_one_digit() -> None:
    """Dots that are alike are joined, also if they are many and some touch."""
    ink = draw(FIVE, side=SIDE, pen=44, at=(0.1, 0.1), size=0.8)
    dots = np.zeros_like(ink)
    for y, x in np.argwhere(ink[::10, ::10] > 100) * 10:
        cv2.circle(dots, (int(x), int(y)), 4, 255, -1)
    (digit,) = split(read(photo(235 - dots * 0.7)).ink)
    assert similarity(digit.image, to_mnist(ink)) > 0.9


def test_a_nought_in_a_box_is_no_outline() -> None:
    """A 0 in a box that is little larger is read alone."""
    ink = draw(NOUGHT, side=SIDE, pen=9, at=(0.27, 0.27), size=0.46)
    x, y, width, height = cv2.boundingRect(ink)
    ends = (x - 24, y - 24), (x + width + 24, y + height + 24)
    found = read(scene(ink, lambda sheet: cv2.rectangle(sheet, *ends, 60, 6)))
    assert similarity(to_mnist(found.ink), to_mnist(ink)) > 0.85


@pytest.mark.parametrize("lines", [TWO, SEVEN], ids=["two", "seven"])
def test_the_rim_of_a_stain_that_touches_the_digit_is_removed(lines: list[Line]) -> None:
    """The dark rim of a pale stain, thinner and fainter than the strokes, is no ink."""

    def stain(sheet: Sheet) -> None:
        drop = np.zeros_like(sheet)
        cv2.circle(drop, (270, 130), 70, 255, -1)
        rim = drop & ~cv2.erode(drop, np.ones((7, 7), np.uint8))
        sheet[:] = (sheet * (1 - 0.12 * (drop / 255.0) - 0.16 * (rim / 255.0))).astype(np.uint8)

    found = read(scene(written(lines), stain))
    assert similarity(to_mnist(found.ink), to_mnist(written(lines))) > 0.85


@pytest.mark.parametrize("lines", [SEVEN, FIVE], ids=["seven", "five"])
def test_squared_paper_may_be_seen_at_an_angle(lines: list[Line]) -> None:
    """Lines tilted by up to twelve degrees, which meet far away, are removed."""

    def squares(sheet: Sheet) -> None:
        for n in range(-2, 10):
            cv2.line(sheet, (0, 50 * n - 20), (SIDE, 56 * n + 60), 120, 2, cv2.LINE_AA)
            cv2.line(sheet, (50 * n + 20, 0), (56 * n - 60, SIDE), 120, 2, cv2.LINE_AA)

    found = read(scene(written(lines), squares))
    assert similarity(to_mnist(found.ink), to_mnist(written(lines))) > 0.85


@pytest.mark.parametrize("lines", [ONE, SEVEN], ids=["one", "seven"])
def test_a_minus_sign_is_no_part_of_the_digit(lines: list[Line]) -> None:
    """A level stroke before the middle of a digit is left out, and the digit is not doubtful."""
    ink = written(lines)
    x, y, _, height = cv2.boundingRect(ink)
    at = y + height // 2
    found = read(scene(ink, lambda sheet: cv2.line(sheet, (x - 60, at), (x - 16, at), 70, 7)))
    assert similarity(to_mnist(found.ink), to_mnist(ink)) > 0.85
    assert not found.doubtful


@pytest.mark.parametrize("lines", [TWO, SEVEN, FIVE], ids=["two", "seven", "five"])
def test_a_light_digit_on_a_dark_disc_is_read(lines: list[Line]) -> None:
    """The disc of a label or a button is no ink of the digit on it."""
    ink = written(lines)
    sheet = np.full((SIDE, SIDE), 235, np.float32)
    cv2.circle(sheet, (200, 195), 140, 70, -1)
    assert similarity(to_mnist(read(photo(sheet + (240 - sheet) * (ink / 255))).ink), to_mnist(ink)) > 0.85


def test_a_bar_code_is_doubtful() -> None:
    """A row of upright bars of one height is no number of 1s that is sure."""

    def bars(sheet: Sheet) -> None:
        for n in range(9):
            sheet[120:260, 110 + 20 * n : 114 + 20 * n + n % 3] = 40

    assert read(scene(np.zeros((SIDE, SIDE), np.uint8), bars)).doubtful


def test_a_margin_wider_than_the_rules_is_removed() -> None:
    """A digit whose bar begins at the wide line of a margin, on paper with thin rules, is read without the line."""

    def margin(sheet: Sheet) -> None:
        ruled(sheet)
        cv2.line(sheet, (x + 2, 0), (x, SIDE), 90, 5)

    ink = written(SEVEN)
    x = cv2.boundingRect(ink)[0]
    assert similarity(to_mnist(read(scene(ink, margin)).ink), to_mnist(ink)) > 0.85


def test_a_straight_digit_is_not_taken_for_a_rule() -> None:
    """A 1 stays where a table's edges are removed."""
    assert similarity(to_mnist(read(scene(written(ONE), cell)).ink), to_mnist(written(ONE))) > 0.85


def test_a_digit_may_touch_a_dark_bar() -> None:
    """A digit whose foot ends at the dark bar of a scanner is read."""
    ink = draw(SEVEN, side=SIDE, pen=9, at=(0.27, 0.5), size=0.5)
    found = read(scene(ink, lambda sheet: sheet[378:].fill(15)))
    assert similarity(to_mnist(found.ink), to_mnist(ink)) > 0.85


@pytest.mark.parametrize("lines", [TWO, FIVE], ids=["two", "five"])
def test_a_picture_may_end_at_the_digit(lines: list[Line]) -> None:
    """A digit that touches the upper and the lower side of the picture is read."""
    ink = written(lines)
    _, y, _, height = cv2.boundingRect(ink)
    found = read(photo(235 - ink[y : y + height] * 0.7))
    assert similarity(to_mnist(found.ink), to_mnist(ink)) > 0.85


def test_a_tiny_digit_is_read_in_detail() -> None:
    """A digit of 26 pixels in a large picture is read as it would be in a picture of its size."""
    ink = np.zeros((1000, 1000), np.uint8)
    ink[700:760, 300:360] = draw(TWO, side=60, pen=4, size=0.45)
    found = read(photo(235 - ink * 0.7))
    assert similarity(to_mnist(found.ink), to_mnist(ink)) > 0.85


def test_faint_noise_does_not_make_a_photo_a_drawing() -> None:
    """A pixel far away that is slightly darker than the paper does not count as ink."""
    ink = draw(TWO, side=1000, pen=20, at=(0.2, 0.2), size=0.4)
    level = 255 - ink
    level[985, 985] = 251
    assert similarity(to_mnist(read(level).ink), to_mnist(ink)) > 0.85


@pytest.mark.parametrize("lines", [SEVEN, FIVE], ids=["seven", "five"])
def test_an_underline_may_touch_the_digit(lines: list[Line]) -> None:
    """A line under the digit that is longer on both sides is removed, also where the digit stands on it."""
    ink = written(lines)
    foot = int(np.flatnonzero(ink.any(axis=1))[-1])
    found = read(scene(ink, lambda sheet: cv2.line(sheet, (95, foot), (300, foot + 3), 70, 7)))
    assert similarity(to_mnist(found.ink), to_mnist(ink)) > 0.85


def test_a_short_underline_of_a_broad_digit_is_removed() -> None:
    """A line shorter than the foot of a printed 1 is removed under a 7, which stays doubtful."""
    ink = draw(SEVEN, side=SIDE, pen=9, at=(0.27, 0.27), size=0.46)
    foot = int(np.flatnonzero(ink.any(axis=1))[-1])
    found = read(scene(ink, lambda sheet: cv2.line(sheet, (130, foot), (225, foot), 70, 7)))
    assert similarity(to_mnist(found.ink), to_mnist(ink)) > 0.85
    assert found.doubtful


def test_the_foot_of_a_two_is_kept() -> None:
    """A level stroke that the digit does not stand on, but ends with, belongs to it and is not doubtful."""
    ink = written(TWO)
    found = read(photo(235 - ink * 0.7))
    assert similarity(to_mnist(found.ink), to_mnist(ink)) > 0.95
    assert not found.doubtful


@pytest.mark.parametrize("size", [0.3, 0.6])
def test_the_foot_of_a_printed_one_is_kept(size: float) -> None:
    """A 1 with a foot that is longer on both sides of its stem keeps it and is not doubtful."""
    printed: list[Line] = [[(0.3, 0.2), (0.48, 0.1), (0.48, 0.9)], [(0.25, 0.9), (0.71, 0.9)]]
    ink = draw(printed, side=SIDE, pen=12, at=(0.2, 0.2), size=size)
    found = read(photo(235 - ink * 0.7))
    assert similarity(to_mnist(found.ink), to_mnist(ink)) > 0.95
    assert not found.doubtful


def test_the_bar_of_a_printed_four_is_kept() -> None:
    """The low bar of a 4, which the stem crosses, is no underline."""
    printed: list[Line] = [[(0.62, 0.95), (0.62, 0.05), (0.1, 0.72), (0.95, 0.72)]]
    ink = written(printed)
    assert similarity(to_mnist(read(photo(235 - ink * 0.7)).ink), to_mnist(ink)) > 0.95


def test_a_printed_nought_is_no_frame() -> None:
    """A 0 with straight sides and round corners is a digit."""
    outline = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(outline).rounded_rectangle((140, 100, 260, 290), radius=50, outline=255, width=18)
    ink = np.asarray(outline)
    assert similarity(to_mnist(read(255 - ink).ink), to_mnist(ink)) > 0.95


def test_a_line_that_may_be_the_foot_is_doubtful() -> None:
    """A line at the foot of a 7 that extends only a little beyond it may be a 2 or an underlined 7."""
    stroke: list[Line] = [[(0.2, 0.12), (0.75, 0.1), (0.3, 0.9)], [(0.2, 0.9), (0.95, 0.9)]]
    assert read(photo(235 - written(stroke) * 0.7)).doubtful


def test_two_digits_are_doubtful() -> None:
    """Neither of two digits on a sheet, one above the other, is chosen."""
    two = draw(TWO, side=SIDE, pen=8, at=(0.3, 0.08), size=0.36)
    seven = draw(SEVEN, side=SIDE, pen=8, at=(0.3, 0.55), size=0.36)
    assert read(photo(235 - np.maximum(two, seven) * 0.7)).doubtful


def test_dark_and_light_ink_are_doubtful() -> None:
    """If a picture shows a digit in dark and another in light ink below it, neither is sure."""
    dark, light = (draw(lines, side=SIDE, pen=9, at=(0.3, y), size=0.4) for lines, y in ((TWO, 0.05), (SEVEN, 0.55)))
    assert read(photo(128 - dark * 0.45 + light * 0.45)).doubtful


def test_a_stroke_of_the_same_pen_that_was_left_out_is_doubtful() -> None:
    """A 2 whose lower stroke stands far from its upper one is not surely a 7."""
    upper: list[Line] = [[(0.5, 0.1), (0.75, 0.1), (0.8, 0.3)]]
    lower: list[Line] = [[(0.1, 0.9), (0.6, 0.65)]]
    both, one = (draw(lines, side=SIDE, pen=9, at=(0.2, 0.2), size=0.6) for lines in (upper + lower, upper))
    assert read(scene(both, squared)).doubtful
    assert not read(scene(one, squared)).doubtful


def test_a_stroke_of_the_same_pen_that_the_border_cuts_is_doubtful() -> None:
    """The upper stroke of a 0 whose other half touches it nearly, and leaves the picture, is not surely a 7."""
    upper: list[Line] = [[(0.2, 0.2), (0.5, 0.2), (0.6, 0.45)]]
    lower: list[Line] = [[(-0.1, 0.4), (0.1, 0.6), (0.3, 0.65), (0.585, 0.485)]]
    both, one = (draw(lines, side=SIDE, pen=12) for lines in (upper + lower, upper))
    assert read(scene(both, ruled)).doubtful
    assert not read(scene(one, ruled)).doubtful


def test_an_arc_under_a_digit_is_its_lower_stroke() -> None:
    """The lower stroke of a 3 that touches nothing is no underline, because it is bent."""
    three: list[Line] = [
        [(0.3, 0.12), (0.6, 0.1), (0.65, 0.25), (0.45, 0.42), (0.7, 0.55), (0.75, 0.68)],
        [(0.72, 0.77), (0.55, 0.9), (0.4, 0.9), (0.2, 0.78)],
    ]
    ink = written(three)
    assert similarity(to_mnist(read(scene(ink, box)).ink), to_mnist(ink)) > 0.85


@pytest.mark.parametrize("lines", [TWO, SEVEN])
def test_a_digit_on_a_sign_with_a_ring_is_read(lines: list[Line]) -> None:
    """A light ring that stands free around a dark digit is not the digit."""
    ink = draw(lines, side=SIDE, pen=11, at=(0.37, 0.37), size=0.26)
    sheet = np.full((SIDE, SIDE), 150, np.float32)
    for radius, level in ((150, 250), (146, 80), (112, 250)):
        cv2.circle(sheet, (SIDE // 2, SIDE // 2), radius, level, -1)
    found = read(photo(sheet * (1 - ink / 255) + 20 * (ink / 255))).ink
    assert similarity(to_mnist(found), to_mnist(ink)) > 0.85


def test_a_stroke_left_out_next_to_the_digit_is_doubtful() -> None:
    """A level stroke that a gap no wider than the pen separates from the digit's end may be its foot."""
    ink = draw(TWO, side=SIDE, pen=12, at=(0.2, 0.2), size=0.6).copy()
    ink[256:266] = 0
    found = read(photo(235 - ink * 0.7))
    assert found.doubtful or similarity(to_mnist(found.ink), to_mnist(ink)) > 0.95


def test_a_pen_beside_a_thin_digit_is_doubtful() -> None:
    """A straight stroke that is larger and stronger than the digit next to it is not surely a 1."""
    ink = draw(NOUGHT, side=SIDE, pen=6, at=(0.05, 0.55), size=0.4) * 0.6
    assert read(scene(ink.astype(np.uint8), lambda sheet: cv2.line(sheet, (300, 40), (307, 215), 60, 12))).doubtful


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("size", [1, 8])
def test_a_clean_drawing_is_not_changed(size: int, negative: bool) -> None:
    """MNIST's images, in their own size or enlarged, give the difference to the border, bit for bit."""
    images = [to_mnist(draw(lines)) for lines in (TWO, SEVEN, FIVE, ONE)]
    if (file := SHARED / "mnist" / "t10k-images-idx3-ubyte.gz").exists():
        every = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
        images = list(every[::10] if size > 1 else every)  # some have specks, or parts that are apart
    for image in images:
        level = np.kron(image, np.ones((size, size), np.uint8))
        level = level if negative else 255 - level
        assert np.array_equal(read(level).ink, difference_to_border(level))


def test_thick_bars_with_narrow_gaps_alone_on_even_paper_are_no_error() -> None:
    """A display's 0 is one part of six pieces here, which is not numbered 1."""
    sheet = np.full((280, 280), 255, np.uint8)
    sheet[50:230, 85:195] = 0
    sheet[74:206, 109:171] = 255
    for y in (74, 140, 206):
        sheet[y : y + 3] = 255
    assert read(sheet).ink.shape == sheet.shape


def test_a_digit_of_thick_blurred_strokes_alone_on_even_paper_is_read() -> None:
    """Scikit-learn's digits, enlarged from 8 x 8 pixels, are recognised as one digit each."""
    images = fallback.load()[2].images[:20]
    enlarged = [np.array(Image.fromarray(image).resize((280, 280))) for image in images]
    read_as_one = [len(split(read(level).ink)) == 1 for level in enlarged]
    assert sum(read_as_one) >= 19


@pytest.mark.parametrize("shape", [(1000, 1000), (10_000, 100), (2, 10_000)])
@pytest.mark.parametrize("content", ["noise", "dots", "stripes"])
def test_any_picture_costs_little(shape: tuple[int, int], content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few parts of a picture are examined, also if it consists of as many as possible."""
    level = np.full(shape, 255, np.uint8)
    if content == "noise":
        level = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    elif content == "dots":
        level[::3, ::2] = 0
        level[0, 1] = 128
    else:
        level[:, ::2] = 0
        level[:3, :5] = 7
    assert examined(level, monkeypatch) <= MAX_EXAMINED


def test_a_tall_drawing_costs_little_more_than_a_square_one() -> None:
    """The time for a drawing depends on its pixels, not on its longer side."""
    seconds = []
    for shape in ((10_000, 100), (1000, 1000)):
        level = np.full(shape, 255, np.uint8)
        ends = [
            (shape[1] // 2, shape[0] // 50),
            (shape[1] // 5, shape[0] // 2),
            (shape[1] * 2 // 3, shape[0] * 49 // 50),
        ]
        cv2.polylines(level, [np.array(ends, np.int32)], isClosed=False, color=(0,), thickness=5)
        tries = []
        for _ in range(3):
            started = time.thread_time()
            read(level)
            tries.append(time.thread_time() - started)
        seconds.append(min(tries))
    assert seconds[0] < 6 * seconds[1]


@pytest.mark.parametrize("shape", [(316, 3160), (500, 2000), (1600, 400)])
def test_a_strip_is_analysed_with_fewer_pixels(shape: tuple[int, int]) -> None:
    """A picture more than three times as long as wide, in which each step costs more, is reduced further, and read."""
    ink, (top, left) = np.zeros(shape, np.uint8), (shape[0] // 2 - 140, shape[1] // 2 - 140)
    ink[top : top + 280, left : left + 280] = draw(TWO, pen=12)
    sheet = 235 - ink * 0.7
    sheet[:, :60] = 20
    found = read(photo(sheet)).ink
    assert found.size < 140_000
    assert similarity(to_mnist(found), to_mnist(ink)) > 0.85


def test_many_hatched_bars_are_not_all_filled() -> None:
    """Hatches are filled in few digits only, because each filled part is examined like a digit."""
    sheet = np.full((600, 600), 255, np.uint8)
    for left in range(20, 560, 60):
        cv2.rectangle(sheet, (left, 150), (left + 40, 450), 0, 3)
        sheet[150:450:14, left : left + 40] = 0
    mask = np.where(sheet > 100, np.uint8(0), np.uint8(255))
    assert not outlines.find_insides(mask).any()
    assert outlines.find_insides(mask[:, :130]).any()


def test_fine_hatches_are_not_filled() -> None:
    """Hatches are filled only if they are few, because each gap between them costs time."""
    sheet = np.full((400, 400), 255, np.uint8)
    for left in (20, 150, 280):
        cv2.rectangle(sheet, (left, 20), (left + 80, 380), 0, 2)
        sheet[20:380:6, left : left + 80] = 0
    mask = np.where(sheet > 100, np.uint8(0), np.uint8(255))
    assert not outlines.find_insides(mask).any()
    assert outlines.find_insides(mask[:, :130]).any()


def test_overlapping_parts_are_not_all_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rectangles of nested rings overlap, so that each ring would cost the time for the whole picture."""
    level = np.full((1000, 1000), 255, np.uint8)
    for radius in range(476, 4, -6):
        cv2.circle(level, (500, 500), radius, (0,), 2)
    assert examined(level, monkeypatch) <= MAX_EXAMINED


def examined(level: Sheet, monkeypatch: pytest.MonkeyPatch) -> float:
    """Read a picture; return the sum of the rectangles that were examined for a digit, as a share of the picture."""
    areas = []

    def counting(number: int, box: Any, *arguments: Any) -> Any:
        areas.append(int(np.prod(box[2:4])))
        return parts.examine(number, box, *arguments)

    monkeypatch.setattr("digits.data.choice.examine", counting)
    read(level)
    return sum(areas) / level.size


MAX_EXAMINED = 6  # dark ink and light ink, three times the picture each

CASES = sorted((SHARED / "cases" / "pictures").glob("*-*.*g"))


@pytest.fixture(scope="module")
def plainest() -> dict[str, Ink]:
    """Return the images of the two digits that the shared pictures show, from the plainest pictures."""
    return {digit: to_mnist(read_ink(CASES[0].with_name(f"specks-{digit}.jpg")).ink) for digit in "27"}


@pytest.mark.skipif(not CASES, reason="needs the pictures in ../shared/cases/pictures")
@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_the_shared_cases_are_read(file: Path, plainest: dict[str, Ink]) -> None:
    """Each picture of ../shared/cases/pictures gives nearly the same image of its digit, a 7 or a 2."""
    image = to_mnist(read_ink(file).ink)
    likeness = {digit: similarity(image, other) for digit, other in plainest.items()}
    assert max(likeness, key=likeness.__getitem__) == file.stem[-1]
    assert likeness[file.stem[-1]] > 0.8
