"""The gRPC service: decoding messages within bounded memory, and the running predictor's statuses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferInput, InferRequest, InferResponse
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs

from digits.serving import decode
from digits.serving import grpc as service
from digits.serving.slot import LoadedModel, ModelSlot
from digits.tasks.task import find
from tests.helpers.support import Finished, Predictor, free_port, get_json, has_ipv6
from tests.helpers.tasks import LinearModel, task_text

pytestmark = pytest.mark.filterwarnings("ignore")  # of kserve's and grpc's clients
Tensor = pb.ModelInferRequest.InferInputTensor
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
FLOATS = IMAGES * np.float32(1 / 255)
MODEL = LoadedModel(
    {"version": "1", "task": find("digits").text()}, lambda pixels: np.full((len(pixels), 10), 0.1, np.float32)
)


def encode(
    datatype: str, raw: bytes = b"", name: str = "digits", shape: tuple[int, ...] = (3, 28, 28), **contents: Any
) -> bytes:
    tensor = Tensor(name="image", datatype=datatype, shape=shape)
    if contents:
        tensor.contents.MergeFrom(pb.InferTensorContents(**contents))
    request = pb.ModelInferRequest(model_name=name, id="7", inputs=[tensor], raw_input_contents=[raw] if raw else [])
    return bytes(request.SerializeToString())


@pytest.mark.parametrize(
    "content",
    [
        encode("UINT8", IMAGES.tobytes()),
        encode("FP32", FLOATS.tobytes()),
        encode("UINT8", uint_contents=IMAGES.reshape(-1).tolist()),
        encode("FP32", fp32_contents=FLOATS.reshape(-1).tolist()),
    ],
    ids=["raw UINT8", "raw FP32", "UINT8", "FP32"],
)
def test_images_are_decoded(content: bytes) -> None:
    """The id and the images of a request are decoded, from raw and typed contents of both datatypes."""
    asked, pixels = service.read(content, "digits", MODEL)
    assert asked == ("7", "", ["class", "probabilities"])
    assert np.array_equal(pixels[..., 0], FLOATS)


@pytest.mark.parametrize("datatype", ["FP32", "UINT8"])
def test_the_most_images_fit(datatype: str) -> None:
    """The most images fit into MAX_MESSAGE bytes, as raw and as typed contents."""
    most = MODEL.decoder.max_images
    count, field = most * 784, "fp32_contents" if datatype == "FP32" else "uint_contents"
    values = encode(datatype, shape=(most, 784), **{field: [1.0 if datatype == "FP32" else 255] * count})
    raw = encode(datatype, bytes(count * (4 if datatype == "FP32" else 1)), shape=(most, 784))
    for content in (values, raw):
        assert len(content) <= service.MAX_MESSAGE
        assert len(service.read(content, "digits", MODEL)[1]) == most


COMPLETE = encode("UINT8", IMAGES.tobytes())
MALFORMED = {
    "cut": (COMPLETE[:-1], "cannot be decoded"),
    "no message": (b"\xff" * 20, "cannot be decoded"),
    "no end": (b"\x80", "cannot be decoded"),
    "none": (b"\x0a\x06digits", "exactly one input, got 0"),
    "two": (COMPLETE + encode("UINT8"), "exactly one input, got 2"),
    "both": (encode("UINT8", b"x", uint_contents=[1]), "either raw_input_contents"),
    "type": (encode("BYTES", b"x"), "expected datatype FP32"),
    "too few": (encode("FP32", fp32_contents=[0.5]), "expected 2352 numbers for 3 images, got 1"),
    "too many": (encode("FP32", fp32_contents=[0.5] * 9999), "expected 2352 numbers for 3 images, got 9999"),
    "out of range": (encode("UINT8", uint_contents=[256] * 2352), "whole numbers from 0 to 255"),
    "NaN": (encode("FP32", fp32_contents=[float("nan")] * 2352), "not finite"),
    "empty inputs": (b"\x2a\x00" * 20_000, "outside the tensor's values"),
    "empty raw tensors": (b"\x3a\x00" * 20_000, "outside the tensor's values"),
    "empty texts": (encode("UINT8", bytes_contents=[b""] * 20_000), "outside the tensor's values"),
    "two types": (encode("UINT8", uint_contents=[0] * 2352, fp32_contents=[0.5]), "contents of one type"),
    "a long id": (COMPLETE + pb.ModelInferRequest(id="x" * 1025).SerializeToString(), "id of at most 1024"),
    "a long name": (encode("UINT8", IMAGES.tobytes(), name="x" * 40_000), "outside the tensor's values"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_message_is_rejected(case: str) -> None:
    """A malformed message is rejected with a reason; one that would need much memory is not decoded."""
    content, reason = MALFORMED[case]
    with pytest.raises(decode.BadRequest, match=reason):
        service.read(content, "digits", MODEL)


@pytest.mark.parametrize("part", ["", "inputs", "outputs"])
def test_shared_memory_is_refused(part: str) -> None:
    """Shared memory is rejected, because a client would take what is stored there for the answer."""
    request = pb.ModelInferRequest.FromString(COMPLETE)
    request.outputs.add(name="class")
    holder = getattr(request, part)[0] if part else request
    holder.parameters["shared_memory_region"].string_param = "region"
    with pytest.raises(decode.BadRequest, match="no shared memory"):
        service.read(request.SerializeToString(), "digits", MODEL)


def test_another_model_is_not_found() -> None:
    """A request for a model of another name is not answered."""
    with pytest.raises(service.NotFound):
        service.read(encode("UINT8", IMAGES.tobytes(), name="other"), "digits", MODEL)


def test_a_large_request_does_not_block_the_event_loop() -> None:
    """A small request is computed on the event loop, a large one in a thread, so that probes are answered."""
    threads: list[threading.Thread] = []

    def run(pixels: Any) -> Any:
        threads.append(threading.current_thread())
        return np.full((len(pixels), 10), 0.1, np.float32)

    slot = ModelSlot()
    slot.swap(LoadedModel({"version": "1", "task": find("digits").text()}, run))
    servicer = service.Servicer(slot, "digits", {})
    for count in (1, 64):
        tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[count, 28, 28])
        raw = np.zeros((count, 28, 28), np.uint8).tobytes()
        request = pb.ModelInferRequest(model_name="digits", inputs=[tensor], raw_input_contents=[raw])
        answer = asyncio.run(servicer.ModelInfer([request.SerializeToString()], None))
        assert list(answer.outputs[0].shape) == [count]
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_kserves_client_over_grpc(
    predictor: Predictor, expected: tuple[np.ndarray, np.ndarray], finished: Finished
) -> None:
    """kserve.InferenceGRPCClient gets the release's probabilities (raw and typed contents), and errors as statuses."""
    images, probabilities = expected

    async def infer() -> None:
        async with InferenceGRPCClient(predictor.grpc, timeout=30) as grpc_client:
            assert await grpc_client.is_server_live()
            assert await grpc_client.is_server_ready()
            assert await grpc_client.is_model_ready("digits")
            for values, datatype in (((images / 255).astype(np.float32), "FP32"), (images, "UINT8")):
                for binary in (True, False):
                    tensor = InferInput("image", list(values.shape), datatype)
                    tensor.set_data_from_numpy(values, binary_data=binary)
                    answer = await grpc_client.infer(InferRequest("digits", [tensor], request_id="r1"))
                    outputs = {output.name: output.as_numpy() for output in answer.outputs}
                    assert np.abs(outputs["probabilities"] - probabilities).max() < 1e-5
                    assert outputs["class"].tolist() == probabilities.argmax(1).tolist()
                    assert (answer.id, answer.model_version) == ("r1", finished.version)
            bad = InferInput("image", [1, 28, 28], "FP32")
            bad.set_data_from_numpy(np.full((1, 28, 28), np.nan, np.float32), binary_data=True)
            with pytest.raises(grpc.aio.AioRpcError) as malformed:
                await grpc_client.infer(InferRequest("digits", [bad]))
            assert malformed.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            good = InferInput("image", [1, 28, 28], "UINT8")
            good.set_data_from_numpy(images[:1], binary_data=True)
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await grpc_client.infer(InferRequest("other", [good]))
            assert unknown.value.code() == grpc.StatusCode.NOT_FOUND

    asyncio.run(infer())


