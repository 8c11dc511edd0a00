"""Calibration of probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from digits.evaluation.calibration import BINS, calibration_error, reliability, uncalibrated


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def drawn(probabilities: np.ndarray) -> np.ndarray:
    """Return labels that are as likely as the probabilities state."""
    uniform = np.random.default_rng(1).random((len(probabilities), 1))
    return np.minimum((probabilities.cumsum(axis=1) < uniform).sum(axis=1), 9).astype(np.uint8)


def test_probabilities_that_hold_have_almost_no_error() -> None:
    """Labels drawn by the probabilities give a small error; sharper probabilities give a large one, in all bins."""
    logits = np.random.default_rng(0).normal(0, 1.5, (20_000, 10))
    labels = drawn(softmax(logits))
    assert calibration_error(softmax(logits), labels) < 0.015
    assert calibration_error(softmax(3 * logits), labels) > 0.2
    curve = reliability(softmax(3 * logits), labels)
    assert sum(count for _, _, count in curve) == len(labels)
    assert len(curve) <= BINS
    assert all(mean > right for mean, right, count in curve if count > 500 and mean > 0.5)


def test_a_known_error() -> None:
    """Four answers with probability 0.8, two of them right, and one right answer with 1 have the error 0.24."""
    probabilities = np.full((5, 10), 0.2 / 9, np.float32)
    probabilities[:4, 3] = 0.8
    probabilities[4] = np.eye(10)[7]
    labels = np.array([3, 3, 1, 2, 7], np.uint8)
    assert calibration_error(probabilities, labels) == pytest.approx(0.24, abs=1e-6)


def test_the_temperature_can_be_undone() -> None:
    """Probabilities of divided logits lead back to those of the logits."""
    logits = np.random.default_rng(0).normal(0, 3, (50, 10))
    assert uncalibrated(softmax(logits / 1.7), 1.7) == pytest.approx(softmax(logits), abs=1e-5)
