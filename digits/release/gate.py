"""The promotion gate: accurate enough, and not significantly worse than the champion on the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

SIGNIFICANCE = 0.05  # level of the one-sided test


@dataclass(frozen=True)
class Decision:
    """The gate's decision on a release, with its reason in one sentence."""

    promote: bool
    why: str


def decide(
    correct: NDArray[np.bool_], champion_correct: NDArray[np.bool_] | None, *, min_accuracy: float, champion: str = ""
) -> Decision:
    """Decide whether a candidate becomes the champion.

    `correct` and `champion_correct`, bool (n,), mark the test images that the candidate and the champion recognise; the
    latter is None if there is no champion. `min_accuracy` is in 0..1. `champion` is a version, for the reason.
    """
    accuracy = float(correct.mean())
    if accuracy < min_accuracy:
        return Decision(False, f"accuracy {accuracy:.2%} is below the required {min_accuracy:.2%}")
    if champion_correct is None:
        return Decision(True, f"accuracy {accuracy:.2%}; the first release to pass")
    lost = int((champion_correct & ~correct).sum())
    won = int((correct & ~champion_correct).sum())
    p = mcnemar(lost, won)
    significance = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
    comparison = (
        f"{accuracy:.2%} against {champion_correct.mean():.2%} of {champion}: {won} won, {lost} lost, {significance}"
    )
    if p < SIGNIFICANCE:
        return Decision(False, f"significantly worse than the champion: {comparison}")
    return Decision(True, f"not significantly worse than the champion: {comparison}")


def mcnemar(lost: int, won: int) -> float:
    """Return the exact one-sided p-value of the null hypothesis that losses are not likelier than wins.

    A loss is an image that only the champion recognises, a win one that only the candidate recognises.

    McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12 (1947);
    exact form: the upper tail of Binomial(lost + won, 1/2).
    """
    differing = lost + won
    tail = term = math.comb(differing, lost)
    for k in range(lost, differing):  # the next binomial coefficient from the last one, in exact integers
        term = term * (differing - k) // (k + 1)
        tail += term
    return float(Fraction(tail, 2**differing))
