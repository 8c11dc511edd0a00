"""Our model as a `kserve.Model`, and KServe's server made to listen where we say. Imported by the predictor alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from concurrent import futures
from typing import Any

import grpc
import kserve
import kserve.model_server
import numpy as np
import uvloop
from google.protobuf.message import DecodeError
from kserve.errors import ModelNotFound
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.rest.multiprocess import server as workers

from digits.serving import decode
from digits.serving.direct import Direct
from digits.serving.front import IMAGES, MAX_BODY, MAX_WAITING, Front, computed
from digits.serving.model import Follower, Served, load
from digits.serving.options import Options
from digits.settings import Settings

GRACE_SECONDS = 30
WORKER_SECONDS = 60.0
# A connection ends after this time, gracefully, so that a request that is never sent whole does too.
GRPC_CONNECTION_SECONDS = 300
# uvicorn is given this instead of KServe's own application; see `application`.
APPLICATION = "digits.serving.kserve_model:application"


class DigitsModel(kserve.Model):
    """What KServe's own parts see: readiness and metadata.

    A worker process gets it pickled; what it serves is loaded anew there.
    """

    def __init__(self, options: Options, settings: Settings) -> None:
        super().__init__(options.name)
        self._options, self._settings = options, settings
        self._start()

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self._options, "settings": self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc] # a worker starts as the first process did

    def _start(self) -> None:
        self.served = Served()
        if self._options.model_dir:
            self.served.exchange(load(self._options.model_dir))
        else:
            follower = Follower(self.served, self._settings, self._options.release)
            follower.step()
            follower.start()
        Direct.front = Front(self.served, self._options.name, kserve.model_server.app)

    async def healthy(self) -> bool:
        """Whether a checked release is served."""
        return self.served.current is not None

    async def get_input_types(self) -> list[dict[str, Any]]:
        """For the metadata."""
        return [{"name": "image", "datatype": "FP32", "shape": [-1, 28, 28, 1]}]

    async def get_output_types(self) -> list[dict[str, Any]]:
        """For the metadata."""
        return [
            {"name": "class", "datatype": "INT64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
        ]


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application of this process: ours in front of KServe's."""
    if scope["type"] == "lifespan":
        # A line for each request costs more than the request; KServe's set-up turned both on.
        logging.getLogger("uvicorn.access").handlers.clear()
        logging.getLogger("uvicorn.access").propagate = False
        logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    await (Direct.front or kserve.model_server.app)(scope, receive, send)


class Servicer(InferenceServicer):
    """KServe's gRPC service with our own way to a prediction, and without remote loading and unloading."""

    def __init__(self, server: Server, name: str, served: Served) -> None:
        super().__init__(server.dataplane, server.model_repository_extension)
        self._name, self._served = name, served

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's names
        """Predict."""
        if request.model_name != self._name:
            return await context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model_name[:100]!r} here")
        loaded = self._served.current
        if loaded is None:
            return await context.abort(grpc.StatusCode.UNAVAILABLE, self._served.refused.get("why", "no release yet"))
        try:
            probabilities = await computed(request.ByteSize(), lambda: loaded.run(_pixels(request)))
        except decode.BadRequest as exc:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
        IMAGES.inc(len(probabilities))
        count = len(probabilities)
        tensor = pb.ModelInferResponse.InferOutputTensor
        return pb.ModelInferResponse(
            model_name=request.model_name,
            model_version=loaded.version,
            id=request.id,
            outputs=[
                tensor(name="class", datatype="INT64", shape=[count]),
                tensor(name="probabilities", datatype="FP32", shape=[count, 10]),
            ],
            raw_output_contents=[
                probabilities.argmax(1).astype("<i8").tobytes(),
                np.ascontiguousarray(probabilities, "<f4").tobytes(),
            ],
        )

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 # gRPC's signature
        """Refused, as over REST."""
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "models are exchanged by promotion")

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        """Refused, as over REST."""
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "models are exchanged by promotion")


class Refusals(ExceptionToStatusInterceptor):
    """KServe's errors as statuses. It logs a traceback for each refusal, even for those that are an answer already."""

    async def handle_exception(self, ex: Exception, request_or_iterator: Any, context: Any, method_name: str) -> None:
        """Refuse without a word in the log what the caller got wrong; leave the rest to KServe."""
        if isinstance(ex, grpc.aio.AbortError):
            raise ex
        if isinstance(ex, ModelNotFound):
            await context.abort(grpc.StatusCode.NOT_FOUND, ex.reason[:200])
        await super().handle_exception(ex, request_or_iterator, context, method_name)


