"""The predictor as a real process, asked by KServe's own clients and by plain HTTP."""

from __future__ import annotations

import asyncio
import fcntl
import gzip
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from digits.data.dataset import Dataset
from digits.release import ledger, releases
from digits.serving import client
from digits.serving.app import SMALL_BODY
from digits.settings import Settings
from digits.store.file import FileStore
from tests.helpers.support import (
    Finished,
    Predictor,
    StartPredictor,
    another_release,
    child_environment,
    free_port,
    get_json,
    has_ipv6,
    predictors,
    until_refused,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # kserve's and grpc's clients


@pytest.fixture(scope="module")
def predictor(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    """One predictor on the finished run's store, for the tests that change nothing."""
    with predictors(tmp_path_factory.mktemp("predictor")) as start:
        yield start(finished.settings)


@pytest.fixture(scope="module")
def asked(finished: Finished) -> tuple[np.ndarray, np.ndarray]:
    """Five test images uint8 (5, 28, 28) and the probabilities that the release gives, by its own ONNX file."""
    from digits.evaluation import metrics

    test = Dataset.load(finished.folder / "test.npz")
    return test.images[:5], metrics.predict(finished.folder / "model" / "model.onnx", test.images[:5])


def post(url: str, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """POST; (status, headers in lower case, body), whatever the status is."""
    parts = url.split("/", 3)
    connection = http.client.HTTPConnection(parts[2], timeout=30)
    try:
        connection.request("POST", f"/{parts[3]}", body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def v1_body(images: np.ndarray) -> bytes:
    return json.dumps({"instances": (images.astype(float) / 255).tolist()}).encode()


def test_kserves_client_over_rest(predictor: Predictor, asked: tuple[np.ndarray, np.ndarray]) -> None:
    """kserve.InferenceRESTClient gets the release's probabilities over V1 and V2, in JSON and in binary."""
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    images, expected = asked

    async def ask() -> list[Any]:
        v1 = InferenceRESTClient(RESTConfig(protocol="v1", timeout=30))
        v2 = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
        answers = [await v1.infer(predictor.url, json.loads(v1_body(images)), model_name="digits")]
        for binary in (False, True):
            for values, datatype in (((images / 255).astype(np.float32), "FP32"), (images, "UINT8")):
                tensor = InferInput("image", list(values.shape), datatype)
                tensor.set_data_from_numpy(values, binary_data=binary)
                answers.append(await v2.infer(predictor.url, InferRequest("digits", [tensor]), model_name="digits"))
        assert await v2.is_server_ready(predictor.url)
        assert await v2.is_server_live(predictor.url)
        assert await v2.is_model_ready(predictor.url, "digits")
        await v1.close()
        await v2.close()
        return answers

    first, *others = asyncio.run(ask())
    assert np.abs(np.array(first["predictions"]) - expected).max() < 1e-5
    assert len(others) == 4
    for answer in others:
        outputs = {output.name: output.as_numpy() for output in answer.outputs}
        assert np.abs(outputs["probabilities"] - expected).max() < 1e-5
        assert outputs["class"].tolist() == expected.argmax(1).tolist()


def test_kserves_client_over_grpc(
    predictor: Predictor, asked: tuple[np.ndarray, np.ndarray], finished: Finished
) -> None:
    """kserve.InferenceGRPCClient gets the same over V2, raw and as contents, and is refused with a reason."""
    import grpc
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    images, expected = asked

    async def ask() -> None:
        async with InferenceGRPCClient(predictor.grpc, timeout=30) as grpc_client:
            assert await grpc_client.is_server_ready()
            assert await grpc_client.is_model_ready("digits")
            for values, datatype in (((images / 255).astype(np.float32), "FP32"), (images, "UINT8")):
                for binary in (True, False):
                    tensor = InferInput("image", list(values.shape), datatype)
                    tensor.set_data_from_numpy(values, binary_data=binary)
                    answer = await grpc_client.infer(InferRequest("digits", [tensor], request_id="r1"))
                    outputs = {output.name: output.as_numpy() for output in answer.outputs}
                    assert np.abs(outputs["probabilities"] - expected).max() < 1e-5
                    assert outputs["class"].tolist() == expected.argmax(1).tolist()
                    assert (answer.id, answer.model_version) == ("r1", finished.version)
            bad = InferInput("image", [1, 28, 28], "FP32")
            bad.set_data_from_numpy(np.full((1, 28, 28), np.nan, np.float32), binary_data=True)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await grpc_client.infer(InferRequest("digits", [bad]))
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            good = InferInput("image", [1, 28, 28], "UINT8")
            good.set_data_from_numpy(images[:1], binary_data=True)
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await grpc_client.infer(InferRequest("other", [good]))
            assert unknown.value.code() == grpc.StatusCode.NOT_FOUND

    asyncio.run(ask())


def test_grpc_cannot_exchange_models(predictor: Predictor) -> None:
    """Loading and unloading over gRPC is refused."""
    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs

    with grpc.insecure_channel(predictor.grpc) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        for call, request in (
            (stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="digits")),
            (stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="digits")),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call(request, timeout=30)
            assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_plain_curl(predictor: Predictor, asked: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    """What the README shows with curl works, with the content type that curl sends by itself."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    images, expected = asked
    (tmp_path / "body.json").write_bytes(v1_body(images[:1]))
    command = ["curl", "-sS", "-m", "30", "-d", f"@{tmp_path}/body.json", f"{predictor.url}/v1/models/digits:predict"]
    said = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
    assert np.abs(np.array(json.loads(said)["predictions"]) - expected[:1]).max() < 1e-5


def test_our_own_client(predictor: Predictor, asked: tuple[np.ndarray, np.ndarray], finished: Finished) -> None:
    """`digits.serving.client` gets classes, probabilities and the release that answered."""
    images, expected = asked
    answer = client.predict(predictor.url, images)
    assert answer.classes.tolist() == expected.argmax(1).tolist()
    assert np.abs(answer.probabilities - expected).max() < 1e-5
    assert answer.release == finished.version


def test_metadata_names_the_release(predictor: Predictor, finished: Finished) -> None:
    """The model's metadata says which release is served, of which data, how good, and what it takes."""
    said = get_json(f"{predictor.url}/v2/models/digits")
    published = finished.facts["published"]
    assert (said["name"], said["versions"], said["platform"]) == ("digits", [finished.version], "onnx")
    assert said["inputs"][0]["name"] == "image"
    assert [output["name"] for output in said["outputs"]] == ["class", "probabilities"]
    expected = {"release": finished.version, "digest": published["digest"], "dataset": "sklearn-digits"}
    expected |= {"mlflow_run": published["mlflow_run"], "accuracy": finished.facts["accuracy"]}
    assert expected.items() <= said["parameters"].items()


@pytest.mark.parametrize(
    "path", ["v2/health/live", "v2/health/ready", "v2/models/digits/ready", "v1/models/digits", "v2"]
)
def test_health_and_readiness(path: str, predictor: Predictor) -> None:
    """KServe's own probes and server metadata answer."""
    assert get_json(f"{predictor.url}/{path}")


def test_prometheus_counts_requests(predictor: Predictor, asked: tuple[np.ndarray, np.ndarray]) -> None:
    """Each prediction and each refusal is counted by protocol and status."""

    def counted(protocol: str, status: int) -> float:
        with urllib.request.urlopen(f"{predictor.url}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        name = f'digits_requests_total{{protocol="{protocol}",status="{status}"}} '
        assert "digits_request_seconds_bucket" in text
        return next((float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)), 0.0)

    before = counted("v1", 200), counted("v2", 400)
    post(f"{predictor.url}/v1/models/digits:predict", v1_body(asked[0]))
    post(f"{predictor.url}/v2/models/digits/infer", b"{}")
    assert (counted("v1", 200), counted("v2", 400)) == (before[0] + 1, before[1] + 1)


MALFORMED = {
    "empty": b"",
    "no JSON": b"instances",
    "a list": b"[]",
    "nothing in it": b"{}",
    "text": b'{"instances": "x"}',
    "wrong shape": b'{"instances": [[1, 2], [3, 4]]}',
    "ragged": b'{"instances": [[[0], [0, 0]]]}',
    "NaN": v1_body(np.zeros((1, 28, 28))).replace(b"0.0", b"NaN", 1),
    "out of range": v1_body(np.full((1, 28, 28), 510)),
    "huge number": v1_body(np.zeros((1, 28, 28))).replace(b"0.0", b"9" * 5000, 1),
    "deep": b'{"instances": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "datatype a list": b'{"inputs": [{"name": "image", "datatype": [], "shape": [1, 784], "data": []}]}',
    "datatype text": b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 784], "data": []}]}',
    "shape": b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 784], "data": []}]}',
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("path", ["v1/models/digits:predict", "v2/models/digits/infer"])
def test_malformed_is_400(body: bytes, path: str, predictor: Predictor) -> None:
    """Anything malformed is a 400 with a sentence in JSON, without a traceback, whatever the content type says."""
    for content_type in ("application/json", "text/plain", "application/octet-stream"):
        status, headers, answer = post(f"{predictor.url}/{path}", body, Content_Type=content_type)
        assert status == 400
        assert headers["content-type"] == "application/json"
        error = json.loads(answer)["error"]
        assert error
        assert "Traceback" not in error


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "x", "99999"])
def test_a_wrong_header_length_is_400(length: str, predictor: Predictor) -> None:
    """A JSON part that is longer than the body, or no number, is malformed too."""
    status, _, _ = post(f"{predictor.url}/v2/models/digits/infer", b"{}", Inference_Header_Content_Length=length)
    assert status == 400


