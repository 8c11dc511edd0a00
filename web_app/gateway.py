"""The page's same-origin gateway: it prepares drawings, requests predictions from endpoints, and stores corrections.

GET  /                          the page
GET  /api/endpoints             the endpoints by name, and whether corrections can be stored
GET  /api/model?endpoint=       the endpoint's state and the model it serves
POST /api/recognise?endpoint=   a drawing (PNG) -> class, probabilities, verdict, the 28 x 28 picture
POST /api/feedback?label=       a drawing (PNG) and its label -> the record's key
GET  /healthz, /metrics
"""

from __future__ import annotations

import base64
import functools
import io
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from digits.data import corrections
from digits.data.pictures import read_ink
from digits.data.preprocessing import Ink, to_mnist
from digits.errors import DataError, DigitsError
from digits.evaluation.verdict import count_digits, judge
from digits.store import ObjectStore
from web_app.endpoint_client import EndpointClient, EndpointStateError
from web_app.endpoints import Endpoint
from web_app.guard import Guard, Metrics, RateLimit

STATIC = Path(__file__).parent / "static"
# Pixels per drawing. Processing this many takes 40 MB, and a container has a few hundred; the page sends 78,400.
MAX_PIXELS = 1_000_000
MAX_CONCURRENT = 4  # drawings that are being processed, and as many corrections that are being stored
MAX_STORED = 64 * 1024  # bytes of a drawing that is stored with its correction
STORE_SECONDS = 10.0  # for storing a correction; less than the page waits
STATUS = {"starting": 503, "busy": 503, "unreachable": 502, "wrong model": 502}


@dataclass(frozen=True)
class GatewayConfig:
    """The configuration of a gateway.

    Attributes:
        endpoints: the first is the default.
        store: the store for corrections; None: the page does not offer them.
        token: bearer token for the endpoints; empty for none.
        max_body: bytes per request body.
        feedback_per_minute: corrections per caller and minute.
    """

    endpoints: tuple[Endpoint, ...]
    store: ObjectStore | None = None
    token: str = field(default="", repr=False)
    max_body: int = 1 << 20
    feedback_per_minute: int = 30


def create_app(config: GatewayConfig) -> Starlette:
    """Return the gateway as an ASGI application."""
    metrics = Metrics()
    gateway = _Gateway(config, metrics)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        gateway.clients = {e.name: EndpointClient(e, config.token) for e in config.endpoints}
        yield
        for client in gateway.clients.values():
            await client.close()

    return Starlette(
        routes=[
            Route("/api/endpoints", gateway.endpoints),
            Route("/api/model", gateway.model),
            Route("/api/recognise", gateway.recognise, methods=["POST"]),
            Route("/api/feedback", gateway.feedback, methods=["POST"]),
            Route("/healthz", _alive),
            Route("/metrics", gateway.counters),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ],
        middleware=[Middleware(Guard, max_body=config.max_body, metrics=metrics)],
        exception_handlers={
            HTTPException: _http_error,
            ClientDisconnect: _client_disconnected,
            EndpointStateError: _endpoint_error,
            DigitsError: _digits_error,
        },
        lifespan=lifespan,
    )


