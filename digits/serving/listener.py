"""The HTTP server of predictor and gateway: Granian (hyper) in an asyncio loop, with limits on time and memory.

hyper parses HTTP/1.1, ends a connection that sends no request for IDLE_SECONDS, and refuses large headers. This module
adds a deadline and limits for bodies, and a limit of the bytes that are held in memory; see also `connections`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv6Address
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import orjson
from granian._granian import RSGIProtocolClosed, RSGIProtocolError, SocketHolder
from granian.constants import HTTPModes
from granian.http import HTTP1Settings
from granian.server.embed import Server

from digits.serving.connections import MAX_CONNECTIONS, Connections
from digits.serving.failure_log import FailureLog

JSON = ("content-type", "application/json")
MAX_HEADER_BYTES = 64 * 1024  # hyper also limits the number of header fields, to 100
# Longer than an ingress's keep-alive (60 s), so that it never reuses a connection that we are closing.
IDLE_SECONDS = 65
BODY_SECONDS = 15.0  # in which a body must arrive
ONE_PIECE = 64 * 1024  # bytes that are read in one piece
CHECK_SECONDS = 1.0  # between two checks of the bodies that are being read
# Of a rejected request, whose client may not read its response before it has sent the body.
DISCARD_SECONDS = 3.0
MAX_DISCARDED = 32 * 1024 * 1024  # bytes
METHODS = ("allow", "GET, HEAD, POST, OPTIONS")  # of the server as a whole; the 405 of a path names the path's own
# A Host header (RFC 9110 7.2, RFC 3986 3.2.2): an IPv6 address in brackets, a name or an IPv4 address; and a port.
_HOST = re.compile(r"(?:\[([^]]+)]|(?:[\w.~!$&'()*+,;=-]|%[\dA-Fa-f]{2})*)(?::\d*)?", re.ASCII)


class Response(NamedTuple):
    """An HTTP response. Names of headers are in lower case; the length is added."""

    status: int
    headers: list[tuple[str, str]]
    content: bytes = b""


class RejectedRequest(Exception):
    """A request that gets an HTTP error."""

    def __init__(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers


def error_response(status: int, message: str, *headers: tuple[str, str]) -> Response:
    """Return a response with `message` as JSON."""
    usual = {408: ("connection", "close"), 413: ("connection", "close"), 503: ("retry-after", "1")}
    fields = [JSON, *headers, *([usual[status]] if status in usual and not headers else [])]
    return Response(status, fields, orjson.dumps({"error": message}))


class Request:
    """A request. `scope` is RSGI's, with `method`, `path`, `query_string` and `client`; `headers` are its headers."""

    def __init__(self, scope: Any, protocol: Any, listener: Listener) -> None:
        self.scope, self._protocol, self._listener = scope, protocol, listener
        self.headers: Any = scope.headers  # once, because RSGI copies them for each access
        self.held, self.waiting, self.since = 0, 0, 0.0
        self.unread = True  # whether the body has not been read to its end

    def log_failure(self, exc: Exception) -> None:
        """Log why the request failed; see FailureLog."""
        self._listener.failures.write(exc)

    async def body(self, max_bytes: int) -> bytes:
        """Return the body.

        Raises:
            RejectedRequest: it is compressed, has more than `max_bytes`, does not arrive in time, or too many requests
                or bytes are waiting.
        """
        listener, headers = self._listener, self.headers
        if listener.waiting >= listener.max_waiting:
            raise RejectedRequest(503, "too many requests are waiting")
        listener.waiting += 1
        self.waiting = 1
        encodings = headers.get_all("content-encoding") if "content-encoding" in headers else [""]
        # RSGI omits values that are not ASCII.
        if not encodings or not {encoding.lower() for encoding in encodings} <= {"", "identity"}:
            raise RejectedRequest(415, "expected a body that is not compressed")
        chunked = "transfer-encoding" in headers
        if chunked and [coding.lower() for coding in headers.get_all("transfer-encoding")] != ["chunked"]:
            raise RejectedRequest(400, "expected no transfer coding but chunked")
        length = None if chunked else int(headers.get("content-length", 0))
        if length is not None and length > max_bytes:
            raise RejectedRequest(413, f"expected a body of at most {max_bytes} bytes")
        task = cast(asyncio.Task[Any], asyncio.current_task())
        listener.reading[task], self.since = self, time.monotonic()
        try:
            if length is not None and length <= ONE_PIECE:
                self.unread = False
                content: bytes = await self._protocol()
                self.held = len(content)
                listener.held += self.held
                return content
            content = await self._read(max_bytes, length)
            self.unread = False
            return content
        except asyncio.CancelledError:  # by the listener; Granian does not cancel
            self.unread = False
            raise RejectedRequest(408, f"the request did not arrive within {BODY_SECONDS:g} s") from None
        except RSGIProtocolClosed:
            raise RejectedRequest(400, "the client went away") from None
        finally:
            del listener.reading[task]

    async def _read(self, max_bytes: int, length: int | None) -> bytes:
        parts = []
        # Granian ends the loop also after an error in a chunked body; whether the content is whole shows in decoding.
        async for part in self._protocol:
            parts.append(part)
            self.held += len(part)
            self._listener.held += len(part)
            if self.held > max_bytes:
                raise RejectedRequest(413, f"expected a body of at most {max_bytes} bytes")
            # Above the limit, only the body that has the most bytes so far is read further, because several large
            # bodies would otherwise all be rejected; and none while a complete one waits, whose answer frees bytes.
            listener = self._listener
            if listener.held > listener.max_held:
                reading = [request.held for request in listener.reading.values()]
                if self.held < max(reading) or listener.held > sum(reading):
                    raise RejectedRequest(503, "too many bytes are waiting")
            if self.held == length:
                break
        if length is not None and self.held < length:
            raise RejectedRequest(400, "the client went away")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def discard(self) -> None:
        """Read the rest of the body if it is not too large and the client does not wait for permission to send it."""
        headers, protocol, remaining = self.headers, self._protocol, MAX_DISCARDED
        length = MAX_DISCARDED if "transfer-encoding" in headers else int(headers.get("content-length", 0))
        if "expect" in headers or not 0 < length <= MAX_DISCARDED:
            return
        with contextlib.suppress(RSGIProtocolError):  # raised if reading has begun
            aiter(protocol)
        with contextlib.suppress(TimeoutError, RSGIProtocolClosed, RSGIProtocolError, StopAsyncIteration):
            async with asyncio.timeout(DISCARD_SECONDS):
                while remaining > 0 and (part := await anext(protocol)):
                    remaining -= len(part)


