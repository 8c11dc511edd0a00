"""The predictions that are expected of the predictor."""

from __future__ import annotations

import numpy as np
import pytest

from digits.data.dataset import Dataset
from digits.evaluation import metrics
from tests.helpers.support import Finished

Expected = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def expected(finished: Finished) -> Expected:
    """Five test images uint8 (5, 28, 28), and the probabilities float32 (5, 10) of the release's ONNX file."""
    images = Dataset.load(finished.folder / "test.npz").images[:5]
    return images, metrics.predict(finished.folder / "model" / "model.onnx", images)
