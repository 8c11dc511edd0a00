"""The predictor's servers: REST (Open Inference V2 and V1) and gRPC in one event loop.

Only `start.run` imports this module, because importing gRPC takes a while.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import socket

import uvloop

from digits.serving import grpc
from digits.serving.app import PredictApp
from digits.serving.listener import stop_signal
from digits.serving.slot import ModelSlot

GRACE_SECONDS = 30  # for requests in flight when the server stops


def run(slot: ModelSlot, name: str, sock: socket.socket, host: str, grpc_port: int) -> None:
    """Serve REST on a bound socket, and gRPC on a host and port, until SIGTERM or SIGINT."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(slot, name, sock, host, grpc_port))


async def _serve(slot: ModelSlot, name: str, sock: socket.socket, host: str, grpc_port: int) -> None:
    # Clients learn from it which protocol the server speaks.
    server = {
        "name": "kserve",
        "version": importlib.metadata.version("kserve"),
        "extensions": ["model_repository_extension", "binary_tensor_data"],
    }
    grpc_server = await grpc.start(grpc.Servicer(slot, name, server), host, grpc_port, GRACE_SECONDS)
    stop = asyncio.create_task(stop_signal())

    async def stop_grpc() -> None:
        await stop
        await grpc_server.stop(GRACE_SECONDS)

    # Concurrently, because one after the other would take the grace period twice.
    listener = PredictApp(slot, name, server).listener
    await asyncio.gather(listener.serve(sock, stop, GRACE_SECONDS), stop_grpc())
