"""Responses of the REST protocols carry what the request selects; unknown outputs are rejected."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from digits.serving import rest
from digits.serving.decode import BadRequest
from digits.serving.slot import LoadedModel
from digits.tasks.task import find
from tests.helpers.examples import run_example
from tests.helpers.predict import post, v1_body
from tests.helpers.support import Predictor
from tests.helpers.tasks import LinearModel, task_text

MODEL = LoadedModel(
    {"version": "1", "task": find("digits").text()}, lambda pixels: np.eye(10, dtype=np.float32)[[3] * len(pixels)]
)
SHARED = {"shared_memory_region": "region"}  # as Triton's clients ask; the message has no tensor then
DEEP = b"[" * 1000 + b"0" + b"]" * 1000


def test_the_example_of_a_protocol_runs() -> None:
    """The example in the docstring of `Protocol` gives the result that it shows."""
    run_example(rest.Protocol, vars(rest))


@pytest.mark.parametrize(
    "value", [DEEP, b'{"name":%s}' % DEEP, b'{"name":["class"]}', b'{"name":"%s"}' % (b"x" * 9999)]
)
def test_error_messages_are_short(value: bytes) -> None:
    """An invalid output gives a BadRequest with a short message."""
    request = orjson.loads(b'{"outputs":[%s]}' % value)
    with pytest.raises(BadRequest) as rejected:
        rest.encode_v2(MODEL, np.zeros((1, 10), np.float32), request, "digits")
    assert len(str(rejected.value)) < 300


def test_a_response_has_the_selected_outputs() -> None:
    """A response has both outputs, or the selected ones, as JSON or raw bytes, and the request's id."""
    probabilities = np.random.default_rng(1).dirichlet(np.ones(10), 3).astype(np.float32)
    body, head = rest.encode_v2(MODEL, probabilities, {"id": "a1"}, "digits")
    response = json.loads(body)
    assert head is None
    assert (response["id"], response["model_name"], response["model_version"]) == ("a1", "digits", "1")
    assert response["outputs"][0]["data"] == probabilities.argmax(1).tolist()
    assert np.allclose(response["outputs"][1]["data"], probabilities.reshape(-1))
    request = {"outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]}
    body, head = rest.encode_v2(MODEL, probabilities, request, "digits")
    assert head is not None
    assert [output["name"] for output in json.loads(body[:head])["outputs"]] == ["probabilities"]
    assert np.array_equal(np.frombuffer(body[head:], "<f4").reshape(3, 10), probabilities)


def test_an_answer_has_the_labels_of_a_task() -> None:
    """If the labels are texts, they are the third output, as JSON and as bytes after their lengths."""
    task = find(task_text())
    model = LoadedModel({"version": "1", "task": task.text()}, LinearModel(task))
    probabilities = np.eye(3, dtype=np.float32)[[1, 0, 2]]
    body, head = rest.encode_v2(model, probabilities, {}, "colours")
    assert head is None
    assert [output["name"] for output in json.loads(body)["outputs"]] == ["class", "probabilities", "label"]
    label = {"name": "label", "datatype": "BYTES", "shape": [3], "data": ["grün", "red", "deep blue"]}
    assert json.loads(body)["outputs"][2] == label
    body, head = rest.encode_v2(model, probabilities, {"parameters": {"binary_data_output": True}}, "colours")
    sizes = [output["parameters"]["binary_data_size"] for output in json.loads(body[:head])["outputs"]]
    assert sizes == [3 * 8, 9 * 4, 29]
    expected = b"\x05\0\0\0gr\xc3\xbcn\x03\0\0\0red\x09\0\0\0deep blue"
    assert body.endswith(expected)
    request = {"outputs": [{"name": "label", "parameters": {"binary_data": True}}]}
    body, head = rest.encode_v2(model, probabilities, request, "colours")
    assert (body[head:], len(json.loads(body[:head])["outputs"])) == (expected, 1)
    with pytest.raises(BadRequest, match="class, probabilities, label"):
        rest.encode_v2(model, probabilities, {"outputs": [{"name": "labels"}]}, "colours")


def test_no_selected_outputs_are_all() -> None:
    """An empty list of outputs selects all."""
    body, _ = rest.encode_v2(MODEL, np.zeros((1, 10), np.float32), {"outputs": []}, "digits")
    assert [output["name"] for output in json.loads(body)["outputs"]] == ["class", "probabilities"]


def test_a_long_id_is_rejected() -> None:
    """An id of more than MAX_ID characters is a BadRequest, because the response repeats it."""
    longest = "x" * rest.MAX_ID
    body, _ = rest.encode_v2(MODEL, np.zeros((1, 10), np.float32), {"id": longest}, "digits")
    assert json.loads(body)["id"] == longest
    with pytest.raises(BadRequest, match="id"):
        rest.encode_v2(MODEL, np.zeros((1, 10), np.float32), {"id": longest + "x"}, "digits")


@pytest.mark.parametrize("outputs", [[{"name": "scores"}], ["class"], {}, "class", [None], [{"name": ["class"]}]])
def test_unknown_outputs_are_rejected(outputs: Any) -> None:
    """An unknown output is a BadRequest that lists the outputs."""
    with pytest.raises(BadRequest, match="class, probabilities"):
        rest.encode_v2(MODEL, np.zeros((1, 10), np.float32), {"outputs": outputs}, "digits")


@pytest.mark.parametrize(
    ("field", "bad", "good"),
    [
        ("parameters", [[], "", 0, False, [1], {"x": []}, {"x": {}}, {"binary_data_output": 1}], [None, {"x": 1.5}]),
        (
            "inputs.parameters",
            [[], "x", {"binary_data_size": "784"}, {"binary_data_size": 784.0}, SHARED],
            [None, {"x": None}],
        ),
        (
            "outputs.parameters",
            [[], "", True, {"x": [1]}, {"binary_data": "no"}, SHARED],
            [None, {"binary_data": None}],
        ),
        ("id", [1, True, [], {}], [None, "", "x"]),
        ("inputs.name", [1, True, [], {}], [None, "", "x"]),
    ],
)
def test_values_of_a_wrong_type_are_rejected(field: str, bad: list[Any], good: list[Any]) -> None:
    """Parameters, names and ids have the types that gRPC's messages have; null is the same as none."""
    level, _, name = field.rpartition(".")

    def answer(value: Any) -> int:
        tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 784], "data": [0] * 784}
        request: dict[str, Any] = {"inputs": [tensor], "outputs": [{"name": "class"}]}
        (request[level][0] if level else request)[name] = value
        return rest.PROTOCOLS["v2"].answer(MODEL, "digits", {}, orjson.dumps(request))[0]

    assert [answer(value) for value in good] == [1] * len(good)
    for value in bad:
        with pytest.raises(BadRequest):
            answer(value)


