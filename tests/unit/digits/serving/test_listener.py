"""The HTTP server of predictor and gateway with slow, greedy and unusual clients, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from digits.serving import connections, listener
from digits.serving.listener import JSON, Listener, RejectedRequest, Request, Response, stop_signal
from tests.helpers.http_server import http_server

# Bytes of the response to `/large`: more than the kernel holds for a client that reads nothing.
RESPONSE = 64 * 2**20
MEDIUM = 8 * 2**20  # bytes of the response to `/medium`
HEAD = b"POST / HTTP/1.1\r\nHost: here\r\n"
GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
ONE = HEAD + b"Content-Length: 3\r\n\r\nabc"
MAX_BODY = 1 << 20
Connect = Callable[[], socket.socket]


async def handle(request: Request) -> Response:
    """Answer the number of bytes of the body; `/large` and `/medium` answer MBs, `/fail` fails.

    `/late` waits before it reads the body, and `/slow` afterwards.
    """
    path = request.scope.path
    if path == "/late":
        await asyncio.sleep(0.3)
    if path == "/fail":
        raise ZeroDivisionError
    if path == "/forbidden":
        raise RejectedRequest(405, "not here", ("allow", "GET"))
    body = await request.body(MAX_BODY) if path != "/deaf" else b""
    if path == "/slow":
        await asyncio.sleep(2)
    sizes = {"/large": RESPONSE, "/medium": MEDIUM}
    return Response(200, [JSON], bytes(sizes[path]) if path in sizes else b"%d" % len(body))


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the server's timeouts, for tests of clients that are disconnected."""
    monkeypatch.setattr(listener, "BODY_SECONDS", 0.5)
    monkeypatch.setattr(connections, "RESPONSE_SECONDS", 0.5)
    monkeypatch.setattr(listener, "IDLE_SECONDS", 2)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Listener:
    """A server that accepts four connections and keeps one of them free."""
    monkeypatch.setattr(connections, "CHECK_SECONDS", 0.1)
    for module in (connections, listener):
        monkeypatch.setattr(module, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(connections, "SPARE_CONNECTIONS", 1)
    monkeypatch.setattr(listener, "DISCARD_SECONDS", 0.5)
    return Listener(handle, max_held=2 * MAX_BODY)


@pytest.fixture
def connect(served: Listener) -> Iterator[Connect]:
    """A function that connects to the server."""
    with contextlib.ExitStack() as stack:
        host, port = stack.enter_context(http_server(served)).split(":")
        yield lambda: stack.enter_context(socket.create_connection((host, int(port)), timeout=10))


def until_closed(client: socket.socket) -> bytes:
    """Return everything that arrives until the server closes or resets the connection; a timeout fails the test."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while block := client.recv(65536):
            received += block
    return received


def answers(client: socket.socket, count: int) -> list[tuple[int, dict[str, str], bytes]]:
    """Return (status, headers, body) of the next `count` responses."""
    found = []
    with client.makefile("rb") as stream:
        for _ in range(count):
            status = int(stream.readline().split()[1])
            headers = {}
            while line := stream.readline().decode().strip():
                name, _, value = line.partition(": ")
                headers[name.lower()] = value
            found.append((status, headers, stream.read(int(headers.get("content-length", 0)))))
    return found


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


@pytest.mark.parametrize(
    "headers",
    [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        "Connection: Upgrade\r\nUpgrade: anything\r\n",
        "Upgrade: TLS/1.0\r\n",
        "Expect: something\r\n",
        "X:\r\nX: \t padded \t\r\n",
    ],
)
def test_unusual_headers_are_ignored(headers: str, connect: Connect) -> None:
    """A request that offers an upgrade, in one or two segments, is answered once, with its body."""
    client = connect()
    for _ in range(2):
        client.sendall(HEAD + headers.encode() + b"Content-Length: %d\r\n\r\n" % len(GET))
        time.sleep(0.1)
        client.sendall(GET + ONE)
        assert [body for _, _, body in answers(client, 2)] == [b"%d" % len(GET), b"3"]


@pytest.mark.parametrize("trailer", ["X: 1", "Content-Encoding: gzip", "Connection: close", "Content-Length: 9"])
def test_trailers_are_not_headers(trailer: str, connect: Connect) -> None:
    """Fields of a trailer change nothing."""
    client = connect()
    for _ in range(2):
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n" + trailer.encode() + b"\r\n\r\n")
        assert answers(client, 1)[0][::2] == (200, b"3")


@pytest.mark.parametrize(
    "bad", [b"BROKEN \xff\r\n\r\n", HEAD + b"Content-Length: x\r\n\r\n", b"\0" * 100 + b"\r\n\r\n"]
)
@pytest.mark.parametrize("path", [b"/", b"/late", b"/medium"])
def test_a_malformed_request_follows_the_answers_before_it(path: bytes, bad: bytes, connect: Connect) -> None:
    """Malformed bytes after a request get 400 after that request's whole response."""
    client = connect()
    client.sendall(GET.replace(b"/", path, 1) + bad)
    (first,), rest = answers(client, 1), until_closed(client)
    assert first[0] == 200
    assert rest.startswith(b"HTTP/1.1 400 ") or not rest  # `answers` may have buffered it


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"GET http://here/ HTTP/1.1\r\nHost: here\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: here\r\n\r\n", 400),
        (b"GET here HTTP/1.1\r\nHost: here\r\n\r\n", 400),
        (b"GET / HTTP/1.2\r\nHost: here\r\n\r\n", 400),
        (HEAD + b"Content-Length: +3\r\n\r\nabc", 400),
        (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\nabc", 400),
        (b"GET /fail HTTP/1.1\r\nHost: here\r\n\r\n", 500),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 415),
        (HEAD + b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 415),
        (HEAD + b"Content-Encoding: \xff\r\nContent-Length: 3\r\n\r\nabc", 415),
        (HEAD + b"Content-Encoding: Identity\r\nContent-Length: 3\r\n\r\nabc", 200),
        (HEAD + b"Content-Encoding:\r\nContent-Length: 3\r\n\r\nabc", 200),
        (HEAD + b"Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 400),
        (HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1), 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n%b\r\n" % bytes(65536) * 17, 413),
        (GET.replace(b"\r\n\r\n", b"\r\n" + b"a:\r\n" * 16000 + b"\r\n"), 431),
    ],
)
def test_the_status_of_unusual_requests(request_bytes: bytes, status: int, connect: Connect) -> None:
    """HTTP/1.0 and absolute forms are answered; malformed, compressed and large requests get their status."""
    client = connect()
    with contextlib.suppress(ConnectionError):
        client.sendall(request_bytes)
    assert answers(client, 1)[0][0] == status


