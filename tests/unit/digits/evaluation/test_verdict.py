"""The verdict on an answer."""

from __future__ import annotations

import numpy as np
import pytest

from digits.evaluation.verdict import is_sure, judge, with_article
from digits.tasks.task import find

SEVEN = [0.01] * 7 + [0.93, 0, 0]


@pytest.mark.parametrize(
    ("probabilities", "state"),
    [
        ([SEVEN], "sure"),
        ([[0.0, 0.35, 0, 0, 0, 0, 0, 0.65, 0, 0]], "unsure"),
        ([[0.1] * 10], "unsure"),
        ([], "empty"),
        ([SEVEN, SEVEN], "sure"),
        ([SEVEN, SEVEN, SEVEN], "unsure"),
        ([SEVEN, [0.1] * 10], "unsure"),
    ],
)
def test_the_verdict_follows_from_the_probabilities(probabilities: list[list[float]], state: str) -> None:
    """The verdict is "sure" only if each digit, and the number as a whole, has a high probability."""
    assert judge(probabilities, [False] * len(probabilities)).state == state


def test_a_doubtful_reading_is_never_sure() -> None:
    """The verdict is "unsure", however sure the model is, if other parts of the picture may be the digit."""
    verdict = judge([SEVEN], [True])
    assert (verdict.state, verdict.text) == ("unsure", "Not sure: perhaps a 7.")
    assert not is_sure(SEVEN, True)


def test_the_threshold_of_a_release_replaces_the_constants() -> None:
    """A digit is sure from the release's threshold on, and a number from the same on; above 1 nothing is sure."""
    assert [judge([SEVEN], [False], limit).state for limit in (0.93, 0.94, 1.01)] == ["sure", "unsure", "unsure"]
    assert [judge([SEVEN] * 3, [False] * 3, limit).state for limit in (0.8, 0.81)] == ["sure", "unsure"]
    assert not is_sure(np.eye(10)[7], False, 1.01)


def test_the_unclear_digits_of_a_number_are_named() -> None:
    """The text of an unsure number has the number, and which digits are unclear."""
    likely = [0.001] * 7 + [0.99, 0.001, 0.002]
    assert judge([likely] * 3, [False] * 3).text == "This is 777."
    assert judge([likely] * 3, [False, True, False]).text == "Not sure: perhaps 777, where the 2nd digit is unclear."
    assert (
        judge([likely] * 3, [True, False, True]).text
        == "Not sure: perhaps 777, where the 1st and 3rd digits are unclear."
    )


def test_digits_have_an_article() -> None:
    """The text has "an" before 8 and "a" before all other digits."""
    shares = np.full(10, 0.01)
    shares[8], shares[3] = 0.9, 0.02
    assert judge([shares], [False]).text == "This is an 8."
    shares[8], shares[3] = 0.5, 0.42
    assert judge([shares], [False]).text == "Not sure: perhaps an 8, perhaps a 3."
    assert [with_article(digit) for digit in (0, 1, 8, 9)] == ["a 0", "a 1", "an 8", "a 9"]


def test_other_classes_have_their_labels() -> None:
    """The text has the labels of the task, in quotes."""
    fashion = find("fashion")
    assert judge([SEVEN], [False], task=fashion).text == 'This is "sneaker".'
    shares = [0.0, 0, 0, 0, 0, 0.35, 0, 0.65, 0, 0]
    assert judge([shares], [False], None, fashion).text == 'Not sure: perhaps "sneaker", perhaps "sandal".'
