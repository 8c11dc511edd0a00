"""Our model as a `kserve.Model`, and KServe's server made to listen where we say. Imported by the predictor alone."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
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

from digits.http import bracketed
from digits.serving import decode, grpc_message
from digits.serving.app import IMAGES, SMALL_BODY, Front, computed
from digits.serving.inline import Direct
from digits.serving.limits import MOST_GRPC_CONNECTIONS
from digits.serving.options import Options
from digits.serving.slot import Follower, Served, load
from digits.settings import Settings
from digits.signature import ENDPOINT_INPUTS, ENDPOINT_OUTPUTS

GRACE_SECONDS = 30
# As many FP32 images as a request may have, raw or as numbers, fit.
GRPC_MAX_MESSAGE = 4 * 1024 * 1024
# Each may hold a message of that size before any of our code is asked.
GRPC_MAX_WAITING = 32
# A connection ends after this time, gracefully, so that a request that is never sent whole does too.
GRPC_CONNECTION_SECONDS = 300
# One that asks nothing, or does not get as far as HTTP/2, ends sooner.
GRPC_IDLE_SECONDS, GRPC_HANDSHAKE_SECONDS = 65, 15
INFER = "/inference.GRPCInferenceService/ModelInfer"


class DigitsModel(kserve.Model):
    """What KServe's own parts see: readiness and metadata."""

    def __init__(self, name: str, served: Served) -> None:
        super().__init__(name)
        self.served = served

    async def healthy(self) -> bool:
        """Whether a checked release is served."""
        return self.served.current is not None

    async def get_input_types(self) -> list[dict[str, Any]]:
        """For the metadata."""
        return list(ENDPOINT_INPUTS)

    async def get_output_types(self) -> list[dict[str, Any]]:
        """For the metadata."""
        return list(ENDPOINT_OUTPUTS)


