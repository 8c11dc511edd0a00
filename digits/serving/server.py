"""The predictor's servers: REST (Open Inference V2 and V1) and gRPC in one event loop, with KServe's model registry.

Only `start.run` imports this module, because importing kserve takes seconds and parses `sys.argv`.
"""

from __future__ import annotations

import asyncio
import socket

import kserve
import uvloop
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from digits.serving import grpc
from digits.serving.app import PredictApp
from digits.serving.listener import stop_signal
from digits.serving.slot import ModelSlot

GRACE_SECONDS = 30  # for requests in flight when the server stops


class DigitsModel(kserve.Model):
    """The model as KServe's own handlers see it: its readiness."""

    def __init__(self, name: str, slot: ModelSlot) -> None:
        super().__init__(name)
        self._slot = slot

    async def healthy(self) -> bool:
        """Return whether a checked release is being served."""
        return self._slot.current is not None


def run(slot: ModelSlot, name: str, sock: socket.socket, host: str, grpc_port: int) -> None:
    """Serve REST on a bound socket, and gRPC on a host and port, until SIGTERM or SIGINT."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(slot, name, sock, host, grpc_port))


async def _serve(slot: ModelSlot, name: str, sock: socket.socket, host: str, grpc_port: int) -> None:
    repository = kserve.ModelRepository()
    repository.update(DigitsModel(name, slot), name)
    data_plane = DataPlane(model_registry=repository)
    servicer = grpc.Servicer(data_plane, ModelRepositoryExtension(repository), name, slot)
    grpc_server = await grpc.start(servicer, host, grpc_port, GRACE_SECONDS)
    stop = asyncio.create_task(stop_signal())

    async def stop_grpc() -> None:
        await stop
        await grpc_server.stop(GRACE_SECONDS)

    # Concurrently, because one after the other would take the grace period twice.
    listener = PredictApp(slot, name, data_plane.metadata()).listener
    await asyncio.gather(listener.serve(sock, stop, GRACE_SECONDS), stop_grpc())
