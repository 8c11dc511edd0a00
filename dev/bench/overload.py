"""An open-loop client: requests at a fixed rate, whether or not the server keeps up, over a great many connections.

    python -m dev.bench.overload PORT PATH BODY_FILE RATE SECONDS CONNECTIONS

A request counts as good if its answer, 200, is there within a second of the moment when it was due; one for which no
connection is free is lost. A connection that the server closes is reopened when a request needs it. Prints one
object of JSON: sent, good, refused (503), late, lost, p50 and p99 of the good ones in milliseconds, and lag, how far
the client itself fell behind at most, in seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

DEADLINE = 1.0
TICK = 0.002
AT_ONCE = 64  # connections opened side by side
CONNECT_SECONDS = 30.0
SETTLE_SECONDS = 1.0


class Connections:
    """At most `most` connections to the port, and their answers: (status, seconds since the request was due)."""

    def __init__(self, port: int, most: int) -> None:
        self.free: list[Connection] = []
        self.answers: list[tuple[int, float]] = []
        self.opened = 0
        self._port, self._most = port, most
        self._opening: set[asyncio.Task[None]] = set()

    async def open(self, first: tuple[bytes, float] | None = None) -> None:
        """Open one more connection, which begins with the request `first`."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: Connection(self, first), "127.0.0.1", self._port)

    def ask(self, request: bytes, due: float) -> bool:
        """Send a request that was due at `due`. Return False if no connection is free."""
        if self.free:
            self.free.pop().ask(request, due)
        elif self.opened + len(self._opening) < self._most:  # the server has closed some
            task = asyncio.create_task(self._reopen((request, due)))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            return False
        return True

    async def _reopen(self, first: tuple[bytes, float]) -> None:
        with contextlib.suppress(OSError):  # then it stays without an answer, and counts as late
            await self.open(first)


class Connection(asyncio.Protocol):
    """A keep-alive connection with at most one request under way."""

    def __init__(self, pool: Connections, first: tuple[bytes, float] | None) -> None:
        self._pool, self._first = pool, first
        self._due, self._text = 0.0, b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note that the connection is ready for a request."""
        self._transport = transport
        self._pool.opened += 1
        if self._first:
            self.ask(*self._first)
        else:
            self._pool.free.append(self)

    def ask(self, request: bytes, due: float) -> None:
        """Send a request that was due at `due`."""
        self._due = due
        if not self._transport.is_closing():
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Note the answer once it is complete; one without a request announces the end of the connection."""
        self._text += data
        head, end, body = self._text.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            if self._due:
                self._pool.answers.append((int(self._text[9:12]), time.perf_counter() - self._due))
                self._pool.free.append(self)
            self._due, self._text = 0.0, b""

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the server has closed the connection."""
        del exc
        self._pool.opened -= 1
        if self in self._pool.free:
            self._pool.free.remove(self)


async def offer(port: int, request: bytes, rate: float, seconds: float, connections: int) -> dict[str, float]:
    """Generate the load and summarise the responses."""
    pool = Connections(port, connections)
    async with asyncio.timeout(CONNECT_SECONDS):
        for _ in range(0, connections, AT_ONCE):
            await asyncio.gather(*(pool.open() for _ in range(AT_ONCE)))
    # uvloop accepts one connection a turn of its loop; under load the last ones would wait for seconds.
    await asyncio.sleep(SETTLE_SECONDS)
    sent = lost = 0
    lag, began = 0.0, time.perf_counter()
    while sent + lost < rate * seconds:
        now = time.perf_counter() - began
        while (due := (sent + lost) / rate) <= now and due < seconds:
            lag = max(lag, now - due)
            if pool.ask(request, began + due):
                sent += 1
            else:
                lost += 1
        await asyncio.sleep(TICK)
    while len(pool.answers) < sent and time.perf_counter() < began + seconds + 2 * DEADLINE:
        await asyncio.sleep(TICK)
    good = sorted(1000 * late for status, late in pool.answers if status == 200 and late <= DEADLINE)
    refused = sum(status == 503 for status, _ in pool.answers)
    quantiles = statistics.quantiles(good, n=100) if len(good) > 1 else [0.0] * 99
    figures = {"offered": rate, "sent": sent / seconds, "good": len(good) / seconds, "refused": refused / seconds}
    figures |= {"late": (sent - len(good) - refused) / seconds, "lost": lost / seconds}
    return figures | {"p50": quantiles[49], "p99": quantiles[98], "lag": lag}


def main() -> None:
    """Generate the load and print the results."""
    port, path, file, rate, seconds, connections = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    body = Path(file).read_bytes()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    print(json.dumps(uvloop.run(offer(int(port), request, float(rate), float(seconds), int(connections)))))


if __name__ == "__main__":
    main()
