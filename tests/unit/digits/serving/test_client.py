"""The client with the predictor, and with programs that are not an endpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from digits.cli.doctor import run_check
from digits.cli.engine_checks import check_endpoint
from digits.errors import EndpointError, UsageError
from digits.http import Response
from digits.serving import client
from digits.serving.app import PredictApp
from digits.serving.slot import LoadedModel, ModelSlot
from digits.settings import Settings
from digits.signature import max_images
from digits.tasks.task import find
from tests.helpers.http_server import http_server
from tests.helpers.support import DRIPS, Finished, Predictor, answering, dripping
from tests.helpers.tasks import LinearModel, task_text
from tests.helpers.untrusted import untrusted_server

IMAGE = np.zeros((1, 28, 28), np.uint8)
PAGE = b"<!doctype html><title>Welcome</title>"
NO_ROWS = {"name": "class", "datatype": "INT64", "shape": [0], "parameters": {"binary_data_size": 0}}
NOT_OURS = [PAGE, b"", b"[]", b'{"predictions": []}', json.dumps({"outputs": [NO_ROWS]}).encode()]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", DRIPS)
def test_a_response_that_never_ends_is_an_endpoint_error(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head or a body that arrives byte by byte is an error after TIMEOUT_SECONDS."""
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", 0.5)
    with dripping(DRIPS[part]) as address, pytest.raises(EndpointError, match=rf"{address}.*: timed out"):
        client.predict(f"http://{address}", IMAGE)


@pytest.mark.parametrize("body", NOT_OURS)
def test_a_response_without_a_prediction_is_an_error(body: bytes) -> None:
    """A response without a prediction is an EndpointError that quotes it."""
    with answering(body) as address, pytest.raises(EndpointError, match="expected a class and 10") as error:
        client.predict(f"http://{address}", IMAGE)
    assert repr(body[:80].decode()) in error.value.message


