"""An endpoint that answers nonsense: wrong statuses, headers, bodies, sizes, delays and cuts, from a seed."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import socket
import threading
import time
from collections.abc import Iterator

LARGE = 8 << 20  # bytes of an endless body
METADATA = {"name": "digits", "versions": ["v1"], "inputs": [{"name": "image"}], "outputs": []}
STATUSES = (200, 200, 200, 200, 204, 206, 301, 304, 400, 401, 404, 429, 500, 502, 503, 504, 100, 101, 999, 0, "x")
HEADERS = (
    *(
        b"Set-Cookie: a=b",
        b"Set-Cookie: a=b; Expires=Mon, 99 Foo 1",
        b"Location: /elsewhere",
        b"Content-Encoding: gzip",
    ),
    *(b"Transfer-Encoding: chunked", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999"),
    *(b"Retry-After: x", b"no colon", b": no name", b"\xff\xfe: \xff", b"Connection: upgrade", b"Upgrade: h2c"),
    *(b"X: " + b"x" * 200_000, b"\r\n".join(b"A%d:" % n for n in range(2000)), b"\0"),
)


def prediction(digit: int) -> bytes:
    """Return the body of a V2 prediction of a digit."""
    outputs = [{"name": "probabilities", "data": [float(n == digit) for n in range(10)]}]
    return json.dumps({"model_version": "v1", "outputs": outputs}).encode()


class Impostor:
    """A server whose valid predictions are a 3. It sends a 7 only after a complete answer, as another answer.

    Attributes:
        cookies: how many requests had a cookie.
        sent: the most bytes of one answer that it could send.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.cookies = self.sent = 0

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        """Yield the address while the block runs."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()
            yield f"http://127.0.0.1:{server.getsockname()[1]}"

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=(server.accept()[0],), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            head = b""
            while b"\r\n\r\n" not in head:
                if not (received := connection.recv(65536)):
                    return
                head += received
            self.cookies += b"\r\ncookie:" in head.lower()
            sent = 0
            for part, pause in self._parts(head.split(b" ")[1]):
                time.sleep(pause)
                connection.sendall(part)
                sent += len(part)
                self.sent = max(self.sent, sent)
            connection.shutdown(socket.SHUT_WR)

    def _parts(self, path: bytes) -> list[tuple[bytes, float]]:
        """Return the parts of an answer, each with the seconds before it. Half of the answers are valid."""
        chance = self._random
        right = (
            prediction(3)
            if path.endswith(b"infer")
            else b""
            if path.endswith(b"ready")
            else json.dumps(METADATA).encode()
        )
        another = _response(200, [], prediction(7))
        if chance.random() < 0.5:
            return [(_response(200, [], right) + (another if chance.random() < 0.3 else b""), 0.0)]
        body = chance.choice(
            [
                right,
                right.replace(b"1.0", chance.choice([b"NaN", b"1e999", b"-1", b'"1"', b"true", b"[]", b"{}", b"2"])),
                right.replace(b'"v1"', chance.choice([b"[" * 900 + b"]" * 900, b"7", b'"' + b"v" * 9000 + b'"'])),
                bytes(b ^ (chance.random() < 0.02) for b in right),
                *(b"", b"{}", b"[]", b"null", b"7", b"<html>log in</html>", b"\xff\xfe", b"[" * 60_000, b"x" * 70_000),
                gzip.compress(bytes(LARGE)),
                b'{"inputs": [{"name": "' + b"n" * 50_000 + b'"}]}',
            ]
        )
        headers = [chance.choice(HEADERS) for _ in range(chance.choice([0, 0, 1, 1, 3]))]
        answer = _response(chance.choice(STATUSES), headers, body, length=chance.random() < 0.8)
        match chance.randrange(20):
            case 0 | 1 | 2:
                return [(answer[: chance.randrange(len(answer))], 0.0)]
            case 3:
                return [(answer, 3.0)]
            case 4:
                return [(answer[n : n + 1], 0.05) for n in range(100)]
            case 5:
                endless = b"10000\r\n" + bytes(0x10000) + b"\r\n"
                return [(_response(200, [b"Transfer-Encoding: chunked"], b"", length=False), 0.0)] + [
                    (endless, 0.0) for _ in range(LARGE // len(endless))
                ]
            case 6 | 7:
                return [(answer + another, 0.0)]
            case _:
                return [(answer, 0.0)]


def _response(status: int | str, headers: list[bytes], body: bytes, *, length: bool = True) -> bytes:
    lines = [
        b"HTTP/1.1 %s OK" % str(status).encode(),
        *headers,
        *([b"Content-Length: %d" % len(body)] if length else []),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
