"""The connection of predictor and gateway against clients that are slow or greedy, on real sockets."""

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

# Bytes that `/large` answers: more than a kernel keeps for a client that fetches nothing (4 MiB to send by default, and
# 32 MiB received at most, for a client that reads).
ANSWER = 64 * 2**20
MEDIUM = 8 * 2**20  # what `/medium` answers
HEAD = b"POST / HTTP/1.1\r\nHost: here\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body and answers its length; `/deaf` does not read, `/large`, `/medium` answer much, `/late` late."""
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
    sizes = {"/large": ANSWER, "/medium": MEDIUM}
    content = bytes(sizes[scope["path"]]) if scope["path"] in sizes else b"%d" % size
    headers = [(b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


Connect = Callable[[], socket.socket]
KEEP_ALIVE_SECONDS = 2
ONE = HEAD + b"Content-Length: 3\r\n\r\nabc"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's patience ends after half a second: for tests of clients that are cut off, not of busy machines."""
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(limits, "RESPONSE_SECONDS", 0.5)


@pytest.fixture
def loop() -> str:
    """The server's event loop: as it is served; a test may choose another."""
    return "uvloop"


@pytest.fixture
def connect(loop: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Connects to a server with at most four connections."""
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
    """All that still comes until the server closes; a reset closes too, a timeout fails."""
    came = b""
    with contextlib.suppress(ConnectionError):
        while block := client.recv(65536):
            came += block
    return came


def drip(client: socket.socket, piece: bytes) -> bytes:
    """Send a piece again and again until the server closes; what it said."""
    deadline = time.monotonic() + 20
    client.settimeout(0.05)
    came = b""
    while time.monotonic() < deadline:
        try:
            client.sendall(piece)
            block = client.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            return came
        if not block:
            return came
        came += block
    pytest.fail("the server goes on listening to a client that sends no request")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("begun", [b"", b"P", HEAD, HEAD + b"Content-Length: 9\r\n\r\n1234"])
def test_a_request_that_does_not_come_ends_the_connection(connect: Connect, begun: bytes) -> None:
    """Whoever is silent, before the request, in its head or in its body, gets a 408 and is let go."""
    client = connect()
    client.sendall(begun)
    came = until_closed(client)
    assert came.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within" in came


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("begun", "piece"),
    [
        (HEAD, b"X-Drip: 1\r\n"),
        (HEAD + b"Content-Length: 1000000\r\n\r\n", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (HEAD.replace(b"/", b"/deaf", 1) + b"Content-Length: 1000000\r\n\r\n", b"x"),
        (HEAD + b"Content-Length: 1\r\n\r\nx", b"\r\n"),
    ],
    ids=["head", "body", "chunks", "body of an answered request", "after a request"],
)
def test_dripping_ends_the_connection(connect: Connect, begun: bytes, piece: bytes) -> None:
    """Whoever sends a little now and then, so as to hold a connection, is let go all the same."""
    client = connect()
    client.sendall(begun)
    drip(client, piece)


@pytest.mark.usefixtures("impatient")
def test_connections_that_are_idle_between_requests_stay(connect: Connect) -> None:
    """A client may keep its connection open longer than one request may take."""
    client = connect()
    for _ in range(2):
        client.sendall(ONE)
        assert client.recv(65536).endswith(b"\r\n\r\n3")
        time.sleep(0.8)


def test_connections_that_stay_idle_end(connect: Connect) -> None:
    """Who asks nothing more after an answer is let go too, after the time that a connection is kept alive."""
    client = connect()
    client.sendall(ONE)
    assert until_closed(client).endswith(b"\r\n\r\n3")


def test_too_many_connections_are_refused_and_others_stay(connect: Connect) -> None:
    """One connection too many gets a 503 that says when to come again; those that were there go on."""
    first, *_ = [connect() for _ in range(4)]
    came = until_closed(connect())
    assert came.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in came
    first.sendall(ONE)
    assert first.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "begun",
    [
        HEAD + b"X: ",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;extension=",
    ],
    ids=["head", "trailer", "chunk extension"],
)
def test_heads_are_bounded(connect: Connect, begun: bytes) -> None:
    """What is sent beside a body is not kept without end: 431."""
    client = connect()
    client.sendall(begun)
    with contextlib.suppress(ConnectionError):
        for _ in range(64):
            client.sendall(b"x" * 65536)
        pytest.fail("4 MiB of a header were taken")
    assert until_closed(client)[:13] in (b"HTTP/1.1 431 ", b"")  # a reset may overtake the answer


def test_requests_sent_ahead_are_bounded(connect: Connect) -> None:
    """A few requests sent ahead are answered in order; hundreds are refused."""
    client = connect()
    client.sendall(b"".join(HEAD + b"Content-Length: %d\r\n\r\n" % n + b"x" * n for n in range(5)))
    came = b""
    while came.count(b"HTTP/1.1 200") < 5 or not came.endswith(b"4"):
        came += client.recv(65536)
    assert [part[-1:] for part in came.split(b"HTTP/1.1 200 OK")[1:]] == [b"0", b"1", b"2", b"3", b"4"]
    greedy = connect()
    greedy.sendall((HEAD + b"Content-Length: 0\r\n\r\n") * 500)
    assert b"HTTP/1.1 400 " in until_closed(greedy)


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_nobody_fetches_is_thrown_away(connect: Connect) -> None:
    """Whoever asks for much and fetches nothing is cut off; the others are served meanwhile."""
    greedy = connect()
    greedy.sendall(HEAD.replace(b"/", b"/large", 1) + b"Content-Length: 0\r\n\r\n")
    other = connect()
    other.sendall(ONE)
    assert other.recv(65536).endswith(b"\r\n\r\n3")
    time.sleep(1.5)
    assert len(until_closed(greedy)) < ANSWER


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_is_fetched_too_slowly_is_thrown_away(connect: Connect) -> None:
    """Whoever fetches a little now and then holds an answer no longer than whoever fetches nothing."""
    greedy, came = connect(), 0
    greedy.sendall(HEAD.replace(b"/", b"/large", 1) + b"Content-Length: 0\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        while block := greedy.recv(65536):
            came += len(block)
            time.sleep(0.02)
    assert came < ANSWER


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("ahead", [1, 3])
def test_who_fetches_every_answer_is_not_cut_off(connect: Connect, ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that fetches large answers all the time, also with requests sent ahead, goes on beyond the limit."""
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


def test_an_answer_that_has_nobody_to_go_to_is_no_error(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """Garbage behind two requests ends the connection; what is still being answered then is dropped in silence."""
    request = HEAD.replace(b"/", b"/late", 1) + b"Content-Length: 0\r\n\r\n"
    with caplog.at_level(logging.ERROR):
        client = connect()
        client.sendall(request + request + b"\xff\xfe\r\n\r\n")
        assert until_closed(client).startswith(b"HTTP/1.1 400 ")
        time.sleep(0.5)
    assert caplog.messages == []
