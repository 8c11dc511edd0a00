"""The HTTP connection of predictor and gateway with slow and greedy clients, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from digits.serving import limits
from digits.serving.limits import LimitedHttpProtocol
from tests.helpers.asgi_server import asgi_server

# Bytes of the response to `/large`: more than a kernel buffers for a client that reads nothing (by default 4 MiB to
# send, and at most 32 MiB received, for a client that reads).
RESPONSE = 64 * 2**20
MEDIUM = 8 * 2**20  # bytes of the response to `/medium`
HEAD = b"POST / HTTP/1.1\r\nHost: here\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read the body and answer its length; `/deaf` does not read it, `/large`, `/medium` answer MBs, `/late` waits."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/late":
        await asyncio.sleep(0.2)
    size, more = 0, scope["path"] != "/deaf"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    sizes = {"/large": RESPONSE, "/medium": MEDIUM}
    content = bytes(sizes[scope["path"]]) if scope["path"] in sizes else b"%d" % size
    headers = [(b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


Connect = Callable[[], socket.socket]
KEEP_ALIVE_SECONDS = 2
ONE = HEAD + b"Content-Length: 3\r\n\r\nabc"


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the server's timeouts to half a second, for tests of clients that are disconnected."""
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(limits, "RESPONSE_SECONDS", 0.5)


@pytest.fixture
def loop() -> str:
    """The server's event loop, by default that of the predictor."""
    return "uvloop"


@pytest.fixture
def connect(loop: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """A function that connects to a server with at most four connections."""
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 4)
    options = {"timeout_keep_alive": KEEP_ALIVE_SECONDS, "loop": loop}
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(
            asgi_server(app, http=LimitedHttpProtocol, ws="none", lifespan="off", log_config=None, **options)
        )
        host, port = url.removeprefix("http://").split(":")

        def one() -> socket.socket:
            return stack.enter_context(socket.create_connection((host, int(port)), timeout=10))

        yield one


