"""What KServe's two REST protocols ask and answer for a digit: the Open Inference protocol (V2), and V1.

V1 is all that KServe's stock TensorFlow runtime speaks: TensorFlow Serving's own REST interface, which tells nothing of
the release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from digits.serving import client

Image = NDArray[np.uint8]  # (28, 28), paper 0 and ink 255
MODEL_FACTS = ("release", "digest", "accuracy", "dataset", "mlflow_run")


@dataclass(frozen=True)
class Question:
    """A request for one image's probabilities."""

    path: str
    body: bytes
    headers: Mapping[str, str]


class NotDigits(Exception):
    """The model takes or gives something else; the message says what."""


class InferenceProtocol(Protocol):
    """One protocol. Reading what is not of it raises KeyError, TypeError, AttributeError or ValueError."""

    def about_path(self, model: str) -> str:
        """Where the model is described."""

    def ready_path(self, model: str) -> str:
        """Where it says whether it is ready."""

    def ask(self, model: str, image: Image) -> Question:
        """The request for an image's probabilities."""

    def probabilities(self, answer: bytes) -> list[float]:
        """What the model answered."""

    def release(self, answer: bytes) -> str:
        """The release that answered a question, "" where the protocol does not say."""

    def about(self, answer: bytes) -> dict[str, Any]:
        """{"name": …} and what is known of MODEL_FACTS. Raises NotDigits too."""

    def ready(self, answer: bytes) -> bool:
        """Whether an answer with status 200 says that it is ready."""


class V2:
    """The Open Inference protocol, with the image as raw bytes behind the JSON."""

    def about_path(self, model: str) -> str:
        """See InferenceProtocol."""
        return f"/v2/models/{model}"

    def ready_path(self, model: str) -> str:
        """See InferenceProtocol."""
        return f"/v2/models/{model}/ready"

    def ask(self, model: str, image: Image) -> Question:
        """See InferenceProtocol."""
        body, headers = client.encode_request(image[None], binary_answer=False)
        return Question(f"/v2/models/{model}/infer", body, headers)

    def probabilities(self, answer: bytes) -> list[float]:
        """See InferenceProtocol."""
        outputs = {output["name"]: output["data"] for output in orjson.loads(answer)["outputs"]}
        return [float(p) for p in outputs["probabilities"]]

    def release(self, answer: bytes) -> str:
        """See InferenceProtocol."""
        return str(orjson.loads(answer).get("model_version") or "")

    def about(self, answer: bytes) -> dict[str, Any]:
        """See InferenceProtocol."""
        said = orjson.loads(answer)
        inputs = [tensor["name"] for tensor in said["inputs"]]
        if inputs != ["image"]:
            raise NotDigits(f"expected one input 'image', it takes {', '.join(map(str, inputs)) or 'none'}")
        parameters = said.get("parameters") or {}
        about = {key: parameters.get(key) for key in MODEL_FACTS} | {"name": said.get("name")}
        about["release"] = about["release"] or (said.get("versions") or [""])[-1]
        return about

    def ready(self, answer: bytes) -> bool:
        """See InferenceProtocol."""
        return b"false" not in answer[:200].lower()


class V1:
    """KServe's V1, in the words of its own servers and in those of TensorFlow Serving."""

    def about_path(self, model: str) -> str:
        """See InferenceProtocol."""
        return f"/v1/models/{model}"

    ready_path = about_path

    def ask(self, model: str, image: Image) -> Question:
        """See InferenceProtocol."""
        pixels = (image[..., None] / np.float32(255)).tolist()
        body = orjson.dumps({"instances": [pixels]})
        return Question(f"/v1/models/{model}:predict", body, {"Content-Type": "application/json"})

    def probabilities(self, answer: bytes) -> list[float]:
        """See InferenceProtocol. A SavedModel with several outputs gives each by its name."""
        (predicted,) = orjson.loads(answer)["predictions"]
        if isinstance(predicted, dict):
            predicted = predicted["probabilities"]
        return [float(p) for p in predicted]

    def release(self, answer: bytes) -> str:
        """See InferenceProtocol. It does not say."""
        del answer
        return ""

    def about(self, answer: bytes) -> dict[str, Any]:
        """See InferenceProtocol. Of the release nothing is told but a number."""
        said = orjson.loads(answer)
        versions = self._available(said)
        return dict.fromkeys(MODEL_FACTS) | {"name": said.get("name"), "release": versions[-1] if versions else ""}

    def ready(self, answer: bytes) -> bool:
        """See InferenceProtocol."""
        said = orjson.loads(answer)
        return str(said.get("ready", "")).lower() == "true" or bool(self._available(said))

    def _available(self, said: Any) -> list[str]:
        states = said.get("model_version_status", [])
        return [str(state["version"]) for state in states if state["state"] == "AVAILABLE"]


PROTOCOLS: tuple[InferenceProtocol, ...] = (V2(), V1())
