"""The REST protocols of the endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from digits.serving import decode
from digits.serving.decode import BadRequest, Pixels
from digits.serving.listener import JSON
from digits.serving.slot import LoadedModel
from digits.signature import CLASS, LABEL, PROBABILITIES

Headers = list[tuple[str, str]]  # names in lower case
Output = tuple[str, list[int], NDArray[Any] | list[str]]  # datatype, shape, values
BINARY = ("content-type", "application/octet-stream")
MAX_ID = 1024  # characters of a request's id, which the response repeats


@dataclass(frozen=True)
class Protocol:
    """A REST protocol for predictions.

    `path` contains {name}, the model's name. `answer` gets the model, its name, the request's headers and its body. It
    returns (number of images, the response's headers and body), or raises BadRequest:

    >>> from digits.tasks.task import find
    >>> def answer(model, name, headers, body):
    ...     pixels = model.decoder.from_raw(body, "UINT8", count=1)
    ...     return 1, [JSON], orjson.dumps(model.run(pixels).argmax(1).tolist())
    >>> protocol = Protocol("/raw/{name}", answer)
    >>> manifest = {"version": "1", "task": find("digits").text()}
    >>> three = LoadedModel(manifest, lambda pixels: np.eye(10, dtype=np.float32)[[3]])
    >>> protocol.answer(three, "digits", {}, bytes(784))
    (1, [('content-type', 'application/json')], b'[3]')
    """

    path: str
    answer: Callable[[LoadedModel, str, Mapping[str, str], bytes], tuple[int, Headers, bytes]]


def _v1(model: LoadedModel, name: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Headers, bytes]:
    del name, headers
    pixels = model.decoder.v1(body)
    return len(pixels), [JSON], encode_v1(model.run(pixels))


def _v2(model: LoadedModel, name: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Headers, bytes]:
    length = "inference-header-content-length"
    # Several values are not a length (RFC 9110 5.3), nor are those with other characters than ASCII, which RSGI omits.
    stated = ",".join(cast(Any, headers).get_all(length)) if length in headers else None
    pixels, request = model.decoder.v2(body, stated)
    content, head = encode_v2(model, model.run(pixels), request, name)
    if head is None:
        return len(pixels), [JSON], content
    return len(pixels), [BINARY, (length, str(head))], content


# The keys are the values of the metrics' label `protocol`.
PROTOCOLS = {
    "v1": Protocol("/v1/models/{name}:predict", _v1),
    "v2": Protocol("/v2/models/{name}/infer", _v2),
}


def encode_v1(probabilities: Pixels) -> bytes:
    """Return the body `{"predictions": rows of probabilities}`, as TensorFlow Serving answers."""
    return b'{"predictions":' + orjson.dumps(probabilities, option=orjson.OPT_SERIALIZE_NUMPY) + b"}"


def outputs_of(model: LoadedModel, probabilities: Pixels) -> dict[str, Output]:
    """Return the outputs of a prediction by their names, in the order of `model.outputs`; numbers are little-endian."""
    count, classes = len(probabilities), probabilities.argmax(1)
    outputs: dict[str, Output] = {
        CLASS: ("INT64", [count], classes.astype("<i8")),
        PROBABILITIES: ("FP32", [*probabilities.shape], np.ascontiguousarray(probabilities, "<f4")),
    }
    if LABEL in model.outputs:
        outputs[LABEL] = "BYTES", [count], [model.task.labels[n] for n in classes]
    return outputs


def raw_bytes(values: NDArray[Any] | list[str]) -> bytes:
    """Return an output's values as raw bytes. In the Open Inference Protocol a text follows its length (4 bytes)."""
    if isinstance(values, np.ndarray):
        return values.tobytes()
    texts = [text.encode() for text in values]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def encode_v2(
    model: LoadedModel, probabilities: Pixels, request: dict[str, Any], name: str
) -> tuple[bytes, int | None]:
    """Return (body, length of its JSON or None if no raw tensors follow it) with the outputs that `request` selects.

    Raises:
        BadRequest: `request` selects an unknown output, or has a long id, or has parameters or an id of a wrong type.
    """
    tensors = outputs_of(model, probabilities)
    binary = bool(decode.parameters(request).get("binary_data_output"))
    outputs, raw = [], []
    for output, as_bytes in _selected_outputs(request.get("outputs"), tensors, binary).items():
        datatype, shape, values = tensors[output]
        tensor: dict[str, Any] = {"name": output, "datatype": datatype, "shape": shape}
        if as_bytes:
            raw.append(raw_bytes(values))
            tensor["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            tensor["data"] = values.reshape(-1) if isinstance(values, np.ndarray) else values
        outputs.append(tensor)
    response: dict[str, Any] = {"model_name": name, "model_version": model.version, "outputs": outputs}
    if (request_id := request.get("id")) is not None:
        if not isinstance(request_id, str) or len(request_id) > MAX_ID:
            raise BadRequest(f"expected an id of at most {MAX_ID} characters, got {decode.shown(request_id)}")
        response["id"] = request_id
    head = orjson.dumps(response, option=orjson.OPT_SERIALIZE_NUMPY)
    return head + b"".join(raw), len(head) if raw else None


def _selected_outputs(outputs: Any, tensors: dict[str, Any], binary: bool) -> dict[str, bool]:
    """Return {output name: whether as raw bytes} of the outputs that a request selects, by default all."""
    if outputs is None or outputs == []:
        return dict.fromkeys(tensors, binary)
    selected = {}
    for output in outputs if isinstance(outputs, list) else [None]:
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(output, dict) or not isinstance(name, str) or name not in tensors:
            raise BadRequest(f"expected outputs among {', '.join(tensors)}, got {decode.shown(output)}")
        wanted = decode.parameters(output).get("binary_data")
        selected[name] = binary if wanted is None else wanted
    return selected
