"""The golden check: a release contains one test image and the model's answer, which each server must reproduce.

    golden = Golden.from_manifest(manifest)
    if difference := golden.difference(predict(golden.pixels)[0]):
        raise ReleaseError(f"release {version} {difference}")

`publish` writes the entry; the predictor checks it before it serves a release, and `deploy` checks the endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from digits.errors import ReleaseError
from digits.release.releases import task_of

TOLERANCE = 1e-4  # of a probability: ONNX Runtime may differ in the last bits on another processor


def create(image: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """Return the manifest's entry for an image and the model's probabilities.

    The image is uint8 in the task's shape, the probabilities are float32 (number of labels,).
    """
    return {
        "image": image.tolist(),
        "class": int(probabilities.argmax()),
        "probabilities": [float(p) for p in probabilities],
    }


@dataclass(frozen=True)
class Golden:
    """A release's golden image, as the model's input, and the expected answer."""

    pixels: NDArray[np.float32]  # (1, height, width, channels), in 0..1
    probabilities: NDArray[np.float32]  # (number of labels,)
    label: int

    @classmethod
    def from_manifest(cls, manifest: dict[str, Any]) -> Golden:
        """Read the golden image of a release. Raises ReleaseError if the manifest has no usable one, or no task."""
        task = task_of(manifest)
        try:
            entry = manifest["golden"]
            pixels = np.asarray(entry["image"], np.float32).reshape(1, *task.input_shape) / np.float32(255)
            probabilities = np.asarray(entry["probabilities"], np.float32).reshape(len(task.labels))
            return cls(pixels, probabilities, int(entry["class"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise ReleaseError(
                f"release {manifest['version']} has no usable golden image: {exc!r}",
                remedy="promote or serve another release: digits releases",
            ) from exc

    def difference(self, answer: ArrayLike) -> str:
        """Return how the probabilities `answer` differ from the expected ones; '' if they agree."""
        actual = np.asarray(answer, np.float32)
        if actual.shape != self.probabilities.shape:
            return f"answers its golden image with shape {actual.shape}; expected {self.probabilities.shape}"
        agrees = np.abs(actual - self.probabilities).max() <= TOLERANCE  # false for NaN
        if agrees and actual.argmax() == self.label:
            return ""
        return (
            f"answers its golden image with {int(actual.argmax())} ({actual.max():.4f}); "
            f"expected {self.label} ({self.probabilities.max():.4f})"
        )
