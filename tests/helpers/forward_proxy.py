"""A forward proxy as companies run them: it forwards HTTP requests, tunnels TLS, and may require a password."""

from __future__ import annotations

import base64
import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import urllib3


class ForwardProxy(ThreadingHTTPServer):
    """A proxy on a free port of 127.0.0.1.

    Attributes:
        requests: "METHOD address" of each request, in order.
        user: the "name:password" that it requires; '' requires none.
    """

    daemon_threads = True

    def __init__(self, user: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []
        self.user = user
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: ForwardProxy

    def _forward(self) -> None:
        if not self._authorized():
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        answer = urllib3.request(
            self.command, self.path, body=body, headers=headers, decode_content=False, retries=False
        )
        self.send_response(answer.status)
        for name in ("Content-Type", "Content-Encoding"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(answer.data)))
        self.end_headers()
        self.wfile.write(answer.data)

    do_GET = do_POST = do_DELETE = _forward  # noqa: N815 # names that the library calls

    def do_CONNECT(self) -> None:
        if not self._authorized():
            return
        to = urlsplit(f"//{self.path}")
        with (
            socket.create_connection((to.hostname or "", to.port or 443)) as target,
            selectors.DefaultSelector() as ready,
        ):
            self.send_response(200)
            self.end_headers()
            for source, sink in ((self.connection, target), (target, self.connection)):
                ready.register(source, selectors.EVENT_READ, sink)
            while True:
                for key, _ in ready.select():
                    if not (block := key.fileobj.recv(1 << 16)):  # type: ignore[union-attr]
                        return
                    key.data.sendall(block)

    def _authorized(self) -> bool:
        self.server.requests.append(f"{self.command} {self.path}")
        expected = f"Basic {base64.b64encode(self.server.user.encode()).decode()}"
        authorized = not self.server.user or self.headers.get("Proxy-Authorization") == expected
        if not authorized:
            self.send_error(407)
        return authorized

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def forward_proxy(user: str = "") -> Iterator[ForwardProxy]:
    """Run a proxy while the block runs."""
    with ForwardProxy(user) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()
