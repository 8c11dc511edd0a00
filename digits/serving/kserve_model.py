"""Our model as a `kserve.Model`, and KServe's server made to listen where we say. Imported by the predictor alone."""

from __future__ import annotations

import contextlib
import logging
import os
from concurrent import futures
from typing import Any

import grpc
import kserve
import kserve.model_server
import numpy as np
from kserve.errors import InvalidInput, ModelNotReady
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.servicer import InferenceServicer

from digits.serving import decode
from digits.serving.front import IMAGES, Front
from digits.serving.model import Follower, Served, load
from digits.serving.server import Options
from digits.settings import Settings

GRACE_SECONDS = 30
GRPC_MAX_BYTES = 16 * 1024 * 1024
# uvicorn is given this instead of KServe's own application; see `application`.
APPLICATION = "digits.serving.kserve_model:application"
_front: Front | None = None


class DigitsModel(kserve.Model):  # type: ignore[misc] # kserve ships no types
    """What KServe's own parts see: readiness, metadata and the gRPC way to a prediction.

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
        global _front
        self.served = Served()
        if self._options.model_dir:
            self.served.exchange(load(self._options.model_dir))
        else:
            follower = Follower(self.served, self._settings, self._options.release)
            follower.step()
            follower.start()
        _front = Front(self.served, self._options.name, kserve.model_server.app)

    async def healthy(self) -> bool:
        """Whether a checked release is served."""
        return self.served.current is not None

    async def __call__(self, body: Any, headers: Any = None, verb: Any = None) -> Any:
        """Answer a V2 request that came by gRPC; REST is answered in `digits.serving.front`."""
        del headers, verb
        if not isinstance(body, kserve.InferRequest):
            raise InvalidInput("expected an Open Inference V2 request")
        loaded = self.served.current
        if loaded is None:
            raise ModelNotReady(self.name, self.served.refused.get("why"))
        try:
            probabilities = loaded.run(_pixels(body))
        except decode.BadRequest as exc:
            raise InvalidInput(str(exc)) from exc
        IMAGES.inc(len(probabilities))
        count = len(probabilities)
        classes = probabilities.argmax(1).astype(np.int64)
        answer = pb.ModelInferResponse(model_name=self.name, model_version=loaded.version, id=body.id or "")
        for name, datatype, shape, values in (
            ("class", "INT64", [count], classes.astype("<i8")),
            ("probabilities", "FP32", [count, 10], probabilities.astype("<f4")),
        ):
            answer.outputs.append(pb.ModelInferResponse.InferOutputTensor(name=name, datatype=datatype, shape=shape))
            answer.raw_output_contents.append(values.tobytes())
        return answer, {}

    async def get_input_types(self) -> list[dict[str, Any]]:
        """For the metadata."""
        return [{"name": "image", "datatype": "FP32", "shape": [-1, 28, 28, 1]}]

    async def get_output_types(self) -> list[dict[str, Any]]:
        """For the metadata."""
        return [
            {"name": "class", "datatype": "INT64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
        ]


def _pixels(request: Any) -> decode.Pixels:
    if len(request.inputs) != 1:
        raise decode.BadRequest(f"expected exactly one input, got {len(request.inputs)}")
    tensor = request.inputs[0]
    shape = list(tensor.shape)
    if tensor.datatype not in {"FP32", "UINT8"}:
        raise decode.BadRequest(f"expected datatype FP32 (0..1) or UINT8 (0..255), got {tensor.datatype!r}")
    count = decode.count_of([int(n) for n in shape])
    raw = tensor._raw_data  # noqa: SLF001 # kserve has no public way to a raw tensor without a copy through a list
    if raw is not None:
        return decode.from_raw(raw, tensor.datatype, count)
    return decode.from_list(list(tensor.data or []), tensor.datatype, count)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application of this process: ours in front of KServe's."""
    if _front is None:
        await kserve.model_server.app(scope, receive, send)
    else:
        await _front(scope, receive, send)


class Servicer(InferenceServicer):  # type: ignore[misc] # kserve ships no types
    """KServe's gRPC service without remote loading and unloading, as over REST."""

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's names
        """Refused."""
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "models are exchanged by promotion")

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Refused."""
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "models are exchanged by promotion")


class Repository(kserve.ModelRepository):  # type: ignore[misc] # kserve ships no types
    """KServe unloads every model at the first signal, before requests in flight are answered; ours stays."""

    def unload(self, name: str) -> None:
        """Nothing: the process is about to end."""


class Server(kserve.ModelServer):  # type: ignore[misc] # kserve ships no types
    """KServe's server on an address of our choice; its own is 0.0.0.0 and [::], whatever it is told."""

    def __init__(self, options: Options) -> None:
        super().__init__(
            http_port=options.http_port,
            workers=options.workers,
            enable_grpc=False,
            enable_latency_logging=False,
            registered_models=Repository(),
            grace_period=GRACE_SECONDS,
        )
        self._options = options
        self._grpc: grpc.aio.Server | None = None

    async def _serve(self) -> None:
        rest = self._rest_server or self._rest_multiprocess_server._rest_server  # noqa: SLF001 # the one way to its host
        rest.config.host, rest.config.app = self._options.host, APPLICATION
        rest.config.access_log = False
        self._grpc = grpc.aio.server(
            futures.ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1)),
            interceptors=(ExceptionToStatusInterceptor(),),
            options=[
                ("grpc.max_send_message_length", GRPC_MAX_BYTES),
                ("grpc.max_receive_message_length", GRPC_MAX_BYTES),
                ("grpc.so_reuseport", 0),
            ],
        )
        stubs.add_GRPCInferenceServiceServicer_to_server(
            Servicer(self.dataplane, self.model_repository_extension), self._grpc
        )
        self._grpc.add_insecure_port(f"{self._options.host}:{self._options.grpc_port}")
        await self._grpc.start()
        try:
            await super()._serve()
        finally:
            await self._grpc.stop(GRACE_SECONDS)


def serve(options: Options, settings: Settings) -> None:
    """Serve until a signal ends it."""
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    server = Server(options)
    model = DigitsModel(options, settings)
    server.register_model(model)
    with contextlib.suppress(KeyboardInterrupt):
        server.start([])
