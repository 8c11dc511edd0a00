"""Run the gateway."""

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

DRAIN_SECONDS = 5  # for requests in flight at the end


def serve(
    settings: Settings,
    endpoints: Mapping[str, str] | Sequence[str] = (),
    *,
    listener: socket.socket,
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        settings: the endpoints unless given, the store for corrections, the token.
        endpoints: `[name=]url[@host]` each, or the names with what they stand for; the first is the default.
        listener: from `listening`; closed at the end.
        ready: called with the page's address once it answers.

    Raises:
        UsageError: an endpoint or the store is not of its form.
    """
    if isinstance(endpoints, Mapping):
        endpoints = [f"{name}={address}" for name, address in endpoints.items()]
    texts = endpoints or settings.endpoints.split() or [f"http://127.0.0.1:{settings.port}"]
    with listener:
        config = GatewayConfig(Endpoint.parse_all(texts), open_store(settings), settings.endpoint_token)
        host, port = listener.getsockname()[:2]
        shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound to
        server = _Server(f"http://{bracketed(shown)}:{port}", ready, create_app(config))
        with contextlib.suppress(KeyboardInterrupt):  # how a page is meant to end
            server.run(sockets=[listener])


def listening(settings: Settings, host: str = "127.0.0.1", port: int | None = None) -> socket.socket:
    """A socket that listens at `port`, 0 for any, None for the settings'. Raises MissingError if it is taken."""
    port = settings.web_port if port is None else port
    try:
        if host == "::" and socket.has_dualstack_ipv6():
            return socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as exc:
        raise MissingError(
            f"port {port} on {host} cannot be used: {exc.strerror}",
            remedy=f"stop what holds it (lsof -i :{port}, on Linux ss -ltnp), or take another: --port, DIGITS_WEB_PORT",
        ) from exc


class _Server(uvicorn.Server):
    """Uvicorn, which says when it is ready."""

    def __init__(self, address: str, ready: Callable[[str], object] | None, app: object) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,  # who may correct how often goes by the connection, not by what a client says
                http=LimitedHttpProtocol,
                ws="none",
                # Longer than what is before it keeps a connection for further requests (ingresses: 60 s); else it would
                # now and then send one just as we close. As KServe's server has it.
                timeout_keep_alive=65,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self._address, self._ready = address, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started and self._ready:
            self._ready(self._address)
