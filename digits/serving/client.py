"""A client of the endpoint. It uses Open Inference V2 with raw tensors, the fastest of the endpoint's protocols."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from digits.data.dataset import Images
from digits.errors import EndpointError, UsageError
from digits.evaluation.threshold import NONE_SURE
from digits.files import parse_json
from digits.http import base_url, bearer, excerpt, request, request_json, tls_remedy
from digits.remedies import remedy
from digits.settings import Settings
from digits.signature import CLASS, LABEL, PROBABILITIES, max_images
from digits.tasks.task import Task, find

TIMEOUT_SECONDS = 10.0
MAX_TASK = 50_000  # letters of a task's text: more than the longest labels have


@dataclass(frozen=True)
class Answer:
    """A prediction for n images, and the release that predicted."""

    classes: np.ndarray  # int64 (n,)
    labels: list[str]  # of the classes
    probabilities: np.ndarray  # float32 (n, number of labels)
    release: str


def encode_request(images: Images, *, binary_answer: bool) -> tuple[bytes, dict[str, str]]:
    """Return (body, headers) of the V2 request for images uint8 (n, *task.shape), sent as raw bytes after the JSON.

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


def predict(endpoint: str, images: Images, settings: Settings | None = None, *, task: Task | None = None) -> Answer:
    """Request a prediction for images uint8 (n, *task.shape) from the endpoint of a task at a URL.

    The default task is that of the settings. More than `max_images(task)` images are sent as several requests; if the
    endpoint changes its release between two of them, the answer names both. The settings have the token, and the
    backend and the namespace that serve the endpoint, for the remedy of an error.

    Raises:
        UsageError: `endpoint` is no address to which a path can be appended.
        EndpointError: there was no answer within TIMEOUT_SECONDS, or it was not a prediction; the message has its text.
    """
    settings = settings or Settings()
    task = task or settings.declaration
    most = max_images(task)
    parts = [images[n : n + most] for n in range(0, len(images), most)] or [images]
    answers = [_predict(endpoint, part, settings, task) for part in parts]
    return Answer(
        np.concatenate([answer.classes for answer in answers]),
        [label for answer in answers for label in answer.labels],
        np.concatenate([answer.probabilities for answer in answers]),
        ", ".join(dict.fromkeys(answer.release for answer in answers)),
    )


def metadata(endpoint: str, settings: Settings) -> dict[str, Any]:
    """Return what the endpoint at a URL reports of the release of the settings' task; {} if it reports nothing.

    Raises:
        UsageError: as `predict`.
        EndpointError: there was no answer.
    """
    name = settings.declaration.name
    try:
        answer = request_json(f"{base_url(endpoint)}/v2/models/{name}", token=settings.endpoint_token)
        return dict(answer["parameters"])
    except OSError as exc:
        raise EndpointError(str(exc), remedy=tls_remedy(exc) or _advice(settings, name)) from exc
    except (KeyError, TypeError, ValueError):
        return {}


def sure_from(parameters: Mapping[str, Any]) -> float | None:
    """Return the least probability of a sure answer that a release's metadata state, None if they state none."""
    value: Any = parameters.get("sure_from")
    return float(value) if type(value) in {int, float} and 0.5 <= value <= NONE_SURE else None


def task_of(parameters: Mapping[str, Any]) -> Task | None:
    """Return the task that a release's metadata state, None if they state none.

    Only the text of a task is read, never a file, because the endpoint may be another one than expected.

    Raises:
        EndpointError: it is not the text of a task.
    """
    text: Any = parameters.get("task")
    if text is None:
        return None
    if not isinstance(text, str) or not text.startswith("{") or len(text) > MAX_TASK:
        raise EndpointError(f"expected the text of a task, with at most {MAX_TASK} letters, in the endpoint's metadata")
    try:
        return find(text).of_model()
    except UsageError as exc:
        raise EndpointError(f"the endpoint's metadata: {exc.message[:200]}", remedy="digits doctor") from exc


def _advice(settings: Settings, name: str) -> str:
    """Return the remedy for an endpoint of the model `name` that does not answer."""
    return remedy("no answer of the endpoint", settings.backend, namespace=settings.namespace, name=name)


def _predict(endpoint: str, images: Images, settings: Settings, task: Task) -> Answer:
    token = settings.endpoint_token
    body, headers = encode_request(images, binary_answer=True)
    url = f"{base_url(endpoint)}/v2/models/{task.name}/infer"
    try:
        answer = request(url, body, headers | bearer(token), seconds=TIMEOUT_SECONDS)
    except OSError as exc:
        raise EndpointError(f"{url}: {exc}", remedy=tls_remedy(exc) or _advice(settings, task.name)) from exc
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
            count = output["parameters"]["binary_data_size"]
            tensors[output["name"]] = _values(output["datatype"], rest[:count])
            rest = rest[count:]
        n = len(images)
        classes, probabilities = tensors[CLASS].reshape(n), tensors[PROBABILITIES].reshape(n, len(task.labels))
        # Not so if they are no numbers. Other servers' softmax may round to a little more than 1.
        if not ((probabilities >= 0) & (probabilities < 1.001)).all():
            raise ValueError("expected probabilities from 0 to 1")
        labels = tensors.get(LABEL, classes.astype(str)).reshape(n).tolist()
        if LABEL in tensors and labels != [task.labels[index] for index in classes]:
            first = excerpt(str(labels[0]).encode(), token)[:80]
            raise EndpointError(
                f"{url}: expected the labels of the task {task.name}, got {first!r}",
                remedy="repeat the command, because the release has changed",
            )
        return Answer(classes, labels, probabilities, str(payload.get("model_version", "")))
    except (LookupError, TypeError, ValueError) as exc:
        raise EndpointError(
            f"{url}: expected a class and {len(task.labels)} probabilities for each image, "
            f"got {excerpt(content, token)[:80]!r}",
            remedy="give the URL of a digits endpoint; digits doctor shows the local one",
        ) from exc


def _values(datatype: str, content: bytes) -> np.ndarray:
    """Return a raw tensor's values (n,). Raises KeyError for another datatype, ValueError for other content."""
    if datatype != "BYTES":
        return np.frombuffer(content, {"INT64": "<i8", "FP32": "<f4"}[datatype])
    texts, start = [], 0
    while start < len(content):  # each text follows its length in four bytes
        end = start + 4 + int.from_bytes(content[start : start + 4], "little")
        texts.append(content[start + 4 : end].decode())
        start = end
    return np.asarray(texts, object)  # `str` would give each text the length of the longest
