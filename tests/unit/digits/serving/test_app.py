"""The application in front of KServe's: limits, paths, metadata and metrics."""

from __future__ import annotations

import gzip
import http.client
import json
import time
import urllib.request
from typing import Any

import numpy as np
import pytest

from digits.serving import app
from digits.serving.slot import LoadedModel, ModelSlot
from digits.settings import Settings
from tests.helpers.asgi_server import asgi_server
from tests.helpers.predict import post, v1_body
from tests.helpers.support import Finished, Predictor, StartPredictor, get_json

BODY = b'{"instances":' + json.dumps(np.zeros((1, 28, 28)).tolist()).encode() + b"}"


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stand in for KServe's application, which these requests do not reach."""
    del scope, receive, send


def test_the_bytes_of_waiting_requests_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body over the bytes that may be held gets 503; the others are answered, and then new ones are accepted."""
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


def test_the_metadata_describes_the_release(predictor: Predictor, finished: Finished) -> None:
    """The model's metadata states the release, its data, its accuracy, and the inputs and outputs."""
    metadata = get_json(f"{predictor.url}/v2/models/digits")
    published = finished.published
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("digits", [finished.version], "onnx")
    assert metadata["inputs"][0]["name"] == "image"
    assert [output["name"] for output in metadata["outputs"]] == ["class", "probabilities"]
    parameters = {"release": finished.version, "digest": published.digest, "dataset": "sklearn-digits"}
    parameters |= {"mlflow_run": published.mlflow_run, "accuracy": finished.published.accuracy}
    assert parameters.items() <= metadata["parameters"].items()


def test_the_metrics_count_requests(predictor: Predictor, expected: tuple[np.ndarray, np.ndarray]) -> None:
    """Each prediction and each rejected request is counted by protocol and status."""

    def count(protocol: str, status: int) -> float:
        with urllib.request.urlopen(f"{predictor.url}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        name = f'digits_requests_total{{protocol="{protocol}",status="{status}"}} '
        assert "digits_request_seconds_bucket" in text
        return next((float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)), 0.0)

    before = count("v1", 200), count("v2", 400)
    post(f"{predictor.url}/v1/models/digits:predict", v1_body(expected[0]))
    post(f"{predictor.url}/v2/models/digits/infer", b"{}")
    assert (count("v1", 200), count("v2", 400)) == (before[0] + 1, before[1] + 1)


def test_a_large_body_gets_413(predictor: Predictor) -> None:
    """A body over the limit gets 413, with and without Content-Length, and the server continues."""
    host = predictor.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.putrequest("POST", "/v1/models/digits:predict")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    chunked = http.client.HTTPConnection(host, timeout=30)
    status = 0
    try:
        chunked.request(
            "POST",
            "/v1/models/digits:predict",
            (bytes(1 << 20) for _ in range(40)),
            encode_chunked=True,
            headers={"Transfer-Encoding": "chunked"},
        )
        status = chunked.getresponse().status
    except (ConnectionError, http.client.HTTPException):
        status = 413  # the server may close the connection while the client still sends
    assert status == 413
    chunked.close()
    assert get_json(f"{predictor.url}/v2/models/digits/ready")


def test_a_compressed_body_gets_415(predictor: Predictor, expected: tuple[np.ndarray, np.ndarray]) -> None:
    """A compressed body is rejected without decompressing it."""
    body = gzip.compress(v1_body(expected[0]))
    status, _, answer = post(f"{predictor.url}/v1/models/digits:predict", body, Content_Encoding="gzip")
    assert status == 415
    assert "not compressed" in json.loads(answer)["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("v2/repository/models/digits/unload", 403),
        ("v2/repository/models/digits/load", 403),
        ("v2/repository/index", 403),
        ("v1/models/other:predict", 404),
        ("v2/models/other/infer", 404),
        ("v1/models/digits:explain", 404),
    ],
)
def test_other_paths_are_rejected(path: str, status: int, predictor: Predictor) -> None:
    """Models cannot be loaded or unloaded over the network, and there is one model only."""
    actual, _, answer = post(f"{predictor.url}/{path}", b"{}")
    assert actual == status
    assert json.loads(answer)["error"]
    assert get_json(f"{predictor.url}/v2/models/digits/ready")


@pytest.mark.parametrize("path", ["v2/models/digits/versions/9", "v1/models/other", "v2/models/other/ready", "docs"])
def test_unknown_paths_are_not_logged(path: str, predictor: Predictor) -> None:
    """Unknown paths get 404, also those for which KServe has no implementation, and are not logged."""
    before = predictor.log.stat().st_size
    with pytest.raises(OSError, match="404"):
        get_json(f"{predictor.url}/{path}")
    assert predictor.log.stat().st_size == before


def test_an_empty_store_is_live_but_not_ready(start_predictor: StartPredictor, settings: Settings) -> None:
    """Without a champion the server is live but not ready, and predictions get 503 with Retry-After."""
    predictor = start_predictor(settings, ready=False)
    predictor.wait_for(lambda p: bool(get_json(f"{p.url}/v2/health/live")), "liveness")
    with pytest.raises(OSError, match="503"):
        get_json(f"{predictor.url}/v2/models/digits/ready")
    status, headers, answer = post(f"{predictor.url}/v1/models/digits:predict", v1_body(np.zeros((1, 28, 28))))
    assert (status, headers["retry-after"]) == (503, "1")
    assert "no release yet" in json.loads(answer)["error"]
