"""Asks an endpoint: Open Inference V2 with raw tensors, the quickest of the protocols that it speaks."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from digits.data.dataset import Images
from digits.errors import EndpointError
from digits.http import ask, bearer

SECONDS = 10.0


@dataclass(frozen=True)
class Answer:
    """What an endpoint says of n images: digits int64 (n,), probabilities float32 (n, 10), and its release."""

    classes: np.ndarray
    probabilities: np.ndarray
    release: str


def question(images: Images, *, binary_answer: bool) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of the V2 request for images uint8 (n, 28, 28), which follow the JSON as raw bytes.

    `binary_answer`: whether the probabilities shall come so too, not as JSON.
    """
    raw = np.ascontiguousarray(images, np.uint8).tobytes()
    tensor = {
        "name": "image",
        "datatype": "UINT8",
        "shape": list(images.shape),
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": binary_answer}}).encode()
    return head + raw, {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }


def predict(endpoint: str, images: Images, *, token: str = "") -> Answer:
    """Ask for the digits of images uint8 (n, 28, 28), 0 paper to 255 ink.

    Args:
        endpoint: its address.
        images: what to recognise.
        token: bearer token, '' for none.

    Raises:
        EndpointError: it did not answer, or not rightly; carries its own words.
    """
    body, headers = question(images, binary_answer=True)
    url = f"{endpoint.rstrip('/')}/v2/models/digits/infer"
    try:
        answer = ask(url, body, headers | bearer(token), seconds=SECONDS)
    except OSError as exc:
        raise EndpointError(f"{url}: {exc}", remedy="digits up, or digits doctor") from exc
    content = answer.content
    if answer.status != 200:
        raise EndpointError(
            f"{url}: HTTP {answer.status}: {content[:200].decode(errors='replace')}",
            remedy="set DIGITS_ENDPOINT_TOKEN" if answer.status in {401, 403} else "digits doctor",
        )
    try:
        size = int(answer.headers.get("Inference-Header-Content-Length", len(content)))
        said, rest = json.loads(content[:size]), content[size:]
        tensors = {}
        for output in said["outputs"]:
            dtype = {"INT64": "<i8", "FP32": "<f4"}[output["datatype"]]
            count = output["parameters"]["binary_data_size"]
            tensors[output["name"]] = np.frombuffer(rest[:count], dtype).reshape(output["shape"])
            rest = rest[count:]
        n = len(images)
        classes, probabilities = tensors["class"].reshape(n), tensors["probabilities"].reshape(n, 10)
        return Answer(classes, probabilities, said.get("model_version", ""))
    except (KeyError, TypeError, ValueError) as exc:
        raise EndpointError(
            f"{url}: expected a class and ten probabilities for each image, got {content[:80]!r}",
            remedy="give the address of an endpoint of ours; digits doctor names the one here",
        ) from exc
