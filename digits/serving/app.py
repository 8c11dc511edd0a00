"""The ASGI application in front of KServe's. It answers predictions and model metadata, and restricts the other paths.

KServe's own handling of a prediction (timing middleware, FastAPI's routing, nested lists, an InferRequest) takes
several times as long as the model; see docs/performance.md. KServe still answers health, readiness, metrics and server
metadata.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent import futures
from typing import Any, cast

import orjson
from prometheus_client import Counter, Gauge, Histogram

from digits.serving.decode import BadRequest
from digits.serving.rest import JSON, PROTOCOLS, Headers
from digits.serving.slot import ModelSlot
from digits.signature import ENDPOINT_INPUTS, ENDPOINT_OUTPUTS

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Response = tuple[int, Headers, bytes]

log = logging.getLogger("digits.predictor")
MAX_BODY = 16 * 1024 * 1024  # bytes per request
MAX_WAITING = 256  # requests that are being read or answered
# Bytes of all bodies that are being read or answered. A container has a few hundred MiB, and a few large concurrent
# requests must not exhaust them.
MAX_HELD = 48 * 1024 * 1024
# Bytes per request. Larger ones are answered in a thread, so that health probes are answered meanwhile.
SMALL_BODY = 32 * 1024
# Two, because decoding takes about ten times the memory of a body, and more threads would hardly be faster: only the
# model's arithmetic releases Python's lock.
THREADS = futures.ThreadPoolExecutor(2, "prediction")

REQUESTS = Counter("digits_requests_total", "Prediction requests", ["protocol", "status"])
SECONDS = Histogram(
    "digits_request_seconds",
    "Seconds from a request's first byte to its response",
    ["protocol"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
IMAGES = Counter("digits_images_total", "Images predicted")
WAITING = Gauge("digits_requests_waiting", "Requests that are being read or answered")


class RejectedRequest(Exception):
    """A request that gets an HTTP error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def offload_if_large(size: int, function: Callable[..., Any], *args: Any) -> Any:
    """Return `function(*args)`, computed in a thread if the request has more than SMALL_BODY bytes."""
    if size <= SMALL_BODY:
        return function(*args)
    return await asyncio.get_running_loop().run_in_executor(THREADS, function, *args)


class PredictApp:
    """The ASGI application for one model. `inner` is KServe's application."""

    def __init__(self, slot: ModelSlot, name: str, inner: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._slot, self._name, self._inner = slot, name, inner
        self._waiting, self._held = 0, 0
        self.answered_this_turn = 0  # requests answered by `InlinePredictProtocol` in this turn of the event loop
        self._metadata_path = f"/v2/models/{name}"
        # KServe's other paths serve other models or load and unload them, and it logs a traceback for unknown paths.
        self._inner_paths = {"/", "/metrics", "/v1/models", f"/v1/models/{name}", "/v2", "/v2/models"}
        self._inner_paths |= {"/v2/health/live", "/v2/health/ready", f"/v2/models/{name}/ready"}
        self.protocols = {protocol.path.format(name=name): key for key, protocol in PROTOCOLS.items()}
        self._counts: dict[tuple[str, int], Any] = {}
        self._seconds = {protocol: SECONDS.labels(protocol) for protocol in PROTOCOLS}
        WAITING.set_function(lambda: self._waiting)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        path = scope["path"]
        if (protocol := self.protocols.get(path)) and scope["method"] == "POST":
            await self._answer(protocol, scope, receive, send)
        elif path == self._metadata_path and scope["method"] == "GET":
            await _send(send, 200, [JSON], orjson.dumps(self._metadata()))
        elif path.startswith("/v2/repository"):
            # The ledger decides which model is loaded, not the clients that can reach the port.
            await _send(send, *error_response(403, "models are replaced by promotion, not over this interface"))
        elif scope["method"] in {"GET", "HEAD"} and path in self._inner_paths:
            await self._inner(scope, receive, send)
        else:
            await _send(send, *error_response(404, f"no such path {path[:200]!r} for {scope['method']}"))

    async def _answer(self, protocol: str, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        # A separate function, so that the body is freed before a slow client reads the response.
        response = await self._read_and_predict(protocol, scope, receive)
        await _send(send, *response)
        self.record(protocol, response[0], started)

    async def _read_and_predict(self, protocol: str, scope: Scope, receive: Receive) -> Response:
        parts: list[bytes] = []
        size = 0
        self._waiting += 1
        try:
            if self._waiting > MAX_WAITING:
                raise RejectedRequest(503, "too many requests are waiting")
            await self._read(scope, receive, parts)
            body = b"".join(parts)
            size = len(body)
            parts.clear()
            return cast(Response, await offload_if_large(size, self.predict, protocol, scope["headers"], body))
        except RejectedRequest as exc:
            return error_response(exc.status, str(exc))
        finally:
            self._waiting -= 1
            self._held -= size + sum(map(len, parts))

    async def _read(self, scope: Scope, receive: Receive, parts: list[bytes]) -> None:
        """Read the body into `parts`, at most MAX_BODY bytes; `limits` ends connections that take too long."""
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value) > MAX_BODY):
                raise RejectedRequest(413, f"expected a body of at most {MAX_BODY} bytes")
            if name == b"content-encoding" and value.lower() != b"identity":
                raise RejectedRequest(415, "expected a body that is not compressed")
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RejectedRequest(400, "the client went away, or was too slow")
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
            size += len(parts[-1])
            self._held += len(parts[-1])
            if size > MAX_BODY:
                raise RejectedRequest(413, f"expected a body of at most {MAX_BODY} bytes")
            if self._held > MAX_HELD:
                raise RejectedRequest(503, "too many bytes are waiting")

    def predict(self, protocol: str, headers: Headers, body: bytes) -> Response:
        """Return the response (status, headers, body) to a prediction request."""
        model = self._slot.current
        if model is None:
            reason = self._slot.rejected.get("why", "no release yet")
            return error_response(503, f"model {self._name} is not ready: {reason}")
        try:
            count, fields, content = PROTOCOLS[protocol].answer(model, self._name, headers, body)
        except BadRequest as exc:
            return error_response(400, str(exc))
        except Exception:
            log.exception("a prediction failed")
            return error_response(500, "the prediction failed; the predictor's log says why")
        IMAGES.inc(count)
        return 200, fields, content

    def record(self, protocol: str, status: int, started: float) -> None:
        """Count an answered request in the metrics. `started` is the time.perf_counter() of its first byte."""
        self._seconds[protocol].observe(time.perf_counter() - started)
        key = (protocol, status)
        if key not in self._counts:
            self._counts[key] = REQUESTS.labels(protocol, str(status))
        self._counts[key].inc()

    def _metadata(self) -> dict[str, Any]:
        current = self._slot.current
        return {
            "name": self._name,
            "versions": [current.version] if current else [],
            "platform": "onnx",
            "inputs": ENDPOINT_INPUTS,
            "outputs": ENDPOINT_OUTPUTS,
            "parameters": self._slot.about(),
        }


def error_response(status: int, message: str) -> Response:
    """Return a response (status, headers, body) with `message` as JSON."""
    headers = {413: [(b"connection", b"close")], 503: [(b"retry-after", b"1")]}
    return status, [JSON, *headers.get(status, [])], orjson.dumps({"error": message})


async def _send(send: Send, status: int, headers: Headers, content: bytes) -> None:
    fields = [*headers, (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": content})
