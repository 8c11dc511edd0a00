"""Digits that touch, and ink that is no digit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from digits.data import touching
from digits.data.number import MAX_DIGITS, Digit, decide, images_of, split
from digits.data.preprocessing import Ink, to_mnist
from digits.data.touching import Counts, choose, count_whole, divide, to_image
from tests.helpers.drawings import NOUGHT, ONE, SEVEN, Line, draw, similarity, touching_pair

TWO: list[Line] = [[(0.25, 0.3), (0.4, 0.1), (0.65, 0.15), (0.7, 0.35), (0.2, 0.9), (0.8, 0.88)]]
PAIR = Counts(0.01, 0.98, 0.01)


def answer(label: int, share: float = 0.97) -> list[float]:
    return [share if each == label else (1 - share) / 9 for each in range(10)]


def answers_to(digits: list[Digit], labels: str) -> list[list[float]]:
    """Return answers that read the n-th piece of each way as the n-th label, and wholes as perhaps an 8."""
    return [answer(8, 0.6) for _ in digits] + [
        answer(int(labels[n]), 0.995) for digit in digits for way in digit.ways for n in range(len(way))
    ]


def test_ink_that_one_network_counts_as_several_and_the_other_as_a_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if two and more have no probability at all in the second network, the counts of the first one are kept."""
    wholes, pieces = np.float32([[0.1, 0.8, 0.1]]), np.float32([[1.0] + [0.0] * 13])
    monkeypatch.setattr(touching, "count", lambda network, _: wholes if network == "whole" else pieces)
    (counts,) = count_whole([draw(NOUGHT, side=160, pen=9)])
    assert counts.two + counts.more == pytest.approx(0.8)


@pytest.mark.parametrize(("left", "right"), [(NOUGHT, SEVEN), (SEVEN, ONE)])
def test_a_way_to_divide_a_pair_gives_its_digits(left: list[Line], right: list[Line]) -> None:
    """The model receives, of two digits that touch, nearly the images of each alone."""
    (digit,) = split(touching_pair(left, right))
    alone = [to_mnist(draw(lines, side=160, pen=9)) for lines in (left, right)]
    assert max(min(map(similarity, [piece.image for piece in way], alone)) for way in digit.ways) > 0.85


def test_two_digits_that_touch_are_an_unsure_number() -> None:
    """The answers to the pieces are those of a number of two, with a box for each, and unsure."""
    (digit,) = split(touching_pair(NOUGHT, SEVEN))
    decided, shares = decide([digit], answers_to([digit], "07"))
    assert [int(np.argmax(each)) for each in shares] == [0, 7]
    assert [each.doubtful for each in decided] == [True, True]
    left, right = (each.box for each in decided)
    assert digit.box[0] <= left[0] < right[0] < right[2] <= digit.box[2] + 0.01
    assert left[2] < right[0] + 0.1


def test_three_digits_that_touch_are_divided() -> None:
    """A part of three digits is divided into three."""
    pair, third = touching_pair(NOUGHT, SEVEN), draw(NOUGHT, side=160, pen=9)
    ink = np.zeros((200, 640), np.uint8)
    ink[:, :320] = pair
    left = 320
    while not (ink[20:180, left : left + 160] & third > 150).any():
        left -= 1
    ink[20:180, left : left + 160] = np.maximum(ink[20:180, left : left + 160], third)
    digits = split(ink)
    decided, _ = decide(digits, answers_to(digits, "070"))
    assert len(digits) == 1
    assert len(decided) == 3


@pytest.mark.parametrize(("more", "ways"), [(MAX_DIGITS - 3, True), (MAX_DIGITS - 2, False)])
def test_a_number_has_no_more_than_the_most_digits(more: int, ways: bool) -> None:
    """Ink in a number is divided only if there is room for three digits."""
    ink = np.zeros((200, 60 * more + 330), np.uint8)
    ink[20:180, 20 : 60 * more : 60] = ink[20:180, 21 : 60 * more : 60] = ink[20:180, 22 : 60 * more : 60] = 255
    ink[:, -320:] = touching_pair(NOUGHT, SEVEN)
    digits = split(ink)
    assert len(digits) == more + 1
    assert bool(digits[-1].ways) == ways


@pytest.mark.parametrize("lines", [SEVEN, ONE, NOUGHT, TWO], ids=["seven", "one", "nought", "two"])
@pytest.mark.parametrize("wide", [1.0, 1.4])
def test_one_digit_is_not_divided(lines: list[Line], wide: float) -> None:
    """A digit is one, also if it is wide, and the model receives one image of it."""
    ink = cv2.resize(draw(lines), (round(280 * wide), 280))
    (digit,) = split(ink)
    assert len(images_of([digit])) == 1
    (decided,), _ = decide([digit], [answer(0)])
    assert not decided.doubtful


def test_a_sign_is_doubtful() -> None:
    """A euro sign next to digits, which the model reads as a digit, is unsure; the digits are not."""
    ink = np.zeros((200, 480), np.uint8)
    ink[20:180, :160], ink[20:180, 160:320] = draw(SEVEN, side=160, pen=9), draw(TWO, side=160, pen=9)
    cv2.ellipse(ink, (410, 100), (45, 65), 0, 50, 310, (255,), 9)
    cv2.line(ink, (340, 88), (420, 88), (255,), 8)
    cv2.line(ink, (340, 112), (415, 112), (255,), 8)
    decided, _ = decide(split(ink), [answer(7), answer(2), answer(6, 0.999)])
    assert [digit.doubtful for digit in decided] == [False, False, True]


