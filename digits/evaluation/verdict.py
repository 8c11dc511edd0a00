"""The verdict on a single answer: whether the user should rely on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from digits.tasks.task import BUILT_IN, Task, find

_DEFAULT = find(BUILT_IN)
SURE = 0.7  # least probability of an answer with the state "sure"
SURE_NUMBER = 0.85  # least product of the digits' probabilities of a number with the state "sure"
SECOND = 0.15  # least probability of a second class in the text
_ENDINGS = {0: "st", 1: "nd", 2: "rd"}  # of the ordinals of a digit's index


@dataclass(frozen=True)
class Verdict:
    """The verdict. `state` is sure, unsure or empty; `text` is a sentence for the user."""

    state: str
    text: str


def judge(
    probabilities: ArrayLike, doubtful: Sequence[bool], threshold: float | None = None, task: Task = _DEFAULT
) -> Verdict:
    """Return the verdict on the answer `probabilities`, (n, classes) in 0..1, to a picture with n digits.

    A picture of a task that has no numbers counts as one digit. A digit is unsure if it is `doubtful`, that is, if the
    picture does not show clearly which ink belongs to it. `threshold` is the release's least probability of a sure
    answer, for a digit and for a number as a whole; None: the release has none, and these constants apply.

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
        *others, last = (str(n + 1) + _ENDINGS.get(n, "th") for n in unclear)
        which = f"the {', '.join(others)} and {last} digits are" if others else f"the {last} digit is"
        return Verdict("unsure", f"Not sure: perhaps {number}, where {which} unclear.")
    values = shares[0]
    best, second = (int(i) for i in np.argsort(-values, kind="stable")[:2])
    if not unclear:
        return Verdict("sure", f"This is {class_text(best, task)}.")
    if values[second] >= SECOND:
        return Verdict("unsure", f"Not sure: perhaps {class_text(best, task)}, perhaps {class_text(second, task)}.")
    return Verdict("unsure", f"Not sure: perhaps {class_text(best, task)}.")


def is_sure(shares: ArrayLike, doubtful: bool, threshold: float | None = None) -> bool:
    """Return whether the answer `shares`, (classes,) in 0..1, to one digit is sure. `threshold` is as in `judge`."""
    return not doubtful and float(np.max(shares)) >= (threshold or SURE)


def class_text(number: int, task: Task) -> str:
    """Return a class of a task for use in a sentence: a digit with its article, other labels in quotes."""
    return with_article(number) if task.is_number else f'"{task.labels[number]}"'


def with_article(digit: int) -> str:
    """Return a digit with its article: "a 7", "an 8"."""
    return f"{'an' if digit == 8 else 'a'} {digit}"