def test_too_large_is_413(predictor: Predictor) -> None:
    """A body beyond the limit is refused, told beforehand or not, and the server goes on."""
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
        status = 413  # it hung up while we were still sending, which is the other way to refuse
    assert status == 413
    chunked.close()
    assert get_json(f"{predictor.url}/v2/models/digits/ready")


def test_a_compressed_body_is_415(predictor: Predictor, asked: tuple[np.ndarray, np.ndarray]) -> None:
    """A small body that would unpack to a large one is never unpacked."""
    body = gzip.compress(v1_body(asked[0]))
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
def test_other_doors_are_closed(path: str, status: int, predictor: Predictor) -> None:
    """Models cannot be loaded or unloaded by whoever reaches the port, and there is one model only."""
    found, _, answer = post(f"{predictor.url}/{path}", b"{}")
    assert found == status
    assert json.loads(answer)["error"]
    assert get_json(f"{predictor.url}/v2/models/digits/ready")


@pytest.mark.parametrize("path", ["v2/models/digits/versions/9", "v1/models/other", "v2/models/other/ready", "docs"])
def test_unknown_paths_leave_no_trace(path: str, predictor: Predictor) -> None:
    """What is not there is a 404, also the versions that KServe answers with 501, and fills no log."""
    before = predictor.log.stat().st_size
    with pytest.raises(OSError, match="404"):
        get_json(f"{predictor.url}/{path}")
    assert predictor.log.stat().st_size == before


