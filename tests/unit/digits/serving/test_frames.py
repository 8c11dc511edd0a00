"""The HTTP/2 frames that reach gRPC's server."""

from __future__ import annotations

import struct

import pytest

from digits.serving.frames import ACKNOWLEDGEMENT, MAX_FRAME, MAX_HEADERS, PREFACE, ClientFrames, Violation

DATA, HEADERS, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 4, 6, 7, 9


def frame(kind: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, 1) + payload


BEGINNING = PREFACE + frame(SETTINGS, bytes(6))
REQUESTS = frame(HEADERS, b"h" * 300) + frame(DATA, b"d" * 5000), frame(PING, bytes(8)) + frame(DATA, b"e" * 70)


def passed(content: bytes, size: int) -> bytes:
    """Return what the server gets of a client that sends `size` bytes at a time."""
    frames = ClientFrames()
    return b"".join(frames.check(content[at : at + size]) for at in range(0, len(content), size))


@pytest.mark.parametrize("size", [1, 8, 9, 10, 100, 10_000])
@pytest.mark.parametrize("before", [0, 1], ids=["at once", "after a request"])
def test_the_server_gets_the_acknowledgement_after_the_settings(size: int, before: int) -> None:
    """In pieces of any size, all frames pass in order, but an early acknowledgement replaces the client's."""
    first, second = REQUESTS if before else (b"", b"".join(REQUESTS))
    sent = BEGINNING + first + ACKNOWLEDGEMENT + second
    assert passed(sent, size) == BEGINNING + ACKNOWLEDGEMENT + first + second


@pytest.mark.parametrize("size", [1, 10_000])
def test_a_client_that_never_acknowledges_is_limited_too(size: int) -> None:
    """The server limits headers from its acknowledgement on, so it gets one before the first request."""
    assert passed(BEGINNING + REQUESTS[0], size) == BEGINNING + ACKNOWLEDGEMENT + REQUESTS[0]


def test_a_second_acknowledgement_reaches_the_server() -> None:
    """The server, not the relay, decides about it."""
    sent = BEGINNING + ACKNOWLEDGEMENT + REQUESTS[0] + ACKNOWLEDGEMENT
    assert passed(sent, 100) == sent


def test_an_acknowledgement_before_the_clients_settings_is_refused() -> None:
    """It would otherwise be left out, and the server would get none."""
    with pytest.raises(Violation):
        ClientFrames().check(PREFACE + ACKNOWLEDGEMENT + frame(SETTINGS) * 2)


PIECE = frame(CONTINUATION, b"c" * (MAX_FRAME // 2))


@pytest.mark.parametrize(
    "content",
    [
        frame(DATA, bytes(MAX_FRAME + 1)),
        frame(HEADERS, b"h" * MAX_FRAME) + PIECE * 2,
        frame(HEADERS) + frame(CONTINUATION) * (MAX_HEADERS // 9 + 1),
        frame(GOAWAY, bytes(1025)),
        frame(SETTINGS, bytes(6), flags=1),
    ],
    ids=["long frame", "long headers", "empty frames of headers", "long GOAWAY", "acknowledgement with settings"],
)
@pytest.mark.parametrize("size", [7, 100_000])
def test_frames_that_grpc_does_not_limit_are_refused(content: bytes, size: int) -> None:
    """What gRPC would keep without a limit never reaches it."""
    with pytest.raises(Violation):
        passed(BEGINNING + content, size)


def test_each_request_may_have_headers_of_the_limit() -> None:
    """The limit counts one request's headers, not those of the connection."""
    headers = frame(HEADERS, b"h" * (MAX_HEADERS // 2)) + frame(CONTINUATION, b"c" * (MAX_HEADERS // 2 - 9))
    assert passed(BEGINNING + ACKNOWLEDGEMENT + headers * 5, 1000) == BEGINNING + ACKNOWLEDGEMENT + headers * 5