def test_outputs_and_versions_over_grpc(predictor: Predictor, finished: Finished) -> None:
    """Over gRPC the selected outputs and the served version are answered as over REST, and others are errors."""
    tensor = Tensor(name="image", datatype="UINT8", shape=[1, 784])

    def outputs(*names: str, version: str = "") -> list[str]:
        selected = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in names]
        request = pb.ModelInferRequest(
            model_name="digits",
            model_version=version,
            inputs=[tensor],
            outputs=selected,
            raw_input_contents=[bytes(784)],
        )
        answer = stub.ModelInfer(request, timeout=30)
        assert len(answer.outputs) == len(answer.raw_output_contents)
        return [output.name for output in answer.outputs]

    def code(call: Any, *arguments: Any, **options: Any) -> str:
        with pytest.raises(grpc.RpcError) as rejected:
            call(*arguments, **options)
        return str(rejected.value.code().name)

    with grpc.insecure_channel(predictor.grpc) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        assert outputs() == ["class", "probabilities"]
        assert outputs("probabilities") == ["probabilities"]
        assert outputs("class", "class", version=finished.version) == ["class"]
        server = stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=30)
        assert {"name": server.name, "version": server.version, "extensions": [*server.extensions]} == get_json(
            f"{predictor.url}/v2"
        )
        assert code(outputs, "predict") == "INVALID_ARGUMENT"
        assert code(outputs, version="9") == "NOT_FOUND"
        for version in ("", finished.version):
            assert stub.ModelReady(pb.ModelReadyRequest(name="digits", version=version), timeout=30).ready
            metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="digits", version=version), timeout=30)
            rest = get_json(f"{predictor.url}/v2/models/digits")
            assert [metadata.name, metadata.platform, *metadata.versions] == ["digits", "onnx", finished.version]
            for name in ("inputs", "outputs"):
                described = [
                    {"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in getattr(metadata, name)
                ]
                assert described == rest[name]
        assert code(stub.ModelReady, pb.ModelReadyRequest(name="digits", version="9"), timeout=30) == "NOT_FOUND"
        assert code(stub.ModelReady, pb.ModelReadyRequest(name="other"), timeout=30) == "NOT_FOUND"
        assert code(stub.ModelMetadata, pb.ModelMetadataRequest(name="digits", version="9"), timeout=30) == "NOT_FOUND"


def test_models_cannot_be_loaded_over_grpc(predictor: Predictor) -> None:
    """Loading and unloading a model over gRPC is rejected."""
    with grpc.insecure_channel(predictor.grpc) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        for call, request in (
            (stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="digits")),
            (stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="digits")),
        ):
            with pytest.raises(grpc.RpcError) as rejected:
                call(request, timeout=30)
            assert rejected.value.code() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("binary", [True, False])