def test_a_v1_response_has_rows_of_ten() -> None:
    """A V1 response has the form of TensorFlow Serving's."""
    response = json.loads(rest.encode_v1(np.eye(10, dtype=np.float32)[:2]))
    assert response == {"predictions": np.eye(10)[:2].tolist()}


MALFORMED = {
    "empty": b"",
    "no JSON": b"instances",
    "a list": b"[]",
    "nothing in it": b"{}",
    "text": b'{"instances": "x"}',
    "wrong shape": b'{"instances": [[1, 2], [3, 4]]}',
    "ragged": b'{"instances": [[[0], [0, 0]]]}',
    "NaN": v1_body(np.zeros((1, 28, 28))).replace(b"0.0", b"NaN", 1),
    "out of range": v1_body(np.full((1, 28, 28), 510)),
    "huge number": v1_body(np.zeros((1, 28, 28))).replace(b"0.0", b"9" * 5000, 1),
    "deep": b'{"instances": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "datatype a list": b'{"inputs": [{"name": "image", "datatype": [], "shape": [1, 784], "data": []}]}',
    "datatype text": b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 784], "data": []}]}',
    "shape": b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 784], "data": []}]}',
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("path", ["v1/models/digits:predict", "v2/models/digits/infer"])
def test_a_malformed_request_gets_400(body: bytes, path: str, predictor: Predictor) -> None:
    """A malformed request gets 400 with a JSON error and no traceback, for every content type."""
    for content_type in ("application/json", "text/plain", "application/octet-stream"):
        status, headers, answer = post(f"{predictor.url}/{path}", body, Content_Type=content_type)
        assert status == 400
        assert headers["content-type"] == "application/json"
        error = json.loads(answer)["error"]
        assert error
        assert "Traceback" not in error


def test_two_header_lengths_get_400(predictor: Predictor) -> None:
    """A request that states the length of its JSON twice gets 400, even if the lengths are equal."""
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 784], "parameters": {"binary_data_size": 784}}
    head = json.dumps({"inputs": [tensor]}).encode()
    for count, status in ((1, 200), (2, 400)):
        headers = [("Inference-Header-Content-Length", str(len(head)))] * count
        answer = httpx.post(f"{predictor.url}/v2/models/digits/infer", content=head + bytes(784), headers=headers)
        assert answer.status_code == status


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "x", "99999"])
def test_a_wrong_header_length_gets_400(length: str, predictor: Predictor) -> None:
    """A JSON length that is not a number, or exceeds the body, gets 400."""
    status, _, _ = post(f"{predictor.url}/v2/models/digits/infer", b"{}", Inference_Header_Content_Length=length)
    assert status == 400
