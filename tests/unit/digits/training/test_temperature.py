"""The temperature is the one that the labels need."""

from __future__ import annotations

import numpy as np
import pytest

from digits.training.temperature import fit_temperature


@pytest.mark.parametrize("true", [0.6, 1.0, 2.5])
def test_the_temperature_minimises_the_cross_entropy(true: float) -> None:
    """The temperature equals that of SciPy's search, and is near the one by which the labels were drawn."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax, softmax

    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (5000, 10)).astype(np.float32)
    shares = softmax(logits.astype(np.float64) / true, axis=1)
    labels = np.minimum((shares.cumsum(1) < random.random((5000, 1))).sum(1), 9).astype(np.uint8)

    def entropy(temperature: float) -> float:
        return -float(log_softmax(logits.astype(np.float64) / temperature, axis=1)[range(5000), labels].mean())

    found = fit_temperature(logits, labels)
    assert found == pytest.approx(minimize_scalar(entropy, bounds=(0.25, 4), method="bounded").x, abs=1e-3)
    assert found == pytest.approx(true, rel=0.1)


def test_a_perfect_and_a_useless_network_have_a_bounded_temperature() -> None:
    """Logits that are all right or all wrong give the end of the range, not an overflow."""
    labels = np.arange(100, dtype=np.uint8) % 10
    logits = 1000 * np.eye(10, dtype=np.float32)[labels]
    assert fit_temperature(logits, labels) == pytest.approx(0.25)
    assert fit_temperature(logits[::-1], labels) == pytest.approx(4.0)


def test_a_few_images_have_little_effect() -> None:
    """A few validation images, all or none of them recognised, hardly change the network's probabilities."""
    labels = np.zeros(5, np.uint8)
    for logits in ([9, 0, 0], [0, 9, 0]):
        assert fit_temperature(np.array([logits] * 5, np.float32), labels) == pytest.approx(1, abs=0.1)
