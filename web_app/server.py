"""The server of the page and its gateway."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

import uvloop

from digits.http import bracketed
from digits.release import signatures
from digits.serving.listener import stop_signal
from digits.serving.sockets import bind
from digits.settings import Settings
from digits.store import open_store
from web_app.endpoints import Endpoint
from web_app.gateway import GatewayConfig, create_listener

DRAIN_SECONDS = 5  # for requests in flight when the server stops


def serve(
    settings: Settings,
    endpoints: Sequence[str] = (),
    *,
    listener: socket.socket,
    ready: Callable[[str], object] = lambda _: None,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        settings: have the task, the store for corrections, the endpoints' token, and the endpoints if `endpoints` is
            empty.
        endpoints: `[name=]url[@host]` each; the first is the default.
        listener: a socket from `listen`; it is closed when the server stops.
        ready: called with the page's URL before the first request is answered.

    Raises:
        UsageError: an endpoint, the store's URL or a trusted key is malformed.
        MissingError: the trusted keys cannot be read.
    """
    texts = endpoints or settings.endpoints.split() or [f"http://127.0.0.1:{settings.port}"]
    with listener:
        store = open_store(settings)
        if settings.trusted_keys:
            signatures.read_keys(settings.trusted_keys)  # later, the first visitor would get the error
        task = settings.declaration
        addresses = Endpoint.parse_all(texts, task.name)
        config = GatewayConfig(addresses, store, settings.endpoint_token, settings.trusted_keys, task=task)
        host, port = listener.getsockname()[:2]
        display_host = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound to
        ready(f"http://{bracketed(display_host)}:{port}")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config, listener))


async def _serve(config: GatewayConfig, listener: socket.socket) -> None:
    await create_listener(config).serve(listener, stop_signal(), DRAIN_SECONDS)


def listen(settings: Settings, host: str = "127.0.0.1", port: int | None = None) -> socket.socket:
    """Return a socket that listens on `port` (0: any free one, None: the settings').

    Raises:
        MissingError: the port cannot be used.
    """
    listener = bind(host, settings.web_port if port is None else port, "--port or DIGITS_WEB_PORT")
    listener.listen()
    return listener
