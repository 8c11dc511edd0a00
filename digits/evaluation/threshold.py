"""The least probability of a sure answer, chosen so that at most RISK of the sure answers are wrong.

Angelopoulos, Bates, Candès, Jordan and Lei, Learn then Test: Calibrating Predictive Algorithms to Achieve Risk Control
(2021): thresholds are tested from the strictest on, each with the exact binomial test, until one fails. With a
probability of CONFIDENCE the last that passed keeps the promise on answers like those of the calibration set.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every command imports this module
    import numpy as np
    from numpy.typing import NDArray

RISK = 1 / 200  # greatest share of wrong answers among the sure ones
CONFIDENCE = 0.95
NONE_SURE = 1.01  # the threshold if even the strictest one fails
GRID = (0.999, 0.998, 0.997, 0.995, 0.99, *(n / 100 for n in range(98, 49, -1)))


def choose_threshold(probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> float | None:
    """Return the least threshold that keeps the promise, given probabilities (n, classes) and labels (n,).

    None: there are so few answers that even without a mistake they would show nothing.
    """
    highest, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != labels
    chosen = None
    for threshold in GRID:
        sure = highest >= threshold
        count = int(sure.sum())
        if not _is_shown(0, count):  # depends on no label, so the test of the next one remains valid
            continue
        if not _is_shown(int(wrong[sure].sum()), count):
            return chosen or NONE_SURE
        chosen = threshold
    return chosen


def _is_shown(wrong: int, count: int) -> bool:
    """Return whether so few of `count` answers are wrong that a risk above RISK is refuted."""
    terms = (
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        + k * math.log(RISK) + (count - k) * math.log1p(-RISK)
        for k in range(wrong + 1)
    )  # fmt: skip
    return math.fsum(map(math.exp, terms)) <= 1 - CONFIDENCE