class _Gateway:
    """The request handlers and their shared state."""

    def __init__(self, config: GatewayConfig, metrics: Metrics) -> None:
        self.config, self.metrics = config, metrics
        self.clients: dict[str, EndpointClient] = {}
        self.rate = RateLimit(config.feedback_per_minute)
        self.decoding = anyio.CapacityLimiter(MAX_CONCURRENT)
        # Separate limits, because a store that hangs must not block recognition.
        self.storing = anyio.CapacityLimiter(MAX_CONCURRENT)

    async def endpoints(self, _: Request) -> Response:
        """Return the endpoints' names, but not their addresses and Host headers, which are internal."""
        return _json({"endpoints": list(self.clients), "feedback": self.config.store is not None})

    async def model(self, request: Request) -> Response:
        """Return the state of an endpoint, with status 200 in every state."""
        client = self._client(request)
        try:
            model = await client.model()
        except EndpointStateError as exc:
            return _json({"state": exc.state, "message": exc.message})
        return _json({"state": "ready", "model": model})

    async def recognise(self, request: Request) -> Response:
        """Recognise a drawing."""
        client = self._client(request)
        started = time.perf_counter()
        image, digits, _ = await self._drawing(request)
        probabilities, model = None, None
        if image.any():
            probabilities, model = await client.recognise(image)
        verdict = judge(digits, probabilities or [0.1] * 10)
        seconds = time.perf_counter() - started
        self.metrics.seconds.labels(client.endpoint.name).observe(seconds)
        return _json(
            {
                "class": probabilities.index(max(probabilities)) if probabilities else None,
                "probabilities": probabilities,
                "verdict": {"state": verdict.state, "text": verdict.text},
                "picture": base64.b64encode(image.tobytes()).decode(),
                "milliseconds": round(seconds * 1000, 2),
                "model": model,
            }
        )

    async def feedback(self, request: Request) -> Response:
        """Store a correction. The 28 x 28 image is computed here, so that it always belongs to the drawing."""
        store = self.config.store
        if store is None:
            raise HTTPException(404, "this gateway has no store for corrections: start it with DIGITS_STORE set")
        if not self.rate.allows(request.client.host if request.client else ""):
            raise HTTPException(429, f"expected at most {self.config.feedback_per_minute} corrections a minute")
        label, answer = _digit(request, "label"), _digit(request, "answer", optional=True)
        release = request.query_params.get("release", "")[:100]
        if label is None or not release.isprintable():
            raise HTTPException(400, "expected label=0 to 9 and a printable release")
        image, _, png = await self._drawing(request, MAX_STORED)
        record = functools.partial(
            corrections.record, store, image, label, drawing_png=png, release=release, answer=answer
        )
        try:
            with anyio.fail_after(STORE_SECONDS):  # an abandoned thread ends with the store's own timeouts
                key = await anyio.to_thread.run_sync(record, abandon_on_cancel=True, limiter=self.storing)
        except TimeoutError:
            raise HTTPException(
                503,
                f"the store did not answer within {STORE_SECONDS:g} s; the correction may be stored nevertheless. "
                "Repeat it later: it counts once",
                {"Retry-After": "10"},
            ) from None
        self.metrics.feedback.labels(str(label)).inc()
        return _json({"key": key, "label": label})

    async def counters(self, _: Request) -> Response:
        """Return the counters in Prometheus' format."""
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _drawing(self, request: Request, max_bytes: int | None = None) -> tuple[Ink, int, bytes]:
        """Return the 28 x 28 image of the drawing in a request's body, its number of digits, and its PNG.

        The drawing itself, up to MAX_PIXELS bytes, is not kept while the endpoint or the store is waited for.

        The content type must be image/png, which pages of other sites cannot send without a CORS preflight.
        """
        if request.headers.get("content-type") != "image/png":
            raise HTTPException(415, "expected a drawing as image/png")
        png = await request.body()
        if max_bytes is not None and len(png) > max_bytes:
            raise HTTPException(413, f"expected a drawing of at most {max_bytes} bytes")
        return (*await anyio.to_thread.run_sync(_decode, png, limiter=self.decoding), png)

    def _client(self, request: Request) -> EndpointClient:
        name = request.query_params.get("endpoint") or next(iter(self.clients))
        if name not in self.clients:
            raise HTTPException(404, f"expected an endpoint of {', '.join(self.clients)}")
        return self.clients[name]


def _decode(png: bytes) -> tuple[Ink, int]:
    ink = read_ink(io.BytesIO(png), formats=("PNG",), max_pixels=MAX_PIXELS)
    return to_mnist(ink), count_digits(ink)


def _digit(request: Request, name: str, *, optional: bool = False) -> int | None:
    value = request.query_params.get(name, "")
    if not value and optional:
        return None
    if len(value) != 1 or value not in "0123456789":
        raise HTTPException(400, f"expected {name}=0 to 9, got {value[:20]!r}")
    return int(value)


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


async def _alive(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _http_error(_: Request, exc: Any) -> Response:
    return _json({"error": exc.detail}, exc.status_code, exc.headers)


async def _client_disconnected(_: Request, exc: Any) -> Response:
    """Return a response that only the counters see, because the client has gone."""
    del exc
    return _json({"error": "the client went away, or was too slow"}, 400)


async def _endpoint_error(_: Request, exc: Any) -> Response:
    return _json({"error": exc.message, "state": exc.state}, STATUS[exc.state])


async def _digits_error(_: Request, exc: Any) -> Response:
    """Return 400 for a drawing that cannot be read, and 503 if the store does not answer."""
    return _json({"error": exc.message}, 400 if isinstance(exc, DataError) else 503)