def test_a_task_in_colour_over_grpc(binary: bool) -> None:
    """KServe's classes send images in colour, and read the labels as texts; another shape is an error that names it."""
    task = find(task_text())
    linear = LinearModel(task)
    model = LoadedModel({"version": "1", "task": task.text()}, linear)
    image = linear.image[None] / np.float32(255)

    async def ask() -> tuple[Any, str]:
        async with channel_to_a_server(model, task.name) as channel:
            stub = stubs.GRPCInferenceServiceStub(channel)
            tensor = InferInput("image", list(image.shape), "FP32")
            tensor.set_data_from_numpy(image, binary_data=binary)
            answer = await stub.ModelInfer(InferRequest(task.name, [tensor]).to_grpc(), timeout=30)
            tensor = InferInput("image", [1, 28, 28], "UINT8")
            tensor.set_data_from_numpy(IMAGES[:1], binary_data=binary)
            with pytest.raises(grpc.aio.AioRpcError) as rejected:
                await stub.ModelInfer(InferRequest(task.name, [tensor]).to_grpc(), timeout=30)
            assert rejected.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            return answer, str(rejected.value.details())

    answer, error = asyncio.run(ask())
    outputs = {output.name: output.as_numpy() for output in InferResponse.from_grpc(answer).outputs}
    assert np.allclose(outputs["probabilities"], linear(image), atol=1e-5)
    assert [text.decode() for text in outputs["label"]] == [task.labels[outputs["class"][0]]]
    assert "[n, 12, 10, 3] or [n, 360]" in error


