"""The server of the page and its gateway."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence

import uvicorn

from digits.errors import MissingError
from digits.http import bracketed
from digits.serving.limits import LimitedHttpProtocol
from digits.settings import Settings
from digits.store import open_store
from web_app.endpoints import Endpoint
from web_app.gateway import GatewayConfig, create_app

DRAIN_SECONDS = 5  # for requests in flight when the server stops


def serve(
    settings: Settings,
    endpoints: Mapping[str, str] | Sequence[str] = (),
    *,
    listener: socket.socket,
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        settings: have the store for corrections, the endpoints' token, and the endpoints if `endpoints` is empty.
        endpoints: `[name=]url[@host]` each, or a mapping of names to `url[@host]`; the first is the default.
        listener: a socket from `listen`; it is closed when the server stops.
        ready: called with the page's URL once the server answers.

    Raises:
        UsageError: an endpoint or the store's URL is malformed.
    """
    if isinstance(endpoints, Mapping):
        endpoints = [f"{name}={address}" for name, address in endpoints.items()]
    texts = endpoints or settings.endpoints.split() or [f"http://127.0.0.1:{settings.port}"]
    with listener:
        config = GatewayConfig(Endpoint.parse_all(texts), open_store(settings), settings.endpoint_token)
        host, port = listener.getsockname()[:2]
        display_host = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound to
        server = _Server(f"http://{bracketed(display_host)}:{port}", ready, create_app(config))
        with contextlib.suppress(KeyboardInterrupt):  # the usual way to stop it
            server.run(sockets=[listener])


def listen(settings: Settings, host: str = "127.0.0.1", port: int | None = None) -> socket.socket:
    """Return a socket that listens on `port` (0: any free one, None: the settings').

    Raises:
        MissingError: the port is in use.
    """
    port = settings.web_port if port is None else port
    try:
        if host == "::" and socket.has_dualstack_ipv6():
            return socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as exc:
        raise MissingError(
            f"port {port} on {host} cannot be used: {exc.strerror}",
            remedy=f"stop the program that uses it (lsof -i :{port}, on Linux ss -ltnp), or choose another port "
            "(--port, DIGITS_WEB_PORT)",
        ) from exc


class _Server(uvicorn.Server):
    """A uvicorn server that calls `ready` once it answers."""

    def __init__(self, url: str, ready: Callable[[str], object] | None, app: object) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,  # the rate limit uses the peer address, not a client-supplied header
                http=LimitedHttpProtocol,
                ws="none",
                # Longer than an ingress's keep-alive (60 s), so that it never reuses a connection that we are closing.
                # KServe's server uses the same value.
                timeout_keep_alive=65,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self._url, self._ready = url, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then call `ready`."""
        await super().startup(sockets)
        if self.started and self._ready:
            self._ready(self._url)
