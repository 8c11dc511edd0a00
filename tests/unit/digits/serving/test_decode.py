"""Requests decode to images or a BadRequest; the fast and the slow decoder of V1 agree."""

from __future__ import annotations

import json
import re
import time
import tracemalloc
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from digits.serving import decode
from digits.serving.decode import BadRequest, Decoder
from digits.tasks.task import find
from tests.helpers.tasks import task_text

DIGITS = Decoder(find("digits"))
IMAGE = (np.arange(784).reshape(28, 28) % 256 / 255).astype(np.float32)
ZEROS = np.zeros((28, 28)).tolist()
COLOUR, GREY = (Decoder(find(task_text(shape=shape))) for shape in ((12, 10, 3), (8, 9, 1)))
# The decoders, and the shapes of an image in V1.
NESTINGS = [
    (DIGITS, (28, 28)),
    (DIGITS, (28, 28, 1)),
    (COLOUR, (12, 10, 3)),
    (GREY, (8, 9)),
    (GREY, (8, 9, 1)),
]


def v1_body(images: Any) -> bytes:
    return json.dumps({"instances": images}).encode()


def slow(body: bytes, decoder: Decoder = DIGITS) -> Any:
    """Return the images that the slow decoder reads, or None if it rejects the body."""
    try:
        return decoder._slow_v1(body)
    except BadRequest:
        return None


def check_agreement(body: bytes, decoder: Decoder) -> None:
    """Check that the fast decoder leaves a body to the slow one, or reads or rejects it as that one does."""
    expected = slow(body, decoder)
    try:
        fast = decoder._flat_v1(body)
    except BadRequest:
        assert expected is None
        return
    if fast is not None:
        json.loads(body)
        assert expected is not None
        assert np.array_equal(fast, expected)


def with_pixel(text: str, shape: tuple[int, ...] = (28, 28)) -> bytes:
    """Return a V1 request of zeros with one pixel written as `text`."""
    body = v1_body([np.zeros(shape, int).tolist()]).decode()
    return body.replace("0", text, 1).encode()


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize(("decoder", "shape"), NESTINGS)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n\t", " :\r\n")])
def test_the_fast_decoder_reads_usual_requests(
    count: int, decoder: Decoder, shape: tuple[int, ...], separators: tuple[str, str]
) -> None:
    """The fast decoder reads images of each nesting and any spacing to the same floats as the slow one."""
    images = np.random.default_rng(0).random((count, *shape), np.float32)
    body = json.dumps({"instances": images.tolist()}, separators=separators).encode()
    fast = decoder._flat_v1(body)
    assert fast is not None
    assert fast.dtype == np.float32
    assert fast.ndim == 4
    assert np.array_equal(fast, slow(body, decoder))
    assert np.array_equal(fast.reshape(images.shape), images)


@pytest.mark.parametrize("others", [b'"signature_name":"x",%s', b'%s,"id":"7"', b'"a":{"b":1},"instances":1,%s,"c":""'])
def test_the_fast_decoder_reads_requests_with_other_members(others: bytes) -> None:
    """Members besides the images do not lead to the slow decoder; the last of two that are named alike counts."""
    images = b'"instances":[' + b",".join([b"[" + b",".join([b"[" + b",".join([b"[1]"] * 28) + b"]"] * 28) + b"]"] * 2)
    fast = DIGITS._flat_v1(b"{" + others % (images + b"]") + b"}")
    assert fast is not None
    assert fast.shape == (2, 28, 28, 1)
    assert DIGITS._flat_v1(b'{"a":{' + images + b"]}}") is None
    assert DIGITS._flat_v1(b"{" + images + b'],"instances":1}') is None


