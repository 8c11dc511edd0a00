"""The HTTP/2 frames that a client of the gRPC port may send (RFC 9113)."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS, GOAWAY, CONTINUATION = 1, 4, 7, 9
ACK = 1  # the flag of SETTINGS
ACKNOWLEDGEMENT = b"\0\0\0\x04\x01\0\0\0\0"
HEAD_BYTES = 9
MAX_FRAME = 16 * 1024  # bytes; gRPC announces no other limit than HTTP/2's own
# Bytes of a request's headers as they are sent, with the heads of their further frames. gRPC answers RESOURCE_EXHAUSTED
# to headers that have more than 8 KiB after decoding.
MAX_HEADERS = 16 * 1024
MAX_GOAWAY = 1024  # bytes, with the client's text, which gRPC keeps
_HEAD = struct.Struct(">IB")


class Violation(Exception):
    """A frame that the server must not get."""


class ClientFrames:
    """The frames of one client, of which only the heads are read.

    gRPC limits headers from when its client acknowledges the server's settings. Until then their limit is 16 MiB, which
    small headers exceed many times in gRPC's memory. Therefore the server gets the acknowledgement after the client's
    settings, and the client's own, which it would refuse as a second one, is left out. Use this after the server has
    sent its settings.
    """

    def __init__(self) -> None:
        self._unread = len(PREFACE)  # bytes before the next frame's head; gRPC refuses another preface
        self._head = b""  # of a frame whose head is incomplete
        self._headers = 0  # bytes of the current request's headers
        self._frames = 0
        self._acknowledged = False  # by the client

    def check(self, data: bytes) -> bytes:
        """Return what the server gets of the next bytes.

        Raises:
            Violation: a frame, a request's headers or the text of a GOAWAY are too long.
        """
        if self._head:
            data, self._head = self._head + data, b""
        at, copied, parts = self._unread, 0, []
        while at + HEAD_BYTES <= len(data):
            word, flags = _HEAD.unpack_from(data, at)
            length, kind = word >> 8, word & 0xFF
            if length > MAX_FRAME:
                raise Violation(f"a frame of {length} bytes")
            if kind == HEADERS:
                self._headers = length
            elif kind == CONTINUATION:
                self._headers += HEAD_BYTES + length
                if self._headers > MAX_HEADERS:
                    raise Violation(f"headers of more than {MAX_HEADERS} bytes")
            elif kind == GOAWAY and length > MAX_GOAWAY:
                raise Violation(f"a GOAWAY of {length} bytes")
            if not self._acknowledged:
                self._frames += 1
                if self._frames == 2:
                    parts += [data[copied:at], ACKNOWLEDGEMENT]
                    copied = at
                if kind == SETTINGS and flags & ACK:
                    if length or self._frames < 2:  # RFC 9113 3.4: the client's own settings come first
                        raise Violation("an acknowledgement with settings, or before the client's")
                    parts.append(data[copied:at])
                    copied = at + HEAD_BYTES
                    self._acknowledged = True
            at += HEAD_BYTES + length
        self._unread, end = max(0, at - len(data)), min(at, len(data))
        self._head = data[end:]
        if not parts and end == len(data):
            return data
        return b"".join([*parts, data[copied:end]])
