"""Straight lines that are not a digit's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from digits.data.rules import Mask, cut, find_connected, without_bars
from digits.data.underlines import without_underline
from tests.helpers.drawings import NOUGHT, draw


def nought_on_a_line(left: int, right: int) -> tuple[Mask, Mask]:
    """Return a 0 whose bottom is within a line between two columns, and the 0 alone."""
    nought = np.where(draw(NOUGHT, pen=12) > 100, np.uint8(255), np.uint8(0))
    underlined = nought.copy()
    bottom = int(np.flatnonzero(nought.any(axis=1))[-1])
    cv2.line(underlined, (left, bottom - 5), (right, bottom - 5), (255,), 12)
    return underlined, nought


@pytest.mark.parametrize(("left", "right"), [(50, 230), (84, 274)], ids=["both sides", "mostly one side"])
def test_the_round_foot_of_a_digit_stays_where_an_underline_touches_it(left: int, right: int) -> None:
    """Only what extends beyond the foot on both sides is removed, so that the 0 stays closed."""
    underlined, nought = nought_on_a_line(left, right)
    found, _ = without_underline(underlined)
    assert cv2.boundingRect(found)[2] <= cv2.boundingRect(nought)[2] + 2
    assert np.count_nonzero(nought & ~found) < 0.03 * np.count_nonzero(nought)
    assert len(cv2.findContours(found, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]) == 2


def test_an_underline_that_extends_little_on_one_side_is_doubtful() -> None:
    """A line that is hardly longer than the foot on one side is removed, but makes the digit doubtful."""
    assert without_underline(nought_on_a_line(84, 274)[0])[1]


def test_a_stroke_that_lies_on_a_line_is_kept_if_it_is_stronger() -> None:
    """A 1 on a faint line of squared paper stays, and the line goes."""
    lines, one, bar = (np.zeros((200, 200), np.uint8) for _ in range(3))
    lines[:, 38:42] = lines[:, 158:162] = 255
    lines[:, 98:102], one[50:150, 96:104], bar[120:126, 20:180] = 255, 255, 255
    strength = np.where(one | bar, 200, np.where(lines, 90, 0)).astype(np.float32)
    assert np.array_equal(cut(lines | one | bar, (np.zeros_like(lines), lines), strength), one | bar)


def test_a_stroke_on_a_line_stays_if_its_faint_edges_are_as_strong_as_the_line() -> None:
    """The bar of a 7 on a rule is kept if the core of the pen's strokes is somewhat darker than the rule."""
    rule, seven, core = (np.zeros((200, 200), np.uint8) for _ in range(3))
    rule[18:22] = rule[98:102] = 255
    for image, width in ((seven, 6), (core, 2)):
        cv2.polylines(image, [np.array([(50, 100), (110, 100), (70, 190)])], False, (255,), width)
    strength = np.where(core, 120, np.where(seven, 90, np.where(rule, 100, 0))).astype(np.float32)
    found = cut(rule | seven, (rule, np.zeros_like(rule)), strength)
    assert (found[core > 0] > 0).all()
    assert not found[rule & ~cv2.dilate(seven, np.ones((5, 5), np.uint8)) > 0].any()


@pytest.mark.parametrize("level", [True, False], ids=["level", "upright"])
def test_a_rule_as_dark_as_the_pen_joins_no_digits(level: bool) -> None:
    """Strokes that cross a rule stay whole, and two that end next to each other on it stay apart."""
    rule, strokes = np.zeros((200, 200), np.uint8), np.zeros((200, 200), np.uint8)
    rule[97:103] = 255
    strokes[50:150, 60:68] = strokes[50:150, 78:86] = 255
    if not level:
        rule, strokes = rule.T.copy(), strokes.T.copy()
    rules = (rule, np.zeros_like(rule))
    found = cut(rule | strokes, rules if level else rules[::-1], np.where(rule | strokes, 120, 0).astype(np.float32))
    core = cv2.erode(strokes, np.ones((3, 3), np.uint8))
    assert (found[core > 0] > 0).all()
    assert cv2.connectedComponents(found)[0] == 3


def test_the_edge_of_a_slanted_shadow_is_no_bar() -> None:
    """A shadow that covers one side of a picture stays, because its edge is not along that side."""
    sheet = np.full((200, 200), 230, np.uint8)
    cv2.fillPoly(sheet, [np.array([(120, 0), (199, 0), (199, 199), (185, 199)])], (80,))
    assert np.array_equal(without_bars(sheet), sheet)
    sheet[:, 180:] = 20
    assert (without_bars(np.where(sheet == 20, sheet, np.uint8(230))) == 230).all()


@pytest.mark.parametrize("shape", [(300, 400), (509, 511), (511, 511), (700, 700), (1, 1000), (2, 200_000)])
def test_as_many_parts_as_a_picture_can_have_are_all_apart(shape: tuple[int, int]) -> None:
    """A part of one pixel is found at every second one, also if there are more than 16 bits can count."""
    mask = np.zeros(shape, np.uint8)
    mask[::2, ::2] = 255
    numbers, stats = find_connected(mask)
    assert len(stats) == 1 + np.count_nonzero(mask)
    assert np.array_equal(np.sort(numbers[mask > 0]), np.arange(1, len(stats)))
    assert np.array_equal(stats[numbers[mask > 0], 4], np.ones(len(stats) - 1))
