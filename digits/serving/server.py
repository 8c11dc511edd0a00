"""KServe's ModelServer with our application, address, gRPC service and model.

Only `start.run` imports this module, because importing kserve takes seconds and parses `sys.argv`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any

import kserve
import kserve.model_server
import uvloop

from digits.serving import grpc
from digits.serving.app import PredictApp
from digits.serving.inline import InlinePredictProtocol
from digits.serving.slot import ModelSlot
from digits.signature import ENDPOINT_INPUTS, ENDPOINT_OUTPUTS

GRACE_SECONDS = 30  # for requests in flight when the server stops


class DigitsModel(kserve.Model):
    """The model as KServe's own handlers see it: readiness and metadata."""

    def __init__(self, name: str, slot: ModelSlot) -> None:
        super().__init__(name)
        self._slot = slot

    async def healthy(self) -> bool:
        """Return whether a checked release is being served."""
        return self._slot.current is not None

    async def get_input_types(self) -> list[dict[str, Any]]:
        """Return the inputs for the metadata."""
        return list(ENDPOINT_INPUTS)

    async def get_output_types(self) -> list[dict[str, Any]]:
        """Return the outputs for the metadata."""
        return list(ENDPOINT_OUTPUTS)


class Repository(kserve.ModelRepository):
    """A repository that keeps its models: KServe unloads them at the first signal, before the last requests."""

    def unload(self, name: str) -> None:
        """Do nothing: the process is about to end."""


class Server(kserve.ModelServer):
    """KServe's server on a given host; KServe itself always listens on 0.0.0.0 and [::]."""

    def __init__(self, slot: ModelSlot, name: str, host: str, http_port: int, grpc_port: int) -> None:
        super().__init__(
            http_port=http_port,
            enable_grpc=False,
            enable_latency_logging=False,
            registered_models=Repository(),
            grace_period=GRACE_SECONDS,
        )
        self._slot, self._name, self._host, self._grpc_port = slot, name, host, grpc_port
        self.register_model(DigitsModel(name, slot))
        # KServe turns on both logs, but a log line per request costs more time than the request.
        logging.getLogger("uvicorn.access").handlers.clear()
        logging.getLogger("uvicorn.access").propagate = False
        logging.getLogger("kserve.trace").setLevel(logging.WARNING)

    def setup_event_loop(self) -> None:
        """Set uvloop as the policy, because the loop that KServe configures here is not the one that it runs."""
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

    async def _serve(self) -> None:
        app = PredictApp(self._slot, self._name, kserve.model_server.app)
        config = self._rest_server.config
        config.host, config.app, config.ws = self._host, app, "none"
        config.http = functools.partial(InlinePredictProtocol, app)
        servicer = grpc.Servicer(self.dataplane, self.model_repository_extension, self._name, self._slot)
        grpc_server = await grpc.start(servicer, self._host, self._grpc_port, GRACE_SECONDS)
        # Stopped concurrently with REST, because one after the other would take the grace period twice.
        stopping = asyncio.create_task(self._stop_with_rest(grpc_server))
        try:
            await super()._serve()
        finally:
            stopping.cancel()
            await grpc_server.stop(GRACE_SECONDS)  # waits for a stop that `_stop_with_rest` has begun

    async def _stop_with_rest(self, grpc_server: Any) -> None:
        """Stop gRPC when the REST server, which handles the signals, begins to stop."""
        while not self._rest_server._server.should_exit:  # noqa: SLF001 # uvicorn's server has no public reference
            await asyncio.sleep(0.1)
        await grpc_server.stop(GRACE_SECONDS)
