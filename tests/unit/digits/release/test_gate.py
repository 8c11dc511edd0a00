"""The gate passes a release that is accurate enough and not significantly worse than the champion."""

from __future__ import annotations

import numpy as np
import pytest

from digits.data.dataset import Dataset
from digits.evaluation.slices import slices
from digits.release import gate
from digits.tasks.task import find


def answers(correct: int, count: int = 1000) -> np.ndarray:
    return np.arange(count) < correct


@pytest.mark.parametrize(
    ("lost", "won", "p"), [(0, 0, 1.0), (0, 5, 1.0), (5, 0, 1 / 32), (4, 1, 6 / 32), (10, 2, 79 / 4096)]
)
def test_known_p_values(lost: int, won: int, p: float) -> None:
    """The p-value is the exact tail of the binomial distribution, as SciPy computes it."""
    from scipy.stats import binomtest

    assert gate.mcnemar(lost, won) == pytest.approx(p, rel=1e-12)
    if lost + won:
        assert gate.mcnemar(lost, won) == pytest.approx(binomtest(lost, lost + won, alternative="greater").pvalue)


def test_thousands_of_differences_do_not_overflow() -> None:
    """Two very different models on 10,000 images have a valid p-value."""
    assert 0 <= gate.mcnemar(6000, 4000) < 1e-80
    assert gate.mcnemar(4000, 6000) == pytest.approx(1.0)


def test_the_first_good_release_passes() -> None:
    """Without a champion only the least accuracy counts, and exactly that accuracy passes."""
    decision = gate.decide(answers(950), [], min_accuracy=0.95)
    assert decision.promote
    assert "95.00%" in decision.why


def test_a_release_below_the_least_accuracy_is_rejected() -> None:
    """An accuracy below the least one is rejected whatever the champion, and the reason has both values."""
    for rivals in ([], [gate.Rival("old", answers(100))]):
        decision = gate.decide(answers(949), rivals, min_accuracy=0.95)
        assert not decision.promote
        assert "94.90%" in decision.why
        assert "95.00%" in decision.why


def test_a_release_that_is_no_better_than_one_answer_is_rejected() -> None:
    """A release must recognise more test images than one answer to all would, whatever the champion."""
    for rivals in ([], [gate.Rival("old", answers(500))]):
        decision = gate.decide(answers(500), rivals, min_accuracy=0.5, guess=0.5)
        assert not decision.promote
        assert "is not above 50.00%" in decision.why
        assert gate.decide(answers(501), rivals, min_accuracy=0.5, guess=0.5).promote


def test_a_significantly_worse_release_is_rejected() -> None:
    """Five images lost and none won is significantly worse at the five percent level."""
    decision = gate.decide(answers(985), [gate.Rival("abc", answers(990))], min_accuracy=0.95)
    assert not decision.promote
    assert "0 won, 5 lost, p = 0.031" in decision.why
    assert "abc" in decision.why


def test_a_difference_within_chance_passes() -> None:
    """Four images lost and none won may be chance, so the newer release passes."""
    decision = gate.decide(answers(986), [gate.Rival("abc", answers(990))], min_accuracy=0.95)
    assert decision.promote
    assert "0 won, 4 lost, p = 0.062" in decision.why


def test_a_better_release_passes() -> None:
    """A candidate that recognises more images passes."""
    assert gate.decide(answers(999), [gate.Rival("abc", answers(990))], min_accuracy=0.95).promote


def test_a_release_that_gains_overall_and_loses_on_slanted_nines_is_rejected() -> None:
    """The reason names the slice, although the release is better on all images; with few losses it passes."""
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (10_000, 28, 28), np.uint8), np.arange(10_000) % 10
    test = Dataset(images, labels.astype(np.uint8))
    groups = slices(test, find("digits"))
    champion = random.random(len(test)) < 0.98
    candidate = champion | (random.random(len(test)) < 0.9)
    slanted = np.flatnonzero(groups["9s leaning right"] & champion)[:30]
    candidate[slanted] = False
    assert candidate.mean() > champion.mean()
    decision = gate.decide(candidate, [gate.Rival("abc", champion)], min_accuracy=0.95, slices=groups)
    assert not decision.promote
    assert decision.why.startswith("significantly worse than the champion on 9s leaning right: ")
    candidate[slanted[5:]] = True
    assert gate.decide(candidate, [gate.Rival("abc", champion)], min_accuracy=0.95, slices=groups).promote


def test_a_release_that_loses_on_one_corruption_is_rejected() -> None:
    """The reason names the corruption; up to the tolerance, mistakes on corrupted images are not worse."""

    def decide(fog: int, zigzag: int = 0) -> gate.Decision:
        rival = gate.Rival("abc", answers(990), corrupted={"fog": answers(980), "zigzag": answers(980)})
        corrupted = {"fog": answers(1000 - fog), "zigzag": answers(1000 - zigzag)}
        return gate.decide(answers(995), [rival], min_accuracy=0.95, corrupted=corrupted)

    assert decide(80, 30).promote
    assert "worse than the champion on zigzag: 95.50% against 98.00% of abc" in decide(80, 45).why
    refused = decide(100)
    assert not refused.promote
    assert refused.why.startswith(
        "significantly worse than the champion on fog: 90.00% against 98.00% of abc: 0 won, 80"
    )


def test_chance_alone_is_rarely_worse_on_a_slice() -> None:
    """Two equally good models differ significantly on some of 50 slices in at most one of twenty comparisons."""
    random = np.random.default_rng(1)
    groups = {f"slice {n}": np.arange(10_000) % 50 == n for n in range(50)}
    found = 0
    for _ in range(100):
        one, other = random.random((2, 10_000)) < 0.9
        parts = {name: gate.Comparison(one[mask], other[mask]) for name, mask in groups.items()}
        found += bool(gate.find_worse(parts))
    assert found <= 10


def test_small_losses_do_not_add_up() -> None:
    """A release that is not significantly worse than the champion is compared with the best one, too."""
    best, champion, candidate = answers(9946, 10_000), answers(9943, 10_000), answers(9940, 10_000)
    rivals = [gate.Rival("now", champion), gate.Rival("first", best, "the best champion since the last promotion")]
    assert gate.decide(candidate, rivals[:1], min_accuracy=0.95).promote
    decision = gate.decide(candidate, rivals, min_accuracy=0.95)
    assert not decision.promote
    assert "worse than the best champion since the last promotion: 99.40% against 99.46% of first" in decision.why
