"""Predictions answered on the connection: nobody can tell them from those that go through the application."""

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
    """In KServe's place."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"inner"})


def run(pixels: np.ndarray) -> np.ndarray:
    """A model that can't bear a quarter."""
    if (pixels == 0.25).all():
        raise RuntimeError("a quarter")
    return np.full((len(pixels), 10), pixels.mean(), np.float32)


@pytest.fixture
def app() -> PredictApp:
    """Return the application, with a model in it."""
    slot = ModelSlot()
    slot.swap(LoadedModel({"version": "1"}, run))
    return PredictApp(slot, "digits", inner)


@pytest.fixture
def client(app: PredictApp) -> Iterator[socket.socket]:
    """A connection to a server that answers small predictions directly."""
    options: Any = {"ws": "none", "lifespan": "off", "log_config": None, "date_header": False}
    with asgi_server(app, http=functools.partial(InlinePredictProtocol, app), **options) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as one:
            yield one


def request(path: str, body: bytes, headers: str = "", version: str = "1.1") -> bytes:
    """An HTTP request."""
    return f"POST {path} HTTP/{version}\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answers(client: socket.socket, count: int) -> list[bytes]:
    """So many whole answers."""
    came, found = b"", []
    while len(found) < count:
        head, end, rest = came.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0] or 0)
        if end and len(rest) >= length:
            found.append(head + end + rest[:length])
            came = rest[length:]
        else:
            block = client.recv(65536)
            assert block, f"closed after {came!r}"
            came += block
    assert came == b"", "more than was asked for"
    return found


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that went through the application."""
    seen: list[str] = []
    whole = PredictApp.__call__

    async def noted(self: PredictApp, scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])
        await whole(self, scope, receive, send)

    monkeypatch.setattr(PredictApp, "__call__", noted)
    return seen


@pytest.mark.parametrize("case", CASES)
def test_both_ways_give_the_same_answer(case: str, client: socket.socket, passed: list[str]) -> None:
    """A request answered directly gets, byte for byte, what the application answers."""
    path, body, headers = CASES[case]
    client.sendall(request(path, body, headers))
    (direct,) = answers(client, 1)
    assert passed == []
    client.sendall(request(f"{path}?the-usual-way", body, headers))
    assert answers(client, 1) == [direct]
    assert passed == [path]
    status = direct.split()[1]
    expected = {"no body": b"400", "no JSON": b"400", "out of range": b"400", "failing": b"500"}
    assert status == expected.get(case, b"200")


@pytest.mark.parametrize(
    "headers",
    ["Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n", "Content-Encoding: identity\r\n", "large"],
)
def test_unusual_requests_go_the_usual_way(headers: str, client: socket.socket, passed: list[str]) -> None:
    """What is chunked, expects, is encoded or large goes through the application, and is answered as well."""
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
    assert passed == [V1]


def test_answers_keep_the_order_of_the_requests(client: socket.socket, passed: list[str]) -> None:
    """Of requests sent ahead, whichever way each goes, the first is answered first."""
    probe = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    client.sendall(request(V1, ONE) + request(V1, b"{") + probe + request(V1, ONE) + request(V1, b"{"))
    found = answers(client, 5)
    assert [answer.split()[1] for answer in found] == [b"200", b"400", b"200", b"200", b"400"]
    assert found[2].endswith(b"inner")
    assert passed[0] == "/v2/health/live"


def test_a_request_in_small_pieces(client: socket.socket, passed: list[str]) -> None:
    """A request that comes in pieces is put together, and so is the next one on the connection."""
    whole = request(V1, ONE)
    for _ in range(2):
        for start in range(0, len(whole), 700):
            client.sendall(whole[start : start + 700])
            time.sleep(0.005)
        assert answers(client, 1)[0].startswith(b"HTTP/1.1 200 ")
    assert passed == []


@pytest.mark.parametrize(("headers", "version"), [("Connection: close\r\n", "1.1"), ("", "1.0")])
def test_a_connection_ends_where_the_client_says_so(headers: str, version: str, client: socket.socket) -> None:
    """After the answer to an HTTP/1.0 request, or with Connection: close, the server closes."""
    client.sendall(request(V1, ONE, headers, version))
    assert answers(client, 1)[0].startswith(b"HTTP/1.1 200 ")
    assert client.recv(1) == b""


def test_a_prediction_that_does_not_come_is_given_up(client: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request half sent is a 408 when its time is over."""
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 0.3)
    client.sendall(request(V1, ONE)[:-1])
    assert answers(client, 1)[0].startswith(b"HTTP/1.1 408 ")
    assert client.recv(1) == b""


def test_a_client_that_fetches_nothing_is_not_answered_for_ever(client: socket.socket) -> None:
    """Requests sent ahead by a client that reads no answer stop being answered, and the connection ends."""
    client.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError, ConnectionError):
        while sent < 100_000:
            client.sendall(request(V1, b"{") * 100)
            sent += 100
    assert sent < 100_000
