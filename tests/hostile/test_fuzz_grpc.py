"""gRPC garbage: refused with a status that blames the caller, or cut off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Predictor
from targets import Tally, Target
from test_fuzz_http import fuzz

from digits.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore")
SERVICE = "/inference.GRPCInferenceService/"
CALLS = (
    *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer", "RepositoryIndex"),
    *("RepositoryModelLoad", "RepositoryModelUnload", "Nothing"),
)
# What blames the caller. RESOURCE_EXHAUSTED is also the declared overload.
REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "OUT_OF_RANGE"}


@pytest.fixture(scope="module")
def channel(attacked: tuple[Settings, Predictor], predictor: Target) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(attacked[1].grpc, [("grpc.max_send_message_length", 1 << 30)]) as channel:
        yield channel


def ask(channel: grpc.Channel, method: str, message: bytes, tally: Tally) -> str:
    """One call with a message as it is; the name of its status."""
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
    """ModelInferRequests that are nearly right."""
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
    """A request that is nearly right is answered, or refused as the caller's fault."""
    ask(channel, "ModelInfer", message, tally)
    assert tally.failures == []


@fuzz(600)
@given(method=st.sampled_from(CALLS), message=st.binary(max_size=200))
def test_bytes_as_messages(method: str, message: bytes, channel: grpc.Channel, tally: Tally) -> None:
    """Bytes that are no message are refused as the caller's fault, whatever is called with them."""
    ask(channel, method, message, tally)
    assert tally.failures == []


def test_a_large_message(channel: grpc.Channel, predictor: Target) -> None:
    """A message of 100 MB is refused before it is read."""
    before = predictor.memory()
    assert ask(channel, "ModelInfer", bytes(100 << 20), predictor.tally) == "RESOURCE_EXHAUSTED"
    assert predictor.memory() - before < 64 << 20


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@fuzz(200)
@given(
    message=st.binary(max_size=300), preface=st.sampled_from([PREFACE, PREFACE + bytes(9), b"", b"\x16\x03\x01\x02"])
)
def test_no_http2(message: bytes, preface: bytes, attacked: tuple[Settings, Predictor], predictor: Target) -> None:
    """Frames that are none, TLS and plain noise close the connection and nothing else."""
    port = int(attacked[1].grpc.rsplit(":", 1)[1])
    Target("predictor, gRPC", predictor.process, port, predictor.tally, predictor.log, predictor.good, None, 0).noise(
        preface + message
    )
    assert predictor.tally.failures == []
