"""A gateway with an endpoint of the Open Inference protocol, each on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from digits.store.file import FileStore
from tests.helpers.asgi_server import asgi_server
from tests.helpers.gateway_requests import gateway_server
from tests.helpers.standin import PAINTS, SURE_OF_3, StandIn, always, by_colour
from web_app.endpoints import Endpoint
from web_app.gateway import GatewayConfig


@pytest.fixture
def standin() -> StandIn:
    return StandIn(always(SURE_OF_3))


@pytest.fixture
def painter() -> StandIn:
    """An endpoint of another task: it recognises the colour of a picture."""
    return StandIn(by_colour, PAINTS)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


@pytest.fixture(scope="package")
def endpoint() -> Iterator[tuple[str, dict[str, Any]]]:
    """A server's address, and a dict whose "app" answers. The tests share it, because it takes 0.2 s to stop."""
    current: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await current["app"](scope, receive, send)

    with asgi_server(app, lifespan="off") as url:
        yield url, current


@pytest.fixture
def gateway(standin: StandIn, endpoint: tuple[str, dict[str, Any]], store: FileStore) -> Iterator[httpx.Client]:
    """A client of a gateway with the endpoints `here`, which answers, and `gone`, where nothing listens."""
    url, current = endpoint
    current["app"] = standin.app
    here, gone = Endpoint("here", url, host="digits.example.com"), Endpoint("gone", "http://127.0.0.1:1")
    config = GatewayConfig((here, gone), store, token="secret", feedback_per_minute=3, max_body=100_000)
    with gateway_server(config) as address, httpx.Client(base_url=address, timeout=15, trust_env=False) as client:
        yield client


@pytest.fixture
def gallery(painter: StandIn, standin: StandIn, store: FileStore) -> Iterator[httpx.Client]:
    """A client of a gateway for colours, with the endpoints `here` and `digits`, whose task is another one."""
    store.task = PAINTS.name
    with asgi_server(painter.app) as url, asgi_server(standin.app) as other:
        endpoints = Endpoint.parse_all([f"here={url}", f"digits={other}/v2/models/digits"], PAINTS.name)
        with (
            gateway_server(GatewayConfig(endpoints, store, task=PAINTS)) as address,
            httpx.Client(base_url=address, timeout=15, trust_env=False) as client,
        ):
            yield client
