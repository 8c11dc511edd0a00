"""The predictor's gRPC service (Open Inference V2) and its limits."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from digits.http import bracketed
from digits.imports import without_init
from digits.serving import decode
from digits.serving.app import IMAGES, SMALL_BODY, offload_if_large, unknown_version
from digits.serving.connections import MAX_GRPC_CONNECTIONS, RESPONSE_SECONDS, reset_peer
from digits.serving.decode import BadRequest
from digits.serving.failure_log import FailureLog
from digits.serving.message import UNDECODABLE, check_overhead
from digits.serving.rest import MAX_ID, outputs_of, raw_bytes
from digits.serving.slot import LoadedModel, ModelSlot

with without_init("kserve"):  # which imports pandas and Kubernetes' client, and parses sys.argv
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs

MAX_MESSAGE = 4 * 1024 * 1024  # bytes per request; the most images of any task fit, as raw bytes or as numbers
MAX_METADATA = 8 * 1024  # bytes of a request's headers, with 32 for each; gRPC keeps several times as many
MAX_WAITING = 32  # requests
MAX_READING = 12  # inference requests that are read or answered at a time; the others wait without taking memory
READ_SECONDS = 15.0  # in which a request's message must arrive
CONNECTION_SECONDS = 300  # age at which a connection is closed gracefully; this also ends requests that never arrive
IDLE_SECONDS = 65  # for a connection without requests
HANDSHAKE_SECONDS = 15
INFER = "/inference.GRPCInferenceService/ModelInfer"


async def start(servicer: Servicer, host: str, port: int, grace_seconds: float) -> Any:
    """Start a server for `servicer` on a host and port, and return it (a grpc.aio.Server)."""
    server = grpc.aio.server(
        interceptors=[ErrorInterceptor(port)],
        maximum_concurrent_rpcs=MAX_WAITING,
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.max_metadata_size", MAX_METADATA),
            ("grpc.absolute_max_metadata_size", MAX_METADATA),
            # Further requests of one client wait at the client instead of being rejected. The protection would also
            # count those that were just answered, and reject up to three quarters of a client's concurrent requests.
            ("grpc.max_concurrent_streams", MAX_WAITING),
            ("grpc.http.overload_protection", 0),
            # Off, because each stream could send as much as the network takes before its request is accepted.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.max_allowed_incoming_connections", MAX_GRPC_CONNECTIONS),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
            ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
            ("grpc.max_connection_age_ms", CONNECTION_SECONDS * 1000),
            ("grpc.max_connection_age_grace_ms", int(grace_seconds * 1000)),
            ("grpc.so_reuseport", 0),
        ],
    )
    stubs.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"{bracketed(host)}:{port}")
    await server.start()
    return server


class NotFound(Exception):
    """A request for a model or a version that is not served. The text is for the client."""


class NotReady(Exception):
    """A request for a prediction while no model is loaded. The text is for the client."""


class Servicer(stubs.GRPCInferenceServiceServicer):
    """The gRPC service of one model. `server` is the metadata of the server: name, version, extensions."""

    def __init__(self, slot: ModelSlot, name: str, server: Mapping[str, Any]) -> None:
        self._slot, self._name, self._server = slot, name, server

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 # gRPC's signature
        """Return that the server is alive."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 # gRPC's signature
        """Return that the server is ready, with or without a model."""
        return pb.ServerReadyResponse(ready=True)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 # gRPC's signature
        """Return the server's metadata, as REST does."""
        return pb.ServerMetadataResponse(**self._server)

    async def ModelInfer(self, body_ref: Any, context: Any) -> Any:  # noqa: N802 # gRPC's names
        """Predict. `body_ref` is a list with the message's bytes, which is emptied; see `ErrorInterceptor`."""
        error: tuple[Any, str] | None = None
        try:
            model, asked, probabilities = await offload_if_large(len(body_ref[0]), self._predict, body_ref)
        except NotFound as exc:
            error = grpc.StatusCode.NOT_FOUND, str(exc)
        except NotReady as exc:
            error = grpc.StatusCode.UNAVAILABLE, str(exc)
        except BadRequest as exc:
            error = grpc.StatusCode.INVALID_ARGUMENT, str(exc)
        if error:  # not in the `except` blocks, because their exceptions keep the decoded tensors while abort() waits
            await context.abort(*error)
        IMAGES.inc(len(probabilities))
        values = outputs_of(model, probabilities)
        tensor = pb.ModelInferResponse.InferOutputTensor
        return pb.ModelInferResponse(
            model_name=self._name,
            model_version=model.version,
            id=asked.id,
            outputs=[tensor(name=name, datatype=values[name][0], shape=values[name][1]) for name in asked.outputs],
            raw_output_contents=[raw_bytes(values[name][2]) for name in asked.outputs],
        )

    def _predict(self, body_ref: list[bytes]) -> tuple[LoadedModel, Asked, decode.Pixels]:
        if (model := self._slot.current) is None:
            _check_name(_parse(body_ref.pop()).model_name, self._name)
            raise NotReady(self._slot.rejected.get("why", "no release yet"))
        asked, pixels = read(body_ref.pop(), self._name, model)
        self._check_version(model, asked.version)
        return model, asked, model.run(pixels)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 # gRPC's signature
        """Return whether the model is ready, in the requested version if one is given."""
        _check_name(request.name, self._name)
        self._check_version(self._slot.current, request.version)
        return pb.ModelReadyResponse(ready=self._slot.current is not None)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 # gRPC's signature
        """Return the model's metadata, as REST does."""
        _check_name(request.name, self._name)
        self._check_version(self._slot.current, request.version)
        metadata = self._slot.metadata()
        del metadata["parameters"]
        return pb.ModelMetadataResponse(name=self._name, **metadata)

    def _check_version(self, model: LoadedModel | None, version: str) -> None:
        if error := unknown_version(model, version):
            raise NotFound(error)

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 # gRPC's signature
        """Reject the call: the ledger decides which model is loaded."""
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "models are replaced by promotion")

    RepositoryModelUnload = RepositoryModelLoad


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Answers undecodable messages and errors by statuses. A traceback is logged only for an error of our own.

    gRPC itself answers INTERNAL to bytes that it cannot decode.
    """

    def __init__(self, port: int) -> None:
        self._port, self._reading = port, asyncio.Semaphore(MAX_READING)
        self._failures = FailureLog("digits.predictor")

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return a handler that decodes messages itself; ModelInfer gets them undecoded."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        # As a stream of one message, because gRPC would wait without a limit for a single one before it calls our code.
        infers = handler_call_details.method == INFER
        method = functools.partial(self._answer, functools.partial(self._read, handler, infers))
        return grpc.stream_unary_rpc_method_handler(method, None, handler.response_serializer)

    async def _read(self, handler: Any, infers: bool, messages: Any, context: Any) -> Any:  # noqa: ARG002 # gRPC's
        async with self._reading if infers else contextlib.nullcontext():
            # gRPC would wait until the connection's age ends it for a client that does not accept its response.
            seconds, loop = READ_SECONDS + RESPONSE_SECONDS, asyncio.get_running_loop()
            timer = loop.call_later(seconds, reset_peer, self._port, context.peer())
            context.add_done_callback(lambda _: timer.cancel())
            try:
                async with asyncio.timeout(READ_SECONDS):
                    # In a list, so that the bytes can be freed early: an aborted call forms a reference cycle, which
                    # would keep up to MAX_MESSAGE bytes until the next garbage collection.
                    body_ref = [await context.read()]
            except TimeoutError:
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"no message within {READ_SECONDS:g} s")
            if body_ref[0] is grpc.aio.EOF:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "expected a message")
            if infers:
                return await handler.unary_unary(body_ref, context)
        if len(body_ref[0]) > SMALL_BODY:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"expected at most {SMALL_BODY} bytes")
        try:
            request = handler.request_deserializer(body_ref[0])
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, UNDECODABLE)
        return await handler.unary_unary(request, context)

    async def _answer(self, method: Any, request: Any, context: Any) -> Any:
        """Return a method's response; abort with a status if it raises."""
        try:
            return await method(request, context)
        except grpc.aio.AbortError:
            raise
        except grpc.aio.InternalError:  # the client went away; gRPC does not log a cancelled request
            raise asyncio.CancelledError from None
        except NotFound as exc:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(exc)[:200])
        except Exception as exc:  # noqa: BLE001 # logged
            self._failures.write(exc)
            await context.abort(grpc.StatusCode.INTERNAL, "internal server error")