@pytest.mark.parametrize("body", NOT_OURS)
def test_doctor_reports_another_program_on_the_port(
    body: bytes, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`digits doctor` reports another program on the predictor's port."""
    with answering(body) as address:
        monkeypatch.setattr("backends.process.backend.ProcessBackend.endpoint", lambda _: f"http://{address}")
        found = run_check("endpoint", False, lambda: check_endpoint(settings))
    assert (found.ok, found.found) == (None, f"the server at http://{address} is not a predictor of digits")


def test_more_images_than_a_request_may_have_are_predicted_in_several(
    predictor: Predictor, expected: tuple[np.ndarray, np.ndarray], finished: Finished
) -> None:
    """The client sends as many requests as the images need, and returns one answer."""
    images, probabilities = expected
    count = max_images(find("digits")) // len(images) + 1
    answer = client.predict(predictor.url, np.tile(images, (count, 1, 1)))
    assert answer.classes.tolist() == probabilities.argmax(1).tolist() * count
    assert answer.probabilities.shape == (count * len(images), 10)
    assert answer.release == finished.version


def test_the_client_returns_the_labels_of_a_task() -> None:
    """For a task in colour the client sends as many requests as its images need, and returns their labels."""
    task = find(task_text(("red", "grün", "deep blue"), (96, 96, 3)))
    slot, linear = ModelSlot(), LinearModel(task)
    slot.swap(LoadedModel({"version": "1", "task": task.text()}, linear))
    images = np.random.default_rng(0).integers(0, 256, (max_images(task) + 1, *task.shape), np.uint8)
    with http_server(PredictApp(slot, "colours", {}).listener) as address:
        answer = client.predict(f"http://{address}", images, task=task)
    assert np.allclose(answer.probabilities, linear(images / np.float32(255)), atol=1e-5)
    assert answer.labels == [task.labels[n] for n in answer.classes]


def test_an_answer_of_a_release_with_other_labels_is_an_error() -> None:
    """If the labels change their order after the client read the task, no answer has the wrong one of them."""
    task, later = (find(task_text(labels, (96, 96, 3))) for labels in (("red", "blue"), ("blue", "red")))
    slot = ModelSlot()
    slot.swap(LoadedModel({"version": "2", "task": later.text()}, LinearModel(later)))
    with http_server(PredictApp(slot, "colours", {}).listener) as address:
        with pytest.raises(EndpointError, match="labels of the task colours") as error:
            client.predict(f"http://{address}", np.zeros((1, 96, 96, 3), np.uint8), task=task)
        assert client.predict(f"http://{address}", np.zeros((1, 96, 96, 3), np.uint8), task=later).release == "2"
    assert error.value.remedy == "repeat the command, because the release has changed"


@pytest.mark.parametrize(
    "endpoint", ["here:8080", "http://h?x", "http://h/#x", "http://u:password@h", "http://h:x", ""]
)
def test_other_addresses_than_an_endpoints_are_rejected(endpoint: str) -> None:
    """An address to which no path can be appended is an error that does not show a password."""
    with pytest.raises(UsageError, match="expected an address") as error:
        client.predict(endpoint, IMAGE)
    assert "password" not in str(error.value)


def test_the_remedy_for_a_silent_endpoint_on_kubeflow_can_be_pasted() -> None:
    """The port-forward that leads to an endpoint on Kubeflow names its namespace and its Deployment."""
    settings = Settings(backend="kubeflow", namespace="team", task="fashion")
    for call in (
        lambda: client.metadata("http://127.0.0.1:9", settings),
        lambda: client.predict("http://127.0.0.1:9", IMAGE, settings),
    ):
        with pytest.raises(EndpointError) as error:
            call()
        assert " -n team port-forward deployment/fashion-predictor" in error.value.remedy


@pytest.mark.parametrize("status", [200, 400])
def test_a_token_that_a_server_repeats_is_masked(status: int) -> None:
    """An error with the text of a server that repeats our token does not show it."""
    with answering(b"x" * 190 + b"no access for C4n4rY", status) as address, pytest.raises(EndpointError) as error:
        client.predict(f"http://{address}", IMAGE, Settings(endpoint_token="C4n4rY"))
    assert "C4n" not in str(error.value)


def test_the_client_returns_a_prediction(
    predictor: Predictor, expected: tuple[np.ndarray, np.ndarray], finished: Finished
) -> None:
    """The client returns classes, probabilities and the release that predicted."""
    images, probabilities = expected
    answer = client.predict(predictor.url, images)
    assert answer.classes.tolist() == probabilities.argmax(1).tolist()
    assert answer.labels == list(map(str, answer.classes))
    assert np.abs(answer.probabilities - probabilities).max() < 1e-5
    assert answer.release == finished.version


def test_labels_of_any_length_take_the_memory_of_their_letters() -> None:
    """An endpoint may send one long text and many empty ones; equally long ones would need terabytes."""
    content = (1 << 20).to_bytes(4, "little") + b"x" * (1 << 20) + bytes(4 * 300_000)
    values = client._values("BYTES", content)
    assert (len(values), len(values[0]), values[-1]) == (300_001, 1 << 20, "")


def test_the_module_can_be_imported_whatever_the_default_home_is(tmp_path: Path) -> None:
    """A home directory that is no valid DIGITS_HOME does not prevent the import, because DIGITS_HOME may be another."""
    environment = os.environ | {"HOME": str(tmp_path / "a*b")}
    command = [sys.executable, "-c", "import digits.serving.client"]
    subprocess.run(command, env=environment, timeout=60, check=True)


def prediction(monkeypatch: pytest.MonkeyPatch, *tensors: tuple[str, str, np.ndarray]) -> None:
    """Have each request answered by the tensors (name, datatype, values)."""
    outputs = [
        {"name": name, "datatype": kind, "parameters": {"binary_data_size": values.nbytes}}
        for name, kind, values in tensors
    ]
    head = json.dumps({"outputs": outputs}).encode()
    content = head + b"".join(values.tobytes() for _, _, values in tensors)
    answer = Response(200, {"Inference-Header-Content-Length": str(len(head))}, content)
    monkeypatch.setattr(client, "request", lambda *_, **__: answer)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1])
def test_numbers_that_are_no_probabilities_are_refused(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer with other numbers than 0 to 1 is no prediction; NaN would not be JSON either."""
    prediction(
        monkeypatch, ("class", "INT64", np.zeros(1, "<i8")), ("probabilities", "FP32", np.full(10, value, "<f4"))
    )
    with pytest.raises(EndpointError, match="expected a class and 10 probabilities"):
        client.predict("http://127.0.0.1:9", IMAGE)


@pytest.mark.parametrize("index", [-1, 0, 99])
def test_labels_that_are_no_texts_are_refused(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer with numbers as its labels, or with a class that the task does not have, is an EndpointError."""
    values = ("class", "INT64", np.full(1, index, "<i8")), ("probabilities", "FP32", np.full(10, 0.1, "<f4"))
    prediction(monkeypatch, *values, ("label", "INT64", np.full(1, 3, "<i8")))
    with pytest.raises(EndpointError, match="expected"):
        client.predict("http://127.0.0.1:9", IMAGE)


def test_a_certificate_that_is_not_trusted_has_its_own_remedy(tmp_path: Path) -> None:
    """For an endpoint with an unknown certificate, the remedy is not to start one."""
    with untrusted_server(tmp_path) as host:
        for call in (
            lambda: client.metadata(f"https://{host}", Settings()),
            lambda: client.predict(f"https://{host}", IMAGE),
        ):
            with pytest.raises(EndpointError, match="CERTIFICATE_VERIFY_FAILED") as error:
                call()
            assert "SSL_CERT_FILE" in error.value.remedy
