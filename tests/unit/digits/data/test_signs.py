"""Slashes and brackets in a number."""

from __future__ import annotations

import numpy as np
import pytest

from digits.data.number import split
from digits.data.preprocessing import Ink
from digits.data.signs import Shape, find_signs
from tests.helpers.drawings import NOUGHT, ONE, SEVEN, Line, draw

SLASH: list[Line] = [[(0.7, 0.09), (0.3, 0.99)]]
LEANING: list[Line] = [[(0.65, 0.12), (0.35, 0.88)]]
TALL: list[Line] = [[(0.5, 0.0), (0.48, 1.0)]]
OPEN: list[Line] = [[(0.6 - 0.2 * np.cos(turn), 0.5 - 0.42 * np.sin(turn)) for turn in np.linspace(-1.2, 1.2, 20)]]
CLOSED: list[Line] = [[(0.4 + 0.2 * np.cos(turn), 0.5 - 0.42 * np.sin(turn)) for turn in np.linspace(-1.2, 1.2, 20)]]


def row(*digits: list[Line]) -> Ink:
    """Return the ink, uint8 (200, 140 n), of digits side by side."""
    ink = np.zeros((200, 140 * len(digits)), np.uint8)
    for n, lines in enumerate(digits):
        ink[20:180, 140 * n : 140 * n + 140] = draw(lines, side=160, pen=8)[:, 10:150]
    return ink


@pytest.mark.parametrize(
    ("digits", "doubtful"),
    [
        ((NOUGHT, SLASH, SEVEN), [1]),
        ((ONE, SLASH, ONE), [1]),
        ((NOUGHT, TALL, SEVEN), [1]),
        ((OPEN, NOUGHT, SEVEN, CLOSED), [0, 3]),
        ((NOUGHT, ONE, SEVEN), []),
        ((NOUGHT, LEANING, SEVEN), []),
        ((ONE, NOUGHT, ONE), []),
        ((ONE, ONE, ONE), []),
        ((CLOSED, NOUGHT, OPEN), []),
    ],
    ids=[
        "slash",
        "slash between ones",
        "long line",
        "brackets",
        "a one",
        "a slanted one",
        "ones at the ends",
        "ones",
        "bent ones",
    ],
)
def test_what_may_be_a_sign_is_doubtful(digits: tuple[list[Line], ...], doubtful: list[int]) -> None:
    """A narrow part is doubtful if it is longer than the digits, or somewhat and slanted, or if it brackets them."""
    found = split(row(*digits))
    assert len(found) == len(digits)
    assert [n for n, digit in enumerate(found) if digit.doubtful] == doubtful


@pytest.mark.parametrize(("slant", "signs"), [(0.3, {1}), (0.25, set())], ids=["slash", "digit"])
def test_a_slash_may_be_hardly_more_slanted_than_a_digit(slant: float, signs: set[int]) -> None:
    """The slash of 7/3 in italics is higher than both digits and more slanted than the 7."""
    seven, three = Shape(233, 333, 0.26, 0.14, False, 9.0), Shape(216, 331, 0.3, -0.06, False, 9.0)
    shapes = [seven, Shape(219, 346, slant, 0.0, True, 9.0), three]
    assert find_signs(shapes) == signs
