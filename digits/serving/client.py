"""A client of the endpoint. It uses Open Inference V2 with raw tensors, the fastest of the endpoint's protocols."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from digits.data.dataset import Images
from digits.errors import EndpointError
from digits.evaluation.threshold import NONE_SURE
from digits.files import parse_json
from digits.http import base_url, bearer, excerpt, request, request_json
from digits.remedies import remedy
from digits.signature import max_images
from digits.tasks.task import BUILT_IN, find

TIMEOUT_SECONDS = 10.0
MAX_IMAGES = max_images(find(BUILT_IN))


@dataclass(frozen=True)
class Answer:
    """A prediction for n images: classes int64 (n,), probabilities float32 (n, 10), and the release that predicted."""

    classes: np.ndarray
    probabilities: np.ndarray
    release: str


def encode_request(images: Images, *, binary_answer: bool) -> tuple[bytes, dict[str, str]]:
    """Return (body, headers) of the V2 request for images uint8 (n, 28, 28), sent as raw bytes after the JSON.

    With `binary_answer` the endpoint returns the outputs as raw bytes too, else as JSON.
    """
    raw = np.ascontiguousarray(images, np.uint8).tobytes()
    tensor = {
        "name": "image",
        "datatype": "UINT8",
        "shape": list(images.shape),
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": binary_answer}}).encode()
    return head + raw, {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}


def predict(endpoint: str, images: Images, *, token: str = "", backend: str = "") -> Answer:
    """Request a prediction for images uint8 (n, 28, 28), 0 (paper) to 255 (ink), from the endpoint at a URL.

    The endpoint accepts MAX_IMAGES per request. If it changes its release between two requests, the answer names both.
    `backend` is the one that serves it, for the remedy of an error.

    Raises:
        UsageError: `endpoint` is no address to which a path can be appended.
        EndpointError: there was no answer within TIMEOUT_SECONDS, or it was not a prediction; the message has its text.
    """
    parts = [images[n : n + MAX_IMAGES] for n in range(0, len(images), MAX_IMAGES)] or [images]
    answers = [_predict(endpoint, part, token, backend) for part in parts]
    return Answer(
        np.concatenate([answer.classes for answer in answers]),
        np.concatenate([answer.probabilities for answer in answers]),
        ", ".join(dict.fromkeys(answer.release for answer in answers)),
    )


def metadata(endpoint: str, *, token: str = "", backend: str = "") -> dict[str, Any]:
    """Return what the endpoint at a URL reports of its release; {} if it reports nothing.

    Raises:
        UsageError: as `predict`.
        EndpointError: there was no answer.
    """
    try:
        answer = request_json(f"{base_url(endpoint)}/v2/models/digits", token=token)
        return dict(answer["parameters"])
    except OSError as exc:
        raise EndpointError(str(exc), remedy=remedy("no answer of the endpoint", backend)) from exc
    except (KeyError, TypeError, ValueError):
        return {}


def sure_from(parameters: Mapping[str, Any]) -> float | None:
    """Return the least probability of a sure answer that a release's metadata state, None if they state none."""
    value: Any = parameters.get("sure_from")
    return float(value) if type(value) in {int, float} and 0.5 <= value <= NONE_SURE else None


def _predict(endpoint: str, images: Images, token: str, backend: str) -> Answer:
    body, headers = encode_request(images, binary_answer=True)
    url = f"{base_url(endpoint)}/v2/models/digits/infer"
    try:
        answer = request(url, body, headers | bearer(token), seconds=TIMEOUT_SECONDS)
    except OSError as exc:
        raise EndpointError(f"{url}: {exc}", remedy=remedy("no answer of the endpoint", backend)) from exc
    content = answer.content
    if answer.status != 200:
        raise EndpointError(
            f"{url}: HTTP {answer.status}: {excerpt(content, token)}",
            remedy="set DIGITS_ENDPOINT_TOKEN" if answer.status in {401, 403} else "digits doctor",
        )
    try:
        size = int(answer.headers.get("Inference-Header-Content-Length", len(content)))
        payload, rest = parse_json(content[:size]), content[size:]
        tensors = {}
        for output in payload["outputs"]:
            dtype = {"INT64": "<i8", "FP32": "<f4"}[output["datatype"]]
            count = output["parameters"]["binary_data_size"]
            tensors[output["name"]] = np.frombuffer(rest[:count], dtype).reshape(output["shape"])
            rest = rest[count:]
        n = len(images)
        classes, probabilities = tensors["class"].reshape(n), tensors["probabilities"].reshape(n, 10)
        return Answer(classes, probabilities, str(payload.get("model_version", "")))
    except (KeyError, TypeError, ValueError) as exc:
        raise EndpointError(
            f"{url}: expected a class and ten probabilities for each image, got {excerpt(content, token)[:80]!r}",
            remedy="give the URL of a digits endpoint; digits doctor shows the local one",
        ) from exc
