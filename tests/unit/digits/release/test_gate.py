"""The gate passes a release that is accurate enough and not significantly worse than the champion."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from digits.release import gate


def answers(correct: int, count: int = 1000) -> np.ndarray:
    return np.arange(count) < correct


@pytest.mark.parametrize(
    ("lost", "won", "p"), [(0, 0, 1.0), (0, 5, 1.0), (5, 0, 1 / 32), (4, 1, 6 / 32), (10, 2, 79 / 4096)]
)
def test_known_p_values(lost: int, won: int, p: float) -> None:
    """The p-value is the exact tail of the binomial distribution, as SciPy computes it."""
    assert gate.mcnemar(lost, won) == pytest.approx(p, rel=1e-12)
    if lost + won:
        assert gate.mcnemar(lost, won) == pytest.approx(binomtest(lost, lost + won, alternative="greater").pvalue)


def test_thousands_of_differences_do_not_overflow() -> None:
    """Two very different models on 10,000 images have a valid p-value."""
    assert 0 <= gate.mcnemar(6000, 4000) < 1e-80
    assert gate.mcnemar(4000, 6000) == pytest.approx(1.0)


def test_the_first_good_release_passes() -> None:
    """Without a champion only the least accuracy counts, and exactly that accuracy passes."""
    decision = gate.decide(answers(950), None, min_accuracy=0.95)
    assert decision.promote
    assert "95.00%" in decision.why


def test_a_release_below_the_least_accuracy_is_rejected() -> None:
    """An accuracy below the least one is rejected whatever the champion, and the reason has both values."""
    for champion in (None, answers(100)):
        decision = gate.decide(answers(949), champion, min_accuracy=0.95, champion="old")
        assert not decision.promote
        assert "94.90%" in decision.why
        assert "95.00%" in decision.why


def test_a_significantly_worse_release_is_rejected() -> None:
    """Five images lost and none won is significantly worse at the five percent level."""
    decision = gate.decide(answers(985), answers(990), min_accuracy=0.95, champion="abc")
    assert not decision.promote
    assert "0 won, 5 lost, p = 0.031" in decision.why
    assert "abc" in decision.why


def test_a_difference_within_chance_passes() -> None:
    """Four images lost and none won may be chance, so the newer release passes."""
    decision = gate.decide(answers(986), answers(990), min_accuracy=0.95, champion="abc")
    assert decision.promote
    assert "0 won, 4 lost, p = 0.062" in decision.why


def test_a_better_release_passes() -> None:
    """A candidate that recognises more images passes."""
    assert gate.decide(answers(999), answers(990), min_accuracy=0.95).promote
