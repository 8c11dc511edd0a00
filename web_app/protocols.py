"""Requests and responses of KServe's two REST protocols for images: Open Inference (V2), and V1.

KServe's stock TensorFlow runtime supports only V1: TensorFlow Serving's REST API, which does not describe the release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
import orjson
from numpy.typing import NDArray

from digits.errors import EndpointError
from digits.serving import client

Images = NDArray[np.uint8]  # (n, height, width), or (n, height, width, 3) in colour
Probabilities = list[list[float]]  # one for each label, for each image
MODEL_FIELDS = ("release", "digest", "accuracy", "dataset", "mlflow_run", "sure_from")
MAX_TEXT = 200  # letters of a text from the endpoint


@dataclass(frozen=True)
class PredictRequest:
    """A request for the probabilities of images."""

    path: str
    body: bytes
    headers: Mapping[str, str]


class OtherModel(Exception):
    """The model's inputs, or its task, are not those of a model of ours; the message names them."""


# What parsing a body of another form raises.
MALFORMED = (LookupError, TypeError, ValueError, AttributeError)


class InferenceProtocol(Protocol):
    """An inference protocol. Parsing a body of another form raises MALFORMED.

    >>> v2, v1 = PROTOCOLS
    >>> v2.encode_request("digits", np.zeros((1, 28, 28), np.uint8)).path
    '/v2/models/digits/infer'
    >>> v1.parse_prediction(b'{"predictions": [[0, 1, 0]]}', 1, 3)[0][0].index(1)
    1
    """

    def metadata_path(self, model: str) -> str:
        """Return the path of the model's metadata."""

    def ready_path(self, model: str) -> str:
        """Return the path of the model's readiness."""

    def encode_request(self, model: str, images: Images) -> PredictRequest:
        """Return the request for the probabilities of images."""

    def parse_prediction(self, body: bytes, count: int, labels: int) -> tuple[Probabilities, str]:
        """Return the probabilities of so many labels for `count` images, and the release that predicted them.

        The release is empty if the protocol does not state it.
        """

    def parse_metadata(self, body: bytes) -> dict[str, Any]:
        """Return "name", MODEL_FIELDS, the release's "signature" and its "task" (a Task), None if unknown.

        Raises:
            OtherModel: the model is not one of ours.
        """

    def parse_ready(self, body: bytes) -> bool:
        """Return whether a readiness response with status 200 reports that the model is ready."""


class _V2:
    """Open Inference V2, with the images as raw bytes after the JSON."""

    def metadata_path(self, model: str) -> str:
        return f"/v2/models/{quote(model, safe='')}"

    def ready_path(self, model: str) -> str:
        return f"{self.metadata_path(model)}/ready"

    def encode_request(self, model: str, images: Images) -> PredictRequest:
        body, headers = client.encode_request(images, binary_answer=False)
        return PredictRequest(f"{self.metadata_path(model)}/infer", body, headers)

    def parse_prediction(self, body: bytes, count: int, labels: int) -> tuple[Probabilities, str]:
        payload = orjson.loads(body)
        values = {output["name"]: output["data"] for output in payload["outputs"]}["probabilities"]
        rows = [values[start : start + labels] for start in range(0, len(values), labels)]
        return _probabilities(rows, count, labels), _text(payload.get("model_version")) or ""

    def parse_metadata(self, body: bytes) -> dict[str, Any]:
        payload = orjson.loads(body)
        inputs = [tensor["name"] for tensor in payload["inputs"]]
        if inputs != ["image"]:
            raise OtherModel(f"expected one input 'image', got {', '.join(map(str, inputs))[:MAX_TEXT] or 'none'}")
        parameters = payload.get("parameters") or {}
        metadata: dict[str, Any] = {key: _text(parameters.get(key)) for key in MODEL_FIELDS}
        accuracy = parameters.get("accuracy")
        metadata["accuracy"] = accuracy if type(accuracy) in {int, float} else None
        metadata["sure_from"] = client.sure_from(parameters)
        metadata["release"] = metadata["release"] or _text((payload.get("versions") or [""])[-1])
        metadata["signature"] = parameters.get("signature")
        try:
            metadata["task"] = client.task_of(parameters)
        except EndpointError as exc:
            raise OtherModel(exc.message) from exc
        return metadata | {"name": _text(payload.get("name"))}

    def parse_ready(self, body: bytes) -> bool:
        # The protocol needs only the status 200; KServe adds {"ready": true}.
        return not body.strip() or str(orjson.loads(body).get("ready", True)).lower() == "true"


class _V1:
    """V1, in the variants of KServe's own servers and of TensorFlow Serving. Its metadata has only a version."""

    def metadata_path(self, model: str) -> str:
        return f"/v1/models/{quote(model, safe='')}"

    ready_path = metadata_path

    def encode_request(self, model: str, images: Images) -> PredictRequest:
        inputs = images[..., None] if images.ndim == 3 else images
        body = orjson.dumps({"instances": (inputs / np.float32(255)).tolist()})
        return PredictRequest(f"{self.metadata_path(model)}:predict", body, {"Content-Type": "application/json"})

    def parse_prediction(self, body: bytes, count: int, labels: int) -> tuple[Probabilities, str]:
        rows = orjson.loads(body)["predictions"]
        # A SavedModel with several outputs returns them by name.
        rows = [row["probabilities"] if isinstance(row, dict) else row for row in rows]
        return _probabilities(rows, count, labels), ""

    def parse_metadata(self, body: bytes) -> dict[str, Any]:
        payload = orjson.loads(body)
        versions = self._available(payload)
        release = _text(versions[-1]) if versions else ""
        unknown = dict.fromkeys((*MODEL_FIELDS, "signature", "task"))
        return unknown | {"name": _text(payload.get("name")), "release": release}

    def parse_ready(self, body: bytes) -> bool:
        payload = orjson.loads(body)
        return str(payload.get("ready", "")).lower() == "true" or bool(self._available(payload))

    def _available(self, payload: Any) -> list[str]:
        states = payload.get("model_version_status", [])
        return [str(state["version"]) for state in states if state["state"] == "AVAILABLE"]


def _text(value: Any) -> str | None:
    """Return a text of the endpoint that visitors may see, or None if it is another type or too long."""
    return value if isinstance(value, str) and len(value) <= MAX_TEXT else None


def _probabilities(rows: list[Any], count: int, labels: int) -> Probabilities:
    """Return a probability per label for each of `count` images. Raises ValueError if `rows` are something else."""
    if len(rows) != count or any(len(row) != labels for row in rows):
        raise ValueError(f"expected {labels} probabilities for each image")
    if not all(type(p) in {int, float} and 0 <= p <= 1 for row in rows for p in row):
        raise ValueError("expected probabilities from 0 to 1")
    return [[float(p) for p in row] for row in rows]


PROTOCOLS: tuple[InferenceProtocol, ...] = (_V2(), _V1())