def test_the_pieces_of_any_ink_fit_into_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if all pieces may be digits, the model receives a bounded number: 96 x 96 pixels allow 87 in a request."""
    monkeypatch.setattr(touching, "count", lambda _, inks: np.tile([0.02] * 10 + [0.3, 0.3, 0.1, 0.1], (len(inks), 1)))
    ways = divide(touching_pair(NOUGHT, SEVEN), Counts(0, 0.1, 0.9))
    assert len(ways) > 10
    assert MAX_DIGITS - 4 + 2 * sum(map(len, ways)) <= 87


@pytest.mark.parametrize("ink", [np.zeros((5, 5), np.uint8), np.full((3, 3), 255, np.uint8)], ids=["none", "dot"])
def test_any_ink_is_counted(ink: Ink) -> None:
    """Ink of any size has counts."""
    assert 0 <= count_whole([ink])[0].one <= 1.001
    assert to_image(ink).shape == (32, 48)


def test_the_way_with_the_highest_score_is_chosen() -> None:
    """The way to divide a pair is chosen whose pieces are digits and have likely answers."""
    good, bad = [Counts(0.99), Counts(0.99)], [Counts(0.99), Counts(0.1)]
    answers = [[answer(1), answer(2)], [answer(3), answer(4)]]
    assert choose(PAIR, answer(8, 0.6), [bad, good], answers) == (1, True)
    assert choose(PAIR, answer(8, 0.6), [good, good], [answers[0], [answer(3), answer(4, 0.6)]]) == (0, True)


def test_pieces_that_the_network_reads_as_the_same_digits_are_chosen() -> None:
    """The way to divide ink is chosen whose pieces the network and the model take for the same digits."""
    one, two, seven = (Counts(0.97, digits=tuple(answer(label))) for label in (1, 2, 7))
    answers = [[answer(1), answer(2)]] * 2
    assert choose(PAIR, answer(8, 0.6), [[one, seven], [one, two]], answers) == (1, True)


def test_pieces_are_never_sure() -> None:
    """Digits that touch are shown and unsure, however certain each is, also if the model takes them for one digit."""
    ways, answers = [[Counts(0.999), Counts(0.999)]], [[answer(1, 0.999), answer(2, 0.999)]]
    assert choose(Counts(0, 0.999, 0.001), answer(8, 0.6), ways, answers) == (0, True)
    assert choose(Counts(0, 0.999, 0.001), answer(4, 0.999), ways, answers) == (0, True)


def test_ink_that_is_not_clearly_several_digits_is_shown_whole() -> None:
    """Ink that may be one digit or two stays whole, and is unsure if it is much more likely two."""
    ways, answers = [[Counts(0.99), Counts(0.99)]], [[answer(1), answer(2)]]
    assert choose(Counts(0.05, 0.94, 0.01), answer(8), ways, answers) == (None, True)
    assert choose(Counts(0.5, 0.49, 0.01), answer(8), ways, answers) == (None, False)


def test_ink_that_may_be_several_digits_is_sure_only_if_the_network_reads_the_same_digit() -> None:
    """A 1 and a 9 that overlap look like a 9, which is unsure if the network does not take it for one."""
    nine, two = (Counts(0.82, 0.18, digits=tuple(answer(label))) for label in (9, 2))
    assert choose(nine, answer(9, 0.99), [], []) == (None, False)
    assert choose(two, answer(9, 0.99), [], []) == (None, True)


@pytest.mark.parametrize("counts", [Counts(0.89, 0.11), Counts(0.09, 0.01)], ids=["perhaps two", "a sign"])
def test_what_may_be_unsure_whatever_the_model_answers_is_not_clear(counts: Counts) -> None:
    """Ink is clear only if no answer of the model makes it unsure or several digits."""
    assert touching.is_clear(Counts(0.91, 0.09))
    assert not touching.is_clear(counts)


def test_pieces_that_are_no_digits_are_not_shown() -> None:
    """A pair of which no way gives two digits stays whole and is unsure."""
    assert choose(PAIR, answer(8, 0.6), [[Counts(0.9), Counts(0.02)]], [[answer(1), answer(2)]]) == (None, True)
    assert choose(PAIR, answer(8, 0.6), [], []) == (None, True)


def test_the_number_of_pieces_counts() -> None:
    """Ink that is rather three digits is divided into three."""
    pieces, answers = [Counts(0.99)] * 3, [answer(label) for label in (1, 2, 3)]
    ways, shares = [pieces[:2], pieces], [answers[:2], answers]
    assert choose(Counts(0.01, 0.3, 0.68), answer(8, 0.6), ways, shares) == (1, True)
    assert choose(Counts(0.01, 0.68, 0.3), answer(8, 0.6), ways, shares) == (0, True)


def test_only_the_digit_that_may_be_two_is_doubtful() -> None:
    """In a number, the answers to the pieces make their own digits doubtful, and no other."""
    ink = np.zeros((200, 640), np.uint8)
    ink[:, 320:] = touching_pair(NOUGHT, SEVEN)
    ink[20:180, 100:260] = draw(SEVEN, side=160, pen=9)
    digits = split(ink)
    assert [bool(digit.ways) for digit in digits] == [False, True]
    pieces = [answer(label, 0.6) for _ in digits[1].ways for label in (0, 7)]
    decided, shares = decide(digits, [answer(7), answer(8, 0.6), *pieces])
    assert [digit.doubtful for digit in decided] == [False, True, True]
    assert len(shares) == len(decided) == 3
