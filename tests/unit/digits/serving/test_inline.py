"""Predictions answered on the connection, which must equal those of the application."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from digits.serving import limits
from digits.serving.app import PredictApp
from digits.serving.inline import InlinePredictProtocol
from digits.serving.slot import LoadedModel, ModelSlot
from tests.helpers.asgi_server import asgi_server

V1, V2 = "/v1/models/digits:predict", "/v2/models/digits/infer"
IMAGE = np.full((28, 28), 0.5).tolist()
ONE = b'{"instances":' + json.dumps([IMAGE]).encode() + b"}"
JSON = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 28, 28], "data": IMAGE}]}
RAW = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28], "parameters": {"binary_data_size": 784}}
BINARY = json.dumps({"inputs": [RAW], "parameters": {"binary_data_output": True}}).encode()
CASES = {
    "V1": (V1, ONE, ""),
    "V1, two images": (V1, b'{"instances":' + json.dumps([IMAGE, IMAGE]).encode() + b"}", ""),
    "V2": (V2, json.dumps(JSON).encode(), ""),
    "V2, raw": (V2, BINARY + bytes(784), f"Inference-Header-Content-Length: {len(BINARY)}\r\n"),
    "no body": (V1, b"", ""),
    "no JSON": (V1, b"{", ""),
    "out of range": (V1, ONE.replace(b"0.5", b"5.5", 1), ""),
    "failing": (V1, ONE.replace(b"0.5", b"0.25"), ""),
}


async def inner(scope: Any, receive: Any, send: Any) -> None:
    """Answer in place of KServe's application."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"inner"})


def run(pixels: np.ndarray) -> np.ndarray:
    """Return the mean pixel as each probability; fail for images of 0.25."""
    if (pixels == 0.25).all():
        raise RuntimeError("the model failed")
    return np.full((len(pixels), 10), pixels.mean(), np.float32)


@pytest.fixture
def app() -> PredictApp:
    """Return the application, with a model in it."""
    slot = ModelSlot()
    slot.swap(LoadedModel({"version": "1"}, run))
    return PredictApp(slot, "digits", inner)


@pytest.fixture
def client(app: PredictApp) -> Iterator[socket.socket]:
    """A connection to a server with InlinePredictProtocol."""
    options: Any = {"ws": "none", "lifespan": "off", "log_config": None, "date_header": False}
    with asgi_server(app, http=functools.partial(InlinePredictProtocol, app), **options) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as one:
            yield one


def request(path: str, body: bytes, headers: str = "", version: str = "1.1") -> bytes:
    """Return an HTTP request."""
    return f"POST {path} HTTP/{version}\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answers(client: socket.socket, count: int) -> list[bytes]:
    """Return `count` whole responses."""
    received, responses = b"", []
    while len(responses) < count:
        head, end, rest = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0] or 0)
        if end and len(rest) >= length:
            responses.append(head + end + rest[:length])
            received = rest[length:]
        else:
            block = client.recv(65536)
            assert block, f"closed after {received!r}"
            received += block
    assert received == b"", "more than the expected responses"
    return responses


@pytest.fixture
def app_paths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that reached the application."""
    paths: list[str] = []
    original = PredictApp.__call__

    async def recorded(self: PredictApp, scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await original(self, scope, receive, send)

    monkeypatch.setattr(PredictApp, "__call__", recorded)
    return paths


@pytest.mark.parametrize("case", CASES)
def test_the_response_equals_that_of_the_application(case: str, client: socket.socket, app_paths: list[str]) -> None:
    """The response on the connection and that of the application are equal, byte for byte."""
    path, body, headers = CASES[case]
    client.sendall(request(path, body, headers))
    (inline,) = answers(client, 1)
    assert app_paths == []
    client.sendall(request(f"{path}?through-the-application", body, headers))
    assert answers(client, 1) == [inline]
    assert app_paths == [path]
    status = inline.split()[1]
    expected = {"no body": b"400", "no JSON": b"400", "out of range": b"400", "failing": b"500"}
    assert status == expected.get(case, b"200")


@pytest.mark.parametrize(
    "headers",
    ["Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n", "Content-Encoding: identity\r\n", "large"],
)
def test_uncommon_requests_reach_the_application(headers: str, client: socket.socket, app_paths: list[str]) -> None:
    """Chunked, expecting, encoded and large requests are answered by the application."""
    body = ONE.replace(b",", b"," + b" " * 50) if headers == "large" else ONE
    if "chunked" in headers:
        chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        client.sendall(f"POST {V1} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode() + chunk)
    else:
        client.sendall(request(V1, body, "" if headers == "large" else headers))
    count = 2 if "Expect" in headers else 1
    *first, last = answers(client, count)
    assert [answer.split()[1] for answer in first] == [b"100"] * (count - 1)
    assert last.startswith(b"HTTP/1.1 200 ")
    assert app_paths == [V1]


def test_pipelined_requests_are_answered_in_order(client: socket.socket, app_paths: list[str]) -> None:
    """Pipelined requests are answered in order, whether on the connection or by the application."""
    probe = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    client.sendall(request(V1, ONE) + request(V1, b"{") + probe + request(V1, ONE) + request(V1, b"{"))
    responses = answers(client, 5)
    assert [answer.split()[1] for answer in responses] == [b"200", b"400", b"200", b"200", b"400"]
    assert responses[2].endswith(b"inner")
    assert app_paths[0] == "/v2/health/live"


def test_a_request_in_small_pieces(client: socket.socket, app_paths: list[str]) -> None:
    """A request that arrives in pieces is answered on the connection, and so is the next one."""
    whole = request(V1, ONE)
    for _ in range(2):
        for start in range(0, len(whole), 700):
            client.sendall(whole[start : start + 700])
            time.sleep(0.005)
        assert answers(client, 1)[0].startswith(b"HTTP/1.1 200 ")
    assert app_paths == []


@pytest.mark.parametrize(("headers", "version"), [("Connection: close\r\n", "1.1"), ("", "1.0")])
def test_the_client_can_close_the_connection(headers: str, version: str, client: socket.socket) -> None:
    """After HTTP/1.0 or Connection: close, the server closes the connection."""
    client.sendall(request(V1, ONE, headers, version))
    assert answers(client, 1)[0].startswith(b"HTTP/1.1 200 ")
    assert client.recv(1) == b""


def test_an_incomplete_prediction_gets_408(client: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """An incomplete prediction request gets 408 after the timeout."""
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 0.3)
    client.sendall(request(V1, ONE)[:-1])
    assert answers(client, 1)[0].startswith(b"HTTP/1.1 408 ")
    assert client.recv(1) == b""


def test_a_client_that_reads_nothing_is_disconnected(client: socket.socket) -> None:
    """A client that pipelines requests and reads no response is disconnected."""
    client.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError, ConnectionError):
        while sent < 100_000:
            client.sendall(request(V1, b"{") * 100)
            sent += 100
    assert sent < 100_000