@contextlib.asynccontextmanager
async def server_at(host: str, model: LoadedModel | None = MODEL, name: str = "digits") -> AsyncIterator[int]:
    """The port of a server of this process."""
    slot, port = ModelSlot(), free_port()
    if model:
        slot.swap(model)
    server = await service.start(service.Servicer(slot, name, {}), host, port, 1)
    yield port
    await server.stop(1)


@contextlib.asynccontextmanager
async def channel_to_a_server(
    model: LoadedModel | None = MODEL, name: str = "digits"
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server of this process."""
    async with (
        server_at("127.0.0.1", model, name) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield channel


@pytest.mark.parametrize(("size", "code"), [(7000, "OK"), (9000, "RESOURCE_EXHAUSTED")])
def test_headers_of_a_request_are_limited(size: int, code: str) -> None:
    """A request with more than 8 KiB of headers, which gRPC would keep until it ends, is refused."""

    async def status() -> str:
        async with channel_to_a_server() as channel:
            call = channel.unary_unary(service.INFER)(
                encode("UINT8", IMAGES.tobytes()), metadata=[("a", "b" * size)], timeout=30
            )
            return str((await call.code()).name)

    assert asyncio.run(status()) == code


def test_another_model_is_not_found_before_the_first_release() -> None:
    """As over REST, another model's name is unknown before the first release, too; ours is not available yet."""

    async def code(name: str) -> str:
        async with channel_to_a_server(None) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(service.INFER)(encode("UINT8", IMAGES.tobytes(), name=name), timeout=30)
        return str(refused.value.code().name)

    assert [asyncio.run(code(name)) for name in ("digits", "other")] == ["UNAVAILABLE", "NOT_FOUND"]


def http2(path: str, message: bytes, settings: bytes = b"", **fields: str) -> bytes:
    """Return what a client sends: HTTP/2's preface, settings, and one request with its message."""
    headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "te": "trailers"} | fields
    coded = b"".join(
        b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in field) for field in headers.items()
    )
    body = b"\0" + len(message).to_bytes(4) + message
    frames = [(b"\4\0\0\0\0\0", settings), (b"\1\4\0\0\0\1", coded), (b"\0\1\0\0\0\1", body)]
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(len(part).to_bytes(3) + head + part for head, part in frames)


NO_WINDOW = b"\0\4\0\0\0\0"  # SETTINGS_INITIAL_WINDOW_SIZE 0: the server may not send a message


