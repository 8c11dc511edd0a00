"""A predictor as a real process, and the predictions that are expected of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from digits.data.dataset import Dataset
from digits.evaluation import metrics
from tests.helpers.support import Finished, Predictor, predictors

Expected = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def predictor(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    """A predictor on the finished run's store, for tests that do not change it."""
    with predictors(tmp_path_factory.mktemp("predictor")) as start:
        yield start(finished.settings)


@pytest.fixture(scope="session")
def expected(finished: Finished) -> Expected:
    """Five test images uint8 (5, 28, 28), and the probabilities float32 (5, 10) of the release's ONNX file."""
    images = Dataset.load(finished.folder / "test.npz").images[:5]
    return images, metrics.predict(finished.folder / "model" / "model.onnx", images)
