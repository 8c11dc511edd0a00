"""The application in front of KServe's, on a real socket: what it holds of requests is bounded."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from typing import Any

import numpy as np
import pytest

from digits.serving import app
from digits.serving.slot import Loaded, Served
from tests.helpers.serving import serving

BODY = b'{"instances":' + json.dumps(np.zeros((1, 28, 28)).tolist()).encode() + b"}"


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """KServe's application, which these requests don't reach."""
    del scope, receive, send


def test_bytes_of_waiting_requests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body for which there is no room is a 503; those that are being read are answered, and then there is room."""
    monkeypatch.setattr(app, "MAX_HELD", 2 * len(BODY) - 2)
    served = Served()
    served.exchange(Loaded({"version": "1"}, lambda pixels: np.full((len(pixels), 10), 0.1, np.float32)))

    def begin(address: str, sent: int) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.putrequest("POST", "/v1/models/digits:predict")
        connection.putheader("Content-Length", str(len(BODY)))
        connection.endheaders(BODY[:sent])
        return connection

    front = app.Front(served, "digits", nothing)
    with serving(front, lifespan="off") as url:
        address = url.removeprefix("http://")
        first = begin(address, len(BODY) - 1)
        deadline = time.monotonic() + 10
        while front._held < len(BODY) - 1 and time.monotonic() < deadline:
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


def test_large_predictions_over_grpc_leave_the_loop_alone() -> None:
    """A few images are predicted at once, many in a thread, so that health probes are answered meanwhile."""
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

    from digits.serving.server import Servicer

    threads: list[threading.Thread] = []

    def run(pixels: Any) -> Any:
        threads.append(threading.current_thread())
        return np.full((len(pixels), 10), 0.1, np.float32)

    served = Served()
    served.exchange(Loaded({"version": "1"}, run))
    servicer = Servicer.__new__(Servicer)
    servicer._name, servicer._served, servicer._large = "digits", served, asyncio.Lock()
    for count in (1, 64):
        tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[count, 28, 28])
        raw = np.zeros((count, 28, 28), np.uint8).tobytes()
        request = pb.ModelInferRequest(model_name="digits", inputs=[tensor], raw_input_contents=[raw])
        answer = asyncio.run(servicer.ModelInfer([request.SerializeToString()], None))
        assert list(answer.outputs[0].shape) == [count]
    assert [thread is threading.main_thread() for thread in threads] == [True, False]
