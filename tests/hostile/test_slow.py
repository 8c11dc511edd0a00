"""Slow clients of the real servers are disconnected, and other clients are served meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import signal
import socket
import time

import grpc
import pytest

from digits.serving.connections import MAX_GRPC_CONNECTIONS
from digits.settings import Settings
from tests.helpers.engines import wait_until
from tests.helpers.support import Predictor, until_refused
from tests.helpers.targets import Target

BEGINNINGS = {
    "silence": (b"", b""),
    "head": (b"POST /v1/models/digits:predict HTTP/1.1\r\nHost: x\r\n", b"X-Slow: 1\r\n"),
    "body": (b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"x"),
    "chunks": (
        b"POST /v1/models/digits:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n",
    ),
    "unread body": (b"GET /v2/models/digits HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"x"),
    "drawing": (b"POST /api/recognise HTTP/1.1\r\nContent-Type: image/png\r\nContent-Length: 9999\r\n\r\n", b"x"),
}
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # preface and empty settings
EACH = 20  # connections
MAX_SECONDS = 90.0


def test_slow_clients(target: Target) -> None:
    """Clients that send single bytes slowly are all disconnected, and valid requests are answered meanwhile."""
    before = target.descriptors()
    open_still: dict[socket.socket, bytes] = {}
    with contextlib.ExitStack() as stack:
        for begun, piece in BEGINNINGS.values():
            for _ in range(EACH):
                client = stack.enter_context(target.connect())
                client.sendall(begun)
                open_still[client] = piece
        deadline = time.monotonic() + MAX_SECONDS
        while open_still:
            assert time.monotonic() < deadline, f"{len(open_still)} of them still hold their connections"
            assert target.answers() == target.right
            readable, _, _ = select.select(list(open_still), [], [], 1.0)
            for client in list(open_still):
                try:
                    if client in readable:
                        came = client.recv(65536)
                        if came.startswith(b"HTTP/1.1"):
                            target.tally.count(target.name, int(came[9:12]), "slow")
                        if came:
                            continue
                        raise ConnectionError
                    client.sendall(open_still[client])
                except ConnectionError:
                    del open_still[client]
    # The client sees the end of a connection before the server has closed its file.
    assert wait_until(lambda: target.descriptors() <= before + 5)
    assert target.tally.new_failures() == []


def test_idle_crowds(target: Target) -> None:
    """Six hundred idle connections are all closed, and then new ones are answered."""
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(target.connect()) for _ in range(600)]
        for client in crowd:
            client.settimeout(MAX_SECONDS)
            with contextlib.suppress(ConnectionError):
                while client.recv(65536):
                    pass
    assert target.answers() == target.right
    assert target.tally.new_failures() == []


def test_idle_crowds_over_grpc(attacked: tuple[Settings, Predictor], predictor: Target) -> None:
    """Six hundred idle connections to the gRPC port, half of them after the handshake, are closed; REST is served."""
    before = predictor.descriptors()
    at = attacked[1].grpc.split(":")
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(socket.create_connection((at[0], int(at[1])), MAX_SECONDS)) for _ in range(600)]
        for client in crowd[::2]:
            with contextlib.suppress(ConnectionError):
                client.sendall(HTTP2)
        assert predictor.answers() == predictor.right
        assert predictor.descriptors() < before + MAX_GRPC_CONNECTIONS + 20
        for client in crowd:
            with contextlib.suppress(ConnectionError):
                while client.recv(65536):
                    pass
    with grpc.insecure_channel(attacked[1].grpc) as channel:
        answer = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")(
            b"", timeout=30, wait_for_ready=True
        )
    assert answer
    assert wait_until(lambda: predictor.descriptors() <= before + 5)
    assert predictor.tally.new_failures() == []


def test_a_signal_lets_requests_in_flight_finish(another_gateway: Target) -> None:
    """A drawing that is being sent at SIGTERM is recognised; then the gateway ends and frees its port."""
    method, path, headers, body = another_gateway.good
    connection = http.client.HTTPConnection("127.0.0.1", another_gateway.port, timeout=30)
    connection.putrequest(method, path)
    for name, value in (headers | {"Content-Length": str(len(body))}).items():
        connection.putheader(name, value)
    connection.endheaders(body[:100])
    assert another_gateway.answers() == another_gateway.right  # so it has accepted the connection before
    another_gateway.process.send_signal(signal.SIGTERM)
    until_refused(another_gateway.url.removeprefix("http://"))
    connection.send(body[100:])
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["class"]) == (200, another_gateway.right)
    connection.close()
    another_gateway.process.wait(30)
    with pytest.raises(OSError, match="refused"):
        another_gateway.connect()
