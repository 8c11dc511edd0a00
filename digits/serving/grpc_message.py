"""From the bytes of a gRPC message to images. Imported by the predictor alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from kserve.errors import ModelNotFound
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from digits.serving import decode

# Of a message: what is no value of a tensor. Two bytes of it can become ninety when it is decoded.
MOST_BESIDE = 32 * 1024
UNDECODABLE = "the message cannot be decoded"
# By field number, where values are (None): ModelInferRequest's raw_input_contents, and of its inputs' contents those
# of type uint32 and float, packed, as every client sends them.
_VALUES: dict[int, Any] = {7: None, 5: {5: {4: None, 6: None}}}


def read(content: bytes, name: str) -> tuple[str, decode.Pixels]:
    """Id and images of a ModelInferRequest for the model `name`; what was decoded is gone on return.

    Raises:
        ModelNotFound: it asks another model.
        BadRequest: it is malformed.
    """
    _check_beside(memoryview(content), _VALUES, MOST_BESIDE)
    try:
        request = pb.ModelInferRequest.FromString(content)
    except DecodeError:
        raise decode.BadRequest(UNDECODABLE) from None
    if request.model_name != name:
        raise ModelNotFound(request.model_name[:100])
    if len(request.inputs) != 1:
        raise decode.BadRequest(f"expected exactly one input, got {len(request.inputs)}")
    tensor, raw = request.inputs[0], request.raw_input_contents
    if tensor.datatype not in {"FP32", "UINT8"}:
        raise decode.BadRequest(f"expected datatype FP32 (0..1) or UINT8 (0..255), got {tensor.datatype[:100]!r}")
    count = decode.count_of(list(tensor.shape))
    if raw:
        if len(raw) != 1 or tensor.HasField("contents"):
            raise decode.BadRequest("expected either raw_input_contents of one tensor or contents, got both or more")
        return request.id, decode.from_raw(raw[0], tensor.datatype, count)
    values = tensor.contents.fp32_contents if tensor.datatype == "FP32" else tensor.contents.uint_contents
    if len(values) != count * 784:
        raise decode.BadRequest(f"expected {count * 784} numbers for {count} images, got {len(values)}")
    # Not by way of a list, which takes eight times as much.
    return request.id, decode.from_numbers(np.fromiter(values, np.float32, len(values)), tensor.datatype, count)


def _check_beside(content: memoryview, values: dict[int, Any], most: int) -> int:
    """`most` less the bytes of a message that are no values. Raises BadRequest if nothing is left."""
    for number, begun, start, end in _fields(content):
        inner = values.get(number, {})
        most -= (start if inner is None or inner else end) - begun
        if inner:
            most = _check_beside(content[start:end], inner, most)
        if most < 0:
            raise decode.BadRequest(f"expected at most {MOST_BESIDE} bytes beside the tensor's values")
    return most


def _fields(content: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """(number, where it begins, where its content does, where it ends) of the fields of a message of protobuf.

    Raises BadRequest.
    """
    at = 0
    try:
        while at < len(content):
            begun = at
            tag, start = _varint(content, at)
            size = {1: 8, 5: 4}.get(tag & 7, 0)
            if tag & 7 == 2:
                size, start = _varint(content, start)
            elif tag & 7 == 0:
                _, end = _varint(content, start)
                size = end - start
            at = start + size
            yield tag >> 3, begun, start, at
    except IndexError:
        raise decode.BadRequest(UNDECODABLE) from None


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """(number, where it ends). Raises IndexError where it does not end."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise IndexError
