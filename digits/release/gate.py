"""The promotion gate: good enough, and not significantly worse than the champion on the same images."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Decision:
    """Whether a release becomes the champion, and why, in one sentence."""

    promote: bool
    why: str
    p_value: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def decide(
    right: NDArray[np.bool_], champion_right: NDArray[np.bool_] | None, *, min_accuracy: float, champion: str = ""
) -> Decision:
    """Judge a candidate.

    Args:
        right: bool (n,), which of the n test images the candidate recognised.
        champion_right: the same for the champion on the same images; None where there is no champion.
        min_accuracy: the least accuracy in 0..1.
        champion: the champion's version, for the sentence.
    """
    accuracy = float(right.mean())
    if accuracy < min_accuracy:
        return Decision(False, f"accuracy {accuracy:.2%} is below the required {min_accuracy:.2%}")
    if champion_right is None:
        return Decision(True, f"accuracy {accuracy:.2%}; the first release to pass")
    lost = int((champion_right & ~right).sum())
    won = int((right & ~champion_right).sum())
    p = mcnemar(lost, won)
    shown = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
    facts = f"{accuracy:.2%} against {champion_right.mean():.2%} of {champion}: {won} won, {lost} lost, {shown}"
    if p < SIGNIFICANCE:
        return Decision(False, f"significantly worse than the champion: {facts}", p)
    return Decision(True, f"not significantly worse than the champion: {facts}", p)


def mcnemar(lost: int, won: int) -> float:
    """One-sided exact p-value that a loss is likelier than a win, given the images on which two models differ.

    McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12 (1947);
    exact form: the upper tail of Binomial(lost + won, 1/2).
    """
    differing = lost + won
    tail = sum(math.comb(differing, k) for k in range(lost, differing + 1))
    return float(Fraction(tail, 2**differing))
