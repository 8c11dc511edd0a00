"""Decode requests of KServe V1 (`instances`) and Open Inference V2 (JSON, or JSON followed by raw tensors) to images.

Images are float32 (n, height, width, channels) in 0..1; with `pen`, from 0 (paper) to 1 (ink). A request's datatype
gives the range of its values: FP32 is 0..1, UINT8 is 0..255.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import reprlib
import struct
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from digits.signature import max_images

if TYPE_CHECKING:
    from digits.tasks.task import Task

Pixels = NDArray[np.float32]

# Quotes, colons and braces per JSON body. A request has some forty; decoded, an object takes many times its text.
MAX_FIELDS = 1000
# Those that describe raw tensors after the JSON, of a request, an input and an output. Others are ignored.
PARAMETERS = {"binary_data_output": bool, "binary_data_size": int, "binary_data": bool}
_SPACE = b" \t\r\n"
_NUMBER = b"0123456789.eE+-"
# Codes of bytes. Neighbours differ by 1 only where a number precedes "[" or follows "]", which is not JSON.
_CODES = bytes.maketrans(b"]," + _NUMBER + b"[", bytes([255, 100]) + bytes(len(_NUMBER)) + b"\1")


class BadRequest(ValueError):
    """A malformed request. The message states what was expected and what was received."""


class Decoder:
    """The decoding of requests for a task, within limits that follow from the size of its images."""

    def __init__(self, task: Task) -> None:
        height, width, channels = task.input_shape
        self._input_shape = task.input_shape
        self._size = height * width * channels  # numbers of an image
        self.max_images = max_images(task)
        # Commas and brackets per JSON body: as many as max_images images can have. Parsing more could exhaust the
        # memory.
        self.max_values = 2 * self.max_images * (self._size + height + 1) + 1000
        nested = [[height, width], [height, width, 1]] if channels == 1 else [[height, width, channels]]
        self._nested, self._shapes = nested, [*nested, [self._size]]
        self._images = f"images of {' x '.join(map(str, task.shape))} numbers"
        self._range = "from 0 (paper) to 1 (ink)" if task.reading == "pen" else "from 0 (black) to 1 (white)"

    def v1(self, body: bytes) -> Pixels:
        """Return the images of a V1 request `{"instances": ...}`, nested lists of numbers in 0..1.

        Raises:
            BadRequest: the request is malformed.
        """
        fast = self._flat_v1(body)
        return fast if fast is not None else self._slow_v1(body)

    def _flat_v1(self, body: bytes) -> Pixels | None:
        """Return the images of a request in the usual layout, decoded without nested lists; None for any other.

        Only a single array whose brackets and commas are exactly those of n images is accepted; it is parsed as one
        flat list of numbers. `_slow_v1` decodes all other requests, and reports what is wrong with them.
        """
        start, end = body.find(b"["), body.rfind(b"]") + 1
        if not 0 < start < end:
            return None
        array = body[start:end]
        codes = np.frombuffer(array.translate(_CODES, _SPACE), np.uint8)
        if b"\1" in (codes[1:] - codes[:-1]).tobytes():
            return None
        skeleton = array.translate(None, _NUMBER + _SPACE)
        for size, most in self._skeletons:
            count = (len(skeleton) - 1) // size
            if 0 < count <= self.max_images and len(skeleton) == count * size + 1 and most.startswith(skeleton[:-1]):
                try:
                    # The array is that of `instances`: it has no quotes, so it is not within a text.
                    if self._json(body[:start] + b"[]" + body[end:]).get("instances") != []:
                        return None
                    numbers = orjson.loads(b"[" + array.translate(None, b"[]") + b"]")
                    # Through `struct`, which is twice as fast as np.asarray(numbers).
                    floats = np.frombuffer(struct.pack(f"{len(numbers)}d", *numbers))
                    return self._in_range(_floats(floats).reshape(count, *self._input_shape))
                except (struct.error, ValueError, OverflowError):
                    return None
        return None

    @cached_property
    def _skeletons(self) -> list[tuple[int, bytes]]:
        """Return (bytes per image, the brackets and commas of max_images images without the last) for each nesting."""
        height, width, channels = self._input_shape
        skeletons = []
        for pixel in (b"", b"[]") if channels == 1 else (b"[" + b"," * (channels - 1) + b"]",):
            row = b"[" + b",".join([pixel] * width) + b"],"
            image = b"[" + (row * height)[:-1] + b"],"
            skeletons.append((len(image), b"[" + image * self.max_images))
        return skeletons

    def _slow_v1(self, body: bytes) -> Pixels:
        request = self._json(body)
        instances = request.get("instances")
        if not isinstance(instances, list):
            raise BadRequest(f'expected {{"instances": [...]}} with a list of images, got {_kind(instances)}')
        array = self._array(instances, "instances")
        if list(array.shape[1:]) not in self._nested or not 0 < len(array) <= self.max_images:
            raise BadRequest(
                f"instances: expected {self._images}, shape {_listed(self._nested, '(n, {})')} with n from 1 to "
                f"{self.max_images}, got {array.shape}"
            )
        return self._in_range(array.reshape(len(array), *self._input_shape))

    def v2(self, body: bytes, header_length: str | None) -> tuple[Pixels, dict[str, Any]]:
        """Return (images, the request's JSON) of a V2 request.

        `header_length` is the header Inference-Header-Content-Length: the bytes of JSON before the raw tensors.

        Raises:
            BadRequest: the request is malformed.
        """
        raw = b""
        if header_length is not None:
            short = len(header_length) < 12  # because int() raises ValueError for thousands of digits
            if not (short and header_length.isascii() and header_length.isdigit() and int(header_length) <= len(body)):
                raise BadRequest(
                    f"Inference-Header-Content-Length: expected a number up to {len(body)}, got {header_length[:20]!r}"
                )
            body, raw = body[: int(header_length)], body[int(header_length) :]
        request = self._json(body)
        inputs = request.get("inputs")
        if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
            raise BadRequest("expected exactly one input, {name, shape, datatype, data}")
        tensor = inputs[0]
        if not isinstance(name := tensor.get("name"), str | None):
            raise BadRequest(f"expected an input's name as text, got {shown(name)}")
        datatype, shape = tensor.get("datatype"), tensor.get("shape")
        if datatype not in ("FP32", "UINT8"):  # a tuple, because `datatype` may not be hashable
            raise BadRequest(f"expected datatype FP32 (0..1) or UINT8 (0..255), got {shown(datatype)}")
        count = self.parse_count(shape)
        size = parameters(tensor).get("binary_data_size")
        if (size is None) != ("data" in tensor) or (size is None and raw):
            raise BadRequest(
                "expected an input with either data, or parameters.binary_data_size and bytes after the JSON"
            )
        if size is not None:
            return self.from_raw(raw, datatype, count, size), request
        values = tensor["data"] if isinstance(tensor["data"], list) else []
        # UINT8 in double precision, in which 254.99999999 is no whole number.
        numbers = self._array(values, "data", np.float32 if datatype == "FP32" else np.float64)
        if numbers.ndim > 1 and [*numbers.shape] not in [[count, *shape] for shape in self._shapes]:
            raise BadRequest(f"data: expected a flat list or lists of the input's shape, got shape {numbers.shape}")
        return self.from_numbers(numbers.reshape(-1), datatype, count), request

    def from_raw(self, raw: bytes, datatype: str, count: int, size: Any = None) -> Pixels:
        """Return the images of a raw little-endian tensor of type FP32 or UINT8. Raises BadRequest.

        `size` is the number of bytes that the request states, if any.
        """
        expected = count * self._size * (4 if datatype == "FP32" else 1)
        if len(raw) != expected or (size is not None and size != expected):
            stated = "" if size is None else f" (binary_data_size {shown(size)})"
            raise BadRequest(f"expected {expected} bytes of {datatype} for {count} images, got {len(raw)}{stated}")
        if datatype == "UINT8":
            return self._scaled(np.frombuffer(raw, np.uint8), count)
        return self._in_range(np.frombuffer(raw, "<f4").reshape(count, *self._input_shape))

    def from_numbers(self, array: NDArray[Any], datatype: str, count: int) -> Pixels:
        """Return the images of a flat array of numbers of type FP32 or UINT8. Raises BadRequest."""
        if array.size != count * self._size:
            raise BadRequest(f"expected {count * self._size} numbers for {count} images, got {array.size}")
        if datatype == "UINT8":
            if not ((array >= 0) & (array <= 255) & (array == np.floor(array))).all():
                raise BadRequest("UINT8: expected whole numbers from 0 to 255")
            return self._scaled(array.astype(np.uint8), count)
        return self._in_range(array.reshape(count, *self._input_shape))

    def parse_count(self, shape: Any) -> int:
        """Return the number of images of a tensor's shape, 1 to max_images. Raises BadRequest."""
        whole = isinstance(shape, list) and all(type(n) is int for n in shape)
        if not whole or shape[1:] not in self._shapes or not 0 < shape[0] <= self.max_images:
            raise BadRequest(
                f"expected shape {_listed(self._shapes, '[n, {}]')} with n from 1 to {self.max_images}, "
                f"got {shown(shape)}"
            )
        return int(shape[0])

    def _array(self, values: list[Any], name: str, dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
        """Return nested lists of numbers as an array, flattened level by level, far faster than by recursion."""
        shape = [len(values)]
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            while (types := set(map(type, values))) == {list} and len(shape) < 4:
                (length,) = set(map(len, values))  # raises ValueError if they differ
                shape.append(length)
                values = list(itertools.chain.from_iterable(values))
            if types <= {int, float}:  # NumPy would convert true to 1 and "0.5" to 0.5
                return _floats(values, dtype).reshape(shape)
        raise BadRequest(f"{name}: expected {self._images}, got something else or rows of different lengths")

    def _in_range(self, pixels: Pixels) -> Pixels:
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # `not`, because every comparison with NaN is false
            raise BadRequest(f"expected numbers {self._range}, got some outside that range or not finite")
        return pixels

    def _scaled(self, values: NDArray[np.uint8], count: int) -> Pixels:
        return np.multiply(values, np.float32(1 / 255), dtype=np.float32).reshape(count, *self._input_shape)

    def _json(self, body: bytes) -> dict[str, Any]:
        if sum(map(body.count, (b",", b"[", b"{"))) > self.max_values:
            raise BadRequest(f"expected at most {self.max_images} images, got far more values than they have")
        if sum(map(body.count, (b'"', b":", b"{"))) > MAX_FIELDS:
            raise BadRequest(f"expected at most {MAX_FIELDS} quotes, colons and braces")
        # It would visit all new lists repeatedly, three quarters of the time. No other thread runs meanwhile.
        gc.disable()
        try:
            request = orjson.loads(body)
        except (orjson.JSONDecodeError, RecursionError) as exc:
            raise BadRequest(f"expected JSON: {str(exc)[:120]}") from None
        finally:
            gc.enable()
        if not isinstance(request, dict):
            raise BadRequest(f"expected a JSON object, got {_kind(request)}")
        return request


def parameters(holder: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request, an input or an output; null is the same as none.

    Raises:
        BadRequest: gRPC has no such parameters, or one that describes raw tensors has a wrong type.
    """
    found = holder.get("parameters")
    found = {} if found is None else found
    if not isinstance(found, dict) or not set(map(type, found.values())) <= {str, int, float, bool, type(None)}:
        raise BadRequest(f"expected parameters as an object of texts, numbers and booleans, got {shown(found)}")
    for name, kind in PARAMETERS.items():
        if name in found and type(found[name]) not in (kind, type(None)):
            raise BadRequest(f"expected {name} of type {kind.__name__}, got {shown(found[name])}")
    refuse_shared_memory(found)
    return found


def refuse_shared_memory(names: Iterable[str]) -> None:
    """Raise BadRequest if a parameter of these names says that a tensor is in memory that server and client share.

    The client would take what is stored there for the answer.
    """
    if any(name.startswith("shared_memory_") for name in names):
        raise BadRequest("expected tensors in the message; this server has no shared memory")


def shown(value: Any) -> str:
    """Return a short text for a value of a request, which may be too long or too deeply nested for `str`."""
    return reprlib.repr(value)[:100]


def _listed(shapes: list[list[int]], form: str) -> str:
    """Return the shapes as text, such as "[n, 28, 28] or [n, 784]" with the form "[n, {}]"."""
    texts = [form.format(", ".join(map(str, shape))) for shape in shapes]
    return " or ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def _floats(values: Any, dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # a number that is too large becomes infinite, which `_in_range` rejects
        return np.asarray(values, dtype)


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__
