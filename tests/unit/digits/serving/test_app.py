"""The predictor's paths: limits, methods, versions, metadata and metrics."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest

from digits.serving.app import PredictApp
from digits.serving.listener import RejectedRequest
from digits.serving.slot import LoadedModel, ModelSlot, load
from digits.settings import Settings
from digits.tasks.task import find
from tests.helpers.http_server import http_server
from tests.helpers.predict import post, v1_body
from tests.helpers.support import Finished, Predictor, StartPredictor, get_json
from tests.helpers.tasks import COLOURS, LinearModel, requested_image, task_text


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


def test_a_rejected_request_does_not_keep_what_it_was_decoded_to() -> None:
    """The error of a malformed request has no reference to the decoder's variables, which may take 150 MB."""
    slot = ModelSlot()
    slot.swap(LoadedModel({"version": "1", "task": find("digits").text()}, lambda pixels: pixels))
    with pytest.raises(RejectedRequest) as caught:
        PredictApp(slot, "digits", {}).predict("v2", {}, b'{"inputs": []}')
    assert (caught.value.status, caught.value.__context__) == (400, None)


def test_the_metadata_and_the_answers_have_the_shape_of_the_task(tmp_path: Path) -> None:
    """Metadata, V1, V2 and errors have the shape and labels of the task, metadata also before there is a release."""
    task = find(task_text())
    slot, linear = ModelSlot(task), LinearModel(task)
    image = linear.image / 255
    expected = linear(image[None].astype(np.float32))
    with http_server(PredictApp(slot, "colours", {}).listener) as address:
        model = f"http://{address}/v2/models/colours"
        before = get_json(model)
        slot.swap(load(linear.release(tmp_path)))
        metadata = get_json(model)
        assert [before[key] for key in ("inputs", "outputs")] == [metadata[key] for key in ("inputs", "outputs")]
        assert metadata["inputs"][0]["shape"] == [-1, 12, 10, 3]
        assert [output["shape"] for output in metadata["outputs"]] == [[-1], [-1, 3], [-1]]
        for parameters in (before["parameters"], metadata["parameters"]):
            assert find(parameters["task"]) == task.of_model()
        path = f"http://{address}/v1/models/colours:predict"
        _, _, answer = post(path, json.dumps({"instances": [image.tolist()]}).encode())
        assert np.allclose(json.loads(answer)["predictions"], expected, atol=1e-5)
        status, _, answer = post(path, v1_body(np.zeros((1, 28, 28))))
        assert (status, "(n, 12, 10, 3)" in json.loads(answer)["error"]) == (400, True)
        _, _, answer = post(f"{model}/infer", json.dumps({"inputs": [requested_image(task, 2)]}).encode())
        outputs = {output["name"]: output["data"] for output in json.loads(answer)["outputs"]}
        assert outputs["label"] == [COLOURS[n] for n in outputs["class"]]


def test_a_request_is_decoded_and_answered_by_one_release() -> None:
    """A release of another shape that arrives during a request answers the next one."""
    slot = ModelSlot()
    tasks = [find(task_text()), find(task_text(("a", "b"), (8, 9, 1)))]
    second = LoadedModel({"version": "2", "task": tasks[1].text()}, LinearModel(tasks[1]))

    def run(pixels: np.ndarray) -> np.ndarray:
        slot.swap(second)
        return LinearModel(tasks[0])(pixels)

    slot.swap(LoadedModel({"version": "1", "task": tasks[0].text()}, run))
    app = PredictApp(slot, "colours", {})
    for number, task in enumerate(tasks, 1):
        body = json.dumps({"inputs": [requested_image(task)]}).encode()
        answer = json.loads(app.predict("v2", {}, body).content)
        assert (answer["model_version"], answer["outputs"][1]["shape"]) == (str(number), [1, len(task.labels)])
        assert answer["outputs"][2]["data"][0] in task.labels
    with pytest.raises(RejectedRequest, match=r"\[n, 8, 9\]"):
        app.predict("v2", {}, json.dumps({"inputs": [requested_image(tasks[0])]}).encode())


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


