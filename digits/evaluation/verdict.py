"""The verdict on a single answer: whether the user should rely on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from digits.data.preprocessing import Ink, crop

SURE = 0.7  # least probability of an answer with the state "sure"
SECOND = 0.15  # least probability of a second digit in the text
DIGIT_HEIGHT = 0.55  # least height of a digit, as a share of the drawing's height


@dataclass(frozen=True)
class Verdict:
    """The verdict. `state` is sure, unsure, several or empty; `text` is a sentence for the user."""

    state: str
    text: str


def judge(digits: int, probabilities: ArrayLike, *, doubtful: bool = False) -> Verdict:
    """Return the verdict on the answer `probabilities`, (10,) in 0..1, to a drawing with `digits` digits.

    The answer is unsure if it is `doubtful` what of the picture is the digit.

    The thresholds were measured with two networks on 2,500 of MNIST's test digits, redrawn with slants and rotations
    (dev/bench/unsure.py). Below SURE are 0.6 to 1.5 % of the correct answers, 34 to 38 % of the wrong ones and 30 % of
    the answers to random scribbles; below 0.8 would be twice as many correct and 1.5 times as many wrong answers. 0.1 %
    of single digits count as several, and so do all pairs of digits that are a tenth of their height apart.
    """
    if digits == 0:
        return Verdict("empty", "Nothing is drawn yet.")
    if digits > 1:
        return Verdict("several", "This looks like more than one digit.")
    values = np.asarray(probabilities, np.float64)
    best, second = (int(i) for i in np.argsort(-values, kind="stable")[:2])
    if values[best] >= SURE and not doubtful:
        return Verdict("sure", f"This is {with_article(best)}.")
    if values[second] >= SECOND:
        return Verdict("unsure", f"Not sure: perhaps {with_article(best)}, perhaps {with_article(second)}.")
    return Verdict("unsure", f"Not sure: perhaps {with_article(best)}.")


def with_article(digit: int) -> str:
    """Return a digit with its article: "a 7", "an 8"."""
    return f"{'an' if digit == 8 else 'a'} {digit}"


def count_digits(ink: Ink) -> int:
    """Return the number of digits in a drawing: the parts between empty columns that are as high as a digit.

    It is 0 only without ink: a single digit in pieces has no such part.
    """
    cropped = crop(ink)
    if not cropped.size:
        return 0
    inked = cropped.any(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inked, [False]]).astype(np.int8)))
    heights = [crop(cropped[:, start:end]).shape[0] for start, end in edges.reshape(-1, 2)]
    return max(1, sum(1 for height in heights if height >= DIGIT_HEIGHT * cropped.shape[0]))
