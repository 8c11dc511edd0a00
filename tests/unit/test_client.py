"""Programs that are taken for an endpoint and are none."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support import answering

from digits import client, deployment
from digits.cli import doctor
from digits.errors import EndpointError
from digits.settings import Settings

IMAGE = np.zeros((1, 28, 28), np.uint8)
PAGE = b"<!doctype html><title>Welcome</title>"
NO_ROWS = {"name": "class", "datatype": "INT64", "shape": [0], "parameters": {"binary_data_size": 0}}
NOT_OURS = [PAGE, b"", b"[]", b'{"predictions": []}', json.dumps({"outputs": [NO_ROWS]}).encode()]


@pytest.mark.parametrize("said", NOT_OURS)
def test_what_is_no_prediction_is_an_endpoint_error(said: bytes) -> None:
    """An answer that holds no prediction is said to be none, with what came instead."""
    with answering(said) as address, pytest.raises(EndpointError, match="expected a class and ten") as error:
        client.predict(f"http://{address}", IMAGE)
    assert repr(said[:80]) in error.value.message


@pytest.mark.parametrize("said", [*NOT_OURS, b'{"parameters": {"release": "v1", "refused": []}}'])
def test_an_endpoint_is_waited_for_while_another_program_answers(said: bytes) -> None:
    """Whatever an answer that is not ours looks like, it is no reason to give up before the time."""
    with answering(said) as address, pytest.raises(EndpointError, match=r"after 0 s: an answer that is not ours"):
        deployment.wait_for(f"http://{address}", {"version": "v2"}, seconds=0.2)


def test_an_endpoint_that_answers_no_golden_image_is_waited_for() -> None:
    """The right release without a prediction for the golden image is not ours either."""
    said = b'{"parameters": {"release": "v1"}, "predictions": []}'
    golden = {"image": [[0] * 28] * 28, "probabilities": [0.1] * 10, "class": 0}
    with answering(said) as address, pytest.raises(EndpointError, match=r"after 0 s: an answer that is not ours"):
        deployment.wait_for(f"http://{address}", {"version": "v1", "golden": golden}, seconds=0.2)


@pytest.mark.parametrize("said", NOT_OURS)
def test_doctor_knows_a_stranger_on_the_endpoints_port(
    said: bytes, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program where the predictor should be is named as such, and nothing is thrown."""
    with answering(said) as address:
        monkeypatch.setattr("backends.local.process.ProcessBackend.endpoint", lambda _: f"http://{address}")
        found = doctor._guarded("endpoint", False, lambda: doctor._endpoint(settings))
    assert (found.ok, found.found) == (None, f"what answers at http://{address} is no predictor of ours")
