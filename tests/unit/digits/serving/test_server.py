"""The predictor as a real process: KServe's paths and clients, overload, and shutdown."""

from __future__ import annotations

import asyncio
import fcntl
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits.serving.app import SMALL_BODY
from tests.helpers.predict import post, v1_body
from tests.helpers.support import (
    Finished,
    Predictor,
    StartPredictor,
    get_json,
    until_refused,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # of kserve's and grpc's clients


def test_kserves_client_over_rest(predictor: Predictor, expected: tuple[np.ndarray, np.ndarray]) -> None:
    """kserve.InferenceRESTClient gets the release's probabilities over V1 and V2, as JSON and binary."""
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    images, probabilities = expected

    async def infer() -> list[Any]:
        v1 = InferenceRESTClient(RESTConfig(protocol="v1", timeout=30))
        v2 = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
        answers = [await v1.infer(predictor.url, json.loads(v1_body(images)), model_name="digits")]
        for binary in (False, True):
            for values, datatype in (((images / 255).astype(np.float32), "FP32"), (images, "UINT8")):
                tensor = InferInput("image", list(values.shape), datatype)
                tensor.set_data_from_numpy(values, binary_data=binary)
                answers.append(await v2.infer(predictor.url, InferRequest("digits", [tensor]), model_name="digits"))
        assert await v2.is_server_ready(predictor.url)
        assert await v2.is_server_live(predictor.url)
        assert await v2.is_model_ready(predictor.url, "digits")
        await v1.close()
        await v2.close()
        return answers

    first, *others = asyncio.run(infer())
    assert np.abs(np.array(first["predictions"]) - probabilities).max() < 1e-5
    assert len(others) == 4
    for answer in others:
        outputs = {output.name: output.as_numpy() for output in answer.outputs}
        assert np.abs(outputs["probabilities"] - probabilities).max() < 1e-5
        assert outputs["class"].tolist() == probabilities.argmax(1).tolist()


def test_responses_fit_kserves_models(predictor: Predictor, finished: Finished) -> None:
    """The responses of Open Inference (V2) fit the models of which KServe makes its OpenAPI document."""
    from kserve.protocol.rest import v2_datamodels as models

    model = "v2/models/digits"
    for path, expected in (
        ("v2", models.ServerMetadataResponse),
        ("v2/health/live", models.ServerLiveResponse),
        ("v2/health/ready", models.ServerReadyResponse),
        ("v2/models", models.ListModelsResponse),
        (model, models.ModelMetadataResponse),
        (f"{model}/versions/{finished.version}", models.ModelMetadataResponse),
        (f"{model}/ready", models.ModelReadyResponse),
        (f"{model}/versions/{finished.version}/ready", models.ModelReadyResponse),
    ):
        expected.model_validate(get_json(f"{predictor.url}/{path}"), strict=True)
    image = {"name": "image", "shape": [1, 784], "datatype": "UINT8", "data": [0] * 784}
    request = models.InferenceRequest.model_validate({"id": "1", "inputs": [image]}).model_dump_json(exclude_none=True)
    status, _, content = post(f"{predictor.url}/{model}/infer", request.encode())
    assert status == 200
    models.InferenceResponse.model_validate_json(content, strict=True)


def test_curl_gets_a_prediction(predictor: Predictor, expected: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    """The README's curl command works, with curl's default content type."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    images, probabilities = expected
    (tmp_path / "body.json").write_bytes(v1_body(images[:1]))
    command = ["curl", "-sS", "-m", "30", "-d", f"@{tmp_path}/body.json", f"{predictor.url}/v1/models/digits:predict"]
    output = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
    assert np.abs(np.array(json.loads(output)["predictions"]) - probabilities[:1]).max() < 1e-5


@pytest.mark.parametrize(
    "path", ["v2/health/live", "v2/health/ready", "v2/models/digits/ready", "v1/models/digits", "v2"]
)
def test_health_and_readiness(path: str, predictor: Predictor) -> None:
    """KServe's probes and server metadata respond."""
    assert get_json(f"{predictor.url}/{path}")


@pytest.mark.parametrize(
    "path",
    ["", "metrics", "v1/models", "v1/models/digits", "v2", "v2/models", "v2/health/ready", "v2/models/digits/ready"],
)
def test_kserves_own_paths_respond(path: str, predictor: Predictor) -> None:
    """KServe's own health, readiness, lists and metrics respond."""
    with urllib.request.urlopen(f"{predictor.url}/{path}", timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("count", [1, 10])
def test_a_signal_lets_requests_in_flight_finish(
    count: int, start_predictor: StartPredictor, finished: Finished, expected: tuple[np.ndarray, np.ndarray]
) -> None:
    """After SIGTERM an incomplete request is completed and answered, new ones are not, and the process exits with 0."""
    predictor = start_predictor(finished.settings)
    body = v1_body(np.resize(expected[0], (count, 28, 28)))
    assert (len(body) <= SMALL_BODY) == (count == 1)  # one image is answered on the connection, ten in a thread
    connection = http.client.HTTPConnection(predictor.url.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", "/v1/models/digits:predict")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:100])
    wait_for_arrival([connection], 0)
    get_json(f"{predictor.url}/v2/health/live")  # because the server has then read the incomplete request
    predictor.process.send_signal(signal.SIGTERM)
    until_refused(predictor.url.removeprefix("http://"))
    until_refused(predictor.grpc)
    connection.send(body[100:])
    answer = connection.getresponse()
    assert answer.status == 200
    assert len(json.loads(answer.read())["predictions"]) == count
    connection.close()
    assert predictor.stop() == 0
    with pytest.raises(OSError, match="refused"):
        get_json(f"{predictor.url}/v2/health/live")


@pytest.mark.parametrize("count", [1, 10])
def test_too_many_concurrent_requests_are_rejected(
    count: int, predictor: Predictor, expected: tuple[np.ndarray, np.ndarray]
) -> None:
    """About 256 of 400 concurrent requests are answered, the others get 503 with Retry-After; a probe is answered."""
    body = v1_body(np.resize(expected[0], (count, 28, 28)))
    assert (len(body) <= SMALL_BODY) == (count == 1)
    # One image is answered on the event loop. If a busy machine delivers the requests one at a time, none waits.
    for _ in range(5):
        answers = ask_at_once(predictor, body)
        if {status for status, _ in answers} != {200}:
            break
    assert {retry for status, retry in answers if status == 503} == {"1"}
    assert {status for status, _ in answers} == {200, 503}
    assert sum(status == 200 for status, _ in answers) >= 250  # a probe may count as one


def ask_at_once(predictor: Predictor, body: bytes) -> list[tuple[int, str | None]]:
    """Return status and Retry-After of 400 requests that arrived while the server was stopped."""
    address = predictor.url.removeprefix("http://")
    probe, *connections = [http.client.HTTPConnection(address, timeout=30) for _ in range(401)]
    try:
        for connection in [probe, *connections]:
            connection.connect()
        get_json(f"{predictor.url}/v2/health/live")  # because the server has then accepted the connections
        predictor.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, predictor.process.pid, os.WSTOPPED)
        try:
            for connection in connections:
                connection.request("POST", "/v1/models/digits:predict", body)
            probe.request("GET", "/v2/models/digits/ready")
            # The server's buffer holds a part of a large request, which is enough for it to count.
            wait_for_arrival([probe], 0)
            wait_for_arrival(connections, 0 if len(body) <= SMALL_BODY else len(body) - 1)
        finally:
            predictor.process.send_signal(signal.SIGCONT)
        assert probe.getresponse().status == 200
        answers = [connection.getresponse() for connection in connections]
        return [(answer.status, answer.getheader("Retry-After")) for answer in answers]
    finally:
        for connection in [probe, *connections]:
            connection.close()


def wait_for_arrival(connections: list[http.client.HTTPConnection], remaining: int) -> None:
    """Wait until the server's buffers have what was sent on each connection, except `remaining` bytes.

    A busy machine delays even local traffic.
    """
    deadline = time.monotonic() + 30
    while any(_unacknowledged(connection) > remaining for connection in connections):
        assert time.monotonic() < deadline, "what was sent did not arrive"
        time.sleep(0.01)


def _unacknowledged(connection: http.client.HTTPConnection) -> int:
    """Return the number of bytes sent on a connection that the server has not acknowledged."""
    return int.from_bytes(fcntl.ioctl(connection.sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