def ask(predictor: Predictor, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str, bytes]:
    """Return (status, the header Allow, body) of a request."""
    connection = http.client.HTTPConnection(predictor.url.removeprefix("http://"), timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Allow", ""), answer.read()
    finally:
        connection.close()


PAGES = ["/", "/metrics", "/v1/models", "/v1/models/digits", "/v2", "/v2/models", "/v2/models/digits"]
PAGES += ["/v2/health/live", "/v2/health/ready", "/v2/models/digits/ready", "/v2/repository/index"]


@pytest.mark.parametrize("path", PAGES)
def test_head_has_the_status_of_get(path: str, predictor: Predictor) -> None:
    """HEAD of each path has GET's status and no body, and another method is 405 with the allowed ones."""
    assert ask(predictor, "GET", path)[0] == 200
    assert ask(predictor, "HEAD", path) == (200, "", b"")
    status, allow, _ = ask(predictor, "DELETE", path)
    assert status == 405
    assert "GET, HEAD" in allow


@pytest.mark.parametrize("path", ["/v1/models/digits:predict", "/v2/models/digits/infer"])
def test_predictions_are_posted(path: str, predictor: Predictor) -> None:
    """Other methods than POST are 405 for predictions."""
    assert [ask(predictor, method, path)[:2] for method in ("GET", "PUT", "OPTIONS")] == [(405, "POST")] * 3


def test_the_served_version_may_be_named(predictor: Predictor, finished: Finished) -> None:
    """Paths with the served version answer like those without; another version is 404 and names the served one."""
    image = {"name": "image", "shape": [1, 784], "datatype": "UINT8", "data": [0] * 784}
    v2, v1 = json.dumps({"inputs": [image]}).encode(), v1_body(np.zeros((1, 28, 28)))
    for method, model, rest, body in (
        ("GET", "/v1/models/digits", "", b""),
        ("GET", "/v2/models/digits", "", b""),
        ("GET", "/v2/models/digits", "/ready", b""),
        ("POST", "/v2/models/digits", "/infer", v2),
        ("POST", "/v1/models/digits", ":predict", v1),
    ):
        answer = ask(predictor, method, f"{model}{rest}", body)
        assert answer[0] == 200
        assert ask(predictor, method, f"{model}/versions/{finished.version}{rest}", body) == answer
        status, _, error = ask(predictor, method, f"{model}/versions/9{rest}", body)
        assert (status, finished.version.encode() in error) == (404, True)


def test_the_repository_index_names_the_model(predictor: Predictor, finished: Finished) -> None:
    """The repository's index has the model, its version and state."""
    index = json.loads(ask(predictor, "POST", "/v2/repository/index", b"{}")[2])
    assert index == [{"name": "digits", "version": finished.version, "state": "READY", "reason": ""}]


@pytest.mark.parametrize("accept", ["text/plain; version=x", "*/*", "application/openmetrics-text; version=1.0.0", ";"])
def test_metrics_answer_any_accept(accept: str, predictor: Predictor) -> None:
    """The metrics are answered whatever format a scraper accepts."""
    status, _, content = ask(predictor, "GET", "/metrics", Accept=accept)
    assert (status, b"digits_images_total" in content) == (200, True)


def test_an_empty_store_is_live_but_not_ready(start_predictor: StartPredictor, settings: Settings) -> None:
    """Without a champion the server is live but not ready, in any version; predictions get 503 with Retry-After."""
    predictor = start_predictor(settings, ready=False)
    predictor.wait_for(lambda p: bool(get_json(f"{p.url}/v2/health/live")), "liveness")
    for path in ("/v2/models/digits/ready", "/v2/models/digits/versions/1/ready", "/v1/models/digits/versions/1"):
        with pytest.raises(OSError, match="503"):
            get_json(predictor.url + path)
    with grpc.insecure_channel(predictor.grpc) as channel:
        ready = channel.unary_unary("/inference.GRPCInferenceService/ModelReady")
        for version in (b"", b"\x12\x011"):
            assert not ready(b"\x0a\x06digits" + version, timeout=30)  # a message without fields: not ready
    status, headers, answer = post(f"{predictor.url}/v1/models/digits:predict", v1_body(np.zeros((1, 28, 28))))
    assert (status, headers["retry-after"]) == (503, "1")
    assert "no release yet" in json.loads(answer)["error"]


def test_the_metrics_are_not_written_to_another_programs_folder(tmp_path: Path) -> None:
    """PROMETHEUS_MULTIPROC_DIR of another program neither ends the server nor gets files from it."""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import digits.serving.app"], env=environment, timeout=120, check=True)
    assert list(tmp_path.iterdir()) == []
