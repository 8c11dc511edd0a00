"""scikit-learn's digits as a data set."""

from __future__ import annotations

import numpy as np

from digits.data import fallback


def test_images_are_like_mnists() -> None:
    """Each digit occurs in both sets, and its strokes reach nearly full ink."""
    digest, train, test = fallback.load()
    assert digest == "c522b914135f440538a7cda9e25efdcc6702c387017afeaf4c3c25162511355a"
    assert (len(train), len(test)) == (1437, 360)
    for part in (train, test):
        assert np.bincount(part.labels).min() > 20
        assert part.images.max(axis=(1, 2)).min() > 150
