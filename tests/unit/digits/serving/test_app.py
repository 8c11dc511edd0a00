"""The application in front of KServe's, on a real socket: what it holds of requests is bounded."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any

import numpy as np
import pytest

from digits.serving import app
from digits.serving.slot import LoadedModel, ModelSlot
from tests.helpers.asgi_server import asgi_server

BODY = b'{"instances":' + json.dumps(np.zeros((1, 28, 28)).tolist()).encode() + b"}"


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """KServe's application, which these requests don't reach."""
    del scope, receive, send


def test_bytes_of_waiting_requests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body for which there is no room is a 503; those that are being read are answered, and then there is room."""
    monkeypatch.setattr(app, "MAX_HELD", 2 * len(BODY) - 2)
    slot = ModelSlot()
    slot.swap(LoadedModel({"version": "1"}, lambda pixels: np.full((len(pixels), 10), 0.1, np.float32)))

    def begin(address: str, sent: int) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.putrequest("POST", "/v1/models/digits:predict")
        connection.putheader("Content-Length", str(len(BODY)))
        connection.endheaders(BODY[:sent])
        return connection

    predict_app = app.PredictApp(slot, "digits", nothing)
    with asgi_server(predict_app, lifespan="off") as url:
        address = url.removeprefix("http://")
        first = begin(address, len(BODY) - 1)
        deadline = time.monotonic() + 10
        while predict_app._held < len(BODY) - 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        statuses = []
        for _ in range(3):
            other = begin(address, len(BODY))
            answer = other.getresponse()
            statuses.append((answer.status, answer.getheader("retry-after")))
            other.close()
        first.send(BODY[-1:])
        assert first.getresponse().status == 200
        first.close()
        again = begin(address, len(BODY))
        assert again.getresponse().status == 200
        again.close()
    assert statuses == [(503, "1")] * 3
