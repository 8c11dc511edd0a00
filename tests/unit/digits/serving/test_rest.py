"""Responses of the REST protocols carry what the request selects; unknown outputs are rejected."""

from __future__ import annotations

import doctest
import json
from typing import Any

import numpy as np
import orjson
import pytest

from digits.serving import rest
from digits.serving.decode import BadRequest

DEEP = b"[" * 1000 + b"0" + b"]" * 1000


def test_the_example_of_a_protocol_runs() -> None:
    """The example in the docstring of `Protocol` gives the result that it shows."""
    assert doctest.testmod(rest).failed == 0


@pytest.mark.parametrize(
    "value", [DEEP, b'{"name":%s}' % DEEP, b'{"name":["class"]}', b'{"name":"%s"}' % (b"x" * 9999)]
)
def test_wrong_outputs_are_said_in_short(value: bytes) -> None:
    """The same holds for the outputs that are asked for."""
    request = orjson.loads(b'{"outputs":[%s]}' % value)
    with pytest.raises(BadRequest) as refused:
        rest.encode_v2(np.zeros((1, 10), np.float32), request, "digits", "1")
    assert len(str(refused.value)) < 300


def test_answers_carry_what_was_asked_for() -> None:
    """Both outputs by default, one when asked for, raw when asked for, and the request's id."""
    probabilities = np.random.default_rng(1).dirichlet(np.ones(10), 3).astype(np.float32)
    body, head = rest.encode_v2(probabilities, {"id": "a1"}, "digits", "v")
    said = json.loads(body)
    assert head is None
    assert (said["id"], said["model_name"], said["model_version"]) == ("a1", "digits", "v")
    assert said["outputs"][0]["data"] == probabilities.argmax(1).tolist()
    assert np.allclose(said["outputs"][1]["data"], probabilities.reshape(-1))
    request = {"outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]}
    body, head = rest.encode_v2(probabilities, request, "digits", "v")
    assert head is not None
    assert [output["name"] for output in json.loads(body[:head])["outputs"]] == ["probabilities"]
    assert np.array_equal(np.frombuffer(body[head:], "<f4").reshape(3, 10), probabilities)


@pytest.mark.parametrize("outputs", [[{"name": "scores"}], ["class"], {}, "class", [None], [{"name": ["class"]}]])
def test_unknown_outputs_are_refused(outputs: Any) -> None:
    """Asking for what there is not is an error that lists what there is."""
    with pytest.raises(BadRequest, match="class, probabilities"):
        rest.encode_v2(np.zeros((1, 10), np.float32), {"outputs": outputs}, "digits", "v")


def test_v1_answers_are_rows_of_ten() -> None:
    """A V1 answer is what TensorFlow Serving's clients expect."""
    said = json.loads(rest.encode_v1(np.eye(10, dtype=np.float32)[:2]))
    assert said == {"predictions": np.eye(10)[:2].tolist()}