@pytest.mark.parametrize("item", [b"[[0.5]]", b"[0]", b"[]"])
def test_many_lists_take_little_more_time_than_their_parsing(item: bytes) -> None:
    """Lists of lists, up to the number of values that is parsed, are rejected in about the time of parsing them."""
    lists = b"[" + b",".join([item] * (DIGITS.max_values // (item.count(b"[") + 1) - 100)) + b"]"
    started = time.thread_time()
    orjson.loads(lists)
    parsed = time.thread_time()
    with pytest.raises(BadRequest, match="expected images"):
        DIGITS.v1(b'{"instances":' + lists + b"}")
    assert time.thread_time() - parsed < 2 * (parsed - started)


NUMBERS = st.one_of(
    st.floats(0, 1).map(repr),
    st.sampled_from(
        [
            "0",
            "1",
            "0.0",
            "1.0",
            "-0.0",
            "1e0",
            "1E-3",
            "1e400",
            "-1",
            "2",
            "01",
            "1.",
            ".5",
            "1e",
            "+1",
            "--",
            "1-1",
            "0.5e-400",
            "1e-45",
            "1.01",
            "-",
            "E",
            "true",
            "null",
            "NaN",
            "[0]",
            "[]",
            "{}",
        ]
    ),
    st.sampled_from(["", " ", "0 0", "0,0", '"0"', "9" * 400, "0." + "9" * 400, "9" * 5000]),
    st.text("0123456789.eE+- ", max_size=6),
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=NUMBERS, nesting=st.sampled_from(NESTINGS))
@example(text="true", nesting=NESTINGS[0])
def test_both_decoders_agree_on_any_number(text: str, nesting: tuple[Decoder, tuple[int, ...]]) -> None:
    """For any number, the slow decoder agrees with what the fast one reads or rejects."""
    decoder, shape = nesting
    check_agreement(with_pixel(text, shape), decoder)


ROW = "[" + ",".join("0" * 28) + "]"
PARTS = [
    b"[",
    b"]",
    b",",
    b"0",
    b"5",
    b" ",
    b"\n",
    b"{",
    b"}",
    b":",
    b'"',
    b".",
    b"-",
    b"e",
    b"[]",
    b"],[",
    b".5",
    b"1,",
]


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_both_decoders_agree_on_damaged_requests(data: st.DataObject) -> None:
    """With some parts lost, added, moved or replaced, the fast decoder never reads what the slow one rejects."""
    decoder, shape = data.draw(st.sampled_from(NESTINGS))
    body = v1_body([np.zeros(shape, data.draw(st.sampled_from([int, float]))).tolist()])
    for _ in range(data.draw(st.integers(1, 4))):
        # Often near the beginning or the end, where the brackets are.
        at = data.draw(st.integers(0, 40) | st.integers(len(body) - 40, len(body)) | st.integers(0, len(body)))
        part = data.draw(st.sampled_from(PARTS))
        if data.draw(st.booleans()):  # move a part that is there
            found = body.find(part, at)
            body = body[:found] + body[found + len(part) :] if found >= 0 else body
            at = max(0, at + data.draw(st.integers(-3, 3)))
        body = body[:at] + part + body[at + data.draw(st.integers(0, 2)) :]
    check_agreement(body, decoder)


@pytest.mark.parametrize(
    "body",
    [
        '{"instances":[%s]}' % ("[" + ",".join([ROW + ".5"] + [ROW] * 27) + "]"),
        '{"instances":[%s]}' % ("[" + ",".join([ROW[:-2] + "]1"] + [ROW] * 27) + "]"),
        '{"instances":[%s]}' % ("[" + ",".join(["1[" + ROW[2:]] + [ROW] * 27) + "]"),
        '{"instances":[%s]}' % ("[" + ",".join(["[" + ",".join(["[]0"] * 28) + "]"] * 28) + "]"),
        '{"instances":[%s]}' % ("[" + ",".join(["[" + ",".join(["0 []"] * 28) + "]"] * 28) + "]"),
        '{{"inst ances":[[{}]]}}'.format(",".join([ROW] * 28)),
        '{{"inst\nances":[[{}]]}}'.format(",".join([ROW] * 28)),
        '{{:"instances"[[{}]]}}'.format(",".join([ROW] * 28)),
    ],
)
def test_numbers_outside_their_lists_are_rejected(body: str) -> None:
    """Bodies that are not JSON, or lack `instances`, are rejected although they have the numbers of an image."""
    with pytest.raises(BadRequest):
        DIGITS.v1(body.encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def decode_all(body: bytes, length: str | None = None) -> None:
    """Decode by both protocols, and fail on anything but images or a BadRequest."""
    for read in (lambda: DIGITS.v1(body), lambda: DIGITS.v2(body, length)[0]):
        try:
            pixels = read()
        except BadRequest:
            continue
        assert pixels.dtype == np.float32
        assert pixels.shape[1:] == (28, 28, 1)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    tensor=st.fixed_dictionaries(
        {},
        optional={
            "name": JSON,
            "shape": JSON | st.just([1, 784]),
            "datatype": JSON | st.sampled_from(["FP32", "UINT8"]),
            "data": JSON,
            "parameters": JSON | st.fixed_dictionaries({"binary_data_size": JSON}),
        },
    ),
    rest=JSON,
    length=st.none() | st.text(max_size=4) | st.integers(-1, 400).map(str),
)
@example(tensor={"datatype": [], "shape": [1, 784], "data": []}, rest=None, length=None)
@example(tensor={"datatype": {}, "shape": [1, 784], "data": []}, rest=None, length=None)
@example(tensor={}, rest=None, length="9" * 5000)
@example(tensor={}, rest=None, length="²")
def test_any_json_is_images_or_a_bad_request(tensor: Any, rest: Any, length: str | None) -> None:
    """No JSON value in any place makes the decoder fail other than with BadRequest."""
    decode_all(json.dumps({"inputs": [tensor], "instances": rest, "outputs": rest}).encode(), length)
    decode_all(json.dumps(rest).encode(), length)


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=200))
def test_any_bytes_are_a_bad_request(body: bytes) -> None:
    """Bytes that are not a request are rejected by both protocols."""
    decode_all(body)
    with pytest.raises(BadRequest):
        DIGITS.v1(body)