@pytest.mark.parametrize("target", [b"OPTIONS *", b"CONNECT here:80", b"CONNECT /"])
def test_methods_of_the_server_are_allowed(target: bytes, connect: Connect) -> None:
    """`OPTIONS *` and CONNECT, which no path has, get the methods that the server has; the connection continues."""
    client = connect()
    for _ in range(2):
        client.sendall(target + b" HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\nabc")
        ((status, headers, body),) = answers(client, 1)
        assert (status, headers["allow"]) == (204 if b"*" in target else 405, "GET, HEAD, POST, OPTIONS")
        assert (b"*" in target) == ("content-length" not in headers) == (not body)


VALID_HOSTS = [
    *("", "here", "here:", "here:80", "127.0.0.1:80", "[::1]", "[::ffff:1.2.3.4]:80"),
    *("a_b.example.", "%C3%A4", "a,b;c"),
]
INVALID_HOSTS = [
    *("a b", "a\tb", "a/b", "u@a", "a:b", "a:80:80", "::1", "[::1", "[]", "[x]", "[:::]", "[1.2.3.4]", "[::1%25lo]"),
    *("[::1]a", "a?b", "a#b", "a\\b", "a%zz", "<a>", "http://a", '"a"', "\xff"),
]


def test_the_host_is_a_name_or_an_address(connect: Connect) -> None:
    """A Host with a name or an address, with and without a port, is accepted; another one gets 400."""
    client = connect()
    for hosts, status in ((VALID_HOSTS, 200), (INVALID_HOSTS, 400)):
        for host in hosts:
            client.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1"))
            assert answers(client, 1)[0][0] == status, host


def test_head_gets_the_headers_of_get(connect: Connect) -> None:
    """HEAD gets GET's headers without a body, and the connection continues."""
    client = connect()
    client.sendall(GET)
    ((status, headers, _),) = answers(client, 1)
    client.sendall(GET.replace(b"GET", b"HEAD"))
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(65536)
    assert (status, headers["content-length"]) == (200, "1")
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"\r\n\r\n")
    assert b"content-length: 1\r\n" in received


def test_failures_are_logged_once_a_minute(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """Unexpected errors get 500, and the log has one of many."""
    client = connect()
    with caplog.at_level(logging.INFO):
        client.sendall(GET.replace(b"/", b"/fail", 1) * 20)
        assert [status for status, _, _ in answers(client, 20)] == [500] * 20
        client.sendall(b"\xff\xfe\r\n\r\n")
        until_closed(client)
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("short_timeouts")
def test_an_incomplete_body_gets_408(connect: Connect) -> None:
    """A client that stops sending within a body gets 408, and its connection is closed."""
    client = connect()
    client.sendall(HEAD + b"Content-Length: 9\r\n\r\n1234")
    received = until_closed(client)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within" in received


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"", b""),
        (b"P", b""),
        (HEAD, b"X-Drip: 1\r\n"),
        (ONE + HEAD, b"X-Drip: 1\r\n"),
        (HEAD + b"Content-Length: 1000000\r\n\r\n", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;x=", b"x"),
        (HEAD.replace(b"/", b"/deaf", 1) + b"Content-Length: 1000000\r\n\r\n", b"x"),
    ],
    ids=["silence", "letter", "head", "second head", "body", "chunks", "trailer", "extension", "body that is not read"],
)
def test_a_dripping_client_is_disconnected(connect: Connect, beginning: bytes, piece: bytes) -> None:
    """A client that sends nothing, or a few bytes from time to time, is disconnected."""
    client = connect()
    client.sendall(beginning)
    drip(client, piece) if piece else until_closed(client)


