"""One running predictor, ten images of MNIST, and the answers of its released model."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from digits.release import releases
from tests.helpers.support import Finished, Predictor

COUNT = 10


@dataclass(frozen=True)
class Question:
    """The request that each client sends, and the expected answer.

    Attributes:
        url: the predictor's path for predictions of V1.
        file: a request of V1 for the images.
        images: a NumPy file of the images, uint8 (10, 28, 28).
        expected: the probabilities of the released model, computed by ONNX Runtime, float32 (10, 10).
    """

    url: str
    file: Path
    images: Path
    expected: np.ndarray


@pytest.fixture(scope="session")
def question(
    predictor: Predictor, finished: Finished, mnist_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Question:
    """The question that all clients ask."""
    folder = tmp_path_factory.mktemp("question")
    raw = gzip.decompress((mnist_folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(raw, np.uint8, COUNT * 784, offset=16).reshape(COUNT, 28, 28)
    np.save(folder / "images.npy", images)
    pixels = images.astype(np.float32) / 255
    (folder / "v1.json").write_text(json.dumps({"signature_name": "serving_default", "instances": pixels.tolist()}))
    releases.download(finished.store, finished.version, folder / "release", only="model.onnx")
    model = onnxruntime.InferenceSession(folder / "release" / "model.onnx")
    (expected,) = model.run(None, {model.get_inputs()[0].name: pixels.reshape(COUNT, 28, 28, 1)})
    url = f"{predictor.url}/v1/models/digits:predict"
    return Question(url, folder / "v1.json", folder / "images.npy", expected)
