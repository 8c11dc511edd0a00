"""Calibration: how far the probabilities of a model's answers are from the share that is right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # of equal width, for the probabilities 0 to 1
_LEAST = np.float32(1e-38)  # float32 has no logarithm of 0


def measure(
    probabilities: NDArray[np.float32], labels: NDArray[np.uint8], temperature: float, threshold: float | None
) -> dict[str, Any]:
    """Return the calibration on one set: the expected errors, and the sure answers and their mistakes as shares.

    `temperature` has divided the logits. Answers are sure from the probability `threshold` on; None: none is defined.
    """
    result: dict[str, Any] = {
        "count": len(labels),
        "error_before": calibration_error(uncalibrated(probabilities, temperature), labels),
        "error": calibration_error(probabilities, labels),
    }
    if threshold is not None:
        sure = probabilities.max(axis=1) >= threshold
        wrong = int((probabilities.argmax(axis=1) != labels)[sure].sum())
        result |= {"sure": float(sure.mean()), "wrong_of_sure": wrong / max(1, int(sure.sum()))}
    return result


def calibration_error(probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> float:
    """Return the expected calibration error of probabilities (n, classes) and labels (n,), in 0..1.

    The mean over the answers of the difference between probability and share of right answers in their bin. Naeini,
    Cooper and Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
    """
    return sum(n * abs(mean - right) for mean, right, n in reliability(probabilities, labels)) / max(len(labels), 1)


def reliability(probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> list[list[float]]:
    """Return (mean probability, share of right answers, number of answers) of each bin that has answers."""
    highest = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((highest * BINS).astype(int), BINS - 1)
    chosen = [bins == n for n in np.unique(bins)]
    return [[float(highest[own].mean()), float(right[own].mean()), int(own.sum())] for own in chosen]


def uncalibrated(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return the probabilities (n, classes) as they were before the logits were divided by `temperature`."""
    logits = temperature * np.log(np.maximum(probabilities, _LEAST).astype(np.float64))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
