"""The connections of the gRPC port, which are passed on to gRPC's own server without frames that it does not limit.

gRPC has no setting for the memory that some frames take; see `frames`. Each connection of a client takes three file
descriptors, because gRPC's library for Python cannot take over an accepted connection.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
from typing import Any

from digits.serving.connections import MAX_GRPC_CONNECTIONS, RESPONSE_SECONDS, discard_unsent
from digits.serving.frames import ClientFrames, Violation

READ_BYTES = 16 * 1024  # at a time, so that no client delays the others for long
MAX_UNSENT = 32 * 1024  # bytes that wait for one side; above them the other side is not read
LINUX = sys.platform == "linux"  # which has abstract names for sockets, without a file and its permissions


class Relay:
    """Passes connections on to a gRPC server of this process, which must listen on `address`."""

    def __init__(self) -> None:
        self._name = f"digits-{secrets.token_hex(8)}"
        self.address = f"unix-abstract:{self._name}" if LINUX else "127.0.0.1:0"
        self.buffer = memoryview(bytearray(READ_BYTES))  # of all connections, because a read is used at once
        self._clients: dict[str, _Client] = {}  # by the address that gRPC sees
        self._port, self._count = 0, 0

    async def start(self, sock: socket.socket, port: int) -> None:
        """Accept connections to a bound socket. `port` is gRPC's, if `address` has none."""
        self._port = port
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), sock=sock, backlog=MAX_GRPC_CONNECTIONS)

    def stop(self) -> None:
        """Accept no more connections."""
        self._server.close()

    async def drain(self) -> None:
        """Wait until the clients have read all that gRPC has sent, at most RESPONSE_SECONDS after it has closed."""
        while self._clients:
            await asyncio.sleep(0.01)

    def reset(self, peer: str) -> None:
        """Close the connection of a client, which gRPC knows as `peer`, without sending what it has not read."""
        if client := self._clients.get(peer):
            client.reset()

    async def connect(self, client: _Client) -> None:
        """Connect a client to the gRPC server, or close its connection."""
        if len(self._clients) >= MAX_GRPC_CONNECTIONS:
            client.reset()
            return
        self._count += 1
        sock = socket.socket(socket.AF_UNIX if LINUX else socket.AF_INET)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            sock.bind(f"\0{self._name}-{self._count}" if LINUX else ("127.0.0.1", 0))
            number = "" if LINUX else sock.getsockname()[1]
            peer = f"{self.address}-{self._count}" if LINUX else f"ipv4:127.0.0.1:{number}"
            self._clients[peer] = client
            client.closed.add_done_callback(lambda _: self._clients.pop(peer))
            await loop.sock_connect(sock, f"\0{self._name}" if LINUX else ("127.0.0.1", self._port))
            open_connection = loop.create_unix_connection if LINUX else loop.create_connection
            await open_connection(lambda: client.other, sock=sock)
        except OSError:
            sock.close()
            client.reset()


class _Side(asyncio.BufferedProtocol):
    """One of two connections. What it receives is sent to the other one."""

    transport: Any = None
    other: _Side

    def __init__(self, relay: Relay) -> None:
        self.relay = relay

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(MAX_UNSENT)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 # asyncio's signature
        return self.relay.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received(bytes(self.relay.buffer[:nbytes]))

    def received(self, data: bytes) -> None:
        """Send received bytes to the other side."""
        if not self.other.transport.is_closing():
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class _Client(_Side):
    """A client's connection."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self.other = _Server(relay, self)
        self.closed = asyncio.get_running_loop().create_future()
        self._frames = ClientFrames()
        self._early: bytes | None = b""  # what comes before gRPC's settings
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.ensure_future(self.relay.connect(self))

    def received(self, data: bytes) -> None:
        if self._early is not None:
            self._early += data
            self.transport.pause_reading()
            return
        try:
            super().received(self._frames.check(data))
        except Violation:
            self.reset()

    def begin(self) -> None:
        """Pass on what the client sends, because gRPC has sent its settings."""
        if self._early is not None and not self.transport.is_closing():
            early, self._early = self._early, None
            self.received(early)
            self.other.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 # asyncio's signature
        if self._timer:
            self._timer.cancel()
        if self.other.transport:
            self.other.transport.abort()
        self.closed.set_result(None)

    def close(self) -> None:
        """Close the connection when the client has read everything, for which it has RESPONSE_SECONDS."""
        if not self.transport.is_closing():
            self.transport.close()
            self._timer = asyncio.get_running_loop().call_later(RESPONSE_SECONDS, self.reset)

    def reset(self) -> None:
        """Close the connection without sending what the client has not read."""
        discard_unsent(self.transport.get_extra_info("socket"))
        self.transport.abort()


class _Server(_Side):
    """A connection to gRPC's server."""

    other: _Client

    def __init__(self, relay: Relay, client: _Client) -> None:
        super().__init__(relay)
        self.other = client

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.other.transport.is_closing():
            transport.abort()

    def received(self, data: bytes) -> None:
        super().received(data)
        self.other.begin()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 # asyncio's signature
        self.other.close()