@pytest.mark.usefixtures("short_timeouts")
def test_a_connection_may_be_idle_between_requests(connect: Connect) -> None:
    """A connection may be idle between requests for longer than one request may take, but not for longer."""
    client = connect()
    for _ in range(2):
        client.sendall(ONE)
        assert answers(client, 1)[0][2] == b"3"
        time.sleep(1)
    started = time.monotonic()
    assert until_closed(client) == b""
    assert time.monotonic() - started < 3


def test_new_connections_replace_idle_ones(connect: Connect) -> None:
    """A new connection is answered although idle ones take all places; a request being answered keeps its place."""
    busy = connect()
    busy.sendall(HEAD + b"Content-Length: 3\r\n\r\nab")
    crowd = [connect() for _ in range(8)]
    last = connect()
    last.sendall(ONE)
    assert answers(last, 1)[0][2] == b"3"
    busy.sendall(b"c")
    assert answers(busy, 1)[0][2] == b"3"
    assert until_closed(crowd[0]) == b""


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
    """Bytes outside a body are limited, and more of them end the connection."""
    client = connect()
    client.sendall(beginning)
    with contextlib.suppress(ConnectionError):
        for _ in range(64):
            client.sendall(b"x" * 65536)
        pytest.fail("the server accepted 4 MiB of a header")
    until_closed(client)


