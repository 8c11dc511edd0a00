"""The REST protocols of the endpoint: where each is spoken, and how it answers a prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from digits.serving import decode
from digits.serving.slot import Loaded

Headers = list[tuple[bytes, bytes]]  # names in small letters
JSON = (b"content-type", b"application/json")


@dataclass(frozen=True)
class Protocol:
    """How predictions are asked for.

    `path`: where, with {name} for the model's. `answer`: from the release that is served, the model's name, the
    request's headers and its body to (number of images, headers, body); raises BadRequest.
    """

    path: str
    answer: Callable[[Loaded, str, Headers, bytes], tuple[int, Headers, bytes]]


def _v1(loaded: Loaded, name: str, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
    del name, headers
    pixels = decode.v1(body)
    return len(pixels), [JSON], decode.v1_answer(loaded.run(pixels))


def _v2(loaded: Loaded, name: str, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
    length = next((value for key, value in headers if key == b"inference-header-content-length"), None)
    pixels, request = decode.v2(body, length.decode("latin-1") if length is not None else None)
    content, head = decode.v2_answer(loaded.run(pixels), request, name, loaded.version)
    if head is None:
        return len(pixels), [JSON], content
    binary = [(b"content-type", b"application/octet-stream"), (b"inference-header-content-length", b"%d" % head)]
    return len(pixels), binary, content


# By the name that the metrics show.
PROTOCOLS = {
    "v1": Protocol("/v1/models/{name}:predict", _v1),
    "v2": Protocol("/v2/models/{name}/infer", _v2),
}
