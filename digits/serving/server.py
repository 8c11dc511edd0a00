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


def run(slot: ModelSlot, name: str, sock: socket.socket, grpc_sock: socket.socket) -> None:
    """Serve REST and gRPC, each on a bound socket, until SIGTERM or SIGINT."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(slot, name, sock, grpc_sock))


async def _serve(slot: ModelSlot, name: str, sock: socket.socket, grpc_sock: socket.socket) -> None:
    # Clients learn from it which protocol the server speaks.
    server = {
        "name": "kserve",
        "version": importlib.metadata.version("kserve"),
        "extensions": ["model_repository_extension", "binary_tensor_data"],
    }
    stop = asyncio.create_task(stop_signal())

    async def serve_grpc() -> None:
        async with grpc.serving(grpc.Servicer(slot, name, server), grpc_sock, GRACE_SECONDS):
            await stop

    # Concurrently, because one after the other would take the grace period twice.
    listener = PredictApp(slot, name, server).listener
    await asyncio.gather(listener.serve(sock, stop, GRACE_SECONDS), serve_grpc())
