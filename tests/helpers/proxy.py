"""A proxy between the program and a server (TCP or a unix socket) that drops, delays, swallows and cuts connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Proxy:
    """Passes connections on to `target` (host:port, or a unix socket's path) with the faults that a test sets.

    Attributes:
        delay: seconds before a connection is passed on.
        drop: the share of connections, one in `drop`, that are reset at once; 0 for none.
        swallow: take what is sent and answer nothing.
        budget: bytes from the clients that still pass before everything is cut; None for no end.
        seen: connections so far.
    """

    def __init__(self, target: str, *, listen: Path | None = None) -> None:
        self.delay, self.drop, self.swallow, self.seen = 0.0, 0, False, 0
        self.budget: int | None = None
        self._target, self._path, self._port = target, listen, 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.mend()

    @property
    def address(self) -> str:
        """Where it listens: host:port, or the unix socket's path."""
        return str(self._path or f"127.0.0.1:{self._port}")

    def mend(self) -> None:
        """Pass everything on from now on, at the same address."""
        self.delay, self.drop, self.swallow, self.budget = 0.0, 0, False, None
        self._do(self._listen())

    def cut(self) -> None:
        """End all connections and let nobody in."""
        self._do(self._cut())

    def close(self) -> None:
        """End for good."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _do(self, what: Any) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is not None:
            return
        if self._path:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._pass, self._path)
        else:
            self._server = await asyncio.start_server(self._pass, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()  # a reset, not a polite end

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen += 1
        self._open.add(writer)
        try:
            if self.drop and self.seen % self.drop == 0:
                writer.transport.abort()
                return
            await asyncio.sleep(self.delay)
            if self.swallow:
                while await reader.read(65536):
                    continue
                return
            far_reader, far = await self._connect()
            self._open.add(far)
            ends = [asyncio.ensure_future(self._copy(reader, far, counted=True))]
            ends += [asyncio.ensure_future(self._copy(far_reader, writer, counted=False))]
            await asyncio.wait(ends)
            self._open.discard(far)
            far.close()
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
def proxy(target: str, **options: Any) -> Iterator[Proxy]:
    """A proxy that ends with the block."""
    made = Proxy(target, **options)
    try:
        yield made
    finally:
        made.close()