@pytest.mark.parametrize("depth", [5, 70, 900, 1100, 100_000])
def test_deep_nesting_is_rejected(depth: int) -> None:
    """Nested lists of any depth are a BadRequest."""
    nested = b"[" * depth + b"0" + b"]" * depth
    with pytest.raises(BadRequest):
        DIGITS.v1(b'{"instances":' + nested + b"}")
    with pytest.raises(BadRequest):
        DIGITS.v2(b'{"inputs":[{"name":"image","shape":[1,784],"datatype":"FP32","data":' + nested + b"}]}", None)


DEEP = b"[" * 1000 + b"0" + b"]" * 1000


@pytest.mark.parametrize("value", [DEEP, b'{"a":' * 500 + b"0" + b"}" * 500, b'"' + b"x" * 1_000_000 + b'"'])
@pytest.mark.parametrize(
    "request_with",
    [
        b'{"inputs":[{"datatype":%s}]}',
        b'{"inputs":[{"datatype":"FP32","shape":%s}]}',
        b'{"inputs":[{"datatype":"FP32","shape":[%s]}]}',
        b'{"inputs":[{"datatype":"FP32","shape":[1,784],"parameters":{"binary_data_size":%s}}]}',
    ],
)
def test_error_messages_are_short(value: bytes, request_with: bytes) -> None:
    """A deep or long value gives a BadRequest with a short message."""
    with pytest.raises(BadRequest) as rejected:
        DIGITS.v2(request_with % value, None)
    assert len(str(rejected.value)) < 300


