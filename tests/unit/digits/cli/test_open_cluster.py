"""`digits cluster open`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.kserve import port_forward, rollout
from digits.cli import open_cluster
from digits.errors import EndpointError
from digits.settings import Settings
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


def test_a_lost_pod_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While no pod is ready the connection is tried again, unless the limit or the cluster is gone."""
    attempts: list[bool] = []

    @contextlib.contextmanager
    def connected(_: Settings, *, local_port: int) -> Iterator[str]:
        if not attempts.pop(0):
            raise EndpointError("no ready pod", remedy="wait")
        yield f"http://127.0.0.1:{local_port}"

    def lose(*_: str) -> str:
        if not attempts:
            raise KeyboardInterrupt
        return "the page"

    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.touch()
    monkeypatch.setenv("DIGITS_HOME", str(tmp_path))
    monkeypatch.setattr(rollout, "connected", connected)
    monkeypatch.setattr(port_forward, "forwarded", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(open_cluster, "wait_for_failure", lose)
    monkeypatch.setattr(open_cluster, "try_to_fetch_corrections", lambda _: None)
    monkeypatch.setattr(open_cluster, "POLL_SECONDS", 0.0)
    attempts[:] = [True, False, False, True]
    assert open_cluster.open_command.callback is not None
    open_cluster.open_command.callback(open_page=False)
    assert capsys.readouterr().err.count("connected again") == 1
    for seconds, exists, attempts[:] in (
        (300.0, True, [False]),
        (-1.0, True, [True, False, True]),
        (300.0, False, [True, False, True]),
    ):
        monkeypatch.setattr(open_cluster, "RECONNECT_SECONDS", seconds)
        if not exists:
            kubeconfig.unlink()
        with pytest.raises(EndpointError, match="no ready pod"):
            open_cluster.open_command.callback(open_page=False)