class Servicer(InferenceServicer):
    """KServe's gRPC service with our own way to a prediction, and without remote loading and unloading."""

    def __init__(self, server: Server, name: str, served: Served) -> None:
        super().__init__(server.dataplane, server.model_repository_extension)
        self._name, self._served, self._large = name, served, asyncio.Lock()

    async def ModelInfer(self, held: Any, context: Any) -> Any:  # noqa: N802 # gRPC's names
        """Predict. Takes a list with the message's bytes, see `Undecodable`, and leaves it empty."""
        content, loaded = held.pop(), self._served.current
        if loaded is None:
            del content
            return await context.abort(grpc.StatusCode.UNAVAILABLE, self._served.refused.get("why", "no release yet"))
        refused: tuple[Any, str] | None = None
        try:
            # Decoded, a message can take many times its size, so large ones are answered one at a time.
            async with self._large if len(content) > SMALL_BODY else contextlib.nullcontext():
                identity, pixels = await computed(len(content), grpc_message.read, content, self._name)
                probabilities = await computed(len(content), loaded.run, pixels)
                del pixels
        except ModelNotFound as exc:
            refused = grpc.StatusCode.NOT_FOUND, exc.reason
        except decode.BadRequest as exc:
            refused = grpc.StatusCode.INVALID_ARGUMENT, str(exc)
        del content
        if refused:  # said here, because the errors above keep what was decoded, and this waits
            await context.abort(*refused)
        IMAGES.inc(len(probabilities))
        count = len(probabilities)
        tensor = pb.ModelInferResponse.InferOutputTensor
        return pb.ModelInferResponse(
            model_name=self._name,
            model_version=loaded.version,
            id=identity,
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
        """The handler, asked only with what could be decoded; predictions are handed on as they came."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        if handler_call_details.method == INFER:
            # In a list, which can be emptied: a refusal and its context refer to each other, and so keep all arguments
            # until the garbage collector comes by, which does not go by megabytes.
            return grpc.unary_unary_rpc_method_handler(
                handler.unary_unary, lambda content: [content], handler.response_serializer
            )

        async def answer(content: bytes, context: Any) -> Any:
            if len(content) > SMALL_BODY:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"expected at most {SMALL_BODY} bytes")
            try:
                request = handler.request_deserializer(content)
            except DecodeError:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, grpc_message.UNDECODABLE)
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(answer, None, handler.response_serializer)


class Repository(kserve.ModelRepository):
    """KServe unloads every model at the first signal, before requests in flight are answered; ours stays."""

    def unload(self, name: str) -> None:
        """Nothing: the process is about to end."""


class Server(kserve.ModelServer):
    """KServe's server on an address of our choice; its own is 0.0.0.0 and [::], whatever it is told."""

    def __init__(self, options: Options, served: Served) -> None:
        super().__init__(
            http_port=options.http_port,
            enable_grpc=False,
            enable_latency_logging=False,
            registered_models=Repository(),
            grace_period=GRACE_SECONDS,
        )
        self._options, self._served = options, served
        self.register_model(DigitsModel(options.name, served))
        # A line for each request costs more than the request; KServe's set-up turned both on.
        logging.getLogger("uvicorn.access").handlers.clear()
        logging.getLogger("uvicorn.access").propagate = False
        logging.getLogger("kserve.trace").setLevel(logging.WARNING)
        self._grpc: grpc.aio.Server | None = None

    def setup_event_loop(self) -> None:
        """Choose uvloop. kserve sets up a loop here that it then does not run, and runs asyncio's own."""
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

    async def _serve(self) -> None:
        front = Front(self._served, self._options.name, kserve.model_server.app)
        config = self._rest_server.config
        config.host, config.app, config.ws = self._options.host, front, "none"
        config.http = functools.partial(Direct, front)
        self._grpc = grpc.aio.server(
            interceptors=(Refusals(), Undecodable()),
            maximum_concurrent_rpcs=GRPC_MAX_WAITING,
            options=[
                ("grpc.max_receive_message_length", GRPC_MAX_MESSAGE),
                # One client's further requests wait at the client instead of being refused.
                ("grpc.max_concurrent_streams", GRPC_MAX_WAITING),
                # It would let each stream send as much as the network takes, before its request is taken in.
                ("grpc.http2.bdp_probe", 0),
                ("grpc.max_allowed_incoming_connections", MOST_GRPC_CONNECTIONS),
                ("grpc.server_handshake_timeout_ms", GRPC_HANDSHAKE_SECONDS * 1000),
                ("grpc.max_connection_idle_ms", GRPC_IDLE_SECONDS * 1000),
                ("grpc.max_connection_age_ms", GRPC_CONNECTION_SECONDS * 1000),
                ("grpc.max_connection_age_grace_ms", GRACE_SECONDS * 1000),
                ("grpc.so_reuseport", 0),
            ],
        )
        stubs.add_GRPCInferenceServiceServicer_to_server(Servicer(self, self._options.name, self._served), self._grpc)
        self._grpc.add_insecure_port(f"{bracketed(self._options.host)}:{self._options.grpc_port}")
        await self._grpc.start()
        # Side by side: one after the other, they would take the grace period twice.
        ending = asyncio.create_task(self._end_grpc(self._grpc))
        try:
            await super()._serve()
        finally:
            ending.cancel()
            await self._grpc.stop(GRACE_SECONDS)  # waits for what `_end_grpc` has begun

    async def _end_grpc(self, server: grpc.aio.Server) -> None:
        """End gRPC when REST, whose host hears the signals, begins to end."""
        while not self._rest_server._server.should_exit:  # noqa: SLF001 # the one way to its signals
            await asyncio.sleep(0.1)
        await server.stop(GRACE_SECONDS)


def serve(options: Options, settings: Settings) -> None:
    """Serve until a signal ends it."""
    served = Served()
    if options.model_dir:
        served.exchange(load(options.model_dir))
    else:
        follower = Follower(served, settings, options.release)
        follower.step()
        follower.start()
    server = Server(options, served)
    with contextlib.suppress(KeyboardInterrupt):
        server.start([])
