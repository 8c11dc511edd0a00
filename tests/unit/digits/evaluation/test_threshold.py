"""The threshold of sure answers keeps its promise."""

from __future__ import annotations

import numpy as np
import pytest

from digits.evaluation.threshold import CONFIDENCE, NONE_SURE, RISK, _is_shown, choose_threshold


def answers(count: int, seed: int, *, overconfident: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities, and labels that agree with the highest as often as it states, less `overconfident`."""
    random = np.random.default_rng(seed)
    highest = 1 - 0.5 * random.random(count) ** 12
    probabilities = np.repeat((1 - highest)[:, None] / 9, 10, axis=1)
    probabilities[:, 3] = highest
    labels = np.where(random.random(count) < highest - overconfident, 3, 4)
    return probabilities.astype(np.float32), labels.astype(np.uint8)


def test_few_sure_answers_are_wrong_on_other_data() -> None:
    """At most one in twenty thresholds, each chosen on its own calibration set, breaks the promise; most are useful."""
    fresh, labels = answers(400_000, 999)
    highest, wrong, broken = fresh.max(1), fresh.argmax(1) != labels, 0
    for seed in range(60):
        threshold = choose_threshold(*answers(5_000, seed))
        assert threshold is not None
        sure = highest >= threshold
        broken += wrong[sure].mean() > RISK
        assert sure.mean() > 0.4
    assert broken <= 6


def test_a_model_that_is_sure_of_mistakes_has_no_sure_answers() -> None:
    """If even the most probable answers are wrong too often, the threshold is above 1."""
    assert choose_threshold(*answers(5_000, 0, overconfident=0.03)) == NONE_SURE > 1


def test_too_few_answers_show_nothing() -> None:
    """With less than 598 answers there is no threshold, even without a mistake."""
    probabilities = np.tile(np.eye(10, dtype=np.float32)[3], (598, 1))
    labels = np.full(598, 3, np.uint8)
    assert choose_threshold(probabilities[:597], labels[:597]) is None
    assert choose_threshold(probabilities, labels) == 0.5


@pytest.mark.parametrize("count", [598, 1000, 4321])
def test_the_test_is_the_binomial_one(count: int) -> None:
    """The test passes as many mistakes as SciPy's binomial distribution allows."""
    from scipy.stats import binom

    allowed = [k for k in range(60) if binom.cdf(k, count, RISK) <= 1 - CONFIDENCE]
    assert [k for k in range(60) if _is_shown(k, count)] == allowed