@pytest.mark.parametrize(
    "path",
    ["", "metrics", "v1/models", "v1/models/digits", "v2", "v2/models", "v2/health/ready", "v2/models/digits/ready"],
)
def test_kserves_own_paths_are_there(path: str, predictor: Predictor) -> None:
    """Health, readiness, lists and metrics are KServe's own."""
    with urllib.request.urlopen(f"{predictor.url}/{path}", timeout=10) as answer:
        assert answer.status == 200


def test_refusals_over_grpc_leave_no_trace(predictor: Predictor) -> None:
    """What a caller got wrong is a status for the caller, and no traceback in our log."""
    import grpc

    before = predictor.log.stat().st_size
    with grpc.insecure_channel(predictor.grpc) as channel:
        for method, message, code in (
            ("ModelInfer", b"\xff\xff", "INVALID_ARGUMENT"),
            ("ModelInfer", b"", "NOT_FOUND"),
            ("ModelReady", b"", "NOT_FOUND"),
            ("Nothing", b"", "UNIMPLEMENTED"),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(message, timeout=30)
            assert refused.value.code().name == code
    assert predictor.log.stat().st_size == before


class Load:
    """Asks for predictions all the time, and keeps whatever did not go well."""

    def __init__(self, predictor: Predictor, images: np.ndarray) -> None:
        self._predictor, self._images, self._over = predictor, images, threading.Event()
        self.releases: set[str] = set()
        self.failed: list[str] = []
        self.count = 0
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                self.releases.add(client.predict(self._predictor.url, self._images).release)
                self.count += 1
            except Exception as exc:  # noqa: BLE001 # any failure counts
                self.failed.append(repr(exc))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)


