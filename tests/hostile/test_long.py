"""Half an hour of load: memory and descriptors of predictor and gateway do not grow, and no request fails.

Deselected by default. Run it by `nox -s hostile -- -m long`.
"""

from __future__ import annotations

import dataclasses
import http.client
import itertools
import json
import threading
import time

import grpc
import psutil
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs

from digits.data.dataset import Dataset
from digits.settings import Settings
from tests.helpers.support import Finished, Predictor
from tests.helpers.targets import Target

SECONDS = 30 * 60.0
# After this time caches, pools and the allocator's arenas are full, so any growth is a leak.
WARM_SECONDS = 3 * 60.0
MAX_GROWTH = 24 << 20  # bytes, after the warm-up
pytestmark = [pytest.mark.long, pytest.mark.timeout(SECONDS + 600)]


def resident(target: Target) -> int:
    return int(psutil.Process(target.process.pid).memory_info().rss)


def test_half_an_hour_of_load(
    predictor: Target, gateway: Target, attacked: tuple[Settings, Predictor], finished: Finished
) -> None:
    """Under valid and malformed requests and disconnecting clients, memory does not grow and no valid request fails."""
    over = threading.Event()
    failed: list[str] = []
    method, path, headers, many = predictor.good
    one = json.dumps({"instances": json.loads(many)["instances"][:1]}).encode()
    small = dataclasses.replace(predictor, good=(method, path, headers, one))  # answered by InlinePredictProtocol
    _, _, png, drawing = gateway.good
    correction = dataclasses.replace(gateway, good=("POST", "/api/feedback?label=1&answer=7&release=x", png, drawing))
    images = Dataset.load(finished.folder / "test.npz").images[:64]

    def ask(target: Target, keep: bool, pause: float) -> None:
        method, path, headers, body = target.good
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
        for turn in itertools.count():
            if over.wait(pause):
                break
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                said = json.loads(answer.read())
                target.tally.count(target.name, answer.status)
                if answer.status != 200 or not {"predictions", "class", "key"} & set(said):
                    failed.append(f"{target.name}: {answer.status} {str(said)[:200]}")
            except Exception as exc:  # noqa: BLE001 # any failure counts
                failed.append(f"{target.name}: {exc!r}")
            if not keep:
                connection.close()
            if turn % 10 == 0:
                head = f"POST {path} HTTP/1.1\r\nContent-Type: image/png\r\nContent-Length: 9999\r\n\r\n"
                target.raw(head.encode() + b"{")
                target.raw(b"\xff\xfe\r\n\r\n")
        connection.close()

    def ask_over_grpc() -> None:
        requests = []
        for count in (1, len(images)):
            tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[count, 28, 28])
            raw = images[:count].tobytes()
            requests.append(pb.ModelInferRequest(model_name="digits", inputs=[tensor], raw_input_contents=[raw]))
        with grpc.insecure_channel(attacked[1].grpc) as channel:
            infer = stubs.GRPCInferenceServiceStub(channel).ModelInfer
            for turn in itertools.count():
                if over.wait(0.01):
                    break
                try:
                    infer(requests[turn % 2], timeout=60)
                    predictor.tally.count("gRPC", "OK")
                except grpc.RpcError as exc:
                    failed.append(f"gRPC: {exc!r}")

    # Two clients each, one of which reconnects for each request. Corrections are rare because of the rate limit.
    load = [(target, n == 0, 0.0) for target in (predictor, small, gateway) for n in range(2)] + [
        (correction, True, 3.0)
    ]
    threads = [threading.Thread(target=ask, args=arguments) for arguments in load]
    threads.append(threading.Thread(target=ask_over_grpc))
    for thread in threads:
        thread.start()
    began, before = time.monotonic(), {}
    try:
        while time.monotonic() - began < SECONDS and not failed:
            time.sleep(5)
            if not before and time.monotonic() - began > WARM_SECONDS:
                before = {t.name: (resident(t), t.descriptors()) for t in (predictor, gateway)}
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    assert failed == []
    for target in (predictor, gateway):
        memory, descriptors = before[target.name]
        target.tally.notes.append(
            f"{target.name}, {SECONDS / 60:.0f} minutes of load: {memory >> 20} -> {resident(target) >> 20} MiB, "
            f"{descriptors} -> {target.descriptors()} descriptors"
        )
        assert resident(target) - memory < MAX_GROWTH
        assert target.descriptors() <= descriptors
        assert target.answers() == target.right
