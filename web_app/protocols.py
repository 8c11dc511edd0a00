"""Requests and responses of KServe's two REST protocols for one image: Open Inference (V2), and V1.

KServe's stock TensorFlow runtime supports only V1: TensorFlow Serving's REST API, which does not describe the release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from digits.serving import client

Image = NDArray[np.uint8]  # (28, 28), 0 (paper) to 255 (ink)
MODEL_FIELDS = ("release", "digest", "accuracy", "dataset", "mlflow_run")


@dataclass(frozen=True)
class PredictRequest:
    """A request for the probabilities of one image."""

    path: str
    body: bytes
    headers: Mapping[str, str]


class NotDigits(Exception):
    """The model's inputs are not those of a digits model; the message names them."""


class InferenceProtocol(Protocol):
    """An inference protocol. Parsing another protocol's body raises KeyError, TypeError, AttributeError or ValueError.

    >>> v2, v1 = PROTOCOLS
    >>> v2.encode_request("digits", np.zeros((28, 28), np.uint8)).path
    '/v2/models/digits/infer'
    >>> v1.parse_probabilities(b'{"predictions": [[0.25, 0.75]]}')
    [0.25, 0.75]
    """

    def metadata_path(self, model: str) -> str:
        """Return the path of the model's metadata."""

    def ready_path(self, model: str) -> str:
        """Return the path of the model's readiness."""

    def encode_request(self, model: str, image: Image) -> PredictRequest:
        """Return the request for the probabilities of an image."""

    def parse_probabilities(self, body: bytes) -> list[float]:
        """Return the probabilities of a prediction."""

    def parse_release(self, body: bytes) -> str:
        """Return the release that predicted; empty if the protocol does not state it."""

    def parse_metadata(self, body: bytes) -> dict[str, Any]:
        """Return "name" and MODEL_FIELDS, None if unknown. Raises NotDigits."""

    def parse_ready(self, body: bytes) -> bool:
        """Return whether a readiness response with status 200 reports that the model is ready."""


class _V2:
    """Open Inference V2, with the image as raw bytes after the JSON."""

    def metadata_path(self, model: str) -> str:
        return f"/v2/models/{model}"

    def ready_path(self, model: str) -> str:
        return f"/v2/models/{model}/ready"

    def encode_request(self, model: str, image: Image) -> PredictRequest:
        body, headers = client.encode_request(image[None], binary_answer=False)
        return PredictRequest(f"/v2/models/{model}/infer", body, headers)

    def parse_probabilities(self, body: bytes) -> list[float]:
        outputs = {output["name"]: output["data"] for output in orjson.loads(body)["outputs"]}
        return [float(p) for p in outputs["probabilities"]]

    def parse_release(self, body: bytes) -> str:
        return str(orjson.loads(body).get("model_version") or "")

    def parse_metadata(self, body: bytes) -> dict[str, Any]:
        payload = orjson.loads(body)
        inputs = [tensor["name"] for tensor in payload["inputs"]]
        if inputs != ["image"]:
            raise NotDigits(f"expected one input 'image', got {', '.join(map(str, inputs)) or 'none'}")
        parameters = payload.get("parameters") or {}
        metadata = {key: parameters.get(key) for key in MODEL_FIELDS} | {"name": payload.get("name")}
        metadata["release"] = metadata["release"] or (payload.get("versions") or [""])[-1]
        return metadata

    def parse_ready(self, body: bytes) -> bool:
        return b"false" not in body[:200].lower()


class _V1:
    """V1, in the variants of KServe's own servers and of TensorFlow Serving. Its metadata has only a version."""

    def metadata_path(self, model: str) -> str:
        return f"/v1/models/{model}"

    ready_path = metadata_path

    def encode_request(self, model: str, image: Image) -> PredictRequest:
        pixels = (image[..., None] / np.float32(255)).tolist()
        body = orjson.dumps({"instances": [pixels]})
        return PredictRequest(f"/v1/models/{model}:predict", body, {"Content-Type": "application/json"})

    def parse_probabilities(self, body: bytes) -> list[float]:
        (predicted,) = orjson.loads(body)["predictions"]
        if isinstance(predicted, dict):  # a SavedModel with several outputs returns them by name
            predicted = predicted["probabilities"]
        return [float(p) for p in predicted]

    def parse_release(self, body: bytes) -> str:
        del body
        return ""  # V1 does not state the release

    def parse_metadata(self, body: bytes) -> dict[str, Any]:
        payload = orjson.loads(body)
        versions = self._available(payload)
        return dict.fromkeys(MODEL_FIELDS) | {"name": payload.get("name"), "release": versions[-1] if versions else ""}

    def parse_ready(self, body: bytes) -> bool:
        payload = orjson.loads(body)
        return str(payload.get("ready", "")).lower() == "true" or bool(self._available(payload))

    def _available(self, payload: Any) -> list[str]:
        states = payload.get("model_version_status", [])
        return [str(state["version"]) for state in states if state["state"] == "AVAILABLE"]


PROTOCOLS: tuple[InferenceProtocol, ...] = (_V2(), _V1())
