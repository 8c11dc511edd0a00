"""An HTTP server on this machine that serves the tiny data set, correctly or not."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote

from tests.helpers.mnist_files import tiny_files

CONTENT = tiny_files()
REDIRECTS = {"to itself": "", "to a file": "file:///etc/hosts", "to nowhere": "http://[::1/"}


class Mirror(http.server.ThreadingHTTPServer):
    """The server. `requests` lists the paths that were requested."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []
        self.over = threading.Event()

    def url(self, behaviour: str) -> str:
        """Return the address below which the files are served with that behaviour."""
        return f"http://127.0.0.1:{self.server_address[1]}/{quote(behaviour)}/"


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serve the tiny files; the first part of the path selects the behaviour, with " once" of its first request."""

    server: Mirror

    def do_GET(self) -> None:
        behaviour, name = unquote(self.path).partition("?")[0].strip("/").split("/")
        self.server.requests.append(self.path)
        if behaviour.endswith(" once"):
            behaviour = behaviour.removesuffix(" once") if self.server.requests.count(self.path) == 1 else "good"
        content = CONTENT[name.removesuffix(".gz")]
        body = gzip.compress(content)
        if behaviour == "missing":
            self.send_error(404)
            return
        if behaviour in REDIRECTS or behaviour == "later":
            self.send_response(302 if behaviour in REDIRECTS else 503)
            self.send_header("Location", REDIRECTS.get(behaviour, "") or self.path)
            self.send_header("Retry-After", "86400")
            self.end_headers()
            return
        if behaviour == "dripping head":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            self._repeat(b"x", 0.05)
            return
        if behaviour == "web-page":
            body = b"<!doctype html><title>503, come back later</title>"
        if behaviour == "truncated":
            body = body[:-9]
        if behaviour == "other":
            body = gzip.compress(bytes(len(content)))
        if behaviour == "bomb":
            body = gzip.compress(bytes(200_000_000), compresslevel=1)[:9000]
        self.send_response(200)
        if behaviour == "encoded":
            self.send_header("Content-Encoding", "gzip")
        if behaviour == "cut":
            self.send_header("Content-Length", str(len(body) + 50))
        self.end_headers()
        if behaviour == "dripping":
            self._repeat(b"x", 0.05)
        elif behaviour == "endless":
            self._repeat(bytes(1 << 16), 0)
        else:
            self.wfile.write(body)

    def _repeat(self, block: bytes, pause: float) -> None:
        """Send until the client closes the connection or the test is over."""
        try:
            while not self.server.over.wait(pause):
                self.wfile.write(block)
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the name of its base class
        """Print nothing."""


@contextmanager
def running_mirror() -> Iterator[Mirror]:
    """Run the server in a thread."""
    server = Mirror()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
