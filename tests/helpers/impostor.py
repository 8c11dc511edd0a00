"""A server that answers nonsense: wrong statuses, headers, bodies, sizes, delays and cuts, from a seed."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import random
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

ENDLESS = 96 << 20  # bytes of a body that is sent until the client gives up
BOMB = 256 << 20  # bytes of a body when unpacked
STALL_SECONDS = 5.0
STATUSES = (*[200] * 6, 201, 204, 206, 301, 304, 307, 400, 401, 403, 404, 404, 409, 412, 416, 418, 429, 500, 502, 503)
ODD_STATUSES = (100, 101, 504, 999, 0, "x")
HEADERS = (
    *(b"Set-Cookie: a=b", b"Set-Cookie: a=b; Expires=Mon, 99 Foo 1", b"Location: /elsewhere", b"Location: ::"),
    *(
        b"Location: http://127.0.0.1:1/",
        b"Location: ftp://x",
        b"Location: http://[::1/",
        b"Retry-After: x",
        b"Retry-After: 86400",
    ),
    *(b"Content-Encoding: gzip", b"Content-Encoding: br", b"Transfer-Encoding: chunked", b"Content-Type: text/html"),
    *(b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999", b"Content-Type: \xff"),
    *(b"no colon", b": no name", b"\xff\xfe: \xff", b"Connection: upgrade", b"Upgrade: h2c", b"\0"),
    *(b"Content-Type: application/json; charset=x", b'ETag: "0"', b"ETag: \xff", b"Last-Modified: yesterday"),
    *(b"X-Minio-Error-Code: NoSuchKey", b"Inference-Header-Content-Length: 9", b"Inference-Header-Content-Length: x"),
    *(b"X: " + b"x" * 200_000, b"\r\n".join(b"A%d:" % n for n in range(2000))),
)
BODIES = (b"", b"{}", b"[]", b"null", b"7", b'"x"', b"<html>log in</html>", b"<a/>", b"\xff\xfe", b"x" * 70_000)
NESTED = (b"[" * 900 + b"]" * 900, b"[" * 60_000, b'{"a":' * 60_000, b"<a>" * 60_000)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2, 1.5, 1e400, float("nan"), 10**400, "", "x", "\0", "\x1b[2J", "../../x", "1", "n" * 50_000),
    *([], [None], [[]], {}, {"a": None}),
)

# The valid answer to a request, given as its method and path: (more headers, body).
Right = Callable[[str, str], tuple[list[bytes], bytes]]


class Impostor:
    """A server whose answers are valid in a share of the cases.

    Attributes:
        cookies: how many requests had a cookie.
        sent: the most bytes of one answer that it could send.
    """

    def __init__(self, seed: int, right: Right, *, wrong: float = 0.5, after: bytes = b"") -> None:
        """Draw answers from `seed`; `wrong` is their share. `after` is a body that is sent after some whole answers."""
        self._seed, self._right, self._wrong, self._after = seed, right, wrong, after
        self._numbers = itertools.count()
        self._closed = threading.Event()
        self.cookies = self.sent = 0

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        """Yield the address, host:port, while the block runs."""
        with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()
            try:
                yield f"127.0.0.1:{server.getsockname()[1]}"
            finally:
                self._closed.set()
                server.shutdown(socket.SHUT_RDWR)

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=(server.accept()[0],), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(STALL_SECONDS)
            head = b""
            while b"\r\n\r\n" not in head:
                if not (received := connection.recv(65536)):
                    return
                head += received
            self.cookies += b"\r\ncookie:" in head.lower()
            method, path = head.decode(errors="replace").split(" ")[:2]
            sent = 0
            for part, pause in _Answer(random.Random(f"{self._seed} {next(self._numbers)}"), self).parts(method, path):
                if self._closed.wait(pause):
                    return
                connection.sendall(part)
                sent += len(part)
                self.sent = max(self.sent, sent)
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(TimeoutError):  # closing with unread data would reset the connection
                connection.settimeout(0.5)
                while connection.recv(65536):
                    continue

    @property
    def drawn_from(self) -> tuple[Right, float, bytes]:
        """Return the valid answers, the share of wrong ones, and the body after a whole answer."""
        return self._right, self._wrong, self._after


class _Answer:
    """One answer, drawn from a generator."""

    def __init__(self, chance: random.Random, impostor: Impostor) -> None:
        self._chance = chance
        self._right, self._wrong, self._after = impostor.drawn_from

    def parts(self, method: str, path: str) -> Iterator[tuple[bytes, float]]:
        """Yield the parts of an answer, each with the seconds before it."""
        chance = self._chance
        headers, right = self._right(method, path)
        another = _response(200, [], self._after) if self._after else b""
        if chance.random() >= self._wrong:
            yield _response(200, headers, b"" if method == "HEAD" else right) + another * (chance.random() < 0.3), 0.0
            return
        body = self._body(right)
        headers = [*headers, *(chance.choice(HEADERS) for _ in range(chance.choice([0, 0, 0, 1, 1, 3])))]
        status = chance.choice(ODD_STATUSES if chance.random() < 0.1 else STATUSES)
        if isinstance(body, _Bomb):
            headers, status = [b"Content-Encoding: gzip", *headers], chance.choice([200, status])
        answer = _response(status, headers, bytes(body), length=chance.random() < 0.8)
        match chance.randrange(24):
            case 0 | 1 | 2:
                yield answer[: chance.randrange(len(answer))], 0.0
            case 3:
                yield answer, STALL_SECONDS
            case 4:  # a head that does not end
                yield answer[:20] + b"\r\nX: ", 0.0
                yield from ((b"x", 0.05) for _ in range(400))
            case 5:  # a body that does not end, slowly
                yield _response(status, [b"Content-Length: 100000"], right, length=False)[:-1], 0.0
                yield from ((b" ", 0.05) for _ in range(400))
            case 6 | 7:  # the same, fast
                block = b"10000\r\n" + bytes(0x10000) + b"\r\n"
                yield _response(chance.choice([200, status]), [b"Transfer-Encoding: chunked"], b"", length=False), 0.0
                yield from ((block, 0.0) for _ in range(ENDLESS // len(block)))
            case 8 | 9:
                yield answer + another, 0.0
            case _:
                yield answer, 0.0

    def _body(self, right: bytes) -> bytes:
        chance = self._chance
        match chance.randrange(8):
            case 0 | 1 | 2 | 3:
                return _with_another_value(chance, right) or _with_other_bytes(chance, right)
            case 4:
                return _with_other_bytes(chance, right)
            case 5:
                return chance.choice(NESTED)
            case 6:
                return bomb()
            case _:
                return chance.choice((right, *BODIES))


class _Bomb(bytes):
    """A body that is compressed."""


@functools.cache
def bomb() -> _Bomb:
    """Return a small gzip file that is BOMB bytes long when unpacked."""
    packer = zlib.compressobj(1, wbits=31)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(BOMB >> 20)]
    return _Bomb(b"".join(parts) + packer.flush())


def _with_another_value(chance: random.Random, body: bytes) -> bytes:
    """Return a JSON body with one value replaced or left out; b"" for another body."""
    try:
        tree = json.loads(body)
    except ValueError:
        return b""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(tree)
    if not places:
        return b""
    node, key = chance.choice(places)
    if chance.random() < 0.2:
        del node[key]
    else:
        node[key] = chance.choice(VALUES)
    return json.dumps(tree).encode()


def _with_other_bytes(chance: random.Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(chance.choice((1, 1, 5))):
        start = chance.randrange(len(changed) + 1)
        changed[start : start + chance.randrange(9)] = chance.randbytes(chance.randrange(9))
    return bytes(changed)


def _response(status: int | str, headers: list[bytes], body: bytes, *, length: bool = True) -> bytes:
    lines = [b"HTTP/1.1 %s OK" % str(status).encode(), *headers, *([b"Content-Length: %d" % len(body)] * length)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