def test_a_promotion_switches_without_a_failed_request(
    start_predictor: StartPredictor, finished: Finished, asked: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Under load the next champion is served without a restart; a damaged one is refused and the old one stays."""
    settings = finished.copy(tmp_path / "home")
    store = FileStore(settings.home / "store")
    predictor = start_predictor(settings)
    second = another_release(store, finished.version, seed=2)["version"]
    third = another_release(store, finished.version, seed=3)["version"]
    store.put(releases.release_prefix(third) + "model.onnx", b"damaged")
    with Load(predictor, asked[0]) as load:
        ledger.promote(store, second, "next")
        predictor.wait_for(lambda p: p.about()["release"] == second, "the second release")
        ledger.promote(store, third, "damaged")
        predictor.wait_for(lambda p: p.about()["refused"].get("release") == third, "the refusal of the third")
        assert predictor.about()["release"] == second
        assert "model.onnx" in predictor.about()["refused"]["why"]
        assert get_json(f"{predictor.url}/v2/models/digits/ready")
        ledger.rollback(store)
        predictor.wait_for(lambda p: p.about()["refused"] == {}, "the rollback")
    assert load.failed == []
    assert load.count > 0
    assert load.releases <= {finished.version, second}
    assert predictor.about()["release"] == second


@pytest.mark.parametrize("count", [1, 10])
def test_a_signal_lets_requests_in_flight_finish(
    count: int, start_predictor: StartPredictor, finished: Finished, asked: tuple[np.ndarray, np.ndarray]
) -> None:
    """A request half sent when SIGTERM comes is answered, and nothing else is; then the process ends with 0."""
    predictor = start_predictor(finished.settings)
    body = v1_body(np.resize(asked[0], (count, 28, 28)))
    assert (len(body) <= SMALL_BODY) == (count == 1)  # one is answered on the connection, the other in a thread
    connection = http.client.HTTPConnection(predictor.url.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", "/v1/models/digits:predict")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:100])
    wait_for_arrival([connection], 0)
    get_json(f"{predictor.url}/v2/health/live")  # so it has read from the connection before
    predictor.process.send_signal(signal.SIGTERM)
    until_refused(predictor.url.removeprefix("http://"))
    until_refused(predictor.grpc)
    connection.send(body[100:])
    answer = connection.getresponse()
    assert answer.status == 200
    assert len(json.loads(answer.read())["predictions"]) == count
    connection.close()
    assert predictor.stop() == 0
    with pytest.raises(OSError, match="refused"):
        get_json(f"{predictor.url}/v2/health/live")


def wait_for_arrival(connections: list[http.client.HTTPConnection], but: int) -> None:
    """Wait until the other side's buffers have what was sent on each connection, but for so many bytes.

    Even on one machine, what is sent arrives later when the machine is busy.
    """
    deadline = time.monotonic() + 30
    while any(_on_the_way(connection) > but for connection in connections):
        assert time.monotonic() < deadline, "what was sent did not arrive"
        time.sleep(0.01)


def _on_the_way(connection: http.client.HTTPConnection) -> int:
    """Bytes that were sent on a connection and have not been acknowledged."""
    return int.from_bytes(fcntl.ioctl(connection.sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("count", [1, 10])
def test_too_many_at_once_are_refused(count: int, predictor: Predictor, asked: tuple[np.ndarray, np.ndarray]) -> None:
    """Of 400 requests at one moment about 256 are answered, others are told to come back; a probe is answered."""
    body, path = v1_body(np.resize(asked[0], (count, 28, 28))), "/v1/models/digits:predict"
    assert (len(body) <= SMALL_BODY) == (count == 1)
    address = predictor.url.removeprefix("http://")
    probe, *connections = [http.client.HTTPConnection(address, timeout=30) for _ in range(401)]
    try:
        for connection in [probe, *connections]:
            connection.connect()
        get_json(f"{predictor.url}/v2/health/live")  # so it has accepted them
        predictor.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, predictor.process.pid, os.WSTOPPED)
        try:
            for connection in connections:
                connection.request("POST", path, body)
            probe.request("GET", "/v2/models/digits/ready")
            # Of a large one its buffer holds a part, which is enough to count.
            wait_for_arrival([probe], 0)
            wait_for_arrival(connections, 0 if count == 1 else len(body) - 1)
        finally:
            predictor.process.send_signal(signal.SIGCONT)
        assert probe.getresponse().status == 200
        answers = [connection.getresponse() for connection in connections]
        assert {answer.getheader("Retry-After") for answer in answers if answer.status == 503} == {"1"}
        assert {answer.status for answer in answers} == {200, 503}
        assert sum(answer.status == 200 for answer in answers) >= 250  # a probe may hold a place
    finally:
        for connection in [probe, *connections]:
            connection.close()


def test_an_empty_store_is_not_ready(start_predictor: StartPredictor, settings: Settings) -> None:
    """Without a champion the server lives, is not ready, and says so with 503 and Retry-After."""
    predictor = start_predictor(settings, ready=False)
    predictor.wait_for(lambda p: bool(get_json(f"{p.url}/v2/health/live")), "life")
    with pytest.raises(OSError, match="503"):
        get_json(f"{predictor.url}/v2/models/digits/ready")
    status, headers, answer = post(f"{predictor.url}/v1/models/digits:predict", v1_body(np.zeros((1, 28, 28))))
    assert (status, headers["retry-after"]) == (503, "1")
    assert "no release yet" in json.loads(answer)["error"]


@pytest.mark.parametrize(
    "damage", ["changed model", "no golden image", "wrong golden image", "NaN in it", "no manifest"]
)
def test_a_damaged_folder_is_refused_at_once(damage: str, finished: Finished, tmp_path: Path) -> None:
    """`--model-dir` of a damaged release ends with an error and its reason instead of serving."""
    folder = tmp_path / "release"
    manifest = releases.download(finished.store, finished.version, folder)
    if damage == "changed model":
        (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1] + b"x")
    elif damage == "no manifest":
        (folder / releases.MANIFEST).unlink()
    else:
        golden = manifest.pop("golden")
        if damage != "no golden image":
            wrong = golden["probabilities"][::-1] if damage == "wrong golden image" else [float("nan")] * 10
            manifest["golden"] = golden | {"probabilities": wrong}
        (folder / releases.MANIFEST).write_text(json.dumps(manifest))
    ports = ["--http-port", str(free_port()), "--grpc-port", str(free_port())]
    done = subprocess.run(
        [sys.executable, "-m", "digits", "serve", "--model-dir", str(folder), *ports],
        capture_output=True,
        text=True,
        timeout=60,
        env=child_environment(Settings(home=tmp_path)),
        check=False,
    )
    expected = {
        "changed model": "model.onnx is damaged",
        "no golden image": "golden",
        "wrong golden image": "answers its golden image with",
        "NaN in it": "answers its golden image with",
        "no manifest": "holds no manifest.json",
    }[damage]
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_can_be_served(start_predictor: StartPredictor, finished: Finished, tmp_path: Path) -> None:
    """An intact release's folder is served without any store, as in a KServe container."""
    releases.download(finished.store, finished.version, tmp_path / "model", only="model.onnx")
    settings = Settings(home=tmp_path / "none")
    predictor = start_predictor(settings, "--model-dir", str(tmp_path / "model"))
    assert predictor.about()["release"] == finished.version


def test_an_ipv6_address_can_be_listened_on(
    start_predictor: StartPredictor, finished: Finished, asked: tuple[np.ndarray, np.ndarray]
) -> None:
    """With `--host ::1` REST and gRPC answer there."""
    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs

    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    predictor = start_predictor(finished.settings, "--host", "::1", ready=False)
    predictor.url, predictor.grpc = (at.replace("127.0.0.1", "[::1]") for at in (predictor.url, predictor.grpc))
    predictor.wait_for(lambda p: bool(get_json(f"{p.url}/v2/models/digits/ready")), "readiness")
    assert client.predict(predictor.url, asked[0]).release == finished.version
    with grpc.insecure_channel(predictor.grpc) as channel:
        assert stubs.GRPCInferenceServiceStub(channel).ServerReady(pb.ServerReadyRequest(), timeout=30).ready


def test_a_taken_port_is_named(predictor: Predictor, finished: Finished) -> None:
    """A port that another program holds is an error with exit code 3, and that program is left alone."""
    port = predictor.url.rsplit(":", 1)[1]
    done = subprocess.run(
        [sys.executable, "-m", "digits", "serve", "--http-port", port, "--grpc-port", str(free_port())],
        capture_output=True,
        text=True,
        timeout=60,
        env=child_environment(finished.settings),
        check=False,
    )
    assert done.returncode == 3
    assert f"port {port}" in done.stderr
    assert "DIGITS_PORT" in done.stderr
    assert predictor.about()["release"] == finished.version