@pytest.mark.parametrize("item", [b"[]", b"{}", b"0"])
def test_json_of_too_many_values_is_never_parsed(item: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body within the size limit, but with too many values for the memory, is not parsed."""
    body = b'{"instances":[' + b",".join([item] * 4_000_000) + b"]}"
    monkeypatch.setattr(decode.orjson, "loads", lambda _: pytest.fail("it was parsed"))
    with pytest.raises(BadRequest, match="far more values"):
        DIGITS.v1(body)


@pytest.mark.parametrize(
    "item", [b'{"a":' * 999 + b"0" + b"}" * 999, b'{"a":0}', b'"a"'], ids=["chains", "objects", "texts"]
)
def test_json_of_many_objects_is_never_parsed(item: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body with more objects or texts than any request has is not parsed, because they need much memory."""
    monkeypatch.setattr(decode.orjson, "loads", lambda _: pytest.fail("it was parsed"))
    with pytest.raises(BadRequest, match="quotes, colons and braces"):
        DIGITS.v2(b'{"inputs":[' + b",".join([item] * 1000) + b"]}", None)


def test_memory_does_not_grow_with_the_number_of_batch_sizes() -> None:
    """Requests of many different numbers of images leave nothing in memory."""
    image = "[" + ",".join(["[" + ",".join(["[0]"] * 28) + "]"] * 28) + "]"
    bodies = [('{{"instances":[{}]}}'.format(",".join([image] * count))).encode() for count in (1, 20, 21, 22, 23, 24)]
    DIGITS.v1(bodies[0])
    tracemalloc.start()
    try:
        for body in bodies[1:]:
            DIGITS.v1(body)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000


@pytest.mark.parametrize("shape", [(28, 28, 1), (96, 96, 3), (96, 96, 1), (8, 8, 3)])
def test_the_largest_request_is_accepted(shape: tuple[int, int, int]) -> None:
    """As many images as allowed, in the longest form, with a list per pixel, are accepted by both protocols."""
    decoder = Decoder(find(task_text(shape=shape)))
    most = (decoder.max_images, *shape)
    images = orjson.dumps(np.zeros(most).tolist())
    assert decoder._slow_v1(b'{"instances":' + images + b"}").shape == most
    tensor = b'{"inputs":[{"shape":%s,"datatype":"FP32","data":%s}]}' % (orjson.dumps(most), images)
    assert decoder.v2(tensor, None)[0].shape == most


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e400", "-0.01", "1.01", "255", "9" * 400, "true", "null", '"0"'])
def test_v1_pixels_out_of_range_are_rejected(text: str) -> None:
    """One pixel that is not a number from 0 to 1 makes the request a BadRequest."""
    DIGITS.v1(with_pixel("1"))
    with pytest.raises(BadRequest):
        DIGITS.v1(with_pixel(text))


@pytest.mark.parametrize(
    "images",
    [
        [],
        ZEROS,
        [[]],
        [ZEROS[:27]],
        [ZEROS, ZEROS[:27]],
        [np.zeros((28, 27)).tolist()],
        [np.zeros((28, 28, 3)).tolist()],
        [[0.0] * 784],
        [[*ZEROS[:27], ZEROS[0][:27]]],
        "x",
        {},
        None,
    ],
)
def test_v1_shapes_of_no_images_are_rejected(images: Any) -> None:
    """Shapes other than n x 28 x 28 and n x 28 x 28 x 1 are a BadRequest."""
    with pytest.raises(BadRequest):
        DIGITS.v1(v1_body(images))


def test_too_many_images_are_rejected() -> None:
    """Each protocol accepts the most images, and rejects one more."""
    most = DIGITS.max_images
    row = b"[" + b",".join([b"0"] * 28) + b"]"
    image = b"[" + b",".join([row] * 28) + b"]"
    assert len(DIGITS.v1(b'{"instances":[' + b",".join([image] * most) + b"]}")) == most
    with pytest.raises(BadRequest):
        DIGITS.v1(b'{"instances":[' + b",".join([image] * (most + 1)) + b"]}")
    assert DIGITS.parse_count([most, 784]) == most
    with pytest.raises(BadRequest):
        DIGITS.parse_count([most + 1, 784])


@pytest.mark.parametrize(
    "shape",
    [[0, 784], [-1, 28, 28], [1, 783], [784], [], None, "1", [True, 784], [1.0, 784], [1, 1, 28, 28], [10**30, 784]],
)
def test_v2_shapes_of_no_images_are_rejected(shape: Any) -> None:
    """Shapes other than the three forms with at least one image are a BadRequest."""
    with pytest.raises(BadRequest, match="expected shape"):
        DIGITS.parse_count(shape)


def v2_body(datatype: str, shape: list[int], data: Any = None, **tensor: Any) -> bytes:
    body = {"name": "image", "datatype": datatype, "shape": shape} | tensor
    if data is not None:
        body["data"] = data
    return orjson.dumps({"inputs": [body]})


@pytest.mark.parametrize("shape", [[1, 28, 28], [1, 28, 28, 1], [1, 784]])
@pytest.mark.parametrize("form", ["flat", "nested", "binary"])
@pytest.mark.parametrize("datatype", ["FP32", "UINT8"])
def test_v2_forms_decode_to_the_same_image(shape: list[int], form: str, datatype: str) -> None:
    """Flat, nested and raw data, as floats and as bytes, decode to the same image."""
    dtype = np.float32 if datatype == "FP32" else np.uint8
    values = (IMAGE if datatype == "FP32" else np.round(IMAGE * 255)).astype(dtype).reshape(shape)
    if form == "binary":
        raw = values.tobytes()
        head = v2_body(datatype, shape, parameters={"binary_data_size": len(raw)})
        pixels, _ = DIGITS.v2(head + raw, str(len(head)))
    else:
        pixels, _ = DIGITS.v2(
            v2_body(datatype, shape, values.reshape(-1).tolist() if form == "flat" else values.tolist()), None
        )
    assert pixels.shape == (1, 28, 28, 1)
    assert np.abs(pixels[0, ..., 0] - IMAGE).max() < 1e-6


@pytest.mark.parametrize(
    ("decoder", "shape", "expected"),
    [
        (COLOUR, (12, 10), "(n, 12, 10, 3)"),
        (COLOUR, (10, 12, 3), "(n, 12, 10, 3)"),
        (COLOUR, (12, 10, 1), "(n, 12, 10, 3)"),
        (COLOUR, (28, 28), "(n, 12, 10, 3)"),
        (GREY, (9, 8), "(n, 8, 9) or (n, 8, 9, 1)"),
        (GREY, (8, 9, 3), "(n, 8, 9) or (n, 8, 9, 1)"),
    ],
)
def test_another_shape_than_the_tasks_is_rejected(decoder: Decoder, shape: tuple[int, ...], expected: str) -> None:
    """The message of a BadRequest names the shape of the task, in each protocol."""
    with pytest.raises(BadRequest, match=re.escape(expected)):
        decoder.v1(v1_body([np.zeros(shape).tolist()]))
    with pytest.raises(BadRequest, match=re.escape(expected.split(")")[0][1:])):
        decoder.parse_count([1, *shape])


@pytest.mark.parametrize("shape", [[2, 12, 10, 3], [2, 360]])
@pytest.mark.parametrize("binary", [False, True])
def test_v2_decodes_colour(shape: list[int], binary: bool) -> None:
    """Flat and nested images in colour decode to the pixels of the task's shape."""
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    parameters = {"parameters": {"binary_data_size": values.size}} if binary else {}
    head = v2_body("UINT8", shape, None if binary else values.tolist(), **parameters)
    pixels, _ = COLOUR.v2(head + (values.tobytes() if binary else b""), str(len(head)))
    assert np.allclose(pixels, values.reshape(2, 12, 10, 3) / 255)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("UINT8", 256),
        ("UINT8", -1),
        ("UINT8", 0.5),
        ("UINT8", 254.99999999),
        ("UINT8", 1e-9),
        ("UINT8", 10**30),
        ("FP32", 1.5),
        ("FP32", -0.1),
        ("FP32", True),
        ("UINT8", True),
    ],
)
def test_v2_values_out_of_range_are_rejected(datatype: str, value: Any) -> None:
    """One value outside the range of its datatype makes the request a BadRequest."""
    values = [0.25 if datatype == "FP32" else 0] * 783
    DIGITS.v2(v2_body(datatype, [1, 784], [*values, 1]), None)
    tensor = {"name": "image", "datatype": datatype, "shape": [1, 784], "data": [*values, value]}
    with pytest.raises(BadRequest):
        DIGITS.v2(json.dumps({"inputs": [tensor]}).encode(), None)


