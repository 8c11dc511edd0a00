"""The connections of an HTTP server whose library does not limit them by time: they are watched from outside.

hyper waits without a limit for a client to read a response, and an idle connection keeps its place. The sockets of the
connections are found among the process's open files, because the library does not name them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import math
import os
import socket
import stat
import struct
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

# Both together fit into the 1,024 file descriptors that a process usually may open; gRPC counts its own connections.
MAX_CONNECTIONS = 512
MAX_GRPC_CONNECTIONS = 256
SPARE_CONNECTIONS = 64  # idle connections are closed when fewer than this many are free
RESPONSE_SECONDS = 15.0  # in which a response must be read, and in which a connection's first request must come
CHECK_SECONDS = 1.0  # between two checks of all connections


class Connections:
    """The connections to one port. The server reports the beginning and the end of each request by client address."""

    def __init__(self) -> None:
        self.most = MAX_CONNECTIONS - SPARE_CONNECTIONS  # idle connections are closed above this number
        # By client: when its last response was handed over; infinite while a request is being answered.
        self._answered: dict[str, float] = {}

    def begin(self, client: str) -> None:
        """Note that a client's request is being answered."""
        self._answered[client] = math.inf

    def end(self, client: str) -> None:
        """Note that a client's response was handed over."""
        self._answered[client] = time.monotonic()

    async def watch(self, port: int) -> None:
        """Close connections whose client sends no request or does not read, and idle ones if there are too many."""
        opened: dict[str, float] = {}
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            now, seen, idle = time.monotonic(), {}, []
            for client, connection in _connections(port):
                seen[client] = opened.get(client, now)
                since, unread = self._answered.get(client, seen[client]), _unread_bytes(connection)
                if now - since > RESPONSE_SECONDS and (unread or client not in self._answered):
                    _reset(connection)
                elif not unread and since < math.inf:
                    idle.append((since, client))
            opened = seen
            for client, since in list(self._answered.items()):
                if client not in seen and since < now - CHECK_SECONDS:
                    del self._answered[client]
            surplus = {client for _, client in sorted(idle)[: max(0, len(seen) - self.most)]}
            for client, connection in _connections(port) if surplus else ():
                if client in surplus and self._answered.get(client, 0) < math.inf:
                    _reset(connection)


def reset_peer(port: int, peer: str) -> None:
    """Close the connection of a peer to our port. `peer` is as gRPC writes it: `ipv6:%5B::1%5D:50000`, or ipv4."""
    address = unquote(peer).partition(":")[2]
    for client, connection in _connections(port):
        if address in (client, client.replace("[::ffff:", "").replace("]:", ":")):  # gRPC shows no mapped addresses
            _reset(connection)


def _connections(port: int) -> Iterator[tuple[str, socket.socket]]:
    """Yield (client address as Granian writes it, duplicate of the socket) of each connection to our port."""
    for file in list(Path("/dev/fd").iterdir()):
        with contextlib.suppress(OSError):
            # Checked first, because `fromfd` of another file raises an error and leaves its duplicate open.
            if not stat.S_ISSOCK(os.fstat(int(file.name)).st_mode):
                continue
            with socket.fromfd(int(file.name), socket.AF_INET6, socket.SOCK_STREAM) as connection:
                local = connection.getsockname()
                if isinstance(local, tuple) and local[1] == port:
                    host, number, *scope = connection.getpeername()
                    if scope:
                        host = f"[{host.partition('%')[0]}{f'%{scope[1]}' if scope[1] else ''}]"
                    yield f"{host}:{number}", connection


def _unread_bytes(connection: socket.socket) -> int:
    """Return the number of sent bytes that the client has not received; 0 if the system does not report it."""
    try:
        return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:  # macOS has no such call for sockets
        return 0


def _reset(connection: socket.socket) -> None:
    """Close a connection without sending what it still holds, so that the kernel frees its buffers."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
