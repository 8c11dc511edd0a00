"""A proxy in front of a server (TCP or a Unix socket) that resets, delays, ignores and cuts connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class FaultyProxy:
    """Forwards connections to `target` (host:port, or a Unix socket's path) with the faults that a test sets.

    Attributes:
        delay: seconds before a connection is forwarded.
        drop: reset one in `drop` connections immediately; 0 for none.
        swallow: read requests and never answer.
        budget: bytes from the clients that still pass before everything is cut; None for no limit.
        connections: the number of connections so target_writer.
    """

    def __init__(self, target: str, *, listen: Path | None = None) -> None:
        self.delay, self.drop, self.swallow, self.connections = 0.0, 0, False, 0
        self.budget: int | None = None
        self._target, self._path, self._port = target, listen, 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.restore()

    @property
    def address(self) -> str:
        """The address that it listens at: host:port, or the Unix socket's path."""
        return str(self._path or f"127.0.0.1:{self._port}")

    def restore(self) -> None:
        """End all faults; listen at the same address again if it was cut."""
        self.delay, self.drop, self.swallow, self.budget = 0.0, 0, False, None
        self._run(self._listen())

    def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        self._run(self._cut())

    def close(self) -> None:
        """Cut all connections and stop."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is not None:
            return
        if self._path:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._forward, self._path)
        else:
            self._server = await asyncio.start_server(self._forward, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()  # a reset instead of an orderly close

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            if self.drop and self.connections % self.drop == 0:
                writer.transport.abort()
                return
            await asyncio.sleep(self.delay)
            if self.swallow:
                while await reader.read(65536):
                    continue
                return
            target_reader, target_writer = await self._connect()
            self._open.add(target_writer)
            ends = [asyncio.ensure_future(self._copy(reader, target_writer, counted=True))]
            ends += [asyncio.ensure_future(self._copy(target_reader, writer, counted=False))]
            await asyncio.wait(ends)
            self._open.discard(target_writer)
            target_writer.close()
        except OSError:
            return
        finally:
            self._open.discard(writer)
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if os.path.isabs(self._target):  # noqa: PTH117 # it is an address, which may be a path
            return await asyncio.open_unix_connection(self._target)
        host, port = self._target.rsplit(":", 1)
        return await asyncio.open_connection(host, int(port))

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while block := await source.read(65536):
                if counted and self.budget is not None:
                    self.budget -= len(block)
                    if self.budget < 0:
                        await self._cut()
                        return
                sink.write(block)
                await sink.drain()
        with contextlib.suppress(OSError, RuntimeError):
            sink.write_eof()


@contextlib.contextmanager
def faulty_proxy(target: str, **options: Any) -> Iterator[FaultyProxy]:
    """Run a proxy while the block runs."""
    proxy = FaultyProxy(target, **options)
    try:
        yield proxy
    finally:
        proxy.close()
