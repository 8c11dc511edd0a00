"""The size of a ModelInferRequest's parts, measured before protobuf decodes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from digits.serving.decode import BadRequest

MAX_OVERHEAD = 32 * 1024  # bytes per request outside tensor values; decoded, they can take 45 times the memory
UNDECODABLE = "the message cannot be decoded"
# The fields of a ModelInferRequest that hold tensor values (None), as nested field numbers: raw_input_contents, and the
# contents of type uint32 and float of the inputs, which every client sends packed.
_VALUE_FIELDS: dict[int, Any] = {7: None, 5: {5: {4: None, 6: None}}}


def check_overhead(content: memoryview) -> None:
    """Raise BadRequest if a message has more than MAX_OVERHEAD bytes outside tensor values, or is malformed."""
    _remaining(content, _VALUE_FIELDS, MAX_OVERHEAD)


def _remaining(content: memoryview, value_fields: dict[int, Any], remaining: int) -> int:
    """Subtract the bytes outside tensor values from `remaining`, and return it. Raises BadRequest if it is negative."""
    for number, field_start, start, end in _fields(content):
        inner = value_fields.get(number, {})
        remaining -= (start if inner is None or inner else end) - field_start
        if inner:
            remaining = _remaining(content[start:end], inner, remaining)
        if remaining < 0:
            raise BadRequest(f"expected at most {MAX_OVERHEAD} bytes outside the tensor's values")
    return remaining


def _fields(content: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Yield (number, start, start of the content, end) of each field of a protobuf message. Raises BadRequest."""
    at = 0
    try:
        while at < len(content):
            field_start = at
            tag, start = _varint(content, at)
            size = {1: 8, 5: 4}.get(tag & 7, 0)
            if tag & 7 == 2:
                size, start = _varint(content, start)
            elif tag & 7 == 0:
                _, end = _varint(content, start)
                size = end - start
            at = start + size
            yield tag >> 3, field_start, start, at
    except IndexError:
        raise BadRequest(UNDECODABLE) from None


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """Return (value, end) of the varint at `at`. Raises IndexError if it does not end."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise IndexError