class Listener:
    """An HTTP server that answers each request with `handle(request)`.

    Args:
        handle: returns the response; it may raise RejectedRequest. A HEAD request is answered like a GET.
        max_held: bytes of all bodies that are being read or answered.
        max_waiting: requests whose bodies are being read or answered.
        headers: those of every response, also of errors, which do not have them yet.
    """

    def __init__(
        self,
        handle: Callable[[Request], Awaitable[Response]],
        *,
        max_held: int,
        max_waiting: int = MAX_CONNECTIONS,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._handle, self.max_held, self.max_waiting, self._headers = handle, max_held, max_waiting, headers
        self.held, self.waiting = 0, 0
        self.reading: dict[asyncio.Task[Any], Request] = {}  # whose bodies are being read
        self._connections = Connections()
        self.failures = FailureLog("digits.http")

    async def serve(self, sock: socket.socket, stop: Awaitable[object], grace_seconds: float) -> None:
        """Serve on a bound socket, which this method closes, until `stop` is done.

        Requests in flight are then answered, for at most `grace_seconds`.
        """
        port = sock.getsockname()[1]
        sock.listen(MAX_CONNECTIONS)
        server = _Server(self._answer, sock)
        serving = asyncio.create_task(server.serve())
        watching = [asyncio.create_task(self._connections.watch(port)), asyncio.create_task(self._end_slow_bodies())]
        try:
            await asyncio.wait({serving, asyncio.ensure_future(stop)}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.most = 0
            server.stop()  # type: ignore[no-untyped-call]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(serving, grace_seconds)
            for task in watching:
                task.cancel()

    async def _end_slow_bodies(self) -> None:
        """Cancel tasks that have been reading for too long; a timer per request would cost more than the reading."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            latest = time.monotonic() - BODY_SECONDS
            # Without a variable for the request, which would keep its connection open.
            for task in [task for task, request in self.reading.items() if request.since < latest]:
                task.cancel()

    async def _answer(self, scope: Any, protocol: Any) -> None:
        client = scope.client
        self._connections.begin(client)
        request = Request(scope, protocol, self)
        try:
            _check_target(scope, request.headers)
            response = Response(204, [METHODS]) if scope.path == "*" else await self._handle(request)
        except RejectedRequest as exc:
            response = error_response(exc.status, str(exc), *exc.headers)
        except Exception as exc:  # noqa: BLE001 # logged
            request.log_failure(exc)
            response = error_response(500, "the request failed; the server's log says why")
        finally:
            self.held -= request.held
            self.waiting -= request.waiting
            self._connections.end(client)
        if request.unread:
            await request.discard()
        headers = list({**self._headers, **dict(response.headers)}.items()) if self._headers else response.headers
        protocol.response_bytes(response.status, headers, response.content)


def _check_target(scope: Any, headers: Any) -> None:
    """Check a request's target and its Host header by RFC 9112 3.2. Raises RejectedRequest."""
    if scope.method == "CONNECT":
        raise RejectedRequest(405, "expected another method than CONNECT", METHODS)
    if not scope.path.startswith("/") and (scope.method, scope.path) != ("OPTIONS", "*"):
        raise RejectedRequest(400, "expected a path that begins with /")
    hosts = headers.get_all("host")  # without a value that is not ASCII
    if len(hosts) != ("host" in headers or scope.http_version == "1.1"):
        raise RejectedRequest(400, "expected one Host header")
    if hosts and not _is_host(hosts[0]):
        raise RejectedRequest(400, f"expected a host name or address in the Host header, got {hosts[0][:100]!r}")


def _is_host(value: str) -> bool:
    match = _HOST.fullmatch(value)
    if match and match[1]:
        with contextlib.suppress(ValueError):
            return not IPv6Address(match[1]).scope_id
        return False
    return match is not None


class _Server(Server):
    """Granian's server on a given socket, as one thread of this process."""

    def __init__(self, answer: Callable[[Any, Any], Awaitable[None]], sock: socket.socket) -> None:
        super().__init__(
            answer,
            http=HTTPModes.http1,
            websockets=False,
            backpressure=MAX_CONNECTIONS,
            http1_settings=HTTP1Settings(header_read_timeout=IDLE_SECONDS * 1000, max_buffer_size=MAX_HEADER_BYTES),
            log_enabled=False,
            # Without this, Granian would replace the handlers of all loggers.
            log_dictconfig={"incremental": True, "handlers": {}, "loggers": {}},
        )
        self._socket = sock

    def _init_shared_socket(self) -> None:
        # Granian's stubs know neither these arguments nor the type of the attribute.
        self._shd = SocketHolder(self._socket.detach(), False, MAX_CONNECTIONS)  # type: ignore[assignment,call-arg]


async def stop_signal() -> None:
    """Wait for SIGTERM, SIGINT or, unless nohup ignores it, SIGHUP.

    Afterwards they do nothing, because the process is about to end; a second one must not cut requests off.
    """
    received, loop = asyncio.Event(), asyncio.get_running_loop()
    hangup = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    numbers = [signal.SIGTERM, signal.SIGINT, *hangup]
    for number in numbers:
        loop.add_signal_handler(number, received.set)
    await received.wait()
    for number in numbers:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)  # no handler of ours, which Python removes before the process ends
