"""The page's same-origin gateway: prepares drawings, asks the configured endpoints, stores corrections.

GET  /                          the page
GET  /api/endpoints             the endpoints by name, and whether corrections can be stored
GET  /api/model?endpoint=       the endpoint's state and the model it serves
POST /api/recognise?endpoint=   a drawing (PNG) -> class, probabilities, verdict, the 28 x 28 picture
POST /api/feedback?label=       a drawing (PNG) and what it is -> the record's key
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
from starlette.concurrency import run_in_threadpool
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
from digits.evaluation.verdict import judge
from digits.store import ObjectStore
from web_app.endpoints import Endpoint, EndpointClient, EndpointTrouble, http_client
from web_app.guard import Guard, Metrics, RateLimit

STATIC = Path(__file__).parent / "static"
# A drawing of so many pixels takes 40 MB to look at, and a container has a few hundred: the page's have 78,400.
MOST_PIXELS = 1_000_000
MOST_AT_ONCE = 4
MOST_STORED = 64 * 1024  # bytes of a drawing that is kept with its correction
STORE_SECONDS = 10.0  # that a correction may take to be stored: less than the page waits
STATUS = {"starting": 503, "busy": 503, "unreachable": 502, "wrong model": 502}


@dataclass(frozen=True)
class GatewayConfig:
    """What one gateway serves.

    Attributes:
        endpoints: the endpoints that may be asked; the first is the default.
        store: where corrections go; None: they cannot be stored, and the page does not offer it.
        token: bearer token towards the endpoints.
        most_bytes: of a request's body.
        feedback_per_minute: corrections that one caller may store.
    """

    endpoints: tuple[Endpoint, ...]
    store: ObjectStore | None = None
    token: str = field(default="", repr=False)
    most_bytes: int = 1 << 20
    feedback_per_minute: int = 30


def create_app(config: GatewayConfig) -> Starlette:
    """The gateway as an ASGI application."""
    metrics = Metrics()
    gateway = _Gateway(config, metrics)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with http_client() as http:
            gateway.clients = {e.name: EndpointClient(e, http, config.token) for e in config.endpoints}
            yield

    return Starlette(
        routes=[
            Route("/api/endpoints", gateway.endpoints),
            Route("/api/model", gateway.model),
            Route("/api/recognise", gateway.recognise, methods=["POST"]),
            Route("/api/feedback", gateway.feedback, methods=["POST"]),
            Route("/healthz", _alive),
            Route("/metrics", gateway.measurements),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ],
        middleware=[Middleware(Guard, most_bytes=config.most_bytes, metrics=metrics)],
        exception_handlers={
            HTTPException: _refused,
            ClientDisconnect: _gone,
            EndpointTrouble: _no_answer,
            DigitsError: _failed,
        },
        lifespan=lifespan,
    )


class _Gateway:
    """The handlers, and what they share."""

    def __init__(self, config: GatewayConfig, metrics: Metrics) -> None:
        self.config, self.metrics = config, metrics
        self.clients: dict[str, EndpointClient] = {}
        self.rate = RateLimit(config.feedback_per_minute)
        self.at_once = anyio.CapacityLimiter(MOST_AT_ONCE)
        self.storing = anyio.CapacityLimiter(MOST_AT_ONCE)  # a store that hangs must not hold up recognition

    async def endpoints(self, _: Request) -> Response:
        """The names only: addresses and Host headers are nobody's business."""
        return _json({"endpoints": list(self.clients), "feedback": self.config.store is not None})

    async def model(self, request: Request) -> Response:
        """The state of an endpoint; always 200, for the state is what was asked."""
        client = self._client(request)
        try:
            model = await client.about()
        except EndpointTrouble as trouble:
            return _json({"state": trouble.state, "message": trouble.message})
        return _json({"state": "ready", "model": model})

    async def recognise(self, request: Request) -> Response:
        """Answer a drawing."""
        client = self._client(request)
        started = time.perf_counter()
        ink, _ = await self._drawing(request)
        image = await run_in_threadpool(to_mnist, ink)
        probabilities, model = None, None
        if image.any():
            probabilities, model = await client.recognise(image)
        verdict = await run_in_threadpool(judge, ink, probabilities or [0.1] * 10)
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
        """Store a correction. The picture is made here, from the drawing: the page cannot slip in another."""
        store = self.config.store
        if store is None:
            raise HTTPException(404, "this gateway has no store for corrections: start it with DIGITS_STORE set")
        if not self.rate.allows(request.client.host if request.client else ""):
            raise HTTPException(429, f"expected at most {self.config.feedback_per_minute} corrections a minute")
        label, answer = _digit(request, "label"), _digit(request, "answer", optional=True)
        release = request.query_params.get("release", "")[:100]
        if label is None or not release.isprintable():
            raise HTTPException(400, "expected label=0 to 9 and a printable release")
        ink, png = await self._drawing(request, MOST_STORED)
        image = await run_in_threadpool(to_mnist, ink)
        about = functools.partial(corrections.record, drawing_png=png, release=release, answer=answer)
        store_it = functools.partial(about, store, image, label)
        try:
            with anyio.fail_after(STORE_SECONDS):  # a thread that is left behind ends when the store's own waits do
                key = await anyio.to_thread.run_sync(store_it, abandon_on_cancel=True, limiter=self.storing)
        except TimeoutError:
            raise HTTPException(
                503,
                f"expected the store to answer in {STORE_SECONDS:g} s, and it did not; the correction may be stored "
                "all the same. Make it again in a while: it counts once",
                {"Retry-After": "10"},
            ) from None
        self.metrics.feedback.labels(str(label)).inc()
        return _json({"key": key, "label": label})

    async def measurements(self, _: Request) -> Response:
        """The counters in Prometheus' format."""
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _drawing(self, request: Request, most_bytes: int | None = None) -> tuple[Ink, bytes]:
        """The drawing in a request's body, and its ink. Only image/png: another site's page cannot send it unasked."""
        if request.headers.get("content-type") != "image/png":
            raise HTTPException(415, "expected a drawing as image/png")
        png = await request.body()
        if most_bytes is not None and len(png) > most_bytes:
            raise HTTPException(413, f"expected a drawing of at most {most_bytes} bytes")
        look = functools.partial(read_ink, io.BytesIO(png), formats=("PNG",), max_pixels=MOST_PIXELS)
        return await anyio.to_thread.run_sync(look, limiter=self.at_once), png

    def _client(self, request: Request) -> EndpointClient:
        name = request.query_params.get("endpoint") or next(iter(self.clients))
        if name not in self.clients:
            raise HTTPException(404, f"expected an endpoint of {', '.join(self.clients)}")
        return self.clients[name]


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


async def _refused(_: Request, exc: Any) -> Response:
    return _json({"error": exc.detail}, exc.status_code, exc.headers)


async def _gone(_: Request, exc: Any) -> Response:
    """Nobody is there to read this; it is counted."""
    del exc
    return _json({"error": "the client went away, or was too slow"}, 400)


async def _no_answer(_: Request, exc: Any) -> Response:
    return _json({"error": exc.message, "state": exc.state}, STATUS[exc.state])


async def _failed(_: Request, exc: Any) -> Response:
    """A refused drawing is the caller's fault; a store that does not answer is ours."""
    return _json({"error": exc.message}, 400 if isinstance(exc, DataError) else 503)
