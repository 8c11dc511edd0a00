"""Run the gateway."""

from __future__ import annotations

from collections.abc import Sequence

import uvicorn

from digits.settings import Settings
from digits.store import open_store
from web_app.endpoints import Endpoint
from web_app.gateway import GatewayConfig, create_app


def serve(settings: Settings, endpoints: Sequence[str] = (), *, host: str = "127.0.0.1", port: int | None = None) -> None:
    """Serve the page until interrupted.

    Args:
        settings: the endpoints (unless given), the store for corrections, the token, the port (unless given).
        endpoints: each `[name=]url[@host]`; the first is the default.
        host: address to listen at.
        port: to listen at; None: the settings'.

    Raises:
        UsageError: an endpoint or the store is not of its form.
    """
    texts = endpoints or settings.endpoints.split() or [f"http://127.0.0.1:{settings.port}"]
    config = GatewayConfig(Endpoint.parse_all(texts), open_store(settings), settings.endpoint_token)
    uvicorn.run(
        create_app(config),
        host=host,
        port=settings.web_port if port is None else port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
