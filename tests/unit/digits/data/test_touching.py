"""Digits that touch."""

from __future__ import annotations

import numpy as np
import pytest

from digits.data.number import decide, images_of, split
from digits.data.preprocessing import to_mnist
from digits.data.touching import may_be_two, sides
from tests.helpers.drawings import NOUGHT, ONE, SEVEN, Line, draw, similarity, touching_pair


@pytest.mark.parametrize(("left", "right"), [(NOUGHT, SEVEN), (SEVEN, ONE)])
def test_both_sides_of_the_cut_are_the_digits(left: list[Line], right: list[Line]) -> None:
    """The model receives, of two digits that touch, nearly the same images as of each alone."""
    (digit,) = split(touching_pair(left, right))
    assert len(images_of([digit])) == 3
    for side, lines in zip(digit.sides, (left, right), strict=True):
        assert similarity(side, to_mnist(draw(lines, side=160, pen=9))) > 0.85


@pytest.mark.parametrize("lines", [SEVEN, ONE], ids=["seven", "one"])
def test_a_digit_that_no_cut_divides_has_no_sides(lines: list[Line]) -> None:
    """Ink that no short cut divides into two high parts is one digit, also a dot."""
    assert sides(draw(lines)) == ()
    assert sides(np.full((3, 3), 255, np.uint8)) == ()


def answer(label: int, share: float = 0.97) -> list[float]:
    return [share if each == label else (1 - share) / 9 for each in range(10)]


def test_ink_whose_sides_are_digits_may_be_two() -> None:
    """Both sides must be digits; if the whole is read as a 0, which can be cut, one of them must be a 0."""
    assert may_be_two(0.8, answer(8), [answer(1), answer(8)])
    assert may_be_two(0.8, answer(4), [answer(6), answer(5)])
    assert not may_be_two(0.8, answer(0), [answer(1), answer(1)])
    assert not may_be_two(0.8, answer(8), [answer(1, 0.5), answer(8)])


def test_ink_that_is_wider_than_its_digit_may_be_two() -> None:
    """A 2 may be wide and an 8 may not, also where no cut is found; other tasks' ink has no width."""
    assert may_be_two(1.5, answer(8), [])
    assert not may_be_two(1.5, answer(2, 0.995), [])
    assert not may_be_two(0, [0.0] * 25 + [1.0], [])


def test_ink_may_be_less_wide_if_its_answer_is_less_likely() -> None:
    """An 8 of nearly the greatest width is one digit only if it is read as such with 99 % or more."""
    assert may_be_two(1.1, answer(8, 0.98), [])
    assert not may_be_two(1.1, answer(8, 0.995), [])
    assert not may_be_two(0.9, answer(8, 0.98), [])


def test_only_the_digit_that_may_be_two_is_doubtful() -> None:
    """In a number, the answers to the sides make their own digit doubtful, and no other."""
    ink = np.zeros((200, 640), np.uint8)
    ink[:, 320:] = touching_pair(NOUGHT, SEVEN)
    ink[20:180, 100:260] = draw(SEVEN, side=160, pen=9)
    digits = split(ink)
    assert [len(digit.sides) for digit in digits] == [0, 2]
    decided = decide(digits, [answer(7), answer(7), answer(0), answer(7)])
    assert [digit.doubtful for digit in decided] == [False, True]
    decided = decide(digits, [answer(7), answer(2), answer(0), answer(7, 0.5)])
    assert [digit.doubtful for digit in decided] == [False, False]
