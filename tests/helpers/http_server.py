"""The HTTP server of predictor and gateway, on a real socket in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import threading
import time
from collections.abc import Iterator

import uvloop

from digits.serving.listener import Listener
from digits.serving.sockets import bind


@contextlib.contextmanager
def http_server(listener: Listener, grace_seconds: float = 5.0, *, port: int = 0) -> Iterator[str]:
    """Serve on 127.0.0.1 while the block runs (port 0: any free one). Yields the address as host:port."""
    sock = bind("127.0.0.1", port, "")
    address = f"127.0.0.1:{sock.getsockname()[1]}"
    loop, stop = uvloop.new_event_loop(), asyncio.Event()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(listener.serve(sock, stop.wait(), grace_seconds)), daemon=True
    )
    thread.start()
    deadline = time.monotonic() + 10
    while sock.fileno() >= 0:  # Granian has the socket once it serves
        assert time.monotonic() < deadline, "the server did not start in 10 s"
        time.sleep(0.01)
    # Granian's threads read the environment as they start. If a test changed it meanwhile, the process could crash.
    with contextlib.closing(http.client.HTTPConnection(address, timeout=10)) as connection:
        connection.request("OPTIONS", "*")
        assert connection.getresponse().status == 204
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"
        loop.close()
