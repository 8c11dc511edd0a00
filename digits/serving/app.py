"""The ASGI application in front of KServe's: it answers predictions and metadata itself and guards the rest.

KServe's own way to a prediction (timing middleware, FastAPI's routing, nested lists, an InferRequest) costs several
times the model's; see docs/performance.md. Health, readiness, metrics and server metadata remain KServe's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent import futures
from typing import Any

import orjson
from prometheus_client import Counter, Gauge, Histogram

from digits.serving.decode import BadRequest
from digits.serving.rest import JSON, PROTOCOLS, Headers
from digits.serving.slot import Served
from digits.signature import ENDPOINT_INPUTS, ENDPOINT_OUTPUTS

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answer = tuple[int, Headers, bytes]

log = logging.getLogger("digits.predictor")
MAX_BODY = 16 * 1024 * 1024
MAX_WAITING = 256
# Of all bodies that are being read or answered. A container has a few hundred MiB, and must not be ended for a few
# large requests at once.
MAX_HELD = 48 * 1024 * 1024
# Larger ones are answered in a thread, so that health probes are answered meanwhile.
SMALL_BODY = 32 * 1024
# Decoding takes some ten times a body's size, and the memory does not grow with the node's cores. More threads would do
# little more: only the model's arithmetic leaves Python's lock.
THREADS = futures.ThreadPoolExecutor(2, "prediction")

REQUESTS = Counter("digits_requests_total", "Predictions asked for", ["protocol", "status"])
SECONDS = Histogram(
    "digits_request_seconds",
    "Seconds from a request's first byte to its answer",
    ["protocol"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
IMAGES = Counter("digits_images_total", "Images predicted")
WAITING = Gauge("digits_requests_waiting", "Requests that are being read or answered")


class Rejected(Exception):
    """A request that is answered with an HTTP error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def computed(size: int, compute: Callable[..., Any], *args: Any) -> Any:
    """`compute(*args)` of a request of `size` bytes: a small one at once, a large one in a thread, lest others wait."""
    if size <= SMALL_BODY:
        return compute(*args)
    return await asyncio.get_running_loop().run_in_executor(THREADS, compute, *args)


class Front:
    """ASGI application for one model; health, readiness, lists and metrics are left to `inner`."""

    def __init__(self, served: Served, name: str, inner: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._served, self._name, self._inner = served, name, inner
        self._waiting, self._held = 0, 0
        self.answered_this_turn = 0  # requests that connections have answered in this turn of the event loop
        self._metadata_path = f"/v2/models/{name}"
        # Its other paths are of other models or exchange them, and it logs a traceback for each that it does not know.
        self._inner_paths = {"/", "/metrics", "/v1/models", f"/v1/models/{name}", "/v2", "/v2/models"}
        self._inner_paths |= {"/v2/health/live", "/v2/health/ready", f"/v2/models/{name}/ready"}
        self.protocols = {protocol.path.format(name=name): key for key, protocol in PROTOCOLS.items()}
        self._counts: dict[tuple[str, int], Any] = {}
        self._seconds = {protocol: SECONDS.labels(protocol) for protocol in PROTOCOLS}
        WAITING.set_function(lambda: self._waiting)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        path = scope["path"]
        if (protocol := self.protocols.get(path)) and scope["method"] == "POST":
            await self._predict(protocol, scope, receive, send)
        elif path == self._metadata_path and scope["method"] == "GET":
            await _send(send, 200, [JSON], orjson.dumps(self._metadata()))
        elif path.startswith("/v2/repository"):
            # Loading and unloading is the ledger's business, not that of whoever reaches the port.
            await _send(send, *refusal(403, "models are exchanged by promotion, not over this interface"))
        elif scope["method"] in {"GET", "HEAD"} and path in self._inner_paths:
            await self._inner(scope, receive, send)
        else:
            await _send(send, *refusal(404, f"no such path {path[:200]!r} for {scope['method']}"))

    async def _predict(self, protocol: str, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        answer = await self._answered(protocol, scope, receive)  # which keeps nothing of the body
        await _send(send, *answer)
        self.count(protocol, answer[0], started)

    async def _answered(self, protocol: str, scope: Scope, receive: Receive) -> Answer:
        parts: list[bytes] = []
        size = 0
        self._waiting += 1
        try:
            if self._waiting > MAX_WAITING:
                raise Rejected(503, "too many requests are waiting")
            await self._read(scope, receive, parts)
            body = b"".join(parts)
            size = len(body)
            parts.clear()
            answer: Answer = await computed(size, self.answer, protocol, scope["headers"], body)
            return answer
        except Rejected as exc:
            return refusal(exc.status, str(exc))
        finally:
            self._waiting -= 1
            self._held -= size + sum(map(len, parts))

    async def _read(self, scope: Scope, receive: Receive, parts: list[bytes]) -> None:
        """Read the whole body into `parts`, within MAX_BODY bytes; the connection sees to it that it ends in time."""
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value) > MAX_BODY):
                raise Rejected(413, f"expected a body of at most {MAX_BODY} bytes")
            if name == b"content-encoding" and value.lower() != b"identity":
                raise Rejected(415, "expected a body that is not compressed")
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Rejected(400, "the client went away, or was too slow")
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
            size += len(parts[-1])
            self._held += len(parts[-1])
            if size > MAX_BODY:
                raise Rejected(413, f"expected a body of at most {MAX_BODY} bytes")
            if self._held > MAX_HELD:
                raise Rejected(503, "too many bytes are waiting")

    def answer(self, protocol: str, headers: Headers, body: bytes) -> Answer:
        """(status, headers, body) of the answer to a prediction."""
        loaded = self._served.current
        if loaded is None:
            why = self._served.refused.get("why", "no release yet")
            return refusal(503, f"model {self._name} is not ready: {why}")
        try:
            count, fields, content = PROTOCOLS[protocol].answer(loaded, self._name, headers, body)
        except BadRequest as exc:
            return refusal(400, str(exc))
        except Exception:
            log.exception("a prediction failed")
            return refusal(500, "the prediction failed; the predictor's log says why")
        IMAGES.inc(count)
        return 200, fields, content

    def count(self, protocol: str, status: int, started: float) -> None:
        """Note for the metrics a request that began at `started` and has been answered."""
        self._seconds[protocol].observe(time.perf_counter() - started)
        key = (protocol, status)
        if key not in self._counts:
            self._counts[key] = REQUESTS.labels(protocol, str(status))
        self._counts[key].inc()

    def _metadata(self) -> dict[str, Any]:
        current = self._served.current
        return {
            "name": self._name,
            "versions": [current.version] if current else [],
            "platform": "onnx",
            "inputs": ENDPOINT_INPUTS,
            "outputs": ENDPOINT_OUTPUTS,
            "parameters": self._served.about(),
        }


def refusal(status: int, message: str) -> Answer:
    """(status, headers, body) of an answer that is an error."""
    also = {413: [(b"connection", b"close")], 503: [(b"retry-after", b"1")]}
    return status, [JSON, *also.get(status, [])], orjson.dumps({"error": message})


async def _send(send: Send, status: int, headers: Headers, content: bytes) -> None:
    fields = [*headers, (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": content})
