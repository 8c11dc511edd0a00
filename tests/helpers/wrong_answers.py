"""An HTTP server that answers each request from a seeded generator of wrong statuses, headers, bodies and cuts."""

from __future__ import annotations

import contextlib
import http.server
import random
import threading
from collections.abc import Iterator

STATUSES = (200, 200, 200, 201, 204, 206, 301, 304, 307, 400, 401, 403, 404, 409, 412, 416, 418, 500, 503)
HEADERS = {
    "Content-Type": ("application/xml", "application/json", "text/html", "\xff", ""),
    "ETag": ('"0"', "", "\xff"),
    "Last-Modified": ("Thu, 01 Jan 1970 00:00:00 GMT", "yesterday", ""),
    "Location": ("/", "http://127.0.0.1:1/", "::", "ftp://x"),
    "Content-Encoding": ("gzip", "identity", "br"),
    "X-Minio-Error-Code": ("NoSuchKey", "\xff", ""),
    "Retry-After": ("0", "never"),
}


@contextlib.contextmanager
def answering_wrongly(seed: int, bodies: tuple[bytes, ...]) -> Iterator[str]:
    """Run the server while the block runs; yield its host:port. Half of its bodies are damaged copies of `bodies`."""
    generator, lock = random.Random(seed), threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 5

        def answer(self) -> None:
            with lock:
                status, body, cut = generator.choice(STATUSES), self._body(), generator.random() < 0.1
                headers = {
                    name: generator.choice(values) for name, values in HEADERS.items() if generator.random() < 0.3
                }
                length = generator.choice((len(body), len(body), len(body), len(body) + 9, -1, "x"))
            with contextlib.suppress(OSError, ValueError):
                self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 1 << 20))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = True

        def _body(self) -> bytes:
            body = bytearray(generator.choice((*bodies, b"", b"[]", b"null", b"<a/>", b"{" * 5000, b"\xff\xfe")))
            for _ in range(generator.choice((0, 0, 1, 5))):
                if body:
                    start = generator.randrange(len(body))
                    body[start : start + generator.randrange(9)] = generator.randbytes(generator.randrange(9))
            return bytes(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = answer  # noqa: N815 # names that the library calls

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
