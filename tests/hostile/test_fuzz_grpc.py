"""Malformed gRPC messages: each is rejected with a status for client errors, or its connection is closed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits.settings import Settings
from tests.helpers.fuzz import fuzz
from tests.helpers.support import Predictor
from tests.helpers.targets import Tally, Target

pytestmark = pytest.mark.filterwarnings("ignore")
SERVICE = "/inference.GRPCInferenceService/"
CALLS = (
    *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer", "RepositoryIndex"),
    *("RepositoryModelLoad", "RepositoryModelUnload", "Nothing"),
)
# Statuses for client errors. RESOURCE_EXHAUSTED also signals overload.
REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "OUT_OF_RANGE"}


@pytest.fixture(scope="module")
def channel(attacked: tuple[Settings, Predictor], predictor: Target) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(attacked[1].grpc, [("grpc.max_send_message_length", 1 << 30)]) as channel:
        yield channel


def ask(channel: grpc.Channel, method: str, message: bytes, tally: Tally) -> str:
    """Call a method with raw bytes. Return the name of the status."""
    try:
        channel.unary_unary(SERVICE + method)(message, timeout=30)
        status = "OK"
    except grpc.RpcError as exc:
        status = exc.code().name
    tally.count("predictor, gRPC", status, message)
    if status != "OK" and status not in REFUSALS:
        tally.failures.append(f"gRPC {method} answered {status} to {message[:200]!r}")
    return status


@st.composite
def inference_requests(draw: Any) -> bytes:
    """Generate ModelInferRequests that are almost valid."""
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

    sizes = st.integers(-(2**63), 2**63 - 1)
    tensors = []
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2]))):
        count = draw(st.integers(0, 2))
        tensor = pb.ModelInferRequest.InferInputTensor(
            name=draw(st.text(max_size=5)),
            datatype=draw(st.sampled_from(["FP32", "UINT8", "BYTES", "x" * 3000]) | st.text(max_size=8)),
            shape=draw(st.sampled_from([[1, 784], [count, 28, 28]]) | st.lists(sizes, max_size=5)),
        )
        if draw(st.booleans()):
            tensor.contents.fp32_contents.extend(draw(st.lists(st.floats(width=32), max_size=3)) * 262)
        tensors.append(tensor)
    raw = draw(
        st.lists(st.binary(max_size=40) | st.sampled_from([bytes(784), bytes(3136), b"\xff" * 3136]), max_size=2)
    )
    name = draw(st.sampled_from(["digits", "digits", "digits", "", "other", "x" * 9000]) | st.text(max_size=9))
    request = pb.ModelInferRequest(
        model_name=name, inputs=tensors, raw_input_contents=raw, id=draw(st.text(max_size=9))
    )
    return bytes(request.SerializeToString())


@fuzz(600)
@given(message=inference_requests())
def test_inference(message: bytes, channel: grpc.Channel, tally: Tally) -> None:
    """A request that is almost valid is answered, or rejected as a client error."""
    ask(channel, "ModelInfer", message, tally)
    assert tally.new_failures() == []


@fuzz(600)
@given(method=st.sampled_from(CALLS), message=st.binary(max_size=200))
def test_bytes_as_messages(method: str, message: bytes, channel: grpc.Channel, tally: Tally) -> None:
    """Bytes that are not a message are rejected as a client error by every method."""
    ask(channel, method, message, tally)
    assert tally.new_failures() == []


def test_a_large_message(channel: grpc.Channel, predictor: Target) -> None:
    """A message of 100 MB is rejected before it is read."""
    before = predictor.memory()
    assert ask(channel, "ModelInfer", bytes(100 << 20), predictor.tally) == "RESOURCE_EXHAUSTED"
    assert predictor.memory() - before < 64 << 20


def contents(datatype: str, **values: list[Any]) -> bytes:
    """Return a ModelInferRequest for 1,024 images with these values."""
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

    tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype=datatype, shape=[1024, 28, 28])
    tensor.contents.MergeFrom(pb.InferTensorContents(**values))
    return bytes(pb.ModelInferRequest(model_name="digits", inputs=[tensor]).SerializeToString())


# Each is nearly as large as a message may be. Only the two named "right" are accepted.
LARGE = {
    "too many floats": lambda: contents("FP32", fp32_contents=[0.0] * 1_040_000),
    "right floats": lambda: contents("FP32", fp32_contents=[0.1] * (1024 * 784)),
    "right integers": lambda: contents("UINT8", uint_contents=[200] * (1024 * 784)),
    "empty texts": lambda: contents("UINT8", bytes_contents=[b""] * 2_000_000),
    "empty inputs": lambda: b"\x0a\x06digits" + b"\x2a\x00" * 2_000_000,
}


@pytest.mark.parametrize("what", LARGE)
def test_large_messages_at_once(what: str, attacked: tuple[Settings, Predictor], predictor: Target) -> None:
    """Sixty-four concurrent messages of the largest size are answered or rejected, and memory is bounded."""
    message = LARGE[what]()
    options = [("grpc.max_send_message_length", 1 << 30), ("grpc.use_local_subchannel_pool", 1)]

    def several(_: int) -> set[str]:
        with grpc.insecure_channel(attacked[1].grpc, options) as channel, futures.ThreadPoolExecutor(4) as pool:
            return set(pool.map(lambda _: ask(channel, "ModelInfer", message, predictor.tally), range(4)))

    with futures.ThreadPoolExecutor(16) as pool:
        statuses = set().union(*pool.map(several, range(16)))
    answer = "OK" if what.startswith("right") else "INVALID_ARGUMENT"
    assert answer in statuses
    assert statuses <= {answer, "RESOURCE_EXHAUSTED"}
    assert predictor.memory() < predictor.most_bytes


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@fuzz(200)
@given(
    message=st.binary(max_size=300), preface=st.sampled_from([PREFACE, PREFACE + bytes(9), b"", b"\x16\x03\x01\x02"])
)
def test_no_http2(message: bytes, preface: bytes, attacked: tuple[Settings, Predictor], predictor: Target) -> None:
    """Bytes that are not HTTP/2 frames close their connection and have no other effect."""
    port = int(attacked[1].grpc.rsplit(":", 1)[1])
    Target("predictor, gRPC", predictor.process, port, predictor.tally, predictor.log, predictor.good, None, 0).noise(
        preface + message
    )
    assert predictor.tally.new_failures() == []