@pytest.mark.parametrize("shape", [(28, 28, 2), (1, 56, 28), (2, 28, 28, 1, 1), (56, 28), (1, 1568), (784, 2)])
def test_v2_data_nested_in_another_way_are_rejected(shape: tuple[int, ...]) -> None:
    """Lists that are nested unlike images, such as channels first, are a BadRequest; their order would be another."""
    with pytest.raises(BadRequest, match="data: expected"):
        DIGITS.v2(v2_body("UINT8", [2, 28, 28], np.zeros(shape, np.uint8).tolist()), None)


@pytest.mark.parametrize("tensor", [{"data": [0] * 784, "parameters": {"binary_data_size": 784}}, {"data": [0] * 784}])
def test_v2_data_has_one_form(tensor: dict[str, Any]) -> None:
    """A request with numbers and bytes for the same image, or with bytes that no input states, is a BadRequest."""
    head = v2_body("UINT8", [1, 784], **tensor)
    with pytest.raises(BadRequest, match="either data"):
        DIGITS.v2(head + bytes(784), str(len(head)))


@pytest.mark.parametrize("nan", [np.nan, np.inf, -np.inf, 1.5])
def test_raw_floats_out_of_range_are_rejected(nan: float) -> None:
    """A raw tensor with NaN, infinity or a value over 1 is a BadRequest."""
    values = np.zeros(784, "<f4")
    DIGITS.from_raw(values.tobytes(), "FP32", 1)
    values[5] = nan
    with pytest.raises(BadRequest, match=r"0 \(paper\) to 1"):
        DIGITS.from_raw(values.tobytes(), "FP32", 1)


@pytest.mark.parametrize("size", [0, 783, 785, 784 * 4, "784", None, -1, 784.5, [784]])
def test_raw_tensors_of_another_size_are_rejected(size: Any) -> None:
    """A stated size that differs from that of shape and datatype is a BadRequest."""
    raw = bytes(784)
    head = v2_body("UINT8", [1, 784], parameters={"binary_data_size": size})
    with pytest.raises(BadRequest):
        DIGITS.v2(head + raw, str(len(head)))


@pytest.mark.parametrize("length", ["-1", "x", "", "1e3", "99999", " 5", "٣", "9" * 5000])
def test_a_wrong_header_length_is_rejected(length: str) -> None:
    """A JSON length that is not a number within the body is a BadRequest."""
    with pytest.raises(BadRequest, match="Inference-Header-Content-Length"):
        DIGITS.v2(v2_body("UINT8", [1, 784], [0] * 784), length)


@pytest.mark.parametrize("inputs", [None, [], {}, [1], [{}, {}], [None], "x"])
def test_v2_needs_exactly_one_input(inputs: Any) -> None:
    """Requests without exactly one valid input are a BadRequest."""
    with pytest.raises(BadRequest):
        DIGITS.v2(json.dumps({"inputs": inputs}).encode(), None)
