"""Temperature scaling, so that a probability is the share of such answers that are right.

Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_RANGE = (0.25, 4.0)  # of the temperature; beyond it the validation set is too small or the network has not learnt
_ENOUGH = 100  # images; fewer show less, and the temperature is nearer to 1
_STEPS = 40  # of the bisection, which then is far more accurate than the rounding


def fit_temperature(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.uint8]) -> float:
    """Return the temperature that minimises the mean cross-entropy of softmax(logits / temperature) and the labels.

    `logits` has the shape (n, classes), `labels` (n,). The cross-entropy is convex in 1 / temperature, so its
    derivative changes its sign once. The result is rounded, so that the last bits of a processor's exponential do not
    change it. With fewer than 100 images it is nearer to 1, so that a few images have little effect.
    """
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    own = scores[np.arange(len(labels)), labels].mean()
    low, high = 1 / _RANGE[1], 1 / _RANGE[0]
    for _ in range(_STEPS):
        middle = (low + high) / 2
        weights = np.exp(middle * scores)
        expected = ((weights * scores).sum(axis=1) / weights.sum(axis=1)).mean()
        low, high = (low, middle) if expected > own else (middle, high)
    return round(math.pow(2 / (low + high), min(1.0, len(labels) / _ENOUGH)), 3)