class Undecodable(grpc.aio.ServerInterceptor):
    """Refuses bytes that are no message; gRPC itself would answer INTERNAL and log a traceback."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """The handler, asked only with what could be decoded."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler

        def decoded(content: bytes) -> Any:
            try:
                return handler.request_deserializer(content)
            except DecodeError:
                return None

        async def answer(request: Any, context: Any) -> Any:
            if request is None:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message cannot be decoded")
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(answer, decoded, handler.response_serializer)


def _pixels(request: Any) -> decode.Pixels:
    """Images of a ModelInferRequest. Raises BadRequest."""
    if len(request.inputs) != 1:
        raise decode.BadRequest(f"expected exactly one input, got {len(request.inputs)}")
    tensor, raw = request.inputs[0], request.raw_input_contents
    if tensor.datatype not in {"FP32", "UINT8"}:
        raise decode.BadRequest(f"expected datatype FP32 (0..1) or UINT8 (0..255), got {tensor.datatype[:100]!r}")
    count = decode.count_of(list(tensor.shape))
    if raw:
        if len(raw) != 1 or tensor.HasField("contents"):
            raise decode.BadRequest("expected either raw_input_contents of one tensor or contents, got both or more")
        return decode.from_raw(raw[0], tensor.datatype, count)
    values = tensor.contents.fp32_contents if tensor.datatype == "FP32" else tensor.contents.uint_contents
    return decode.from_list(list(values), tensor.datatype, count)


class Repository(kserve.ModelRepository):
    """KServe unloads every model at the first signal, before requests in flight are answered; ours stays."""

    def unload(self, name: str) -> None:
        """Nothing: the process is about to end."""


class Worker(workers.RESTServerProcess):
    """One of several workers. KServe ends one that is not up after five seconds, too few for a busy machine."""

    _answered = False

    def ping(self, timeout: float = 5) -> bool:
        """Whether it answers; the first time it has longer."""
        self._answered = bool(super().ping(timeout if self._answered else WORKER_SECONDS))
        return self._answered


class Server(kserve.ModelServer):
    """KServe's server on an address of our choice; its own is 0.0.0.0 and [::], whatever it is told."""

    def __init__(self, options: Options, model: DigitsModel) -> None:
        super().__init__(
            http_port=options.http_port,
            workers=options.workers,
            enable_grpc=False,
            enable_latency_logging=False,
            registered_models=Repository(),
            grace_period=GRACE_SECONDS,
        )
        self._options, self._served = options, model.served
        self.register_model(model)
        self._grpc: grpc.aio.Server | None = None
        workers.RESTServerProcess = Worker

    def setup_event_loop(self) -> None:
        """Choose uvloop. kserve sets up a loop here that it then does not run, and runs asyncio's own."""
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

    async def _serve(self) -> None:
        rest = self._rest_server or self._rest_multiprocess_server._rest_server  # noqa: SLF001 # the one way to its host
        rest.config.host, rest.config.app = self._options.host, APPLICATION
        rest.config.http, rest.config.ws = Direct, "none"
        self._grpc = grpc.aio.server(
            futures.ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1)),
            interceptors=(Refusals(), Undecodable()),
            maximum_concurrent_rpcs=MAX_WAITING,
            options=[
                ("grpc.max_send_message_length", MAX_BODY),
                ("grpc.max_receive_message_length", MAX_BODY),
                ("grpc.max_connection_age_ms", GRPC_CONNECTION_SECONDS * 1000),
                ("grpc.max_connection_age_grace_ms", GRACE_SECONDS * 1000),
                ("grpc.so_reuseport", 0),
            ],
        )
        stubs.add_GRPCInferenceServiceServicer_to_server(Servicer(self, self._options.name, self._served), self._grpc)
        self._grpc.add_insecure_port(f"{self._options.host}:{self._options.grpc_port}")
        await self._grpc.start()
        try:
            await super()._serve()
        finally:
            await self._grpc.stop(GRACE_SECONDS)


def serve(options: Options, settings: Settings) -> None:
    """Serve until a signal ends it."""
    server = Server(options, DigitsModel(options, settings))
    with contextlib.suppress(KeyboardInterrupt):
        server.start([])
