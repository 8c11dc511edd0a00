"""An endpoint without Open Inference V2."""

from __future__ import annotations

import base64
from urllib.parse import unquote

import httpx
import numpy as np
import pytest

from digits.store.file import FileStore
from tests.helpers.asgi_server import asgi_server
from tests.helpers.examples import run_example
from tests.helpers.gateway_requests import coloured, gateway_server, recognise
from tests.helpers.standin import PAINTS, SURE_OF_3, StandIn, TensorFlowServing, always, by_colour
from web_app import protocols
from web_app.endpoints import Endpoint
from web_app.gateway import GatewayConfig


def test_the_example_of_a_protocol_is_correct() -> None:
    """The example in the docstring of InferenceProtocol works as shown."""
    run_example(protocols.InferenceProtocol, vars(protocols))


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_a_models_name_is_one_part_of_a_path(protocol: protocols.InferenceProtocol) -> None:
    """A model's name cannot change the rest of the address."""
    name, image = "../x?y#z%41 é", np.zeros((1, 28, 28), np.uint8)
    for path in (protocol.metadata_path(name), protocol.ready_path(name), protocol.encode_request(name, image).path):
        part = path.split("/")[3].removesuffix(":predict")
        assert unquote(part) == name
        assert not set(part) & set("?#/ ")


def test_tensorflow_serving_is_used_over_v1(store: FileStore) -> None:
    """TensorFlow Serving, which has neither V2 nor the release, is used over V1, with its own readiness."""
    v1 = TensorFlowServing(always(SURE_OF_3))
    with asgi_server(v1.app) as url:
        config = GatewayConfig((Endpoint("here", url),), store)
        with gateway_server(config) as address, httpx.Client(base_url=address, timeout=15, trust_env=False) as client:
            answer = recognise(client).raise_for_status().json()
            assert (answer["class"], answer["model"]["release"], answer["model"]["digest"]) == (3, "3", None)
            picture = np.frombuffer(base64.b64decode(answer["picture"]), np.uint8).reshape(28, 28, 1)
            assert v1.images[-1] == pytest.approx(picture / 255, abs=1e-6)
            assert client.get("/api/model").json()["state"] == "ready"
            v1.state = "LOADING"
            assert client.get("/api/model").json()["state"] == "starting"


def test_an_endpoint_without_a_task_has_the_gateways() -> None:
    """A runtime of V1, which does not state its task, gets the images of the gateway's task, in colour."""
    v1 = TensorFlowServing(by_colour, "colours")
    with asgi_server(v1.app) as url:
        config = GatewayConfig(Endpoint.parse_all([f"here={url}"], "colours"), task=PAINTS)
        with gateway_server(config) as address, httpx.Client(base_url=address, timeout=15, trust_env=False) as client:
            assert recognise(client, coloured("red")).raise_for_status().json()["number"] == "red"
    assert [image.shape for image in v1.images] == [(24, 32, 3)]


@pytest.mark.parametrize(
    "task",
    [
        *("fashion", "/etc/passwd", "", 7, {}, [], True, "{", "{}", '{"a":' * 9000, "{" + " " * 60_000 + "}"),
        '{"name": "x", "labels": ["a", "b"], "image": {"height": 1e400, "width": 8}}',
        '{"name": "x", "labels": ["a", "\\ud800"], "image": {"height": 8, "width": 8}}',
        '{"name": "x", "labels": ["a", "b"], "image": {"height": 8, "width": 8}, "' + "n" * 40_000 + '": 1}',
    ],
)
def test_a_task_that_is_none_is_a_wrong_model(gateway: httpx.Client, standin: StandIn, task: object) -> None:
    """Only the text of a valid task is accepted, never the name of one or a file; the reason is short."""
    standin.task = task
    answer = recognise(gateway)
    assert (answer.status_code, answer.json()["state"]) == (502, "wrong model")
    assert len(answer.content) < 1000
