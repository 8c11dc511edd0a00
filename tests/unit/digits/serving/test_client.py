"""Programs that are taken for an endpoint and are none."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from digits import http
from digits.cli.doctor import run_check
from digits.cli.engine_checks import check_endpoint
from digits.errors import EndpointError
from digits.release import deploy
from digits.serving import client
from digits.settings import Settings
from tests.helpers.support import answering

DRIPS = {"head": b"HTTP/1.1 200 OK\r\nX-Drip: ", "body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"}
IMAGE = np.zeros((1, 28, 28), np.uint8)
PAGE = b"<!doctype html><title>Welcome</title>"
NO_ROWS = {"name": "class", "datatype": "INT64", "shape": [0], "parameters": {"binary_data_size": 0}}
NOT_OURS = [PAGE, b"", b"[]", b'{"predictions": []}', json.dumps({"outputs": [NO_ROWS]}).encode()]


@contextlib.contextmanager
def dripping(begun: bytes) -> Iterator[str]:
    """The host:port of a server that begins to answer every request, and then sends a byte now and then, for ever."""
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(begun)
            while not over.wait(0.05):
                connection.sendall(b"x")

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=server.accept()[:1], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        over.set()
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", DRIPS)
def test_an_answer_that_drips_is_not_waited_for(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that never ends, though something always comes, is an error in time: of a request and of waiting."""
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", 0.5)
    with dripping(DRIPS[part]) as address:
        with pytest.raises(EndpointError, match=rf"{address}.*: timed out"):
            client.predict(f"http://{address}", IMAGE)
        with pytest.raises(EndpointError, match=r"after 0 s: .*: timed out"):
            deploy.wait_for(f"http://{address}", {"version": "v2"}, seconds=0.4)


def test_an_answer_that_is_far_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what has no end, no more is kept than an answer of ours may have."""
    monkeypatch.setattr(http, "MOST_BYTES", 1000)
    with answering(bytes(5000)) as address, pytest.raises(EndpointError, match="sent more than 1000 bytes"):
        client.predict(f"http://{address}", IMAGE)


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
        deploy.wait_for(f"http://{address}", {"version": "v2"}, seconds=0.2)


def test_an_endpoint_that_answers_no_golden_image_is_waited_for() -> None:
    """The right release without a prediction for the golden image is not ours either."""
    said = b'{"parameters": {"release": "v1"}, "predictions": []}'
    golden = {"image": [[0] * 28] * 28, "probabilities": [0.1] * 10, "class": 0}
    with answering(said) as address, pytest.raises(EndpointError, match=r"after 0 s: an answer that is not ours"):
        deploy.wait_for(f"http://{address}", {"version": "v1", "golden": golden}, seconds=0.2)


@pytest.mark.parametrize("said", NOT_OURS)
def test_doctor_knows_a_stranger_on_the_endpoints_port(
    said: bytes, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program where the predictor should be is named as such, and nothing is thrown."""
    with answering(said) as address:
        monkeypatch.setattr("backends.process.backend.ProcessBackend.endpoint", lambda _: f"http://{address}")
        found = run_check("endpoint", False, lambda: check_endpoint(settings))
    assert (found.ok, found.found) == (None, f"the server at http://{address} is not a predictor of digits")
