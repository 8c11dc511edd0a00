"""The page's same-origin gateway: it prepares drawings, requests predictions from endpoints, and stores corrections.

GET  /                          the page
GET  /api/endpoints             the endpoints by name, whether corrections can be stored, and their task
GET  /api/model?endpoint=       the endpoint's state, the model it serves and its task
POST /api/recognise?endpoint=   a drawing or picture (PNG) -> the number or label, its items, and the verdict
POST /api/feedback?label=       a drawing or picture (PNG) and its number or label -> the records' keys
GET  /healthz, /metrics
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import anyio
import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from digits.data import corrections
from digits.data.number import Digit
from digits.errors import DataError, DigitsError
from digits.evaluation.verdict import judge
from digits.files import sha256_of
from digits.serving.listener import JSON, Listener, RejectedRequest, Request, Response, error_response
from digits.store import ObjectStore
from digits.tasks.task import BUILT_IN, Task, find
from web_app import items
from web_app.endpoint_client import EndpointClient, EndpointStateError
from web_app.endpoints import Endpoint
from web_app.guard import RESPONSE_HEADERS, FeedbackLimits, Metrics, identify
from web_app.transport import load_certificates

STATIC = Path(__file__).parent / "static"
CONTENT_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
MAX_HELD = 32 * 1024 * 1024  # bytes of all bodies that are being read or answered; a container has little memory
MAX_CONCURRENT = 2  # drawings that are being processed, and as many corrections that are being stored
STORE_SECONDS = 10.0  # for storing a correction; less than the page waits
STATUS = {"starting": 503, "busy": 503, "unreachable": 502, "wrong model": 502}

Handler = Callable[[Request, Mapping[str, str]], Awaitable[Response]]  # gets the request and its query


@dataclass(frozen=True)
class GatewayConfig:
    """The configuration of a gateway.

    Attributes:
        endpoints: the first is the default.
        task: what the store's corrections are of, and what an endpoint recognises that does not state its task.
        store: the store for corrections; None: the page does not offer them.
        token: bearer token for the endpoints; empty for none.
        trusted_keys: as DIGITS_TRUSTED_KEYS; an endpoint must serve a release that one of them signed.
        max_body: bytes per request body.
        feedback_per_minute: corrections per caller and minute.
    """

    endpoints: tuple[Endpoint, ...]
    store: ObjectStore | None = None
    token: str = field(default="", repr=False)
    trusted_keys: str = ""
    max_body: int = 1 << 20
    feedback_per_minute: int = 30
    task: Task = field(default_factory=lambda: find(BUILT_IN))


def create_listener(config: GatewayConfig) -> Listener:
    """Return the server of a gateway."""
    return Listener(_Gateway(config).handle, max_held=MAX_HELD, headers=RESPONSE_HEADERS)


class _Gateway:
    """The request handlers and their shared state."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config, self.metrics = config, Metrics()
        create = functools.partial(EndpointClient, certificates=load_certificates(), default=config.task)
        self.clients = {each.name: create(each, config.token, config.trusted_keys) for each in config.endpoints}
        self.limits = FeedbackLimits(config.feedback_per_minute)
        self.decoding = anyio.CapacityLimiter(MAX_CONCURRENT)
        self.storing = asyncio.Semaphore(MAX_CONCURRENT)
        self.routes: dict[str, tuple[str, Handler]] = {
            "/api/endpoints": ("GET", self.endpoints),
            "/api/model": ("GET", self.model),
            "/api/recognise": ("POST", self.recognise),
            "/api/feedback": ("POST", self.feedback),
            "/healthz": ("GET", self.alive),
            "/metrics": ("GET", self.counters),
        }
        self.files = {f"/{path.name}": functools.partial(_file, *_load(path)) for path in STATIC.iterdir()}
        self.files["/"] = self.files["/index.html"]

    async def handle(self, request: Request) -> Response:
        """Answer a request, and count the answer by its route, because the paths of requests are unlimited."""
        path, status = request.scope.path, 500
        try:
            response = await self._answer(request, path)
            status = response.status
        except RejectedRequest as exc:
            status = exc.status
            raise
        finally:
            route = path if path in self.routes else "static" if path in self.files else "none"
            self.metrics.requests.labels(route, str(status)).inc()
        return response

    async def _answer(self, request: Request, path: str) -> Response:
        if path not in self.routes and path not in self.files:
            raise RejectedRequest(404, "no such path")
        method, handler = self.routes.get(path) or ("GET", self.files[path])
        allowed = {"GET": ["GET", "HEAD"]}.get(method, [method])
        if request.scope.method not in allowed:
            message = f"expected {method}, got {request.scope.method[:20]}"
            raise RejectedRequest(405, message, ("allow", ", ".join(allowed)))
        query = parse_qsl(request.scope.query_string, keep_blank_values=True)
        if path in self.routes and len(dict(query)) < len(query):
            raise RejectedRequest(400, "expected each name of the query once, because it is not clear which one counts")
        try:
            return await handler(request, dict(query))
        except EndpointStateError as exc:
            return _json({"error": exc.message, "state": exc.state}, STATUS[exc.state])
        except DataError as exc:  # a drawing that cannot be read
            return error_response(400, exc.message)
        except DigitsError as exc:  # a store that refuses or does not answer; visitors need not know its address
            request.log_failure(exc)
            message = "this server cannot do that now, and its log says why; repeat it later"
            return error_response(503, message, ("retry-after", "10"))

    async def endpoints(self, _: Request, __: Mapping[str, str]) -> Response:
        """Return the endpoints' names, but not their addresses and Host headers, which are internal."""
        task = items.describe_task(self.config.task)
        return _json({"endpoints": list(self.clients), "feedback": self.config.store is not None, "task": task})

    async def model(self, _: Request, query: Mapping[str, str]) -> Response:
        """Return the state of an endpoint, with status 200 in every state."""
        client = self._client(query)
        try:
            model, task = await client.model()
        except EndpointStateError as exc:
            return _json({"state": exc.state, "message": exc.message})
        feedback = self.config.store is not None and task.name == self.config.task.name
        return _json({"state": "ready", "model": model, "task": items.describe_task(task), "feedback": feedback})

    async def recognise(self, request: Request, query: Mapping[str, str]) -> Response:
        """Recognise what a drawing or picture shows, as the endpoint's task declares.

        "class", "probabilities" and "picture" are those of a single item; "digits" has those of each one.
        """
        client = self._client(query)
        started = time.perf_counter()
        png, asked = await self._png(request), time.perf_counter()
        task = await client.task()
        waited = time.perf_counter() - asked
        digits, png = await self._read(task, png), b""  # not kept while the endpoint is waited for
        digits, shares, model = await items.recognise(client, task, digits, waited)
        threshold = model["sure_from"] if model else None
        verdict = judge(shares, [digit.doubtful for digit in digits], threshold, task)
        described = [items.describe(task, *pair, threshold) for pair in zip(digits, shares, strict=True)]
        single = described[0] if len(described) == 1 else {"class": None, "probabilities": None, "picture": ""}
        seconds = time.perf_counter() - started
        self.metrics.seconds.labels(client.endpoint.name).observe(seconds)
        return _json(
            {
                **{key: single[key] for key in ("class", "probabilities", "picture")},
                "number": "".join(each["label"] for each in described),
                "digits": described,
                "verdict": {"state": verdict.state, "text": verdict.text},
                "milliseconds": round(seconds * 1000, 2),
                "model": model,
            }
        )

    async def feedback(self, request: Request, query: Mapping[str, str]) -> Response:
        """Store a correction of each item. Their images are computed here, so that they belong to the drawing."""
        store, task, client = self.config.store, self.config.task, self._client(query)
        if store is None:
            raise RejectedRequest(404, "this gateway has no store for corrections: start it with DIGITS_STORE set")
        labels, release = items.read_classes(task, query, "label"), query.get("release", "")[: corrections.MAX_RELEASE]
        answer = query.get("answer", "")  # of an earlier release, whose labels may have been others
        answers = (
            items.read_classes(task, query, "answer") if answer in task.labels or (task.is_number and answer) else None
        )
        if not release.isprintable():
            raise RejectedRequest(400, "expected a printable release")
        if limit := self.limits.exceeded(identify(request.scope.client), len(labels)):
            raise RejectedRequest(429, f"expected at most {limit}")
        png, served = await self._png(request), client.known
        with contextlib.suppress(EndpointStateError):  # a correction does not need the endpoint
            served = served or await client.task()
        if served and served.name != task.name:
            raise RejectedRequest(
                409, f"expected the endpoint of the task {task.name}, which is corrected here, got {served.name}"
            )
        digits = await self._read(task, png)
        if (divided := any(digit.ways for digit in digits)) and len(digits) != len(labels):
            digits, *_ = await items.recognise(client, served or task, digits)
        elif divided and len(answers or digits) != len(digits):
            answers = None  # they are those to the pieces of what is one digit
        for name, classes in (("label", labels), ("answer", answers)):
            if classes is not None and len(classes) != max(1, len(digits)):
                raise RejectedRequest(400, f"expected {name} with {max(1, len(digits))} digits, got {query[name]}")
        record = functools.partial(items.record, store, task, digits, labels, answers or [None] * len(digits), release)
        try:
            async with asyncio.timeout(STORE_SECONDS):
                keys = await self._store(record)
        except TimeoutError:
            raise RejectedRequest(
                503,
                f"the store did not answer within {STORE_SECONDS:g} s; the correction may be stored nevertheless. "
                "Repeat it later: it counts once",
                ("retry-after", "10"),
            ) from None
        for label in labels:
            self.metrics.feedback.labels(task.labels[label]).inc()
        right = labels[0] if task.is_number and len(labels) == 1 else query["label"]
        return _json({"key": keys[0], "keys": keys, "label": right})

    async def _store(self, record: Callable[[], list[str]]) -> list[str]:
        """Store a correction in a thread of its own. Neither a request that times out nor the program waits for it.

        If the store hangs, the thread lasts until the store's own timeouts, which may take minutes.
        """
        await self.storing.acquire()
        loop, stored = asyncio.get_running_loop(), Future[list[str]]()
        stored.set_running_or_notify_cancel()

        def run() -> None:
            try:
                stored.set_result(record())
            except Exception as exc:  # noqa: BLE001 # raised by the request
                stored.set_exception(exc)
            with contextlib.suppress(RuntimeError):  # the server has stopped
                loop.call_soon_threadsafe(self.storing.release)

        threading.Thread(target=run, daemon=True).start()
        return await asyncio.wrap_future(stored)

    async def alive(self, _: Request, __: Mapping[str, str]) -> Response:
        """Report that the process is alive."""
        return Response(200, [("content-type", "text/plain; charset=utf-8")], b"ok\n")

    async def counters(self, _: Request, __: Mapping[str, str]) -> Response:
        """Return the counters in Prometheus' format."""
        return Response(200, [("content-type", CONTENT_TYPE_LATEST)], generate_latest(self.metrics.registry))

    async def _png(self, request: Request) -> bytes:
        """Return the drawing or picture in a request's body.

        The content type must be image/png, which pages of other sites cannot send without a CORS preflight.
        """
        kinds = request.headers.get_all("content-type") if "content-type" in request.headers else []
        if [kind.partition(";")[0].strip().lower() for kind in kinds] != ["image/png"]:
            raise RejectedRequest(415, "expected a drawing as image/png")
        return await request.body(self.config.max_body)

    async def _read(self, task: Task, png: bytes) -> list[Digit]:
        return await anyio.to_thread.run_sync(items.read, task, png, limiter=self.decoding)

    def _client(self, query: Mapping[str, str]) -> EndpointClient:
        name = query.get("endpoint") or next(iter(self.clients))
        if name not in self.clients:
            raise RejectedRequest(404, f"expected an endpoint of {', '.join(self.clients)}")
        return self.clients[name]


def _load(path: Path) -> tuple[list[tuple[str, str]], bytes]:
    """Return the headers and the content of a file of the page."""
    content, kind = path.read_bytes(), CONTENT_TYPES[path.suffix]
    return [
        ("content-type", f"{kind}; charset=utf-8"),
        ("etag", f'"{sha256_of(content)[:16]}"'),
        ("cache-control", "no-cache"),
    ], content


async def _file(headers: list[tuple[str, str]], content: bytes, request: Request, _: Mapping[str, str]) -> Response:
    etag = dict(headers)["etag"]
    if "if-match" in request.headers and not _names(request, "if-match", {"*", etag}):
        raise RejectedRequest(412, f"expected the file {etag}")
    known = _names(request, "if-none-match", {"*", etag, f"W/{etag}"})
    return Response(304, headers) if known else Response(200, headers, content)


def _names(request: Request, field: str, tags: set[str]) -> bool:
    """Return whether a precondition (RFC 9110 13.1), which may have several lines, names one of `tags`."""
    return not tags.isdisjoint(tag.strip() for line in request.headers.get_all(field) for tag in line.split(","))


def _json(content: Any, status: int = 200) -> Response:
    return Response(status, [JSON], orjson.dumps(content))
