"""The model's inputs and outputs, for the export, the manifest, MLflow and the endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_DTYPES = {"FP32": "float32", "INT64": "int64"}


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


IMAGE = Tensor("image", "FP32", (-1, 28, 28, 1))  # from 0 (paper) to 1 (ink)
PROBABILITIES = Tensor("probabilities", "FP32", (-1, 10))
CLASS = Tensor("class", "INT64", (-1,))  # the most likely class, added by the endpoint

MAX_IMAGES = 1024  # per request to the endpoint
ENDPOINT_INPUTS = [IMAGE.metadata()]
ENDPOINT_OUTPUTS = [CLASS.metadata(), PROBABILITIES.metadata()]
MODEL_SIGNATURE = {  # as a manifest states it
    "inputs": [IMAGE.metadata() | {"range": [0, 1]}],
    "outputs": [PROBABILITIES.metadata() | {"range": [0, 1]}],
}
