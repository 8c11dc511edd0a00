"""Tasks for tests, and small releases of them that the predictor can serve."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from digits.files import sha256_of
from digits.release import golden, releases
from digits.tasks.task import Task, find

COLOURS, COLOUR_SHAPE = ("red", "grün", "deep blue"), (12, 10, 3)


def requested_image(task: Task, count: int = 1) -> dict[str, Any]:
    """Return the input of a V2 request in JSON for black images."""
    return {"name": "image", "datatype": "UINT8", "shape": [count, *task.shape], "data": [0] * count * prod(task.shape)}


def task_text(
    labels: Sequence[str] = COLOURS, shape: tuple[int, int, int] = COLOUR_SHAPE, name: str = "colours"
) -> str:
    """Return the text of a task of pictures of `shape`, (height, width, channels)."""
    height, width, channels = shape
    image = {"height": height, "width": width, "channels": channels, "reading": "photo"}
    return find(json.dumps({"name": name, "labels": labels, "image": image})).text()


class LinearModel:
    """A model of one layer with random weights for the images of a task."""

    def __init__(self, task: Task, seed: int = 0) -> None:
        size = prod(task.shape)
        self.task, self.shape = task, list(task.input_shape)
        self.weights = np.random.default_rng(seed).random((size, len(task.labels)), np.float32) * (8 / size)
        self.image = np.random.default_rng(seed).integers(0, 256, task.shape, np.uint8)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the probabilities float32 (n, number of labels) of images float32 (n, *task.input_shape) in 0..1."""
        scores = np.exp(pixels.reshape(len(pixels), -1) @ self.weights)
        return np.asarray(scores / scores.sum(1, keepdims=True), np.float32)

    def golden(self) -> dict[str, Any]:
        """Return the manifest's entry of the golden image."""
        return golden.create(self.image, self(self.image[None] / np.float32(255))[0])

    def onnx(self, shape: list[Any] | None = None, weights: np.ndarray | None = None) -> bytes:
        """Return the model as ONNX, for images of another shape or with other weights if they are given."""
        import onnx
        from onnx import helper, numpy_helper

        weights = self.weights if weights is None else weights
        kind = helper.np_dtype_to_tensor_dtype(weights.dtype)
        graph = helper.make_graph(
            [
                helper.make_node("Flatten", ["image"], ["row"]),
                helper.make_node("MatMul", ["row", "weights"], ["scores"]),
                helper.make_node("Softmax", ["scores"], ["probabilities"]),
            ],
            "linear",
            [helper.make_tensor_value_info("image", kind, ["n", *(shape or self.shape)])],
            [helper.make_tensor_value_info("probabilities", kind, ["n", weights.shape[1]])],
            [numpy_helper.from_array(weights, "weights")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

    def release(self, folder: Path, digest: str = "0" * 64, **changes: Any) -> Path:
        """Return `folder` with a release; `changes` replace entries of its manifest, or `onnx`, its file's content."""
        content = changes.pop("onnx", None) or self.onnx()
        manifest = {
            "version": releases.version_from_digest(digest),
            "digest": digest,
            "created": "2026-01-01T00:00:00.000+00:00",
            "weights": "w",
            "code": "c",
            "parameters": {},
            "task": self.task.text(),
            "files": {"model.onnx": sha256_of(content)},
            "golden": self.golden(),
            "metrics": {"accuracy": 1.0},
            "data": {"dataset": "folder", "source": "s"},
            "mlflow_run": "",
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(content)
        (folder / releases.MANIFEST).write_text(json.dumps(manifest | changes))
        return folder
