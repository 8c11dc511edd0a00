"""A forward proxy as companies run them: it passes on what it is asked for, tunnels TLS, and may ask for a name."""

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


class HttpProxy(ThreadingHTTPServer):
    """Listens on a free port of 127.0.0.1.

    Attributes:
        asked: "METHOD address" of each request, in order.
        user: the "name:password" that it asks for; '' asks for none.
    """

    daemon_threads = True

    def __init__(self, user: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.user = user
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: HttpProxy

    def _pass_on(self) -> None:
        if not self._known():
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        answer = urllib3.request(self.command, self.path, body=body, headers=sent, decode_content=False, retries=False)
        self.send_response(answer.status)
        for name in ("Content-Type", "Content-Encoding"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(answer.data)))
        self.end_headers()
        self.wfile.write(answer.data)

    do_GET = do_POST = do_DELETE = _pass_on  # noqa: N815 # names that the library calls

    def do_CONNECT(self) -> None:
        if not self._known():
            return
        to = urlsplit(f"//{self.path}")
        with (
            socket.create_connection((to.hostname or "", to.port or 443)) as there,
            selectors.DefaultSelector() as ready,
        ):
            self.send_response(200)
            self.end_headers()
            for one, other in ((self.connection, there), (there, self.connection)):
                ready.register(one, selectors.EVENT_READ, other)
            while True:
                for key, _ in ready.select():
                    if not (block := key.fileobj.recv(1 << 16)):  # type: ignore[union-attr]
                        return
                    key.data.sendall(block)

    def _known(self) -> bool:
        self.server.asked.append(f"{self.command} {self.path}")
        wanted = f"Basic {base64.b64encode(self.server.user.encode()).decode()}"
        known = not self.server.user or self.headers.get("Proxy-Authorization") == wanted
        if not known:
            self.send_error(407)
        return known

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def http_proxy(user: str = "") -> Iterator[HttpProxy]:
    """A proxy that ends with the block."""
    with HttpProxy(user) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()
