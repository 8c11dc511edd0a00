"""The promotion gate: accurate enough, and not significantly worse than its rivals on the same images.

The rivals are the champion, and the best champion since the last manual promotion: otherwise small losses would add up.
A release must not be worse than either on all images, nor on any slice of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
SIGNIFICANCE = 0.05  # level of the one-sided test, and of all tests of slices together


@dataclass(frozen=True)
class Decision:
    """The gate's decision on a release, with its reason in one sentence."""

    promote: bool
    why: str


@dataclass(frozen=True)
class Rival:
    """A release that a candidate is compared with: its version, what it is, and which test images it recognises."""

    version: str
    correct: Mask  # (n,)
    name: str = "the champion"


def decide(
    correct: Mask, rivals: list[Rival], *, min_accuracy: float, slices: Mapping[str, Mask] | None = None
) -> Decision:
    """Decide whether a candidate becomes the champion.

    `correct`, bool (n,), marks the test images that the candidate recognises. `rivals` starts with the champion; it is
    empty if there is none. `min_accuracy` is in 0..1. `slices` are masks (n,) of the test images by name.
    """
    accuracy = float(correct.mean())
    if accuracy < min_accuracy:
        return Decision(False, f"accuracy {accuracy:.2%} is below the required {min_accuracy:.2%}")
    if not rivals:
        return Decision(True, f"accuracy {accuracy:.2%}; the first release to pass")
    for rival in rivals:
        p, comparison = _compare(correct, rival)
        if p < SIGNIFICANCE:
            return Decision(False, f"significantly worse than {rival.name}: {comparison}")
        if worse := worse_slices(correct, rival.correct, slices or {}):
            name, more = worse[0], f", and on {len(worse) - 1} more" if len(worse) > 1 else ""
            _, comparison = _compare(correct, rival, (slices or {})[name])
            return Decision(False, f"significantly worse than {rival.name} on {name}: {comparison}{more}")
    _, comparison = _compare(correct, rivals[0])
    return Decision(True, f"not significantly worse than {rivals[0].name}: {comparison}")


def worse_slices(correct: Mask, other: Mask, slices: Mapping[str, Mask]) -> list[str]:
    """Return the slices on which `correct` is significantly worse than `other`, the most significant first.

    SIGNIFICANCE is that of all tests together.

    Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979).
    """
    found = []
    tests = sorted((mcnemar(*_differences(correct[mask], other[mask])), name) for name, mask in slices.items())
    for n, (p, name) in enumerate(tests):
        if p * (len(tests) - n) >= SIGNIFICANCE:
            break
        found.append(name)
    return found


def _compare(correct: Mask, rival: Rival, part: Mask | slice = slice(None)) -> tuple[float, str]:
    """Return the p-value of a comparison on a part of the images, and its text."""
    own, other = correct[part], rival.correct[part]
    lost, won = _differences(own, other)
    p = mcnemar(lost, won)
    significance = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
    return p, f"{own.mean():.2%} against {other.mean():.2%} of {rival.version}: {won} won, {lost} lost, {significance}"


def _differences(correct: Mask, other: Mask) -> tuple[int, int]:
    """Return how many images only `other` recognises (lost), and how many only `correct` (won)."""
    return int((other & ~correct).sum()), int((correct & ~other).sum())


def mcnemar(lost: int, won: int) -> float:
    """Return the exact one-sided p-value of the null hypothesis that losses are not likelier than wins.

    A loss is an image that only the rival recognises, a win one that only the candidate recognises.

    McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12 (1947);
    exact form: the upper tail of Binomial(lost + won, 1/2).
    """
    differing = lost + won
    tail = term = math.comb(differing, lost)
    for k in range(lost, differing):  # the next binomial coefficient from the last one, in exact integers
        term = term * (differing - k) // (k + 1)
        tail += term
    return float(Fraction(tail, 2**differing))
