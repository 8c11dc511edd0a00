"""The predictor's paths over HTTP: predictions, health, readiness, metadata and metrics, as KServe has them.

KServe's own handling of a prediction (FastAPI's routing, nested lists, an InferRequest) takes several times as long as
the model; see docs/performance.md.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any, cast

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

from digits.serving.decode import BadRequest
from digits.serving.listener import JSON, Listener, RejectedRequest, Request, Response
from digits.serving.rest import PROTOCOLS
from digits.serving.slot import LoadedModel, ModelSlot

MAX_BODY = 16 * 1024 * 1024  # bytes per request
MAX_WAITING = 256  # requests that are being read or answered
# Bytes of all bodies that are being read or answered. A container has a few hundred MiB, and a few large concurrent
# requests must not exhaust them.
MAX_HELD = 32 * 1024 * 1024
# Bytes per request. Larger ones are answered in a thread, so that health probes are answered meanwhile.
SMALL_BODY = 32 * 1024
# Larger ones have one thread of their own, because decoding takes up to 150 MB. More threads would hardly be faster:
# only the model's arithmetic releases Python's lock.
MEDIUM_BODY = 512 * 1024
MEDIUM, LARGE = (futures.ThreadPoolExecutor(1, f"prediction-{size}") for size in ("medium", "large"))

REQUESTS = Counter("digits_requests_total", "Prediction requests", ["protocol", "status"])
SECONDS = Histogram(
    "digits_request_seconds",
    "Seconds from a request's first byte to its response",
    ["protocol"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
IMAGES = Counter("digits_images_total", "Images predicted")
WAITING = Gauge("digits_requests_waiting", "Requests that are being read or answered")


async def offload_if_large(size: int, function: Callable[..., Any], *args: Any) -> Any:
    """Return `function(*args)`, computed in a thread if the request has more than SMALL_BODY bytes."""
    if size <= SMALL_BODY:
        return function(*args)
    thread = MEDIUM if size <= MEDIUM_BODY else LARGE
    return await asyncio.get_running_loop().run_in_executor(thread, function, *args)


class PredictApp:
    """The requests of one model. `server` is the metadata of the server: name, version, extensions."""

    def __init__(self, slot: ModelSlot, name: str, server: Mapping[str, Any]) -> None:
        self._slot, self._name = slot, name
        self.listener = Listener(self._handle, max_held=MAX_HELD, max_waiting=MAX_WAITING)
        self._protocols = {protocol.path.format(name=name): key for key, protocol in PROTOCOLS.items()}
        self._versioned = re.compile(rf"(/v[12]/models/{re.escape(name)})/versions/([^/:]+)(.*)")
        self._pages: dict[str, Callable[[], Any]] = {
            "/": lambda: {"status": "alive"},
            "/v1/models": lambda: {"models": [name]},
            f"/v1/models/{name}": self._ready,
            "/v2": lambda: server,
            "/v2/models": lambda: {"models": [name]},
            "/v2/health/live": lambda: {"live": True},
            "/v2/health/ready": lambda: {"ready": True},
            f"/v2/models/{name}": lambda: {"name": name, **slot.metadata()},
            f"/v2/models/{name}/ready": self._ready,
        }
        self._counts: dict[tuple[str, int], Any] = {}
        self._seconds = {protocol: SECONDS.labels(protocol) for protocol in PROTOCOLS}
        WAITING.set_function(lambda: self.listener.waiting)

    async def _handle(self, request: Request) -> Response:
        method, path, version = request.scope.method, request.scope.path, ""
        if path not in self._protocols and (match := self._versioned.fullmatch(path)):
            version = match[2]
            path = match[1] + match[3]
        if protocol := self._protocols.get(path):
            _check_method(method, "POST")
            return await self._predict(protocol, request, version)
        if path.startswith("/v2/repository") and path != "/v2/repository/index":
            # The ledger decides which model is loaded, not the clients that can reach the port.
            raise RejectedRequest(403, "models are replaced by promotion, not over this interface")
        if path == "/v2/repository/index":
            _check_method(method, "POST", "GET", "HEAD")
            return Response(200, [JSON], orjson.dumps(self._index()))
        if path == "/metrics":
            _check_method(method, "GET", "HEAD")
            return Response(200, [("content-type", CONTENT_TYPE_LATEST)], generate_latest())
        if path not in self._pages:
            raise RejectedRequest(404, f"no such path {path[:200]!r}")
        _check_method(method, "GET", "HEAD")
        self._check_version(self._slot.current, version)
        return Response(200, [JSON], orjson.dumps(self._pages[path]()))

    async def _predict(self, protocol: str, request: Request, version: str) -> Response:
        started, status = time.perf_counter(), 500
        try:
            body = await request.body(MAX_BODY)
            answer = await offload_if_large(len(body), self.predict, protocol, request.headers, body, version)
            status = 200
            return cast(Response, answer)
        except RejectedRequest as exc:
            status = exc.status
            raise
        finally:
            self._record(protocol, status, started)

    def predict(self, protocol: str, headers: Mapping[str, str], body: bytes, version: str = "") -> Response:
        """Return the response to a prediction request. Raises RejectedRequest."""
        model = self._slot.current
        if model is None:
            raise self._not_ready()
        self._check_version(model, version)
        error = ""
        try:
            count, fields, content = PROTOCOLS[protocol].answer(model, self._name, headers, body)
        except BadRequest as exc:
            error = str(exc)
        if error:  # not in the `except` block, because BadRequest keeps what was decoded until the response is sent
            raise RejectedRequest(400, error)
        IMAGES.inc(count)
        return Response(200, fields, content)

    def _record(self, protocol: str, status: int, started: float) -> None:
        self._seconds[protocol].observe(time.perf_counter() - started)
        key = (protocol, status)
        if key not in self._counts:
            self._counts[key] = REQUESTS.labels(protocol, str(status))
        self._counts[key].inc()

    def _ready(self) -> dict[str, Any]:
        if self._slot.current is None:
            raise self._not_ready()
        return {"name": self._name, "ready": True}

    def _index(self) -> list[dict[str, str]]:
        current = self._slot.current
        state = {"version": current.version, "state": "READY"} if current else {"state": "UNAVAILABLE"}
        return [{"name": self._name, **state, "reason": self._slot.rejected.get("why", "")}]

    def _not_ready(self) -> RejectedRequest:
        reason = self._slot.rejected.get("why", "no release yet")
        return RejectedRequest(503, f"model {self._name} is not ready: {reason}")

    def _check_version(self, model: LoadedModel | None, version: str) -> None:
        if error := unknown_version(model, version):
            raise RejectedRequest(404, error)


def unknown_version(model: LoadedModel | None, version: str) -> str:
    """Return an error message if a request's version is given and is not the model's, else an empty string.

    Before a model is loaded, any version may be the one that will be served.
    """
    if not version or model is None or version == model.version:
        return ""
    return f"expected version {model.version} or none, got {version[:100]!r}"


def _check_method(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise RejectedRequest(405, f"expected {' or '.join(allowed)}, got {method[:20]}", ("allow", ", ".join(allowed)))