def until_closed(client: socket.socket) -> bytes:
    """Return everything that arrives until the server closes or resets the connection; a timeout fails the test."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while block := client.recv(65536):
            received += block
    return received


def drip(client: socket.socket, piece: bytes) -> bytes:
    """Send a piece repeatedly until the server closes the connection, and return what arrived."""
    deadline = time.monotonic() + 20
    client.settimeout(0.05)
    received = b""
    while time.monotonic() < deadline:
        try:
            client.sendall(piece)
            block = client.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            return received
        if not block:
            return received
        received += block
    pytest.fail("the server keeps a connection that sends no request")


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize("beginning", [b"", b"P", HEAD, HEAD + b"Content-Length: 9\r\n\r\n1234"])
def test_an_incomplete_request_gets_408(connect: Connect, beginning: bytes) -> None:
    """A client that stops sending before or within its request gets 408, and its connection is closed."""
    client = connect()
    client.sendall(beginning)
    received = until_closed(client)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within" in received


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (HEAD, b"X-Drip: 1\r\n"),
        (HEAD + b"Content-Length: 1000000\r\n\r\n", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (HEAD.replace(b"/", b"/deaf", 1) + b"Content-Length: 1000000\r\n\r\n", b"x"),
        (HEAD + b"Content-Length: 1\r\n\r\nx", b"\r\n"),
    ],
    ids=["head", "body", "chunks", "body of an answered request", "after a request"],
)
def test_a_dripping_client_is_disconnected(connect: Connect, beginning: bytes, piece: bytes) -> None:
    """A client that sends a few bytes from time to time is disconnected too."""
    client = connect()
    client.sendall(beginning)
    drip(client, piece)


@pytest.mark.usefixtures("short_timeouts")
def test_a_connection_may_be_idle_between_requests(connect: Connect) -> None:
    """A connection may be idle between requests for longer than one request may take."""
    client = connect()
    for _ in range(2):
        client.sendall(ONE)
        assert client.recv(65536).endswith(b"\r\n\r\n3")
        time.sleep(0.8)


def test_an_idle_connection_is_closed(connect: Connect) -> None:
    """A connection without further requests is closed after the keep-alive time."""
    client = connect()
    client.sendall(ONE)
    assert until_closed(client).endswith(b"\r\n\r\n3")


def test_too_many_connections_are_rejected(connect: Connect) -> None:
    """A connection over the limit gets 503 with Retry-After, and the others continue."""
    first, *_ = [connect() for _ in range(4)]
    received = until_closed(connect())
    assert received.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in received
    first.sendall(ONE)
    assert first.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "beginning",
    [
        HEAD + b"X: ",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;extension=",
    ],
    ids=["head", "trailer", "chunk extension"],
)
def test_headers_are_limited(connect: Connect, beginning: bytes) -> None:
    """Bytes outside a body are limited, and more of them get 431."""
    client = connect()
    client.sendall(beginning)
    with contextlib.suppress(ConnectionError):
        for _ in range(64):
            client.sendall(b"x" * 65536)
        pytest.fail("the server accepted 4 MiB of a header")
    assert until_closed(client)[:13] in (b"HTTP/1.1 431 ", b"")  # a reset may overtake the response


def test_pipelined_requests_are_limited(connect: Connect) -> None:
    """A few pipelined requests are answered in order; hundreds are rejected."""
    client = connect()
    client.sendall(b"".join(HEAD + b"Content-Length: %d\r\n\r\n" % n + b"x" * n for n in range(5)))
    received = b""
    while received.count(b"HTTP/1.1 200") < 5 or not received.endswith(b"4"):
        received += client.recv(65536)
    assert [part[-1:] for part in received.split(b"HTTP/1.1 200 OK")[1:]] == [b"0", b"1", b"2", b"3", b"4"]
    greedy = connect()
    greedy.sendall((HEAD + b"Content-Length: 0\r\n\r\n") * 500)
    assert b"HTTP/1.1 400 " in until_closed(greedy)


@pytest.mark.usefixtures("short_timeouts")
def test_an_unread_response_is_dropped(connect: Connect) -> None:
    """A client that reads nothing of a large response is disconnected, and others are served meanwhile."""
    greedy = connect()
    greedy.sendall(HEAD.replace(b"/", b"/large", 1) + b"Content-Length: 0\r\n\r\n")
    other = connect()
    other.sendall(ONE)
    assert other.recv(65536).endswith(b"\r\n\r\n3")
    time.sleep(1.5)
    assert len(until_closed(greedy)) < RESPONSE


@pytest.mark.usefixtures("short_timeouts")
def test_a_slowly_read_response_is_dropped(connect: Connect) -> None:
    """A client that reads a large response slowly is disconnected like one that reads nothing."""
    greedy, received = connect(), 0
    greedy.sendall(HEAD.replace(b"/", b"/large", 1) + b"Content-Length: 0\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        while block := greedy.recv(65536):
            received += len(block)
            time.sleep(0.02)
    assert received < RESPONSE


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("ahead", [1, 3])
def test_a_reading_client_is_not_disconnected(connect: Connect, ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that keeps reading large responses, also to pipelined requests, is not disconnected."""
    monkeypatch.setattr(limits, "RESPONSE_SECONDS", 1.0)
    client, request = connect(), HEAD.replace(b"/", b"/medium", 1) + b"\r\n"
    client.sendall(request * ahead)
    until = time.monotonic() + 3.5
    with client.makefile("rb") as answers:
        while time.monotonic() < until:
            while answers.readline().strip():
                pass
            assert len(answers.read(MEDIUM)) == MEDIUM
            client.sendall(request)


def test_an_undeliverable_response_is_not_an_error(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """Garbage after two requests closes the connection; their unfinished responses are dropped without an error."""
    request = HEAD.replace(b"/", b"/late", 1) + b"Content-Length: 0\r\n\r\n"
    with caplog.at_level(logging.ERROR):
        client = connect()
        client.sendall(request + request + b"\xff\xfe\r\n\r\n")
        assert until_closed(client).startswith(b"HTTP/1.1 400 ")
        time.sleep(0.5)
    assert caplog.messages == []
