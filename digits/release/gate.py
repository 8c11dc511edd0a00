"""The promotion gate: accurate enough, and not significantly worse than its rivals on the same images.

The rivals are the champion, and the best champion since the last manual promotion: otherwise small losses would add up.
A release must not be worse than either on all test images, on any slice of them, or on any corruption of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
SIGNIFICANCE = 0.05  # level of the one-sided test, and of all tests of slices and corruptions together
# How many times the rival's mistakes on corrupted images are accepted. No training image is corrupted, so two trainings
# that differ only in their seed differ here by more than chance, on some corruptions by much (docs/decisions.md).
TOLERANCE = 1.5
TOLERANCES = dict.fromkeys(("impulse noise", "brightness", "stripe", "fog"), 4.0)


@dataclass(frozen=True)
class Decision:
    """The gate's decision on a release, with its reason in one sentence."""

    promote: bool
    why: str


@dataclass(frozen=True)
class Rival:
    """A release that a candidate is compared with: its version, what it is, and which images it recognises."""

    version: str
    correct: Mask  # (n,), of the test images
    name: str = "the champion"
    corrupted: Mapping[str, Mask] = field(default_factory=dict)  # of each corruption's images


@dataclass(frozen=True)
class Comparison:
    """A candidate and a rival on the same images: which of them each recognises.

    Up to `tolerance` times the rival's mistakes do not count as worse.
    """

    own: Mask  # (n,)
    other: Mask
    tolerance: float = 1.0

    @property
    def differences(self) -> tuple[int, int]:
        """Return how many images only the rival recognises (lost), and how many only the candidate (won)."""
        return int((self.other & ~self.own).sum()), int((self.own & ~self.other).sum())

    @cached_property
    def p(self) -> float:
        """Return the p-value of the hypothesis that the candidate is not worse."""
        lost, won = self.differences
        return mcnemar(max(0, lost - int((self.tolerance - 1) * (~self.other).sum())), won)

    def text(self, version: str) -> str:
        """Return the comparison with the rival `version` in words."""
        lost, won = self.differences
        significance = f"p = {self.p:.3f}" if self.p >= 0.001 else "p < 0.001"
        accuracies = f"{self.own.mean():.2%} against {self.other.mean():.2%} of {version}"
        return f"{accuracies}: {won} won, {lost} lost, {significance}"


def decide(
    correct: Mask,
    rivals: list[Rival],
    *,
    min_accuracy: float,
    guess: float = 0.0,
    slices: Mapping[str, Mask] | None = None,
    corrupted: Mapping[str, Mask] | None = None,
) -> Decision:
    """Decide whether a candidate becomes the champion.

    `correct`, bool (n,), marks the test images that the candidate recognises. `rivals` starts with the champion; it is
    empty if there is none. `min_accuracy` is in 0..1, and so is `guess`, the share of the test images that one answer
    to all of them would recognise. `slices` are masks (n,) of the test images by name. `corrupted` marks, for each
    corruption, the images that the candidate recognises.
    """
    accuracy = float(correct.mean())
    if accuracy < min_accuracy:
        return Decision(False, f"accuracy {accuracy:.2%} is below the required {min_accuracy:.2%}")
    if accuracy <= guess:
        return Decision(False, f"accuracy {accuracy:.2%} is not above {guess:.2%}, that of one answer to all images")
    if not rivals:
        return Decision(True, f"accuracy {accuracy:.2%}; the first release to pass")
    for rival in rivals:
        whole = Comparison(correct, rival.correct)
        if whole.p < SIGNIFICANCE:
            return Decision(False, f"significantly worse than {rival.name}: {whole.text(rival.version)}")
        parts = {name: Comparison(correct[mask], rival.correct[mask]) for name, mask in (slices or {}).items()}
        for name, own in (corrupted or {}).items():
            parts[name] = Comparison(own, rival.corrupted[name], TOLERANCES.get(name, TOLERANCE))
        if worse := find_worse(parts):
            name, more = worse[0], f", and on {len(worse) - 1} more" if len(worse) > 1 else ""
            comparison = parts[name].text(rival.version)
            return Decision(False, f"significantly worse than {rival.name} on {name}: {comparison}{more}")
    comparison = Comparison(correct, rivals[0].correct).text(rivals[0].version)
    return Decision(True, f"not significantly worse than {rivals[0].name}: {comparison}")


def find_worse(parts: Mapping[str, Comparison]) -> list[str]:
    """Return the parts on which the candidate is significantly worse, the most significant first.

    SIGNIFICANCE is that of all tests together.

    Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979).
    """
    found = []
    tests = sorted((comparison.p, name) for name, comparison in parts.items())
    for n, (p, name) in enumerate(tests):
        if p * (len(tests) - n) >= SIGNIFICANCE:
            break
        found.append(name)
    return found


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