@pytest.mark.parametrize("address", ["127.0.0.1", *(["::1"] if has_ipv6() else [])])
def test_a_response_that_is_not_accepted_ends_its_connection(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that leaves no room for its response keeps its place for a limited time; others are answered then."""
    monkeypatch.setattr(service, "READ_SECONDS", 0.3)
    monkeypatch.setattr(service, "RESPONSE_SECONDS", 0.3)
    monkeypatch.setattr(service, "MAX_WAITING", 1)

    async def ask() -> bytes:
        async with server_at("::" if has_ipv6() else "0.0.0.0") as port:
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(http2(service.INFER, COMPLETE, NO_WINDOW, **{"content-type": "application/grpc"}))
            async with asyncio.timeout(20):
                with contextlib.suppress(ConnectionError):
                    await reader.read()  # until the connection ends
            writer.close()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                answer: bytes = await channel.unary_unary(service.INFER)(COMPLETE, timeout=30)
                return answer

    assert pb.ModelInferResponse.FromString(asyncio.run(ask())).id == "7"


def test_no_request_of_one_client_is_refused() -> None:
    """Hundreds of concurrent requests of one client are all answered, as many as the server takes at a time."""

    async def ask() -> set[str]:
        async with channel_to_a_server() as channel:
            calls = [channel.unary_unary(service.INFER)(COMPLETE, timeout=60) for _ in range(400)]
            return {(await call.code()).name for call in calls}

    assert asyncio.run(ask()) == {"OK"}


def test_a_slow_message_ends_and_delays_no_more_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests whose message does not come end with DEADLINE_EXCEEDED, and the request after them is answered."""
    monkeypatch.setattr(service, "READ_SECONDS", 0.5)
    monkeypatch.setattr(service, "MAX_READING", 2)

    async def ask() -> tuple[list[str], str]:
        async with channel_to_a_server() as channel:
            slow = [channel.stream_unary(service.INFER)() for _ in range(2)]
            for call in slow:
                await call.wait_for_connection()
            answer = await channel.unary_unary(service.INFER)(COMPLETE, timeout=30)
            return [(await call.code()).name for call in slow], pb.ModelInferResponse.FromString(answer).id

    assert asyncio.run(ask()) == (["DEADLINE_EXCEEDED"] * 2, "7")


@pytest.mark.parametrize(("ended", "status"), [(True, "INVALID_ARGUMENT"), (False, "DEADLINE_EXCEEDED")])
@pytest.mark.parametrize("method", ["ModelInfer", "ServerLive", "ModelReady"])
def test_a_request_without_a_message_ends(
    method: str, ended: bool, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request of any method that has no message ends with an error, so that it keeps no place."""
    monkeypatch.setattr(service, "READ_SECONDS", 0.5)

    async def ask() -> str:
        async with channel_to_a_server() as channel:
            call = channel.stream_unary(f"/inference.GRPCInferenceService/{method}")(timeout=20)
            await call.wait_for_connection()
            if ended:
                await call.done_writing()
            return (await call.code()).name

    assert asyncio.run(ask()) == status


def test_a_client_that_goes_away_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Requests that are cancelled before or after their message leave no log entry, and others are answered."""

    async def ask() -> bytes:
        async with channel_to_a_server() as channel:
            for sent in ([], [b"\xff"], [COMPLETE]) * 10:
                call = channel.stream_unary(service.INFER)()
                await call.wait_for_connection()
                for message in sent:
                    await call.write(message)
                call.cancel()
            answer: bytes = await channel.unary_unary(service.INFER)(COMPLETE, timeout=30)
            return answer

    with caplog.at_level(logging.WARNING):
        assert pb.ModelInferResponse.FromString(asyncio.run(ask())).id == "7"
    assert caplog.records == []


def test_an_internal_error_is_logged_and_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    """Errors of our own end requests with INTERNAL, without their text; the log has one of many, with a traceback."""

    def fail(pixels: Any) -> Any:
        raise RuntimeError("the cause")

    async def ask() -> str:
        async with channel_to_a_server(LoadedModel(MODEL.manifest, fail)) as channel:
            for _ in range(5):
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await channel.unary_unary(service.INFER)(COMPLETE, timeout=30)
        assert "cause" not in str(failed.value.details())
        return str(failed.value.code().name)

    assert asyncio.run(ask()) == "INTERNAL"
    (entry,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "the cause" in entry.getMessage()
    assert entry.exc_info


def test_errors_over_grpc_are_not_logged(predictor: Predictor) -> None:
    """A caller's error is a status, and is not logged."""
    before = predictor.log.stat().st_size
    with grpc.insecure_channel(predictor.grpc) as channel:
        for method, message, code in (
            ("ModelInfer", b"\xff\xff", "INVALID_ARGUMENT"),
            ("ModelInfer", b"", "NOT_FOUND"),
            ("ModelReady", b"", "NOT_FOUND"),
            ("Nothing", b"", "UNIMPLEMENTED"),
        ):
            with pytest.raises(grpc.RpcError) as rejected:
                channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(message, timeout=30)
            assert rejected.value.code().name == code
    host, port = predictor.grpc.split(":")
    with socket.create_connection((host, int(port)), 10) as client:
        client.sendall(http2("/", b"", **{"grpc-timeout": "x"}))
        with client.makefile("rb") as answers:
            while answers.read(1) and b"grpc-timeout" not in answers.peek():
                pass
    assert predictor.log.stat().st_size == before
