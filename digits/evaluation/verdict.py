"""The verdict on a single answer: whether the user should rely on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

SURE = 0.7  # least probability of an answer with the state "sure"
SURE_NUMBER = 0.85  # least product of the digits' probabilities of a number with the state "sure"
SECOND = 0.15  # least probability of a second digit in the text


@dataclass(frozen=True)
class Verdict:
    """The verdict. `state` is sure, unsure or empty; `text` is a sentence for the user."""

    state: str
    text: str


def judge(probabilities: ArrayLike, doubtful: Sequence[bool], threshold: float | None = None) -> Verdict:
    """Return the verdict on the answer `probabilities`, (n, 10) in 0..1, to a drawing of a number with n digits.

    A digit is unsure if it is `doubtful` what of the picture it is. `threshold` is the release's least probability of a
    sure answer, for a digit and for a number as a whole; None: the release has none, and these constants apply.

    The constants were measured with two networks on 2,500 of MNIST's test digits, redrawn with slants and rotations
    (dev/bench/unsure.py). Below SURE are 0.6 to 1.5 % of the correct answers, 34 to 38 % of the wrong ones and 30 % of
    the answers to random scribbles; below 0.8 would be twice as many correct and 1.5 times as many wrong answers.
    """
    if not doubtful:
        return Verdict("empty", "Nothing is drawn yet.")
    shares = np.asarray(probabilities, np.float64)
    highest = shares.max(axis=1)
    unclear = [n for n, each in enumerate(doubtful) if not is_sure(shares[n], each, threshold)]
    if len(doubtful) > 1 and not unclear and highest.prod() < (threshold or SURE_NUMBER):
        unclear = [int(highest.argmin())]
    if len(doubtful) > 1:
        number = "".join(map(str, shares.argmax(axis=1)))
        if not unclear:
            return Verdict("sure", f"This is {number}.")
        if len(unclear) == len(doubtful):
            return Verdict("unsure", f"Not sure: perhaps {number}.")
        *others, last = (str(n + 1) for n in unclear)
        which = f"digits {', '.join(others)} and {last} are" if others else f"digit {last} is"
        return Verdict("unsure", f"Not sure: perhaps {number}, where {which} unclear.")
    values = shares[0]
    best, second = (int(i) for i in np.argsort(-values, kind="stable")[:2])
    if not unclear:
        return Verdict("sure", f"This is {with_article(best)}.")
    if values[second] >= SECOND:
        return Verdict("unsure", f"Not sure: perhaps {with_article(best)}, perhaps {with_article(second)}.")
    return Verdict("unsure", f"Not sure: perhaps {with_article(best)}.")


def is_sure(shares: ArrayLike, doubtful: bool, threshold: float | None = None) -> bool:
    """Return whether the answer `shares`, (10,) in 0..1, to one digit is sure. `threshold` is as in `judge`."""
    return not doubtful and float(np.max(shares)) >= (threshold or SURE)


def with_article(digit: int) -> str:
    """Return a digit with its article: "a 7", "an 8"."""
    return f"{'an' if digit == 8 else 'a'} {digit}"