def test_pipelined_requests_are_answered_in_order(connect: Connect) -> None:
    """Pipelined requests, in any segments, are answered in order."""
    client = connect()
    sent = b"".join(HEAD + b"Content-Length: %d\r\n\r\n" % n + b"x" * n for n in range(100))
    for at in range(0, len(sent), 37):
        client.sendall(sent[at : at + 37])
    assert [int(body) for _, _, body in answers(client, 100)] == list(range(100))


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize("pause", [None, 0.02])
def test_an_unread_response_is_dropped(pause: float | None, connect: Connect) -> None:
    """A client that reads nothing of a large response, or reads slowly, is disconnected; others are served."""
    greedy, received = connect(), 0
    greedy.sendall(GET.replace(b"/", b"/large", 1))
    other = connect()
    other.sendall(ONE)
    assert answers(other, 1)[0][2] == b"3"
    if pause is None:
        time.sleep(1.5)
    with contextlib.suppress(ConnectionError):
        while block := greedy.recv(65536):
            received += len(block)
            time.sleep(pause or 0)
    assert received < RESPONSE


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_reading_client_is_not_disconnected(connect: Connect, ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that keeps reading large responses, also to pipelined requests, is not disconnected."""
    monkeypatch.setattr(connections, "RESPONSE_SECONDS", 1.0)
    client, request = connect(), GET.replace(b"/", b"/medium", 1)
    client.sendall(request * ahead)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert len(answers(client, 1)[0][2]) == MEDIUM
        client.sendall(request)


def test_the_bytes_of_waiting_requests_are_limited(served: Listener, connect: Connect) -> None:
    """A body over the bytes that may be held gets 503; the others are answered, and then new ones are accepted."""
    served.max_held, size = 100_000, 100_000
    large = HEAD + b"Content-Length: %d\r\n\r\n" % size
    first, other = connect(), connect()
    first.sendall(large + bytes(size - 1))
    deadline = time.monotonic() + 10
    while served.held < size - 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    other.sendall(large + bytes(2))
    ((status, headers, _),) = answers(other, 1)
    assert (status, headers["retry-after"]) == (503, "1")
    first.sendall(b"x")
    assert answers(first, 1)[0][0] == 200
    third = connect()
    third.sendall(large + bytes(size))
    assert answers(third, 1)[0][0] == 200
    assert (served.held, served.waiting) == (0, 0)


def test_the_fullest_body_is_read_on(served: Listener, connect: Connect) -> None:
    """If large bodies exceed the bytes that may be held, the one with most of its bytes is read and answered."""
    served.max_held, size = 100_000, 100_000
    large = HEAD + b"Content-Length: %d\r\n\r\n" % size
    first, other = connect(), connect()
    other.sendall(large + bytes(40_000))
    deadline = time.monotonic() + 10
    while served.held < 40_000 and time.monotonic() < deadline:
        time.sleep(0.01)
    first.sendall(large + bytes(size))
    assert answers(first, 1)[0][0] == 200
    other.sendall(bytes(size - 40_000))
    assert answers(other, 1)[0][0] == 200


def test_complete_bodies_count_until_they_are_answered(served: Listener, connect: Connect) -> None:
    """Large bodies whose answers take long are not collected one after the other above the bytes that may be held."""
    size = 100_000
    served.max_held = size - 1
    first, other = connect(), connect()
    first.sendall(HEAD.replace(b"/", b"/slow", 1) + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
    deadline = time.monotonic() + 10
    while (served.held < size or served.reading) and time.monotonic() < deadline:
        time.sleep(0.01)
    other.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
    assert answers(other, 1)[0][0] == 503
    assert answers(first, 1)[0][0] == 200
    other.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
    assert answers(other, 1)[0][0] == 200


def test_waiting_requests_are_limited(served: Listener, connect: Connect) -> None:
    """A request over the number that may wait gets 503; requests without a body are answered."""
    served.max_waiting = 1
    first, other = connect(), connect()
    first.sendall(ONE[:-1])
    deadline = time.monotonic() + 10
    while not served.waiting and time.monotonic() < deadline:
        time.sleep(0.01)
    other.sendall(ONE + GET.replace(b"/", b"/deaf", 1))
    assert [status for status, _, _ in answers(other, 2)] == [503, 200]
    first.sendall(b"c")
    assert answers(first, 1)[0][0] == 200


def test_requests_in_flight_are_answered_when_the_server_stops(served: Listener) -> None:
    """When the server stops, a request in flight is answered; idle and silent connections do not delay the end."""
    with contextlib.ExitStack() as stack:
        server = http_server(served)
        host, port = server.__enter__().split(":")
        silent, busy, idle = [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=10)) for _ in range(3)
        ]
        silent.sendall(b"GET /")
        idle.sendall(ONE)
        answers(idle, 1)
        busy.sendall(GET.replace(b"/", b"/late", 1))
        time.sleep(0.1)
        started = time.monotonic()
        server.__exit__(None, None, None)
        assert time.monotonic() - started < 4
        assert answers(busy, 1)[0][0] == 200
        with pytest.raises(ConnectionError):
            socket.create_connection((host, int(port)), timeout=10)


@pytest.mark.parametrize(
    ("beginning", "status"),
    [
        (b"POST /forbidden HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n", 405),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", 415),
        (HEAD + b"Content-Length: %d\r\n\r\n", 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n", 413),
    ],
)
def test_a_rejected_upload_gets_its_response(
    beginning: bytes, status: int, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that sends its whole body before it reads gets the response to a request that is rejected early."""
    monkeypatch.setattr(listener, "DISCARD_SECONDS", 10)
    client, size = connect(), 8 * MAX_BODY
    client.sendall(beginning % size)
    for _ in range(size // 65536):
        client.sendall(bytes(65536))
    if b"chunked" in beginning:
        client.sendall(b"\r\n0\r\n\r\n")
    assert answers(client, 1)[0][0] == status


def test_a_client_that_asks_first_need_not_send_its_body(connect: Connect) -> None:
    """A client that sends `Expect: 100-continue` gets a rejection instead of the permission to send its body."""
    client = connect()
    client.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (2 * MAX_BODY))
    assert answers(client, 1)[0][0] == 413


def test_a_rejected_upload_ends(connect: Connect) -> None:
    """A client that does not send the body of a rejected request gets the response after DISCARD_SECONDS."""
    client = connect()
    client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (2 * MAX_BODY))
    assert answers(client, 1)[0][0] == 413


@pytest.fixture
def signals() -> Iterator[None]:
    """Restore the handlers that `stop_signal` replaces."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def is_stopped_by(number: signal.Signals) -> bool:
    """Return whether a signal ends the wait of `stop_signal`."""
    stop = asyncio.create_task(stop_signal())
    await asyncio.sleep(0)
    signal.raise_signal(number)
    done, _ = await asyncio.wait({stop}, timeout=1)
    return bool(done)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("ignored", [False, True])
def test_the_end_of_a_terminal_ends_a_server(ignored: bool) -> None:
    """SIGHUP stops a server, unless it is ignored, as nohup arranges."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else lambda *_: None)
    assert asyncio.run(is_stopped_by(signal.SIGHUP)) != ignored


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_cut_off_the_requests_in_flight(first: signal.Signals) -> None:
    """After the first signal to stop, further ones neither end the process nor raise KeyboardInterrupt."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

    async def stop_twice() -> bool:
        stopped = await is_stopped_by(first)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
        return stopped

    assert asyncio.run(stop_twice())
