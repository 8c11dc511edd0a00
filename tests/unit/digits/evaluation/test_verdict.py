"""The verdict on a single answer."""

from __future__ import annotations

import numpy as np
import pytest

from digits.data.preprocessing import Ink
from digits.evaluation.verdict import count_digits, judge, with_article
from tests.helpers.drawings import SEVEN, draw


def test_digits_next_to_each_other_are_counted() -> None:
    """Separate parts as high as a digit are counted; a dot or a short stroke next to a digit is not."""
    two = [[(x * 0.4, y) for x, y in SEVEN[0]], [(0.5 + x * 0.4, y) for x, y in SEVEN[0]]]
    assert count_digits(draw(SEVEN)) == 1
    assert count_digits(draw(two)) == 2
    assert count_digits(draw([*SEVEN, [(0.9, 0.8), (0.9, 0.9)]])) == 1
    assert count_digits(np.zeros((9, 9), np.uint8)) == 0


@pytest.mark.parametrize(
    ("ink", "probabilities", "state"),
    [
        (draw(SEVEN), [0.01] * 7 + [0.93, 0, 0], "sure"),
        (draw(SEVEN), [0.0, 0.35, 0, 0, 0, 0, 0, 0.65, 0, 0], "unsure"),
        (draw(SEVEN), [0.1] * 10, "unsure"),
        (np.zeros((280, 280), np.uint8), [0, 0, 0, 0, 0, 0, 0, 1.0, 0, 0], "empty"),
        (draw([[(0.2, 0.1), (0.2, 0.9)], [(0.8, 0.1), (0.8, 0.9)]]), [0.0, 1.0] + [0] * 8, "several"),
    ],
)
def test_the_verdict_follows_from_ink_and_probabilities(ink: Ink, probabilities: list[float], state: str) -> None:
    """The verdict is "sure" only for a single digit with a high probability."""
    assert judge(count_digits(ink), probabilities).state == state


def test_a_doubtful_reading_is_never_sure() -> None:
    """The verdict is "unsure", however sure the model is, if other parts of the picture may be the digit."""
    verdict = judge(1, [0.01] * 7 + [0.93, 0, 0], doubtful=True)
    assert (verdict.state, verdict.text) == ("unsure", "Not sure: perhaps a 7.")


def test_a_digit_in_pieces_is_one() -> None:
    """A drawing none of whose parts is as high as a digit has one digit, not none."""
    ink = np.zeros((100, 100), np.uint8)
    ink[:40, :20] = ink[60:, 50:] = 255
    assert count_digits(ink) == 1


def test_digits_have_an_article() -> None:
    """The text has "an" before 8 and "a" before all other digits."""
    shares = np.full(10, 0.01)
    shares[8], shares[3] = 0.9, 0.02
    assert judge(1, shares).text == "This is an 8."
    shares[8], shares[3] = 0.5, 0.42
    assert judge(1, shares).text == "Not sure: perhaps an 8, perhaps a 3."
    assert [with_article(digit) for digit in (0, 1, 8, 9)] == ["a 0", "a 1", "an 8", "a 9"]