class Asked(NamedTuple):
    """The id, version and outputs of a ModelInferRequest, without the message, which keeps its decoded tensors."""

    id: str
    version: str
    outputs: list[str]


def read(content: bytes, name: str, model: LoadedModel) -> tuple[Asked, decode.Pixels]:
    """Return what a ModelInferRequest asks of `model`, whose name is `name`, and its images.

    Raises:
        NotFound: the request is for another model.
        BadRequest: the message is malformed.
    """
    request = _parse(content)
    _check_name(request.model_name, name)
    if len(request.inputs) != 1:
        raise BadRequest(f"expected exactly one input, got {len(request.inputs)}")
    for part in (request, *request.inputs, *request.outputs):
        decode.refuse_shared_memory(part.parameters)
    for output in request.outputs:
        if output.name not in model.outputs:
            raise BadRequest(f"expected outputs among {', '.join(model.outputs)}, got {output.name[:100]!r}")
    if len(request.id) > MAX_ID:
        raise BadRequest(f"expected an id of at most {MAX_ID} characters, got {len(request.id)}")
    selected = list(dict.fromkeys(output.name for output in request.outputs)) or [*model.outputs]
    asked = Asked(request.id, request.model_version, selected)
    return asked, _pixels(model.decoder, request.inputs[0], request.raw_input_contents)


def _parse(content: bytes) -> Any:
    """Return a ModelInferRequest. Raises BadRequest."""
    check_overhead(memoryview(content))
    try:
        return pb.ModelInferRequest.FromString(content)
    except DecodeError:
        raise BadRequest(UNDECODABLE) from None


def _check_name(asked: str, name: str) -> None:
    if asked != name:
        raise NotFound(f"no model {asked[:100]!r}")


def _pixels(decoder: decode.Decoder, tensor: Any, raw: Any) -> decode.Pixels:
    if tensor.datatype not in {"FP32", "UINT8"}:
        raise BadRequest(f"expected datatype FP32 (0..1) or UINT8 (0..255), got {tensor.datatype[:100]!r}")
    count = decoder.parse_count(list(tensor.shape))
    if raw:
        if len(raw) != 1 or tensor.HasField("contents"):
            raise BadRequest("expected either raw_input_contents of one tensor or contents, got both or more")
        return decoder.from_raw(raw[0], tensor.datatype, count)
    if len(tensor.contents.ListFields()) > 1:
        raise BadRequest("expected contents of one type")
    values = tensor.contents.fp32_contents if tensor.datatype == "FP32" else tensor.contents.uint_contents
    # Without a list of the values, which would take eight times the memory.
    return decoder.from_numbers(np.fromiter(values, np.float32, len(values)), tensor.datatype, count)
