"""`digits cluster open`."""

from __future__ import annotations

from typing import Any

import pytest

from digits.cli import open_cluster
from tests.helpers.asgi_server import asgi_server
from tests.helpers.support import free_port

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


def test_a_lost_endpoint_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint is polled as well as the page, and the address that no longer answers is returned."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    monkeypatch.setattr(open_cluster, "POLL_SECONDS", 0.2)
    gone = f"http://127.0.0.1:{free_port()}/v2/health/live"
    with asgi_server(app, lifespan="off", log_config=None) as url:
        assert open_cluster.wait_for_failure(f"{url}/healthz", gone) == gone
