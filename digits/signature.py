"""The inputs and outputs of a task's model, for the export, the manifest, MLflow and the endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digits.tasks.task import Task

CLASS, PROBABILITIES, LABEL = "class", "probabilities", "label"  # the outputs of the endpoint
_DTYPES = {"FP32": "float32", "INT64": "int64"}
# Per request to the endpoint: what 1024 digits have, so that a request of any task takes about the same memory.
_MAX_IMAGES = 1024
_MAX_PIXELS, _MAX_PROBABILITIES = _MAX_IMAGES * 28 * 28, _MAX_IMAGES * 10


@dataclass(frozen=True)
class Tensor:
    """A named input or output. -1 in `shape` stands for any number of images."""

    name: str
    datatype: str  # as the Open Inference Protocol names it
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """Return NumPy's name of the datatype."""
        return _DTYPES[self.datatype]

    def metadata(self) -> dict[str, Any]:
        """Return the tensor as the Open Inference Protocol describes it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def image_tensor(task: Task) -> Tensor:
    """Return the model's input: images in 0..1, with `pen` from 0 (paper) to 1 (ink)."""
    return Tensor("image", "FP32", (-1, *task.input_shape))


def probabilities_tensor(task: Task) -> Tensor:
    """Return the model's output: a probability for each class."""
    return Tensor(PROBABILITIES, "FP32", (-1, len(task.labels)))


def max_images(task: Task) -> int:
    """Return how many images a request to the endpoint may have."""
    height, width, channels = task.input_shape
    return min(_MAX_IMAGES, _MAX_PIXELS // (height * width * channels), _MAX_PROBABILITIES // len(task.labels))


def endpoint_outputs(task: Task) -> list[Tensor]:
    """Return the model's output, and what the endpoint adds: the index of the most likely class, and its label.

    There is no label if the labels are "0", "1", and so on.
    """
    outputs = [Tensor(CLASS, "INT64", (-1,)), probabilities_tensor(task)]
    if task.labels != tuple(map(str, range(len(task.labels)))):
        outputs.append(Tensor(LABEL, "BYTES", (-1,)))
    return outputs


def model_signature(task: Task) -> dict[str, Any]:
    """Return the model's input and output as a manifest states them."""
    tensors = {"inputs": image_tensor(task), "outputs": probabilities_tensor(task)}
    return {side: [tensor.metadata() | {"range": [0, 1]}] for side, tensor in tensors.items()}
